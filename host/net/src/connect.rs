//! Outgoing connections, with TLS on request: to an address, or to the address
//! of a name that answers first (RFC 8305).
//!
//! ```text
//!   make, get (of a pool), make_to, make_through (of a group): counted, in time
//!       |
//!       v
//!   dial --Endpoint::Name--> race --> a connected socket --> Transport, TLS
//! ```

mod dial;
mod race;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;

use crate::endpoint::{ConnectOptions, Endpoint};
use crate::parked::{Key, Parked};
use crate::pool::{Pool, PoolPlace};
use crate::proxy;
use crate::tls::ClientTls;
use crate::transport::Transport;
use crate::upstream::{Entry, Group, NoPlace, Server, Wish};
use crate::worker::Worker;

use self::dial::{Reach, dial_within};

pub use self::dial::{Dialed, dial, dial_from, permit};

/// Default time limit of connecting.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Most time for a server of a group while there are others to try.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Opens a connection, with a TLS session on request, and counts it. Dropping
/// the future closes whatever was begun.
///
/// # Errors
/// Fails as [`dial()`] does, if the handshake fails, or if it takes too long.
pub async fn make(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    client: Option<&ClientTls>,
    options: ConnectOptions,
) -> Result<Rc<Transport>, ConnectionError> {
    let reach = Reach::ByPolicy(options.local);
    let making = make_in_time(worker, endpoint, client, reach, None);
    let made = within(options.timeout.unwrap_or(TIMEOUT), making).await?;
    worker.env().counters.connections_made.add();
    Ok(made)
}

/// Opens a connection to a server of an upstream group, for a client if there is
/// one, and counts it. Dropping the future closes whatever was begun.
///
/// # Errors
/// Fails as [`make`] does.
pub async fn make_to(
    worker: &Rc<Worker>,
    server: &Server,
    client: Option<&Transport>,
    timeout: Duration,
) -> Result<Rc<Transport>, ConnectionError> {
    let made = open_to(worker, server, server.tls(), client, timeout).await?;
    worker.env().counters.connections_made.add();
    Ok(made)
}

/// Like [`make_to`], for HTTP/1.1 whatever else the server speaks.
///
/// # Errors
/// Fails as [`make`] does.
pub async fn make_to_http1(
    worker: &Rc<Worker>,
    server: &Server,
    client: Option<&Transport>,
    timeout: Duration,
) -> Result<Rc<Transport>, ConnectionError> {
    let tls = server.tls().map(ClientTls::of_http1);
    let made = open_to(worker, server, tls.as_ref(), client, timeout).await?;
    worker.env().counters.connections_made.add();
    Ok(made)
}

/// Like [`make_to`], to an address of the server's name first, if one is wanted, and
/// for many clients.
///
/// # Errors
/// Fails as [`make`] does.
pub async fn make_to_address(
    worker: &Rc<Worker>,
    server: &Server,
    wanted: Option<IpAddr>,
    timeout: Duration,
) -> Result<Rc<Transport>, ConnectionError> {
    let made = open_to_address(worker, server, server.tls(), None, wanted, timeout).await?;
    worker.env().counters.connections_made.add();
    Ok(made)
}

/// Opens a connection to a server of an upstream group, with these settings of
/// TLS, and does not count it: nobody asked for it. If the group has the PROXY
/// protocol, the connection is that client's, or this host's own.
///
/// # Errors
/// Fails as [`make`] does.
pub(crate) async fn open_to(
    worker: &Rc<Worker>,
    server: &Server,
    tls: Option<&ClientTls>,
    client: Option<&Transport>,
    timeout: Duration,
) -> Result<Rc<Transport>, ConnectionError> {
    let wanted = server.present_address();
    open_to_address(worker, server, tls, client, wanted, timeout).await
}

async fn open_to_address(
    worker: &Rc<Worker>,
    server: &Server,
    tls: Option<&ClientTls>,
    client: Option<&Transport>,
    wanted: Option<IpAddr>,
    timeout: Duration,
) -> Result<Rc<Transport>, ConnectionError> {
    let header = server.proxy_protocol().map(|version| match client {
        Some(client) => client.proxy_header(version),
        None => proxy::compose(version, None),
    });
    let reach = match server.is_named() {
        true => Reach::Named(wanted),
        false => Reach::ByPolicy(None),
    };
    let making = make_in_time(worker, server.endpoint(), tls, reach, header);
    let made = within(timeout, making).await?;
    if let Some(wanted) = wanted {
        server.is_reached_elsewhere(wanted, made.peer());
    }
    Ok(made)
}

