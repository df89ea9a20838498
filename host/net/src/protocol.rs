//! The grammar of a connection's events, as a state machine without I/O.
//!
//! ```text
//!   connection-made  data-received*  eof-received?  connection-lost
//! ```
//!
//! [`Flow`] records what has happened and what was requested, and decides what
//! may happen next: whether to receive, whether a write is accepted, whether
//! `writable` or `tls-started` is due, whether the sending side is to be shut,
//! and whether and why the connection is over. Sockets and guests are in other modules.

use netwasm_base::error::ConnectionError;

/// The state of one byte-stream connection between the peer and the guest.
#[derive(Debug)]
pub struct Flow {
    receiving: Receiving,
    paused: bool,
    sending: Sending,
    ending: Option<Ending>,
    high: u64,
    low: u64,
    /// True if the guest was promised `writable`, or asked for it. It comes
    /// even if the queue drains at once, because the guest waits for it.
    promised: bool,
    /// True if the guest began TLS, and is to be told when the handshake is
    /// done.
    upgrading: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Open,
    /// The peer has ended its stream.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    /// To be shut once the queue is empty.
    Shutting,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// Over once the queue is empty.
    AfterFlush,
    /// Over now.
    Now(ConnectionError),
}

/// How a connection ended: the reason of `connection-lost`.
pub type Lost = Option<ConnectionError>;

impl Flow {
    /// Returns the state of a new connection. Watermarks are in bytes.
    pub(crate) fn new(high: u64, low: u64) -> Self {
        Self {
            receiving: Receiving::Open,
            paused: false,
            sending: Sending::Open,
            ending: None,
            high: high.max(1),
            low: low.min(high),
            promised: false,
            upgrading: false,
        }
    }

    /// True if bytes are to be read from the socket.
    pub(crate) fn receives(&self) -> bool {
        self.receiving == Receiving::Open && !self.paused && self.ending.is_none()
    }

    /// True if receiving is all that is due, given an empty queue.
    pub(crate) fn only_receives(&self) -> bool {
        self.receives() && !self.promised && !self.upgrading && self.sending != Sending::Shutting
    }

    /// True if the peer may still send.
    pub fn receiving_open(&self) -> bool {
        self.receiving == Receiving::Open
    }

    /// True if writes are accepted; otherwise they are ignored.
    pub(crate) fn accepts_writes(&self) -> bool {
        self.sending == Sending::Open && self.ending.is_none()
    }

    /// True if the queue is still to be flushed.
    pub(crate) fn flushes(&self) -> bool {
        !matches!(self.ending, Some(Ending::Now(_)))
    }

    /// True if the connection has been closed or has failed.
    pub(crate) fn is_closing(&self) -> bool {
        self.ending.is_some()
    }

