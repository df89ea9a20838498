//! Counts of a guest's own, beside the host's in `/metrics` of `--admin`.
//!
//! ```
//! use netwasm_guest::metrics::{Counter, Histogram};
//! use netwasm_guest::{Connection, Result};
//!
//! static LINES: Counter = Counter::new("lines", "Lines that clients sent");
//! static LENGTHS: Histogram = Histogram::new(
//!     "line_length_bytes",
//!     "Lengths of these lines",
//!     &[10.0, 100.0, 1000.0],
//! );
//!
//! async fn shout(mut conn: Connection) -> Result<()> {
//!     while let Some(line) = conn.read_line().await? {
//!         LINES.add(1);
//!         LENGTHS.observe(line.len() as f64);
//!         conn.write_all(line.to_uppercase() + "\n").await?;
//!     }
//!     Ok(())
//! }
//! # let mut client = netwasm_guest::testing::serve(shout);
//! # client.send("hello\n");
//! # client.expect("HELLO\n");
//! # assert_eq!(netwasm_guest::testing::metric("lines", &[]), Some(1.0));
//! # assert_eq!(netwasm_guest::testing::metric("line_length_bytes", &[]), Some(5.0));
//! ```
//!
//! A counter `lines` of the service `shout` is shown as
//! `netwasm_guest_lines_total{service="shout"}`. All instances of a service
//! count together, on all threads, and the values survive a reload. So a gauge
//! is for what each instance adds to and takes from, or for what all of them
//! know.
//!
//! Names consist of ASCII letters, digits and `_`; a unit belongs in the name.
//! Labels, added by `with`, tell series of one metric apart. They are for what
//! has few values, since no series is ever removed, and a service may have no
//! more than `--max-metrics`.
//!
//! A metric is made when it is first used. One that the host refuses counts
//! nothing, and the log says why; a guest's work does not depend on it.
//!
//! In tests, [`testing::metric`](crate::testing::metric) returns values.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::log::{Level, write_args};
use crate::{Result, host};

/// State of a metric that the host was not asked for yet.
const NEW: u64 = u64::MAX;

/// State of a metric that the host has refused.
const REFUSED: u64 = u64::MAX - 1;

/// A number that only grows.
pub struct Counter(Metric);

/// A number that goes up and down; 0 at first.
pub struct Gauge(Metric);

/// Numbers of observed values, by size.
pub struct Histogram {
    metric: Metric,
    bounds: Cow<'static, [f64]>,
}

/// Name, description and labels of a metric, and its number at the host.
struct Metric {
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    labels: Vec<(String, String)>,
    /// The host's number, [`NEW`] or [`REFUSED`].
    number: AtomicU64,
}

impl Counter {
    /// Describes a counter. `help` says in a sentence what is counted.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self(Metric::new(name, help))
    }

    /// Returns the counter with this label besides. Keep it where it is used
    /// often.
    ///
    /// ```
    /// use netwasm_guest::metrics::Counter;
    ///
    /// static ANSWERS: Counter = Counter::new("answers", "Answers, by result");
    ///
    /// ANSWERS.with("result", "found").add(1);
    /// # let value = |result| netwasm_guest::testing::metric("answers", &[("result", result)]);
    /// # assert_eq!((value("found"), value("missing")), (Some(1.0), None));
    /// ```
    #[must_use]
    pub fn with(&self, label: &str, value: &str) -> Self {
        Self(self.0.with(label, value))
    }

    /// Makes the counter, so that it is shown before it is first used.
    ///
    /// # Errors
    /// - `InvalidArgument`: a name or a label is not as the host wants it.
    /// - `InvalidState`: the name is that of a metric of another kind.
    /// - `LimitExceeded`: the service has too many (`--max-metrics`).
    pub fn open(&self) -> Result<()> {
        self.0.open(host::open_counter).map(drop)
    }

    /// Adds to the counter.
    pub fn add(&self, more: u64) {
        if let Some(number) = self.0.number(host::open_counter) {
            host::add_to_counter(number, more);
        }
    }
}

impl Gauge {
    /// Describes a gauge. `help` says in a sentence what it shows.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self(Metric::new(name, help))
    }

    /// Returns the gauge with this label besides; see [`Counter::with`].
    #[must_use]
    pub fn with(&self, label: &str, value: &str) -> Self {
        Self(self.0.with(label, value))
    }

    /// Makes the gauge, so that it is shown before it is first used.
    ///
    /// # Errors
    /// Those of [`Counter::open`].
    pub fn open(&self) -> Result<()> {
        self.0.open(host::open_gauge).map(drop)
    }

    /// Sets the gauge.
    pub fn set(&self, value: f64) {
        if let Some(number) = self.0.number(host::open_gauge) {
            host::set_gauge(number, value);
        }
    }

    /// Adds to the gauge, or takes from it if the number is negative.
    pub fn change(&self, by: f64) {
        if let Some(number) = self.0.number(host::open_gauge) {
            host::change_gauge(number, by);
        }
    }
}

