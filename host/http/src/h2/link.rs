//! State shared by the streams of a connection, and the sending of responses.

mod queued;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use netwasm_exchange::answer::{Answer, Body};
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::handler::{Decision, Site};
use netwasm_exchange::head::Refusal;
use netwasm_exchange::request::Request;
use netwasm_exchange::told::ErrorForm;
use netwasm_net::env as net;
use netwasm_net::thread::Thread;
use netwasm_net::transport::Transport;

use crate::exchange::{self, Own, TOO_LARGE};
use crate::file_body::{self, Part, Purpose};
use crate::h2::answering;
use crate::h2::held::{Budget, Held};
use crate::h2::incoming::{Http2Body, IncomingBody};
use crate::h2::line::LogLine;
use crate::h2::request;
use crate::h2::sending::{read_all, send_bytes, send_parts};
use crate::h2::stream::{Outcome, ReadyRequest, Stream};
use crate::h2::unread;
use crate::h2::upload;
use crate::h2::window::Window;
use crate::local::{Date, Local};
use crate::response;
use crate::websocket::TunnelQueues;

use self::queued::QueuedResponse;

/// Maximum size of a file that is read before its head is sent, in bytes.
const SMALL_FILE: u64 = 16 << 10;

/// State shared by the streams of a connection.
pub(super) struct Link {
    pub(super) transport: Rc<Transport>,
    pub(super) local: Rc<Local>,
    pub(super) secure: bool,
    /// The handler of the connection.
    pub(super) own: RefCell<Own>,
    /// Memory for the bodies of requests.
    pub(super) budget: Rc<Budget>,
    /// Flow-control window of the connection.
    pub(super) window: Rc<Window>,
    /// Bytes of responses that wait to be sent.
    queued: Cell<usize>,
    /// Bytes of WebSocket connections that wait to be sent.
    pub(super) websockets: Rc<TunnelQueues>,
    /// True if a guest asked to close the connection.
    pub(super) closes: Cell<bool>,
    /// `Date` of the last response.
    date: Kept<Date>,
    /// `Content-Length` of the last response.
    length: Kept<u64>,
}

/// Cached value of a header, which the next response often repeats.
type Kept<T> = RefCell<Option<(T, HeaderValue)>>;

/// Body of a response.
enum Payload {
    Bytes(Bytes),
    Parts(Vec<Part>),
}

impl Link {
    pub(super) fn new(local: &Rc<Local>, transport: &Rc<Transport>, secure: bool) -> Rc<Self> {
        let limits = &transport.thread().env.limits;
        Rc::new(Self {
            transport: Rc::clone(transport),
            local: Rc::clone(local),
            secure,
            own: RefCell::default(),
            budget: Rc::new(Budget::new(limits.http.max_body)),
            window: Window::new(&local.env),
            queued: Cell::new(0),
            websockets: TunnelQueues::new(limits.max_write_buffer),
            closes: Cell::new(false),
            date: RefCell::default(),
            length: RefCell::default(),
        })
    }

    pub(super) fn thread(&self) -> &Rc<Thread> {
        self.transport.thread()
    }

    /// True if the queued responses exceed the limit, so that the next ones
    /// wait.
    pub(super) fn is_full(&self) -> bool {
        self.queued.get() > self.thread().env.limits.max_write_buffer
    }

