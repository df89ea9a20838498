//! The two text formats, by the crate `prometheus-client`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{self, Registry};

use super::family::{Family, Kind, Labels, SeriesValue, Unit};

/// Encodes metrics in OpenMetrics 1.0.
pub(super) fn encode_open(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut body = String::new();
    text::encode(&mut body, &registry(families))?;
    Ok(body)
}

/// Encodes metrics in Prometheus's older text format, version 0.0.4.
pub(super) fn encode(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut body = String::new();
    prometheus_text::encode(&mut body, &registry(families))?;
    Ok(body)
}

fn registry(families: Vec<Family>) -> Registry {
    let mut registry = Registry::with_prefix("netwasm");
    registry.register_collector(Box::new(Families(families)));
    registry
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut all = self.0.iter();
        all.try_for_each(|family| encode_family(family, &mut encoder))
    }
}

fn encode_family(family: &Family, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let unit = family.unit.map(|unit| match unit {
        Unit::Bytes => registry::Unit::Bytes,
        Unit::Seconds => registry::Unit::Seconds,
    });
    let (name, help) = (&family.name, &family.help);
    let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
    for (labels, value) in &family.series {
        // Without labels there are no braces.
        let mut metric = metric.encode_family(labels)?;
        match (value, family.kind) {
            (SeriesValue::Count(count), _) => ConstCounter::new(*count).encode(metric)?,
            (SeriesValue::Number(number), Kind::Counter) => {
                ConstCounter::new(*number).encode(metric)?;
            }
            (SeriesValue::Number(number), _) => ConstGauge::new(*number).encode(metric)?,
            (SeriesValue::Histogram(it), _) => {
                let count = it.buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<Labels>(it.sum, count, &it.buckets, None)?;
            }
        }
    }
    Ok(())
}
