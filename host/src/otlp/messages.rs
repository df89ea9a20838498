//! Messages of the OpenTelemetry protocol (OTLP 1.x, `trace_service.proto` and
//! `trace.proto`), as far as they are sent. They are few: the crate that has all
//! of them brings the SDK and gRPC. Requests for logs and metrics have the form of
//! those for traces, and what guests report is encoded already.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::{Message, Oneof};

use netwasm_base::line::in_one_line;
use netwasm_base::trace::{self, Attribute, Side, Telemetry, nanoseconds};

/// Returns the size that telemetry has about in a request, in bytes.
pub(super) fn size(telemetry: &Telemetry) -> usize {
    match telemetry {
        Telemetry::Span(span) => span.size(),
        Telemetry::Reported(reported) => reported.size(),
        Telemetry::Lost => 0,
    }
}

/// Telemetry that a receiver has not taken of what it has answered with success.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Number of spans, records or points.
    pub(super) count: u64,
    /// Reason, in one line.
    pub(super) why: String,
}

/// Most characters of a receiver's reason.
const LONGEST_REASON: usize = 200;

/// Reads the answer to an export. One that is none rejects nothing: what matters is
/// its status.
pub(super) fn rejected(answer: &[u8]) -> Rejected {
    let answer = ExportAnswer::decode(answer).unwrap_or_default();
    let partial = answer.partial.unwrap_or_default();
    let why: String = partial.why.chars().take(LONGEST_REASON).collect();
    Rejected {
        count: u64::try_from(partial.rejected).unwrap_or_default(),
        why: in_one_line(&why),
    }
}

/// Telemetry of a service.
#[derive(Default)]
struct OfService<'a> {
    spans: Vec<Span>,
    reported: Vec<&'a [u8]>,
}

/// Encodes telemetry of one kind as a request for its export, that of each service
/// together.
pub(super) fn encode(batch: &[&Telemetry]) -> Vec<u8> {
    let mut services: BTreeMap<&Arc<str>, OfService<'_>> = BTreeMap::new();
    for telemetry in batch {
        match telemetry {
            Telemetry::Span(span) => {
                let of = services.entry(&span.service).or_default();
                of.spans.push(Span::from(span));
            }
            Telemetry::Reported(reported) => {
                let of = services.entry(&reported.service).or_default();
                of.reported
                    .extend(reported.scopes.iter().map(Vec::as_slice));
            }
            Telemetry::Lost => {}
        }
    }
    let request = ExportRequest {
        resources: services.into_iter().map(resource).collect(),
    };
    request.encode_to_vec()
}

fn resource((service, of): (&Arc<str>, OfService<'_>)) -> ResourceTelemetry {
    let own = (!of.spans.is_empty()).then(|| {
        let scope = ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "netwasm".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            spans: of.spans,
        };
        scope.encode_to_vec()
    });
    let reported = of.reported.into_iter().map(<[u8]>::to_vec);
    let attributes = vec![attribute(
        "service.name",
        &Attribute::Text(service.to_string()),
    )];
    ResourceTelemetry {
        resource: Some(Resource { attributes }),
        scopes: own.into_iter().chain(reported).collect(),
    }
}

fn attribute(key: &str, value: &Attribute) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => AnyValue::Text(text.clone()),
        Attribute::Whole(number) => AnyValue::Whole(*number),
        Attribute::Number(number) => AnyValue::Number(*number),
    };
    KeyValue {
        key: key.to_owned(),
        value: Some(OtlpValue { value: Some(value) }),
    }
}

impl From<&trace::Span> for Span {
    fn from(from: &trace::Span) -> Self {
        /// The flags say where the parent is, and that is another process.
        const REMOTE: u32 = 0x300;
        /// The parent is in this process.
        const LOCAL: u32 = 0x100;
        let sampled = u32::from(from.context.sampled);
        let (kind, origin) = match from.side {
            Side::Server => (2, REMOTE),
            Side::Client => (3, LOCAL),
        };
        let parent = from.parent.as_ref();
        let begun = nanoseconds(from.begun);
        let took = u64::try_from(from.took.as_nanos()).unwrap_or(u64::MAX);
        let attributes = from.attributes.iter();
        Self {
            trace_id: from.context.trace.to_vec(),
            span_id: from.context.span.to_vec(),
            trace_state: from.state.clone().unwrap_or_default(),
            parent_span_id: parent.map(|it| it.to_vec()).unwrap_or_default(),
            name: from.name.clone(),
            kind,
            start_time_unix_nano: begun,
            end_time_unix_nano: begun.saturating_add(took),
            attributes: attributes
                .map(|(key, value)| attribute(key, value))
                .collect(),
            status: from.failed.then_some(Status { code: 2 }),
            flags: sampled | if parent.is_some() { origin } else { 0 },
        }
    }
}

/// `ExportTraceServiceResponse`, and those for logs and metrics, which are alike.
#[derive(Clone, PartialEq, Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    why: String,
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceTelemetry>,
}

/// `ResourceSpans`, `ResourceLogs` or `ResourceMetrics`.
#[derive(Clone, PartialEq, Message)]
struct ResourceTelemetry {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    /// Messages of scopes, encoded.
    #[prost(bytes = "vec", repeated, tag = "2")]
    scopes: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
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
    /// `SpanKind`: 2 is a server's, 3 a client's.
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    /// `StatusCode`: 2 is an error.
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<OtlpValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OtlpValue {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_reject_a_part() {
        let answer = |rejected, why: &str| {
            let partial = PartialSuccess {
                rejected,
                why: why.into(),
            };
            let answer = ExportAnswer {
                partial: Some(partial),
            };
            self::rejected(&answer.encode_to_vec())
        };
        let told = answer(7, "too\nold\u{1b}[2J");
        assert_eq!((told.count, &*told.why), (7, "too old\\u{1b}[2J"));
        assert_eq!(answer(1, &"x".repeat(10_000)).why.len(), LONGEST_REASON);
        assert_eq!(answer(-1, "").count, 0);
        for none in [&b""[..], b"{}", b"\xff\xff"] {
            assert_eq!(self::rejected(none), Rejected::default());
        }
    }
}
