//! WebSocket on a stream of an HTTP/2 connection: RFC 8441.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::time::{Instant, Sleep, sleep};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::handler::Site;
use netwasm_exchange::websocket::Accepted;
use netwasm_net::thread::{Thread, tick};
use netwasm_net::turns::Turn;

use crate::coalescing::Coalescing;
use crate::local::Local;
use crate::websocket::codec::{Agreed, Side};
use crate::websocket::queue::{TunnelOutlet, TunnelQueue, TunnelQueues};
use crate::websocket::session::Session;

/// Maximum given to the stream at once, in bytes.
const PIECE: usize = 64 << 10;

/// Driver of a connection on a stream, once its request was answered.
pub(crate) struct Tunnel {
    thread: Rc<Thread>,
    turn: Rc<Turn>,
    from: Coalescing,
    to: SendStream<Bytes>,
    queue: Rc<TunnelQueue>,
    session: Session,
    alarm: Pin<Box<Sleep>>,
    sent: u64,
}

/// The stream is gone, or is to be reset.
struct StreamGone(Option<ConnectionError>);

impl Tunnel {
    /// Begins a connection that a guest has accepted. The client was told.
    pub(crate) fn new(
        local: &Rc<Local>,
        site: Site,
        accepted: Accepted,
        agreed: Option<Agreed>,
        (from, to): (RecvStream, SendStream<Bytes>),
        queues: &Rc<TunnelQueues>,
    ) -> Self {
        let transport = accepted.socket.transport();
        let (thread, turn) = (Rc::clone(transport.thread()), Rc::clone(&transport.turn));
        let queue = queues.queue();
        queue.note_progress(thread.now());
        let outlet = Rc::new(TunnelOutlet(Rc::clone(&queue)));
        let net = Arc::clone(&local.account(&site).net);
        let (buffers, peer) = (local.messages(), Side::Client);
        Self {
            turn,
            from: Coalescing::new(from),
            to,
            queue,
            session: Session::new(&net, buffers, site, accepted, agreed, outlet, peer)
                .with_end_of_listener(),
            alarm: Box::pin(sleep(tick(&thread.env.limits))),
            thread,
            sent: 0,
        }
    }

    /// Drives the connection to its end. Returns the bytes sent to the client.
    pub(crate) async fn run(mut self) -> u64 {
        let ended = poll_fn(|cx| {
            let queue = Rc::clone(&self.queue);
            queue.drive(&cx.waker().clone(), || self.poll(cx))
        })
        .await;
        if let Err(StreamGone(reason)) = ended {
            self.session.lost(reason.as_ref());
            self.to.send_reset(Reason::CANCEL);
        }
        self.sent
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamGone>> {
        loop {
            if let Some(reason) = self.queue.take_failure() {
                return Poll::Ready(Err(StreamGone(Some(reason))));
            }
            if self.to.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(StreamGone(None)));
            }
            let is_blocked = self.poll_send(cx)?.is_pending();
            if self.session.is_over() {
                if is_blocked {
                    return self.poll_alarm(cx);
                }
                let ended = self.to.send_data(Bytes::new(), true);
                return Poll::Ready(ended.map_err(|_| StreamGone(None)));
            }
            if self.turn.waits() {
                return self.give_way(cx);
            }
            self.session.attend();
            let read = match self.session.is_over() {
                true => true,
                false => self.poll_read(cx)?,
            };
            let has_more = !is_blocked && !self.queue.is_empty();
            // The guest may have sent more than may be queued.
            if self.queue.has_failed() {
                continue;
            }
            if !read && !has_more {
                return self.poll_alarm(cx);
            }
            if self.turn.is_over(0) {
                return self.give_way(cx);
            }
        }
    }

    /// Leaves the rest to this stream's next turn. More may arrive before that.
    fn give_way(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamGone>> {
        self.from.hold(cx);
        self.turn.give_way(cx);
        Poll::Pending
    }

    /// Sends what is queued as far as there is room. Ready once nothing is queued.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, StreamGone> {
        loop {
            let queued = self.queue.len();
            if queued == 0 {
                self.queue.note_progress(self.thread.now());
                return Ok(Poll::Ready(()));
            }
            self.to.reserve_capacity(queued.min(PIECE));
            while self.to.capacity() == 0 {
                match self.to.poll_capacity(cx) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(_) => return Err(StreamGone(None)),
                }
            }
            let room = self.to.capacity().min(queued);
            let piece = self.queue.take(room);
            self.sent += room as u64;
            self.queue.note_progress(self.thread.now());
            self.to
                .send_data(piece, false)
                .map_err(|_| StreamGone(None))?;
        }
    }

    /// Uses a piece of the client's. Returns false if there is none, or if it is to
    /// wait.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, StreamGone> {
        if self.session.holds() {
            self.from.hold(cx);
            return Ok(false);
        }
        if self.session.has_kept() {
            self.session.go_on();
            return Ok(true);
        }
        match self.from.poll_data(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Some(Ok(piece))) => {
                self.session.received(&piece);
                self.turn.note(piece.len());
                Ok(true)
            }
            Poll::Ready(Some(Err(_))) => Err(StreamGone(None)),
            Poll::Ready(None) => {
                // There is no half-closed WebSocket.
                self.session.lost(None);
                Ok(true)
            }
        }
    }

    /// Waits until something is due. Wakes the task then.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamGone>> {
        const SLOW: ConnectionError =
            ConnectionError::Timeout("the peer takes nothing of what is queued (--write-timeout)");
        let limits = &self.thread.env.limits;
        let queued = !self.queue.is_empty();
        let progressed = self.queue.progressed();
        if queued && self.thread.passed(progressed, limits.write_timeout) {
            return Poll::Ready(Err(StreamGone(Some(SLOW))));
        }
        self.session.await_ends(cx);
        let now = self.thread.now();
        let slow = queued.then(|| self.thread.tick_after(limits.write_timeout) - now + progressed);
        let Some(due) = self.session.due().into_iter().chain(slow).min() else {
            return Poll::Pending;
        };
        // The thread's clock may tick a little later.
        let ticks = due.saturating_sub(now).saturating_add(1);
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        let wait = tick(limits).saturating_mul(ticks);
        let until = Instant::now() + wait;
        // It need not be exact, and to set it costs more than to be woken early.
        let until_alarm = self
            .alarm
            .deadline()
            .saturating_duration_since(Instant::now());
        if self.alarm.is_elapsed() || until_alarm > wait {
            self.alarm.as_mut().reset(until);
        }
        if self.alarm.as_mut().poll(cx).is_ready() {
            self.alarm.as_mut().reset(until);
            let _ = self.alarm.as_mut().poll(cx);
        }
        Poll::Pending
    }
}
