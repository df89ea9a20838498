//! Outgoing connections, with TLS on request: to an address, or to the address
//! of a name that answers first (RFC 8305).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::task::JoinSet;
use tokio::time::Instant;

use netwasm_base::address::Address;
use netwasm_base::config::TcpOptions;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_base::policy::Denied;

use crate::destinations::Destinations;
use crate::endpoint::{ConnectOptions, Endpoint};
use crate::env::Env;
use crate::io::Watched;
use crate::parked::{Key, Parked};
use crate::permits::Permit;
use crate::pool::{Place, Pool};
use crate::proxy;
use crate::tcp;
use crate::thread::Thread;
use crate::tls::ClientTls;
use crate::transport::Transport;
use crate::unix;
use crate::upstream::{Entry, Group, NoPlace, Server, Wish};
use crate::worker::Worker;

/// Default time limit of connecting.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most time for a server of a group while there are others to try.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Head start of an address before the next is tried beside it: RFC 8305,
/// section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// Time that IPv4 addresses wait for IPv6 ones: RFC 8305, section 3.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// A connected socket. It counts against `--max-outgoing`.
#[derive(Debug)]
pub struct Dialed {
    /// The socket, watched for reading and writing.
    pub socket: Watched,
    /// The peer's address.
    pub peer: Address,
    /// Permit, to be dropped with the connection.
    pub permit: Permit,
}

impl Dialed {
    /// Wraps the socket in a transport of `thread`.
    pub fn into_transport(self, thread: &Rc<Thread>) -> Rc<Transport> {
        Transport::watched(thread, self.socket, self.peer, Some(self.permit))
    }
}

/// Opens a connection, with a TLS session on request, and counts it. Dropping
/// the future closes whatever was begun.
///
/// # Errors
/// Fails as [`dial`] does, if the handshake fails, or if it takes too long.
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

/// The right to connect to the addresses of a name.
#[derive(Clone, Copy, Debug)]
enum Reach {
    /// To those that the policy allows, from a local address if one is given.
    ByPolicy(Option<IpAddr>),
    /// To all, since the operator has named the server; to this one first.
    Named(Option<IpAddr>),
}

impl Reach {
    fn local(self) -> Option<IpAddr> {
        match self {
            Self::ByPolicy(local) => local,
            Self::Named(_) => None,
        }
    }

