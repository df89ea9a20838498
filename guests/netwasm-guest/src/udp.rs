//! Datagrams.

use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

use crate::cell::with;
use crate::channel::oneshot;
use crate::host::{self, DatagramTransport, Endpoint};
use crate::slab::Slab;
use crate::wait::Waiter;
use crate::{Error, ErrorKind, Result, SocketOption, connect, executor};

/// The most bytes of datagrams that lie unread. After that, the newest are
/// dropped, as by a kernel.
const BACKLOG: usize = 256 << 10;

/// State that the events of a socket share with the task that handles it.
pub(crate) struct SharedSocket {
    pub(crate) transport: DatagramTransport,
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

/// Meaning of a token of the host.
enum Place {
    /// An attempt to connect, and who waits for it.
    Connecting(oneshot::Sender<Result<UdpSocket>>),
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(dead_code, reason = "the host of tests finds sockets by itself")
    )]
    Open(Rc<SharedSocket>),
    /// A socket that is being bound.
    Binding,
}

thread_local! {
    static SOCKETS: ManuallyDrop<Cell<Slab<Place>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

fn sockets<R>(work: impl FnOnce(&mut Slab<Place>) -> R) -> R {
    SOCKETS.with(|sockets| with(sockets, work))
}

/// Gives a socket a token.
#[cfg(target_family = "wasm")]
pub(crate) fn register(shared: Rc<SharedSocket>) -> usize {
    sockets(|all| all.insert(Place::Open(shared)))
}

/// Finds a socket by its token.
#[cfg(target_family = "wasm")]
pub(crate) fn find(token: u64) -> Option<Rc<SharedSocket>> {
    let token = usize::try_from(token).ok()?;
    sockets(|all| match all.get_mut(token) {
        Some(Place::Open(shared)) => Some(shared.clone()),
        _ => None,
    })
}

/// Frees a token.
#[cfg(target_family = "wasm")]
pub(crate) fn release(token: u64) {
    if let Ok(token) = usize::try_from(token) {
        drop(sockets(|all| all.remove(token)));
    }
}

/// Notes a socket of the guest's own.
fn opened(token: usize, transport: DatagramTransport) -> (UdpSocket, Option<Place>) {
    let shared = SharedSocket::new(transport);
    #[cfg(not(target_family = "wasm"))]
    host::opened(&shared);
    let open = Place::Open(shared.clone());
    let place = sockets(|all| {
        let place = all.get_mut(token)?;
        Some(std::mem::replace(place, open))
    });
    (UdpSocket(shared), place)
}

/// Handles the end of an attempt to open a connected socket.
pub(crate) fn connected(token: u64, outcome: Result<DatagramTransport>) {
    let Ok(token) = usize::try_from(token) else {
        return;
    };
    let (outcome, place) = match outcome {
        Ok(transport) => {
            let (socket, place) = opened(token, transport);
            (Ok(socket), place)
        }
        Err(error) => (Err(error), sockets(|all| all.remove(token))),
    };
    if let Some(Place::Connecting(waiting)) = place {
        // Dropped, and so closed, if nobody waits.
        let _ = waiting.send(outcome);
    }
    executor::run();
}

/// A datagram socket: one of a listener (`--udp`), or one that
/// [`bind`](Self::bind) or [`connect`](Self::connect) opened; asyncio's
/// `DatagramTransport`. Dropping it closes it. If it is a listener's, the next
/// datagram then gets a fresh socket and a fresh task.
///
/// Sockets of one's own need `export!(udp: ...)`, or `datagrams` in
/// [`export!`](crate::export!).
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
    /// Opens a socket at a local address. It sends to all peers that
    /// `--allow-udp` allows, and receives from them; from everybody, if
    /// `--allow-listen` has its address. With port 0, the system picks a port.
    ///
    /// ```
    /// use std::net::SocketAddr;
    ///
    /// use netwasm_guest::{Result, UdpSocket};
    ///
    /// async fn ask(server: SocketAddr) -> Result<Option<Vec<u8>>> {
    ///     let mut socket = UdpSocket::bind(([0, 0, 0, 0], 0).into())?;
    ///     socket.send_to("question", server)?;
    ///     Ok(socket.recv_from().await?.map(|(answer, _)| answer))
    /// }
    /// # netwasm_guest::testing::block_on(async {
    /// # let server = ([192, 0, 2, 1], 7).into();
    /// # let task = netwasm_guest::spawn(ask(server));
    /// # netwasm_guest::yield_now().await;
    /// # let mut network = netwasm_guest::testing::accept_udp();
    /// # network.expect_to(server, "question");
    /// # network.send_from(server, "answer");
    /// # assert_eq!(task.await.unwrap().unwrap().unwrap(), b"answer");
    /// # });
    /// ```
    ///
    /// # Errors
    /// - `AccessDenied`: the port is not 0, and no `--allow-listen` has this
    ///   address.
    /// - `AddressNotBindable`: the address is in use, or not of this machine.
    /// - `LimitExceeded`: there are too many sockets.
    pub fn bind(local: SocketAddr) -> Result<Self> {
        let token = sockets(|all| all.insert(Place::Binding));
        match host::bind_datagrams(token as u64, local) {
            Ok(transport) => Ok(opened(token, transport).0),
            Err(error) => {
                drop(sockets(|all| all.remove(token)));
                Err(error)
            }
        }
    }

    /// Opens a socket that sends to one peer, and receives only from it:
    /// `HOST:PORT` or `[IPV6]:PORT`. Needs `--allow-udp`. Nothing is sent yet.
    ///
    /// ```
    /// use netwasm_guest::{Result, UdpSocket};
    ///
    /// async fn ask(server: &str) -> Result<Option<Vec<u8>>> {
    ///     let mut socket = UdpSocket::connect(server).await?;
    ///     socket.send("question")?;
    ///     socket.recv().await
    /// }
    /// # netwasm_guest::testing::block_on(async {
    /// # let server = ([192, 0, 2, 1], 7).into();
    /// # let task = netwasm_guest::spawn(ask("192.0.2.1:7"));
    /// # netwasm_guest::yield_now().await;
    /// # let mut network = netwasm_guest::testing::accept_udp();
    /// # network.expect_to(server, "question");
    /// # network.send_from(server, "answer");
    /// # assert_eq!(task.await.unwrap().unwrap().unwrap(), b"answer");
    /// # });
    /// ```
    ///
    /// # Errors
    /// - `AccessDenied`: no `--allow-udp` allows it.
    /// - `InvalidArgument`: it is not an endpoint.
    /// - those of [`resolve`](crate::resolve), `RemoteUnreachable`, and
    ///   `LimitExceeded`.
    pub async fn connect(to: &str) -> Result<Self> {
        let Endpoint::Name(name, port) = connect::parse(to)? else {
            return Err(ErrorKind::InvalidArgument.into());
        };
        let (sender, socket) = oneshot::channel();
        let token = sockets(|all| all.insert(Place::Connecting(sender)));
        let give_up = move || {
            let attempt = sockets(|all| match all.get_mut(token) {
                Some(Place::Connecting(sender)) if sender.is_closed() => all.remove(token),
                _ => None,
            });
            if attempt.is_some() {
                host::cancel_datagrams(token as u64);
            }
            drop(attempt);
        };
        // Dropped in this order: the receiver, and then what gives up.
        let _cancel = connect::Cancel(give_up);
        let socket = socket;
        host::connect_datagrams(token as u64, &name, port)?;
        socket.await?
    }

    /// Waits for a datagram of the peer of a connected socket; see
    /// [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// The socket failed.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>> {
        Ok(self.recv_from().await?.map(|(data, _)| data))
    }

    /// Sends a datagram to the peer of a connected socket. A kernel without
    /// room drops it, as UDP may.
    ///
    /// # Errors
    /// - `InvalidArgument`: the data is too long for a datagram.
    /// - `InvalidState`: the socket is closed, or not connected.
    pub fn send(&self, data: impl AsRef<[u8]>) -> Result<()> {
        self.0.transport.send(data.as_ref())
    }

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

    /// Returns the peer of a connected socket; `None` if it is not connected, or
    /// closed.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.transport.remote_address()
    }

    /// Sets an option of a socket that was opened here.
    ///
    /// # Errors
    /// - `InvalidArgument`: the value is out of range.
    /// - `InvalidState`: the socket is closed.
    /// - `NotSupported`: datagram sockets have no such option, or the socket is
    ///   a listener's.
    pub fn set_option(&self, option: SocketOption) -> Result<()> {
        self.0.transport.set_option(option)
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

    #[test]
    fn a_bound_socket_sends_to_anyone_and_a_connected_one_to_its_peer() {
        let peer: SocketAddr = ([192, 0, 2, 1], 7).into();
        let other: SocketAddr = ([192, 0, 2, 9], 7).into();
        testing::block_on(async {
            testing::set_addresses("example.org", &[peer.ip()]);
            let bound = UdpSocket::bind(([0, 0, 0, 0], 0).into()).expect("it binds");
            assert_eq!(bound.peer(), None);
            assert!(bound.local_address().is_some_and(|local| local.port() > 0));
            bound.send_to("a", peer).expect("it is sent");
            bound.send_to("b", other).expect("it is sent");
            let error = bound.send("c").expect_err("it has no peer");
            assert_eq!(error.kind(), ErrorKind::InvalidState);
            let mut network = testing::accept_udp();
            network.expect_to(peer, "a");
            network.expect_to(other, "b");

            let mut joined = UdpSocket::connect("example.org:7").await.expect("it opens");
            assert_eq!(joined.peer(), Some(peer));
            joined.send("d").expect("it is sent");
            joined.send_to("e", other).expect_err("it has another peer");
            let mut network = testing::accept_udp();
            network.expect_to(peer, "d");
            network.send_from(peer, "f");
            assert_eq!(joined.recv().await.expect("it is read"), Some(b"f".into()));

            let error = UdpSocket::connect("example.net:7").await.err();
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::NameUnresolvable));
        });
    }

    #[test]
    fn options_are_those_of_the_socket() {
        testing::block_on(async {
            let socket = UdpSocket::bind(([0, 0, 0, 0], 0).into()).expect("it binds");
            assert!(socket.set_option(SocketOption::HopLimit(5)).is_ok());
            let error = socket.set_option(SocketOption::NoDelay(true));
            let kind = error.err().map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::NotSupported));
            let (conn, _peer) = testing::pair();
            assert!(conn.set_nodelay(false).is_ok());
            let idle = std::time::Duration::from_secs(60);
            assert!(conn.set_keepalive(Some(idle)).is_ok());
            let error = conn.set_option(SocketOption::HopLimit(0));
            let kind = error.err().map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::InvalidArgument));
        });
    }
}
