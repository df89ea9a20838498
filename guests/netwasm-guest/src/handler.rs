//! What the exports of a component call.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use crate::bindings::netwasm::net::{http, transports, types};
use crate::cell::with;
use crate::connection::Shared;
use crate::host::{DatagramTransport, Transport};
use crate::slab::Slab;
use crate::udp::SharedSocket;
use crate::{connect, executor, shutdown, time};

/// What a component does with accepted connections.
pub trait TcpApp: 'static {
    /// Starts the task of a connection.
    fn serve(connection: &Accepted);
}

/// What a component does with datagram sockets.
pub trait UdpApp: 'static {
    /// Starts the task of a socket.
    fn serve(socket: &Bound);
}

/// A connection that was accepted.
pub struct Accepted(Rc<Shared>);

impl Accepted {
    /// Starts its task.
    pub fn serve<F>(&self, handler: impl FnOnce(crate::Connection) -> F)
    where
        F: Future + 'static,
        F::Output: executor::Outcome,
    {
        crate::connection::serve(&self.0, handler);
    }
}

/// A socket that received its first datagram.
pub struct Bound(Rc<SharedSocket>);

impl Bound {
    /// Starts its task.
    pub fn serve<F>(&self, handler: impl FnOnce(crate::UdpSocket) -> F)
    where
        F: Future + 'static,
        F::Output: executor::Outcome,
    {
        crate::udp::serve(&self.0, handler);
    }
}