    fn first(self) -> Option<IpAddr> {
        match self {
            Self::ByPolicy(_) => None,
            Self::Named(first) => first,
        }
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
) -> Result<(Rc<Transport>, Place<Parked>), ConnectionError> {
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

/// Connects to the address of an endpoint that answers first. Dropping the
/// future closes whatever was begun.
///
/// # Errors
/// Fails if `--max-outgoing` connections exist already, if the policy denies
/// all addresses, if there are none, or if none answers. If several were tried,
/// the error is that of the last.
pub async fn dial(
    worker: &Worker,
    endpoint: &Endpoint,
    local: Option<IpAddr>,
) -> Result<Dialed, ConnectionError> {
    dial_within(worker, endpoint, Reach::ByPolicy(local)).await
}

async fn dial_within(
    worker: &Worker,
    endpoint: &Endpoint,
    reach: Reach,
) -> Result<Dialed, ConnectionError> {
    let permit = worker.env().try_outgoing_permit()?;
    let socket = match endpoint {
        Endpoint::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            return Ok(Dialed {
                socket: connect_socket(socket, &unix::address(path)?).await?,
                peer: Address::Unix(Some(path.clone())),
                permit,
            });
        }
        Endpoint::Address(address) => {
            connect_address(*address, reach.local(), worker.env().limits.tcp).await?
        }
        Endpoint::Name { host, port } => connect_name(worker, host, *port, reach).await?,
    };
    let peer = SockRef::from(socket.fd()).peer_addr();
    // The peer has reset the connection meanwhile.
    let peer = peer.map_err(|_| ConnectionError::Reset)?;
    let peer = peer.as_socket().ok_or(ConnectionError::Broken)?;
    Ok(Dialed {
        socket,
        peer: Address::Ip(peer),
        permit,
    })
}

/// Connects a socket that a guest has created, and perhaps bound.
///
/// # Errors
/// The outer error: `--max-outgoing` connections exist already. The inner one:
/// connect(2) fails.
pub async fn dial_from(
    env: &Env,
    socket: Socket,
    remote: SocketAddr,
) -> Result<io::Result<Dialed>, ConnectionError> {
    let permit = env.try_outgoing_permit()?;
    let connected = connect_socket(socket, &remote.into()).await;
    Ok(connected.map(|socket| Dialed {
        socket,
        peer: Address::Ip(remote),
        permit,
    }))
}

async fn connect_address(
    remote: SocketAddr,
    local: Option<IpAddr>,
    options: TcpOptions,
) -> io::Result<Watched> {
    let stream = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(remote), stream, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    tcp::set(&socket, &options)?;
    if let Some(local) = local {
        if remote.is_ipv4() != local.is_ipv4() {
            return Err(Errno::ADDRNOTAVAIL.into());
        }
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    connect_socket(socket, &remote.into()).await
}

/// Connects a non-blocking socket, and has the runtime watch it.
///
/// # Errors
/// Fails as connect(2) does, at once or later.
async fn connect_socket(socket: Socket, remote: &SockAddr) -> io::Result<Watched> {
    match socket
        .connect(remote)
        .map_err(|error| (Errno::from_io_error(&error), error))
    {
        Ok(()) | Err((Some(Errno::INPROGRESS | Errno::INTR), _)) => {}
        Err((_, error)) => return Err(error),
    }
    let socket = Watched::stream(socket.into())?;
    // Writable means connected or failed.
    let _ = socket.writable().await?;
    rustix::net::sockopt::socket_error(socket.fd())??;
    Ok(socket)
}

/// Connects to a name as in RFC 8305: waits neither for the family whose
/// addresses come late, nor for an address that does not answer.
async fn connect_name(
    worker: &Worker,
    host: &str,
    port: u16,
    reach: Reach,
) -> Result<Watched, ConnectionError> {
    let mut answers = worker.resolver.answers(host);
    let mut race = Race {
        local: reach.local(),
        first: reach.first(),
        options: worker.env().limits.tcp,
        ..Race::default()
    };
    let mut asking = true;
    let mut failure = None;
    let mut denied = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some(ended) = race.attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    failure = Some(error.into());
                    // A failed attempt gives way to the next at once.
                    race.due = Instant::now();
                }
                // Attempts neither panic nor are aborted.
                Err(_) => failure = Some(ConnectionError::Aborted),
            },
            answer = answers.next(), if asking => match answer {
                Some(Ok(addresses)) => {
                    let allowed = match reach {
                        Reach::Named(_) => addresses,
                        Reach::ByPolicy(_) => {
                            worker.resolver.remember(host, &addresses);
                            allowed(worker, host, port, addresses, &mut denied)
                        }
                    };
                    if !allowed.is_empty() {
                        race.add(allowed, worker.resolver.destinations());
                    }
                }
                Some(Err(error)) => failure = Some(error),
                None => {
                    asking = false;
                    race.complete();
                }
            },
            () = tokio::time::sleep_until(race.due), if race.has_more() => race.attempt(port),
            else => {
                worker.env().deny_all(&denied);
                return Err(failure.unwrap_or(ConnectionError::AccessDenied));
            }
        }
    }
}

/// Returns the addresses of a name that the policy allows. The denied ones are
/// worth a warning only if none of these answers.
fn allowed(
    worker: &Worker,
    host: &str,
    port: u16,
    mut addresses: Vec<IpAddr>,
    denied: &mut Vec<Denied>,
) -> Vec<IpAddr> {
    let policy = &worker.env().policy;
    addresses.retain(|&ip| {
        let judged = policy.resolved_address(host, SocketAddr::new(ip, port));
        let judged = judged.inspect_err(|denied| tracing::debug!("{denied}"));
        judged.map_err(|error| denied.push(error)).is_ok()
    });
    addresses
}

