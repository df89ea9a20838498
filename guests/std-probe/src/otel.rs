//! Reports spans, records of logs, and metrics by `wasi:otel`, as words say.

wit_bindgen::generate!({
    path: "../std-probe/wit-otel",
    world: "netwasm:std-probe-otel/interfaces",
    generate_all,
});

use wasi::clocks::wall_clock::Datetime;
use wasi::otel0_2_0_draft::tracing as draft;
use wasi::otel0_2_0_rc_2::logs::{self, LogRecord};
use wasi::otel0_2_0_rc_2::metrics::{
    self, Exemplar, ExponentialBucket, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
    GaugeDataPoint, Histogram, HistogramDataPoint, Metric, MetricData, MetricNumber,
    ResourceMetrics, ScopeMetrics, Sum, SumDataPoint, Temporality,
};
use wasi::otel0_2_0_rc_2::tracing::{
    self, Event, Link, SpanContext, SpanData, SpanKind, Status, TraceFlags,
};
use wasi::otel0_2_0_rc_2::types::{InstrumentationScope, KeyValue, Resource};

/// Trace of a span that is within none of the host's.
const OWN_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Does what the words say.
pub(crate) fn run(words: &[&str]) -> String {
    match *words {
        // The host's span, and the innermost one.
        ["outer"] => {
            let outer = tracing::outer_span_context();
            let state: Vec<_> = outer
                .trace_state
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect();
            let sampled = outer.trace_flags == TraceFlags::SAMPLED;
            let state = state.join(",");
            let current = draft::current_span_context().span_id;
            format!(
                "{} {} {sampled} [{state}] {current}",
                outer.trace_id, outer.span_id
            )
        }
        // A span of this number with all that one can have.
        ["span", id, name] => {
            let mut span = begin(id, name);
            span.attributes = vec![
                pair("text", "\"a\\tb\""),
                pair("truth", "true"),
                pair("whole", "-7"),
                pair("number", "1.5"),
                pair("bytes", "\"data:application/octet-stream;base64,AQI=\""),
                pair("list", "[1,\"b\"]"),
                pair("map", "{\"k\":1}"),
            ];
            span.events = vec![Event {
                name: "happened".into(),
                time: time(2),
                attributes: vec![pair("n", "1")],
            }];
            span.links = vec![Link {
                span_context: context(OWN_TRACE, "00f067aa0ba902b7", TraceFlags::SAMPLED),
                attributes: vec![pair("n", "2")],
            }];
            span.status = Status::Error("broken".into());
            let current = draft::current_span_context().span_id;
            end(&span);
            format!("{current} {}", draft::current_span_context().span_id)
        }
        // A span with so many of each.
        ["many", id, count] => {
            let count: usize = count.parse().expect("a number");
            let mut span = begin(id, "many");
            span.attributes = numbered(count);
            let event = |_| Event {
                name: "e".into(),
                time: time(2),
                attributes: numbered(count),
            };
            span.events = (0..count).map(event).collect();
            (span.dropped_attributes, span.dropped_links) = (1, 2);
            end(&span);
            "ended".into()
        }
        // A span whose name and status have so many bytes.
        ["long", id, size] => {
            let text = "x".repeat(size.parse().expect("a number"));
            let mut span = begin(id, &text);
            span.status = Status::Error(text);
            end(&span);
            "ended".into()
        }
        // A record whose text has so many bytes.
        ["long-log", size] => {
            let text = "x".repeat(size.parse().expect("a number"));
            run(&["log", &text])
        }
        ["log", text] => {
            logs::on_emit(&LogRecord {
                timestamp: Some(time(1)),
                observed_timestamp: None,
                severity_text: Some("warning".into()),
                severity_number: Some(13),
                body: Some(format!("\"{text}\"")),
                attributes: Some(vec![pair("k", "\"v\"")]),
                event_name: Some("event".into()),
                resource: Some(resource()),
                instrumentation_scope: Some(scope()),
                trace_id: None,
                span_id: None,
                trace_flags: None,
            });
            "logged".into()
        }
        ["metrics", name] => format!("{:?}", export(name)),
        // A metric whose name has so many bytes.
        ["long-metric", size] => {
            let name = "x".repeat(size.parse().expect("a number"));
            format!("{:?}", export(&name))
        }
        _ => format!("no such words: {words:?}"),
    }
}

