//! Permissions of a guest's sockets and names: the policy, asked before every
//! system call.

use std::collections::VecDeque;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime_wasi::sockets::SocketAddrUse;

use netwasm_base::error::ConnectionError;
use netwasm_base::policy::{Denied, Resolved};
use netwasm_net::endpoint::Endpoint;
use netwasm_net::env::Env;

/// Most peers that may be answered. Beyond it, the oldest are forgotten.
const PEERS: usize = 1024;

/// The permissions of one instance.
pub(crate) struct Permissions {
    env: Arc<Env>,
    known: Mutex<Known>,
}

/// Facts that an instance has learnt, and its permissions because of them.
#[derive(Default)]
struct Known {
    /// Resolved names. A name's rule holds for its addresses.
    names: Resolved,
    /// True if a socket of `wasi:sockets` may take datagrams from anybody:
    /// `--allow-listen` has its address. wasmtime does not tell which socket a
    /// datagram arrives at.
    listens: bool,
    /// Peers that sent a datagram to such a socket. They may be sent one.
    peers: Peers,
}

/// Peers that a socket has heard, and may answer.
#[derive(Debug, Default)]
pub(crate) struct Peers(VecDeque<SocketAddr>);

impl Permissions {
    pub(crate) fn new(env: &Arc<Env>) -> Self {
        Self {
            env: Arc::clone(env),
            known: Mutex::default(),
        }
    }