thread_local! {
    // Never dropped: an instance ends with its memory.
    static CONNECTIONS: ManuallyDrop<Connections> = const { ManuallyDrop::new(Connections::new()) };
    static SOCKETS: ManuallyDrop<Cell<Slab<Rc<SharedSocket>>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

/// Connections by their tokens. Those of accepted ones are even; those of
/// outgoing ones were made by `connect`, in rising order, and are odd.
struct Connections {
    accepted: Cell<Slab<Rc<Shared>>>,
    outgoing: Cell<Vec<(u64, Rc<Shared>)>>,
}

impl Connections {
    const fn new() -> Self {
        Self {
            accepted: Cell::new(Slab::new()),
            outgoing: Cell::new(Vec::new()),
        }
    }

    fn accept(&self, shared: &Rc<Shared>) -> u64 {
        (with(&self.accepted, |all| all.insert(shared.clone())) as u64) << 1
    }

    fn connect(&self, token: u64, shared: Rc<Shared>) {
        with(&self.outgoing, |all| {
            let place = all.partition_point(|(other, _)| *other < token);
            all.insert(place, (token, shared));
        });
    }

    fn get(&self, token: u64) -> Option<Rc<Shared>> {
        if token & 1 == 0 {
            let key = usize::try_from(token >> 1).ok()?;
            return with(&self.accepted, |all| all.get_mut(key).cloned());
        }
        with(&self.outgoing, |all| {
            let place = all.partition_point(|(other, _)| *other < token);
            all.get(place)
                .filter(|(other, _)| *other == token)
                .map(|(_, shared)| shared.clone())
        })
    }

    fn remove(&self, token: u64) -> Option<Rc<Shared>> {
        if token & 1 == 0 {
            let key = usize::try_from(token >> 1).ok()?;
            return with(&self.accepted, |all| all.remove(key));
        }
        with(&self.outgoing, |all| {
            let place = all.partition_point(|(other, _)| *other < token);
            let found = all.get(place).is_some_and(|(other, _)| *other == token);
            found.then(|| all.remove(place).1)
        })
    }
}

/// Does something to a connection, then runs the tasks that this wakes.
fn on_connection(token: u64, event: impl FnOnce(&Shared)) {
    if let Some(shared) = CONNECTIONS.with(|all| all.get(token)) {
        event(&shared);
        executor::run();
    }
}

/// Handles `tcp-handler.connection-made`.
pub fn connection_made<A: TcpApp>(connection: types::ConnectionId) -> u64 {
    let shared = Shared::new(Transport(connection));
    let token = CONNECTIONS.with(|all| all.accept(&shared));
    A::serve(&Accepted(shared));
    executor::run();
    token
}

/// Handles `tcp-handler.data-received`.
pub fn data_received(token: u64, data: Vec<u8>) {
    on_connection(token, |connection| connection.data_received(data));
}

/// Handles `tcp-handler.eof-received`. The connection stays open: it is closed
/// when the task drops it.
pub fn eof_received(token: u64) -> bool {
    on_connection(token, Shared::eof_received);
    true
}

/// Handles `tcp-handler.writable`.
pub fn writable(token: u64) {
    on_connection(token, Shared::writable);
}

/// Handles `tcp-handler.tls-started`.
pub fn tls_started(token: u64, info: types::TlsInfo) {
    on_connection(token, |connection| connection.tls_started(info.into()));
}

/// Handles `tcp-handler.connection-lost`.
pub fn connection_lost(token: u64, reason: Option<types::Error>) {
    if let Some(shared) = CONNECTIONS.with(|all| all.remove(token)) {
        shared.connection_lost(reason.map(Into::into));
        executor::run();
    }
}

/// Does something to a datagram socket, then runs the tasks that this wakes.
fn on_socket(token: u64, event: impl FnOnce(&SharedSocket)) {
    let key = usize::try_from(token).unwrap_or(usize::MAX);
    let socket = SOCKETS.with(|all| with(all, |all| all.get_mut(key).cloned()));
    if let Some(socket) = socket {
        event(&socket);
        executor::run();
    }
}

/// Handles `udp-handler.connection-made`.
pub fn socket_made<A: UdpApp>(socket: types::SocketId) -> u64 {
    let shared = SharedSocket::new(DatagramTransport(socket));
    let key = SOCKETS.with(|all| with(all, |all| all.insert(shared.clone())));
    A::serve(&Bound(shared));
    executor::run();
    key as u64
}

/// Handles `udp-handler.datagram-received`.
pub fn datagram_received(token: u64, data: Vec<u8>, peer: types::IpSocketAddress) {
    on_socket(token, |socket| socket.datagram_received(data, peer.into()));
}

/// Handles `udp-handler.error-received`.
pub fn error_received(token: u64, error: types::Error, peer: Option<types::IpSocketAddress>) {
    on_socket(token, |socket| {
        socket.error_received(&error.into(), peer.map(Into::into));
    });
}

/// Handles `udp-handler.connection-lost`.
pub fn socket_lost(token: u64, reason: Option<types::Error>) {
    let key = usize::try_from(token).unwrap_or(usize::MAX);
    if let Some(socket) = SOCKETS.with(|all| with(all, |all| all.remove(key))) {
        socket.connection_lost(reason.map(Into::into));
        executor::run();
    }
}

/// Handles `connect-handler.connected`.
pub fn connected(token: u64, outcome: Result<types::ConnectionId, types::Error>) {
    let connection = outcome.as_ref().ok().copied();
    let outcome = outcome.map(Transport).map_err(Into::into);
    match (connect::connected(token, outcome), connection) {
        (Some(shared), _) => CONNECTIONS.with(|all| all.connect(token, shared)),
        // Nobody wants it any more.
        (None, Some(connection)) => transports::close(connection),
        (None, None) => {}
    }
    executor::run();
}

/// Handles `resolve-handler.resolved`.
pub fn resolved(token: u64, answer: Result<Vec<types::IpAddress>, types::Error>) {
    let answer = answer
        .map(|addresses| addresses.into_iter().map(Into::into).collect())
        .map_err(Into::into);
    connect::resolved(token, answer);
}

/// Handles `timer-handler.woken`.
pub fn woken() {
    time::woken();
}

/// Handles `lifecycle.shutting-down`.
pub fn shutting_down(deadline: Option<types::Duration>) {
    shutdown::begin(deadline.map(std::time::Duration::from_nanos));
}

/// Handles `http-handler.handle`.
pub fn handle<M>(
    app: impl crate::http::App<M>,
    method: http::Method,
    target: &str,
    request: &http::Request,
) -> http::Answer {
    let request = crate::http::Request::new(method.into(), target, request.into());
    http::Answer::Respond(app.respond(request).into_raw().into())
}

/// Handles the outcome of the function that is called at the start.
pub fn start<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        crate::log::write(crate::log::Level::Error, &error.to_string());
        std::process::exit(1);
    }
}
