//! Outgoing connections and questions to the resolver: work that a guest
//! begins and that ends as an event.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::connection::Driver;
use crate::error::ConnectionError;
use crate::tls::ClientTls;
use crate::transport::{Address, Transport};
use crate::wasm::instance::Instance;
use crate::worker::Worker;

/// How long a connection may take to be made, unless the guest says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long an address has before the next is tried beside it: RFC 8305,
/// section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Address(SocketAddr),
    Name { host: String, port: u16 },
    Unix(PathBuf),
}

/// Begins to connect for a guest, which learns of the end by an event.
pub(crate) fn connect(
    worker: &Rc<Worker>,
    instance: Weak<Instance>,
    id: u64,
    endpoint: Endpoint,
    client: Option<ClientTls>,
    timeout: Option<Duration>,
) -> AbortHandle {
    let worker = Rc::clone(worker);
    let task = tokio::task::spawn_local(async move {
        let making = make(&worker, endpoint, client);
        let result = match tokio::time::timeout(timeout.unwrap_or(TIMEOUT), making).await {
            Ok(result) => result,
            Err(_) => Err(ConnectionError::Timeout("connecting takes too long")),
        };
        let Some(instance) = instance.upgrade() else {
            return;
        };
        match result {
            Err(error) => {
                tracing::debug!(%error, "cannot connect");
                // A trap was logged.
                let _ = instance.connect_failed(id, &error);
            }
            Ok(transport) => match instance.connected(id, &transport) {
                Ok(connection) => {
                    worker.shared.counters.connections_made.add();
                    let driver =
                        Driver::connected(Rc::clone(&transport), Rc::clone(&instance), connection);
                    worker.drive(&transport, driver);
                }
                Err(_) => transport.release(),
            },
        }
    });
    task.abort_handle()
}

async fn make(
    worker: &Rc<Worker>,
    endpoint: Endpoint,
    client: Option<ClientTls>,
) -> Result<Rc<Transport>, ConnectionError> {
    let permit = worker
        .shared
        .try_connection_permit()
        .ok_or(ConnectionError::LimitExceeded(
            "--max-connections is reached",
        ))?;
    let (socket, peer) = match endpoint {
        Endpoint::Address(address) => connect_tcp(vec![address]).await?,
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(&path).await?.into_std()?;
            (OwnedFd::from(stream), Address::Unix(Some(path)))
        }
        Endpoint::Name { host, port } => {
            let policy = &worker.shared.policy;
            let mut addresses = Vec::new();
            let mut denied = false;
            for ip in resolve_name(worker, &host).await? {
                let address = SocketAddr::new(ip, port);
                match policy.resolved_address(&host, address) {
                    Ok(()) => addresses.push(address),
                    Err(error) => {
                        denied = true;
                        worker.shared.deny(&error);
                    }
                }
            }
            if addresses.is_empty() && denied {
                return Err(ConnectionError::AccessDenied);
            }
            connect_tcp(addresses).await?
        }
    };
    let transport = Transport::new(worker, socket, peer, Some(permit))?;
    if let Some(client) = client {
        worker.shared.tls.client_prepared().await;
        let session = worker.shared.tls.connect(&client)?;
        transport.core.borrow_mut().begin_tls(session);
        let handshake = std::future::poll_fn(|cx| {
            transport.poll_handshake(cx, &mut worker.scratch.borrow_mut())
        });
        handshake.await?;
    }
    Ok(transport)
}

/// Tries the addresses in turn, each with a head start, and takes the first
/// that answers.
async fn connect_tcp(addresses: Vec<SocketAddr>) -> Result<(OwnedFd, Address), ConnectionError> {
    let mut attempts = JoinSet::new();
    let mut rest = interleave(addresses).into_iter();
    let mut last = ConnectionError::NameUnresolvable;
    if let Some(first) = rest.next() {
        attempts.spawn(TcpStream::connect(first));
    }
    while !attempts.is_empty() {
        let result = match rest.len() {
            0 => attempts.join_next().await,
            _ => match tokio::time::timeout(HEAD_START, attempts.join_next()).await {
                Ok(result) => result,
                Err(_) => {
                    if let Some(next) = rest.next() {
                        attempts.spawn(TcpStream::connect(next));
                    }
                    continue;
                }
            },
        };
        match result {
            Some(Ok(Ok(stream))) => {
                stream.set_nodelay(true)?;
                let peer = stream.peer_addr()?;
                return Ok((OwnedFd::from(stream.into_std()?), Address::Ip(peer)));
            }
            Some(Ok(Err(error))) => last = error.into(),
            Some(Err(_)) | None => {}
        }
        // One that failed gives way to the next at once.
        if let Some(next) = rest.next() {
            attempts.spawn(TcpStream::connect(next));
        }
    }
    Err(last)
}

/// The addresses with the families in turns, the first one's first: RFC 8305,
/// section 4.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().copied() else {
        return addresses;
    };
    let (same, other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut mixed = Vec::new();
    for address in same {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}

/// Begins to look a name up for a guest, which learns of the answer by an
/// event.
pub(crate) fn resolve(
    worker: &Rc<Worker>,
    instance: Weak<Instance>,
    id: u64,
    host: String,
) -> AbortHandle {
    let worker = Rc::clone(worker);
    let task = tokio::task::spawn_local(async move {
        let answer = resolve_name(&worker, &host).await;
        if let Some(instance) = instance.upgrade() {
            // A trap was logged.
            let _ = instance.resolved(id, answer);
        }
    });
    task.abort_handle()
}

/// Asks the system's resolver, getaddrinfo(3), on a thread of its own.
async fn resolve_name(worker: &Worker, host: &str) -> Result<Vec<IpAddr>, ConnectionError> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    let permit = Arc::clone(&worker.lookups).acquire_owned().await;
    let name = host.to_owned();
    let lookup = tokio::task::spawn_blocking(move || {
        let found = (name.as_str(), 0).to_socket_addrs().map(Vec::from_iter);
        // Only now: the thread is in use until then.
        drop(permit);
        found
    });
    let found = lookup.await.map_err(|_| ConnectionError::ResolverFailure)?;
    let found = found.map_err(|error| resolver_error(&error))?;
    let mut addresses: Vec<_> = found.into_iter().map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        Err(ConnectionError::NameUnresolvable)
    } else {
        Ok(addresses)
    }
}

/// getaddrinfo(3)'s error, of which the standard library keeps only the text.
fn resolver_error(error: &io::Error) -> ConnectionError {
    let text = error.to_string();
    let transient = ["Temporary failure", "System error", "Non-recoverable"];
    if transient.iter().any(|marker| text.contains(marker)) {
        ConnectionError::ResolverFailure
    } else {
        ConnectionError::NameUnresolvable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_beginning_with_the_first() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let v6 = ["[::1]:1", "[::2]:1", "[::3]:1"].map(parse);
        let v4 = ["1.1.1.1:1"].map(parse);
        let mixed = interleave([v6.as_slice(), &v4].concat());
        assert_eq!(mixed, [v6[0], v4[0], v6[1], v6[2]]);
    }
}
