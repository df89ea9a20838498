//! A configuration: what `netwasm check` says of it, and the addresses that it
//! names.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Access, access};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use netwasm_base::config::{
    Config, KeyvalueStore, ListenAddress, ListenerConfig, ListenerKind, RedisUrl, TopicsServer,
    UpstreamAddress, connections_wanted,
};
use netwasm_base::descriptors;

use crate::cli::Mistakes;
use crate::deadline::{begin, within};

use super::network::LIMIT;
use super::{Finding, network};

/// Most servers that are connected to at once. A configuration may have thousands, and
/// this machine few threads.
const AT_ONCE: usize = 32;

/// Findings in a configuration.
#[derive(Debug)]
pub(crate) struct Examination {
    /// The services whose settings are right.
    pub(crate) services: Vec<Config>,
    /// Address of the admin interface.
    pub(crate) admin: Option<ListenAddress>,
    /// Address of the probes.
    pub(crate) probes: Option<ListenAddress>,
    /// Number of all services.
    pub(crate) count: usize,
    /// All mistakes.
    pub(crate) mistakes: Option<Mistakes>,
}

/// Returns findings about a file, and what was found in it.
pub(super) fn findings(file: &Path, examined: &Examination, network: bool) -> Vec<Finding> {
    let Examination {
        services,
        admin,
        probes,
        count,
        mistakes,
    } = examined;
    let mut findings = vec![match mistakes {
        Some(mistakes) => Finding::wrong(
            "configuration",
            mistakes.in_a_line(),
            format!("netwasm check {}", file.display()),
        ),
        None => Finding::ok(
            "configuration",
            format!("{} has {count} services, and nothing wrong", file.display()),
        ),
    }];
    let (wanted, possible) = (
        connections_wanted(services),
        descriptors::connections(false),
    );
    if wanted > possible {
        findings.push(Finding::slow(
            "connections",
            format!("max-connections is {wanted}, and open files allow {possible}: others wait"),
            format!("LimitNOFILE={} in the unit", wanted * 2),
        ));
    }
    let mut seen = Vec::new();
    let listeners = services.iter().flat_map(|it| &it.listeners).cloned();
    let own = admin.iter().chain(probes).map(|address| ListenerConfig {
        kind: ListenerKind::Http,
        address: address.clone(),
    });
    for listener in listeners.chain(own) {
        if !seen.contains(&listener) {
            findings.extend(of_listener(&listener));
            seen.push(listener);
        }
    }
    if network {
        findings.extend(services.iter().flat_map(|it| network::of_service(&it.dns)));
        findings.extend(servers(services));
    }
    findings
}

/// Tries the address of a listener.
fn of_listener(listener: &ListenerConfig) -> Vec<Finding> {
    let is_udp = listener.kind == ListenerKind::Udp;
    let name = format!("listener {}", listener.address);
    match &listener.address {
        ListenAddress::Localhost(port) => {
            vec![of_socket(
                &name,
                (Ipv4Addr::LOCALHOST, *port).into(),
                is_udp,
            )]
        }
        ListenAddress::Socket(address) => vec![of_socket(&name, *address, is_udp)],
        ListenAddress::Unix(path) => vec![of_unix(&name, path)],
        ListenAddress::Passed(_) => vec![Finding::ok(&name, "the service manager opens it")],
    }
}

