//! Tunnels in which bytes are copied: connections and streams of HTTP/2 that have
//! changed to another protocol (RFC 9110, section 7.8, and RFC 8441). Two plain
//! connections are joined natively.

use std::any::Any;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use netwasm_base::error::ConnectionError;
use netwasm_net::transport::Transport;
use netwasm_net::tunnel::TunnelDriver;

use crate::coalescing::Coalescing;
use crate::forward::line::Line;
use crate::forward::outcome::{ServerEnd, Upgrade};

/// Maximum given to a stream at once, in bytes.
const PIECE: usize = 64 << 10;

/// Bytes after which other tasks have their turn.
const TURN: usize = 256 << 10;

/// One of the ends is gone.
struct Cut;

/// An end of a tunnel.
trait End {
    /// Sends what it was given. Ready once nothing of that is left.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Cut>;

    /// Returns what has arrived; nothing is the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cut>>;

    /// Keeps what arrives together, while the other end takes nothing.
    fn hold(&mut self, _cx: &mut Context<'_>) {}

    /// True if it takes another piece.
    fn has_room(&self) -> bool {
        true
    }

    /// Takes as much of a piece as there is room for. Returns the number of bytes.
    fn send(&mut self, cx: &mut Context<'_>, piece: &mut Bytes) -> Result<usize, Cut>;

    /// Ends what is sent.
    fn end(&mut self) -> Result<(), Cut>;

    /// Closes both directions; `is_cut` is true if the other end is gone.
    fn close(self, is_cut: bool);
}

/// A stream of HTTP/2.
pub(in crate::forward) struct StreamEnd {
    from: Coalescing,
    to: SendStream<Bytes>,
    /// Holdings that last as long as the stream.
    _held: Box<dyn Any>,
}

/// The client's connection.
struct ClientEnd {
    transport: Rc<Transport>,
    /// Bytes that have arrived early.
    early: Bytes,
}

impl std::fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamEnd").finish_non_exhaustive()
    }
}

impl StreamEnd {
    /// `held` is kept until the end.
    pub(in crate::forward) fn new(
        from: RecvStream,
        to: SendStream<Bytes>,
        held: Box<dyn Any>,
    ) -> Self {
        Self {
            from: Coalescing::new(from),
            to,
            _held: held,
        }
    }
}

impl End for StreamEnd {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Cut> {
        match self.to.poll_reset(cx).is_ready() {
            true => Err(Cut),
            // The connection's task sends what there is.
            false => Ok(Poll::Ready(())),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cut>> {
        match std::task::ready!(self.from.poll_data(cx)) {
            Some(piece) => Poll::Ready(piece.map_err(|_| Cut)),
            None => Poll::Ready(Ok(Bytes::new())),
        }
    }

    fn hold(&mut self, cx: &mut Context<'_>) {
        self.from.hold(cx);
    }

    fn send(&mut self, cx: &mut Context<'_>, piece: &mut Bytes) -> Result<usize, Cut> {
        self.to.reserve_capacity(piece.len().min(PIECE));
        while self.to.capacity() == 0 {
            match self.to.poll_capacity(cx) {
                Poll::Pending => return Ok(0),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Err(Cut),
            }
        }
        let room = self.to.capacity().min(piece.len());
        let sent = self.to.send_data(piece.split_to(room), false);
        sent.map(|()| room).map_err(|_| Cut)
    }

    fn end(&mut self) -> Result<(), Cut> {
        self.to.send_data(Bytes::new(), true).map_err(|_| Cut)
    }

    fn close(mut self, is_cut: bool) {
        if is_cut {
            self.to.send_reset(Reason::CANCEL);
        }
    }
}

impl End for Line {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Cut> {
        flush(&self.transport, cx)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cut>> {
        Self::poll_piece(self, cx).map_err(|_| Cut)
    }

    fn has_room(&self) -> bool {
        has_room(&self.transport)
    }

    fn send(&mut self, _: &mut Context<'_>, piece: &mut Bytes) -> Result<usize, Cut> {
        Ok(write(&self.transport, piece))
    }

    fn end(&mut self) -> Result<(), Cut> {
        self.transport.write_eof().map_err(|_| Cut)
    }

    fn close(mut self, is_cut: bool) {
        Self::close(&mut self, is_cut);
    }
}

impl End for ClientEnd {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Cut> {
        flush(&self.transport, cx)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Cut>> {
        if !self.early.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.early)));
        }
        let thread = Rc::clone(self.transport.thread());
        let mut scratch = thread.scratch.borrow_mut();
        let received = self.transport.poll_receive(cx, &mut scratch);
        let received = std::task::ready!(received).map_err(|_| Cut)?;
        Poll::Ready(Ok(Bytes::copy_from_slice(scratch.get(received))))
    }

    fn has_room(&self) -> bool {
        has_room(&self.transport)
    }

    fn send(&mut self, _: &mut Context<'_>, piece: &mut Bytes) -> Result<usize, Cut> {
        Ok(write(&self.transport, piece))
    }

    fn end(&mut self) -> Result<(), Cut> {
        self.transport.write_eof().map_err(|_| Cut)
    }

    /// Its own driver closes it.
    fn close(self, _: bool) {}
}

