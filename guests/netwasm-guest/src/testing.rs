//! Tests of handlers by plain `cargo test`: without a host, over connections
//! in memory, and with a clock that never waits.
//!
//! ```
//! use netwasm_guest::{Connection, Result, testing};
//!
//! async fn shout(mut conn: Connection) -> Result<()> {
//!     while let Some(line) = conn.read_line().await? {
//!         conn.write_all(line.to_uppercase() + "\n").await?;
//!     }
//!     Ok(())
//! }
//!
//! # // As a test: #[test]
//! # fn it_shouts() {
//! let mut client = testing::serve(shout);
//! client.send("hello\nwor");
//! client.expect("HELLO\n");
//! client.send("ld\n");
//! client.expect("WORLD\n");
//! client.finish();
//! client.expect_end();
//! # }
//! # it_shouts();
//! ```
//!
//! The functions that expect something let the tasks run until it has come. If
//! they all wait for a time, the clock is moved on: a test of a timeout of a
//! minute takes no time. After an hour on that clock, or if nothing is left
//! that could happen, the test fails.
//!
//! Each test has its own thread, and so its own tasks, clock and listeners. If
//! several run in one thread, begin each with [`reset`].

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::connection::serve as start;
use crate::executor::Outcome;
use crate::host::memory::{self, Backlog, DatagramTransport, End, Pipe, Socket};
use crate::log::Level;
use crate::time::nanoseconds;
use crate::udp::SharedSocket;
use crate::{
    Connection, Error, ErrorKind, Operation, UdpSocket, connect, executor, shutdown, timers,
};

pub use crate::http::testing::{Answer, Client, RequestBuilder};
pub use crate::websocket::testing::{
    WebSocketClient, WebSocketListener, listen_websocket, try_websocket, websocket,
};

/// How long a test waits for something, on the clock of the test.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs all tasks that can run now. The clock stands still.
pub fn run() {
    loop {
        executor::run();
        if !executor::has_work() && !memory::deliver() {
            return;
        }
    }
}

/// Moves the clock on, and runs the tasks whose times have come.
pub fn advance(duration: Duration) {
    let end = memory::now() + nanoseconds(duration);
    run();
    while memory::advance(end) {
        run();
    }
    memory::set_now(end);
    run();
}

/// Runs until something is the case, and moves the clock if need be. Returns
/// false if that never happens.
pub(crate) fn wait_for(mut what: impl FnMut() -> bool, limit: u64) -> bool {
    loop {
        run();
        if what() {
            return true;
        }
        if !memory::advance(limit) {
            return false;
        }
    }
}

pub(crate) fn patience() -> u64 {
    memory::now() + nanoseconds(PATIENCE)
}

/// Runs a future, and all tasks beside it, and returns its result. The clock
/// moves on whenever all wait for it.
///
/// # Panics
/// If the future waits for what cannot come any more.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if flag.0.swap(false, Relaxed) {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            run();
        } else {
            let woken = wait_for(|| flag.0.load(Relaxed), u64::MAX);
            assert!(woken, "the future waits for what cannot come any more");
        }
    }
}

/// Forgets all tasks, connections, listeners, names, files and shared state of
/// this thread.
pub fn reset() {
    executor::clear();
    timers::clear();
    memory::reset();
    shutdown::reset();
}

/// Begins the host's shutdown, with the time that is left.
pub fn shut_down(deadline: Option<Duration>) {
    shutdown::begin(deadline);
    run();
}

/// Returns the value of a metric with these labels, or the sum of a histogram's
/// values; `None` if it was not used.
pub fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    memory::metric(name, labels)
}

/// Lets the [shared](crate::shared) values fill all their room, so that no more
/// are taken, or no longer.
pub fn fill_shared(is_full: bool) {
    memory::shared::set_full(is_full);
}

/// Returns the log since the last call.
pub fn take_log() -> Vec<(Level, String)> {
    memory::take_log()
}

