//! WebSocket on a connection of its own, after HTTP/1.1: a client's, or one that a
//! guest has opened to a server.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::handler::Site;
use netwasm_exchange::websocket::Accepted;
use netwasm_net::protocol::Lost;
use netwasm_net::thread::Tick;
use netwasm_net::transport::Transport;
use netwasm_net::turns::REQUEST;

use crate::local::Local;
use crate::websocket::codec::{Agreed, Side, ThreadBuffers};
use crate::websocket::sender::Outlet;
use crate::websocket::session::Session;

/// Driver of a connection, once the request for it was answered.
#[derive(Debug)]
pub(crate) struct WebSocketConnection {
    session: Session,
}

impl Outlet for Transport {
    fn write(&self, parts: &[&[u8]]) {
        self.write_vectored(parts);
    }

    fn queued(&self) -> u64 {
        Self::queued(self)
    }

    fn progressed(&self) -> Tick {
        Self::progressed(self)
    }

    fn wake(&self) {
        self.nudge();
    }

    fn pause(&self, paused: bool) {
        match paused {
            true => self.pause_receiving(),
            false => self.resume_receiving(),
        }
    }

    fn fail(&self, reason: ConnectionError) {
        Self::fail(self, reason);
    }

    fn is_closing(&self) -> bool {
        Self::is_closing(self)
    }
}

impl WebSocketConnection {
    /// Begins a connection that a guest has accepted.
    pub(crate) fn new(
        local: &Rc<Local>,
        transport: &Rc<Transport>,
        site: Site,
        accepted: Accepted,
        agreed: Option<Agreed>,
    ) -> Self {
        let net = Arc::clone(&local.account(&site).net);
        let outlet = Rc::clone(transport);
        let (buffers, peer) = (local.messages(), Side::Client);
        Self {
            session: Session::new(&net, buffers, site, accepted, agreed, outlet, peer),
        }
    }

    /// Begins a connection that a server has accepted.
    pub(crate) fn to_server(
        buffers: &Rc<ThreadBuffers>,
        accepted: Accepted,
        agreed: Option<Agreed>,
    ) -> Self {
        let transport = Rc::clone(accepted.socket.transport());
        let net = Arc::clone(&transport.thread().env);
        let (site, peer) = (Site::Own, Side::Server);
        Self {
            session: Session::new(&net, buffers, site, accepted, agreed, transport, peer),
        }
    }

    /// Adds input that has arrived with the request, or with its answer.
    pub(crate) fn keep(&mut self, early: Vec<u8>) {
        self.session.keep(early);
    }

    /// Ready at the end of the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let transport = Rc::clone(self.session.transport());
        let mut received = None;
        let mut held = false;
        loop {
            if let Some(lost) = transport.over() {
                self.session.lost(lost.as_ref());
                return Poll::Ready(lost);
            }
            let flushed = transport.poll_flush(cx);
            let was_sent = flushed.is_ready();
            match flushed {
                Poll::Ready(Err(reason)) => {
                    transport.fail(reason);
                    continue;
                }
                Poll::Ready(Ok(())) if self.session.is_over() => return Poll::Ready(None),
                Poll::Pending if self.session.is_over() || transport.turn.waits() => {
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            // `attend` knows what the alarm was set for.
            let rang = transport.alarm_rang();
            self.session.await_ends(cx);
            self.session.attend();
            if !self.session.keeps_alarm(rang) {
                transport.set_alarm_at(self.session.due());
            }
            if self.session.is_over() || transport.over().is_some() {
                continue;
            }
            // A frame of the guest or of the host may have found no room in the socket.
            // Only a flush waits for that.
            if was_sent && transport.queued() > 0 {
                // The guest may send more each time that it hears of room.
                if transport.turn.is_over(REQUEST) {
                    transport.turn.give_way(cx);
                    return Poll::Pending;
                }
                continue;
            }
            if self.session.holds() {
                return Poll::Pending;
            }
            if self.session.has_kept() {
                if std::mem::replace(&mut held, true) && transport.turn.is_over(0) {
                    transport.turn.give_way(cx);
                    return Poll::Pending;
                }
                self.session.go_on();
                continue;
            }
            loop {
                if let Some(bytes) = received
                    && transport.pauses(cx, bytes)
                {
                    return Poll::Pending;
                }
                received = Some(ready!(self.poll_receive(cx)));
                if !transport.only_receives() || !self.session.only_receives() {
                    break;
                }
            }
        }
    }

    /// Receives a piece and uses it. Returns its size in bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let transport = Rc::clone(self.session.transport());
        let mut scratch = transport.thread().scratch.borrow_mut();
        match ready!(transport.poll_receive(cx, &mut scratch)) {
            Err(reason) => transport.fail(reason),
            Ok(received) if received.is_end() => {
                transport.core.borrow_mut().flow.peer_ended();
                // There is no half-closed WebSocket.
                self.session.lost(None);
            }
            Ok(received) => {
                let piece = scratch.get(received);
                self.session.received(piece);
                return Poll::Ready(piece.len());
            }
        }
        Poll::Ready(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::sender::FrameSender;

    #[test]
    fn an_idle_connection_is_of_small_blocks() {
        // The sizes are those of the allocator's blocks, of which the sender's has two
        // counts, too.
        let sizes = [
            (size_of::<WebSocketConnection>(), 224),
            (size_of::<FrameSender>() + 16, 80),
        ];
        for (size, most) in sizes {
            assert!(size <= most, "{size} of {most}");
        }
    }
}
