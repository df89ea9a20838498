//! Traces: identities by W3C Trace Context, what is sampled, and finished spans.
//!
//! ```text
//!   traceparent --> Context --> Trace (of a request being handled)
//!                                 |  its end, and each request of the guest
//!                                 v
//!                   Tracer.end: Span --> the exporter's queue, if there is room
//!                                               ^
//!   a guest's spans, logs, metrics --> Tracer.report
//! ```

mod context;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::context::random;

pub use self::context::{Context, Hex};

/// Longest `tracestate` that goes on, in bytes: what section 3.3.1.5 of W3C
/// Trace Context wants at least.
pub const LONGEST_STATE: usize = 512;

/// Maximum of spans of a guest within each other that are noted.
const MOST_OPEN: usize = 64;

/// Longest text of a span's attribute, in bytes: most are what a client has sent. What
/// is beyond is cut off, as many spans wait, and are sent, together.
pub const LONGEST_TEXT: usize = 2 << 10;

/// Size that a span has about besides the texts of its attributes, in bytes.
const SPAN: usize = 1 << 10;

/// Returns the nanoseconds since 1970.
#[must_use]
pub fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A request that is being handled, as a span of a trace.
#[derive(Debug)]
pub struct Trace {
    /// Its identity.
    pub context: Context,
    /// Span of the client, if it has told one.
    pub parent: Option<[u8; 8]>,
    /// `tracestate`, which goes on as it came.
    pub state: Option<String>,
    /// Time of its beginning.
    pub begun: SystemTime,
    guest: Cell<Duration>,
    upstream: Cell<Duration>,
    /// Spans that the guest has begun and not ended, the latest last.
    open: RefCell<Vec<Context>>,
}

impl Trace {
    /// Notes a span that the guest has begun within this one. Of more than 64 that
    /// have not ended, the oldest are forgotten.
    pub fn enter(&self, span: Context) {
        let mut open = self.open.borrow_mut();
        if open.len() >= MOST_OPEN {
            open.remove(0);
        }
        open.push(span);
    }

    /// Notes that a span of the guest has ended, in whatever order.
    pub fn leave(&self, span: [u8; 8]) {
        self.open.borrow_mut().retain(|it| it.span != span);
    }

    /// Returns the span that the guest began last and has not ended, or else this
    /// one: what is done now is within it.
    #[must_use]
    pub fn innermost(&self) -> Context {
        let open = self.open.borrow();
        open.last().copied().unwrap_or(self.context)
    }

    /// Returns the `tracestate` of a span, if it is of this trace.
    #[must_use]
    pub fn state_of(&self, span: &Context) -> Option<&str> {
        let state = self.state.as_deref();
        state.filter(|_| span.trace == self.context.trace)
    }

    /// Adds to the time that the guest took.
    pub fn add_guest(&self, took: Duration) {
        self.guest.set(self.guest.get().saturating_add(took));
    }

    /// Returns the time that the guest took.
    #[must_use]
    pub fn guest(&self) -> Duration {
        self.guest.get()
    }

    /// Adds to the time in which others answered the guest's requests.
    pub fn add_upstream(&self, took: Duration) {
        self.upstream.set(self.upstream.get().saturating_add(took));
    }

    /// Returns the time in which others answered the guest's requests.
    #[must_use]
    pub fn upstream(&self) -> Duration {
        self.upstream.get()
    }
}

/// Side of an exchange that a span describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A request that was answered.
    Server,
    /// A request that was sent.
    Client,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
}

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its identity.
    pub context: Context,
    /// The span that it is within.
    pub parent: Option<[u8; 8]>,
    /// `tracestate`.
    pub state: Option<String>,
    /// Name of the service.
    pub service: Arc<str>,
    /// Its side.
    pub side: Side,
    /// Its name.
    pub name: String,
    /// Time of its beginning.
    pub begun: SystemTime,
    /// Its duration.
    pub took: Duration,
    /// True if it is an error.
    pub failed: bool,
    /// Attributes, by OpenTelemetry's conventions.
    pub attributes: Vec<(&'static str, Attribute)>,
}

impl Span {
    /// Returns the size that it has about as a message, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let texts = self.attributes.iter().map(|(_, value)| match value {
            Attribute::Text(text) => text.len(),
            Attribute::Whole(_) | Attribute::Number(_) => 0,
        });
        SPAN + texts.sum::<usize>()
    }
}

/// Kind of telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Spans.
    Traces,
    /// Records of a log.
    Logs,
    /// Metrics.
    Metrics,
}

impl fmt::Display for SignalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        })
    }
}

