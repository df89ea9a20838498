//! Export of finished spans, and of what guests report by `wasi:otel`, by the
//! OpenTelemetry protocol: OTLP over HTTP, in protobuf (`--otlp URL`).
//!
//! ```text
//!   workers --Sink--> queues (bounded) --a thread: batches--> http::client --> URLs
//!                       |  one for each kind
//!                       +-- no room: counted, and gone
//! ```
//!
//! No worker ever waits for it.

mod exporting;
mod messages;
mod sending;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use netwasm_base::config::{Config, OtlpConfig, OtlpHeader, TlsFiles};
use netwasm_base::error::Error;
use netwasm_base::trace::{SignalKind, Sink, Telemetry};
use netwasm_net::tls::Tls;

use self::exporting::Lane;
use self::sending::{Target, environment};

/// Spans, and reports of guests, that wait to be sent, of each kind.
const QUEUE: usize = 4096;

/// Reports of guests among them: the others are for the host's spans.
const QUEUE_REPORTS: usize = QUEUE / 2;

/// Size of these reports of a kind, in bytes.
const QUEUE_BYTES: usize = 4 << 20;

/// Time that the end of a run waits for the last spans.
const LAST: Duration = Duration::from_secs(2);

/// Numbers of spans, and of reports of guests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    sent: AtomicU64,
    /// Those that found no room in the queue.
    dropped: AtomicU64,
    /// Those that the receiver did not take.
    failed: AtomicU64,
}

