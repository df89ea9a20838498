//! Metrics, in no format yet.

use std::borrow::Cow;

/// Names and values of labels.
pub(super) type Labels = Vec<(Cow<'static, str>, String)>;

/// A metric with all its series.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// Name without prefix, unit and suffix.
    pub(super) name: Cow<'static, str>,
    pub(super) help: Cow<'static, str>,
    pub(super) unit: Option<Unit>,
    pub(super) kind: Kind,
    pub(super) series: Vec<(Labels, SeriesValue)>,
}

/// Unit of a metric, which ends its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Seconds,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Value of a series.
#[derive(Clone, Debug)]
pub(super) enum SeriesValue {
    Count(u64),
    Number(f64),
    Histogram(Histogram),
}

/// Numbers of observed values.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// Upper bounds, the last of which is infinite, and the numbers of values up
    /// to each but above the one before.
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) sum: f64,
    /// The native histogram, if there is one.
    pub(super) native: Option<Native>,
}

/// A native histogram: numbers of values in buckets that grow exponentially.
#[derive(Clone, Debug)]
pub(super) struct Native {
    /// The upper bound of bucket `i` is 2^(i / 2^schema).
    pub(super) schema: i32,
    /// Index of the first bucket.
    pub(super) first: i32,
    pub(super) counts: Vec<u64>,
    /// Number of values that are as good as zero.
    pub(super) zero: u64,
    /// Largest of these.
    pub(super) zero_threshold: f64,
}

impl Family {
    /// Returns a counter of whole numbers.
    pub(super) fn counter(
        name: &'static str,
        help: &'static str,
        rows: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Self {
        let series = rows.into_iter();
        let series = series.map(|(labels, count)| (labels, SeriesValue::Count(count)));
        Self::new(name, help, Kind::Counter, series.collect())
    }

    /// Returns a gauge.
    pub(super) fn gauge(
        name: &'static str,
        help: &'static str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        let series = rows.into_iter();
        let series = series.map(|(labels, number)| (labels, SeriesValue::Number(number)));
        Self::new(name, help, Kind::Gauge, series.collect())
    }

    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        kind: Kind,
        series: Vec<(Labels, SeriesValue)>,
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            unit: None,
            kind,
            series,
        }
    }

    /// Gives the metric a unit.
    pub(super) fn of(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }
}

/// Returns the labels of a service.
pub(super) fn of(service: &str) -> Labels {
    vec![("service".into(), service.to_owned())]
}

/// Returns the labels of a service, and another one.
pub(super) fn labelled(service: &str, label: &'static str, value: &str) -> Labels {
    vec![
        ("service".into(), service.to_owned()),
        (label.into(), value.to_owned()),
    ]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rounded number is good enough"
)]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "no process has so many")]
pub(super) fn number(count: usize) -> f64 {
    count as f64
}
