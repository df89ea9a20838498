//! Requests that are answered later, or whose response is sent while it is made.
//! A request to an async guest goes to an instance before its body has arrived.
//! An event guest may defer a request, or make its response piece by piece.

mod forwarding;
mod of_events;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use http_body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use netwasm_exchange::answer::Answer;
use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::content::{BoxContent, Ended, RequestBody};
use netwasm_exchange::deferred::{Deferred, Settled};
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::Awaiting;
use netwasm_exchange::head::Refusal;
use netwasm_exchange::reply::{Answered, NoResponse, Reply, Sent};
use netwasm_exchange::request::Request;

use crate::exchange;
use crate::forward::{Forwarding, Passed, Upgrade};
use crate::h2::incoming::{Incoming, IncomingBody, IncomingEnd};
use crate::h2::line::LogLine;
use crate::h2::link::{self, Link};
use crate::h2::sending::{Stopped, send_bytes};
use crate::h2::stream::{Outcome, Stream};
use crate::h2::{request, unread};
use crate::response::{self, Plan};

pub(super) use self::forwarding::{Forwarded, forward};
pub(super) use self::of_events::{Later, answer_later};

/// Calls an async guest to answer a request.
pub(super) async fn answer(
    link: Rc<Link>,
    head: Parts,
    stream: RecvStream,
    outgoing: SendResponse<Bytes>,
) -> Outcome {
    let answering = AnsweringStream::begin(&link, head, stream, outgoing);
    answering.run().await
}

/// A request that an instance is handling. If dropped before its end, it is
/// cancelled.
struct AnsweringStream {
    link: Rc<Link>,
    /// The head, without its fields.
    head: Parts,
    incoming: Rc<Incoming>,
    outgoing: Option<SendResponse<Bytes>>,
    reply: Rc<Reply>,
    /// The instance that is handling the request.
    requests: Rc<dyn Awaiting>,
    /// The request and its answer, of an event guest.
    event: Option<(Box<Request>, Rc<Deferred>)>,
    /// The unread body of a deferred request, which may be forwarded yet.
    unforwarded: Option<RequestBody>,
    /// Stream that follows the request, if that wants another protocol.
    tunnel: Option<RecvStream>,
    /// The response of an upstream, until it begins.
    forwarding: Option<Box<Forwarding>>,
    /// True if the response is an upstream's, not the guest's.
    is_forwarded: bool,
    line: Option<LogLine>,
    /// True if the response tells its length.
    tells_length: bool,
    /// The unread rest of the request, once the response was sent.
    unread: Option<RecvStream>,
    over: bool,
}

/// A response that begins.
enum Begun {
    /// It is made while it is sent.
    Streamed(Answered),
    /// An event guest's, whole or not.
    Answer(Answer),
    /// None yet: the request is forwarded.
    Forward(Box<Forward>),
    /// The stream changes to another protocol.
    Upgrade(Upgrade),
}

/// Why there is no response.
enum Missing {
    Refused(Refusal),
    /// The client has left.
    Left,
    /// The guest made none.
    Guest(NoResponse),
}

/// A response that is being sent.
struct StreamDownload {
    stream: SendStream<Bytes>,
    /// `None` if the response has no body.
    body: Option<BoxContent>,
    /// Length of the body in bytes, if known.
    length: Option<u64>,
    told: Option<Sent>,
    /// Trailers that the guest delivers apart from the body.
    trailers: Option<Ended>,
}

const UNFINISHED: &str = "ends before its end";

const SILENT: &str = "does not go on in time (--response-body-timeout)";

/// Why a response is incomplete.
enum Broken {
    /// The guest did not finish it, for this reason.
    Guest(&'static str),
    Client(Stopped),
}

impl AnsweringStream {
    fn begin(
        link: &Rc<Link>,
        mut head: Parts,
        stream: RecvStream,
        outgoing: SendResponse<Bytes>,
    ) -> Self {
        let thread = link.thread();
        let line = link.line(&head);
        let length = request::length(&head.headers);
        let expects = request::expects_continue(&head.headers);
        let window = &link.window;
        let incoming = Incoming::new(thread, stream, length, expects, window);
        let body = match incoming.is_end_stream() {
            true => RequestBody::Empty,
            false => RequestBody::new(IncomingBody(Rc::clone(&incoming))),
        };
        let mut asked = http::Request::new(body);
        *asked.method_mut() = head.method.clone();
        *asked.uri_mut() = uri(link, &head);
        join_cookies(&mut head.headers);
        *asked.headers_mut() = std::mem::take(&mut head.headers);
        let mut own = link.own.borrow_mut();
        let (reply, requests) = own.begin(
            &link.local,
            &link.transport,
            request::site(&head).clone(),
            asked,
            (link.secure, line.trace()),
        );
        drop(own);
        Self {
            link: Rc::clone(link),
            head,
            incoming,
            outgoing: Some(outgoing),
            reply,
            requests,
            event: None,
            unforwarded: None,
            tunnel: None,
            forwarding: None,
            is_forwarded: false,
            line: Some(line),
            tells_length: true,
            unread: None,
            over: false,
        }
    }

