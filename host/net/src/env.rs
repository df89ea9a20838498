//! Network state that all workers share.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use netwasm_base::address::Address;
use netwasm_base::config::{DnsConfig, Limits, Proxy, UpstreamGroup};
use netwasm_base::counters::Counters;
use netwasm_base::error::{ConnectionError, Error};
use netwasm_base::policy::{Denied, Policy, Resolved};
use netwasm_base::trace::Tracer;

use crate::clients::{ClientPlace, Clients, TurnedAway};
use crate::dns::Sources;
use crate::endpoint::Endpoint;
use crate::parked::Pools;
use crate::permits::{Permit, Permits};
use crate::places::Places;
use crate::tls::{ClientTls, Tls};
use crate::turns::Steps;
use crate::upstream::{Group, Upstreams};

/// The network state of a service, shared by all workers.
#[derive(Debug)]
pub struct Env {
    /// Limits and deadlines.
    pub limits: Limits,
    /// The guest's name in the log.
    pub guest: String,
    /// Destinations and listeners that the guest is allowed.
    pub policy: Policy,
    pub(crate) names: Arc<Sources>,
    /// Certificates and trust roots.
    pub tls: Arc<Tls>,
    /// Counters of the service.
    pub counters: Arc<Counters>,
    /// True if the time in guests is measured (`--admin`).
    pub times_guests: bool,
    /// Traces of requests (`--otlp`), if there are any.
    pub tracer: Option<Tracer>,
    /// Places for accepted connections (`--max-connections`).
    pub places: Arc<Places>,
    /// Permits for outgoing connections (`--max-outgoing`).
    pub outgoing: Arc<Permits>,
    /// Connections kept for reuse.
    pub pools: Pools,
    /// Groups of servers that the guest may forward to.
    upstreams: Upstreams,
    /// Clock of the workers' turns.
    pub steps: Steps,
    /// Number of the signal that drains the run; 0 without one.
    pub signal: AtomicU32,
    /// True if connections are to end as soon as they can. Set before the
    /// workers are notified, so that no worker invites another request once
    /// one of them, or a closed listener, has shown the end.
    pub draining: AtomicBool,
    /// True if the run ends soon, and serves until then: an answer of HTTP/1.1
    /// lets its client connect again, elsewhere.
    pub ending: AtomicBool,
    /// Proxies whose connections begin with a PROXY header.
    pub proxies: Vec<Proxy>,
    /// The clients.
    pub clients: Arc<Clients>,
}

/// Settings of an [`Env`].
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// See [`Env::limits`].
    pub limits: Limits,
    /// See [`Env::guest`].
    pub guest: &'a str,
    /// See [`Env::policy`].
    pub policy: Policy,
    /// Sources of name resolution.
    pub dns: DnsConfig,
    /// See [`Env::tls`].
    pub tls: Arc<Tls>,
    /// See [`Env::places`].
    pub places: Arc<Places>,
    /// See [`Env::outgoing`].
    pub outgoing: Arc<Permits>,
    /// See [`Env::counters`].
    pub counters: Arc<Counters>,
    /// See [`Env::times_guests`].
    pub times_guests: bool,
    /// See [`Env::tracer`].
    pub tracer: Option<Tracer>,
    /// See [`Env::steps`].
    pub steps: Steps,
    /// See [`Env::proxies`].
    pub proxies: Vec<Proxy>,
    /// See [`Env::clients`].
    pub clients: Arc<Clients>,
    /// Groups of servers that the guest may forward to.
    pub upstreams: &'a [UpstreamGroup],
}

impl Env {
    /// Builds the shared state, before a run begins.
    ///
    /// # Errors
    /// Fails if no descriptor is left, or if the name of a server cannot be one
    /// of a certificate.
    pub fn new(settings: Settings<'_>) -> Result<Self, Error> {
        let Settings {
            limits,
            guest,
            policy,
            dns,
            tls,
            places,
            outgoing,
            counters,
            times_guests,
            tracer,
            steps,
            proxies,
            clients,
            upstreams,
        } = settings;
        let pools = Pools::new(&counters).map_err(|source| Error::System {
            what: "epoll",
            source,
        })?;
        let upstreams = Upstreams::new(upstreams, &counters)?;
        upstreams.check(&tls)?;
        Ok(Self {
            upstreams,
            guest: guest.to_owned(),
            policy,
            names: Arc::new(Sources::new(&dns, &counters)),
            tls,
            places,
            outgoing,
            counters,
            times_guests,
            tracer,
            pools,
            steps,
            proxies,
            clients,
            signal: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            limits,
        })
    }