/// Opens a connection to a server of a group for a guest, and counts it: to the
/// server that the group chooses, or to another if that cannot be connected to.
/// The PROXY protocol of the group tells of `client`.
/// The connection has its place there until it ends. Dropping the future closes
/// whatever was begun.
///
/// # Errors
/// Fails if the group has no place, or with the error of the server tried last.
pub async fn make_through(
    worker: &Rc<Worker>,
    group: &Group,
    client: Option<&Transport>,
    timeout: Option<Duration>,
) -> Result<Rc<Transport>, ConnectionError> {
    let limit = timeout.unwrap_or(TIMEOUT);
    let making = async {
        let (mut tried, mut failure) = (Vec::new(), None);
        loop {
            let entered = match group.enter(Wish::default(), &tried) {
                Ok(Entry::Place(place)) => Ok(place),
                Ok(Entry::Queue(entering)) => entering.await,
                Err(reason) => Err(reason),
            };
            let place =
                entered.map_err(|reason| failure.take().unwrap_or_else(|| reason.into()))?;
            let server = place.server();
            tried.push(server.number());
            // Another server needs time, too.
            let attempt = match group.has_another(&tried) {
                true => (limit / 3).min(ATTEMPT),
                false => limit,
            };
            // The protocol spoken is the guest's own.
            let tls = server.tls().map(ClientTls::without_alpn);
            match open_to(worker, server, tls.as_ref(), client, attempt).await {
                Ok(made) => {
                    server.has_succeeded();
                    made.core.borrow_mut().upstream = Some(Box::new(place));
                    return Ok(made);
                }
                // A limit of the host is no fault of the server's.
                Err(error @ ConnectionError::LimitExceeded(_)) => return Err(error),
                Err(error) => {
                    server.has_failed();
                    failure = Some(error);
                }
            }
        }
    };
    let made = within(limit, making).await?;
    worker.env().counters.connections_made.add();
    Ok(made)
}

async fn within<T>(
    limit: Duration,
    making: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    match tokio::time::timeout(limit, making).await {
        Ok(result) => result,
        Err(_) => Err(ConnectionError::Timeout("connecting takes too long")),
    }
}

/// Returns a connection of a pool, with its place there: a kept one, or a new
/// one. Dropping the future gives up the place.
///
/// # Errors
/// Fails as [`make`] and [`Pool::get`] do.
pub async fn get(
    worker: &Rc<Worker>,
    pool: &Arc<Pool<Parked>>,
    key: &Key,
    timeout: Option<Duration>,
) -> Result<(Rc<Transport>, PoolPlace<Parked>), ConnectionError> {
    let (mut place, kept) = pool.get(timeout).await?;
    let transport = match kept {
        Some(parked) => Transport::resume(&worker.thread, parked)?,
        None => {
            let made = make(worker, &key.endpoint, key.tls.as_ref(), key.connect).await?;
            place.opened();
            made
        }
    };
    Ok((transport, place))
}

async fn make_in_time(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    client: Option<&ClientTls>,
    reach: Reach,
    header: Option<Vec<u8>>,
) -> Result<Rc<Transport>, ConnectionError> {
    let dialed = dial_within(worker, endpoint, reach).await?;
    // Trust roots are prepared here: a guest's later call to begin TLS cannot
    // wait for them.
    worker.env().tls.client_prepared().await;
    let transport = dialed.into_transport(&worker.thread);
    if let Some(header) = header {
        // Before TLS.
        transport.write(&header);
    }
    if let Some(client) = client {
        let session = worker.env().tls.connect(client)?;
        transport.core.borrow_mut().begin_tls(session);
        let handshake = std::future::poll_fn(|cx| {
            transport.poll_handshake(cx, &mut worker.thread.scratch.borrow_mut())
        });
        handshake.await.inspect_err(|_| {
            worker.thread.meter.add(Measure::ClientHandshakesFailed, 1);
        })?;
    }
    Ok(transport)
}

impl From<NoPlace> for ConnectionError {
    fn from(reason: NoPlace) -> Self {
        match reason {
            NoPlace::TooMany => {
                Self::LimitExceeded("too many connections to the upstream group (max-requests)")
            }
            NoPlace::QueueFull => {
                Self::LimitExceeded("too many wait for a place at the server (max-queue)")
            }
            NoPlace::Timeout => {
                Self::Timeout("no place at the server became free in time (queue-timeout)")
            }
            NoPlace::Down | NoPlace::AllTried => Self::Unreachable,
        }
    }
}