    /// Sends the response, and passes over what is left of the request.
    async fn run(mut self) -> Outcome {
        let rest = self.finish().await;
        let unread = self.unread.take();
        drop(self);
        unread::forget_after(rest, unread).await
    }

    /// Sends the response. If the host answers instead, returns what finds no
    /// room.
    async fn finish(&mut self) -> Option<Stream> {
        let link = Rc::clone(&self.link);
        let site = request::site(&self.head).clone();
        let env = link.env(&site);
        let limit = env.limits.http.response_timeout;
        let response = match self.is_forwarded {
            // Each attempt has its own limit.
            true => self.response().await,
            false => self.response_within(limit).await.unwrap_or_else(|| {
                exchange::late(env, self.path());
                self.requests.clone().abandon(&self.reply);
                Err(Missing::Guest(NoResponse::TimedOut))
            }),
        };
        let response = match response {
            Ok(Begun::Forward(forward)) => match self.forward_deferred(forward) {
                Ok(()) => self.response().await,
                Err(answer) => Ok(Begun::Answer(answer)),
            },
            response => response,
        };
        let answered = match response {
            Ok(Begun::Streamed(answered)) => answered,
            Ok(Begun::Upgrade(upgrade)) => {
                self.relay(upgrade).await;
                return None;
            }
            // Only a deferred request is forwarded, and it is no more.
            Ok(Begun::Forward(_)) => return self.refuse(Missing::Guest(NoResponse::Trapped)),
            Ok(Begun::Answer(answer)) => {
                // The handler's own response, in place of an upstream's.
                self.is_forwarded = false;
                self.forwarding = None;
                self.unforwarded = None;
                match self.streamed(answer) {
                    Ok(answered) => {
                        self.go_on_reading();
                        answered
                    }
                    Err(answer) => return self.send_whole(answer).await,
                }
            }
            Err(missing) => return self.refuse(missing),
        };
        if request::tunnels(&self.head) && answered.response.status().is_success() {
            // The server does not speak the protocol, and its response would say
            // that it does.
            return self.refuse(Missing::Guest(NoResponse::OfUpstream(501)));
        }
        let mut line = self.line.take()?;
        let mut download = match self.begin_response(answered, &mut line) {
            Ok(download) => download?,
            Err(what) => {
                self.line = Some(line);
                return self.refuse(Missing::Guest(NoResponse::Failed(what)));
            }
        };
        match self.send_body(&mut download, &mut line).await {
            Ok(()) => {
                tell_sent(&mut download.told);
                self.read_on().await;
                self.finished();
            }
            Err(Broken::Guest(why)) => {
                match (self.is_forwarded, why) {
                    (false, why) => exchange::broken(env, self.path(), why),
                    (true, SILENT) => exchange::silent(env, self.path()),
                    // It was logged.
                    (true, _) => {}
                }
                download.stream.send_reset(Reason::INTERNAL_ERROR);
            }
            Err(Broken::Client(stopped)) => line.stopped(&stopped, &mut download.stream),
        }
        None
    }

    fn path(&self) -> &str {
        request::target(&self.head)
    }

    /// Ends the exchange with the guest.
    fn finished(&mut self) {
        self.over = true;
        self.reply.finish();
        self.unread = self.incoming.stop().filter(|_| self.tells_length);
    }

    /// Waits until the response begins. `limit` runs from when the guest last
    /// got a piece of the request, because an arriving body has its own
    /// time-out.
    async fn response_within(&mut self, limit: Duration) -> Option<Result<Begun, Missing>> {
        let incoming = Rc::clone(&self.incoming);
        let mut response = pin!(self.response());
        loop {
            let due = incoming.moved() + limit;
            match timeout_at(due, &mut response).await {
                Ok(response) => return Some(response),
                Err(_elapsed) if incoming.moved() + limit > Instant::now() => {}
                Err(_elapsed) => return None,
            }
        }
    }