    /// Calls the guest to answer a request. Returns what cannot be sent at
    /// once.
    pub(super) fn respond(self: &Rc<Self>, exchange: Box<ReadyRequest>) -> Option<Stream> {
        let ReadyRequest {
            head,
            incoming,
            outgoing,
            body,
            trailers,
        } = *exchange;
        let line = self.line(&head);
        let mut request = self.local.take_request();
        request::fill(&mut request, &head);
        request.trailers = trailers;
        request.transport = Some(Rc::clone(&self.transport));
        request.secure = self.secure;
        request.trace = line.trace();
        let mut coming = None;
        let mut tunnel = None;
        match body {
            Some(body) => request.body = body.take(),
            None if request.tunnels => tunnel = Some(incoming),
            // The guest gets the request at its head.
            None if !incoming.is_end_stream() => {
                let length = request::length(&head.headers);
                let expects = request::expects_continue(&head.headers);
                let body = Http2Body::new(self.thread(), incoming, length, expects, &self.window);
                request.arriving = true;
                request.coming = Some(RequestBody::new(IncomingBody(Rc::clone(&body))));
                coming = Some(body);
            }
            // The request has ended, so nothing is lost by dropping its stream.
            None => {}
        }
        let mut own = self.own.borrow_mut();
        let (mut request, decision) = own.handle(&self.local, &self.transport, request);
        drop(own);
        let mut body = request.coming.take();
        if body.is_none()
            && let Some(coming) = &coming
        {
            coming.is_read_by_events();
        }
        let deferred = match decision {
            Decision::Forward(forward) => {
                let expects = coming.as_ref().is_some_and(|it| it.expects_continue());
                let site = request.site.clone();
                let env = self.env(&site);
                let body = body.take();
                let tunnels = request.tunnels;
                match exchange::forward(&mut request, forward, body, expects, tunnels, env) {
                    Ok(forwarding) => {
                        let incoming = coming.unwrap_or_else(|| Http2Body::whole(self.thread()));
                        let forwarded = answering::Forwarded {
                            request,
                            forwarding,
                            incoming,
                            outgoing,
                            tunnel,
                        };
                        return Some(Box::pin(answering::forward(forwarded, head, line)));
                    }
                    Err(answer) => Deferred::given(answer),
                }
            }
            Decision::WebSocket(accepted) => {
                let Some(from) = tunnel else {
                    // It was asked for by no extended CONNECT.
                    accepted.fail();
                    let form = request.error_form();
                    return self.send_ours(false, form, exchange::no_tunnel(), outgoing, line);
                };
                return self.open_websocket(request, *accepted, (from, outgoing), line);
            }
            Decision::Answer(answer) if coming.is_none() => {
                let sending = self.send(&request, answer, outgoing, line);
                self.local.put_request(request);
                return sending;
            }
            Decision::Answer(answer) => {
                body = None;
                Deferred::given(answer)
            }
            Decision::Later(deferred) => deferred,
            Decision::Collect(wanted) => {
                self.local.put_request(request);
                line.forget();
                let exchange = Box::new(ReadyRequest {
                    head,
                    incoming: coming?.stop()?,
                    outgoing,
                    body: None,
                    trailers: Vec::new(),
                });
                return self.collect(exchange, wanted);
            }
        };
        let incoming = coming.unwrap_or_else(|| Http2Body::whole(self.thread()));
        let answer = answering::Later {
            request,
            deferred,
            unread: body,
            incoming,
            outgoing,
        };
        Some(Box::pin(answering::answer_later(answer, head, line)))
    }

    /// Collects the body of a request, of up to `most` bytes, and returns the request
    /// as ready. Answers a bad body with a refusal.
    pub(super) async fn receive_whole(
        self: Rc<Self>,
        mut exchange: Box<ReadyRequest>,
        most: usize,
    ) -> Outcome {
        if request::expects_continue(&exchange.head.headers) {
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::CONTINUE;
            if exchange.outgoing.send_informational(response).is_err() {
                return Outcome::Over;
            }
        }
        let mut held = Held::new(&self.budget);
        let _coming = self.window.begin();
        let limit = self.thread().env.limits.http.body_timeout;
        match upload::receive(limit, &mut exchange.incoming, &mut held, most).await {
            Ok(trailers) => {
                held.arrived();
                exchange.body = Some(held);
                exchange.trailers = trailers;
                Outcome::Ready(exchange)
            }
            Err(upload::UploadBroken::Refused(refusal)) => {
                drop(held);
                let sending = self.refuse(&exchange.head, refusal, exchange.outgoing);
                unread::forget_after(sending, Some(exchange.incoming)).await
            }
            Err(upload::UploadBroken::Left) => {
                exchange::left(&self.transport);
                drop(self.line(&exchange.head));
                Outcome::Over
            }
        }
    }

