//! What the exports of a component call.

use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::netwasm::net::{http, transports, types};
use crate::bindings::tcp::exports::netwasm::net::tcp_handler::GuestConnection;
use crate::bindings::udp::exports::netwasm::net::udp_handler::GuestEndpoint;
use crate::connection::Shared;
use crate::host::Transport;
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

/// The state of a connection, as the host sees it.
pub struct Connection<A>(Rc<Shared>, PhantomData<A>);

impl<A: TcpApp> GuestConnection for Connection<A> {
    fn new(transport: transports::Transport) -> Self {
        let shared = Shared::new(transport.into());
        let accepted = Accepted(shared.clone());
        A::serve(&accepted);
        executor::run();
        Self(shared, PhantomData)
    }

    fn data_received(&self, data: Vec<u8>) {
        self.0.data_received(data);
        executor::run();
    }

    fn eof_received(&self) -> bool {
        self.0.eof_received();
        executor::run();
        // The connection is closed when the task drops it.
        true
    }

    fn writable(&self) {
        self.0.writable();
        executor::run();
    }

    fn tls_started(&self, info: types::TlsInfo) {
        self.0.tls_started(info.into());
        executor::run();
    }

    fn connection_lost(&self, reason: Option<types::Error>) {
        self.0.connection_lost(reason.map(Into::into));
        executor::run();
    }
}

/// The state of a datagram socket, as the host sees it.
pub struct Endpoint<A>(Rc<SharedSocket>, PhantomData<A>);

impl<A: UdpApp> GuestEndpoint for Endpoint<A> {
    fn new(transport: transports::DatagramTransport) -> Self {
        let shared = SharedSocket::new(transport.into());
        let bound = Bound(shared.clone());
        A::serve(&bound);
        executor::run();
        Self(shared, PhantomData)
    }

    fn datagram_received(&self, data: Vec<u8>, peer: types::IpSocketAddress) {
        self.0.datagram_received(data, peer.into());
        executor::run();
    }

    fn error_received(&self, error: types::Error, peer: Option<types::IpSocketAddress>) {
        self.0.error_received(&error.into(), peer.map(Into::into));
        executor::run();
    }

    fn connection_lost(&self, reason: Option<types::Error>) {
        self.0.connection_lost(reason.map(Into::into));
        executor::run();
    }
}

/// Handles `connect-handler.connected`.
pub fn connected<A>(
    token: u64,
    outcome: Result<transports::Transport, types::Error>,
) -> Option<Connection<A>> {
    let outcome = outcome.map(Transport::from).map_err(Into::into);
    connect::connected(token, outcome).map(|shared| Connection(shared, PhantomData))
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
) -> http::Response {
    let request = crate::http::Request::new(method.into(), target, request.into());
    app.respond(request).into_raw().into()
}

/// Handles the outcome of the function that is called at the start.
pub fn start<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        crate::log::write(crate::log::Level::Error, &error.to_string());
        std::process::exit(1);
    }
}