    /// Waits until the response begins.
    async fn response(&mut self) -> Result<Begun, Missing> {
        let Self {
            link,
            head,
            incoming,
            outgoing: Some(outgoing),
            reply,
            event,
            forwarding,
            ..
        } = self
        else {
            return Err(Missing::Left);
        };
        poll_fn(|cx| {
            match incoming.poll_end(cx) {
                Poll::Ready(IncomingEnd::Refused(refusal)) => {
                    return Poll::Ready(Err(Missing::Refused(refusal)));
                }
                Poll::Ready(IncomingEnd::Lost) => return Poll::Ready(Err(Missing::Left)),
                Poll::Ready(IncomingEnd::Whole) | Poll::Pending => {}
            }
            if incoming.take_continue() {
                let response = link::head(100, HeaderMap::new());
                // An error means that the client has left.
                let _ = response.map(|it| outgoing.send_informational(it));
            }
            if outgoing.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Missing::Left));
            }
            if let (Some(forwarding), Some((request, _))) = (&mut *forwarding, &*event) {
                let polled = forwarding.poll(cx, request);
                for (status, headers) in forwarding.take_interim() {
                    let response = link::head(status.as_u16(), headers);
                    // An error means that the client has left.
                    let _ = response.map(|it| outgoing.send_informational(it));
                }
                // The server may have asked for the body.
                if incoming.take_continue() {
                    let response = link::head(100, HeaderMap::new());
                    let _ = response.map(|it| outgoing.send_informational(it));
                }
                return polled.map(|passed| match passed {
                    Ok(Passed::Response(answered)) => Ok(Begun::Streamed(answered)),
                    Ok(Passed::Answer(answer)) => Ok(Begun::Answer(answer)),
                    Ok(Passed::Upgrade(upgrade)) => Ok(Begun::Upgrade(upgrade)),
                    Err(status) => Err(Missing::Guest(NoResponse::OfUpstream(status))),
                });
            }
            let Some((_, deferred)) = event else {
                let answer = reply.poll_answer(cx);
                return answer.map(|it| it.map(Begun::Streamed).map_err(Missing::Guest));
            };
            for interim in deferred.take_interim() {
                let status = interim.status;
                let path = request::target(head);
                let headers = exchange::interim(interim, path, link.env(request::site(head)));
                let response = headers.and_then(|headers| link::head(status, headers));
                // An error means that the client has left.
                let _ = response.map(|it| outgoing.send_informational(it));
            }
            deferred.poll(cx).map(|settled| {
                Ok(match settled {
                    Some(Settled::Forward(forward)) => Begun::Forward(forward),
                    Some(Settled::Answer(answer)) => Begun::Answer(answer),
                    None => Begun::Answer(exchange::gone()),
                })
            })
        })
        .await
    }

    /// Answers in the guest's place.
    fn refuse(&mut self, missing: Missing) -> Option<Stream> {
        let link = Rc::clone(&self.link);
        let site = request::site(&self.head).clone();
        let env = link.env(&site);
        let answer = match missing {
            Missing::Left => {
                exchange::left(&self.link.transport);
                return None;
            }
            Missing::Refused(refusal) => {
                self.requests.clone().abandon(&self.reply);
                exchange::refused(env, &self.link.transport, refusal)
            }
            Missing::Guest(reason) => exchange::missing(env, self.path(), &reason),
        };
        self.finished();
        let is_head = self.head.method == Method::HEAD;
        let (outgoing, line) = (self.outgoing.take()?, self.line.take()?);
        self.link.send_ours(is_head, answer, outgoing, line)
    }

    /// Sends the head of a response. Returns `None` if the client has left.
    ///
    /// # Errors
    /// Fails with the reason if the response cannot be sent.
    fn begin_response(
        &mut self,
        answered: Answered,
        line: &mut LogLine,
    ) -> Result<Option<StreamDownload>, String> {
        let Answered {
            response,
            sent: told,
            trailers,
        } = answered;
        let (parts, body) = response.into_parts();
        let is_head = self.head.method == Method::HEAD;
        let plan = Plan::new(&parts, is_head, None, body.is_end_stream());
        let plan = plan.map_err(|fault| fault.to_string())?;
        let mut headers = parts.headers;
        let trailer = headers.remove(header::TRAILER);
        response::drop_framing(&mut headers);
        if let Some(names) = trailer.filter(|_| plan.has_body) {
            headers.insert(header::TRAILER, names);
        }
        let lacks = |name| !headers.contains_key(name);
        let (server, date) = (lacks(header::SERVER), lacks(header::DATE));
        self.link.sign(&mut headers, server, date);
        match plan.told {
            Some(length) => headers.insert(header::CONTENT_LENGTH, self.link.length(length)),
            // A 204 must not have one (RFC 9110, section 8.6).
            None => headers.remove(header::CONTENT_LENGTH),
        };
        let (length, body) = match plan.has_body {
            true => (plan.length, Some(body)),
            false => (Some(0), None),
        };
        let ended = body.as_ref().is_none_or(Body::is_end_stream);
        let ends = ended && length.is_none_or(|it| it == 0);
        line.status = plan.status;
        self.tells_length = ends || plan.told.is_some();
        let Some(outgoing) = &mut self.outgoing else {
            return Ok(None);
        };
        let response = link::head(plan.status, headers).ok_or("its status is none")?;
        // An error means that the client has left.
        let Ok(stream) = outgoing.send_response(response, ends) else {
            return Ok(None);
        };
        Ok(Some(StreamDownload {
            stream,
            body,
            length: if ends { Some(0) } else { length },
            told,
            trailers,
        }))
    }

    /// Waits while the guest still reads the request, for example to forward
    /// it.
    async fn read_on(&self) {
        if self.is_forwarded {
            // The server has answered, and takes no more of it.
            return;
        }
        loop {
            let due = self.incoming.given_up_at();
            let read = poll_fn(|cx| {
                self.reply.watch(cx);
                self.incoming.watch(cx);
                if !self.incoming.is_read() || self.reply.has_returned() {
                    return Poll::Ready(true);
                }
                // Since it waits for the client, it is given up sooner.
                match self.incoming.given_up_at() < due {
                    true => Poll::Ready(false),
                    false => Poll::Pending,
                }
            });
            match timeout_at(due, read).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(_elapsed) if self.incoming.given_up_at() <= Instant::now() => return,
                Err(_elapsed) => {}
            }
        }
    }

    /// Waits for the rest of a request before the response ends.
    ///
    /// If only the end of the stream ends the response, some clients overlook
    /// an end that comes while they send (see [`unread`]). This waits only if
    /// the request tells its length.
    async fn settle(&self) {
        if self.tells_length || !self.incoming.is_coming() {
            return;
        }
        self.read_on().await;
        if let Some(body) = self.incoming.stop() {
            unread::forget(body).await;
        }
    }

    /// Waits for the trailers that follow a body. If they do not come within
    /// `--response-timeout`, there are none.
    async fn trailers(
        &self,
        stream: &mut SendStream<Bytes>,
        mut ended: Ended,
    ) -> Result<Option<HeaderMap>, Broken> {
        let limit = self.link.thread().env.limits.http.response_timeout;
        let told = poll_fn(|cx| {
            if let Poll::Ready(told) = Pin::new(&mut ended).poll(cx) {
                return Poll::Ready(match told {
                    Ok(Ok(trailers)) => Ok(trailers),
                    Ok(Err(_)) => Err(Broken::Guest(UNFINISHED)),
                    // The instance ended without setting trailers.
                    Err(_) => Ok(None),
                });
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Broken::Client(Stopped::Left)));
            }
            self.reply.watch(cx);
            match (self.reply.is_broken(), self.reply.has_returned()) {
                (true, _) => Poll::Ready(Err(Broken::Guest(UNFINISHED))),
                (false, true) => Poll::Ready(Ok(None)),
                (false, false) => Poll::Pending,
            }
        });
        timeout(limit, told).await.unwrap_or(Ok(None))
    }

    /// Sends a body while it is made.
    async fn send_body(
        &self,
        download: &mut StreamDownload,
        line: &mut LogLine,
    ) -> Result<(), Broken> {
        let StreamDownload {
            stream,
            body: Some(body),
            length,
            told,
            trailers,
        } = download
        else {
            return Ok(());
        };
        if body.is_end_stream() && *length == Some(0) {
            return Ok(());
        }
        let limits = &self.link.thread().env.limits.http;
        loop {
            let all = *length == Some(line.sent);
            let limit = match all {
                true => limits.response_timeout,
                false => limits.response_body_timeout,
            };
            if all {
                // The guest may wait for this before it sets its trailers.
                tell_sent(told);
            }
            let next = poll_fn(|cx| {
                if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                    return Poll::Ready(Ok(frame));
                }
                if stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Broken::Client(Stopped::Left)));
                }
                self.reply.watch(cx);
                match self.reply.is_broken() || self.reply.has_returned() {
                    true => Poll::Ready(Err(Broken::Guest(UNFINISHED))),
                    false => Poll::Pending,
                }
            });
            let next = timeout(limit, next).await.unwrap_or(match all {
                // The trailers did not come in time, so there are none.
                true => Ok(None),
                false => Err(Broken::Guest(SILENT)),
            });
            let last = match next? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let after = line.sent + data.len() as u64;
                        if length.is_some_and(|length| after > length) {
                            return Err(Broken::Guest(UNFINISHED));
                        }
                        let ends = body.is_end_stream() && !self.reply.is_broken();
                        let ends = ends && length.is_none_or(|length| after == length);
                        if ends && !self.tells_length {
                            if !data.is_empty() {
                                send(stream, data, false, line, body).await?;
                            }
                            self.settle().await;
                            return send(stream, Bytes::new(), true, line, body).await;
                        }
                        if data.is_empty() && !ends {
                            continue;
                        }
                        send(stream, data, ends, line, body).await?;
                        match ends {
                            true => return Ok(()),
                            false => continue,
                        }
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Some(Err(_)) => return Err(Broken::Guest(UNFINISHED)),
                None => match trailers.take() {
                    Some(ended) => {
                        tell_sent(told);
                        self.trailers(stream, ended).await?
                    }
                    None => None,
                },
            };
            // If the instance has failed, the end of its body is not genuine.
            if self.reply.is_broken() || length.is_some_and(|length| length != line.sent) {
                return Err(Broken::Guest(UNFINISHED));
            }
            self.settle().await;
            let trailers = last.map(without_dropped).filter(|it| !it.is_empty());
            let sent = match trailers {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            return sent.map_err(|_| Broken::Client(Stopped::Left));
        }
    }
}