    /// Collects the body of a request, if it is no longer than `wanted`.
    fn collect(
        self: &Rc<Self>,
        exchange: Box<ReadyRequest>,
        wanted: Option<u64>,
    ) -> Option<Stream> {
        let most = self.thread().env.limits.http.max_body;
        let wanted = wanted.and_then(|wanted| usize::try_from(wanted).ok());
        let most = wanted.map_or(most, |wanted| wanted.min(most));
        if request::length(&exchange.head.headers).is_some_and(|length| length > most as u64) {
            let ReadyRequest {
                head,
                incoming,
                outgoing,
                ..
            } = *exchange;
            let sending = self.refuse(&head, TOO_LARGE, outgoing);
            return Some(Box::pin(unread::forget_after(sending, Some(incoming))));
        }
        Some(Box::pin(Rc::clone(self).receive_whole(exchange, most)))
    }

    /// Checks a response and sends it.
    pub(super) fn send(
        self: &Rc<Self>,
        request: &Request,
        answer: Answer,
        outgoing: SendResponse<Bytes>,
        line: LogLine,
    ) -> Option<Stream> {
        let form = || request.error_form();
        let answer = answer.told_in(form).unwrap_or(answer);
        let checked = match exchange::check(&answer, request, self.env(&request.site)) {
            Ok(checked) => checked,
            Err(ours) => {
                return self.send_ours(request.is_head(), form(), ours, outgoing, line);
            }
        };
        if checked.closes {
            self.closes.set(true);
        }
        let (status, length, omitted, parts, fields) = match &answer.body {
            Body::File(file) => {
                let mut fields = Vec::new();
                let served = file_body::respond(
                    Rc::clone(file),
                    Purpose::of(request, answer.status),
                    request,
                    |name| checked.first(name),
                    self.local.now(),
                    &mut fields,
                );
                let parts: Vec<Part> = served.parts.into_iter().collect();
                (served.status, served.length, served.omitted, parts, fields)
            }
            Body::Bytes(bytes) => {
                let none: &[&str] = &[];
                let length = bytes.len() as u64;
                (answer.status, length, none, Vec::new(), Vec::new())
            }
            // A streamed body takes another way.
            Body::Empty | Body::Unopened(_) | Body::Stream(_) | Body::Told(_) => {
                (answer.status, 0, &[][..], Vec::new(), Vec::new())
            }
        };
        let mut headers = HeaderMap::with_capacity(answer.headers.len() + 3);
        self.sign(&mut headers, checked.lacks_server(), checked.lacks_date());
        let told = checked.told_length(status, length);
        response::append_all(answer.headers, omitted, &mut headers);
        response::append_lines(&fields, &mut headers);
        if let Some(length) = told {
            headers.insert(header::CONTENT_LENGTH, self.length(length));
        }
        let is_head = request.is_head();
        let trailers = match response::bodiless(status) || is_head {
            true => None,
            false => response::trailers(&answer.trailers),
        };
        let payload = match answer.body {
            _ if is_head => Payload::Bytes(Bytes::new()),
            Body::Bytes(bytes) => Payload::Bytes(bytes.into()),
            _ if length <= SMALL_FILE => match read_all(&parts) {
                Ok(bytes) => Payload::Bytes(bytes.into()),
                Err(error) => {
                    self.file_failed(&request.site, request.head.target(), &error);
                    let answer = Answer::status(500, "");
                    return self.send_ours(is_head, form(), answer, outgoing, line);
                }
            },
            _ => Payload::Parts(parts),
        };
        self.deliver(status, headers, payload, trailers, outgoing, line)
    }

    /// Sends the host's own response.
    pub(super) fn send_ours(
        self: &Rc<Self>,
        is_head: bool,
        form: ErrorForm,
        answer: Answer,
        outgoing: SendResponse<Bytes>,
        line: LogLine,
    ) -> Option<Stream> {
        let answer = answer.told_in(|| form).unwrap_or(answer);
        let mut headers = HeaderMap::with_capacity(5);
        self.sign(&mut headers, true, true);
        response::append_all(answer.headers, &[], &mut headers);
        let body = match answer.body {
            Body::Bytes(bytes) => Bytes::from(bytes),
            _ => Bytes::new(),
        };
        headers.insert(header::CONTENT_LENGTH, self.length(body.len() as u64));
        let payload = Payload::Bytes(if is_head { Bytes::new() } else { body });
        self.deliver(answer.status, headers, payload, None, outgoing, line)
    }