/// Lets [`resolve`](crate::resolve) find addresses for a name.
pub fn set_addresses(name: &str, addresses: &[IpAddr]) {
    memory::set_addresses(name, addresses);
}

/// Lets [`File::open`](crate::File::open), and responses with a path, find a
/// file.
pub fn add_file(path: &str, content: impl AsRef<[u8]>) {
    memory::add_file(path, content.as_ref());
}

/// Returns a connection and its other end.
pub fn pair() -> (Connection, Peer) {
    let pipe = Pipe::new();
    let shared = pipe.open();
    let connection = Connection::new(&shared);
    memory::hold(shared);
    (connection, Peer(pipe))
}

/// Starts a handler with a connection, and returns the client's end.
pub fn serve<F>(handler: impl FnOnce(Connection) -> F) -> Peer
where
    F: Future + 'static,
    F::Output: Outcome,
{
    let pipe = Pipe::new();
    let shared = pipe.open();
    start(&shared, handler);
    memory::hold(shared);
    run();
    Peer(pipe)
}

/// The other end of a connection.
pub struct Peer(Rc<Pipe>);

impl Peer {
    /// Sends bytes, in one event.
    pub fn send(&mut self, data: impl AsRef<[u8]>) {
        self.0.send(data.as_ref());
        run();
    }

    /// Ends the sending side.
    pub fn finish(&mut self) {
        self.0.finish();
        run();
    }

    /// Resets the connection.
    pub fn reset(&mut self) {
        let kind = ErrorKind::ConnectionReset;
        self.fail(Error::fixed(kind, Operation::Receive, kind.text()));
    }

    /// Lets the connection fail.
    pub fn fail(&mut self, error: Error) {
        self.0.fail(error);
        run();
    }

    /// Receives exactly these bytes.
    ///
    /// # Panics
    /// If others come, or too few.
    #[track_caller]
    pub fn expect(&mut self, data: impl AsRef<[u8]>) {
        let expected = data.as_ref();
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let more = wait_for(|| self.0.available() > 0, patience());
            received.extend(self.0.take(expected.len() - received.len()));
            if !more {
                break;
            }
        }
        assert!(
            received == expected,
            "expected \"{}\", received \"{}\"",
            expected.escape_ascii(),
            received.escape_ascii(),
        );
        run();
    }

    /// Receives a line, and returns it without its end.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        let has_line = wait_for(|| self.0.peek().contains(&b'\n'), patience());
        let received = self.0.peek();
        assert!(
            has_line,
            "expected a line, received \"{}\"",
            received.escape_ascii()
        );
        let length = received.iter().position(|&byte| byte == b'\n');
        let line = self.0.take(length.map_or(0, |at| at + 1));
        run();
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Takes all bytes that are there now.
    pub fn read_available(&mut self) -> Vec<u8> {
        run();
        let data = self.0.take(usize::MAX);
        run();
        data
    }

    /// Expects that nothing is there to be received now.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        run();
        let received = self.0.peek();
        assert!(
            received.is_empty(),
            "expected nothing, received \"{}\"",
            received.escape_ascii()
        );
    }

    /// Expects that the other side ends in an orderly way, without another
    /// byte.
    ///
    /// # Panics
    /// If bytes come, or no end, or a reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let ended = wait_for(
            || self.0.end().is_some() || self.0.available() > 0,
            patience(),
        );
        self.expect_nothing();
        assert!(ended, "expected the end, but the connection is open");
        assert!(
            self.0.end() != Some(End::Aborted),
            "expected an orderly end, but the connection was reset"
        );
    }

    /// Expects that the other side resets the connection.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn expect_reset(&mut self) {
        let reset = wait_for(|| self.0.end() == Some(End::Aborted), patience());
        assert!(reset, "expected a reset");
    }

    /// Returns true if the connection is in TLS. (Nothing is encrypted here.)
    pub fn in_tls(&self) -> bool {
        self.0.in_tls()
    }

    /// Returns true if the other side receives nothing now: backpressure.
    pub fn is_paused(&self) -> bool {
        run();
        self.0.is_paused()
    }

    /// Returns the number of bytes that wait to be received.
    pub fn available(&self) -> usize {
        run();
        self.0.available()
    }

    /// Returns the idle timeout that the other side set.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.idle_timeout()
    }
}

