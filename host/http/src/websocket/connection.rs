//! WebSocket on a connection of its own, after HTTP/1.1: a client's, or one that a
//! guest has opened to a server.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::handler::Site;
use netwasm_exchange::websocket::Accepted;
use netwasm_net::protocol::Lost;
use netwasm_net::transport::Transport;
use netwasm_net::turns::REQUEST;

use crate::local::Local;
use crate::websocket::codec::{Agreed, Side, ThreadBuffers};
use crate::websocket::sender::Outlet;
use crate::websocket::session::Session;

/// Driver of a connection, once the request for it was answered.
#[derive(Debug)]
pub(crate) struct WebSocketConnection {
    transport: Rc<Transport>,
    session: Session,
}

/// The way to the peer of a connection.
#[derive(Debug)]
struct Direct(Rc<Transport>);

impl Outlet for Direct {
    fn write(&self, parts: &[&[u8]]) {
        self.0.write_vectored(parts);
    }

    fn queued(&self) -> u64 {
        self.0.queued()
    }

    fn wake(&self) {
        self.0.nudge();
    }

    fn pause(&self, paused: bool) {
        match paused {
            true => self.0.pause_receiving(),
            false => self.0.resume_receiving(),
        }
    }

    fn fail(&self, reason: ConnectionError) {
        self.0.fail(reason);
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
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
        let outlet = Box::new(Direct(Rc::clone(transport)));
        let (buffers, peer) = (local.messages(), Side::Client);
        Self {
            transport: Rc::clone(transport),
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
        let (site, outlet) = (Site::Own, Box::new(Direct(Rc::clone(&transport))));
        let peer = Side::Server;
        Self {
            session: Session::new(&net, buffers, site, accepted, agreed, outlet, peer),
            transport,
        }
    }

    /// Adds input that has arrived with the request, or with its answer.
    pub(crate) fn keep(&mut self, early: Vec<u8>) {
        self.session.keep(early);
    }

    /// Ready at the end of the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let transport = Rc::clone(&self.transport);
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
            transport.alarm_rang();
            self.session.await_ends(cx);
            self.session.attend();
            transport.set_alarm_at(self.session.due());
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
            if let Some(bytes) = received
                && transport.pauses(cx, bytes)
            {
                return Poll::Pending;
            }
            received = Some(ready!(self.poll_receive(cx)));
        }
    }

    /// Receives a piece and uses it. Returns its size in bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let thread = Rc::clone(self.transport.thread());
        let mut scratch = thread.scratch.borrow_mut();
        match ready!(self.transport.poll_receive(cx, &mut scratch)) {
            Err(reason) => self.transport.fail(reason),
            Ok(received) if received.is_end() => {
                self.transport.core.borrow_mut().flow.peer_ended();
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