/// Telemetry that a guest reports: a span, a record of a log, or metrics.
#[derive(Clone, Debug)]
pub struct Reported {
    /// Its kind.
    pub kind: SignalKind,
    /// Name of the service.
    pub service: Arc<str>,
    /// Messages `ScopeSpans`, `ScopeLogs` or `ScopeMetrics` of OTLP, encoded.
    pub scopes: Vec<Vec<u8>>,
}

impl Reported {
    /// Returns the size of the messages in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.scopes.iter().map(Vec::len).sum()
    }
}

/// Telemetry for the exporter.
#[derive(Clone, Debug)]
pub enum Telemetry {
    /// A span of the host.
    Span(Span),
    /// Telemetry of a guest.
    Reported(Reported),
    /// Telemetry of a guest that cannot be sent, to be counted.
    Lost,
}

/// Receiver of telemetry. Returns false if it finds no room.
pub type Sink = Arc<dyn Fn(Telemetry) -> bool + Send + Sync>;

/// Traces of the requests of a service.
#[derive(Clone)]
pub struct Tracer {
    service: Arc<str>,
    /// Traces whose numbers are below it are sampled.
    threshold: u64,
    sink: Sink,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Tracer {
    /// Returns the tracer of a service. Of the traces that begin here, this part
    /// is sampled: 0 to 1.
    pub fn new(service: &str, ratio: f64, sink: &Sink) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a float becomes the nearest number that there is"
        )]
        let threshold = (ratio.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Self {
            service: service.into(),
            threshold,
            sink: Arc::clone(sink),
        }
    }

    /// Begins the span of a request with this `traceparent` and `tracestate`.
    /// Without a usable one, a trace begins.
    #[must_use]
    pub fn begin(&self, parent: Option<&[u8]>, state: Option<&[u8]>) -> Trace {
        let parent = parent.and_then(Context::parse);
        let context = match &parent {
            Some(parent) => parent.child(),
            None => {
                let (high, low) = (random(), random());
                let mut trace = [0; 16];
                let (first, last) = trace.split_at_mut(8);
                first.copy_from_slice(&high.to_be_bytes());
                last.copy_from_slice(&low.to_be_bytes());
                Context {
                    trace,
                    span: random().to_be_bytes(),
                    sampled: self.threshold == u64::MAX || low < self.threshold,
                }
            }
        };
        // Without a parent it means nothing: section 3.3.
        let state = state.filter(|text| parent.is_some() && text.len() <= LONGEST_STATE);
        let state = state.and_then(|text| std::str::from_utf8(text).ok());
        Trace {
            context,
            parent: parent.map(|parent| parent.span),
            state: state.map(str::to_owned),
            begun: SystemTime::now(),
            guest: Cell::default(),
            upstream: Cell::default(),
            open: RefCell::default(),
        }
    }

    /// Ends the span of a request, if it is sampled.
    pub fn end(
        &self,
        trace: &Trace,
        name: String,
        begun: Instant,
        failed: bool,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        if !trace.context.sampled {
            return;
        }
        self.export(Span {
            context: trace.context,
            parent: trace.parent,
            state: trace.state.clone(),
            service: Arc::clone(&self.service),
            side: Side::Server,
            name,
            begun: trace.begun,
            took: begun.elapsed(),
            failed,
            attributes,
        });
    }

    /// Ends a span within that of a request: of another one, that the guest sent.
    /// `parent` is the span that it is directly within.
    pub fn end_within(
        &self,
        trace: &Trace,
        (context, parent): (Context, [u8; 8]),
        name: String,
        (begun, took): (SystemTime, Duration),
        failed: bool,
        attributes: Vec<(&'static str, Attribute)>,
    ) {
        if !context.sampled {
            return;
        }
        self.export(Span {
            context,
            parent: Some(parent),
            state: trace.state_of(&context).map(str::to_owned),
            service: Arc::clone(&self.service),
            side: Side::Client,
            name,
            begun,
            took,
            failed,
            attributes,
        });
    }

    /// Passes on telemetry of a guest: messages of OTLP, as [`Reported::scopes`]
    /// has them. Returns false if they are not taken, which is counted.
    #[must_use]
    pub fn report(&self, kind: SignalKind, scopes: Vec<Vec<u8>>) -> bool {
        (self.sink)(Telemetry::Reported(Reported {
            kind,
            service: Arc::clone(&self.service),
            scopes,
        }))
    }

    /// Counts telemetry of a guest that cannot be sent.
    pub fn lose(&self) {
        let _ = (self.sink)(Telemetry::Lost);
    }

    fn export(&self, mut span: Span) {
        for (_, value) in &mut span.attributes {
            if let Attribute::Text(text) = value
                && text.len() > LONGEST_TEXT
            {
                text.truncate(text.floor_char_boundary(LONGEST_TEXT));
                text.shrink_to_fit();
            }
        }
        // The sink counts those that find no room.
        let _ = (self.sink)(Telemetry::Span(span));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn tracer(ratio: f64) -> (Tracer, Arc<std::sync::Mutex<Vec<Span>>>) {
        let spans = Arc::<std::sync::Mutex<Vec<Span>>>::default();
        let into = Arc::clone(&spans);
        let sink: Sink = Arc::new(move |telemetry| {
            if let Telemetry::Span(span) = telemetry {
                into.lock().expect("no panic").push(span);
            }
            true
        });
        (Tracer::new("a", ratio, &sink), spans)
    }

    #[test]
    fn a_parent_decides_what_is_sampled_and_else_the_ratio() {
        let (never, spans) = tracer(0.0);
        let (always, _) = tracer(1.0);
        let within = never.begin(Some(PARENT.as_bytes()), Some(b"a=1"));
        assert!(within.context.sampled);
        assert_eq!(within.state.as_deref(), Some("a=1"));
        let parent = Context::parse(PARENT.as_bytes()).expect("a parent");
        assert_eq!(within.context.trace, parent.trace);
        assert_eq!(within.parent, Some(parent.span));
        assert_ne!(within.context.span, parent.span);
        let unsampled = PARENT.replace("-01", "-00");
        assert!(
            !always
                .begin(Some(unsampled.as_bytes()), None)
                .context
                .sampled
        );
        let own = never.begin(Some(b"nonsense"), Some(b"a=1"));
        assert!(!own.context.sampled && own.parent.is_none() && own.state.is_none());
        assert!(always.begin(None, None).context.sampled);
        let (half, _) = tracer(0.5);
        let sampled = (0..1000).filter(|_| half.begin(None, None).context.sampled);
        assert!((350..650).contains(&sampled.count()));
        let end = |trace: &Trace| never.end(trace, "GET".into(), Instant::now(), false, Vec::new());
        end(&own);
        end(&within);
        let all = spans.lock().expect("no panic");
        assert_eq!(all.len(), 1, "the other is not sampled");
        assert_eq!((&*all[0].service, all[0].parent), ("a", Some(parent.span)));
    }

    #[test]
    fn long_texts_of_a_span_are_cut_between_characters() {
        let (tracer, spans) = tracer(1.0);
        let trace = tracer.begin(None, None);
        let text = |text: String| ("user_agent.original", Attribute::Text(text));
        let all = vec![
            text("ä".repeat(20_000)),
            text("short".into()),
            text(format!("a{}", "ä".repeat(20_000))),
        ];
        tracer.end(&trace, "GET".into(), Instant::now(), false, all);
        let spans = spans.lock().expect("no panic");
        let lengths = spans[0].attributes.iter().map(|(_, value)| match value {
            Attribute::Text(text) => text.len(),
            other => panic!("no text: {other:?}"),
        });
        let lengths: Vec<_> = lengths.collect();
        assert_eq!(lengths, [LONGEST_TEXT, 5, LONGEST_TEXT - 1]);
        assert_eq!(spans[0].size(), SPAN + 2 * LONGEST_TEXT + 4);
    }

    #[test]
    fn the_span_that_a_guest_began_last_is_the_innermost() {
        let (tracer, _) = tracer(1.0);
        let trace = tracer.begin(None, None);
        assert_eq!(trace.innermost(), trace.context);
        let (outer, inner) = (trace.context.child(), trace.context.child());
        trace.enter(outer);
        trace.enter(inner);
        assert_eq!(trace.innermost(), inner);
        // An outer one may end before those within it.
        trace.leave(outer.span);
        assert_eq!(trace.innermost(), inner);
        trace.leave(inner.span);
        assert_eq!(trace.innermost(), trace.context);
        // A guest that ends none of its spans costs no memory without bounds.
        let all: Vec<Context> = (0..2 * MOST_OPEN).map(|_| trace.context.child()).collect();
        all.iter().for_each(|span| trace.enter(*span));
        assert_eq!(trace.innermost(), all[2 * MOST_OPEN - 1]);
        assert_eq!(trace.open.borrow().len(), MOST_OPEN);
    }

    #[test]
    fn a_state_stays_with_its_trace() {
        let (tracer, _) = tracer(1.0);
        let trace = tracer.begin(Some(PARENT.as_bytes()), Some(b"a=1"));
        assert_eq!(trace.state_of(&trace.context.child()), Some("a=1"));
        let other = tracer.begin(None, None).context;
        assert_eq!(trace.state_of(&other), None);
    }
}