impl Counts {
    /// Returns the numbers with their names.
    pub(crate) fn all(&self) -> [(&'static str, u64); 3] {
        [
            ("sent", &self.sent),
            ("dropped", &self.dropped),
            ("failed", &self.failed),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Headers of the next requests to a receiver. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Headers(Arc<RwLock<HeaderMap>>);

impl Headers {
    /// Takes the headers of a reload.
    ///
    /// # Errors
    /// Fails if one is none of HTTP. Then they stay as they are.
    pub(crate) fn renew(&self, settings: &[OtlpHeader]) -> Result<(), Error> {
        let renewed = headers(settings)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    fn get(&self) -> HeaderMap {
        let headers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        headers.clone()
    }
}

/// The exporter of a run.
pub(crate) struct Exporter {
    /// Takes finished spans, and reports of guests.
    pub(crate) sink: Sink,
    /// Part of the traces that begin here that is sampled: 0 to 1.
    pub(crate) ratio: f64,
    pub(crate) counts: Arc<Counts>,
    /// Headers of requests, which a reload may change.
    pub(crate) headers: Headers,
    /// Ends the thread, and says once it has ended.
    ending: Option<(watch::Sender<()>, std_mpsc::Receiver<()>)>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// Starts to export. Receivers by https are verified with the system's
    /// authorities and those of the services (`--ca`).
    ///
    /// # Errors
    /// Fails if a file of an authority cannot be read, or no thread is left.
    pub(crate) fn start(config: &OtlpConfig, services: &[Config]) -> Result<Self, Error> {
        let tls = TlsFiles {
            extra_roots: services
                .iter()
                .flat_map(|it| it.tls.extra_roots.iter().cloned())
                .collect(),
            ..TlsFiles::default()
        };
        let tls = Arc::new(Tls::load(&tls)?);
        let target = Target::of(&config.url)?;
        let headers = headers(&config.headers)?;
        let headers = Headers(Arc::new(RwLock::new(headers)));
        if target.is_secure() {
            tls.prepare_client();
        }
        let env = environment(&target, tls)?;
        let counts = Arc::<Counts>::default();
        let (end, ending) = watch::channel(());
        let (ended, done) = std_mpsc::channel();
        let (queues, waiting) = queues();
        let sink = sink(&target, &counts, queues);
        let lane = |waiting| Lane::new(&target, &headers, &counts, waiting, &ending);
        let mut lanes = waiting.map(lane);
        thread::Builder::new()
            .name("otlp".into())
            .spawn(move || {
                exporting::supervised(&mut lanes, |lanes| exporting::run(lanes, &env));
                // Nobody may wait for it.
                let _ = ended.send(());
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            sink,
            ratio: config.sample,
            counts,
            headers,
            ending: Some((end, done)),
        })
    }

    /// Sends the last spans at the end of a run, but does not wait long for a
    /// receiver.
    pub(crate) fn finish(mut self) {
        if let Some((end, done)) = self.ending.take()
            && end.send(()).is_ok()
            && done.recv_timeout(LAST).is_err()
        {
            tracing::warn!("the receiver of traces takes no more spans: the last ones are lost");
        }
    }
}

/// Returns headers for requests to the receiver.
fn headers(settings: &[OtlpHeader]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(settings.len());
    for OtlpHeader { name, value } in settings {
        let pair = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
        let (Ok(parsed), Ok(mut value)) = pair else {
            let text = format!("--otlp-header {name}: it is not an HTTP header");
            return Err(Error::Engine(text));
        };
        value.set_sensitive(true);
        headers.append(parsed, value);
    }
    Ok(headers)
}

/// A span or a report of a guest that waits to be sent.
struct Waiting {
    telemetry: Telemetry,
    /// Room that a report takes until it is sent.
    _room: Option<ReportRoom>,
}

/// Room of [`QUEUE_REPORTS`] and [`QUEUE_BYTES`].
struct ReportRoom {
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Queue of a kind of telemetry: a receiver that takes none of it, or wants a pause,
/// keeps no other waiting.
struct Queue {
    sender: mpsc::Sender<Waiting>,
    /// Room for reports of guests.
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    is_behind: Arc<AtomicBool>,
}

/// The other end of a queue.
struct Queued {
    kind: SignalKind,
    waiting: mpsc::Receiver<Waiting>,
    /// True from the first that found no room, which was logged, until none waits.
    is_behind: Arc<AtomicBool>,
}

/// The queues of all kinds.
struct Queues {
    traces: Queue,
    logs: Queue,
    metrics: Queue,
}

impl Queue {
    fn new(kind: SignalKind) -> (Self, Queued) {
        let (sender, waiting) = mpsc::channel(QUEUE);
        let is_behind = Arc::<AtomicBool>::default();
        let queue = Self {
            sender,
            places: Arc::new(Semaphore::new(QUEUE_REPORTS)),
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES)),
            is_behind: Arc::clone(&is_behind),
        };
        let queued = Queued {
            kind,
            waiting,
            is_behind,
        };
        (queue, queued)
    }

    /// Takes room for a report of this size.
    fn room(&self, size: usize) -> Option<ReportRoom> {
        let size = u32::try_from(size).ok()?;
        Some(ReportRoom {
            _place: Arc::clone(&self.places).try_acquire_owned().ok()?,
            _bytes: Arc::clone(&self.bytes).try_acquire_many_owned(size).ok()?,
        })
    }
}

impl Queues {
    fn of(&self, kind: SignalKind) -> &Queue {
        match kind {
            SignalKind::Traces => &self.traces,
            SignalKind::Logs => &self.logs,
            SignalKind::Metrics => &self.metrics,
        }
    }
}

/// Returns queues, and their other ends.
fn queues() -> (Queues, [Queued; 3]) {
    let (traces, queued_traces) = Queue::new(SignalKind::Traces);
    let (logs, queued_logs) = Queue::new(SignalKind::Logs);
    let (metrics, queued_metrics) = Queue::new(SignalKind::Metrics);
    let queues = Queues {
        traces,
        logs,
        metrics,
    };
    (queues, [queued_traces, queued_logs, queued_metrics])
}

/// Returns what fills the queues.
fn sink(target: &Target, counts: &Arc<Counts>, queues: Queues) -> Sink {
    let (counts, takes_all) = (Arc::clone(counts), target.takes_all());
    let told = AtomicBool::new(false);
    let told_lost = AtomicBool::new(false);
    // Returns the queue, unless there is no URL for it.
    let queue_of = move |telemetry: &Telemetry| match telemetry {
        Telemetry::Span(_) => Some(SignalKind::Traces),
        Telemetry::Reported(reported) if reported.kind == SignalKind::Traces || takes_all => {
            Some(reported.kind)
        }
        Telemetry::Reported(_) => {
            if !told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "logs and metrics of guests are lost: their URLs are known only if that of \
                     --otlp ends with /v1/traces, or has no path"
                );
            }
            None
        }
        Telemetry::Lost => {
            if !told_lost.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "a guest's span, record or metrics are lost, as they are too large, or name no \
                     span: others are only counted (trace_spans)"
                );
            }
            None
        }
    };
    Arc::new(move |telemetry| {
        let queue = queue_of(&telemetry).map(|kind| queues.of(kind));
        let room = |queue: &Queue| match &telemetry {
            Telemetry::Reported(reported) => queue.room(reported.size()).map(Some),
            Telemetry::Span(_) | Telemetry::Lost => Some(None),
        };
        let room = queue.and_then(room);
        let taken = queue.zip(room).is_some_and(|(queue, room)| {
            let waiting = Waiting {
                telemetry,
                _room: room,
            };
            queue.sender.try_send(waiting).is_ok()
        });
        if !taken {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            if queue.is_some_and(|it| !it.is_behind.swap(true, Ordering::Relaxed)) {
                tracing::warn!(
                    "telemetry is lost, as there is more of it than its receiver takes (--otlp): \
                     trace_spans counts it"
                );
            }
        }
        taken
    })
}

