//! A forwarded request until its response begins: the attempts at servers.

mod joining;
mod passing;
mod waiting;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use netwasm_base::config::HttpVersion;
use netwasm_base::error::ConnectionError;
use netwasm_base::trace::Trace;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::forward::{Forward, Verdict};
use netwasm_exchange::request::Request;
use netwasm_net::connect;
use netwasm_net::transport::Transport;
use netwasm_net::upstream::{Entry, NoPlace, Place, Server, Wish};

use self::passing::gone;
use crate::forward::affinity;
use crate::forward::compose::{Composed, UnsendableRequest, compose, line as composed_line};
use crate::forward::http2::{Joined, MultiplexedPool, Queued, UpstreamStream};
use crate::forward::line::Line;
use crate::forward::outcome::{NoResponse, Passed, PassedOn};
use crate::forward::upload::{ForwardedUpload, Source};
use crate::spans::Attempt;

/// Time limit of connecting, unless the handler sets another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum of times that a handler forwards a request once more.
const MOST_FORWARDS: u32 = 4;

/// Maximum of streams that a server may refuse before that counts as a failure.
const MOST_REFUSALS: u32 = 2;

/// A forwarded request whose response has yet to begin.
pub(crate) struct Forwarding {
    forward: Box<Forward>,
    composed: Composed,
    upload: ForwardedUpload,
    stage: AttemptStage,
    /// The head for the present server.
    head: Vec<u8>,
    /// Numbers of the servers that have failed.
    tried: Vec<u64>,
    /// Attempts that are left, besides the present one.
    left: u32,
    /// Times that the handler may forward the request once more.
    forwards_left: u32,
    /// True if the client's connection can change to another protocol.
    may_upgrade: bool,
    /// True if a kept connection was closed by its server just when it was used.
    went_stale: bool,
    /// Streams that a server has refused.
    refusals: u32,
    /// Connections of the present server that ended before a stream could begin.
    ended: u32,
    /// The request's span, if requests are traced, and its time here.
    traced: Option<(Rc<Trace>, Instant)>,
    /// The span of the present attempt, and the number of those before.
    attempt: Option<Attempt>,
    attempts: u32,
    /// Interim responses that are to be passed on.
    interim: Vec<(StatusCode, HeaderMap)>,
    interims: u32,
}

impl std::fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarding").finish_non_exhaustive()
    }
}

type Later<T> = Pin<Box<dyn Future<Output = T>>>;

enum AttemptStage {
    Choosing,
    /// In the queue of a server.
    Entering(Later<Result<Place, NoPlace>>),
    Connecting(Option<Place>, Later<Result<Rc<Transport>, ConnectionError>>),
    /// Waits for room on a connection that others share.
    Queueing(Option<Place>, Queued),
    /// A connection that others share is being made, or has room.
    Joining(Option<Place>, Joined),
    /// The request is being sent, or the response has yet to begin.
    Waiting(Line),
    /// Like `Waiting`, on a connection that others share.
    Streaming(UpstreamStream),
    /// The client's side has failed, as its driver is about to see.
    Over,
}

impl Forwarding {
    /// Begins to forward a request. `coming` is its body if that has yet to
    /// arrive; `expects` is true if the client waits for `100 Continue` with it,
    /// and `may_upgrade` if its connection can change to another protocol.
    ///
    /// # Errors
    /// Fails if the handler wants what must not be sent.
    pub(crate) fn new(
        request: &mut Request,
        forward: Box<Forward>,
        coming: Option<RequestBody>,
        expects: bool,
        may_upgrade: bool,
    ) -> Result<Self, UnsendableRequest> {
        let bytes = std::mem::take(&mut request.body);
        let source = match coming {
            Some(body) => Source::Coming(body),
            None if bytes.is_empty() && request.trailers.is_empty() => Source::Nothing,
            None => Source::AtHand {
                bytes: Bytes::from(bytes),
                sent: 0,
                trailers: std::mem::take(&mut request.trailers),
            },
        };
        let composed = compose(request, &forward, source.framing(), expects, may_upgrade)?;
        Ok(Self {
            composed,
            upload: ForwardedUpload::new(source, expects),
            stage: AttemptStage::Choosing,
            head: Vec::new(),
            tried: Vec::new(),
            left: forward.retries,
            forwards_left: MOST_FORWARDS,
            may_upgrade,
            went_stale: false,
            refusals: 0,
            ended: 0,
            attempt: None,
            attempts: 0,
            traced: request.trace.clone().map(|trace| (trace, Instant::now())),
            interim: Vec::new(),
            interims: 0,
            forward,
        })
    }

    /// Takes the interim responses that are to be passed on.
    pub(crate) fn take_interim(&mut self) -> Vec<(StatusCode, HeaderMap)> {
        std::mem::take(&mut self.interim)
    }

