//! `wasi:otel/tracing`: spans of guests.

use netwasm_base::trace::{Context, Hex, SignalKind, Trace};
use netwasm_otlp::trace::{ScopeSpans, Span, SpanEvent, SpanLink, SpanStatus};
use prost::Message as _;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, WasmList, WasmStr};

use super::reading::trace_flags::TraceFlags;
use super::reading::{AttributeOfGuest, ContextOfGuest, Reader, ScopeOfGuest, Unread, WallTime};
use super::{Guest, MOST_TEXT};

/// Flags of a link: it is known where its span is, and that is another process.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Room for the text of a status, in bytes.
const MOST_MESSAGE: usize = 16 << 10;

/// `span-data`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct SpanData {
    #[component(name = "span-context")]
    context: ContextOfGuest,
    #[component(name = "parent-span-id")]
    parent: WasmStr,
    #[component(name = "span-kind")]
    kind: KindOfSpan,
    name: WasmStr,
    #[component(name = "start-time")]
    begun: WallTime,
    #[component(name = "end-time")]
    ended: WallTime,
    attributes: WasmList<AttributeOfGuest>,
    events: WasmList<EventOfSpan>,
    links: WasmList<LinkOfSpan>,
    status: StatusOfSpan,
    #[component(name = "instrumentation-scope")]
    scope: ScopeOfGuest,
    #[component(name = "dropped-attributes")]
    dropped_attributes: u32,
    #[component(name = "dropped-events")]
    dropped_events: u32,
    #[component(name = "dropped-links")]
    dropped_links: u32,
}

/// `span-kind`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "a guest's number becomes one of them")]
enum KindOfSpan {
    #[component(name = "client")]
    Client,
    #[component(name = "server")]
    Server,
    #[component(name = "producer")]
    Producer,
    #[component(name = "consumer")]
    Consumer,
    #[component(name = "internal")]
    Internal,
}

impl KindOfSpan {
    /// Returns the number that OTLP has for it.
    fn number(self) -> i32 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }
}

/// `event`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct EventOfSpan {
    name: WasmStr,
    time: WallTime,
    attributes: WasmList<AttributeOfGuest>,
}

/// `link`.
#[derive(ComponentType, Lift)]
#[component(record)]
struct LinkOfSpan {
    #[component(name = "span-context")]
    context: ContextOfGuest,
    attributes: WasmList<AttributeOfGuest>,
}

/// `status`.
#[derive(ComponentType, Lift)]
#[component(variant)]
enum StatusOfSpan {
    #[component(name = "unset")]
    Unset,
    #[component(name = "ok")]
    Good,
    #[component(name = "error")]
    Failed(WasmStr),
}

/// `span-context` for a guest.
#[derive(ComponentType, Lower)]
#[component(record)]
struct ContextOfHost {
    #[component(name = "trace-id")]
    trace_id: String,
    #[component(name = "span-id")]
    span_id: String,
    #[component(name = "trace-flags")]
    flags: TraceFlags,
    #[component(name = "is-remote")]
    is_remote: bool,
    #[component(name = "trace-state")]
    state: Vec<(String, String)>,
}

