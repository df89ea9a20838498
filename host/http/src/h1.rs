//! One HTTP connection: requests in, responses out, in their order.
//!
//! Like that of a byte stream (`netwasm_net::connection`), its task is a hand-written
//! future that reads into the worker's scratch buffer. What has come whole is
//! answered at once from there; a connection keeps only what is incomplete.
//! Responses to requests that came together go out together.

mod logged;
mod reading;
mod responding;
mod streaming;

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
use netwasm_net::turns::REQUEST;

use crate::access_log::Entry;
use crate::exchange::{self, Own, SLOW_BODY};
use crate::h2;
use crate::local::{Local, clear};
use crate::upload::Remaining;

/// A body of up to so many bytes is copied behind its head, a larger one is
/// sent from where it is.
const JOIN: usize = 16 << 10;

/// A file of up to so many bytes is read and sent with the head: for so little,
/// sendfile(2) costs more than the copy.
const SMALL_FILE: u64 = 8 << 10;

/// Drives one connection to its end.
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
    /// The same in HTTP/2.
    Http2(Box<h2::Connection>),
    Lingering(Linger),
    Over,
}

/// Why nothing more is done in HTTP/1.1.
enum Left {
    Over(Lost),
    /// What has come is HTTP/2.
    Http2,
}

/// Where the exchange of requests and responses is.
#[derive(Debug)]
struct Conversation {
    /// Who answers.
    own: Own,
    reading: Reading,
    /// What arrived and was not used yet.
    kept: Vec<u8>,
    /// Whether that waits for responses to be sent or for others to have their
    /// turn, rather than for more of it.
    held: bool,
    /// Whether something of what was written is yet to be sent.
    sending: bool,
    /// Whether the peer has ended its stream.
    ended: bool,
    /// Whether the response that was written last is the last one.
    last: bool,
    secure: bool,
    /// Whether the first request has yet to come whole.
    fresh: bool,
    /// What was written to the transport so far, bytes.
    written: u64,
    /// Requests whose responses are being sent, for the access log, with what
    /// was written up to the end of each.
    unlogged: VecDeque<(Entry, u64)>,
    /// Guests that are to be told when their response was sent, in the same way.
    untold: VecDeque<(streaming::Told, u64)>,
}

#[derive(Debug)]
enum Reading {
    /// A head; `Some` as soon as a byte of it has come.
    Head(Option<Box<Request>>),
    Body(Box<Collecting>),
    /// What comes is for the instance that is at the request.
    Answer(Box<streaming::Answering>),
    /// What has come begins as HTTP/2 does.
    Http2,
}

/// A request whose body is arriving.
#[derive(Debug)]
struct Collecting {
    request: Box<Request>,
    remaining: Remaining,
}

impl Driver {
    /// A connection that was just accepted.
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
                secure,
                fresh: true,
                written: 0,
                unlogged: VecDeque::new(),
                untold: VecDeque::new(),
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

    /// Goes on in HTTP/2, with what has come of it.
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

    /// How much may be queued for the peer before its next request waits.
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
                    return Poll::Ready(Left::Over(None));
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
            match self.exchange.reading {
                Reading::Head(_) | Reading::Body(_) => {}
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
            let closes = self.thread().is_draining() || self.transport.is_reclaimed();
            if self.exchange.ended || (closes && self.is_idle()) {
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
            received = Some(ready!(self.poll_receive(cx)));
        }
    }

    /// The client has taken all of the responses, and is the next to do
    /// something. What it could not do meanwhile, as nothing was received, does
    /// not count against it.
    fn begin_waiting(&self) {
        let limits = self.limits();
        let time = match &self.exchange.reading {
            Reading::Head(None) => limits.keep_alive_timeout,
            Reading::Head(Some(_)) => limits.head_timeout,
            Reading::Body(_) => limits.body_timeout,
            // Their deadlines are of their own.
            Reading::Answer(_) | Reading::Http2 => return,
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
            // A request tells its length, so nothing can be cut off that would
            // not be missed (RFC 9112, section 9.8).
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

    /// Whether the connection waits for a request of which nothing has come.
    fn is_idle(&self) -> bool {
        matches!(self.exchange.reading, Reading::Head(None)) && self.exchange.kept.is_empty()
    }

    /// Answers all requests that are whole, and returns how many bytes were
    /// used. The rest waits for more, or for responses to be sent.
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
            // What follows has no answer.
            return input.len();
        }
        used
    }

    /// Sends what was put together, or queues it.
    fn write_out(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            return;
        }
        self.exchange.written += out.len() as u64;
        self.transport.write(out);
        clear(out);
        self.exchange.sending = self.transport.queued() > 0;
    }

    /// The client took too long for what it had begun, or began nothing.
    fn time_out(&mut self) {
        let local = Rc::clone(&self.local);
        let mut out = local.out();
        match std::mem::replace(&mut self.exchange.reading, Reading::Head(None)) {
            // It still takes the last response, which has its own time-out; its
            // time for the next request begins after that.
            Reading::Head(None) if self.exchange.sending || self.exchange.held => {}
            Reading::Head(None) => self.exchange.last = true,
            Reading::Head(Some(request)) => self.refuse(request, SLOW_HEAD, &mut out),
            Reading::Body(upload) => self.refuse(upload.request, SLOW_BODY, &mut out),
            Reading::Answer(answering) => self.answer_late(answering, &mut out),
            Reading::Http2 => self.exchange.reading = Reading::Http2,
        }
        self.write_out(&mut out);
    }

    /// The connection is at its end.
    fn lose(&mut self, lost: &Lost) -> Stage {
        let sending = match &self.exchange.reading {
            Reading::Answer(answering) => answering.is_sending(),
            _ => false,
        };
        self.lose_answering();
        self.log_unsent();
        self.exchange.own.close();
        let transport = &self.transport;
        let counters = &self.thread().env.counters;
        match lost {
            None => {
                counters.connections_closed.add();
                tracing::debug!(peer = %transport.peer(), "connection closed");
                let receives = transport.core.borrow().flow.receiving_open();
                transport.say_close_notify();
                // One that was idle has nothing to lose by a reset.
                if !transport.is_reclaimed() && (receives || transport.queued() > 0) {
                    return Stage::Lingering(Linger::begin(transport));
                }
            }
            Some(reason) => {
                counters.connections_lost.add();
                tracing::info!(peer = %transport.peer(), %reason, "connection lost");
                if sending || transport.queued() > 0 {
                    // What was cut short must not look whole.
                    transport.reset_on_close();
                }
            }
        }
        Stage::Over
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
                    Left::Http2 => {
                        let kept = std::mem::take(&mut this.exchange.kept);
                        this.begin_http2(kept)
                    }
                },
                Stage::Http2(connection) => {
                    let lost = ready!(connection.poll(cx));
                    this.lose(&lost)
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

const SLOW_HEAD: Refusal = Refusal {
    status: 408,
    reason: "the head took too long",
};

#[cfg(test)]
mod tests;
