//! One HTTP connection: requests in, responses out, in their order.
//!
//! Like the task of a byte stream (`netwasm_net::connection`), the connection's
//! task is a hand-written future that reads into the worker's scratch buffer.
//! Requests that have arrived whole are answered from there at once. A
//! connection keeps only incomplete input. Responses to requests that arrived
//! together are sent together.

mod ending;
mod logged;
mod reading;
mod responding;
mod streaming;
mod websocket;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use netwasm_base::config::HttpLimits;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::head::Refusal;
use netwasm_exchange::request::Request;
use netwasm_net::protocol::Lost;
use netwasm_net::thread::Thread;
use netwasm_net::transport::{HandshakeFailed, Linger, Transport};
use netwasm_net::tunnel::TunnelDriver;
use netwasm_net::turns::REQUEST;

use crate::access_log::Entry;
use crate::exchange::{self, Own, SLOW_BODY};
use crate::forward::{Relaying, Upgrade};
use crate::h2;
use crate::local::{Local, clear};
use crate::upload::Remaining;
use crate::websocket::WebSocketConnection;

/// Maximum size of a body that is copied behind its head, in bytes. A larger
/// one is sent from where it is.
const JOIN: usize = 16 << 10;

/// Maximum size of a file that is read and sent with the head, in bytes. For so
/// little, sendfile(2) costs more than the copy.
const SMALL_FILE: u64 = 8 << 10;

/// Driver of one connection, to its end.
#[derive(Debug)]
pub(crate) struct Driver {
    transport: Rc<Transport>,
    local: Rc<Local>,
    stage: Stage,
    exchange: Conversation,
}

#[derive(Debug)]
enum Stage {
    /// The TLS handshake.
    Handshake,
    Open,
    /// An open connection that speaks HTTP/2.
    Http2(Box<h2::Connection>),
    /// A connection that has changed to another protocol, with a server.
    Tunnel(Box<TunnelDriver>),
    /// Like `Tunnel`, with a stream of a server.
    Relaying(Box<Relaying>),
    WebSocket(Box<WebSocketConnection>),
    Lingering(Linger),
    Over,
}

/// Why the connection leaves HTTP/1.1.
enum Left {
    Over(Lost),
    /// It closes while it waits for a request, or where it would wait for one if the run
    /// went on.
    Idle,
    /// The input is HTTP/2.
    Http2,
    /// It changes to another protocol, with a server.
    Tunnel(Box<Upgrade>),
    /// It changes to WebSocket.
    WebSocket(Box<WebSocketConnection>),
}

/// State of the exchange of requests and responses.
#[derive(Debug)]
struct Conversation {
    /// The handler of the connection.
    own: Own,
    reading: Reading,
    /// Input that is not used yet.
    kept: Vec<u8>,
    /// True if `kept` waits until responses are sent or other tasks had their
    /// turn, rather than for more input.
    held: bool,
    /// True if some of what was written is not sent yet.
    sending: bool,
    /// True if the peer has ended its stream.
    ended: bool,
    /// True if the last response has been written.
    last: bool,
    /// True if it answers a request that has come whole: the client sends no more.
    whole: bool,
    secure: bool,
    /// True if the first request has not arrived whole yet.
    fresh: bool,
    /// Bytes written to the transport so far.
    written: u64,
    /// Work for the time when responses are sent; most connections never have any.
    owed: Option<Box<Owed>>,
}

/// Work for the time when responses are sent.
#[derive(Debug, Default)]
struct Owed {
    /// Log entries of requests whose responses are being sent, with `written`
    /// at the end of each.
    unlogged: VecDeque<(Entry, u64)>,
    /// Guests that wait for their response to be sent, with `written` at its
    /// end.
    untold: VecDeque<(streaming::Told, u64)>,
}

#[derive(Debug)]
enum Reading {
    /// A head; `Some` once its first byte has arrived.
    Head(Option<Box<Request>>),
    Body(Box<Collecting>),
    /// Input belongs to the instance that is handling the request.
    Answer(Box<streaming::Answering>),
    /// The input begins as HTTP/2 does.
    Http2,
    /// Input belongs to another protocol.
    Tunnel(Box<Upgrade>),
    /// Input is messages.
    WebSocket(Box<WebSocketConnection>),
}

/// A request whose body is arriving.
#[derive(Debug)]
struct Collecting {
    request: Box<Request>,
    remaining: Remaining,
}

impl Driver {
    /// Returns the driver of a new connection.
    pub(crate) fn accepted(local: Rc<Local>, transport: Rc<Transport>) -> Self {
        let secure = transport.begin_handshake();
        transport.take_plain_text();
        let mut driver = Self {
            transport,
            local,
            stage: Stage::Handshake,
            exchange: Conversation {
                own: Own::default(),
                reading: Reading::Head(None),
                kept: Vec::new(),
                held: false,
                sending: false,
                ended: false,
                last: false,
                whole: false,
                secure,
                fresh: true,
                written: 0,
                owed: None,
            },
        };
        if !secure {
            driver.stage = driver.begin();
        }
        driver
    }

