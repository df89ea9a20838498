//! What a guest may reach: every allow and deny, in one place, asked before
//! any system call.
//!
//! Nothing is allowed unless a rule allows it. A rule is about the text that a
//! guest asks for or about an address, and never turns one into the other:
//! whoever answers DNS questions for a name must not be able to lead a guest
//! that may reach this name into the network that the host stands in. So an
//! address that is not of the public Internet needs a rule that names it,
//! whatever name led there and however wide the other rules are.

mod address;
mod denied;
mod name;
mod pattern;
mod resolved;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::listen::ListenAddress;
use address::is_public;
pub use denied::Denied;
use denied::{Target, Way};
pub use name::{canonical_name, is_host_name};
pub use pattern::{ConnectPattern, HostPattern, HostPort, NamePattern, PatternError};
pub use resolved::Resolved;

/// All that a guest may reach; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What it may connect to: `--allow-connect`.
    pub connect: Vec<ConnectPattern>,
    /// Whom it may send datagrams to: `--allow-udp`.
    pub udp: Vec<HostPort>,
    /// Names that it may look up besides those that it may connect or send to:
    /// `--allow-resolve`.
    pub resolve: Vec<NamePattern>,
    /// What it may listen on by itself: `--allow-listen`.
    pub listen: Vec<ListenAddress>,
}

impl Policy {
    /// Whether a connection to a host may be begun: before its name is looked
    /// up. An address as text is judged as an address.
    ///
    /// A name that this allows does not allow all that it resolves to: see
    /// [`resolved_address`](Self::resolved_address).
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_name(&self, host: &str, port: u16) -> Result<(), Denied> {
        self.name(Way::Connect, host, port)
    }

    /// Whether a connection to an address that the guest itself named may be
    /// begun: a rule names it, or a name that led there.
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_address(&self, address: SocketAddr, names: &Resolved) -> Result<(), Denied> {
        self.address(Way::Connect, address, names)
    }

    /// Whether an address may be connected to that a name was resolved to.
    ///
    /// Public addresses are allowed by the rule that allows the name. Others
    /// (loopback, private, link-local, shared, multicast, reserved) need a rule
    /// that names them, except loopback where a rule names `localhost`.
    ///
    /// # Errors
    /// The name is not allowed, or its address is not.
    pub fn resolved_address(&self, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.resolved(Way::Connect, host, address)
    }

    /// Whether a connection to a Unix domain socket may be begun. The path must
    /// be the one of a rule; `..` and symbolic links are not followed to
    /// compare them.
    ///
    /// # Errors
    /// No rule matches.
    pub fn connect_unix(&self, path: &Path) -> Result<(), Denied> {
        let mut allowed = self.connect.iter().filter_map(ConnectPattern::unix);
        if allowed.any(|allowed| allowed == path) {
            return Ok(());
        }
        Err(Denied::target(Way::Connect, &Target::Unix(path)))
    }

    /// Whether a datagram may be sent to an address: as for connections, by
    /// rules of its own.
    ///
    /// # Errors
    /// No rule matches.
    pub fn send_to(&self, address: SocketAddr, names: &Resolved) -> Result<(), Denied> {
        self.address(Way::Send, address, names)
    }

    /// The same by name: before it is looked up.
    ///
    /// # Errors
    /// No rule matches.
    pub fn send_name(&self, host: &str, port: u16) -> Result<(), Denied> {
        self.name(Way::Send, host, port)
    }

    /// Whether datagrams may be sent to an address that a name was resolved to:
    /// as for connections.
    ///
    /// # Errors
    /// The name is not allowed, or its address is not.
    pub fn resolved_peer(&self, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.resolved(Way::Send, host, address)
    }