    /// Advances the request until its response begins.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, request: &Request) -> Poll<PassedOn> {
        loop {
            let failed = match self.poll_stage(cx, request) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(None)) => continue,
                Poll::Ready(Ok(Some(passed))) => return Poll::Ready(Ok(passed)),
                Poll::Ready(Err(NoResponse::Client)) => {
                    // The driver sees the end of the body in its next poll.
                    cx.waker().wake_by_ref();
                    self.stage = AttemptStage::Over;
                    return Poll::Pending;
                }
                Poll::Ready(Err(failed)) => failed,
            };
            if failed == NoResponse::TooLarge {
                // That is no fault of the server.
                self.stage = AttemptStage::Over;
            } else if self.tries_again(&failed) {
                continue;
            }
            let status = self.fail(&failed);
            let judge = self.forward.judge.as_ref();
            match judge.map(|judge| judge.failed(status)) {
                None | Some(Verdict::Pass(_)) => return Poll::Ready(Err(status)),
                Some(Verdict::Answer(answer)) => return Poll::Ready(Ok(Passed::Answer(answer))),
                Some(Verdict::Gone) => return Poll::Ready(Ok(gone())),
                Some(Verdict::Forward(next)) => match self.begins_again(next, request) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(Err(status)),
                    Err(fault) => return Poll::Ready(Err(self.fail(&fault.into()))),
                },
            }
        }
    }

    /// Forwards the request once more, if its body is still at hand.
    fn begins_again(
        &mut self,
        next: Box<Forward>,
        request: &Request,
    ) -> Result<bool, UnsendableRequest> {
        if self.forwards_left == 0 || !self.upload.rewind() {
            return Ok(false);
        }
        self.forwards_left -= 1;
        let (framing, expects) = (self.upload.framing(), self.upload.expects());
        self.composed = compose(request, &next, framing, expects, self.may_upgrade)?;
        self.left = next.retries;
        self.tried.clear();
        self.went_stale = false;
        self.refusals = 0;
        self.ended = 0;
        self.stage = AttemptStage::Choosing;
        self.forward = next;
        Ok(true)
    }

    /// Takes a step. Returns the response, once it has begun.
    fn poll_stage(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        match &mut self.stage {
            AttemptStage::Choosing => {
                self.upload.limit(self.forward.max_body)?;
                // All may have been tried: a connection that went stale is no
                // reason not to try its server again.
                let group = &self.forward.group;
                let wish = Wish {
                    key: self.forward.key.as_deref(),
                    stuck: affinity::stuck(group, request),
                };
                match group.enter(wish, &self.tried)? {
                    Entry::Place(place) => {
                        self.begin_span(&place, request);
                        self.connect(place, request)?;
                    }
                    Entry::Queue(entering) => self.stage = AttemptStage::Entering(entering),
                }
            }
            AttemptStage::Entering(entering) => {
                let place = ready!(entering.as_mut().poll(cx))?;
                self.begin_span(&place, request);
                self.connect(place, request)?;
            }
            AttemptStage::Connecting(place, connecting) => {
                let made = ready!(connecting.as_mut().poll(cx));
                let Some(place) = place.take() else {
                    return Poll::Ready(Err(NoResponse::Ended));
                };
                let made = made.map_err(|error| {
                    self.note_failure(place.server(), &error);
                    NoResponse::Connect(error)
                });
                let transport = made?;
                let worker = &self.forward.worker;
                if transport.speaks(b"h2") {
                    let pool = worker.kept.shared::<MultiplexedPool>();
                    let limit = self.connect_timeout();
                    let joined = pool.adopt(worker, place.server(), transport, limit);
                    self.stage = AttemptStage::Joining(Some(place), joined);
                } else {
                    let client = request.transport.as_ref();
                    self.begin(Line::made(worker, place, client, transport), request);
                }
            }
            AttemptStage::Queueing(..) => return self.poll_queueing(cx, request),
            AttemptStage::Joining(..) => return self.poll_joining(cx, request),
            AttemptStage::Waiting(_) => return self.poll_waiting(cx, request),
            AttemptStage::Streaming(_) => return self.poll_streaming(cx, request),
            AttemptStage::Over => return Poll::Ready(Err(NoResponse::Ended)),
        }
        Poll::Ready(Ok(None))
    }

    /// Takes a connection to the server, or begins to make one.
    fn connect(&mut self, place: Place, request: &Request) -> Result<(), NoResponse> {
        let worker = &self.forward.worker;
        if place.server().http() != HttpVersion::Http1 {
            let pool = worker.kept.shared::<MultiplexedPool>();
            if !pool.speaks_http1(place.server()) {
                return self.join(place, None);
            }
        }
        let surely = !self.composed.is_idempotent;
        let place = match self.went_stale {
            // Others of the same age are likely to be stale, too.
            true => place,
            false => match Line::kept(worker, place, request.transport.as_ref(), surely) {
                Ok(line) => {
                    self.begin(line, request);
                    return Ok(());
                }
                Err(place) => place,
            },
        };
        self.dial(place, request, false);
        Ok(())
    }

    /// Begins to make a connection to the server, for HTTP/1.1 alone if `only_http1`
    /// is true.
    fn dial(&mut self, place: Place, request: &Request, only_http1: bool) {
        let limit = self.connect_timeout();
        let (worker, server) = (Rc::clone(&self.forward.worker), Arc::clone(place.server()));
        let client = request.transport.clone();
        let connecting = async move {
            let client = client.as_deref();
            let make = async || match only_http1 {
                true => connect::make_to_http1(&worker, &server, client, limit).await,
                false => connect::make_to(&worker, &server, client, limit).await,
            };
            match make().await {
                // A connection that nobody uses gives way.
                Err(ConnectionError::LimitExceeded(_))
                    if worker.kept.shared::<MultiplexedPool>().make_room(&worker) =>
                {
                    make().await
                }
                made => made,
            }
        };
        self.stage = AttemptStage::Connecting(Some(place), Box::pin(connecting));
    }

    fn connect_timeout(&self) -> Duration {
        self.forward.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
    }

    /// Begins the span of an attempt, if requests are traced and the handler has
    /// not told the server of another.
    fn begin_span(&mut self, place: &Place, request: &Request) {
        let Some((trace, _)) = &self.traced else {
            return;
        };
        let edits = &self.forward.request;
        let mut told = edits.set.iter().chain(&edits.add);
        self.attempt = None;
        if !told.any(|(name, _)| name.eq_ignore_ascii_case("traceparent")) {
            let line = composed_line(request, &self.forward);
            let tracer = self.forward.worker.env().tracer.as_ref();
            let attempt = Attempt::begin(trace, tracer, line, place.server(), self.attempts);
            self.attempt = Some(attempt);
        }
        self.composed.span = self.attempt.as_ref().map(Attempt::context);
        self.attempts += 1;
    }

    /// Begins to send the request.
    fn begin(&mut self, line: Line, request: &Request) {
        self.head.clear();
        if let Some(server) = line.server() {
            let (forward, head) = (&self.forward, &mut self.head);
            self.composed.write(request, forward, server, head);
        }
        self.stage = AttemptStage::Waiting(line);
    }

    /// Prepares for another attempt, if that can do no harm.
    fn tries_again(&mut self, failed: &NoResponse) -> bool {
        if let Some(attempt) = self.attempt.take() {
            attempt.failed(failed.kind());
        }
        let stage = std::mem::replace(&mut self.stage, AttemptStage::Choosing);
        let (sent, kept, received, server) = match &stage {
            AttemptStage::Waiting(line) => (true, line.is_kept, line.has_received, line.server()),
            AttemptStage::Streaming(stream) => {
                let server = Some(stream.server());
                (true, stream.is_kept, stream.has_received, server)
            }
            _ => (false, false, false, None),
        };
        let lost = matches!(failed, NoResponse::Lost(_) | NoResponse::Ended);
        let stale = kept && !received && lost && !self.went_stale;
        let refused = *failed == NoResponse::Unprocessed && self.refusals < MOST_REFUSALS;
        if let Some(server) = server.filter(|_| !stale && !refused) {
            // The client may be the one that is slow.
            if *failed != NoResponse::Silent || !self.upload.waits_for_client() {
                server.has_failed();
            }
            self.tried.push(server.number());
        }
        let again = match failed {
            NoResponse::Connect(_) | NoResponse::Unprocessed => true,
            // Once something of a response has come, it is the response.
            NoResponse::Lost(_) | NoResponse::Ended | NoResponse::Silent | NoResponse::Reset(_) => {
                sent && !received && self.composed.is_idempotent
            }
            NoResponse::NoPlace(_)
            | NoResponse::Malformed(_)
            | NoResponse::Interims
            | NoResponse::Client
            | NoResponse::TooLarge
            | NoResponse::Unsendable(_) => false,
        };
        if !again || !self.upload.rewind() {
            return false;
        }
        if stale {
            self.went_stale = true;
            return true;
        }
        if refused {
            self.refusals += 1;
            return true;
        }
        if self.left == 0 || !self.forward.group.has_another(&self.tried) {
            return false;
        }
        self.left -= 1;
        self.ended = 0;
        tracing::debug!(upstream = self.forward.group.name(), "{failed}: once more");
        true
    }

    /// Notes that a server could not be connected to.
    fn note_failure(&mut self, server: &Server, error: &ConnectionError) {
        // A limit of the host is no fault of the server's.
        if !matches!(error, ConnectionError::LimitExceeded(_)) {
            server.has_failed();
        }
        self.tried.push(server.number());
    }

    /// Counts and logs that there is no response. Returns the status for the
    /// client.
    fn fail(&self, failed: &NoResponse) -> u16 {
        let env = self.forward.worker.env();
        if *failed == NoResponse::TooLarge {
            tracing::debug!(guest = %env.guest, "a request is not forwarded: {failed}");
            return failed.status();
        }
        env.counters.forwards_failed.add();
        tracing::warn!(
            guest = %env.guest, upstream = self.forward.group.name(),
            "a request has no response: {failed}"
        );
        failed.status()
    }
}