fn of_socket(name: &str, address: SocketAddr, is_udp: bool) -> Finding {
    match binds(address, is_udp) {
        Ok(()) => Finding::ok(name, "it is free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            // A run of this file, probably. It must then answer.
            let ip = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let local = SocketAddr::new(ip, address.port());
            match is_udp || TcpStream::connect_timeout(&local, LIMIT).is_ok() {
                true => Finding::ok(name, "a program listens there already"),
                false => Finding::wrong(
                    name,
                    "another program has it, and takes no connections",
                    format!("ss -ltnp 'sport = :{}' shows it", address.port()),
                ),
            }
        }
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Finding::wrong(
            name,
            "no interface of this machine has that address",
            "ip address shows those that there are; 0.0.0.0 is all of IPv4, [::] all of IPv6",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::wrong(
            name,
            format!("only root may listen at a port below 1024 ({error})"),
            "start as root with user = \"NAME\", or AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        Err(error) => Finding::wrong(name, error.to_string(), "choose another address"),
    }
}

/// Binds a socket for a moment, as a listener does: one of IPv6 takes no IPv4.
fn binds(address: SocketAddr, is_udp: bool) -> io::Result<()> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match is_udp {
        true => SocketType::DGRAM,
        false => SocketType::STREAM,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if !is_udp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    match is_udp {
        true => Ok(()),
        false => Ok(rustix::net::listen(&socket, 1)?),
    }
}

fn of_unix(name: &str, path: &Path) -> Finding {
    if path.as_os_str().as_encoded_bytes().starts_with(b"@") {
        return Finding::ok(name, "a name needs no file");
    }
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let shown = directory.display();
    match access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if is_answered(path) => Finding::ok(name, "a program listens there already"),
        Ok(()) => Finding::ok(name, "its directory can be written to"),
        Err(error) => Finding::wrong(
            name,
            format!("no file can be made in {shown} ({error})"),
            format!("mkdir -p {shown}, as the run's user, or RuntimeDirectory= in the unit"),
        ),
    }
}

/// True if somebody takes connections at a path.
fn is_answered(path: &Path) -> bool {
    let path = path.to_owned();
    within(LIMIT, move || UnixStream::connect(path).is_ok()) == Some(true)
}

/// Connects to all servers that services name, some at once.
fn servers(services: &[Config]) -> Vec<Finding> {
    let mut all: Vec<(String, UpstreamAddress)> = Vec::new();
    let mut add = |what: &dyn Display, address: UpstreamAddress| {
        let name = format!("{what} {}", shown(&address));
        if !all.iter().any(|(other, _)| *other == name) {
            all.push((name, address));
        }
    };
    let redis = |url: &RedisUrl| UpstreamAddress::Name(url.host.clone(), url.port);
    for service in services {
        for bucket in &service.keyvalue {
            if let KeyvalueStore::Redis(url) = &bucket.store {
                add(&"Redis", redis(url));
            }
        }
        if let Some(TopicsServer(url)) = &service.topics {
            add(&"Redis", redis(url));
        }
        for group in &service.upstreams {
            for server in &group.servers {
                add(&"upstream", server.address.clone());
            }
        }
    }
    all.chunks(AT_ONCE).flat_map(tried).collect()
}

/// Connects to some servers at once.
fn tried(some: &[(String, UpstreamAddress)]) -> Vec<Finding> {
    let begun: Vec<_> = some
        .iter()
        .map(|(name, address)| {
            let address = address.clone();
            (name, begin(move || connects(&address)))
        })
        .collect();
    let until = Instant::now() + LIMIT;
    let found = begun.into_iter().map(|(name, begun)| {
        let Some(done) = begun else {
            return Finding::slow(
                name,
                "it was not tried, as the system gives no thread",
                "TasksMax=1024 in the unit, or ulimit -u 1024",
            );
        };
        let left = until.saturating_duration_since(Instant::now());
        let late = |_| Err("it did not answer within 1 s".into());
        match done.recv_timeout(left).unwrap_or_else(late) {
            Ok(()) => Finding::ok(name, "it takes connections"),
            Err(reason) => Finding::wrong(name, reason, "start it, or correct its address"),
        }
    });
    found.collect()
}

fn shown(address: &UpstreamAddress) -> String {
    match address {
        UpstreamAddress::Socket(address) => address.to_string(),
        UpstreamAddress::Name(host, port) => format!("{host}:{port}"),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn connects(address: &UpstreamAddress) -> Result<(), String> {
    let addresses = match address {
        UpstreamAddress::Socket(address) => vec![*address],
        UpstreamAddress::Name(host, port) => {
            let found = (host.trim_matches(['[', ']']), *port).to_socket_addrs();
            found.map_err(|error| error.to_string())?.collect()
        }
        UpstreamAddress::Unix(path) => {
            let bytes = path.as_os_str().as_encoded_bytes();
            let connected = match bytes.strip_prefix(b"@") {
                Some(name) => UnixAddress::from_abstract_name(name)
                    .and_then(|address| UnixStream::connect_addr(&address)),
                None => UnixStream::connect(path),
            };
            return connected.map(drop).map_err(|error| error.to_string());
        }
    };
    let mut last = String::from("it has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, LIMIT) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn more_servers_than_threads_are_tried_in_their_order() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let there = listener.local_addr().expect("its address");
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let gone = closed.local_addr().expect("its address");
        drop(closed);
        let all: Vec<_> = (0..3 * AT_ONCE + 1)
            .map(|number| {
                let address = if number % 2 == 0 { there } else { gone };
                (number.to_string(), UpstreamAddress::Socket(address))
            })
            .collect();
        let found: Vec<_> = all.chunks(AT_ONCE).flat_map(tried).collect();
        assert_eq!(found.len(), all.len());
        for (number, finding) in found.iter().enumerate() {
            assert_eq!(finding.name, number.to_string());
            assert_eq!(finding.cure.is_none(), number % 2 == 0, "{finding:?}");
        }
    }
}
