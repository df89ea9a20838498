//! `wasi:otel/logs`: records of guests' logs.

use std::time::SystemTime;

use netwasm_base::trace::{self, Context, SignalKind, Trace};
use netwasm_otlp::logs::{LogRecord, ScopeLogs};
use prost::Message as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, WasmList, WasmStr};

use super::reading::trace_flags::TraceFlags;
use super::reading::{
    AttributeOfGuest, Reader, ResourceOfGuest, ScopeOfGuest, Unread, WallTime, is_sampled,
};
use super::{Guest, MOST_TEXT};

/// Room for the body of a record, in bytes.
const MOST_BODY: usize = 32 << 10;

/// Largest number of a severity.
const MOST_SEVERE: u8 = 24;

/// `log-record`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct RecordOfGuest {
    timestamp: Option<WallTime>,
    #[component(name = "observed-timestamp")]
    observed: Option<WallTime>,
    #[component(name = "severity-text")]
    severity_text: Option<WasmStr>,
    #[component(name = "severity-number")]
    severity_number: Option<u8>,
    body: Option<WasmStr>,
    attributes: Option<WasmList<AttributeOfGuest>>,
    #[component(name = "event-name")]
    event_name: Option<WasmStr>,
    #[component(name = "resource")]
    _resource: Option<ResourceOfGuest>,
    #[component(name = "instrumentation-scope")]
    scope: Option<ScopeOfGuest>,
    #[component(name = "trace-id")]
    trace_id: Option<WasmStr>,
    #[component(name = "span-id")]
    span_id: Option<WasmStr>,
    #[component(name = "trace-flags")]
    flags: Option<TraceFlags>,
}

pub(super) fn define<T: Guest>(interface: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    interface.func_wrap(
        "on-emit",
        |store: StoreContextMut<'_, T>, (record,): (RecordOfGuest,)| emit(store, &record),
    )
}

/// Reports a record. Traces that are not sampled have records, too.
fn emit<T: Guest>(
    mut store: StoreContextMut<'_, T>,
    record: &RecordOfGuest,
) -> wasmtime::Result<()> {
    let Some(tracer) = store.data().env().net.tracer.clone() else {
        return Ok(());
    };
    let within = T::trace(&mut store).as_deref().map(Trace::innermost);
    match Reader::new(store, MOST_TEXT - MOST_BODY).record(record, within) {
        Ok(message) => {
            // One that finds no room is counted.
            let _ = tracer.report(SignalKind::Logs, vec![message.encode_to_vec()]);
        }
        Err(Unread::TooLarge) => tracer.lose(),
        Err(Unread::Trap(error)) => return Err(error),
    }
    Ok(())
}

impl<T: 'static> Reader<'_, T> {
    /// Returns a record, with the attributes for which there is room, and the
    /// beginning of its body. If it names no trace, it is `within` this span.
    fn record(
        &mut self,
        record: &RecordOfGuest,
        within: Option<Context>,
    ) -> Result<ScopeLogs, Unread> {
        let severity_text = self.name(record.severity_text.as_ref())?;
        let event_name = self.name(record.event_name.as_ref())?;
        let (scope, schema_url) = match &record.scope {
            Some(scope) => {
                let (scope, url) = self.scope(scope)?;
                (Some(scope), url)
            }
            None => (None, String::new()),
        };
        let trace_id = match &record.trace_id {
            Some(id) => self.trace_id(id)?,
            None => None,
        };
        let span_id = match &record.span_id {
            Some(id) => self.span_id(id)?,
            None => None,
        };
        let place = InTrace::of(
            (trace_id, span_id),
            record.flags.is_some_and(is_sampled),
            within,
        );
        let (attributes, dropped_attributes_count) = match &record.attributes {
            Some(attributes) => self.attributes(attributes)?,
            None => (Vec::new(), 0),
        };
        self.add_room(MOST_BODY);
        let body = record.body.as_ref().map(|body| self.value_or_cut(body));
        let body = body.transpose()?;
        let severity = record.severity_number.unwrap_or_default();
        let nanoseconds = |time: Option<WallTime>| time.map(WallTime::nanoseconds);
        let line = LogRecord {
            time_unix_nano: nanoseconds(record.timestamp).unwrap_or_default(),
            severity_number: if severity <= MOST_SEVERE {
                severity.into()
            } else {
                0
            },
            severity_text,
            body,
            attributes,
            dropped_attributes_count,
            flags: place.flags,
            trace_id: place.trace_id,
            span_id: place.span_id,
            observed_time_unix_nano: nanoseconds(record.observed)
                .unwrap_or_else(|| trace::nanoseconds(SystemTime::now())),
            event_name,
        };
        Ok(ScopeLogs {
            scope,
            log_records: vec![line],
            schema_url,
        })
    }
}

/// The trace and the span of a record.
#[derive(Debug, Default, PartialEq, Eq)]
struct InTrace {
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    flags: u32,
}

impl InTrace {
    /// Returns the place of a record that says these, or that is `within` a span
    /// and says none.
    fn of(
        (trace, span): (Option<[u8; 16]>, Option<[u8; 8]>),
        sampled: bool,
        within: Option<Context>,
    ) -> Self {
        match (trace, within) {
            (Some(trace), _) => Self {
                trace_id: trace.to_vec(),
                span_id: span.map(|it| it.to_vec()).unwrap_or_default(),
                flags: u32::from(sampled),
            },
            (None, Some(within)) => Self {
                trace_id: within.trace.to_vec(),
                span_id: within.span.to_vec(),
                flags: u32::from(within.sampled),
            },
            (None, None) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_names_no_trace_is_within_the_request() {
        let within = Context {
            trace: [1; 16],
            span: [2; 8],
            sampled: true,
        };
        let own = (Some([3; 16]), Some([4; 8]));
        let place = |trace: u8, span: u8, flags| InTrace {
            trace_id: vec![trace; 16],
            span_id: vec![span; 8],
            flags,
        };
        assert_eq!(InTrace::of(own, false, Some(within)), place(3, 4, 0));
        assert_eq!(InTrace::of(own, true, None), place(3, 4, 1));
        let none = (None, None);
        assert_eq!(InTrace::of(none, false, Some(within)), place(1, 2, 1));
        // A span without a trace means nothing.
        let half = (None, Some([4; 8]));
        assert_eq!(InTrace::of(half, true, None), InTrace::default());
        assert_eq!(InTrace::of(half, true, Some(within)), place(1, 2, 1));
    }
}