/// Lets connections to an endpoint succeed: `HOST:PORT`, `[IPV6]:PORT`,
/// `unix:PATH` or `@GROUP`, written as the handler writes it.
///
/// # Panics
/// If the endpoint is not one.
pub fn listen(endpoint: &str) -> Listener {
    let place = match connect::group_of(endpoint) {
        Some(group) => Ok(memory::upstream(group)),
        None => connect::parse(endpoint),
    };
    match place {
        Ok(endpoint) => Listener(memory::listen(&endpoint)),
        Err(error) => panic!("{endpoint}: {error}"),
    }
}

/// A server that handlers connect to; made by [`listen`].
pub struct Listener(Rc<Backlog>);

impl Listener {
    /// Accepts the next connection of a handler.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn accept(&mut self) -> Peer {
        let accepted = wait_for(|| !self.0.pipes.borrow().is_empty(), patience());
        assert!(accepted, "expected a connection");
        self.try_accept()
            .unwrap_or_else(|| unreachable!("it is there"))
    }

    /// Accepts a connection if there is one now.
    pub fn try_accept(&mut self) -> Option<Peer> {
        run();
        self.0.pipes.borrow_mut().pop_front().map(Peer)
    }

    /// Sets how long connecting takes.
    pub fn set_delay(&mut self, delay: Duration) {
        self.0.delay.set(delay);
    }
}

/// Returns the other end of the first datagram socket that a handler opened by
/// itself, by `UdpSocket::bind` or `connect`, and that was not returned before.
///
/// # Panics
/// If there is none.
#[track_caller]
pub fn accept_udp() -> Network {
    run();
    let Some(shared) = memory::next_opened() else {
        panic!("expected a datagram socket");
    };
    Network {
        socket: shared.transport.0.clone(),
        shared,
        lost: Cell::new(false),
    }
}

/// Starts a handler with a datagram socket, and returns the network's end.
pub fn serve_udp<F>(handler: impl FnOnce(UdpSocket) -> F) -> Network
where
    F: Future + 'static,
    F::Output: Outcome,
{
    let socket = Rc::new(Socket::default());
    let shared = SharedSocket::new(DatagramTransport(socket.clone()));
    crate::udp::serve(&shared, handler);
    run();
    Network {
        socket,
        shared,
        lost: Cell::new(false),
    }
}

/// The other end of a datagram socket.
pub struct Network {
    socket: Rc<Socket>,
    shared: Rc<SharedSocket>,
    lost: Cell<bool>,
}

impl Network {
    /// Sends the handler a datagram.
    pub fn send_from(&mut self, peer: SocketAddr, data: impl AsRef<[u8]>) {
        self.shared.datagram_received(data.as_ref().to_vec(), peer);
        run();
    }

    /// Closes the socket.
    pub fn close(&mut self) {
        if !self.lost.replace(true) {
            self.shared.connection_lost(None);
        }
        run();
    }

    /// Receives exactly this datagram, the next one that the handler sends.
    ///
    /// # Panics
    /// If another one comes, or none.
    #[track_caller]
    pub fn expect_to(&mut self, peer: SocketAddr, data: impl AsRef<[u8]>) {
        let sent = wait_for(|| !self.socket.sent.borrow().is_empty(), patience());
        assert!(sent, "expected a datagram");
        let received = self.socket.sent.borrow_mut().pop_front();
        let expected = (data.as_ref().to_vec(), peer);
        assert_eq!(received, Some(expected));
    }
}