impl Histogram {
    /// Describes a histogram with these upper bounds: 1 to 32 finite numbers,
    /// each larger than the one before.
    pub const fn new(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self {
            metric: Metric::new(name, help),
            bounds: Cow::Borrowed(bounds),
        }
    }

    /// Returns the histogram with this label besides; see [`Counter::with`].
    #[must_use]
    pub fn with(&self, label: &str, value: &str) -> Self {
        Self {
            metric: self.metric.with(label, value),
            bounds: self.bounds.clone(),
        }
    }

    /// Makes the histogram, so that it is shown before it is first used.
    ///
    /// # Errors
    /// Those of [`Counter::open`]; `InvalidArgument` for the bounds, too.
    pub fn open(&self) -> Result<()> {
        self.metric.open(self.maker()).map(drop)
    }

    /// Counts a value. One that is not a number is not counted.
    pub fn observe(&self, value: f64) {
        if let Some(number) = self.metric.number(self.maker()) {
            host::observe_with_histogram(number, value);
        }
    }

    fn maker(&self) -> impl FnOnce(&str, &str, &[(String, String)]) -> Result<u32> {
        |name, help, labels| host::open_histogram(name, help, &self.bounds, labels)
    }
}

impl Metric {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            name: Cow::Borrowed(name),
            help: Cow::Borrowed(help),
            labels: Vec::new(),
            number: AtomicU64::new(NEW),
        }
    }

    fn with(&self, label: &str, value: &str) -> Self {
        let mut labels = self.labels.clone();
        labels.push((label.to_owned(), value.to_owned()));
        Self {
            name: self.name.clone(),
            help: self.help.clone(),
            labels,
            number: AtomicU64::new(NEW),
        }
    }

    fn open(
        &self,
        open: impl FnOnce(&str, &str, &[(String, String)]) -> Result<u32>,
    ) -> Result<u32> {
        open(&self.name, &self.help, &self.labels)
    }

    /// Returns the host's number; `None` if the host has refused the metric,
    /// which the log was then told.
    fn number(
        &self,
        open: impl FnOnce(&str, &str, &[(String, String)]) -> Result<u32>,
    ) -> Option<u32> {
        match self.number.load(Ordering::Relaxed) {
            NEW => {}
            known => return u32::try_from(known).ok(),
        }
        let opened = self.open(open);
        let number = match &opened {
            Ok(number) => u64::from(*number),
            Err(_) => REFUSED,
        };
        // In tests, each thread has a host of its own.
        if cfg!(target_family = "wasm") {
            self.number.store(number, Ordering::Relaxed);
        }
        opened
            .inspect_err(|error| {
                // The host tells of the limit once.
                if error.kind() != crate::ErrorKind::LimitExceeded {
                    let name = &self.name;
                    write_args(
                        Level::Warn,
                        format_args!("the metric {name} is not counted: {}", error.kind().text()),
                    );
                }
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::testing::{metric, take_log};

    static HITS: Counter = Counter::new("hits", "Hits");
    static LEVEL: Gauge = Gauge::new("level", "Level");
    static SIZES: Histogram = Histogram::new("sizes", "Sizes", &[1.0, 2.0]);

    #[test]
    fn a_metric_is_there_once_it_is_used_or_opened() {
        assert_eq!(metric("hits", &[]), None);
        HITS.open().expect("it opens");
        assert_eq!(metric("hits", &[]), Some(0.0));
        HITS.add(2);
        HITS.with("kind", "a").add(3);
        HITS.with("kind", "a").add(4);
        assert_eq!(metric("hits", &[]), Some(2.0));
        assert_eq!(metric("hits", &[("kind", "a")]), Some(7.0));
        LEVEL.change(-1.5);
        assert_eq!(metric("level", &[]), Some(-1.5));
        LEVEL.set(3.0);
        assert_eq!(metric("level", &[]), Some(3.0));
        SIZES.observe(2.5);
        SIZES.observe(f64::NAN);
        assert_eq!(metric("sizes", &[]), Some(2.5), "the sum");
    }

    #[test]
    fn a_name_of_another_kind_is_refused_and_told() {
        HITS.add(1);
        let wrong = Gauge::new("hits", "Hits");
        let error = wrong.open().err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::InvalidState));
        wrong.set(7.0);
        assert_eq!(metric("hits", &[]), Some(1.0));
        let log = take_log();
        let (_, line) = log.last().expect("a line");
        assert!(line.contains("hits is not counted"), "{line}");
    }
}
