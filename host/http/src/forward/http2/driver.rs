//! The task of a connection that many requests use.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};

use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;
use netwasm_net::parked::{IDLE_TIMEOUT, MAX_AGE};
use netwasm_net::thread::{Thread, Tick};
use netwasm_net::transport::Transport;

use super::io::{Wire, WireIo};
use super::line::Multiplexed;
use super::pool::MultiplexedPool;

/// Time of silence after which the server is asked whether it is there, while
/// requests are under way.
const PING_AFTER: Duration = Duration::from_secs(15);

/// Time between two such questions. gRPC servers close the connections of clients
/// that ask more than every 5 minutes.
const PING_INTERVAL: Duration = Duration::from_secs(310);

/// Time in which it has to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for which a connection that no request has used yet is kept in a
/// shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Drives a connection to its end.
pub(super) struct Multiplexer {
    pool: Rc<MultiplexedPool>,
    /// Number of the server.
    server: u64,
    line: Rc<Multiplexed>,
    transport: Rc<Transport>,
    wire: Rc<Wire>,
    connection: Connection<WireIo, Bytes>,
    /// Opens streams, once the server's SETTINGS have come.
    sender: Option<SendRequest<Bytes>>,
    begun: Tick,
    pings: Option<PingPong>,
    /// Time of the PING that was not answered yet.
    pinged: Option<Tick>,
    /// Time of the last PING.
    last_ping: Option<Tick>,
    is_retired: bool,
    is_over: bool,
    _counted: Counted,
}

impl std::fmt::Debug for Multiplexer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multiplexer").finish_non_exhaustive()
    }
}

impl Multiplexer {
    pub(super) fn new(
        pool: &Rc<MultiplexedPool>,
        server: u64,
        line: &Rc<Multiplexed>,
        transport: &Rc<Transport>,
        (sender, mut connection): (SendRequest<Bytes>, Connection<WireIo, Bytes>),
    ) -> Self {
        let thread = transport.thread();
        Self {
            pool: Rc::clone(pool),
            server,
            line: Rc::clone(line),
            transport: Rc::clone(transport),
            wire: Rc::clone(&line.wire),
            pings: connection.ping_pong(),
            connection,
            sender: Some(sender),
            begun: thread.now(),
            pinged: None,
            last_ping: None,
            is_retired: false,
            is_over: false,
            _counted: Counted::new(&thread.env.counters),
        }
    }

