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

use crate::config::ListenAddress;
use address::is_public;
pub use denied::Denied;
use denied::{Target, Way};
pub(crate) use name::{canonical_name, is_host_name};
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
mod tests {
    use super::*;

    fn policy(patterns: &[&str]) -> Policy {
        let parse = |text: &&str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        Policy {
            connect: patterns.iter().map(parse).collect(),
            ..Policy::default()
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// No name was looked up.
    fn unknown() -> Resolved {
        Resolved::default()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let none = Policy::default();
        assert!(none.connect_name("example.org", 443).is_err());
        assert!(none.connect_name("localhost", 443).is_err());
        assert!(
            none.connect_address(address("93.184.216.34:443"), &unknown())
                .is_err()
        );
        assert!(
            none.resolved_address("example.org", address("93.184.216.34:443"))
                .is_err()
        );
        assert!(none.connect_unix(Path::new("/run/app.sock")).is_err());
        assert!(none.resolve("example.org").is_err());
        assert!(none.send_to(address("8.8.8.8:53"), &unknown()).is_err());
        assert!(none.listen(address("127.0.0.1:0")).is_err());
    }

    #[test]
    fn names_match_by_whole_labels_and_port() {
        for (pattern, host, port, allowed) in [
            ("example.org:443", "example.org", 443, true),
            ("example.org:443", "EXAMPLE.Org", 443, true),
            ("Example.ORG.:443", "example.org.", 443, true),
            ("example.org:443", "example.org", 80, false),
            ("example.org:443", "www.example.org", 443, false),
            ("example.org:443", "badexample.org", 443, false),
            ("example.org:443", "example.org.evil.test", 443, false),
            ("example.org:*", "example.org", 1, true),
            ("*.example.org:443", "www.example.org", 443, true),
            ("*.example.org:443", "a.b.example.org", 443, true),
            ("*.example.org:443", "example.org", 443, false),
            ("*.example.org:443", ".example.org", 443, false),
            ("*.example.org:443", "badexample.org", 443, false),
            ("*:443", "anything.test", 443, true),
            ("*:443", "anything.test", 444, false),
            ("*:*", "anything.test", 444, true),
            ("xn--bcher-kva.example:1", "B\u{fc}cher.example", 1, true),
            ("b\u{fc}cher.example:1", "xn--bcher-kva.example.", 1, true),
            // A network allows addresses, not the names that lead there.
            ("0.0.0.0/0:*", "example.org", 443, false),
            // An address as text is an address.
            ("*:443", "93.184.216.34", 443, true),
            ("*:443", "127.0.0.1", 443, false),
            ("*:443", "127.0.0.1.", 443, false),
            ("*:443", "::1", 443, false),
            ("127.0.0.1:443", "127.0.0.1", 443, true),
            ("[::1]:443", "::1", 443, true),
            ("[::1]:443", "0:0::1", 443, true),
        ] {
            assert_eq!(
                policy(&[pattern]).connect_name(host, port).is_ok(),
                allowed,
                "{pattern} and {host}:{port}"
            );
        }
    }

    #[test]
    fn addresses_need_a_network_or_to_be_public() {
        for (pattern, target, allowed) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", true),
            ("[::ffff:10.0.0.0/104]:80", "10.1.2.3:80", true),
            ("10.0.0.0/8:*", "10.255.0.1:9", true),
            ("10.0.0.0/8:*", "[::ffff:10.255.0.1]:9", true),
            ("10.0.0.0/8:*", "11.0.0.1:9", false),
            ("0.0.0.0/0:*", "192.168.1.1:9", true),
            ("0.0.0.0/0:*", "[2606:4700::1]:9", false),
            ("[::/0]:*", "[fd00::1]:9", true),
            ("[::/0]:*", "[::ffff:10.0.0.1]:9", false),
            ("[fd00::/8]:443", "[fd12::1]:443", true),
            ("[fd00::/8]:443", "[fe80::1]:443", false),
            ("*:443", "93.184.216.34:443", true),
            ("*:443", "[2606:4700::1]:443", true),
            ("*:443", "10.0.0.1:443", false),
            ("*:443", "[::ffff:10.0.0.1]:443", false),
            ("*:443", "[64:ff9b::5db8:d822]:443", true),
            ("*:443", "[64:ff9b::a00:1]:443", false),
            // A name's rule says nothing of addresses.
            ("localhost:80", "127.0.0.1:80", false),
            ("example.org:80", "93.184.216.34:80", false),
        ] {
            assert_eq!(
                policy(&[pattern])
                    .connect_address(address(target), &unknown())
                    .is_ok(),
                allowed,
                "{pattern} and {target}"
            );
        }
    }

    #[test]
    fn a_resolver_cannot_widen_a_permission() {
        for (patterns, host, target, allowed) in [
            (
                &["example.org:443"][..],
                "example.org",
                "93.184.216.34:443",
                true,
            ),
            (
                &["example.org:443"],
                "EXAMPLE.org.",
                "93.184.216.34:443",
                true,
            ),
            (
                &["example.org:443"],
                "example.org",
                "93.184.216.34:80",
                false,
            ),
            (
                &["example.org:443"],
                "other.org",
                "93.184.216.34:443",
                false,
            ),
            (&["example.org:443"], "example.org", "127.0.0.1:443", false),
            (
                &["example.org:443"],
                "example.org",
                "[::ffff:169.254.169.254]:443",
                false,
            ),
            (&["example.org:443"], "example.org", "0.0.0.0:443", false),
            (&["*:443"], "example.org", "10.0.0.1:443", false),
            (&["*:443"], "127.1", "127.0.0.1:443", false),
            (&["*:443"], "localhost", "127.0.0.1:443", false),
            (&["localhost:443"], "localhost", "127.0.0.1:443", true),
            (&["localhost:443"], "localhost", "[::1]:443", true),
            (&["localhost:443"], "localhost", "10.0.0.1:443", false),
            (&["*.localhost:443"], "app.localhost", "127.0.0.1:443", true),
            (
                &["localhost.example:443"],
                "localhost.example",
                "127.0.0.1:443",
                false,
            ),
            (
                &["intranet.test:443", "10.0.0.0/8:443"],
                "intranet.test",
                "10.0.0.1:443",
                true,
            ),
            (
                &["intranet.test:443", "10.0.0.0/8:80"],
                "intranet.test",
                "10.0.0.1:443",
                false,
            ),
            (&["10.0.0.0/8:443"], "intranet.test", "10.0.0.1:443", false),
            (&["127.0.0.1:443"], "127.0.0.1", "127.0.0.1:443", true),
        ] {
            assert_eq!(
                policy(patterns)
                    .resolved_address(host, address(target))
                    .is_ok(),
                allowed,
                "{patterns:?} and {host} at {target}"
            );
        }
    }

    #[test]
    fn unix_sockets_are_named_by_their_path() {
        let one = policy(&["unix:/run/app.sock", "*:*"]);
        assert!(one.connect_unix(Path::new("/run/app.sock")).is_ok());
        assert!(one.connect_unix(Path::new("/run//./app.sock")).is_ok());
        assert!(one.connect_unix(Path::new("/run/x/../app.sock")).is_err());
        assert!(one.connect_unix(Path::new("/run/app.sock2")).is_err());
        assert!(one.connect_unix(Path::new("/run")).is_err());
    }

    #[test]
    fn names_are_looked_up_where_a_port_of_them_is_allowed() {
        let some = policy(&["example.org:443", "*.example.com:1", "10.0.0.0/8:*"]);
        for (host, allowed) in [
            ("example.org", true),
            ("EXAMPLE.ORG.", true),
            ("a.example.com", true),
            ("example.com", false),
            ("other.org", false),
            ("10.0.0.1", true),
            ("192.168.0.1", true),
            ("::1", true),
        ] {
            assert_eq!(some.resolve(host).is_ok(), allowed, "{host}");
        }
        assert!(policy(&["*:443"]).resolve("other.org").is_ok());
    }

    #[test]
    fn a_name_may_be_looked_up_without_being_connected_to() {
        let only = Policy {
            resolve: vec!["*.example.org".parse().expect("names")],
            udp: vec!["ntp.example:123".parse().expect("a host")],
            ..Policy::default()
        };
        for (host, allowed) in [
            ("www.example.org", true),
            ("ntp.example", true),
            ("example.org", false),
            // What it looks like must not depend on who looks.
            ("a\u{3002}example\u{ff0e}org", true),
        ] {
            assert_eq!(only.resolve(host).is_ok(), allowed, "{host}");
        }
        assert!(only.connect_name("www.example.org", 443).is_err());
    }

    #[test]
    fn datagrams_have_rules_of_their_own() {
        let udp = Policy {
            udp: vec!["10.0.0.0/8:53".parse().expect("a network")],
            ..policy(&["127.0.0.1:53"])
        };
        assert!(udp.send_to(address("10.0.0.1:53"), &unknown()).is_ok());
        assert!(
            udp.connect_address(address("10.0.0.1:53"), &unknown())
                .is_err()
        );
        assert!(
            udp.connect_address(address("127.0.0.1:53"), &unknown())
                .is_ok()
        );
        let denied = udp.send_to(address("127.0.0.1:53"), &unknown());
        assert_eq!(
            denied.expect_err("it is refused").to_string(),
            "sending datagrams to 127.0.0.1:53 is not allowed; --allow-udp 127.0.0.1:53 would \
             allow it"
        );
    }

    #[test]
    fn a_names_rule_holds_for_the_addresses_that_it_resolved_to() {
        let mut names = Resolved::default();
        names.remember(
            "Example.org.",
            ["93.184.216.34", "10.0.0.1"].map(|ip| ip.parse().expect("an address")),
        );
        names.remember("localhost", ["127.0.0.1".parse().expect("an address")]);
        for (pattern, target, allowed) in [
            ("example.org:443", "93.184.216.34:443", true),
            ("example.org:443", "[::ffff:93.184.216.34]:443", true),
            ("example.org:443", "93.184.216.34:80", false),
            ("example.org:443", "93.184.216.35:443", false),
            ("other.org:443", "93.184.216.34:443", false),
            ("localhost:80", "127.0.0.1:80", true),
            ("localhost:80", "127.0.0.2:80", false),
            ("*:80", "127.0.0.1:80", false),
            // Whoever answers for a name cannot open what is private.
            ("example.org:443", "10.0.0.1:443", false),
            ("*:443", "10.0.0.1:443", false),
        ] {
            let found = policy(&[pattern]).connect_address(address(target), &names);
            assert_eq!(found.is_ok(), allowed, "{pattern} and {target}");
        }
        let denied = policy(&["example.org:443"]).connect_address(address("10.0.0.1:443"), &names);
        assert_eq!(
            denied.expect_err("it is refused").to_string(),
            "connecting to example.org:443 is not allowed at 10.0.0.1, which is not a public \
             address; --allow-connect 10.0.0.1:443 would allow it"
        );
    }

    #[test]
    fn a_guest_listens_where_a_rule_says_so() {
        for (rule, target, allowed) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.1:0", false),
            ("127.0.0.1:80", "0.0.0.0:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", true),
            ("127.0.0.1:0", "127.0.0.1:80", false),
            ("80", "127.0.0.1:80", true),
            ("80", "[::1]:80", true),
            ("80", "127.0.0.2:80", false),
            ("80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "[::]:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::]:80", false),
            ("unix:/run/a", "127.0.0.1:80", false),
        ] {
            let policy = Policy {
                listen: vec![rule.parse().expect("an address")],
                ..Policy::default()
            };
            let found = policy.listen(address(target));
            assert_eq!(found.is_ok(), allowed, "{rule} and {target}");
        }
        let denied = Policy::default().listen(address("[::1]:80"));
        assert_eq!(
            denied.expect_err("it is refused").to_string(),
            "listening on [::1]:80 is not allowed; --allow-listen [::1]:80 would allow it"
        );
    }

