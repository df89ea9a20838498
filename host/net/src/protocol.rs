//! The grammar of a connection's events, as a state machine without I/O.
//!
//! ```text
//!   connection-made  data-received*  eof-received?  connection-lost
//! ```
//!
//! [`Flow`] records what has happened and what was requested, and decides what
//! may happen next: whether to receive, whether a write is accepted, which
//! watermark event is due, whether the sending side is to be shut, and whether
//! and why the connection is over. Sockets and guests are in other modules.

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
    watermark: Mark,
}

/// State of the guest between `pause-writing` and `resume-writing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The guest may write.
    Below,
    /// The queue has passed the high watermark, and the guest is yet to be
    /// told. It gets the events even if the queue has drained since, because a
    /// guest that saw the queue's size waits for them.
    Passed,
    /// The guest was told to pause.
    Paused,
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

/// An event about the queue of unsent bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watermark {
    /// `pause-writing`.
    Pause,
    /// `resume-writing`.
    Resume,
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
            high,
            low: low.min(high),
            watermark: Mark::Below,
        }
    }

    /// True if bytes are to be read from the socket.
    pub(crate) fn receives(&self) -> bool {
        self.receiving == Receiving::Open && !self.paused && self.ending.is_none()
    }

    /// True if receiving is all that is due, given an empty queue.
    pub(crate) fn only_receives(&self) -> bool {
        self.receives() && self.watermark == Mark::Below && self.sending != Sending::Shutting
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

    /// Sets the watermarks, in bytes, given the bytes queued.
    pub(crate) fn set_watermarks(&mut self, high: u64, low: u64, queued: u64) {
        self.high = high;
        self.low = low.min(high);
        self.wrote(queued);
    }

    /// Notes that the guest wrote, given the bytes now queued.
    pub(crate) fn wrote(&mut self, queued: u64) {
        if self.watermark == Mark::Below && queued > self.high {
            self.watermark = Mark::Passed;
        }
    }

    /// Returns the high watermark and the low one.
    pub(crate) fn watermarks(&self) -> (u64, u64) {
        (self.high, self.low)
    }

    /// Returns the watermark event that is due, given the bytes queued, and
    /// counts it as delivered. None is due on a connection that is closing.
    pub(crate) fn watermark(&mut self, queued: u64) -> Option<Watermark> {
        if self.ending.is_some() {
            return None;
        }
        self.wrote(queued);
        match self.watermark {
            Mark::Passed => {
                self.watermark = Mark::Paused;
                Some(Watermark::Pause)
            }
            Mark::Paused if queued <= self.low => {
                self.watermark = Mark::Below;
                Some(Watermark::Resume)
            }
            Mark::Below | Mark::Paused => None,
        }
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
    fn watermark_events_come_in_turns() {
        let mut flow = flow();
        assert_eq!(
            flow.watermark(100),
            None,
            "at the high watermark is not past it"
        );
        assert_eq!(flow.watermark(101), Some(Watermark::Pause));
        assert_eq!(flow.watermark(500), None);
        assert_eq!(flow.watermark(21), None);
        assert_eq!(flow.watermark(20), Some(Watermark::Resume));
        assert_eq!(flow.watermark(0), None);
    }

    #[test]
    fn a_queue_that_drains_before_anybody_looks_gives_both_events() {
        let mut flow = flow();
        flow.wrote(101);
        assert!(!flow.only_receives(), "an event is due");
        assert_eq!(flow.watermark(0), Some(Watermark::Pause));
        assert!(!flow.only_receives(), "another one is due");
        assert_eq!(flow.watermark(0), Some(Watermark::Resume));
        assert!(flow.only_receives());
        assert_eq!(flow.watermark(0), None);
    }

    #[test]
    fn a_write_while_paused_delays_the_resume_and_begins_no_second_pause() {
        let mut flow = flow();
        flow.wrote(101);
        assert_eq!(flow.watermark(101), Some(Watermark::Pause));
        flow.wrote(500);
        assert_eq!(flow.watermark(21), None);
        flow.wrote(200);
        assert_eq!(flow.watermark(0), Some(Watermark::Resume));
        assert_eq!(flow.watermark(0), None);
    }

    #[test]
    fn a_high_watermark_that_is_set_below_the_queue_counts_as_passed() {
        let mut flow = flow();
        flow.wrote(50);
        assert_eq!(flow.watermark(50), None);
        flow.set_watermarks(40, 10, 50);
        assert_eq!(flow.watermark(0), Some(Watermark::Pause));
        assert_eq!(flow.watermark(0), Some(Watermark::Resume));
    }

    #[test]
    fn a_closing_connection_has_no_watermark_events() {
        let mut flow = flow();
        flow.wrote(1000);
        flow.close();
        assert_eq!(flow.watermark(1000), None);
        assert_eq!(flow.watermark(0), None);
    }

    #[test]
    fn a_low_watermark_above_the_high_one_counts_as_the_high_one() {
        let mut flow = flow();
        flow.set_watermarks(0, 50, 0);
        assert_eq!(flow.watermarks(), (0, 0));
        assert_eq!(flow.watermark(1), Some(Watermark::Pause));
        assert_eq!(flow.watermark(0), Some(Watermark::Resume));
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
