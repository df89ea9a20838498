//! Export of finished spans by the OpenTelemetry protocol: OTLP over HTTP, in
//! protobuf (`--otlp URL`).
//!
//! ```text
//!   workers --Sink--> queue (bounded) --a thread: batches--> http::client --> URL
//!                       |
//!                       +-- no room: counted, and gone
//! ```
//!
//! No worker ever waits for it.

mod messages;

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use send_wrapper::SendWrapper;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use netwasm_base::config::{
    ClientRules, Config, DnsConfig, Limits, OtlpConfig, OtlpHeader, TlsFiles,
};
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};
use netwasm_base::policy::Policy;
use netwasm_base::trace::{Sink, Span};
use netwasm_exchange::outgoing::{Exchange, Outgoing as _, SendOptions};
use netwasm_http::client::Client;
use netwasm_net::clients::Clients;
use netwasm_net::env::{Env, Settings};
use netwasm_net::permits::Permits;
use netwasm_net::places::Places;
use netwasm_net::tls::Tls;
use netwasm_net::turns::Steps;
use netwasm_net::worker::Worker;

/// Spans that wait to be sent.
const QUEUE: usize = 4096;

/// Spans of a request.
const BATCH: usize = 512;

/// Time for which spans are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// Time limit of each step of a request.
const STEP: Duration = Duration::from_secs(10);

/// Pauses before each further attempt, where the receiver asks to try again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Largest answer, in bytes.
const ANSWER: usize = 64 << 10;

/// Time that the end of a run waits for the last spans.
const LAST: Duration = Duration::from_secs(2);

/// Numbers of spans.
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
    /// Takes finished spans.
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
        let (end, ending) = oneshot::channel();
        let (ended, done) = std_mpsc::channel();
        let sending = Sending {
            target,
            headers: headers.clone(),
            counts: Arc::clone(&counts),
            is_failing: false,
        };
        thread::Builder::new()
            .name("otlp".into())
            .spawn(move || {
                run(env, sending, spans, ending);
                // Nobody may wait for it.
                let _ = ended.send(());
            })
            .map_err(Error::Thread)?;
        let dropped = Arc::clone(&counts);
        let sink: Sink = Arc::new(move |span| {
            let taken = sender.try_send(span).is_ok();
            if !taken {
                dropped.dropped.fetch_add(1, Ordering::Relaxed);
            }
            taken
        });
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

/// Where spans go to.
#[derive(Clone, Debug)]
struct Target(Uri);

impl Target {
    /// Returns the target of a URL. Without a path, it is OTLP's own.
    fn of(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Engine(format!("--otlp {url}: it is no URL of http or https"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let mut parts = uri.into_parts();
        if parts.scheme.is_none() || parts.authority.is_none() {
            return Err(wrong());
        }
        let path = parts.path_and_query.as_ref();
        if path.is_none_or(|path| path.as_str() == "/") {
            parts.path_and_query = "/v1/traces".parse().ok();
        }
        Uri::from_parts(parts).map(Self).map_err(|_| wrong())
    }

    fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Returns a policy that allows to connect there, whatever addresses its
    /// name has.
    fn policy(&self) -> Policy {
        let default = if self.is_secure() { 443 } else { 80 };
        let port = self.0.port_u16().unwrap_or(default);
        let host = self.0.host().unwrap_or_default();
        let rules = [
            format!("{host}:{port}"),
            format!("0.0.0.0/0:{port}"),
            format!("[::/0]:{port}"),
        ];
        Policy {
            // A host that is none cannot be connected to.
            connect: rules.iter().filter_map(|rule| rule.parse().ok()).collect(),
            ..Policy::default()
        }
    }
}

/// Returns what an HTTP client needs. No guest has it.
fn environment(target: &Target, tls: Arc<Tls>) -> Result<Arc<Env>, Error> {
    let limits = Limits::default();
    let counters = Arc::<Counters>::default();
    Env::new(Settings {
        outgoing: Permits::new(limits.max_outgoing, Vec::new()),
        limits,
        guest: "otlp",
        policy: target.policy(),
        dns: DnsConfig::default(),
        tls,
        places: Places::new(Permits::new(1, Vec::new()), &counters),
        counters,
        times_guests: false,
        tracer: None,
        steps: Steps::default(),
        proxies: Vec::new(),
        clients: Clients::new(ClientRules::default()),
        upstreams: &[],
    })
    .map(Arc::new)
}

/// Sends spans until the run ends.
fn run(
    env: Arc<Env>,
    mut sending: Sending,
    mut spans: mpsc::Receiver<Span>,
    mut ending: oneshot::Receiver<()>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "traces cannot be sent"),
    };
    runtime.block_on(async {
        let worker = Worker::new(env);
        let client = Client::new(&worker);
        let turns = Rc::clone(&worker.thread.turns);
        let main = async {
            let mut ends = false;
            let mut batch = Vec::new();
            while !ends {
                tokio::select! {
                    biased;
                    _ = &mut ending => ends = true,
                    some = spans.recv_many(&mut batch, BATCH) => ends = some == 0,
                }
                let until = Instant::now() + GATHER;
                while !ends && batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    tokio::select! {
                        biased;
                        _ = &mut ending => ends = true,
                        some = timeout_at(until, spans.recv_many(&mut batch, room)) => match some {
                            Ok(0) => ends = true,
                            Ok(_) => {}
                            Err(_elapsed) => break,
                        },
                    }
                }
                loop {
                    while ends && batch.len() < BATCH {
                        match spans.try_recv() {
                            Ok(span) => batch.push(span),
                            Err(_empty) => break,
                        }
                    }
                    if batch.is_empty() {
                        break;
                    }
                    sending.send(&client, &batch).await;
                    batch.clear();
                    if !ends {
                        break;
                    }
                }
            }
        };
        turns.run(main).await;
    });
    runtime.shutdown_background();
}