/// Tells the guest that its response was sent.
fn tell_sent(told: &mut Option<Sent>) {
    if let Some(told) = told.take() {
        // The guest may not listen.
        let _ = told.send(Ok(()));
    }
}

impl Drop for AnsweringStream {
    fn drop(&mut self) {
        if !self.over {
            // The client need not send the rest.
            drop(self.incoming.stop());
            self.requests.clone().abandon(&self.reply);
        }
        if let Some((request, _)) = self.event.take() {
            self.link.local.put_request(request);
        }
    }
}

/// Sends a piece of a body, which goes on meanwhile with what is beside it.
async fn send(
    stream: &mut SendStream<Bytes>,
    data: Bytes,
    ends: bool,
    line: &mut LogLine,
    body: &mut BoxContent,
) -> Result<(), Broken> {
    if data.is_empty() {
        let sent = stream.send_data(data, ends);
        return sent.map_err(|_| Broken::Client(Stopped::Left));
    }
    let mut sending = pin!(send_bytes(stream, data, ends, line));
    let sent = poll_fn(|cx| {
        let sent = sending.as_mut().poll(cx);
        if sent.is_pending() {
            body.poll_beside(cx);
        }
        sent
    });
    sent.await.map_err(Broken::Client)
}

/// Returns the URI of a request for `wasi:http`.
fn uri(link: &Link, head: &Parts) -> Uri {
    let mut parts = head.uri.clone().into_parts();
    parts.scheme = Some(match link.secure {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    });
    if parts.authority.is_none() {
        let host = request::authority(head).and_then(|it| it.parse().ok());
        let nobody = || Authority::from_static("localhost");
        parts.authority = Some(host.unwrap_or_else(nobody));
    }
    if let Some(target) = request::revealed(head) {
        parts.path_and_query = Some(target.clone());
    }
    let root = || PathAndQuery::from_static("/");
    parts.path_and_query.get_or_insert_with(root);
    Uri::from_parts(parts).unwrap_or_else(|_| head.uri.clone())
}

/// Joins the `Cookie` fields that a client has split for better compression
/// (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for piece in std::iter::once(second).chain(pieces) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(piece.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}