    /// Takes a permit for an outgoing connection.
    ///
    /// # Errors
    /// Fails if `--max-outgoing` connections exist already.
    pub fn try_outgoing_permit(&self) -> Result<Permit, ConnectionError> {
        self.outgoing
            .try_take()
            .ok_or(ConnectionError::LimitExceeded("--max-outgoing is reached"))
    }

    /// Counts an accepted connection, and takes a place for it among those of
    /// its client; `None` if its clients have no limits.
    ///
    /// # Errors
    /// Fails if the client is turned away, which is counted and logged. The
    /// socket is then reset once it is dropped: an answer would cost more than
    /// such a client has earned.
    pub(crate) fn admit(
        &self,
        socket: impl AsFd,
        client: &Address,
    ) -> Result<Option<ClientPlace>, TurnedAway> {
        self.counters.connections_accepted.add();
        self.clients.enter(client).inspect_err(|reason| {
            self.counters.clients_refused.add();
            self.counters.connections_lost.add();
            tracing::info!(%client, "connection refused: {reason}");
            // On error it is closed all the same.
            let _ = set_socket_linger(&socket, Some(Duration::ZERO));
        })
    }

    /// Checks that guests may choose what these options of a TLS session name.
    /// Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if they may not.
    pub fn check_tls(&self, client: &ClientTls) -> Result<(), ConnectionError> {
        self.decide(self.tls.check(client))
    }

    /// Checks that a guest may begin a connection to an endpoint. `names` are
    /// those that it has resolved. Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if the policy forbids it.
    pub fn may_connect(&self, to: &Endpoint, names: &Resolved) -> Result<(), ConnectionError> {
        self.decide(match to {
            Endpoint::Address(address) => self.policy.connect_address(*address, names),
            Endpoint::Name { host, port } => self.policy.connect_name(host, *port),
            Endpoint::Unix(path) => self.policy.connect_unix(path),
        })
    }

    /// Returns the group that a guest forwards to. Logs a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if no `--upstream` has the name.
    pub fn upstream(&self, name: &str) -> Result<&Arc<Group>, ConnectionError> {
        self.upstreams.get(name).ok_or_else(|| {
            self.deny(&Denied::upstream(name));
            ConnectionError::AccessDenied
        })
    }

    /// Returns the groups of servers that the guest may forward to.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// Logs and counts a denial.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if there is one.
    pub fn decide(&self, decided: Result<(), Denied>) -> Result<(), ConnectionError> {
        decided.map_err(|denied| {
            self.deny(&denied);
            ConnectionError::AccessDenied
        })
    }

    /// Returns those of a host's addresses that datagrams may be sent to. Logs
    /// a denial if there are none.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if there are none.
    pub fn datagram_peers(
        &self,
        host: &str,
        port: u16,
        addresses: &[IpAddr],
        names: &Resolved,
    ) -> Result<Vec<SocketAddr>, ConnectionError> {
        let peers = addresses.iter().map(|&ip| SocketAddr::new(ip, port));
        let mut denied = Vec::new();
        let allowed: Vec<_> = peers
            .filter(|&peer| {
                let decided = match host.parse::<IpAddr>() {
                    Ok(_) => self.policy.send_to(peer, names),
                    Err(_) => self.policy.resolved_peer(host, peer),
                };
                let decided = decided.inspect_err(|denied| tracing::debug!("{denied}"));
                decided.map_err(|error| denied.push(error)).is_ok()
            })
            .collect();
        if allowed.is_empty() {
            self.deny_all(&denied);
            return Err(ConnectionError::AccessDenied);
        }
        Ok(allowed)
    }

    /// Checks an address that a guest's socket is bound to. If no rule names the
    /// port, the system picked it: binding to it would have been denied.
    ///
    /// # Errors
    /// Fails if the guest may not listen there.
    pub fn listens_at(&self, local: SocketAddr) -> Result<(), Denied> {
        let any_port = || self.policy.listen(SocketAddr::new(local.ip(), 0));
        self.policy.listen(local).or_else(|_| any_port())
    }

    /// Logs several denials, such as those of a name's addresses.
    pub fn deny_all(&self, denied: &[Denied]) {
        for denied in denied {
            self.deny(denied);
        }
    }

    /// Logs and counts a denial, with the flag that would allow it.
    pub fn deny(&self, denied: &Denied) {
        self.counters.denied.add();
        tracing::warn!(guest = %self.guest, "{denied}");
    }
}
