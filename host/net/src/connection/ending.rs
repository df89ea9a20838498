//! The end of a connection: what the guest is told, and what the peer sees.

use std::rc::Rc;
use std::task::{Context, Poll};

use netwasm_base::error::ConnectionError;

use super::{Driver, Next, Stage};
use crate::guest::EventGuest;
use crate::protocol::Lost;
use crate::stream::Stream;
use crate::transport::Linger;

impl<G: EventGuest> Driver<G> {
    /// Announces `connection-lost`, and ends the relays of the connection.
    pub(super) fn lose(&self, guest: &Rc<G>, connection: G::Connection, lost: &Lost) -> Stage<G> {
        if !self.transport.is_parked() {
            self.record(lost);
        }
        self.end_relays(lost);
        if !self.transport.is_given_back() {
            // A trap in this call is logged, and the connection ends anyway.
            let _ = guest.connection_lost(connection, lost.as_ref());
        }
        self.leave(lost)
    }

    /// Ends the guest's streams, and wakes the connection relayed to this one.
    pub(super) fn lose_streams(&self, stream: &Stream, lost: &Lost) -> Stage<G> {
        if !self.transport.is_parked() {
            self.record(lost);
        }
        let feeder = self.transport.core.borrow().fed_by.upgrade();
        let stage = self.leave(lost);
        stream.lost(lost);
        if let Some(feeder) = feeder {
            feeder.nudge();
        }
        stage
    }

    /// Ends a connection whose guest is gone.
    pub(super) fn lose_guest(&self, guest: &G) -> Stage<G> {
        if guest.has_exited() {
            self.transport.close();
            return Stage::Exited;
        }
        self.end_relays(&Some(ConnectionError::Aborted));
        if !self.transport.is_parked() {
            self.transport.thread().env.counters.connections_lost.add();
        }
        self.cut()
    }

    /// Sends what a guest that has exited wrote.
    pub(super) fn poll_exited(&self, cx: &mut Context<'_>) -> Poll<Lost> {
        let transport = &self.transport;
        loop {
            if let Some(lost) = transport.over() {
                return Poll::Ready(lost);
            }
            match transport.poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => transport.fail(reason),
                Poll::Ready(Ok(())) if transport.is_handshaking() => {
                    if let Next::Sleep = self.attend_handshake(cx) {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Counts and logs how a connection ended.
    pub(super) fn record(&self, lost: &Lost) {
        if lost.is_some() {
            self.transport.count_failed_handshake();
        }
        self.transport.record_end(lost);
    }

    /// Finishes a connection that the guest no longer has.
    pub(super) fn leave(&self, lost: &Lost) -> Stage<G> {
        let transport = &self.transport;
        match lost {
            None => {}
            // TLS shows the failure by itself: by an alert, which has to
            // arrive, or by the lack of `close_notify`.
            Some(ConnectionError::Tls(_) | ConnectionError::TlsTruncated)
                if transport.queued() == 0 => {}
            Some(_) => return self.cut(),
        }
        let core = transport.core.borrow();
        let flushing = core.tls.is_some() || core.flow.receiving_open();
        let lingers = lost.is_none() && core.socket.is_some() && flushing;
        drop(core);
        if lingers {
            transport.say_close_notify();
            Stage::Lingering(Linger::begin(transport))
        } else {
            Stage::Over
        }
    }

    /// Ends a failed connection by a reset, so that a stream cut short does not
    /// look complete. A Unix socket has no resets, and just ends.
    pub(super) fn cut(&self) -> Stage<G> {
        self.transport.reset_on_close();
        Stage::Over
    }
}
