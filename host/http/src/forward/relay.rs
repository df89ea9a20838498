//! A connection to a server, joined with a stream of an HTTP/2 client: both have
//! changed to another protocol (RFC 8441).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use crate::forward::line::Line;

/// Maximum given to the stream at once, in bytes.
const PIECE: usize = 64 << 10;

/// Bytes after which other streams of the connection have their turn.
const TURN: usize = 256 << 10;

/// The two ends, and what is on its way between them.
struct StreamRelay {
    line: Line,
    from: RecvStream,
    to: SendStream<Bytes>,
    /// Bytes of the server for which the stream has no room yet.
    pending: Bytes,
    /// Bytes sent to the client.
    sent: u64,
    client_ended: bool,
    server_ended: bool,
}

/// One of the ends is gone.
struct Cut;

impl Line {
    /// Copies what arrives on either side to the other until both have ended.
    /// Returns the bytes sent to the client.
    pub(crate) async fn relay(self, from: RecvStream, to: SendStream<Bytes>) -> u64 {
        let mut relay = StreamRelay {
            line: self,
            from,
            to,
            pending: Bytes::new(),
            sent: 0,
            client_ended: false,
            server_ended: false,
        };
        let ended = poll_fn(|cx| relay.poll(cx)).await;
        if ended.is_err() {
            relay.to.send_reset(Reason::CANCEL);
        }
        relay.line.close(ended.is_err());
        relay.sent
    }
}

impl StreamRelay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let transport = Rc::clone(&self.line.transport);
        let _driven = transport.drive(cx);
        let mut moved = 0;
        loop {
            if transport.poll_flush(cx).map_err(|_| Cut)?.is_ready() {
                transport.shut_if_due();
            }
            if self.to.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Cut));
            }
            let count = self.poll_from_client(cx)? + self.poll_from_server(cx)?;
            let over = self.client_ended && self.server_ended && transport.queued() == 0;
            if over && self.pending.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if transport.has_failed() {
                return Poll::Ready(Err(Cut));
            }
            if count == 0 {
                return Poll::Pending;
            }
            moved += count;
            if moved > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Takes a piece of the client, if there is room for it. Returns its size; 1
    /// for the end.
    fn poll_from_client(&mut self, cx: &mut Context<'_>) -> Result<usize, Cut> {
        let transport = &self.line.transport;
        let high = transport.thread().env.limits.write_high as u64;
        if self.client_ended || transport.queued() > high {
            return Ok(0);
        }
        match self.from.poll_data(cx) {
            Poll::Pending => Ok(0),
            Poll::Ready(Some(Ok(piece))) => {
                transport.write(&piece);
                let released = self.from.flow_control().release_capacity(piece.len());
                released.map_err(|_| Cut)?;
                Ok(piece.len().max(1))
            }
            Poll::Ready(Some(Err(_))) => Err(Cut),
            Poll::Ready(None) => {
                self.client_ended = true;
                transport.write_eof().map_err(|_| Cut)?;
                Ok(1)
            }
        }
    }

    /// Sends the client as much of the server's as there is room for. Returns the
    /// number of bytes; 1 for the end.
    fn poll_from_server(&mut self, cx: &mut Context<'_>) -> Result<usize, Cut> {
        if self.pending.is_empty() {
            if self.server_ended {
                return Ok(0);
            }
            match self.line.poll_piece(cx) {
                Poll::Pending => return Ok(0),
                Poll::Ready(Ok(piece)) if piece.is_empty() => {
                    self.server_ended = true;
                    let ended = self.to.send_data(Bytes::new(), true);
                    return ended.map(|()| 1).map_err(|_| Cut);
                }
                Poll::Ready(Ok(piece)) => self.pending = piece,
                Poll::Ready(Err(_)) => return Err(Cut),
            }
        }
        self.to.reserve_capacity(self.pending.len().min(PIECE));
        while self.to.capacity() == 0 {
            match self.to.poll_capacity(cx) {
                Poll::Pending => return Ok(0),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Err(Cut),
            }
        }
        let room = self.to.capacity().min(self.pending.len());
        let piece = self.pending.split_to(room);
        self.sent += room as u64;
        let sent = self.to.send_data(piece, false);
        sent.map(|()| room).map_err(|_| Cut)
    }
}
