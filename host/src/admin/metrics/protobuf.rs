//! Prometheus's protobuf: `io.prometheus.client`, in its file metrics.proto
//! (client_model), delimited. It has native histograms, which no text has.

use prost::{Enumeration, Message};

use super::family::{self, Family, Kind, Labels, SeriesValue, Unit, float};

/// Encodes metrics, each message after its length.
pub(super) fn encode(families: &[Family]) -> Vec<u8> {
    let mut body = Vec::new();
    for family in families {
        // It fails only if a buffer is full, and this one grows.
        let _ = message(family).encode_length_delimited(&mut body);
    }
    body
}

fn message(family: &Family) -> MetricFamily {
    let unit = family.unit.map(Unit::name);
    let mut name = format!("netwasm_{}", family.name);
    for part in unit.into_iter().chain(suffix(family.kind)) {
        name.push('_');
        name.push_str(part);
    }
    let kind = match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    let series = family.series.iter();
    MetricFamily {
        name: Some(name),
        help: Some(family.help.clone().into_owned()),
        r#type: Some(kind.into()),
        metric: series
            .map(|(labels, value)| metric(family.kind, labels, value))
            .collect(),
        unit: unit.map(str::to_owned),
    }
}

fn suffix(kind: Kind) -> Option<&'static str> {
    (kind == Kind::Counter).then_some("total")
}

fn metric(kind: Kind, labels: &Labels, value: &SeriesValue) -> Metric {
    let pair = |(name, value): &(std::borrow::Cow<'static, str>, String)| LabelPair {
        name: Some(name.clone().into_owned()),
        value: Some(value.clone()),
    };
    let mut metric = Metric {
        label: labels.iter().map(pair).collect(),
        ..Metric::default()
    };
    let number = match value {
        SeriesValue::Count(count) => float(*count),
        SeriesValue::Number(number) => *number,
        SeriesValue::Histogram(it) => {
            metric.histogram = Some(histogram(it));
            return metric;
        }
    };
    match kind {
        Kind::Counter => {
            metric.counter = Some(Number {
                value: Some(number),
            });
        }
        Kind::Gauge | Kind::Histogram => {
            metric.gauge = Some(Number {
                value: Some(number),
            });
        }
    }
    metric
}

fn histogram(from: &family::Histogram) -> HistogramMessage {
    let mut so_far = 0;
    let mut histogram = HistogramMessage {
        sample_sum: Some(from.sum),
        ..HistogramMessage::default()
    };
    for (bound, count) in &from.buckets {
        so_far += count;
        histogram.bucket.push(Bucket {
            cumulative_count: Some(so_far),
            upper_bound: Some(*bound),
        });
    }
    histogram.sample_count = Some(so_far);
    if let Some(native) = &from.native {
        add_native(&mut histogram, native);
    }
    histogram
}

/// Adds the buckets that are not empty: in spans, and as differences.
fn add_native(histogram: &mut HistogramMessage, native: &family::Native) {
    histogram.schema = Some(native.schema);
    histogram.zero_threshold = Some(native.zero_threshold);
    histogram.zero_count = Some(native.zero);
    // So that all parts agree, though a request may be counted meanwhile.
    let all = native.counts.iter().sum::<u64>() + native.zero;
    histogram.sample_count = Some(all);
    let mut before = 0_i64;
    // Index after the last span.
    let mut end = 0;
    for (count, index) in native.counts.iter().zip(native.first..) {
        if *count == 0 {
            continue;
        }
        match histogram.positive_span.last_mut() {
            Some(last) if index == end => last.length = last.length.map(|length| length + 1),
            last => {
                // The first offset counts from 0, the others from the end of the
                // span before.
                let from = if last.is_some() { end } else { 0 };
                histogram.positive_span.push(BucketSpan {
                    offset: Some(index - from),
                    length: Some(1),
                });
            }
        }
        end = index + 1;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        histogram.positive_delta.push(count - before);
        before = count;
    }
    if histogram.positive_span.is_empty() {
        // Without any span, it would count as a classic histogram.
        histogram.positive_span.push(BucketSpan {
            offset: Some(0),
            length: Some(0),
        });
    }
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, optional, tag = "5")]
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// `Gauge` and `Counter`, which are alike.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::metrics::family::{Native, of};

    fn shown(counts: Vec<u64>, first: i32) -> HistogramMessage {
        let native = Native {
            schema: 3,
            first,
            counts,
            zero: 1,
            zero_threshold: 0.5,
        };
        let from = family::Histogram {
            buckets: vec![(1.0, 3), (f64::INFINITY, 4)],
            sum: 7.5,
            native: Some(native),
        };
        let series = vec![(of("a"), SeriesValue::Histogram(from))];
        let family = Family::new("time", "Time", Kind::Histogram, series);
        let body = encode(&[family.of(Unit::Seconds)]);
        let decoded = MetricFamily::decode_length_delimited(&*body);
        let decoded = decoded.expect("a message");
        assert_eq!(decoded.name.as_deref(), Some("netwasm_time_seconds"));
        let metric = decoded.metric.into_iter().next();
        metric.and_then(|it| it.histogram).expect("a histogram")
    }

    #[test]
    fn a_native_histogram_has_spans_and_differences() {
        let histogram = shown(vec![0, 5, 2, 0, 0, 3], -2);
        let span = |offset, length| BucketSpan {
            offset: Some(offset),
            length: Some(length),
        };
        assert_eq!(histogram.positive_span, [span(-1, 2), span(2, 1)]);
        assert_eq!(histogram.positive_delta, [5, -3, 1]);
        assert_eq!(histogram.sample_count, Some(11));
        assert_eq!(histogram.sample_sum, Some(7.5));
        assert_eq!(histogram.schema, Some(3));
        let counts: Vec<_> = histogram
            .bucket
            .iter()
            .map(|it| (it.cumulative_count, it.upper_bound))
            .collect();
        let last = (Some(7), Some(f64::INFINITY));
        assert_eq!(counts, [(Some(3), Some(1.0)), last]);
        let empty = shown(vec![0, 0], -2);
        assert_eq!(empty.positive_span, [span(0, 0)]);
    }

    #[test]
    fn counters_have_their_suffix() {
        let family = Family::counter("sent", "Bytes", [(of("a"), 7)]).of(Unit::Bytes);
        let decoded = MetricFamily::decode_length_delimited(&*encode(&[family]));
        let decoded = decoded.expect("a message");
        assert_eq!(decoded.name.as_deref(), Some("netwasm_sent_bytes_total"));
        assert_eq!(decoded.metric[0].counter, Some(Number { value: Some(7.0) }));
        assert_eq!(decoded.metric[0].label[0].value.as_deref(), Some("a"));
    }
}
