//! A receiver of traces: OTLP over HTTP, in the test's own process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use prost::{Message, Oneof};

use super::{Upstream, eventually};

/// A receiver, and what it has got.
pub(crate) struct Collector {
    upstream: Upstream,
    spans: Arc<Mutex<Vec<CollectedSpan>>>,
    heads: Arc<Mutex<Vec<String>>>,
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
    /// 2 is a server's, 3 a client's.
    pub(crate) kind: i32,
    /// Beginning and end in nanoseconds.
    pub(crate) times: (u64, u64),
    pub(crate) failed: bool,
    /// Attributes as text.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Starts a receiver that answers with these statuses, and with 200 after
    /// the last of them. It keeps what it answers with 200.
    pub(crate) fn answering(statuses: &'static [u16]) -> Self {
        let spans = Arc::<Mutex<Vec<CollectedSpan>>>::default();
        let (kept, asked) = (Arc::clone(&spans), Mutex::new(0));
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
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
                    kept.lock().expect("no panic").extend(read(&body));
                }
                asker.say(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        Self {
            upstream,
            spans,
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
        self.spans.lock().expect("no panic").clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |it: KeyValue| {
        let value = match it.value.and_then(|value| value.value) {
            Some(AnyValue::Text(text)) => text,
            Some(AnyValue::Whole(number)) => number.to_string(),
            Some(AnyValue::Number(number)) => number.to_string(),
            None => panic!("no value of {}", it.key),
        };
        (it.key, value)
    };
    attributes.into_iter().map(text).collect()
}

fn read(body: &[u8]) -> Vec<CollectedSpan> {
    let request = ExportRequest::decode(body).expect("a message");
    let mut all = Vec::new();
    for resource in request.resource_spans {
        let of = texts(resource.resource.expect("a resource").attributes);
        for span in resource.scope_spans.into_iter().flat_map(|it| it.spans) {
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
            all.push(CollectedSpan {
                service: of["service.name"].clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                state: span.trace_state,
                name: span.name,
                kind: span.kind,
                times: (span.start, span.end),
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: texts(span.attributes),
            });
        }
    }
    all
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "AnyValue", tags = "1, 3, 4")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Oneof)]
enum AnyValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Whole(i64),
    #[prost(double, tag = "4")]
    Number(f64),
}
