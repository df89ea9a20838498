//! Metrics of a test.

use super::HOST;
use crate::{ErrorKind, Result};

/// Kind of a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric, with its labels in order.
pub(super) struct Series {
    name: String,
    labels: Vec<(String, String)>,
    kind: Kind,
    /// The value; of a histogram, the sum of all values.
    value: f64,
}

fn open(name: &str, labels: &[(String, String)], kind: Kind) -> Result<u32> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let mut labels = labels.to_vec();
    labels.sort_unstable();
    HOST.with(|host| {
        let mut all = host.metrics.borrow_mut();
        if all.iter().any(|it| it.name == name && it.kind != kind) {
            return Err(ErrorKind::InvalidState.into());
        }
        let known = all
            .iter()
            .position(|it| it.name == name && it.labels == labels);
        let number = known.unwrap_or_else(|| {
            let name = name.to_owned();
            all.push(Series {
                name,
                labels,
                kind,
                value: 0.0,
            });
            all.len() - 1
        });
        u32::try_from(number).map_err(|_| ErrorKind::LimitExceeded.into())
    })
}

pub(crate) fn open_counter(name: &str, _help: &str, labels: &[(String, String)]) -> Result<u32> {
    open(name, labels, Kind::Counter)
}

pub(crate) fn open_gauge(name: &str, _help: &str, labels: &[(String, String)]) -> Result<u32> {
    open(name, labels, Kind::Gauge)
}

pub(crate) fn open_histogram(
    name: &str,
    _help: &str,
    bounds: &[f64],
    labels: &[(String, String)],
) -> Result<u32> {
    let are_right = (1..=32).contains(&bounds.len())
        && bounds.iter().all(|bound| bound.is_finite())
        && bounds.is_sorted_by(|one, next| one < next);
    if !are_right {
        return Err(ErrorKind::InvalidArgument.into());
    }
    open(name, labels, Kind::Histogram)
}

fn change(number: u32, change: impl FnOnce(&mut f64)) {
    HOST.with(|host| {
        if let Some(series) = host.metrics.borrow_mut().get_mut(number as usize) {
            change(&mut series.value);
        }
    });
}

#[allow(clippy::cast_precision_loss, reason = "no test counts so far")]
pub(crate) fn add_to_counter(number: u32, more: u64) {
    change(number, |value| *value += more as f64);
}

pub(crate) fn set_gauge(number: u32, to: f64) {
    change(number, |value| *value = to);
}

pub(crate) fn change_gauge(number: u32, by: f64) {
    change(number, |value| *value += by);
}

pub(crate) fn observe_with_histogram(number: u32, observed: f64) {
    if !observed.is_nan() {
        change(number, |value| *value += observed);
    }
}

/// Returns the value of a metric, or the sum of a histogram's values.
pub(crate) fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut labels: Vec<(String, String)> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    labels.sort_unstable();
    HOST.with(|host| {
        let all = host.metrics.borrow();
        let found = all
            .iter()
            .find(|it| it.name == name && it.labels == labels)?;
        Some(found.value)
    })
}