impl ContextOfHost {
    /// Returns a span of a request; the one that is none, without a request.
    fn of(trace: Option<&Trace>, context: Option<Context>) -> Self {
        let state = trace.zip(context.as_ref());
        let state = state.and_then(|(trace, context)| trace.state_of(context));
        let (trace_id, span_id, sampled) = match context {
            Some(context) => (context.trace, context.span, context.sampled),
            None => ([0; 16], [0; 8], false),
        };
        let entries = state.unwrap_or_default().split(',');
        let entries = entries.filter_map(|entry| entry.trim().split_once('='));
        Self {
            trace_id: Hex(&trace_id).to_string(),
            span_id: Hex(&span_id).to_string(),
            flags: match sampled {
                true => TraceFlags::SAMPLED,
                false => TraceFlags::empty(),
            },
            is_remote: false,
            state: entries
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

/// Links the functions, of which `current-span-context` is the name that the
/// draft's text has for `outer-span-context` since April 2026: it follows the spans
/// that the guest begins.
pub(super) fn define<T: Guest>(interface: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    interface.func_wrap(
        "on-start",
        |store: StoreContextMut<'_, T>, (context,): (ContextOfGuest,)| begin(store, &context),
    )?;
    interface.func_wrap(
        "on-end",
        |store: StoreContextMut<'_, T>, (span,): (SpanData,)| end(store, &span),
    )?;
    interface.func_wrap(
        "outer-span-context",
        |mut store: StoreContextMut<'_, T>, (): ()| {
            let trace = T::trace(&mut store);
            let own = trace.as_deref().map(|trace| trace.context);
            Ok((ContextOfHost::of(trace.as_deref(), own),))
        },
    )?;
    interface.func_wrap(
        "current-span-context",
        |mut store: StoreContextMut<'_, T>, (): ()| {
            let trace = T::trace(&mut store);
            let innermost = trace.as_deref().map(Trace::innermost);
            Ok((ContextOfHost::of(trace.as_deref(), innermost),))
        },
    )
}

/// Notes that a span has begun: requests that the guest sends are within it.
fn begin<T: Guest>(
    mut store: StoreContextMut<'_, T>,
    context: &ContextOfGuest,
) -> wasmtime::Result<()> {
    if !context.is_sampled() {
        return Ok(());
    }
    let Some(trace) = T::trace(&mut store).filter(|it| it.context.sampled) else {
        return Ok(());
    };
    match Reader::new(store, MOST_TEXT).identity(context) {
        Ok(Some(span)) => trace.enter(span),
        Ok(None) | Err(Unread::TooLarge) => {}
        Err(Unread::Trap(error)) => return Err(error),
    }
    Ok(())
}

/// Reports a span that has ended, if it and the request are sampled.
fn end<T: Guest>(mut store: StoreContextMut<'_, T>, span: &SpanData) -> wasmtime::Result<()> {
    let tracer = store.data().env().net.tracer.clone();
    let Some(tracer) = tracer.filter(|_| span.context.is_sampled()) else {
        return Ok(());
    };
    let trace = T::trace(&mut store);
    if trace.as_ref().is_some_and(|it| !it.context.sampled) {
        return Ok(());
    }
    let mut reader = Reader::new(store, MOST_TEXT - MOST_MESSAGE);
    let read = reader.identity(&span.context).and_then(|context| {
        let Some(context) = context else {
            return Ok(None);
        };
        if let Some(trace) = &trace {
            trace.leave(context.span);
        }
        reader.span(span, context).map(Some)
    });
    match read {
        Ok(Some(message)) => {
            // One that finds no room is counted.
            let _ = tracer.report(SignalKind::Traces, vec![message.encode_to_vec()]);
        }
        Ok(None) | Err(Unread::TooLarge) => tracer.lose(),
        Err(Unread::Trap(error)) => return Err(error),
    }
    Ok(())
}

impl<T: 'static> Reader<'_, T> {
    /// Returns a span, with as much of what it has as there is room for.
    fn span(&mut self, span: &SpanData, context: Context) -> Result<ScopeSpans, Unread> {
        let name = self.name(Some(&span.name))?;
        let parent = self.span_id(&span.parent)?;
        let trace_state = self.state(&span.context)?;
        let (scope, schema_url) = self.scope(&span.scope)?;
        let (attributes, attributes_dropped) = self.attributes(&span.attributes)?;
        let (events, events_dropped) = self.fitting(&span.events, Self::event)?;
        let (links, links_dropped) = self.fitting(&span.links, Self::link)?;
        self.add_room(MOST_MESSAGE);
        let status = self.status(&span.status)?;
        let span = Span {
            trace_id: context.trace.to_vec(),
            span_id: context.span.to_vec(),
            trace_state,
            parent_span_id: parent.map(|it| it.to_vec()).unwrap_or_default(),
            name,
            kind: span.kind.number(),
            start_time_unix_nano: span.begun.nanoseconds(),
            end_time_unix_nano: span.ended.nanoseconds(),
            attributes,
            dropped_attributes_count: span.dropped_attributes.saturating_add(attributes_dropped),
            events,
            dropped_events_count: span.dropped_events.saturating_add(events_dropped),
            links,
            dropped_links_count: span.dropped_links.saturating_add(links_dropped),
            status,
            // It is not told in which process the parent is.
            flags: u32::from(context.sampled),
        };
        Ok(ScopeSpans {
            scope: Some(scope),
            spans: vec![span],
            schema_url,
        })
    }

    /// Returns a status, whose text is cut.
    fn status(&mut self, status: &StatusOfSpan) -> Result<Option<SpanStatus>, Unread> {
        let (message, code) = match status {
            StatusOfSpan::Unset => return Ok(None),
            StatusOfSpan::Good => (String::new(), 1),
            StatusOfSpan::Failed(why) => {
                let message = match self.cut(why, MOST_MESSAGE) {
                    Err(Unread::TooLarge) => String::new(),
                    read => read?,
                };
                (message, 2)
            }
        };
        Ok(Some(SpanStatus { message, code }))
    }

    fn event(&mut self, event: &EventOfSpan) -> Result<SpanEvent, Unread> {
        let name = self.text(&event.name)?;
        let (attributes, dropped_attributes_count) = self.attributes(&event.attributes)?;
        Ok(SpanEvent {
            time_unix_nano: event.time.nanoseconds(),
            name,
            attributes,
            dropped_attributes_count,
        })
    }

    /// Returns a link. One to nothing is empty, as it is from other libraries.
    fn link(&mut self, link: &LinkOfSpan) -> Result<SpanLink, Unread> {
        let context = self.identity(&link.context)?;
        let remote = if link.context.is_remote { REMOTE } else { 0 };
        let trace_state = self.state(&link.context)?;
        let (attributes, dropped_attributes_count) = self.attributes(&link.attributes)?;
        Ok(SpanLink {
            trace_id: context.map(|it| it.trace.to_vec()).unwrap_or_default(),
            span_id: context.map(|it| it.span.to_vec()).unwrap_or_default(),
            trace_state,
            attributes,
            dropped_attributes_count,
            flags: u32::from(link.context.is_sampled()) | KNOWN | remote,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use netwasm_base::trace::{Sink, Tracer};

    use super::*;

    #[test]
    fn the_span_of_a_request_is_told_as_the_draft_writes_it() {
        let sink: Sink = Arc::new(|_| true);
        let tracer = Tracer::new("a", 1.0, &sink);
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = tracer.begin(Some(parent.as_bytes()), Some(b"a=b, c=d=e,f"));
        let told = ContextOfHost::of(Some(&trace), Some(trace.context));
        assert_eq!(told.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(told.span_id, Hex(&trace.context.span).to_string());
        assert!(told.flags == TraceFlags::SAMPLED && !told.is_remote);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(told.state, [pair("a", "b"), pair("c", "d=e")]);
        let none = ContextOfHost::of(None, None);
        assert_eq!(none.trace_id, "0".repeat(32));
        assert_eq!(none.span_id, "0".repeat(16));
        assert!(none.flags == TraceFlags::empty() && none.state.is_empty());
    }
}