/// Begins a span of this number within the host's, or in a trace of its own.
pub(crate) fn begin(id: &str, name: &str) -> SpanData {
    let outer = tracing::outer_span_context();
    let is_within = outer.trace_id.bytes().any(|digit| digit != b'0');
    // It is the host that drops what is not sampled.
    let context = match is_within {
        true => SpanContext {
            span_id: id.into(),
            trace_flags: TraceFlags::SAMPLED,
            ..outer.clone()
        },
        false => context(OWN_TRACE, id, TraceFlags::SAMPLED),
    };
    tracing::on_start(&context);
    SpanData {
        span_context: context,
        parent_span_id: outer.span_id,
        span_kind: SpanKind::Producer,
        name: name.into(),
        start_time: time(1),
        end_time: time(3),
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        status: Status::Unset,
        instrumentation_scope: scope(),
        dropped_attributes: 0,
        dropped_events: 0,
        dropped_links: 0,
    }
}

/// Ends a span.
pub(crate) fn end(span: &SpanData) {
    tracing::on_end(span);
}

fn context(trace: &str, span: &str, flags: TraceFlags) -> SpanContext {
    SpanContext {
        trace_id: trace.into(),
        span_id: span.into(),
        trace_flags: flags,
        is_remote: true,
        trace_state: Vec::new(),
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: value.into(),
    }
}

/// Returns so many attributes.
fn numbered(count: usize) -> Vec<KeyValue> {
    let numbers = 0..count;
    numbers
        .map(|it| pair(&format!("k{it}"), &it.to_string()))
        .collect()
}

fn time(seconds: u64) -> Datetime {
    Datetime {
        seconds,
        nanoseconds: 5,
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "probe-scope".into(),
        version: Some("1.2".into()),
        schema_url: None,
        attributes: vec![pair("s", "\"t\"")],
    }
}

/// Returns a resource that is another service.
fn resource() -> Resource {
    Resource {
        attributes: vec![pair("service.name", "\"somebody-else\"")],
        schema_url: None,
    }
}

/// Exports a metric of each kind.
fn export(name: &str) -> Result<(), String> {
    let metric = |suffix: &str, data| Metric {
        name: format!("{name}.{suffix}"),
        description: "about".into(),
        unit: "By".into(),
        data,
    };
    let exemplars = || {
        vec![Exemplar {
            filtered_attributes: vec![pair("x", "1")],
            time: time(2),
            value: MetricNumber::F64(0.5),
            span_id: "00f067aa0ba902b7".into(),
            trace_id: OWN_TRACE.into(),
        }]
    };
    let attributes = || vec![pair("k", "\"v\"")];
    let temporality = Temporality::Delta;
    let gauge = MetricData::F64Gauge(Gauge {
        data_points: vec![GaugeDataPoint {
            attributes: attributes(),
            value: MetricNumber::F64(1.5),
            exemplars: Vec::new(),
        }],
        start_time: None,
        time: time(3),
    });
    let sum = MetricData::U64Sum(Sum {
        data_points: vec![SumDataPoint {
            attributes: attributes(),
            value: MetricNumber::U64(7),
            exemplars: exemplars(),
        }],
        start_time: time(1),
        time: time(3),
        temporality: Temporality::Cumulative,
        is_monotonic: true,
    });
    let histogram = MetricData::S64Histogram(Histogram {
        data_points: vec![HistogramDataPoint {
            attributes: attributes(),
            count: 3,
            bounds: vec![1.0, 2.0],
            bucket_counts: vec![1, 0, 2],
            min: Some(MetricNumber::S64(-1)),
            max: None,
            sum: MetricNumber::S64(9),
            exemplars: Vec::new(),
        }],
        start_time: time(1),
        time: time(3),
        temporality,
    });
    let buckets = |offset, counts: &[u64]| ExponentialBucket {
        offset,
        counts: counts.to_vec(),
    };
    let exponential = MetricData::F64ExponentialHistogram(ExponentialHistogram {
        data_points: vec![ExponentialHistogramDataPoint {
            attributes: attributes(),
            count: 4,
            min: None,
            max: Some(MetricNumber::F64(8.0)),
            sum: MetricNumber::F64(12.5),
            scale: -2,
            zero_count: 1,
            positive_bucket: buckets(-3, &[1, 2]),
            negative_bucket: buckets(0, &[]),
            zero_threshold: 0.25,
            exemplars: Vec::new(),
        }],
        start_time: time(1),
        time: time(3),
        temporality,
    });
    metrics::export(&ResourceMetrics {
        resource: resource(),
        scope_metrics: vec![ScopeMetrics {
            scope: scope(),
            metrics: vec![
                metric("gauge", gauge),
                metric("sum", sum),
                metric("histogram", histogram),
                metric("exponential", exponential),
            ],
        }],
    })
}
