//! Work that an event guest begins and that ends as an event: outgoing
//! connections, with WebSocket or without, datagram sockets and resolver queries.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::websocket::{ClientRequest, NotOpened};
use netwasm_net::connect::{self, make};
use netwasm_net::connection::Driver;
use netwasm_net::endpoint::{ConnectOptions, Endpoint};
use netwasm_net::parked::Parked;
use netwasm_net::pool::PoolPlace;
use netwasm_net::tls::ClientTls;
use netwasm_net::transport::Transport;
use netwasm_net::udp::{self, Sender};
use netwasm_net::upstream::Group;
use netwasm_net::worker::Worker;

use crate::instance::sockets::OfInstance;
use crate::instance::{Instance, Numbered};
use crate::local::Local;
use crate::pooling::Opened;

/// Connects for a guest, and reports the result as an event.
pub(crate) async fn connect(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    endpoint: Endpoint,
    client: Option<ClientTls>,
    options: ConnectOptions,
) {
    let made = make(&worker, &endpoint, client.as_ref(), options).await;
    give(&worker, &instance, token, made.map(|made| (made, None)));
}

/// Connects to a server of an upstream group for a guest, and reports the result
/// as an event. The PROXY protocol of the group tells of `client`.
pub(crate) async fn connect_upstream(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    group: Arc<Group>,
    client: Option<Rc<Transport>>,
    timeout: Option<Duration>,
) {
    let made = connect::make_through(&worker, &group, client.as_deref(), timeout).await;
    give(&worker, &instance, token, made.map(|made| (made, None)));
}

/// Gets a connection of a pool for a guest, and reports the result as an event.
pub(crate) async fn get(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    opened: Opened,
    timeout: Option<Duration>,
) {
    let got = connect::get(&worker, &opened.pool, &opened.key, timeout).await;
    give(
        &worker,
        &instance,
        token,
        got.map(|(made, place)| (made, Some(place))),
    );
}

fn give(
    worker: &Rc<Worker>,
    instance: &Weak<Instance>,
    token: u64,
    made: Result<(Rc<Transport>, Option<PoolPlace<Parked>>), ConnectionError>,
) {
    let Some(instance) = instance.upgrade() else {
        return;
    };
    match made {
        Err(error) => {
            tracing::debug!(%error, "cannot connect");
            // A trap is already logged.
            let _ = instance.connect_failed(token, &error);
        }
        Ok((transport, place)) => match instance.connected(token, &transport, place) {
            Ok(connection) => {
                let driver =
                    Driver::connected(Rc::clone(&transport), Rc::clone(&instance), connection);
                worker.drive(&transport, driver);
            }
            Err(_) => transport.release(),
        },
    }
}

/// Opens a WebSocket connection for a guest, and reports the result as an event.
pub(crate) async fn open_websocket(
    local: Rc<Local>,
    instance: Weak<Instance>,
    token: u64,
    request: ClientRequest,
    client: Option<ClientTls>,
    options: ConnectOptions,
) {
    const SLOW: ConnectionError =
        ConnectionError::Timeout("the server takes too long to answer the handshake");
    let limit = options.timeout.unwrap_or(connect::TIMEOUT);
    let opening = async {
        let endpoint = &request.destination.endpoint;
        let transport = make(&local.worker, endpoint, client.as_ref(), options).await?;
        local.outgoing.open_websocket(transport, request).await
    };
    let outcome = tokio::time::timeout(limit, opening).await;
    let outcome = outcome.unwrap_or(Err(NotOpened::Failed(SLOW)));
    if let Some(instance) = instance.upgrade() {
        if let Err(reason) = &outcome {
            tracing::debug!(%reason, "cannot open a WebSocket connection");
        }
        // A trap is already logged.
        let _ = instance.websocket_connected(token, outcome);
    }
}

/// Opens a datagram socket for a guest, and reports the result as an event.
pub(crate) async fn connect_datagrams(
    local: Rc<Local>,
    instance: Weak<Instance>,
    token: u64,
    host: String,
    port: u16,
) {
    let resolver = &local.worker.resolver;
    let addresses = resolver.resolve(&host).await;
    let Some(instance) = instance.upgrade() else {
        return;
    };
    let opened = addresses.and_then(|addresses| {
        let names = resolver.names();
        let peers = local
            .env
            .net
            .datagram_peers(&host, port, &addresses, &names)?;
        udp::Opened::connect(&local.env.net, &peers)
    });
    // A trap is already logged.
    if let Ok(Some((opened, socket))) = instance.datagrams_connected(token, opened) {
        drive_datagrams(&local, Rc::downgrade(&instance), opened, socket);
    }
}

/// Begins to drive a datagram socket that a guest opened.
pub(crate) fn drive_datagrams(
    local: &Rc<Local>,
    instance: Weak<Instance>,
    opened: udp::Opened,
    socket: Numbered,
) {
    let worker = Rc::clone(&local.worker);
    let thread = Rc::clone(&worker.thread);
    let env = Arc::clone(&local.env);
    let may_listen = env.net.listens_at(opened.datagrams().local()).is_ok();
    let sender = Sender::allowed(move |peer| {
        may_listen
            || env
                .net
                .policy
                .send_to(peer, &worker.resolver.names())
                .is_ok()
    });
    let turn = thread.turns.turn();
    let guest = Rc::new(OfInstance(instance));
    let driven = opened.drive(Rc::clone(&thread), Rc::clone(&turn), guest, socket, sender);
    thread.spawn_aside(turn, driven);
}

/// Resolves a name for a guest, and reports the answer as an event.
pub(crate) async fn resolve(
    worker: Rc<Worker>,
    instance: Weak<Instance>,
    token: u64,
    host: String,
) {
    let answer = worker.resolver.resolve(&host).await;
    if let Some(instance) = instance.upgrade() {
        // A trap is already logged.
        let _ = instance.resolved(token, answer);
    }
}
