//! Metrics that guests make, by name and labels.
//!
//! ```text
//!   Families (of the process): name --> help, kind
//!      ^
//!      |  two services that use one name mean one kind
//!   GuestMetrics (of a service, over all its generations)
//!      name, labels --> Series: the value, shared by all instances
//! ```
//!
//! Opening takes a lock, and counting none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use crate::error::ConnectionError;

/// Longest name of a metric or a label, in bytes.
const LONGEST_NAME: usize = 64;

/// Longest value of a label, in bytes.
const LONGEST_VALUE: usize = 128;

/// Longest help, in bytes. The rest is cut off.
const LONGEST_HELP: usize = 256;

/// Maximum of labels of a metric.
const MOST_LABELS: usize = 8;

/// Maximum of bounds of a histogram.
const MOST_BOUNDS: usize = 32;

/// Ends of names that Prometheus's formats give a meaning.
const RESERVED_ENDS: [&str; 5] = ["_bucket", "_count", "_created", "_info", "_sum"];

/// Labels that the host adds by itself, or that mean something to Prometheus.
const RESERVED_LABELS: [&str; 3] = ["le", "quantile", "service"];

/// Names and values of labels, ordered by name.
pub type Labels = Vec<(String, String)>;

/// Kind of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// Numbers of observed values, up to each of these bounds and without one.
    Histogram(Vec<f64>),
}

impl Kind {
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A metric, without its labels and values.
#[derive(Debug)]
pub struct Family {
    /// Name without prefix and suffix.
    pub name: String,
    /// Description in a sentence.
    pub help: String,
    /// Kind, which all services share.
    pub kind: Kind,
}

/// The metrics of a process, by name.
#[derive(Debug, Default)]
pub struct Families(Mutex<HashMap<String, Weak<Family>>>);

impl Families {
    /// Returns the metric of this name, or makes it.
    ///
    /// # Errors
    /// Fails with `InvalidState` if it is of another kind.
    fn open(&self, name: &str, help: &str, kind: Kind) -> Result<Arc<Family>, ConnectionError> {
        // No code panics while it holds the lock.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = all.get(name).and_then(Weak::upgrade) {
            let is_like = family.kind.is_like(&kind);
            return match is_like {
                true => Ok(family),
                false => Err(ConnectionError::InvalidState),
            };
        }
        all.retain(|_, family| family.strong_count() > 0);
        let family = Arc::new(Family {
            name: name.to_owned(),
            help: plain(help),
            kind,
        });
        all.insert(name.to_owned(), Arc::downgrade(&family));
        Ok(family)
    }
}

/// Returns a help on one line, cut off where it is too long, without letters
/// that some of Prometheus's formats want escaped and others do not.
fn plain(help: &str) -> String {
    let end = help.floor_char_boundary(LONGEST_HELP);
    let help = help.get(..end).unwrap_or_default();
    let plain = |letter: char| match letter {
        '"' => '\'',
        '\\' => '/',
        _ if letter.is_control() => ' ',
        _ => letter,
    };
    help.chars().map(plain).collect()
}

/// The metrics of a service's guest.
#[derive(Debug, Default)]
pub struct GuestMetrics {
    families: Arc<Families>,
    state: RwLock<Registry>,
    /// True once the log was told that there are too many.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Registry {
    series: HashMap<(String, Labels), Arc<Series>>,
    /// Number of values that count towards `--max-metrics`.
    size: usize,
}

/// A metric with its labels, and its value.
#[derive(Debug)]
pub struct Series {
    /// Number of this series among those of its service.
    pub number: u32,
    /// The metric.
    pub family: Arc<Family>,
    /// Labels, ordered by name.
    pub labels: Labels,
    value: GuestValue,
}

#[derive(Debug)]
enum GuestValue {
    Counter(AtomicU64),
    /// Bits of a floating-point number.
    Gauge(AtomicU64),
    Histogram {
        /// Numbers of values up to each bound but above the one before.
        counts: Box<[AtomicU64]>,
        /// Bits of the sum of all values.
        sum: AtomicU64,
    },
}

/// Value of a series at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Histogram {
        /// Numbers of values up to each bound but above the one before, and at
        /// last above all bounds.
        counts: Vec<u64>,
        /// Sum of all values.
        sum: f64,
    },
}

impl GuestMetrics {
    /// Returns the metrics of a service of a process with these.
    #[must_use]
    pub fn among(families: &Arc<Families>) -> Self {
        Self {
            families: Arc::clone(families),
            ..Self::default()
        }
    }

