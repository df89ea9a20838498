//! Connections described for people who ask.

use std::time::Duration;

use crate::transport::Transport;

/// A connection as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenConnection {
    /// Address of the peer.
    pub peer: String,
    /// `handshake`, `idle` (between requests), `relay` or `open`.
    pub stage: &'static str,
    /// Time since it was opened.
    pub open_for: Duration,
    /// Time since a byte moved.
    pub silent_for: Duration,
    /// Bytes that wait to be sent.
    pub queued: u64,
}

impl Transport {
    /// Describes the connection.
    pub(crate) fn describe(&self) -> OpenConnection {
        let core = self.core.borrow();
        let stage = if core.is_handshaking() {
            "handshake"
        } else if core.relay.is_some() {
            "relay"
        } else if self.idle.get() {
            "idle"
        } else {
            "open"
        };
        drop(core);
        OpenConnection {
            peer: self.peer.to_string(),
            stage,
            open_for: self.thread.since(self.opened),
            silent_for: self.thread.since(self.moved()),
            queued: self.queued(),
        }
    }
}
