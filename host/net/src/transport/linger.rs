//! Beginning and end of every connection, whatever its protocol: the TLS
//! handshake of an accepted connection, and the lingering close.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::clients::ClientPlace;
use crate::io::unacknowledged;
use crate::of_listener::OfListener;
use crate::transport::Transport;

/// Time that a closed connection waits for its peer to close too.
pub const LINGER: Duration = Duration::from_secs(2);

/// Time that an idle connection waits for its peer to close too when the run
/// ends: most clients that are there close within it, and a request that crosses
/// the end meets an end, not a reset.
const LINGER_IDLE: Duration = Duration::from_millis(100);

/// Maximum that a peer may still send after the answer or the close, in bytes.
pub const LINGER_MOST: usize = 16 << 20;

/// The end of a connection. It sends the queue, shuts the sending side, and
/// reads and discards what the peer still sends. Otherwise a reset would
/// destroy what the peer has yet to read.
#[derive(Debug)]
pub struct Linger {
    shut: bool,
    /// Bytes.
    discarded: u32,
    /// The next look at whether the peer has all that was sent, for a connection
    /// that was idle.
    look: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    /// Begins the lingering close. Its time starts once the peer has all that
    /// was sent.
    pub fn begin(transport: &Transport) -> Self {
        transport.set_alarm(Some(LINGER));
        transport.set_deadline(None);
        Self {
            shut: false,
            discarded: 0,
            look: None,
        }
    }

    /// Shortens the wait, for a connection that was idle when the run ended: it is
    /// over when the peer has acknowledged the last response and the end. A peer
    /// that keeps its side open has nothing more to expect.
    #[must_use]
    pub fn briefly(mut self) -> Self {
        self.look = Some(Box::pin(sleep(LINGER_IDLE)));
        self
    }

    /// Becomes ready when the peer has closed too, or its time is over.
    pub fn poll(&mut self, transport: &Transport, cx: &mut Context<'_>) -> Poll<()> {
        // Only a deadline or the end of the run can fail the connection now.
        if transport.alarm_rang() || matches!(transport.over(), Some(Some(_))) {
            return Poll::Ready(());
        }
        if !self.shut {
            if ready!(transport.poll_flush(cx)).is_err() {
                return Poll::Ready(());
            }
            transport.shut();
            self.shut = true;
        }
        if let Some(look) = &mut self.look {
            while look.as_mut().poll(cx).is_ready() {
                if transport.is_delivered() {
                    return Poll::Ready(());
                }
                look.as_mut().reset(Instant::now() + LINGER_IDLE);
            }
        }
        let thread = transport.thread();
        let mut scratch = thread.scratch.borrow_mut();
        loop {
            match ready!(transport.poll_discard(cx, &mut scratch)) {
                Ok(count @ 1..) if (self.discarded as usize) < LINGER_MOST => {
                    let more = u32::try_from(count).unwrap_or(u32::MAX);
                    self.discarded = self.discarded.saturating_add(more);
                    if transport.pauses(cx, count) {
                        return Poll::Pending;
                    }
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Transport {
    /// True if the peer's kernel has acknowledged all that was sent, and the end.
    fn is_delivered(&self) -> bool {
        let core = self.core.borrow();
        let socket = core.socket.as_ref();
        socket.is_none_or(|socket| unacknowledged(socket.fd()) == Ok(0))
    }

    /// Returns true if the connection begins with a handshake, and sets the
    /// handshake's deadline.
    pub fn begin_handshake(&self) -> bool {
        let handshaking = self.core.borrow().tls.is_some();
        if handshaking {
            self.set_deadline(Some(self.thread().handshake_deadline()));
        }
        handshaking
    }

    /// Leaves a client that does not speak TLS to the driver of the connection,
    /// which answers in plain text, in place of an alert.
    pub fn take_plain_text(&self) {
        if let Some(session) = &mut self.core.borrow_mut().tls {
            session.take_plain_text();
        }
    }

    /// Notes the places of an accepted connection, which it keeps.
    pub(crate) fn admitted(&self, client: Option<ClientPlace>, of_listener: OfListener) {
        let mut core = self.core.borrow_mut();
        core.client = client.map(Box::new);
        core.of_listener = Some(of_listener);
    }

    /// Counts a handshake that was under way when the connection failed.
    pub(crate) fn count_failed_handshake(&self) {
        if let Some(session) = &self.core.borrow().tls
            && session.is_handshaking()
        {
            let thread = self.thread();
            match session.is_server() {
                true => thread.env.counters.handshakes_failed.add(),
                false => thread.meter.add(Measure::ClientHandshakesFailed, 1),
            }
        }
    }

    /// Advances the handshake of an accepted connection. Logs a failure.
    ///
    /// # Errors
    /// Fails with how the connection is to end.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeFailed>> {
        let result = match self.over() {
            Some(lost) => Err(lost.unwrap_or(ConnectionError::Aborted)),
            None => ready!(self.poll_handshake(cx, &mut self.thread().scratch.borrow_mut())),
        };
        self.set_deadline(None);
        Poll::Ready(result.map_err(|reason| {
            self.thread().env.counters.handshakes_failed.add();
            if let Some(received) = self.end_tls_for_plain_text() {
                return HandshakeFailed::PlainText(received);
            }
            tracing::info!(peer = %self.peer(), %reason, "TLS handshake failed");
            match reason {
                // The alert that was sent has to arrive.
                ConnectionError::Tls(_) => HandshakeFailed::Linger,
                _ => HandshakeFailed::Over,
            }
        }))
    }

    /// Goes on without TLS where plain text came that the driver wants: that.
    fn end_tls_for_plain_text(&self) -> Option<Vec<u8>> {
        let mut core = self.core.borrow_mut();
        let received = core.tls.as_mut()?.plain_text()?;
        core.tls = None;
        Some(received)
    }
}

/// How to end a connection whose handshake failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeFailed {
    /// As its driver will have it, who asked by [`Transport::take_plain_text`]:
    /// these bytes have come, which are plain text. So is what is sent now.
    PlainText(Vec<u8>),
    /// By a lingering close.
    Linger,
    /// At once.
    Over,
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::rc::Rc;
    use std::task::Waker;

    use netwasm_base::config::Limits;

    use super::*;
    use crate::testing::{connection, in_worker};
    use crate::worker::Worker;

    #[test]
    fn the_time_of_a_close_starts_when_the_peer_has_all() {
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let (transport, mut there) = connection(&worker);
            transport.write(b"the last");
            let mut linger = Linger::begin(&transport);
            let mut is_over = || {
                let mut cx = Context::from_waker(Waker::noop());
                let _driven = transport.drive(&cx);
                linger.poll(&transport, &mut cx).is_ready()
            };
            assert!(!is_over());
            let pass = |time| {
                let end = worker.thread.tick_after(time);
                for tick in worker.thread.now() + 1..=end {
                    worker.tick(tick);
                    transport.check_deadlines();
                }
            };
            there.read_exact(&mut [0; 8]).expect("the last");
            pass(LINGER / 2);
            assert!(!is_over());
            // The end of the time is a tick or two late.
            pass(LINGER);
            assert!(is_over());
        });
    }
}
