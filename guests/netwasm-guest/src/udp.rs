//! Datagrams.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use crate::cell::with;
use crate::host::DatagramTransport;
use crate::wait::Waiter;
use crate::{Error, Result, executor};

/// The most bytes of datagrams that lie unread. After that, the newest are
/// dropped, as by a kernel.
const BACKLOG: usize = 256 << 10;

/// State that the events of a socket share with the task that handles it.
pub(crate) struct SharedSocket {
    transport: DatagramTransport,
    queue: Cell<VecDeque<(Vec<u8>, SocketAddr)>>,
    /// Bytes in the queue, each datagram counted as some more than it has.
    queued: Cell<usize>,
    lost: Cell<bool>,
    reason: Cell<Option<Box<Error>>>,
    reader: Waiter,
}

/// A rough size of what is kept for a datagram.
const fn weight(data: &[u8]) -> usize {
    data.len() + 64
}

impl SharedSocket {
    pub(crate) fn new(transport: DatagramTransport) -> Rc<Self> {
        Rc::new(Self {
            transport,
            queue: Cell::default(),
            queued: Cell::new(0),
            lost: Cell::new(false),
            reason: Cell::new(None),
            reader: Waiter::default(),
        })
    }

    pub(crate) fn datagram_received(&self, data: Vec<u8>, peer: SocketAddr) {
        let queued = self.queued.get() + weight(&data);
        if queued > BACKLOG {
            return;
        }
        self.queued.set(queued);
        with(&self.queue, |queue| queue.push_back((data, peer)));
        self.reader.wake();
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn error_received(&self, error: &Error, peer: Option<SocketAddr>) {
        use crate::log;
        let mut message = peer.map_or_else(String::new, |peer| peer.to_string() + ": ");
        message.push_str(error.text());
        log::write(log::Level::Debug, &message);
    }

    pub(crate) fn connection_lost(&self, reason: Option<Error>) {
        self.lost.set(true);
        self.reason.set(reason.map(Box::new));
        self.reader.wake();
    }
}

/// A datagram socket of a listener (`--udp`); asyncio's `DatagramTransport`.
/// Dropping it closes it: the next datagram then gets a fresh socket and a
/// fresh task.
///
/// ```
/// use netwasm_guest::{Result, UdpSocket};
///
/// async fn echo(mut socket: UdpSocket) -> Result<()> {
///     while let Some((data, peer)) = socket.recv_from().await? {
///         socket.send_to(&data, peer)?;
///     }
///     Ok(())
/// }
/// # let mut socket = netwasm_guest::testing::serve_udp(echo);
/// # let peer = ([192, 0, 2, 1], 7).into();
/// # socket.send_from(peer, "x");
/// # socket.expect_to(peer, "x");
/// ```
pub struct UdpSocket(Rc<SharedSocket>);

impl UdpSocket {
    /// Waits for a datagram, which may be empty, and returns it with its
    /// sender. Returns `None` once the socket is closed.
    ///
    /// If datagrams arrive faster than they are read, those beyond 256 KiB are
    /// dropped. Errors of single datagrams, such as a peer that no longer
    /// listens, go to the log at the level `debug`.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn recv_from(&mut self) -> Result<Option<(Vec<u8>, SocketAddr)>> {
        std::future::poll_fn(|cx| {
            let shared = &self.0;
            if let Some((data, peer)) = with(&shared.queue, VecDeque::pop_front) {
                shared.queued.set(shared.queued.get() - weight(&data));
                return Poll::Ready(Ok(Some((data, peer))));
            }
            if shared.lost.get() {
                return Poll::Ready(shared.reason.take().map_or(Ok(None), |error| Err(*error)));
            }
            shared.reader.register(cx);
            Poll::Pending
        })
        .await
    }

    /// Sends a datagram. A kernel without room drops it, as UDP may.
    ///
    /// # Errors
    /// - `AccessDenied`: the address has not sent anything here lately, and no
    ///   `--allow-udp` allows it.
    /// - `InvalidArgument`: the data is too long for a datagram, or the address
    ///   is of the other family.
    /// - `InvalidState`: the socket is closed.
    pub fn send_to(&self, data: impl AsRef<[u8]>, to: SocketAddr) -> Result<()> {
        self.0.transport.send_to(data.as_ref(), to)
    }

    /// Returns the address that the socket is bound to; `None` if it is closed.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.transport.local_address()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        if !self.0.lost.get() {
            self.0.transport.close();
        }
    }
}

/// Starts the task of a socket.
pub(crate) fn serve<F>(shared: &Rc<SharedSocket>, handler: impl FnOnce(UdpSocket) -> F)
where
    F: Future + 'static,
    F::Output: executor::Outcome,
{
    let handled = handler(UdpSocket(shared.clone()));
    executor::start(async move {
        executor::Outcome::report(handled.await, || "the datagram socket".to_owned());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn datagrams_go_back_to_their_senders_in_order() {
        let mut socket = testing::serve_udp(async |mut socket: UdpSocket| -> Result<()> {
            while let Some((data, peer)) = socket.recv_from().await? {
                socket.send_to(&data, peer)?;
            }
            Ok(())
        });
        let peers: [SocketAddr; 2] = [([192, 0, 2, 1], 7).into(), ([192, 0, 2, 2], 8).into()];
        for peer in peers {
            socket.send_from(peer, "");
            socket.send_from(peer, peer.to_string());
        }
        for peer in peers {
            socket.expect_to(peer, "");
            socket.expect_to(peer, peer.to_string());
        }
    }

    #[test]
    fn a_task_that_does_not_read_keeps_a_bounded_number() {
        let mut socket = testing::serve_udp(async |mut socket: UdpSocket| -> Result<()> {
            crate::sleep(std::time::Duration::from_secs(1)).await;
            let mut count = 0;
            while let Ok(Some(_)) =
                crate::timeout(std::time::Duration::from_secs(1), socket.recv_from())
                    .await
                    .unwrap_or(Ok(None))
            {
                count += 1;
            }
            socket.send_to(count.to_string(), ([192, 0, 2, 1], 7).into())
        });
        let peer = ([192, 0, 2, 1], 7).into();
        for _ in 0..10_000 {
            socket.send_from(peer, [0; 960]);
        }
        socket.expect_to(peer, "256");
    }
}