    pub(crate) fn pause_receiving(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume_receiving(&mut self) {
        self.paused = false;
    }

    /// Notes that the peer ended its stream.
    pub fn peer_ended(&mut self) {
        self.receiving = Receiving::Ended;
    }

    /// Asks to shut the sending side once the queue is empty. Returns false if
    /// it was already asked, or if the connection is closing.
    pub(crate) fn shut_sending(&mut self) -> bool {
        let open = self.accepts_writes();
        if open {
            self.sending = Sending::Shutting;
        }
        open
    }

    /// True if the sending side is to be shut now.
    pub(crate) fn shut_is_due(&self, queued: u64) -> bool {
        self.sending == Sending::Shutting && queued == 0 && self.flushes()
    }

    /// Notes that the sending side was shut.
    pub(crate) fn sending_ended(&mut self) {
        self.sending = Sending::Ended;
    }

    /// True if the sending side was shut.
    pub(crate) fn is_shut(&self) -> bool {
        self.sending == Sending::Ended
    }

    /// Returns the reason of a failure.
    pub(crate) fn failure(&self) -> Option<&ConnectionError> {
        match &self.ending {
            Some(Ending::Now(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Ends the connection once the queue is empty.
    pub(crate) fn close(&mut self) {
        self.ending.get_or_insert(Ending::AfterFlush);
    }

    /// Ends the connection now. The first reason is kept.
    pub(crate) fn fail(&mut self, reason: ConnectionError) {
        if !matches!(self.ending, Some(Ending::Now(_))) {
            self.ending = Some(Ending::Now(reason));
        }
    }

    /// Sets the watermarks, in bytes.
    pub(crate) fn set_watermarks(&mut self, high: u64, low: u64) {
        self.high = high.max(1);
        self.low = low.min(high);
    }

    /// Returns the high watermark and the low one.
    pub(crate) fn watermarks(&self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// Returns how many bytes the guest may write, given the bytes queued. A
    /// return of 0 promises `writable`. There is no limit on a connection that
    /// is closing, because it ignores writes and has no events to come but its
    /// end.
    pub(crate) fn room(&mut self, queued: u64) -> u64 {
        if !self.accepts_writes() {
            return u64::MAX;
        }
        let room = self.high.saturating_sub(queued);
        self.promised |= room == 0;
        room
    }

    /// Promises `writable`, at the guest's request.
    pub(crate) fn want_write(&mut self) {
        self.promised = self.accepts_writes();
    }

    /// True if `writable` is due, given the bytes queued. Counts it as
    /// delivered.
    pub(crate) fn is_writable(&mut self, queued: u64) -> bool {
        let due = self.promised && queued <= self.low && self.accepts_writes();
        self.promised &= !due;
        due
    }

    /// Notes that the guest began TLS.
    pub(crate) fn begin_tls(&mut self) {
        self.upgrading = true;
    }

    /// True if `tls-started` is due, given that no handshake is under way.
    /// Counts it as delivered.
    pub(crate) fn has_started_tls(&mut self) -> bool {
        std::mem::take(&mut self.upgrading) && self.ending.is_none()
    }

    /// Returns how the connection ended, given the bytes queued; `None` if it
    /// goes on.
    pub(crate) fn over(&self, queued: u64) -> Option<Lost> {
        match &self.ending {
            Some(Ending::Now(reason)) => Some(Some(reason.clone())),
            Some(Ending::AfterFlush) if queued == 0 => Some(None),
            Some(Ending::AfterFlush) => None,
            None => (self.receiving == Receiving::Ended && self.sending == Sending::Ended)
                .then_some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow::new(100, 20)
    }

    #[test]
    fn no_room_promises_one_event_at_the_low_watermark() {
        let mut flow = flow();
        assert_eq!(flow.room(0), 100);
        assert_eq!(flow.room(99), 1);
        assert!(!flow.is_writable(0), "nothing was promised");
        assert_eq!(flow.room(100), 0);
        assert_eq!(flow.room(500), 0);
        assert!(!flow.is_writable(21));
        assert!(flow.is_writable(20));
        assert!(!flow.is_writable(0), "it comes once");
    }

    #[test]
    fn a_queue_that_drains_before_anybody_looks_keeps_the_promise() {
        let mut flow = flow();
        assert_eq!(flow.room(101), 0);
        assert!(!flow.only_receives(), "an event is due");
        assert!(flow.is_writable(0));
        assert!(flow.only_receives());
    }

    #[test]
    fn an_event_that_was_asked_for_comes_with_room() {
        let mut flow = flow();
        flow.want_write();
        assert!(!flow.is_writable(21));
        assert!(flow.is_writable(0));
        assert!(!flow.is_writable(0));
    }

    #[test]
    fn a_connection_that_takes_no_more_promises_nothing() {
        let mut flow = flow();
        assert_eq!(flow.room(1000), 0);
        flow.close();
        assert!(!flow.is_writable(0), "not even what was promised before");
        assert_eq!(flow.room(1000), u64::MAX);
        flow.want_write();
        assert!(!flow.is_writable(0));
        assert!(!flow.only_receives());
    }

    #[test]
    fn watermarks_are_in_order_and_leave_room() {
        let mut flow = flow();
        flow.set_watermarks(0, 50);
        assert_eq!(flow.watermarks(), (1, 0));
        assert_eq!(flow.room(0), 1, "an empty queue has room");
        assert_eq!(flow.room(1), 0);
        assert!(flow.is_writable(0));
    }

    #[test]
    fn the_end_of_a_handshake_is_told_once() {
        let mut flow = flow();
        assert!(!flow.has_started_tls());
        flow.begin_tls();
        assert!(!flow.only_receives());
        assert!(flow.has_started_tls());
        assert!(!flow.has_started_tls());
    }

    #[test]
    fn close_waits_for_the_queue_and_takes_no_more() {
        let mut flow = flow();
        flow.close();
        assert!(!flow.accepts_writes() && !flow.receives());
        assert!(flow.flushes());
        assert_eq!(flow.over(1), None);
        assert_eq!(flow.over(0), Some(None));
    }

    #[test]
    fn the_first_failure_is_the_reason_and_overrides_a_close() {
        let mut flow = flow();
        flow.close();
        flow.fail(ConnectionError::Reset);
        flow.fail(ConnectionError::Aborted);
        flow.close();
        assert!(!flow.flushes());
        assert_eq!(flow.over(1000), Some(Some(ConnectionError::Reset)));
    }

    #[test]
    fn a_half_closed_connection_lives_until_both_sides_ended() {
        let mut flow = flow();
        flow.peer_ended();
        assert!(!flow.receives() && flow.accepts_writes());
        assert_eq!(flow.over(0), None);
        assert!(flow.shut_sending());
        assert!(!flow.shut_sending(), "only once");
        assert!(!flow.accepts_writes());
        assert!(!flow.shut_is_due(1));
        assert!(flow.shut_is_due(0));
        flow.sending_ended();
        assert_eq!(flow.over(0), Some(None));
    }

    #[test]
    fn the_guest_may_end_its_side_first() {
        let mut flow = flow();
        assert!(flow.shut_sending());
        flow.sending_ended();
        assert!(flow.receives());
        assert_eq!(flow.over(0), None);
        flow.peer_ended();
        assert_eq!(flow.over(0), Some(None));
    }

    #[test]
    fn nothing_is_received_while_paused() {
        let mut flow = flow();
        flow.pause_receiving();
        flow.pause_receiving();
        assert!(!flow.receives());
        flow.resume_receiving();
        assert!(flow.receives());
    }
}
