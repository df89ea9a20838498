//! Metrics of a component.

use crate::Result;
use crate::bindings::netwasm::net::metrics;

pub(crate) fn open_counter(name: &str, help: &str, labels: &[(String, String)]) -> Result<u32> {
    let opened = metrics::counter(name, help, &wit_labels(labels))?;
    Ok(opened.number)
}

pub(crate) fn open_gauge(name: &str, help: &str, labels: &[(String, String)]) -> Result<u32> {
    let opened = metrics::gauge(name, help, &wit_labels(labels))?;
    Ok(opened.number)
}

pub(crate) fn open_histogram(
    name: &str,
    help: &str,
    bounds: &[f64],
    labels: &[(String, String)],
) -> Result<u32> {
    let opened = metrics::histogram(name, help, bounds, &wit_labels(labels))?;
    Ok(opened.number)
}

pub(crate) fn add_to_counter(number: u32, more: u64) {
    metrics::add(metrics::CounterId { number }, more);
}

pub(crate) fn set_gauge(number: u32, value: f64) {
    metrics::set(metrics::GaugeId { number }, value);
}

pub(crate) fn change_gauge(number: u32, by: f64) {
    metrics::change(metrics::GaugeId { number }, by);
}

pub(crate) fn observe_with_histogram(number: u32, value: f64) {
    metrics::observe(metrics::HistogramId { number }, value);
}

fn wit_labels(labels: &[(String, String)]) -> Vec<metrics::Label> {
    let label = |(name, value): &(String, String)| metrics::Label {
        name: name.clone(),
        value: value.clone(),
    };
    labels.iter().map(label).collect()
}