    /// Whether a name may be looked up: where a rule says so, or would allow to
    /// connect or send to it on any port. An address as text is its own answer
    /// and always allowed.
    ///
    /// # Errors
    /// No rule matches.
    pub fn resolve(&self, host: &str) -> Result<(), Denied> {
        let host = canonical_name(host);
        let connect = self.connect.iter().filter_map(ConnectPattern::host);
        let mut rules = connect
            .chain(&self.udp)
            .map(|pattern| &pattern.host)
            .chain(self.resolve.iter().map(|NamePattern(host)| host));
        if host.parse::<IpAddr>().is_ok() || rules.any(|rule| rule.matches_name(&host)) {
            return Ok(());
        }
        Err(Denied::name(&host))
    }

    /// Whether the guest may listen on an address itself. A rule for all
    /// addresses of the machine (`0.0.0.0`, `[::]`) is one for each of them;
    /// port 0 is the port that the system picks.
    ///
    /// # Errors
    /// No rule matches.
    pub fn listen(&self, address: SocketAddr) -> Result<(), Denied> {
        let ip = address.ip().to_canonical();
        let address = SocketAddr::new(ip, address.port());
        let allows = |rule: &ListenAddress| match rule {
            ListenAddress::Localhost(port) => {
                let loopback = [
                    IpAddr::from([127, 0, 0, 1]),
                    IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
                ];
                *port == address.port() && loopback.contains(&ip)
            }
            ListenAddress::Socket(rule) => {
                let all = rule.ip().is_unspecified() && (rule.is_ipv6() || ip.is_ipv4());
                rule.port() == address.port() && (all || rule.ip().to_canonical() == ip)
            }
            ListenAddress::Unix(_) => false,
        };
        if self.listen.iter().any(allows) {
            return Ok(());
        }
        Err(Denied::target(Way::Listen, &Target::Address(address)))
    }

    fn name(&self, way: Way, host: &str, port: u16) -> Result<(), Denied> {
        let host = canonical_name(host);
        if let Ok(ip) = host.parse() {
            return self.address(way, SocketAddr::new(ip, port), &Resolved::default());
        }
        if self.rules(way, port).any(|rule| rule.matches_name(&host)) {
            return Ok(());
        }
        Err(Denied::target(way, &Target::name(&host, port)))
    }

    fn address(&self, way: Way, address: SocketAddr, names: &Resolved) -> Result<(), Denied> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if self.names_address(way, ip, port)
            || (is_public(ip) && self.rules(way, port).any(|rule| *rule == HostPattern::Any))
        {
            return Ok(());
        }
        let mut denied = Denied::target(way, &Target::Address(SocketAddr::new(ip, port)));
        for name in names.names(ip) {
            match self.resolved(way, name, address) {
                Ok(()) => return Ok(()),
                // Then the address is what is wrong, not the name.
                Err(error) if self.name(way, name, port).is_ok() => denied = error,
                Err(_) => {}
            }
        }
        Err(denied)
    }

    fn resolved(&self, way: Way, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.name(way, host, address.port())?;
        let host = canonical_name(host);
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if is_public(ip) || self.names_address(way, ip, port) {
            return Ok(());
        }
        let localhost = host == "localhost" || host.ends_with(".localhost");
        let named = |rule: &HostPattern| *rule != HostPattern::Any && rule.matches_name(&host);
        if localhost && ip.is_loopback() && self.rules(way, port).any(named) {
            return Ok(());
        }
        Err(Denied::not_public(way, &host, SocketAddr::new(ip, port)))
    }

    /// Whether a rule names this address, rather than only allow all hosts.
    fn names_address(&self, way: Way, ip: IpAddr, port: u16) -> bool {
        self.rules(way, port)
            .any(|rule| matches!(rule, HostPattern::Network(net) if net.contains(&ip)))
    }

    /// The rules for hosts that speak of a port.
    fn rules(&self, way: Way, port: u16) -> impl Iterator<Item = &HostPattern> {
        let connect = self.connect.iter().filter_map(ConnectPattern::host);
        let connect = connect.filter(move |_| way == Way::Connect);
        let udp = self.udp.iter().filter(move |_| way == Way::Send);
        connect
            .chain(udp)
            .filter(move |rule| rule.port.is_none_or(|allowed| allowed == port))
            .map(|rule| &rule.host)
    }
}

#[cfg(test)]
mod tests;