fn flush(transport: &Transport, cx: &mut Context<'_>) -> Result<Poll<()>, Cut> {
    if transport.poll_flush(cx).map_err(|_| Cut)?.is_ready() {
        transport.shut_if_due();
    }
    match (transport.has_failed(), transport.queued()) {
        (true, _) => Err(Cut),
        (false, 0) => Ok(Poll::Ready(())),
        (false, _) => Ok(Poll::Pending),
    }
}

fn has_room(transport: &Transport) -> bool {
    transport.queued() <= transport.thread().env.limits.write_high as u64
}

fn write(transport: &Transport, piece: &mut Bytes) -> usize {
    let piece = std::mem::take(piece);
    transport.write(&piece);
    piece.len()
}

/// One direction of a tunnel.
#[derive(Default)]
struct Direction {
    /// Bytes for which there was no room yet.
    pending: Bytes,
    has_ended: bool,
    /// Bytes that were passed on.
    passed: u64,
}

impl Direction {
    /// Passes on what there is. Returns the number of bytes; 1 for the end.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl End,
        to: &mut impl End,
    ) -> Result<usize, Cut> {
        if self.pending.is_empty() {
            if self.has_ended {
                return Ok(0);
            }
            if !to.has_room() {
                from.hold(cx);
                return Ok(0);
            }
            match from.poll_piece(cx) {
                Poll::Pending => return Ok(0),
                Poll::Ready(piece) => self.pending = piece?,
            }
            if self.pending.is_empty() {
                self.has_ended = true;
                return to.end().map(|()| 1);
            }
        }
        let count = to.send(cx, &mut self.pending)?;
        if !self.pending.is_empty() {
            from.hold(cx);
        }
        self.passed += count as u64;
        Ok(count)
    }

    fn is_over(&self) -> bool {
        self.has_ended && self.pending.is_empty()
    }
}

/// Copies what arrives at either end to the other until both have ended. `driven`
/// is a transport that no other task drives. Returns the bytes sent to the client,
/// and an error if an end is gone before that.
async fn relay<C: End, S: End>(
    mut client: C,
    mut server: S,
    driven: Option<Rc<Transport>>,
) -> (u64, Result<(), Cut>) {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let ended = poll_fn(|cx| {
        let _driven = driven.as_ref().map(|transport| transport.drive(cx));
        poll(cx, (&mut client, &mut server), (&mut up, &mut down))
    });
    let ended = ended.await;
    client.close(ended.is_err());
    server.close(ended.is_err());
    (down.passed, ended)
}

fn poll(
    cx: &mut Context<'_>,
    (client, server): (&mut impl End, &mut impl End),
    (up, down): (&mut Direction, &mut Direction),
) -> Poll<Result<(), Cut>> {
    let mut moved = 0;
    loop {
        let flushed = client.poll_flush(cx)?.is_ready() & server.poll_flush(cx)?.is_ready();
        if flushed && up.is_over() && down.is_over() {
            return Poll::Ready(Ok(()));
        }
        let count = up.pass(cx, client, server)? + down.pass(cx, server, client)?;
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

/// A tunnel as the task of the client's connection goes on with it.
#[derive(Debug)]
pub(crate) enum ClientTunnel {
    Native(Box<TunnelDriver>),
    Copied(Relaying),
}

/// A tunnel in which bytes are copied. Ready with the reason of the end, if it is
/// not in order.
pub(crate) struct Relaying(Pin<Box<dyn Future<Output = Option<ConnectionError>>>>);

impl std::fmt::Debug for Relaying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relaying").finish_non_exhaustive()
    }
}

impl Future for Relaying {
    type Output = Option<ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl Upgrade {
    /// Joins the client's connection with the server's end. `early` is what has
    /// arrived from the client.
    ///
    /// # Errors
    /// Fails if one of them is closing.
    pub(crate) fn join(
        self,
        client: &Rc<Transport>,
        early: &[u8],
    ) -> Result<ClientTunnel, ConnectionError> {
        let server = match self.end {
            ServerEnd::Line(line) => {
                let driver = line.join(client, early)?;
                return Ok(ClientTunnel::Native(Box::new(driver)));
            }
            ServerEnd::Stream(stream) => stream,
        };
        let transport = Rc::clone(client);
        let client = ClientEnd {
            transport: Rc::clone(client),
            early: Bytes::copy_from_slice(early),
        };
        Ok(ClientTunnel::Copied(Relaying(Box::pin(async move {
            let (_, ended) = relay(client, server, None).await;
            let gone = |Cut| {
                // A body that was cut short must not look whole.
                transport.reset_on_close();
                transport.failure().unwrap_or(ConnectionError::Aborted)
            };
            ended.map_err(gone).err()
        }))))
    }

    /// Copies between a stream of the client and the server's end until both have
    /// ended. Returns the bytes sent to the client.
    pub(crate) async fn relay(self, from: RecvStream, to: SendStream<Bytes>) -> u64 {
        let client = StreamEnd::new(from, to, Box::new(()));
        let (sent, _) = match self.end {
            ServerEnd::Line(line) => {
                let transport = Rc::clone(&line.transport);
                relay(client, line, Some(transport)).await
            }
            ServerEnd::Stream(server) => relay(client, server, None).await,
        };
        sent
    }
}