    /// Returns the series of this name and labels, or makes it, if no more than
    /// `most` values then exist (`--max-metrics`).
    ///
    /// # Errors
    /// Fails with `InvalidArgument` for a wrong name, label or bound, with
    /// `InvalidState` if the name is that of a metric of another kind, and with
    /// `LimitExceeded` if there would be too many.
    pub fn open(
        &self,
        name: String,
        help: &str,
        kind: Kind,
        mut labels: Labels,
        most: usize,
    ) -> Result<Arc<Series>, ConnectionError> {
        let name = match name.strip_suffix("_total") {
            Some(name) => name.to_owned(),
            None => name,
        };
        labels.sort_unstable();
        let key = (name, labels);
        // No code panics while it holds the lock, here and below.
        let known = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.series.get(&key) {
            return series.of_kind(&kind);
        }
        drop(known);
        if !is_metric(&key.0) || !are_labels(&key.1) || !has_bounds(&kind) {
            return Err(ConnectionError::InvalidArgument);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = state.series.get(&key) {
            return series.of_kind(&kind);
        }
        let family = self.families.open(&key.0, help, kind)?;
        let weight = match &family.kind {
            Kind::Counter | Kind::Gauge => 1,
            Kind::Histogram(bounds) => bounds.len() + 1,
        };
        if state.size.saturating_add(weight) > most {
            return Err(ConnectionError::LimitExceeded(
                "the service has too many metrics (--max-metrics)",
            ));
        }
        let number = u32::try_from(state.series.len());
        let series = Arc::new(Series {
            number: number.unwrap_or(u32::MAX),
            value: GuestValue::new(&family.kind),
            family,
            labels: key.1.clone(),
        });
        state.size += weight;
        state.series.insert(key, Arc::clone(&series));
        Ok(series)
    }

    /// Returns all series, in the order in which they were made.
    pub fn all(&self) -> Vec<Arc<Series>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = state.series.values().map(Arc::clone).collect();
        drop(state);
        all.sort_unstable_by_key(|series| series.number);
        all
    }

    /// True at the first call, for a line of the log that is wanted once.
    pub fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

impl Series {
    fn of_kind(self: &Arc<Self>, kind: &Kind) -> Result<Arc<Self>, ConnectionError> {
        match self.family.kind.is_like(kind) {
            true => Ok(Arc::clone(self)),
            false => Err(ConnectionError::InvalidState),
        }
    }

    /// Adds to a counter.
    pub fn add(&self, more: u64) {
        if let GuestValue::Counter(count) = &self.value {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Sets a gauge.
    pub fn set(&self, value: f64) {
        if let GuestValue::Gauge(bits) = &self.value {
            bits.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Adds to a gauge.
    pub fn change(&self, by: f64) {
        if let GuestValue::Gauge(bits) = &self.value {
            add(bits, by);
        }
    }

    /// Counts a value with a histogram, unless it is not a number.
    pub fn observe(&self, value: f64) {
        if let (GuestValue::Histogram { counts, sum }, Kind::Histogram(bounds)) =
            (&self.value, &self.family.kind)
            && !value.is_nan()
        {
            let place = bounds.partition_point(|bound| *bound < value);
            if let Some(count) = counts.get(place) {
                count.fetch_add(1, Ordering::Relaxed);
            }
            add(sum, value);
        }
    }

    /// Returns the present value.
    pub fn reading(&self) -> Reading {
        let float = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        match &self.value {
            GuestValue::Counter(count) => Reading::Counter(count.load(Ordering::Relaxed)),
            GuestValue::Gauge(bits) => Reading::Gauge(float(bits)),
            GuestValue::Histogram { counts, sum } => Reading::Histogram {
                counts: counts
                    .iter()
                    .map(|count| count.load(Ordering::Relaxed))
                    .collect(),
                sum: float(sum),
            },
        }
    }
}

impl GuestValue {
    fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(AtomicU64::default()),
            Kind::Gauge => Self::Gauge(AtomicU64::default()),
            Kind::Histogram(bounds) => Self::Histogram {
                counts: (0..=bounds.len()).map(|_| AtomicU64::default()).collect(),
                sum: AtomicU64::default(),
            },
        }
    }
}

/// Adds to a floating-point number.
fn add(bits: &AtomicU64, more: f64) {
    let sum = |bits| Some((f64::from_bits(bits) + more).to_bits());
    // The closure never refuses.
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

/// True if a name is one in all of Prometheus's formats.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = name.bytes();
    name.len() <= LONGEST_NAME
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || byte.is_ascii_digit())
}

fn is_metric(name: &str) -> bool {
    is_name(name) && !RESERVED_ENDS.iter().any(|end| name.ends_with(end))
}

/// True if all labels, ordered by name, can be shown.
fn are_labels(labels: &Labels) -> bool {
    let is_label = |(name, value): &(String, String)| {
        is_name(name)
            && !name.starts_with("__")
            && !RESERVED_LABELS.contains(&name.as_str())
            && value.len() <= LONGEST_VALUE
    };
    let mut pairs = labels.windows(2);
    labels.len() <= MOST_LABELS
        && labels.iter().all(is_label)
        && pairs.all(|pair| !matches!(pair, [(one, _), (other, _)] if one == other))
}

/// True unless it is a histogram with wrong bounds.
fn has_bounds(kind: &Kind) -> bool {
    let Kind::Histogram(bounds) = kind else {
        return true;
    };
    (1..=MOST_BOUNDS).contains(&bounds.len())
        && bounds.iter().all(|bound| bound.is_finite())
        && bounds.is_sorted_by(|one, next| one < next)
}

#[cfg(test)]
mod tests;