/// Sender of batches.
struct Sending {
    target: Target,
    headers: Headers,
    counts: Arc<Counts>,
    /// True if the last batch was not taken, which was logged.
    is_failing: bool,
}

/// Why a batch was not taken.
struct NotTaken {
    why: String,
    /// True if it may be sent again.
    again: bool,
}

impl Sending {
    /// Sends a batch, several times if need be.
    async fn send(&mut self, client: &Client, batch: &[Span]) {
        let body = Bytes::from(messages::encode(batch));
        let count = batch.len() as u64;
        let mut pauses = PAUSES.into_iter();
        let refused = loop {
            match self.attempt(client, body.clone()).await {
                Ok(()) => {
                    self.counts.sent.fetch_add(count, Ordering::Relaxed);
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!(url = %self.target.0, "the receiver takes traces again");
                    }
                    return;
                }
                Err(refused) if refused.again => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => break refused,
                },
                Err(refused) => break refused,
            }
        };
        self.counts.failed.fetch_add(count, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                url = %self.target.0,
                "traces are lost, as their receiver does not take them: {} (--otlp)",
                refused.why
            );
        }
    }

    async fn attempt(&self, client: &Client, body: Bytes) -> Result<(), NotTaken> {
        let lost = |why: String| NotTaken { why, again: true };
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await;
        let place = place.map_err(|error| lost(error.to_string()))?;
        let length = body.len();
        let body = Full::new(body).map_err(|never| match never {});
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.target.0.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_LENGTH, length)
            .header(
                header::USER_AGENT,
                concat!("netwasm/", env!("CARGO_PKG_VERSION")),
            )
            .body(body.boxed_unsync());
        let mut request = request.map_err(|error| lost(error.to_string()))?;
        request.headers_mut().extend(self.headers.get());
        let exchange = Exchange {
            place,
            health: SendWrapper::new(Rc::default()),
            options: SendOptions {
                connect_timeout: Some(STEP),
                first_byte_timeout: Some(STEP),
                between_bytes_timeout: Some(STEP),
            },
            trace: None,
        };
        let received = client.send(request, exchange).await;
        let (response, _) = received.map_err(|failure| lost(format!("{failure:?}")))?;
        let (head, answer) = response.into_parts();
        // Read to its end, so that the connection can be used again.
        let answer = answer.map_err(|_| ConnectionError::Broken);
        let _ = Limited::new(answer, ANSWER).collect().await;
        match head.status {
            status if status.is_success() => Ok(()),
            status => Err(NotTaken {
                why: format!("it answers {status}"),
                // As OTLP has it, "Retryable Response Codes".
                again: matches!(
                    status,
                    StatusCode::TOO_MANY_REQUESTS
                        | StatusCode::BAD_GATEWAY
                        | StatusCode::SERVICE_UNAVAILABLE
                        | StatusCode::GATEWAY_TIMEOUT
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_has_that_of_otlp() {
        for (url, target) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://a.example/", "https://a.example/v1/traces"),
            ("http://[::1]:1/x?y", "http://[::1]:1/x?y"),
        ] {
            assert_eq!(Target::of(url).expect(url).0.to_string(), target);
        }
        for wrong in ["localhost:4318", "/v1/traces", ""] {
            assert!(Target::of(wrong).is_err(), "{wrong}");
        }
        let rules = Target::of("http://a.example:1").expect("a target").policy();
        assert_eq!(rules.connect.len(), 3);
    }
}