    #[test]
    fn what_is_denied_says_which_flag_would_allow_it() {
        let none = Policy::default();
        let denied = |result: Result<(), Denied>| result.expect_err("it is refused").to_string();
        assert_eq!(
            denied(none.connect_address(address("10.0.0.1:80"), &unknown())),
            "connecting to 10.0.0.1:80 is not allowed; --allow-connect 10.0.0.1:80 would allow it"
        );
        assert_eq!(
            denied(none.connect_name("Example.org.", 443)),
            "connecting to example.org:443 is not allowed; \
             --allow-connect example.org:443 would allow it"
        );
        assert_eq!(
            denied(none.connect_name("::1", 443)),
            "connecting to [::1]:443 is not allowed; --allow-connect [::1]:443 would allow it"
        );
        assert_eq!(
            denied(none.connect_unix(Path::new("/run/a"))),
            "connecting to unix:/run/a is not allowed; --allow-connect unix:/run/a would allow it"
        );
        assert_eq!(
            denied(none.resolve("example.org")),
            "looking example.org up is not allowed; \
             --allow-resolve example.org would allow it"
        );
        assert_eq!(
            denied(policy(&["*:80"]).resolved_address("intranet.test", address("10.0.0.1:80"))),
            "connecting to intranet.test:80 is not allowed at 10.0.0.1, which is not a public \
             address; --allow-connect 10.0.0.1:80 would allow it"
        );
    }

    #[test]
    fn a_flag_that_is_proposed_does_allow() {
        for text in [
            "10.0.0.1:80",
            "[fd00::1]:80",
            "[::ffff:10.0.0.1]:80",
            "8.8.8.8:53",
        ] {
            let target = address(text);
            let denied = Policy::default()
                .connect_address(target, &unknown())
                .expect_err("it is refused");
            assert!(
                policy(&[&denied.remedy.expect("a flag").1])
                    .connect_address(target, &unknown())
                    .is_ok(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_guests_text_cannot_forge_log_lines() {
        let denied = Policy::default()
            .connect_name("a\nnetwasm: all is well", 1)
            .expect_err("it is refused");
        assert_eq!(
            denied.to_string(),
            "connecting to a\\nnetwasm: all is well:1 is not allowed"
        );
    }
}