/// Parallel attempts to connect to several addresses, each with a head start.
#[derive(Debug)]
struct Race {
    /// Addresses not tried yet, the best first.
    untried: Vec<IpAddr>,
    attempts: JoinSet<io::Result<Watched>>,
    /// Earliest time of the next attempt.
    due: Instant,
    /// Address tried last.
    last: Option<IpAddr>,
    /// Local address to connect from.
    local: Option<IpAddr>,
    /// Address to try first, if it is among them.
    first: Option<IpAddr>,
    /// Options of the sockets.
    options: TcpOptions,
}

impl Default for Race {
    fn default() -> Self {
        Self {
            untried: Vec::new(),
            attempts: JoinSet::new(),
            due: Instant::now(),
            last: None,
            local: None,
            first: None,
            options: TcpOptions::default(),
        }
    }
}

impl Race {
    fn has_more(&self) -> bool {
        !self.untried.is_empty()
    }

    /// Adds addresses of one family.
    fn add(&mut self, addresses: Vec<IpAddr>, destinations: &Destinations) {
        let wanted = self.first;
        let first = |ip: &IpAddr| wanted == Some(*ip);
        let preferred = addresses.iter().any(|ip| ip.is_ipv6() || first(ip));
        self.untried.extend(addresses);
        destinations.sort(&mut self.untried);
        if let Some(place) = self.untried.iter().position(first) {
            let ip = self.untried.remove(place);
            self.untried.insert(0, ip);
        }
        if self.last.is_none() {
            // Section 3: addresses of the preferred family may be about to
            // come.
            self.due = Instant::now();
            if !preferred {
                self.due += RESOLUTION_DELAY;
            }
        }
    }

    /// Notes that no addresses will follow.
    fn complete(&mut self) {
        if self.last.is_none() {
            self.due = Instant::now();
        }
    }

    /// Tries the next address.
    fn attempt(&mut self, port: u16) {
        let Some(ip) = take_next(&mut self.untried, self.last) else {
            return;
        };
        self.last = Some(ip);
        self.due = Instant::now() + HEAD_START;
        self.attempts.spawn(connect_address(
            SocketAddr::new(ip, port),
            self.local,
            self.options,
        ));
    }
}

/// Takes the best address of the family that was not tried last, so that
/// families take turns (section 4), or else the best of all.
fn take_next(untried: &mut Vec<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
    let other = |ip: &IpAddr| last.is_none_or(|last| last.is_ipv4() != ip.is_ipv4());
    let place = untried.iter().position(other).unwrap_or(0);
    (place < untried.len()).then(|| untried.remove(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut untried: Vec<_> = ["::1", "::2", "::3", "1.1.1.1"].map(parse).into();
        let mut last = None;
        let order: Vec<_> = std::iter::from_fn(|| {
            last = take_next(&mut untried, last);
            last
        })
        .collect();
        assert_eq!(order, ["::1", "1.1.1.1", "::2", "::3"].map(parse));
    }

    #[test]
    fn the_address_whose_turn_it_is_comes_first() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut race = Race {
            first: Some(parse("127.0.0.3")),
            ..Race::default()
        };
        let loopback = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
        race.add(loopback.map(parse).into(), &Destinations::default());
        let order = ["127.0.0.3", "127.0.0.1", "127.0.0.2", "127.0.0.4"];
        assert_eq!(race.untried, order.map(parse));
        assert!(race.due <= Instant::now(), "it waits for no other family");
    }

    #[tokio::test]
    async fn only_the_second_family_waits_a_moment_for_the_first() {
        let parse = |text: &str| vec![text.parse::<IpAddr>().expect("an address")];
        let order = Destinations::default();
        let delayed = |race: &Race| race.due > Instant::now() + RESOLUTION_DELAY / 2;
        let mut race = Race::default();
        race.add(parse("192.0.2.1"), &order);
        assert!(delayed(&race));
        race.add(parse("2001:db8::1"), &order);
        assert!(!delayed(&race));
        let mut race = Race::default();
        race.add(parse("192.0.2.1"), &order);
        race.complete();
        assert!(!delayed(&race));
    }
}
