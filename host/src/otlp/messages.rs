//! Requests for the export of telemetry, and the answers to them. The host's spans
//! become messages here; reports of guests are encoded already.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use netwasm_base::line::in_one_line;
use netwasm_base::trace::{self, Attribute, Side, Telemetry, nanoseconds};
use netwasm_otlp::attributes::{AnyValue, KeyValue, OtlpValue, Scope};
use netwasm_otlp::export::{ExportRequest, ExportResponse, Resource, ResourceTelemetry};
use netwasm_otlp::trace::{ScopeSpans, Span, SpanStatus};

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
    let answer = ExportResponse::decode(answer).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    let why: String = partial.error_message.chars().take(LONGEST_REASON).collect();
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
            Telemetry::Span(own) => {
                let of = services.entry(&own.service).or_default();
                of.spans.push(span(own));
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
            scope: Some(Scope {
                name: "netwasm".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Scope::default()
            }),
            spans: of.spans,
            schema_url: String::new(),
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

/// Returns the message of a span of the host.
fn span(from: &trace::Span) -> Span {
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
    let failed = SpanStatus {
        code: 2,
        ..SpanStatus::default()
    };
    Span {
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
        status: from.failed.then_some(failed),
        flags: sampled | if parent.is_some() { origin } else { 0 },
        ..Span::default()
    }
}

#[cfg(test)]
mod tests {
    use netwasm_otlp::export::PartialSuccess;

    use super::*;

    #[test]
    fn an_answer_may_reject_a_part() {
        let answer = |rejected, why: &str| {
            let partial = PartialSuccess {
                rejected,
                error_message: why.into(),
            };
            let answer = ExportResponse {
                partial_success: Some(partial),
            };
            self::rejected(&answer.encode_to_vec())
        };
        let told = answer(7, "too\nold\u{1b}[2J");
        assert_eq!((told.count, &*told.why), (7, "too old\\u{1b}[2J"));
        assert_eq!(answer(1, &"x".repeat(10_000)).why.len(), LONGEST_REASON);
        assert_eq!(answer(-1, "").count, 0);
        for none in [&b""[..], b"{}", b"\xff\xff"] {
            assert_eq!(rejected(none), Rejected::default());
        }
    }
}
