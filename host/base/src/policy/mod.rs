//! The policy of a guest: every allow and deny, in one place, asked before any
//! system call.
//!
//! Nothing is allowed unless a rule allows it. A rule is about an address, or
//! about the text that a guest asks for, and never turns one into the other.
//! Otherwise, whoever answers DNS questions for a name could lead a guest that
//! may reach this name into the host's own network. So an address outside the
//! public Internet needs a rule that names it, whatever name led there and
//! however wide the other rules are.

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

/// Rules of what a guest may reach; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Destinations of connections: `--allow-connect`.
    pub connect: Vec<ConnectPattern>,
    /// Destinations of datagrams: `--allow-udp`.
    pub udp: Vec<HostPort>,
    /// Names to resolve, besides those that the guest may connect or send to:
    /// `--allow-resolve`.
    pub resolve: Vec<NamePattern>,
    /// Addresses of the guest's own listeners: `--allow-listen`.
    pub listen: Vec<ListenAddress>,
}

impl Policy {
    /// Checks that a connection to a host may begin, before its name is
    /// resolved. An address in text form is judged as an address.
    ///
    /// An allowed name does not allow everything that it resolves to: see
    /// [`resolved_address`](Self::resolved_address).
    ///
    /// # Errors
    /// Fails if no rule matches.
    pub fn connect_name(&self, host: &str, port: u16) -> Result<(), Denied> {
        self.name(Way::Connect, host, port)
    }

    /// Checks that a connection to an address that the guest itself named may
    /// begin. A rule must name the address, or a name that resolved to it.
    ///
    /// # Errors
    /// Fails if no rule matches.
    pub fn connect_address(&self, address: SocketAddr, names: &Resolved) -> Result<(), Denied> {
        self.address(Way::Connect, address, names)
    }

    /// Checks that an address that a name resolved to may be connected to.
    ///
    /// Public addresses are allowed by the rule that allows the name. Others
    /// (loopback, private, link-local, shared, multicast, reserved) need a rule
    /// that names them. The exception is loopback, if a rule names `localhost`.
    ///
    /// # Errors
    /// Fails if the name or its address is not allowed.
    pub fn resolved_address(&self, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.resolved(Way::Connect, host, address)
    }

    /// Checks that a connection to a Unix domain socket may begin. The path
    /// must be equal to a rule's; `..` and symbolic links are not resolved to
    /// compare them.
    ///
    /// # Errors
    /// Fails if no rule matches.
    pub fn connect_unix(&self, path: &Path) -> Result<(), Denied> {
        let mut allowed = self.connect.iter().filter_map(ConnectPattern::unix);
        if allowed.any(|allowed| allowed == path) {
            return Ok(());
        }
        Err(Denied::target(Way::Connect, &Target::Unix(path)))
    }

    /// Checks that a datagram may be sent to an address. Like
    /// [`connect_address`](Self::connect_address), with the rules of datagrams.
    ///
    /// # Errors
    /// Fails if no rule matches.
    pub fn send_to(&self, address: SocketAddr, names: &Resolved) -> Result<(), Denied> {
        self.address(Way::Send, address, names)
    }

    /// Checks that datagrams may be sent to a host, before its name is
    /// resolved.
    ///
    /// # Errors
    /// Fails if no rule matches.
    pub fn send_name(&self, host: &str, port: u16) -> Result<(), Denied> {
        self.name(Way::Send, host, port)
    }

    /// Checks that datagrams may be sent to an address that a name resolved to.
    /// Like [`resolved_address`](Self::resolved_address), with the rules of
    /// datagrams.
    ///
    /// # Errors
    /// Fails if the name or its address is not allowed.
    pub fn resolved_peer(&self, host: &str, address: SocketAddr) -> Result<(), Denied> {
        self.resolved(Way::Send, host, address)
    }

    /// Checks that a name may be resolved. A rule must allow that, or allow to
    /// connect or send to the name on any port. An address in text form is its
    /// own answer, and always allowed.
    ///
    /// # Errors
    /// Fails if no rule matches.
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

    /// Checks that the guest may listen on an address. A rule for all addresses
    /// of the machine (`0.0.0.0`, `[::]`) allows each of them. Port 0 is the
    /// port that the system picks.
    ///
    /// # Errors
    /// Fails if no rule matches.
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
            ListenAddress::Unix(_) | ListenAddress::Passed(_) => false,
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
                // The name is allowed, so report its address as the cause.
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

    /// True if a rule names this address, rather than just allowing all hosts.
    fn names_address(&self, way: Way, ip: IpAddr, port: u16) -> bool {
        self.rules(way, port)
            .any(|rule| matches!(rule, HostPattern::Network(net) if net.contains(&ip)))
    }

    /// Returns the host patterns of the rules for a port.
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