    /// True if a socket may use an address this way. Logs a denial.
    pub(crate) fn allows(&self, address: SocketAddr, used: SocketAddrUse) -> bool {
        let policy = &self.env.policy;
        let mut known = self.known();
        let decided = match used {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                let allowed = policy.listen(address);
                if matches!(used, SocketAddrUse::UdpBind) && allowed.is_ok() {
                    known.listens = true;
                }
                // The system picks the port of a socket that only connects or
                // sends.
                if address.port() == 0 { Ok(()) } else { allowed }
            }
            SocketAddrUse::TcpListen => self.env.listens_at(address),
            SocketAddrUse::TcpAccept => Ok(()),
            SocketAddrUse::TcpConnect => policy.connect_address(address, &known.names),
            SocketAddrUse::UdpSend => {
                if known.peers.has(address) {
                    return true;
                }
                policy.send_to(address, &known.names)
            }
            SocketAddrUse::UdpReceive => {
                let Known {
                    names,
                    listens,
                    peers,
                } = &mut *known;
                return self.hears(peers, names, address, || *listens);
            }
        };
        drop(known);
        self.env.decide(decided).is_ok()
    }

    /// True if the socket bound to `local` may take a datagram: the guest may
    /// send to its sender, or listen at that address. Then it may answer.
    pub(crate) fn receives(&self, local: SocketAddr, from: SocketAddr) -> bool {
        let Known { names, peers, .. } = &mut *self.known();
        self.hears(peers, names, from, || self.env.listens_at(local).is_ok())
    }

    /// True if a socket may take a datagram. The guest may answer a stranger that
    /// it hears because the socket listens.
    fn hears(
        &self,
        heard: &mut Peers,
        names: &Resolved,
        from: SocketAddr,
        listens: impl Fn() -> bool,
    ) -> bool {
        if self.env.policy.send_to(from, names).is_ok() {
            return true;
        }
        if listens() {
            if !self.env.clients.allow(from.ip()) {
                self.env.counters.clients_refused.add();
                tracing::debug!(peer = %from, "a datagram is dropped (--allow-from, --deny-from)");
                return false;
            }
            heard.add(from);
            return true;
        }
        // Nobody asked this peer. A warning would log whatever anybody sends.
        tracing::debug!(peer = %from, "a datagram from a stranger is dropped");
        false
    }

    /// Checks that a socket may be bound to an address. The system picks the
    /// port of one that only connects or sends. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn binds(&self, local: SocketAddr) -> Result<(), Denied> {
        match local.port() {
            0 => Ok(()),
            _ => self.logged(self.env.policy.listen(local)),
        }
    }

    /// Checks that a socket may be bound to a path. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn binds_unix(&self, path: &Path) -> Result<(), Denied> {
        self.logged(self.env.policy.listen_unix(path))
    }

    /// Checks that a socket may listen at the address that it is bound to. Logs
    /// a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn listens(&self, local: SocketAddr) -> Result<(), Denied> {
        self.logged(self.env.listens_at(local))
    }

    /// Checks that a connection to an address may be begun. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn connects(&self, to: SocketAddr) -> Result<(), Denied> {
        let decided = self.env.policy.connect_address(to, &self.known().names);
        self.logged(decided)
    }

    /// Checks that a connection to a path may be begun. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn connects_unix(&self, path: &Path) -> Result<(), Denied> {
        self.logged(self.env.policy.connect_unix(path))
    }

    /// Checks that a socket may send a datagram to an address. It may answer
    /// those that it has heard. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn sends(&self, heard: &Peers, to: SocketAddr) -> Result<(), Denied> {
        if heard.has(to) {
            return Ok(());
        }
        let decided = self.env.policy.send_to(to, &self.known().names);
        self.logged(decided)
    }

    /// True if a socket may take a datagram: the guest may send to its sender,
    /// or the socket listens. Then it may answer.
    pub(crate) fn hears_from(&self, heard: &mut Peers, from: SocketAddr, listens: bool) -> bool {
        heard.has(from) || self.hears(heard, &self.known().names, from, || listens)
    }

    /// True if a socket that is bound to this address takes datagrams from
    /// anybody.
    pub(crate) fn is_open_at(&self, local: SocketAddr) -> bool {
        self.env.listens_at(local).is_ok()
    }

    /// Checks that a name may be looked up. Logs a denial.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(crate) fn looks_up(&self, name: &str) -> Result<(), Denied> {
        self.logged(self.env.policy.resolve(name))
    }

    fn logged(&self, decided: Result<(), Denied>) -> Result<(), Denied> {
        decided.inspect_err(|denied| self.env.deny(denied))
    }

    /// Checks that a connection to an endpoint may be begun. Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if the policy forbids it.
    pub(crate) fn connect(&self, endpoint: &Endpoint) -> Result<(), ConnectionError> {
        self.env.may_connect(endpoint, &self.known().names)
    }

    /// Checks that datagrams may be sent to a host. Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if the policy forbids it.
    pub(crate) fn send_name(&self, host: &str, port: u16) -> Result<(), ConnectionError> {
        self.env.decide(self.env.policy.send_name(host, port))
    }

    /// Returns those of a host's addresses that datagrams may be sent to. Logs
    /// a denial if there are none.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if there are none.
    pub(crate) fn peers(
        &self,
        host: &str,
        port: u16,
        addresses: &[IpAddr],
    ) -> Result<Vec<SocketAddr>, ConnectionError> {
        let known = self.known();
        self.env.datagram_peers(host, port, addresses, &known.names)
    }

    /// Checks that a name may be resolved. Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if the policy forbids it.
    pub(crate) fn resolve(&self, name: &str) -> Result<(), ConnectionError> {
        self.env.decide(self.env.policy.resolve(name))
    }

    /// Remembers the addresses of a name.
    pub(crate) fn remember(&self, name: &str, addresses: &[IpAddr]) {
        let addresses = addresses.iter().copied();
        self.known().names.remember(name, addresses);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs where a guest listens, as the host says it of its own listeners: on a URL
/// such as `tcp://127.0.0.1:80`.
pub(crate) fn note_listener(guest: &str, url: &dyn Display) {
    tracing::info!(guest, "the guest listens on {url}");
}

impl Peers {
    fn has(&self, peer: SocketAddr) -> bool {
        self.0.back() == Some(&peer) || self.0.contains(&peer)
    }

    fn add(&mut self, peer: SocketAddr) {
        if self.has(peer) {
            return;
        }
        if self.0.len() >= PEERS {
            self.0.pop_front();
        }
        self.0.push_back(peer);
    }
}