#[cfg(test)]
mod tests {
    use netwasm_base::trace::{Reported, Tracer};

    use super::*;

    pub(super) fn report(size: usize) -> Telemetry {
        Telemetry::Reported(Reported {
            kind: SignalKind::Logs,
            service: "a".into(),
            scopes: vec![vec![0; size]],
        })
    }

    /// Returns what fills the queues, their other ends, and the counts.
    pub(super) fn filled() -> (Sink, [Queued; 3], Arc<Counts>) {
        let (queues, queued) = queues();
        let counts = Arc::<Counts>::default();
        let target = Target::of("http://a").expect("a target");
        (sink(&target, &counts, queues), queued, counts)
    }

    fn dropped(counts: &Counts) -> u64 {
        counts.dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn reports_of_guests_leave_places_for_the_spans_of_the_host() {
        let (sink, queued, counts) = filled();
        let of_kind = |kind| {
            Telemetry::Reported(Reported {
                kind,
                service: "a".into(),
                scopes: vec![vec![0]],
            })
        };
        for _ in 0..QUEUE_REPORTS {
            assert!(sink(of_kind(SignalKind::Traces)));
        }
        // It is told once, until there is room again.
        let [traces, logs, _] = &queued;
        let is_behind = || traces.is_behind.load(Ordering::Relaxed);
        assert!(!sink(Telemetry::Lost) && !is_behind());
        assert!(!sink(of_kind(SignalKind::Traces)) && is_behind());
        assert_eq!(dropped(&counts), 2);
        // Other kinds have room of their own.
        assert!(sink(of_kind(SignalKind::Logs)) && sink(of_kind(SignalKind::Metrics)));
        assert!(!logs.is_behind.load(Ordering::Relaxed));
        let tracer = Tracer::new("a", 1.0, &sink);
        let trace = tracer.begin(None, None);
        let now = std::time::Instant::now();
        tracer.end(&trace, "GET".into(), now, false, Vec::new());
        assert_eq!(dropped(&counts), 2, "the span has a place");
    }

    #[test]
    fn reports_of_guests_are_bounded_in_size_until_they_are_sent() {
        let (sink, [_traces, mut logs, _metrics], counts) = filled();
        assert!(sink(report(QUEUE_BYTES)));
        assert!(!sink(report(1)));
        assert_eq!(dropped(&counts), 1);
        drop(logs.waiting.try_recv().expect("the first"));
        assert!(sink(report(1)));
        // Telemetry that a guest could not report is counted with the others.
        assert!(!sink(Telemetry::Lost));
        assert_eq!(dropped(&counts), 2);
    }
}
