//! The end of a connection of HTTP/1.1: after its last response, by a failure, or
//! while it waits for a request.

use netwasm_net::protocol::Lost;
use netwasm_net::transport::Linger;

use crate::h1::{Conversation, Driver, Reading, Stage};

impl Driver {
    /// True if a connection that waits for a request is to close: its place is
    /// wanted, or the run ends. In the latter case, a request that has come is
    /// answered first.
    pub(super) fn closes_idle(&self) -> bool {
        self.transport.is_reclaimed() || (self.thread().closes_idle() && self.transport.is_quiet())
    }

    /// True if the connection would wait for a request now, but for the end of the
    /// run, of which the worker's tasks may not have been notified yet.
    pub(super) fn is_done(&self) -> bool {
        let Conversation { whole, ended, .. } = self.exchange;
        whole && !ended && self.is_idle() && self.thread().is_draining()
    }

    /// Ends a connection that waits for a request. Returns the next stage.
    pub(super) fn end_idle(&mut self) -> Stage {
        match self.lose(&None) {
            Stage::Lingering(linger) => Stage::Lingering(linger.briefly()),
            stage => stage,
        }
    }

    /// Ends the connection. Returns the next stage.
    pub(super) fn lose(&mut self, lost: &Lost) -> Stage {
        let sending = match &self.exchange.reading {
            Reading::Answer(answering) => answering.is_sending(),
            _ => false,
        };
        self.lose_answering();
        self.log_unsent();
        self.exchange.own.close();
        let transport = &self.transport;
        transport.record_end(lost);
        match lost {
            None => {
                let receives = transport.core.borrow().flow.receiving_open();
                transport.say_close_notify();
                // A reset does no harm to a connection that was idle.
                if !transport.is_reclaimed() && (receives || transport.queued() > 0) {
                    return Stage::Lingering(Linger::begin(transport));
                }
            }
            // An incomplete response must not look whole.
            Some(_) if sending || transport.queued() > 0 => transport.reset_on_close(),
            Some(_) => {}
        }
        Stage::Over
    }
}