    /// Answers a malformed request, or one over a limit.
    pub(super) fn refuse(
        self: &Rc<Self>,
        head: &Parts,
        refusal: Refusal,
        outgoing: SendResponse<Bytes>,
    ) -> Option<Stream> {
        let env = self.env(request::site(head));
        let answer = exchange::refused(env, &self.transport, refusal);
        let line = self.line(head);
        let is_head = head.method == http::Method::HEAD;
        let form = request::error_form(head);
        self.send_ours(is_head, form, answer, outgoing, line)
    }

    /// Adds `Server` and `Date`.
    pub(super) fn sign(&self, headers: &mut HeaderMap, server: bool, date: bool) {
        if server {
            let name = HeaderValue::from_static("netwasm");
            headers.insert(header::SERVER, name);
        }
        if date {
            headers.insert(header::DATE, self.date());
        }
    }

    fn date(&self) -> HeaderValue {
        kept(&self.date, self.local.date(), |date| {
            HeaderValue::from_bytes(date).unwrap_or_else(|_| HeaderValue::from_static(""))
        })
    }

    pub(super) fn length(&self, length: u64) -> HeaderValue {
        kept(&self.length, length, |length| (*length).into())
    }

    /// Returns the network state of the service that a request is for.
    pub(super) fn env<'a>(&'a self, site: &'a Site) -> &'a net::Env {
        &self.local.account(site).net
    }

    pub(super) fn file_failed(&self, site: &Site, path: &str, error: &io::Error) {
        exchange::file_failed(self.env(site), path, error);
    }

    /// Sends as much of a response as can be sent at once, and returns the
    /// rest.
    fn deliver(
        self: &Rc<Self>,
        status: u16,
        headers: HeaderMap,
        payload: Payload,
        trailers: Option<HeaderMap>,
        mut outgoing: SendResponse<Bytes>,
        mut line: LogLine,
    ) -> Option<Stream> {
        line.status = status;
        let response = head(status, headers)?;
        let empty = matches!(&payload, Payload::Bytes(bytes) if bytes.is_empty());
        let ends = empty && trailers.is_none();
        // An error means that the client has left.
        let mut stream = outgoing.send_response(response, ends).ok()?;
        if ends {
            return None;
        }
        if let Payload::Bytes(bytes) = &payload {
            let length = bytes.len();
            stream.reserve_capacity(length);
            if stream.capacity() >= length {
                line.sent = length as u64;
                let bytes = bytes.clone();
                if empty || stream.send_data(bytes, trailers.is_none()).is_ok() {
                    // An error means that the client has left.
                    let _ = trailers.map(|trailers| stream.send_trailers(trailers));
                }
                return None;
            }
        }
        // The bytes count at once, not only when the future is first polled.
        let queued = match &payload {
            Payload::Bytes(bytes) => Some(QueuedResponse::new(self, bytes.len())),
            Payload::Parts(_) => None,
        };
        Some(Box::pin(async move {
            let _queued = queued;
            let sent = match payload {
                Payload::Bytes(bytes) => {
                    send_bytes(&mut stream, bytes, trailers.is_none(), &mut line).await
                }
                Payload::Parts(parts) => {
                    send_parts(&mut stream, parts, trailers.is_none(), &mut line).await
                }
            };
            match (sent, trailers) {
                (Ok(()), Some(trailers)) => {
                    let _ = stream.send_trailers(trailers);
                }
                (Ok(()), None) => {}
                (Err(stopped), _) => line.stopped(&stopped, &mut stream),
            }
            Outcome::Over
        }))
    }
}

/// Returns a header's value: the cached one, or a new one.
fn kept<T: PartialEq>(kept: &Kept<T>, now: T, make: impl FnOnce(&T) -> HeaderValue) -> HeaderValue {
    let mut kept = kept.borrow_mut();
    match &*kept {
        Some((last, value)) if *last == now => value.clone(),
        _ => {
            let value = make(&now);
            kept.insert((now, value)).1.clone()
        }
    }
}

/// Returns a response without its body.
pub(super) fn head(status: u16, headers: HeaderMap) -> Option<http::Response<()>> {
    let mut response = http::Response::new(());
    *response.status_mut() = http::StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = headers;
    Some(response)
}