    /// Sends and receives frames. Ready at the end of the connection, with the
    /// reason if it is not in order.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Option<ConnectionError>> {
        loop {
            if let Some(reason) = self.transport.failure() {
                return Poll::Ready(Some(reason));
            }
            if let Poll::Ready(Err(reason)) = self.transport.poll_flush(cx) {
                // Words that the server has said before may still be read.
                self.transport.fail(reason);
            }
            self.wire.take_blocked();
            match Pin::new(&mut self.connection).poll(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(None),
                Poll::Ready(Err(error)) => {
                    let reason = self.transport.failure();
                    let told = || ConnectionError::Other(format!("HTTP/2: {error}"));
                    return Poll::Ready(Some(reason.unwrap_or_else(told)));
                }
                Poll::Pending => {}
            }
            if self.wire.frames.borrow().has_settings()
                && let Some(sender) = self.sender.take()
            {
                self.line.open(sender, &self.transport);
            }
            if self.wire.frames.borrow().last().is_some() {
                self.retire();
            }
            let flushed = self.transport.poll_flush(cx);
            if let Poll::Ready(Err(reason)) = flushed {
                self.transport.fail(reason);
                continue;
            }
            if flushed.is_pending() || !self.wire.take_blocked() {
                return Poll::Pending;
            }
            // `h2` has more to send, and there is room again.
        }
    }

    /// Lets no more requests begin here. `h2` closes the connection after those
    /// that are under way.
    fn retire(&mut self) {
        if !std::mem::replace(&mut self.is_retired, true) {
            self.sender = None;
            self.pool.remove(self.server, &self.line);
            self.line.retire();
        }
    }

    /// Does what is due by time. Returns the time of the next.
    fn check(&mut self, thread: &Thread, cx: &mut Context<'_>) -> Option<Tick> {
        let now = thread.now();
        let after = |since: Tick, limit| thread.tick_after(limit) - now + since;
        let waiting = self.line.ring(now);
        if self.sender.is_some() {
            let limit = self.line.limit();
            if self.line.poll_unwanted(cx).is_ready() {
                self.transport.fail(ConnectionError::Aborted);
                cx.waker().wake_by_ref();
            } else if thread.passed(self.begun, limit) {
                let late = "the server's SETTINGS do not come in time";
                self.transport.fail(ConnectionError::Timeout(late));
                cx.waker().wake_by_ref();
            }
            return Some(after(self.begun, limit));
        }
        if self.line.is_retired() && !self.is_retired {
            self.retire();
            cx.waker().wake_by_ref();
        }
        let (idle, draining) = (self.line.idle_since(), thread.is_draining());
        let is_old = thread.passed(self.transport.opened(), MAX_AGE);
        if self.line.active() == 0 {
            let used = self.line.begun() > 0;
            let ends = draining && (used || thread.passed(idle, GRACE));
            if ends || is_old || thread.passed(idle, IDLE_TIMEOUT) {
                self.close_idle(cx);
                return None;
            }
            return Some(after(idle, if draining { GRACE } else { IDLE_TIMEOUT }));
        }
        if draining || is_old {
            self.retire();
        }
        let next = self.ping(thread, cx);
        Some(waiting.map_or(next, |waiting| waiting.min(next)))
    }

    fn close_idle(&mut self, cx: &mut Context<'_>) {
        if !self.is_retired {
            self.retire();
            // `h2` says GOAWAY, and is done.
            cx.waker().wake_by_ref();
        }
    }

    /// Asks a server that is silent whether it is there. Returns the time of the
    /// next look.
    fn ping(&mut self, thread: &Thread, cx: &mut Context<'_>) -> Tick {
        let now = thread.now();
        let after = |since: Tick, limit| thread.tick_after(limit) - now + since;
        let heard = self.wire.heard.get();
        let Some(pings) = &mut self.pings else {
            return after(now, PING_AFTER);
        };
        if self.pinged.is_some() && pings.poll_pong(cx).is_ready() {
            self.pinged = None;
        }
        match self.pinged {
            Some(at) => {
                let since = at.max(heard);
                if thread.passed(since, PING_TIMEOUT) {
                    let silent = "the server does not answer a PING";
                    self.transport.fail(ConnectionError::Timeout(silent));
                    cx.waker().wake_by_ref();
                }
                after(since, PING_TIMEOUT)
            }
            None => {
                let next = self.last_ping.map(|last| after(last, PING_INTERVAL));
                let next = after(heard, PING_AFTER).max(next.unwrap_or(0));
                if now < next {
                    return next;
                }
                if pings.send_ping(Ping::opaque()).is_ok() {
                    self.pinged = Some(now);
                    self.last_ping = Some(now);
                }
                after(now, PING_TIMEOUT)
            }
        }
    }

    fn end(&mut self, reason: Option<ConnectionError>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        if let Some(reason) = &reason {
            tracing::debug!(peer = %self.transport.peer(), %reason, "an HTTP/2 connection ends");
        }
        self.sender = None;
        self.pool.remove(self.server, &self.line);
        self.line.end(reason.unwrap_or(ConnectionError::Reset));
        self.transport.say_close_notify();
        self.transport.release();
    }
}

impl Future for Multiplexer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let transport = Rc::clone(&this.transport);
        let _driven = transport.drive(cx);
        this.wire.begin_turn();
        // `check` knows what the alarm was set for.
        transport.alarm_rang();
        if let Poll::Ready(reason) = this.poll_frames(cx) {
            this.end(reason);
            return Poll::Ready(());
        }
        this.line.tell_room();
        let next = this.check(transport.thread(), cx);
        transport.set_alarm_at(next);
        if this.wire.is_over.get() {
            transport.turn.give_way(cx);
        }
        Poll::Pending
    }
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        self.end(Some(ConnectionError::Aborted));
    }
}
