//! A forwarded request until its response begins: the attempts at servers.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};

use netwasm_base::error::ConnectionError;
use netwasm_base::trace::Trace;
use netwasm_exchange::answer::Answer;
use netwasm_exchange::content::{BoxContent, RequestBody};
use netwasm_exchange::forward::{Forward, Verdict};
use netwasm_exchange::reply::Answered;
use netwasm_exchange::request::Request;
use netwasm_net::connect;
use netwasm_net::transport::Transport;
use netwasm_net::upstream::{Entry, NoPlace, Place, Server, Wish};

use crate::forward::affinity;
use crate::forward::body::ForwardedBody;
use crate::forward::compose::{Composed, Unsendable, check, compose};
use crate::forward::edits::{add, remaining};
use crate::forward::line::Line;
use crate::forward::outcome::{NoResponse, Passed, PassedOn, Upgrade};
use crate::forward::reading::{self, Malformed, Received};
use crate::forward::upload::{Source, Upload};

/// Time limit of connecting, unless the handler sets another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum of times that a handler forwards a request once more.
const MOST_ANEW: u32 = 4;

/// Maximum of interim responses to a request.
const MOST_INTERIM: u32 = 100;

/// A forwarded request whose response has yet to begin.
pub(crate) struct Forwarding {
    forward: Box<Forward>,
    composed: Composed,
    upload: Upload,
    stage: Stage,
    /// The head for the present server.
    head: Vec<u8>,
    /// Numbers of the servers that have failed.
    tried: Vec<u64>,
    /// Attempts that are left, besides the present one.
    left: u32,
    /// Times that the handler may forward the request once more.
    anew: u32,
    /// True if the client's connection can change to another protocol.
    may_upgrade: bool,
    /// True if a kept connection was closed by its server just when it was used.
    went_stale: bool,
    /// The request's span, if requests are traced, and its time here.
    traced: Option<(Rc<Trace>, Instant)>,
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

enum Stage {
    Choosing,
    /// In the queue of a server.
    Entering(Later<Result<Place, NoPlace>>),
    Connecting(Option<Place>, Later<Result<Rc<Transport>, ConnectionError>>),
    /// The request is being sent, or the response has yet to begin.
    Waiting(Line),
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
    ) -> Result<Self, Unsendable> {
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
            upload: Upload::new(source, expects),
            stage: Stage::Choosing,
            head: Vec::new(),
            tried: Vec::new(),
            left: forward.retries,
            anew: MOST_ANEW,
            may_upgrade,
            went_stale: false,
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
                    self.stage = Stage::Over;
                    return Poll::Pending;
                }
                Poll::Ready(Err(failed)) => failed,
            };
            if failed == NoResponse::TooLarge {
                // That is no fault of the server.
                self.stage = Stage::Over;
            } else if self.tries_again(&failed) {
                continue;
            }
            let status = self.fail(&failed);
            let judge = self.forward.judge.as_ref();
            match judge.map(|judge| judge.failed(status)) {
                None | Some(Verdict::Pass(_)) => return Poll::Ready(Err(status)),
                Some(Verdict::Answer(answer)) => return Poll::Ready(Ok(Passed::Answer(answer))),
                Some(Verdict::Gone) => return Poll::Ready(Ok(gone())),
                Some(Verdict::Forward(next)) => match self.begins_anew(next, request) {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(Err(status)),
                    Err(fault) => return Poll::Ready(Err(self.fail(&fault.into()))),
                },
            }
        }
    }

    /// Forwards the request once more, if its body is still at hand.
    fn begins_anew(&mut self, next: Box<Forward>, request: &Request) -> Result<bool, Unsendable> {
        if self.anew == 0 || !self.upload.rewind() {
            return Ok(false);
        }
        self.anew -= 1;
        let (framing, expects) = (self.upload.framing(), self.upload.expects());
        self.composed = compose(request, &next, framing, expects, self.may_upgrade)?;
        self.left = next.retries;
        self.tried.clear();
        self.went_stale = false;
        self.stage = Stage::Choosing;
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
            Stage::Choosing => {
                self.upload.limit(self.forward.max_body)?;
                // All may have been tried: a connection that went stale is no
                // reason not to try its server again.
                let group = &self.forward.group;
                let wish = Wish {
                    key: self.forward.key.as_deref(),
                    stuck: affinity::stuck(group, request),
                };
                match group.enter(wish, &self.tried)? {
                    Entry::Place(place) => self.connect(place),
                    Entry::Queue(entering) => self.stage = Stage::Entering(entering),
                }
            }
            Stage::Entering(entering) => {
                let place = ready!(entering.as_mut().poll(cx))?;
                self.connect(place);
            }
            Stage::Connecting(place, connecting) => {
                let made = ready!(connecting.as_mut().poll(cx));
                let Some(place) = place.take() else {
                    return Poll::Ready(Err(NoResponse::Ended));
                };
                let made = made.map_err(|error| {
                    self.note_failure(place.server(), &error);
                    NoResponse::Connect(error)
                });
                let line = Line::made(&self.forward.worker, place, made?);
                self.begin(line);
            }
            Stage::Waiting(_) => return self.poll_waiting(cx, request),
            Stage::Over => return Poll::Ready(Err(NoResponse::Ended)),
        }
        Poll::Ready(Ok(None))
    }

    /// Takes a connection to the server, or begins to make one.
    fn connect(&mut self, place: Place) {
        let worker = &self.forward.worker;
        let surely = !self.composed.is_idempotent;
        let place = match self.went_stale {
            // Others of the same age are likely to be stale, too.
            true => place,
            false => match Line::kept(worker, place, surely) {
                Ok(line) => return self.begin(line),
                Err(place) => place,
            },
        };
        let limit = self.forward.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let (worker, server) = (Rc::clone(worker), Arc::clone(place.server()));
        let connecting = async move {
            let made = connect::make_to(&worker, &server, limit).await;
            match made {
                // A connection that nobody uses gives way.
                Err(ConnectionError::LimitExceeded(_)) if worker.kept.close_oldest() => {
                    connect::make_to(&worker, &server, limit).await
                }
                made => made,
            }
        };
        self.stage = Stage::Connecting(Some(place), Box::pin(connecting));
    }

    /// Begins to send the request.
    fn begin(&mut self, line: Line) {
        self.head.clear();
        if let Some(server) = line.server() {
            let secure = server.tls().is_some();
            self.composed
                .write(server.endpoint(), secure, &mut self.head);
        }
        self.stage = Stage::Waiting(line);
    }

    /// Sends the request, and waits for the response.
    fn poll_waiting(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        let Self {
            stage: Stage::Waiting(line),
            upload,
            composed,
            forward,
            head,
            interim,
            interims,
            ..
        } = self
        else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let env = forward.worker.env();
        let transport = Rc::clone(&line.transport);
        let _driven = transport.drive(cx);
        let mut moved = false;
        let high = env.limits.write_high as u64;
        let sent = upload.poll(cx, &transport, head, high, &mut moved);
        if let Poll::Ready(Err(unsent)) = sent {
            return Poll::Ready(Err(unsent.into()));
        }
        if moved {
            let limit = forward.response_timeout;
            line.limit_silence(Some(limit.unwrap_or(env.limits.http.response_timeout)));
        }
        loop {
            let received = match line.poll_receive(cx) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoResponse::Lost(error))),
                Poll::Pending => {
                    return match transport.failure() {
                        Some(ConnectionError::Timeout(_)) => Poll::Ready(Err(NoResponse::Silent)),
                        Some(error) => Poll::Ready(Err(NoResponse::Lost(error))),
                        None if transport.alarm_rang() => Poll::Ready(Err(NoResponse::Silent)),
                        None => Poll::Pending,
                    };
                }
            };
            if received == 0 {
                return Poll::Ready(Err(NoResponse::Ended));
            }
            let most = env.limits.http.max_response_headers;
            let drops = |name: &str| forward.response.drops(name);
            while let Some(read) = reading::read(&line.input, composed.is_head, most, &drops)? {
                line.input.drain(..read.size);
                if read.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(self.upgrade(read, request).map(Some));
                }
                if !read.status.is_informational() {
                    return Poll::Ready(self.pass_on(read, request));
                }
                *interims += 1;
                if *interims > MOST_INTERIM {
                    return Poll::Ready(Err(NoResponse::Interims));
                }
                if read.status == StatusCode::CONTINUE {
                    upload.goes_on();
                    let sent = upload.poll(cx, &transport, &[], high, &mut moved);
                    if let Poll::Ready(Err(unsent)) = sent {
                        return Poll::Ready(Err(unsent.into()));
                    }
                } else {
                    interim.push((read.status, read.headers));
                }
            }
        }
    }

    /// Notes that a response has begun.
    fn has_answered(&self, line: &Line, status: StatusCode, headers: &HeaderMap) {
        line.limit_silence(None);
        if let Some(server) = line.server() {
            server.has_succeeded();
            affinity::heed(server, status, headers);
        }
        if let Some((trace, begun)) = &self.traced {
            trace.add_upstream(begun.elapsed());
        }
    }

    /// Changes to the protocol that the client wanted.
    fn upgrade(&mut self, read: Received, request: &Request) -> Result<Passed, NoResponse> {
        let protocol = read.upgrade.filter(|_| self.composed.upgrades);
        let protocol = protocol.ok_or(Malformed::Upgrade)?;
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Waiting(line) = stage else {
            return Err(NoResponse::Ended);
        };
        self.has_answered(&line, read.status, &read.headers);
        let mut headers = read.headers;
        add(&self.forward.response, &mut headers);
        if let Some(server) = line.server() {
            affinity::add_cookie(&self.forward.group, server, request, &mut headers);
        }
        Ok(Passed::Upgrade(Upgrade {
            headers,
            protocol,
            line,
        }))
    }

    /// Begins to pass a response on, unless the handler decides otherwise.
    /// Returns `None` if the request is forwarded once more.
    fn pass_on(&mut self, read: Received, request: &Request) -> Result<Option<Passed>, NoResponse> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Waiting(line) = stage else {
            return Err(NoResponse::Ended);
        };
        self.has_answered(&line, read.status, &read.headers);
        let mut headers = read.headers;
        if self.composed.hides_length {
            headers.remove(CONTENT_LENGTH);
        }
        add(&self.forward.response, &mut headers);
        if let Some(judge) = &self.forward.judge
            && judge.sees_responses()
        {
            match judge.responded(read.status.as_u16(), &headers) {
                Verdict::Pass(edits) => {
                    check(&edits)?;
                    headers = remaining(&edits, headers);
                    add(&edits, &mut headers);
                }
                Verdict::Answer(answer) => return Ok(Some(Passed::Answer(answer))),
                Verdict::Gone => return Ok(Some(gone())),
                Verdict::Forward(next) => {
                    if self.begins_anew(next, request)? {
                        return Ok(None);
                    }
                }
            }
        }
        if let Some(server) = line.server() {
            affinity::add_cookie(&self.forward.group, server, request, &mut headers);
        }
        let upload = std::mem::replace(&mut self.upload, Upload::new(Source::Nothing, false));
        let body = ForwardedBody::new(line, upload, read.framing, read.keeps, &self.forward);
        let content: BoxContent = Box::new(body);
        let mut response = http::Response::new(content);
        *response.status_mut() = read.status;
        *response.headers_mut() = headers;
        Ok(Some(Passed::Response(Answered {
            response,
            sent: None,
            trailers: None,
        })))
    }

    /// Prepares for another attempt, if that can do no harm.
    fn tries_again(&mut self, failed: &NoResponse) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Choosing);
        let (sent, stale) = match &stage {
            Stage::Waiting(line) => {
                let lost = matches!(failed, NoResponse::Lost(_) | NoResponse::Ended);
                let stale = line.is_kept && !line.has_received && lost && !self.went_stale;
                if let Some(server) = line.server().filter(|_| !stale) {
                    server.has_failed();
                    self.tried.push(server.number());
                }
                // Once something of a response has come, it is the response.
                (true, stale)
            }
            _ => (false, false),
        };
        let received = matches!(&stage, Stage::Waiting(line) if line.has_received);
        let again = match failed {
            NoResponse::Connect(_) => true,
            NoResponse::Lost(_) | NoResponse::Ended | NoResponse::Silent => {
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
        if self.left == 0 || !self.forward.group.has_another(&self.tried) {
            return false;
        }
        self.left -= 1;
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

/// Returns the answer in place of a handler's that is gone.
fn gone() -> Passed {
    Passed::Answer(Answer::status(500, ""))
}
