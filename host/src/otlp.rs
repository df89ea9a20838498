//! Export of finished spans, and of what guests report by `wasi:otel`, by the
//! OpenTelemetry protocol: OTLP over HTTP, in protobuf (`--otlp URL`).
//!
//! ```text
//!   workers --Sink--> queue (bounded) --a thread: batches--> http::client --> URL
//!                       |
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use netwasm_base::config::{Config, OtlpConfig, OtlpHeader, TlsFiles};
use netwasm_base::error::Error;
use netwasm_base::trace::{SignalKind, Sink, Telemetry};
use netwasm_net::tls::Tls;

use self::exporting::Exporting;
use self::sending::{Target, environment};

/// Spans, and reports of guests, that wait to be sent.
const QUEUE: usize = 4096;

/// Reports of guests among them: the others are for the host's spans.
const QUEUE_REPORTS: usize = QUEUE / 2;

/// Size of these reports, in bytes.
const QUEUE_BYTES: usize = 8 << 20;

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
    /// True from the first that found no room, which was logged, until none waits.
    is_behind: AtomicBool,
}

impl Counts {
    /// Returns how many were sent, or were not taken.
    fn done(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + self.failed.load(Ordering::Relaxed)
    }

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
    ending: Option<(oneshot::Sender<()>, std_mpsc::Receiver<()>)>,
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
        let (sender, spans) = mpsc::channel(QUEUE);
        let sink = sink(&target, &counts, sender);
        let (end, ending) = oneshot::channel();
        let (ended, done) = std_mpsc::channel();
        let mut exporting = Exporting::new(target, &headers, &counts, spans, ending);
        thread::Builder::new()
            .name("otlp".into())
            .spawn(move || {
                exporting.supervised(|exporting| exporting.run(&env));
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
            let text = format!("--otlp-header {name}: it is no header of HTTP");
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

/// Returns what fills the queue.
fn sink(target: &Target, counts: &Arc<Counts>, queue: mpsc::Sender<Waiting>) -> Sink {
    let (counts, takes_all) = (Arc::clone(counts), target.takes_all());
    let places = Arc::new(Semaphore::new(QUEUE_REPORTS));
    let bytes = Arc::new(Semaphore::new(QUEUE_BYTES));
    let told = AtomicBool::new(false);
    let told_lost = AtomicBool::new(false);
    let room = move |telemetry: &Telemetry| match telemetry {
        Telemetry::Span(_) => Some(None),
        Telemetry::Reported(reported) if reported.kind == SignalKind::Traces || takes_all => {
            let size = u32::try_from(reported.size()).ok()?;
            Some(Some(ReportRoom {
                _place: Arc::clone(&places).try_acquire_owned().ok()?,
                _bytes: Arc::clone(&bytes).try_acquire_many_owned(size).ok()?,
            }))
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
        let has_url = match &telemetry {
            Telemetry::Span(_) => true,
            Telemetry::Reported(reported) => reported.kind == SignalKind::Traces || takes_all,
            Telemetry::Lost => false,
        };
        let taken = room(&telemetry).is_some_and(|room| {
            let waiting = Waiting {
                telemetry,
                _room: room,
            };
            queue.try_send(waiting).is_ok()
        });
        if !taken {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            if has_url && !counts.is_behind.swap(true, Ordering::Relaxed) {
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

    /// Returns what fills a queue, the queue, and the counts.
    pub(super) fn filled() -> (Sink, mpsc::Receiver<Waiting>, Arc<Counts>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let counts = Arc::<Counts>::default();
        let target = Target::of("http://a").expect("a target");
        (sink(&target, &counts, sender), queue, counts)
    }

    fn dropped(counts: &Counts) -> u64 {
        counts.dropped.load(Ordering::Relaxed)
    }

    #[test]
    fn reports_of_guests_leave_places_for_the_spans_of_the_host() {
        let (sink, _queue, counts) = filled();
        for _ in 0..QUEUE_REPORTS {
            assert!(sink(report(1)));
        }
        // It is told once, until there is room again.
        let is_behind = || counts.is_behind.load(Ordering::Relaxed);
        assert!(!sink(Telemetry::Lost) && !is_behind());
        assert!(!sink(report(1)) && is_behind());
        assert_eq!(dropped(&counts), 2);
        let tracer = Tracer::new("a", 1.0, &sink);
        let trace = tracer.begin(None, None);
        let now = std::time::Instant::now();
        tracer.end(&trace, "GET".into(), now, false, Vec::new());
        assert_eq!(dropped(&counts), 2, "the span has a place");
    }

    #[test]
    fn reports_of_guests_are_bounded_in_size_until_they_are_sent() {
        let (sink, mut queue, counts) = filled();
        assert!(sink(report(QUEUE_BYTES)));
        assert!(!sink(report(1)));
        assert_eq!(dropped(&counts), 1);
        drop(queue.try_recv().expect("the first"));
        assert!(sink(report(1)));
        // Telemetry that a guest could not report is counted with the others.
        assert!(!sink(Telemetry::Lost));
        assert_eq!(dropped(&counts), 2);
    }
}
