//! Requests to the receiver of telemetry.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use send_wrapper::SendWrapper;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use netwasm_base::config::{ClientRules, DnsConfig, Limits};
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};
use netwasm_base::policy::Policy;
use netwasm_base::trace::{SignalKind, Telemetry};
use netwasm_exchange::outgoing::{Exchange, Outgoing as _, SendOptions};
use netwasm_http::client::Client;
use netwasm_http::retry_after::retry_after;
use netwasm_net::clients::Clients;
use netwasm_net::env::{Env, Settings};
use netwasm_net::permits::Permits;
use netwasm_net::places::Places;
use netwasm_net::tls::Tls;
use netwasm_net::turns::Steps;

use super::exporting::End;
use super::messages::Rejected;
use super::{Counts, Headers, Waiting, messages};

/// Time limit of each step of a request.
const STEP: Duration = Duration::from_secs(10);

/// Pauses before each further attempt, where the receiver asks to try again.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Longest pause that a receiver may ask for (`Retry-After`): until then, others find
/// room in the queue.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Largest answer, in bytes.
const ANSWER: usize = 64 << 10;

/// Size of a request that is not exceeded by a further entry, in bytes: what stands
/// before a receiver often takes no more than 1 MiB.
const MOST_BODY: usize = 768 << 10;

/// Path that OTLP has for traces. Those for logs and metrics are beside it.
const TRACES: &str = "/v1/traces";

/// Where telemetry goes to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    traces: Uri,
    /// URLs of logs and metrics, unless that of traces has a path that says nothing
    /// about them.
    others: Option<(Uri, Uri)>,
}