    fn begin(&self) -> Stage {
        if self.transport.speaks(b"h2") {
            return self.begin_http2(Vec::new());
        }
        self.transport.set_alarm(Some(self.limits().head_timeout));
        Stage::Open
    }

    /// Continues in HTTP/2; `kept` is what has arrived of it.
    fn begin_http2(&self, kept: Vec<u8>) -> Stage {
        Stage::Http2(Box::new(h2::Connection::new(
            &self.local,
            &self.transport,
            self.exchange.secure,
            kept,
        )))
    }

    fn thread(&self) -> &Rc<Thread> {
        self.transport.thread()
    }

    fn limits(&self) -> &HttpLimits {
        &self.thread().env.limits.http
    }

    /// True if so much is queued for the peer that its next request waits.
    fn is_full(&self) -> bool {
        self.transport.queued() > self.thread().env.limits.write_high as u64
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Left> {
        let mut received = None;
        let mut held = false;
        loop {
            if let Some(lost) = self.transport.over() {
                return Poll::Ready(Left::Over(lost));
            }
            let flushed = self.transport.poll_flush(cx);
            self.log_sent();
            self.tell_sent();
            match flushed {
                Poll::Ready(Err(reason)) => {
                    self.transport.fail(reason);
                    continue;
                }
                Poll::Ready(Ok(())) if self.exchange.last => {
                    return Poll::Ready(match self.is_done() {
                        true => Left::Idle,
                        false => Left::Over(None),
                    });
                }
                Poll::Ready(Ok(())) if std::mem::take(&mut self.exchange.sending) => {
                    self.begin_waiting();
                }
                Poll::Pending
                    if self.exchange.last || self.is_full() || self.transport.turn.waits() =>
                {
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if self.transport.alarm_rang() {
                self.time_out();
                continue;
            }
            match &self.exchange.reading {
                Reading::Head(_) | Reading::Body(_) => {}
                Reading::Tunnel(_) | Reading::WebSocket(_) => {
                    let reading = Reading::Head(None);
                    match std::mem::replace(&mut self.exchange.reading, reading) {
                        Reading::Tunnel(it) => return Poll::Ready(Left::Tunnel(it)),
                        Reading::WebSocket(it) => return Poll::Ready(Left::WebSocket(it)),
                        _ => {}
                    }
                }
                Reading::Answer(_) => {
                    ready!(self.poll_answering(cx));
                    if self.transport.turn.waits() {
                        return Poll::Pending;
                    }
                    continue;
                }
                Reading::Http2 => return Poll::Ready(Left::Http2),
            }
            if self.exchange.held {
                if std::mem::replace(&mut held, true) && self.transport.turn.is_over(0) {
                    self.transport.turn.give_way(cx);
                    return Poll::Pending;
                }
                self.exchange.held = false;
                let kept = std::mem::take(&mut self.exchange.kept);
                self.consume_kept(kept);
                continue;
            }
            if self.exchange.ended {
                self.exchange.last = true;
                continue;
            }
            if let Some(bytes) = received
                && self.transport.pauses(cx, bytes)
            {
                let idle = self.is_idle() && !self.exchange.sending;
                self.transport
                    .idle
                    .set(idle && !self.transport.turn.waits());
                return Poll::Pending;
            }
            let piece = self.poll_receive(cx);
            if piece.is_pending() && self.is_idle() && self.closes_idle() {
                if !self.exchange.sending {
                    return Poll::Ready(Left::Idle);
                }
                self.exchange.last = true;
                continue;
            }
            received = Some(ready!(piece));
        }
    }

    /// Starts the client's time to act, since it has taken all responses. While
    /// they were sent, nothing was received, so that time does not count.
    fn begin_waiting(&self) {
        let limits = self.limits();
        let time = match &self.exchange.reading {
            Reading::Head(None) => limits.keep_alive_timeout,
            Reading::Head(Some(_)) => limits.head_timeout,
            Reading::Body(_) => limits.body_timeout,
            // These have deadlines of their own.
            Reading::Answer(_) | Reading::Http2 | Reading::Tunnel(_) | Reading::WebSocket(_) => {
                return;
            }
        };
        self.transport.set_alarm(Some(time));
    }

    /// Receives a piece and uses it. Returns its size in bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let thread = Rc::clone(self.thread());
        let mut scratch = thread.scratch.borrow_mut();
        let received = self.transport.poll_receive(cx, &mut scratch);
        let idle = received.is_pending() && self.is_idle() && !self.exchange.sending;
        self.transport.idle.set(idle);
        let mut bytes = 0;
        match ready!(received) {
            // A request tells its length, so a missing close_notify cannot hide
            // that it was cut (RFC 9112, section 9.8).
            Err(ConnectionError::TlsTruncated) => self.client_ended(),
            Err(reason) => self.transport.fail(reason),
            Ok(received) if received.is_end() => self.client_ended(),
            Ok(received) => {
                let piece = scratch.get(received);
                bytes = piece.len();
                if self.exchange.kept.is_empty() {
                    let used = self.consume(piece);
                    let rest = piece.get(used..).unwrap_or_default();
                    self.exchange.kept.extend_from_slice(rest);
                } else {
                    let mut kept = std::mem::take(&mut self.exchange.kept);
                    kept.extend_from_slice(piece);
                    self.consume_kept(kept);
                }
            }
        }
        Poll::Ready(bytes)
    }

    fn client_ended(&mut self) {
        self.transport.core.borrow_mut().flow.peer_ended();
        self.exchange.ended = true;
        if !self.is_idle() {
            exchange::left(&self.transport);
        }
    }

    fn consume_kept(&mut self, mut kept: Vec<u8>) {
        let used = self.consume(&kept);
        if used < kept.len() {
            kept.drain(..used);
            self.exchange.kept = kept;
        }
    }

    /// True if nothing of the next request has arrived.
    fn is_idle(&self) -> bool {
        matches!(self.exchange.reading, Reading::Head(None)) && self.exchange.kept.is_empty()
    }

    /// Answers all requests that are whole, and returns the bytes used. The
    /// rest waits for more input, or until responses are sent.
    fn consume(&mut self, input: &[u8]) -> usize {
        let local = Rc::clone(&self.local);
        let mut out = local.out();
        let mut used = 0;
        while !self.exchange.last {
            let rest = input.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            if out.len() > self.thread().env.limits.write_high {
                self.write_out(&mut out);
            }
            if self.is_full() || (used > 0 && self.transport.turn.is_over(REQUEST)) {
                self.exchange.held = true;
                break;
            }
            match self.step(rest, &mut out) {
                Some(count) => used += count,
                None => break,
            }
        }
        self.write_out(&mut out);
        if self.exchange.last {
            // Later requests get no response.
            return input.len();
        }
        used
    }

    /// Sends or queues the output.
    fn write_out(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            return;
        }
        self.exchange.written += out.len() as u64;
        self.transport.write(out);
        clear(out);
        self.exchange.sending = self.transport.queued() > 0;
    }

    /// Handles the alarm: the client took too long over what it had begun, or
    /// began nothing.
    fn time_out(&mut self) {
        let local = Rc::clone(&self.local);
        let mut out = local.out();
        match std::mem::replace(&mut self.exchange.reading, Reading::Head(None)) {
            // The client still takes the last response, which has its own
            // time-out. The time for its next request begins after that.
            Reading::Head(None) if self.exchange.sending || self.exchange.held => {}
            Reading::Head(None) => self.exchange.last = true,
            Reading::Head(Some(request)) => self.refuse(request, SLOW_HEAD, &mut out),
            Reading::Body(upload) => self.refuse(upload.request, SLOW_BODY, &mut out),
            Reading::Answer(answering) => self.answer_late(answering, &mut out),
            other => self.exchange.reading = other,
        }
        self.write_out(&mut out);
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let transport = Rc::clone(&this.transport);
        let _driven = transport.drive(cx);
        loop {
            this.stage = match &mut this.stage {
                Stage::Handshake => match ready!(transport.poll_accept(cx)) {
                    Ok(()) => this.begin(),
                    Err(HandshakeFailed::PlainText(received)) => {
                        this.exchange.secure = false;
                        this.refuse_plain(&received);
                        Stage::Open
                    }
                    Err(HandshakeFailed::Linger) => Stage::Lingering(Linger::begin(&transport)),
                    Err(HandshakeFailed::Over) => Stage::Over,
                },
                Stage::Open => match ready!(this.poll_open(cx)) {
                    Left::Over(lost) => this.lose(&lost),
                    Left::Idle => this.end_idle(),
                    Left::Http2 => {
                        let kept = std::mem::take(&mut this.exchange.kept);
                        this.begin_http2(kept)
                    }
                    Left::Tunnel(upgrade) => this.begin_tunnel(*upgrade),
                    Left::WebSocket(connection) => this.begin_websocket(connection),
                },
                Stage::WebSocket(connection) => {
                    let lost = ready!(connection.poll(cx));
                    this.lose(&lost)
                }
                Stage::Tunnel(driver) => {
                    ready!(Pin::new(driver).poll(cx));
                    Stage::Over
                }
                Stage::Relaying(relaying) => {
                    let lost = ready!(Pin::new(relaying).poll(cx));
                    this.lose(&lost)
                }
                Stage::Http2(connection) => {
                    let lost = ready!(connection.poll(cx));
                    // As of its last poll, and no request has begun since.
                    let was_idle = transport.idle.get();
                    match lost {
                        None if was_idle && this.thread().is_draining() => this.end_idle(),
                        lost => this.lose(&lost),
                    }
                }
                Stage::Lingering(linger) => {
                    ready!(linger.poll(&transport, cx));
                    Stage::Over
                }
                Stage::Over => {
                    transport.release();
                    return Poll::Ready(());
                }
            };
        }
    }
}

const SLOW_HEAD: Refusal = Refusal::over("--head-timeout", 408, "the head took too long");

#[cfg(test)]
mod tests;
