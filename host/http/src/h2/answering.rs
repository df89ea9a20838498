//! Requests that are answered later, or whose response is sent while it is made.
//! A request to an async guest goes to an instance before its body has arrived.
//! An event guest may defer a request, or make its response piece by piece.

mod download;
mod forwarding;
mod of_events;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tokio::time::{Instant, timeout_at};

use netwasm_exchange::answer::Answer;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::deferred::{Deferred, Settled};
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::Awaiting;
use netwasm_exchange::head::Refusal;
use netwasm_exchange::reply::{Answered, NoResponse, Reply};
use netwasm_exchange::request::Request;

use self::download::{Broken, SILENT, tell_sent};
use crate::exchange::{self, TOO_LARGE};
use crate::forward::{Forwarding, Passed, Upgrade};
use crate::h2::incoming::{Http2Body, IncomingBody, IncomingEnd};
use crate::h2::line::LogLine;
use crate::h2::link::{self, Link};
use crate::h2::request::AcceptLines;
use crate::h2::stream::{Outcome, Stream};
use crate::h2::{request, unread};

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
    /// Fields that decide how an error is told to the client of an async guest.
    accept: AcceptLines,
    incoming: Rc<Http2Body>,
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
enum BegunResponse {
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
        let incoming = Http2Body::new(thread, stream, length, expects, window);
        let body = match incoming.is_end_stream() {
            true => RequestBody::Empty,
            false => RequestBody::new(IncomingBody(Rc::clone(&incoming))),
        };
        let mut asked = http::Request::new(body);
        *asked.method_mut() = head.method.clone();
        *asked.uri_mut() = uri(link, &head);
        join_cookies(&mut head.headers);
        let accept = AcceptLines::of(&head.headers);
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
            accept,
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
            Ok(BegunResponse::Forward(forward)) => match self.forward_deferred(forward) {
                Ok(()) => self.response().await,
                Err(answer) => Ok(BegunResponse::Answer(answer)),
            },
            response => response,
        };
        let mut answered = match response {
            Ok(BegunResponse::Streamed(answered)) => answered,
            Ok(BegunResponse::Upgrade(upgrade)) => {
                self.relay(upgrade).await;
                return None;
            }
            // Only a deferred request is forwarded, and it is no more.
            Ok(BegunResponse::Forward(_)) => {
                return self.refuse(Missing::Guest(NoResponse::Trapped));
            }
            Ok(BegunResponse::Answer(answer)) => {
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
        let only = match self.only_trailers(&mut answered).await {
            Ok(only) => only,
            Err(Broken::Guest(what)) => {
                let failed = NoResponse::Failed(format!("its response {what}"));
                return self.refuse(Missing::Guest(failed));
            }
            Err(Broken::Client(_)) => return self.refuse(Missing::Left),
            Err(Broken::Refused(refusal)) => return self.refuse(Missing::Refused(refusal)),
        };
        let mut line = self.line.take()?;
        let mut download = match self.begin_response(answered, only, &mut line) {
            Ok(download) => download?,
            Err(what) => {
                self.line = Some(line);
                return self.refuse(Missing::Guest(NoResponse::Failed(what)));
            }
        };
        let sent = self.send_body(&mut download, &mut line).await;
        self.tell_refusal();
        match sent {
            Ok(()) => {
                tell_sent(&mut download.told);
                self.read_on().await;
                self.tell_refusal();
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
            Err(Broken::Refused(refusal)) => download.stream.send_reset(match refusal {
                // To gRPC, RESOURCE_EXHAUSTED.
                TOO_LARGE => Reason::ENHANCE_YOUR_CALM,
                _ => Reason::CANCEL,
            }),
        }
        None
    }

    fn path(&self) -> &str {
        request::target(&self.head)
    }

    /// Counts and logs that the rest of the request is refused, if it is, whose response
    /// has begun. Told once.
    fn tell_refusal(&self) {
        if let Some(refusal) = self.incoming.take_refusal() {
            let env = self.link.env(request::site(&self.head));
            exchange::cut(env, &self.link.transport, refusal);
        }
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
    async fn response_within(&mut self, limit: Duration) -> Option<Result<BegunResponse, Missing>> {
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
    async fn response(&mut self) -> Result<BegunResponse, Missing> {
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
                    Ok(Passed::Response(answered)) => Ok(BegunResponse::Streamed(answered)),
                    Ok(Passed::Answer(answer)) => Ok(BegunResponse::Answer(answer)),
                    Ok(Passed::Upgrade(upgrade)) => Ok(BegunResponse::Upgrade(upgrade)),
                    Err(status) => Err(Missing::Guest(NoResponse::OfUpstream(status))),
                });
            }
            let informed = match event {
                Some((_, deferred)) => deferred.take_interim(),
                None => reply.take_interim(),
            };
            for interim in informed {
                let status = interim.status;
                let path = request::target(head);
                let headers = exchange::interim(interim, path, link.env(request::site(head)));
                let response = headers.and_then(|headers| link::head(status, headers));
                // An error means that the client has left.
                let _ = response.map(|it| outgoing.send_informational(it));
            }
            let Some((_, deferred)) = event else {
                let answer = reply.poll_answer(cx);
                return answer.map(|it| it.map(BegunResponse::Streamed).map_err(Missing::Guest));
            };
            deferred.poll(cx).map(|settled| {
                Ok(match settled {
                    Some(Settled::Forward(forward)) => BegunResponse::Forward(forward),
                    Some(Settled::Answer(answer)) => BegunResponse::Answer(answer),
                    None => BegunResponse::Answer(exchange::gone()),
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
        let form = match &self.event {
            Some((request, _)) => request.error_form(),
            None => self.accept.error_form(),
        };
        let (outgoing, line) = (self.outgoing.take()?, self.line.take()?);
        self.link.send_ours(is_head, form, answer, outgoing, line)
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