impl Target {
    /// Returns the target of a URL. Without a path, it is OTLP's own.
    pub(super) fn of(url: &str) -> Result<Self, Error> {
        let wrong = || Error::Engine(format!("--otlp {url}: it is no URL of http or https"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let mut parts = uri.into_parts();
        if parts.scheme.is_none() || parts.authority.is_none() {
            return Err(wrong());
        }
        let path = parts.path_and_query.as_ref();
        if path.is_none_or(|path| path.as_str() == "/") {
            parts.path_and_query = TRACES.parse().ok();
        }
        let traces = Uri::from_parts(parts).map_err(|_| wrong())?;
        let others = beside(&traces, "logs").zip(beside(&traces, "metrics"));
        Ok(Self { traces, others })
    }

    /// True if there are URLs for telemetry of all kinds.
    pub(super) fn takes_all(&self) -> bool {
        self.others.is_some()
    }

    fn url(&self, kind: SignalKind) -> Option<&Uri> {
        let others = self.others.as_ref();
        match kind {
            SignalKind::Traces => Some(&self.traces),
            SignalKind::Logs => others.map(|(logs, _)| logs),
            SignalKind::Metrics => others.map(|(_, metrics)| metrics),
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.traces.scheme_str() == Some("https")
    }

    /// Returns a policy that allows to connect there, whatever addresses its
    /// name has.
    fn policy(&self) -> Policy {
        let default = if self.is_secure() { 443 } else { 80 };
        let port = self.traces.port_u16().unwrap_or(default);
        let host = self.traces.host().unwrap_or_default();
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

/// Returns the URL of telemetry of another kind, if that of traces has OTLP's path.
fn beside(traces: &Uri, kind: &str) -> Option<Uri> {
    let before = traces.path().strip_suffix(TRACES)?;
    let query = traces.query().map(|query| format!("?{query}"));
    let path = format!("{before}/v1/{kind}{}", query.unwrap_or_default());
    let mut parts = traces.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Returns what an HTTP client needs. No guest has it.
pub(super) fn environment(target: &Target, tls: Arc<Tls>) -> Result<Arc<Env>, Error> {
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

/// Sender of batches of a kind of telemetry.
pub(super) struct Sending {
    kind: SignalKind,
    target: Target,
    headers: Headers,
    counts: Arc<Counts>,
    intake: Intake,
    /// Number of those of the present batch that were sent, or were not taken.
    done: u64,
}

/// Behaviour of a receiver.
#[derive(Default)]
struct Intake {
    /// True if the last request was not taken, which was logged.
    is_failing: bool,
    /// True if not all of the last request was taken, which was logged.
    is_rejecting: bool,
    /// Time before which it wants no further request.
    closed_until: Option<Instant>,
}

impl Intake {
    /// True if it takes nothing, and wants no request yet.
    fn is_closed(&self) -> bool {
        self.is_failing
            && self
                .closed_until
                .is_some_and(|until| until > Instant::now())
    }
}

/// Why a request was not taken.
struct NotTaken {
    why: String,
    /// True if it may be sent again.
    again: bool,
    /// Pause that the receiver asks for, bounded by [`LONGEST_PAUSE`].
    pause: Option<Duration>,
}

impl Sending {
    pub(super) fn new(
        kind: SignalKind,
        target: &Target,
        headers: &Headers,
        counts: &Arc<Counts>,
    ) -> Self {
        Self {
            kind,
            target: target.clone(),
            headers: headers.clone(),
            counts: Arc::clone(counts),
            intake: Intake::default(),
            done: 0,
        }
    }

    /// Counts telemetry of a batch.
    pub(super) fn count(&mut self, sent: u64, failed: u64) {
        self.counts.sent.fetch_add(sent, Ordering::Relaxed);
        self.counts.failed.fetch_add(failed, Ordering::Relaxed);
        self.done += sent + failed;
    }

    /// Counts the rest of a batch that has so many as failed.
    pub(super) fn give_up(&mut self, batch: u64) {
        let rest = batch.saturating_sub(self.done);
        self.count(0, rest);
        self.done = 0;
    }

    /// Sends a batch, in as few requests as possible: of traces, the host's spans
    /// first, and then what guests report. At the end of a run, each is tried once.
    pub(super) async fn send(&mut self, client: &Client, batch: &[Waiting], end: &mut End) {
        self.done = 0;
        let all = || batch.iter().map(|it| &it.telemetry);
        let is_own = |it: &&Telemetry| matches!(it, Telemetry::Span(_));
        self.send_all(client, all().filter(is_own), end).await;
        let reported = all().filter(|it| !is_own(it));
        self.send_all(client, reported, end).await;
        self.done = 0;
    }

    async fn send_all<'a>(
        &mut self,
        client: &Client,
        all: impl Iterator<Item = &'a Telemetry>,
        end: &mut End,
    ) {
        let mut left = all.peekable();
        while left.peek().is_some() {
            let (mut part, mut size) = (Vec::new(), 0);
            while let Some(next) =
                left.next_if(|it| part.is_empty() || size + messages::size(it) <= MOST_BODY)
            {
                size += messages::size(next);
                part.push(next);
            }
            self.send_part(client, &part, end).await;
        }
    }

    /// Sends a request, several times if need be. While the receiver takes none, it is
    /// tried once, or not at all if the receiver wants a pause.
    async fn send_part(&mut self, client: &Client, part: &[&Telemetry], end: &mut End) {
        let count = part.len() as u64;
        let kind = self.kind;
        // Telemetry without a URL is not queued.
        let Some(url) = self.target.url(kind).cloned() else {
            return;
        };
        let url = &url;
        if self.intake.is_closed() && !end.has_come {
            return self.count(0, count);
        }
        let body = Bytes::from(messages::encode(part));
        let pauses: &[Duration] = match self.intake.is_failing || end.has_come {
            true => &[],
            false => &PAUSES,
        };
        let mut pauses = pauses.iter();
        let refused = loop {
            match attempt(client, url, &self.headers, body.clone()).await {
                Ok(Rejected { count: some, why }) => {
                    // Of metrics, it counts points, of which a report has several.
                    let some = some.min(count);
                    self.count(count - some, some);
                    if std::mem::take(&mut self.intake.is_failing) {
                        let url = shown(url);
                        tracing::info!(url, "the receiver takes {kind} again");
                    }
                    let rejecting = &mut self.intake.is_rejecting;
                    let was_rejecting = std::mem::replace(rejecting, some > 0);
                    if some > 0 && !was_rejecting {
                        let url = shown(url);
                        tracing::warn!(
                            url,
                            why,
                            "some {kind} are lost, as their receiver does not take all (--otlp)"
                        );
                    }
                    return;
                }
                Err(refused) => {
                    self.intake.closed_until = refused.pause.map(|pause| Instant::now() + pause);
                    let pause = pauses.next().filter(|_| refused.again && !end.has_come);
                    let Some(pause) = pause else {
                        break refused;
                    };
                    let asked = refused.pause.unwrap_or_default();
                    // At the end of the run, there is one more attempt, at once.
                    let _ = timeout(asked.max(*pause), end.comes()).await;
                }
            }
        };
        self.count(0, count);
        if !std::mem::replace(&mut self.intake.is_failing, true) {
            let url = shown(url);
            tracing::warn!(
                url,
                "{kind} are lost, as their receiver does not take them: {} (--otlp)",
                refused.why
            );
        }
    }
}

/// Returns a URL for the log, without its query, which may have a key.
fn shown(url: &Uri) -> String {
    let text = url.to_string();
    match text.split_once('?') {
        Some((before, _)) => format!("{before}?..."),
        None => text,
    }
}

/// Sends a request once.
async fn attempt(
    client: &Client,
    url: &Uri,
    headers: &Headers,
    body: Bytes,
) -> Result<Rejected, NotTaken> {
    let lost = |why: String| NotTaken {
        why,
        again: true,
        pause: None,
    };
    let place = Arc::new(Semaphore::new(1)).acquire_owned().await;
    let place = place.map_err(|error| lost(error.to_string()))?;
    let length = body.len();
    let body = Full::new(body).map_err(|never| match never {});
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.clone())
        .header(header::CONTENT_TYPE, "application/x-protobuf")
        .header(header::CONTENT_LENGTH, length)
        .header(
            header::USER_AGENT,
            concat!("netwasm/", env!("CARGO_PKG_VERSION")),
        )
        .body(body.boxed_unsync());
    let mut request = request.map_err(|error| lost(error.to_string()))?;
    request.headers_mut().extend(headers.get());
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
    // Read to its end, so that the connection can be used again; but not for ever.
    let answer = answer.map_err(|_| ConnectionError::Broken);
    let answer = timeout(STEP, Limited::new(answer, ANSWER).collect()).await;
    let answer = answer.ok().and_then(Result::ok);
    let answer = answer
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    match head.status {
        status if status.is_success() => Ok(messages::rejected(&answer)),
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
            pause: pause_of(status, &head.headers, SystemTime::now()),
        }),
    }
}

/// Returns the pause that an answer asks for: RFC 9110, section 10.2.3, and OTLP,
/// "OTLP/HTTP Throttling".
fn pause_of(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let is_busy = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    let pause = is_busy.then(|| retry_after(headers, now)).flatten();
    pause.map(|pause| pause.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_receiver_may_ask_for_a_pause_but_not_for_any() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let asked = |status: u16, told: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(told));
            let status = StatusCode::from_u16(status).expect("a status");
            let pause = pause_of(status, &headers, now);
            pause.map(|pause| pause.as_secs())
        };
        for (status, told, seconds) in [
            (503, "7", Some(7)),
            (429, "0", Some(0)),
            (503, "86400", Some(30)),
            (429, "Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            (429, "Sat, 06 Nov 2094 08:49:37 GMT", Some(30)),
            (503, "Sun, 06 Nov 1994 08:49:29 GMT", None),
            (503, "soon", None),
            (502, "7", None),
        ] {
            assert_eq!(asked(status, told), seconds, "{status} {told}");
        }
    }

    #[test]
    fn a_url_without_a_path_has_that_of_otlp() {
        for (url, target) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://a.example/", "https://a.example/v1/traces"),
            ("http://[::1]:1/x?y", "http://[::1]:1/x?y"),
        ] {
            assert_eq!(Target::of(url).expect(url).traces.to_string(), target);
        }
        for wrong in ["localhost:4318", "/v1/traces", ""] {
            assert!(Target::of(wrong).is_err(), "{wrong}");
        }
        let rules = Target::of("http://a.example:1").expect("a target").policy();
        assert_eq!(rules.connect.len(), 3);
    }

    #[test]
    fn the_query_of_a_url_is_not_logged() {
        let url = |text: &str| shown(&text.parse().expect("a URL"));
        assert_eq!(url("https://a/v1/traces?key=x"), "https://a/v1/traces?...");
        assert_eq!(url("http://a:1/v1/traces"), "http://a:1/v1/traces");
    }

    #[test]
    fn logs_and_metrics_go_beside_the_path_of_traces() {
        let urls = |url: &str| {
            let target = Target::of(url).expect("a target");
            let url = |kind| target.url(kind).map(ToString::to_string);
            (url(SignalKind::Logs), url(SignalKind::Metrics))
        };
        for (url, logs, metrics) in [
            ("http://a:1", "http://a:1/v1/logs", "http://a:1/v1/metrics"),
            (
                "https://a/otlp/v1/traces?x=y",
                "https://a/otlp/v1/logs?x=y",
                "https://a/otlp/v1/metrics?x=y",
            ),
        ] {
            assert_eq!(urls(url), (Some(logs.into()), Some(metrics.into())));
        }
        // Another path is for traces alone.
        assert_eq!(urls("http://a/api/traces"), (None, None));
        assert!(!Target::of("http://a/x").expect("a target").takes_all());
    }
}
