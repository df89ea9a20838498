//! A receiver of traces, logs and metrics: OTLP over HTTP, in the test's own
//! process.

mod messages;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use prost::Message as _;

use self::messages::{
    AnyValue, ExportRequest, KeyValue, Scope, ScopeLogs, ScopeMetrics, ScopeSpans, Value,
};
use super::{Upstream, eventually};

pub(crate) use self::messages::Point;

/// A receiver, and what it has got.
pub(crate) struct Collector {
    upstream: Upstream,
    kept: Arc<Mutex<Kept>>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// All that came.
#[derive(Default)]
struct Kept {
    spans: Vec<CollectedSpan>,
    logs: Vec<CollectedLog>,
    metrics: Vec<CollectedMetric>,
}

/// A span that came.
#[derive(Clone, Debug)]
pub(crate) struct CollectedSpan {
    pub(crate) service: String,
    /// Hexadecimal digits, here and below.
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty if there is none.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    /// 2 is a server's, 3 a client's, 4 a producer's.
    pub(crate) kind: i32,
    /// Beginning and end in nanoseconds.
    pub(crate) times: (u64, u64),
    pub(crate) failed: bool,
    /// Attributes as text.
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) scope: String,
    /// Text of its status.
    pub(crate) message: String,
    pub(crate) events: Vec<CollectedEvent>,
    /// Traces and spans of its links.
    pub(crate) links: Vec<(String, String)>,
    /// Attributes, events and links that were dropped.
    pub(crate) dropped: [u32; 3],
}

/// An event of a span that came.
#[derive(Clone, Debug)]
pub(crate) struct CollectedEvent {
    pub(crate) name: String,
    pub(crate) time: u64,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A record of a log that came.
#[derive(Clone, Debug)]
pub(crate) struct CollectedLog {
    pub(crate) service: String,
    pub(crate) scope: String,
    pub(crate) trace: String,
    pub(crate) span: String,
    pub(crate) severity: (i32, String),
    pub(crate) body: String,
    pub(crate) event: String,
    /// The time, and that at which it was observed, in nanoseconds.
    pub(crate) times: (u64, u64),
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A metric that came, with its only point.
#[derive(Clone, Debug)]
pub(crate) struct CollectedMetric {
    pub(crate) service: String,
    pub(crate) scope: String,
    pub(crate) name: String,
    pub(crate) about: (String, String),
    /// All else of the point.
    pub(crate) point: Point,
}

impl Collector {
    /// Starts a receiver that answers with these statuses, and with 200 after
    /// the last of them. It keeps what it answers with 200.
    pub(crate) fn answering(statuses: &'static [u16]) -> Self {
        let all = Arc::<Mutex<Kept>>::default();
        let (kept, asked) = (Arc::clone(&all), Mutex::new(0));
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                let line = head.lines().next().unwrap_or_default();
                let kind = line.strip_prefix("POST /v1/").unwrap_or_default();
                let kind = kind
                    .strip_suffix(" HTTP/1.1")
                    .unwrap_or_default()
                    .to_owned();
                let lower = head.to_ascii_lowercase();
                seen.lock().expect("no panic").push(head);
                assert!(
                    lower.contains("\r\ncontent-type: application/x-protobuf\r\n"),
                    "{lower}"
                );
                let length = lower
                    .split("\r\ncontent-length: ")
                    .nth(1)
                    .expect("a length");
                let length = length.split("\r\n").next().expect("a line");
                let body = asker.receive(length.parse().expect("a number"));
                let mut asked = asked.lock().expect("no panic");
                let status = statuses.get(*asked).copied().unwrap_or(200);
                *asked += 1;
                drop(asked);
                if status == 200 {
                    kept.lock().expect("no panic").read(&kind, &body);
                }
                asker.say(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        Self {
            upstream,
            kept: all,
            heads,
        }
    }

    pub(crate) fn new() -> Self {
        Self::answering(&[])
    }

    /// Returns the URL for `--otlp`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    /// Waits for so many spans, and returns all that came.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<CollectedSpan> {
        eventually("the spans", || {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        })
    }

    /// Returns the heads of the requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }

    /// Returns the spans so far.
    pub(crate) fn spans(&self) -> Vec<CollectedSpan> {
        self.kept.lock().expect("no panic").spans.clone()
    }

    /// Waits for so many records of logs, and returns all that came.
    pub(crate) fn wait_for_logs(&self, count: usize) -> Vec<CollectedLog> {
        eventually("the records", || {
            let logs = self.kept.lock().expect("no panic").logs.clone();
            (logs.len() >= count).then_some(logs)
        })
    }

    /// Waits for so many metrics, and returns all that came.
    pub(crate) fn wait_for_metrics(&self, count: usize) -> Vec<CollectedMetric> {
        eventually("the metrics", || {
            let metrics = self.kept.lock().expect("no panic").metrics.clone();
            (metrics.len() >= count).then_some(metrics)
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a value as text: lists and maps as JSON, bytes as digits.
fn shown(value: Option<Value>) -> String {
    match value.and_then(|value| value.value) {
        Some(AnyValue::Text(text)) => text,
        Some(AnyValue::Truth(truth)) => truth.to_string(),
        Some(AnyValue::Whole(number)) => number.to_string(),
        Some(AnyValue::Number(number)) => number.to_string(),
        Some(AnyValue::List(list)) => {
            let values = list.values.into_iter().map(|it| shown(Some(it)));
            format!("[{}]", values.collect::<Vec<_>>().join(","))
        }
        Some(AnyValue::Map(map)) => {
            let pairs = map.values.into_iter();
            let pairs = pairs.map(|it| format!("{}:{}", it.key, shown(it.value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Some(AnyValue::Bytes(bytes)) => hex(&bytes),
        None => panic!("no value"),
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |it: KeyValue| (it.key, shown(it.value));
    attributes.into_iter().map(text).collect()
}

impl Kept {
    fn read(&mut self, kind: &str, body: &[u8]) {
        let request = ExportRequest::decode(body).expect("a message");
        for resource in request.resources {
            let of = texts(resource.resource.expect("a resource").attributes);
            let service = &of["service.name"];
            for scope in resource.scopes {
                match kind {
                    "traces" => self.read_spans(service, &scope),
                    "logs" => self.read_logs(service, &scope),
                    "metrics" => self.read_metrics(service, &scope),
                    other => panic!("no such path: {other:?}"),
                }
            }
        }
    }

    fn read_spans(&mut self, service: &str, scope: &[u8]) {
        let ScopeSpans { scope, spans } = ScopeSpans::decode(scope).expect("a message");
        let scope = scope.expect("a scope").to_string();
        for span in spans {
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
            let status = span.status.unwrap_or_default();
            let events = span.events.into_iter().map(|event| CollectedEvent {
                name: event.name,
                time: event.time,
                attributes: texts(event.attributes),
            });
            let links = span.links.into_iter();
            self.spans.push(CollectedSpan {
                service: service.to_owned(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                name: span.name,
                kind: span.kind,
                times: (span.start, span.end),
                failed: status.code == 2,
                attributes: texts(span.attributes),
                scope: scope.clone(),
                message: status.message,
                events: events.collect(),
                links: links
                    .map(|it| (hex(&it.trace_id), hex(&it.span_id)))
                    .collect(),
                dropped: [
                    span.dropped_attributes,
                    span.dropped_events,
                    span.dropped_links,
                ],
            });
        }
    }

    fn read_logs(&mut self, service: &str, scope: &[u8]) {
        let ScopeLogs { scope, records } = ScopeLogs::decode(scope).expect("a message");
        let scope = scope.expect("a scope").to_string();
        self.logs.extend(records.into_iter().map(|it| CollectedLog {
            service: service.to_owned(),
            scope: scope.clone(),
            trace: hex(&it.trace_id),
            span: hex(&it.span_id),
            severity: (it.severity_number, it.severity_text),
            body: shown(it.body),
            event: it.event_name,
            times: (it.time, it.observed),
            attributes: texts(it.attributes),
        }));
    }

    fn read_metrics(&mut self, service: &str, scope: &[u8]) {
        let ScopeMetrics { scope, metrics } = ScopeMetrics::decode(scope).expect("a message");
        let scope = scope.expect("a scope").to_string();
        self.metrics.extend(metrics.into_iter().map(|it| {
            let mut point = it.data.expect("data");
            let attributes = match &mut point {
                Point::Gauge(gauge) => &mut gauge.points[0].attributes,
                Point::Sum(sum) => &mut sum.points[0].attributes,
                Point::Histogram(histogram) => &mut histogram.points[0].attributes,
                Point::Exponential(histogram) => &mut histogram.points[0].attributes,
            };
            let attributes = texts(std::mem::take(attributes));
            assert_eq!(attributes["k"], "v", "{}", it.name);
            CollectedMetric {
                service: service.to_owned(),
                scope: scope.clone(),
                name: it.name,
                about: (it.description, it.unit),
                point,
            }
        }));
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        for (key, value) in texts(self.attributes.clone()) {
            write!(f, " {key}={value}")?;
        }
        Ok(())
    }
}
