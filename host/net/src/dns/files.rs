//! `/etc/hosts` and `/etc/resolv.conf`.
//!
//! Both are read as bytes. A bad entry is ignored alone: it is logged, and the
//! rest of its line and file still counts.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use netwasm_base::config::{DNS_PORT, DnsConfig, DnsServer};
use netwasm_base::policy::{canonical_name, is_host_name};

pub(super) const HOSTS: &str = "/etc/hosts";

/// File with the system's servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// File with this machine's name.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Maximum of ignored entries of a file to log; of the rest, only the number.
const TOLD: usize = 5;

/// Limits of glibc: seconds, rounds and dots.
const MOST_TIMEOUT: u64 = 30;
const MOST_ATTEMPTS: u32 = 5;
const MOST_DOTS: usize = 15;

/// Options of resolv.conf(5) without effect here: debugging, options of reverse
/// look-ups, reloading the file (a change is always noticed), and the order of
/// the two questions (each has its own socket).
const WITHOUT_EFFECT: [&str; 11] = [
    "debug",
    "inet6",
    "insecure1",
    "insecure2",
    "ip6-bytestring",
    "ip6-dotint",
    "no-check-names",
    "no-ip6-dotint",
    "no-reload",
    "single-request",
    "single-request-reopen",
];

/// Addresses in the hosts file, by canonical name.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Reads [`HOSTS`]. An unreadable file counts as empty.
    pub(super) fn load() -> Self {
        let mut ignored = Ignored::of(HOSTS);
        let hosts = Self::parse(&read(HOSTS), &mut ignored);
        ignored.tell();
        hosts
    }

    fn parse(text: &str, ignored: &mut Ignored) -> Self {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for (number, words) in lines(text, &['#']) {
            let Some((&first, names)) = words.split_first() else {
                continue;
            };
            let Ok(ip) = first.parse::<IpAddr>() else {
                ignored.add(number, first, "not an IP address");
                continue;
            };
            for name in names {
                let canonical = canonical_name(name);
                if !is_host_name(&canonical) {
                    ignored.add(number, name, "not a host name");
                    continue;
                }
                let addresses = hosts.entry(canonical).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
        Self(hosts)
    }

    /// Returns the addresses of a canonical name; empty if the file lacks it.
    pub(super) fn addresses(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// How to ask servers: resolv.conf(5), with its defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conf {
    /// Servers, in the order of asking.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains to append, in canonical form.
    search: Vec<String>,
    /// Names with fewer dots are looked up in the search list first.
    dots: usize,
    /// Time that a server may be silent before the next is asked.
    pub(super) timeout: Duration,
    /// Number of times that all servers are asked.
    pub(super) attempts: u32,
    switches: Vec<Switch>,
}

/// An option of resolv.conf(5) without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// Begin each look-up with another server.
    Rotate,
    /// Accept answers by UDP of more than 512 bytes: RFC 6891.
    Edns,
    /// Ask by TCP only.
    Tcp,
    /// Ask for no IPv6 addresses.
    NoIpv6,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            switches: Vec::new(),
        }
    }
}

impl Conf {
    /// Returns the servers of `--dns-server`, or the contents of
    /// [`RESOLV_CONF`].
    pub(super) fn load(config: &DnsConfig) -> Self {
        if !config.servers.is_empty() {
            return Self {
                servers: config.servers.iter().map(|&DnsServer(it)| it).collect(),
                switches: vec![Switch::Edns],
                ..Self::default()
            };
        }
        let mut ignored = Ignored::of(RESOLV_CONF);
        let host = read(HOST_NAME);
        let conf = Self::parse(&read(RESOLV_CONF), host.trim_end(), &mut ignored);
        ignored.tell();
        conf
    }

    /// Parses resolv.conf(5). The default server is this machine's. The default
    /// search list is the domain of this machine's name.
    fn parse(text: &str, host: &str, ignored: &mut Ignored) -> Self {
        let mut conf = Self::default();
        let mut search = None;
        for (number, words) in lines(text, &['#', ';']) {
            let Some((&keyword, values)) = words.split_first() else {
                continue;
            };
            match keyword {
                "nameserver" => match values.first().and_then(|text| server(text)) {
                    Some(server) => conf.servers.push(server),
                    None => {
                        let value = values.first().unwrap_or(&keyword);
                        ignored.add(number, value, "not an IP address");
                    }
                },
                // The last of these lines counts.
                "domain" | "search" => {
                    search = Some(conf.domains(number, values, ignored));
                }
                "options" => {
                    for option in values {
                        if let Err(why) = conf.option(option) {
                            ignored.add(number, option, why);
                        }
                    }
                }
                _ => ignored.add(number, keyword, "not supported"),
            }
        }
        if conf.servers.is_empty() {
            tracing::debug!("no DNS server in {RESOLV_CONF}: asking 127.0.0.1");
            conf.servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        conf.search = search.unwrap_or_else(|| {
            let domain = host.split_once('.').map(|(_, domain)| domain.to_owned());
            domain.into_iter().filter(|it| is_host_name(it)).collect()
        });
        conf
    }

    fn domains(&self, number: usize, words: &[&str], ignored: &mut Ignored) -> Vec<String> {
        let mut domains = Vec::new();
        for word in words {
            let domain = canonical_name(word);
            match domain.is_empty() || is_host_name(&domain) {
                true => domains.push(domain),
                false => ignored.add(number, word, "not a domain"),
            }
        }
        domains
    }

    /// Applies an option.
    ///
    /// # Errors
    /// Fails with the reason why the option is ignored.
    fn option(&mut self, option: &str) -> Result<(), &'static str> {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<u32>().map_err(|_| "not a number");
        match name {
            "ndots" => self.dots = (number? as usize).min(MOST_DOTS),
            "timeout" => {
                let seconds = u64::from(number?).clamp(1, MOST_TIMEOUT);
                self.timeout = Duration::from_secs(seconds);
            }
            "attempts" => self.attempts = number?.clamp(1, MOST_ATTEMPTS),
            "rotate" => self.switches.push(Switch::Rotate),
            "edns0" => self.switches.push(Switch::Edns),
            "use-vc" => self.switches.push(Switch::Tcp),
            "no-aaaa" => self.switches.push(Switch::NoIpv6),
            // A server's statement about DNSSEC is not used.
            "trust-ad" => {}
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ => return Err("not supported"),
        }
        Ok(())
    }

    pub(super) fn has(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// Returns the names to ask for in turn, for a canonical name: `search` and
    /// `ndots`. A name that `ends` with a dot is asked for as it is.
    pub(super) fn candidates(&self, name: &str, ends: bool) -> Vec<String> {
        if ends {
            return vec![name.to_owned()];
        }
        let searched = self.search.iter().map(|domain| match domain.as_str() {
            "" => name.to_owned(),
            domain => format!("{name}.{domain}"),
        });
        let mut candidates: Vec<_> = searched.collect();
        let dots = name.bytes().filter(|&byte| byte == b'.').count();
        match dots >= self.dots {
            true => candidates.insert(0, name.to_owned()),
            false => candidates.push(name.to_owned()),
        }
        let mut distinct = Vec::new();
        for candidate in candidates {
            // A name that is too long is not a host name.
            if is_host_name(&candidate) && !distinct.contains(&candidate) {
                distinct.push(candidate);
            }
        }
        distinct
    }
}

/// Parses a server's address, with its scope if it is link-local:
/// `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    let Some((ip, scope)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, DNS_PORT).into());
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let scope = scope.parse().ok().or_else(|| interface(scope))?;
    Some(SocketAddrV6::new(ip, DNS_PORT, 0, scope).into())
}

/// Returns the index of a network interface.
fn interface(name: &str) -> Option<u32> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    rustix::net::netdevice::name_to_index(socket, name).ok()
}

/// Reads a file, replacing what is not UTF-8; returns nothing if it is
/// unreadable.
fn read(path: &str) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| {
        let told = error.kind() != io::ErrorKind::NotFound;
        match told {
            true => tracing::warn!(%error, "{path} cannot be read"),
            false => tracing::debug!(%error, "there is no {path}"),
        }
        Vec::new()
    });
    let text = String::from_utf8_lossy(&bytes);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}

/// Returns the number of each line, and its words without the comment.
fn lines<'a>(text: &'a str, comment: &[char]) -> impl Iterator<Item = (usize, Vec<&'a str>)> {
    let numbered = (1..).zip(text.lines());
    numbered.map(move |(number, line)| {
        let text = line.split(comment).next().unwrap_or_default();
        (number, text.split_whitespace().collect())
    })
}

/// The ignored entries of a file.
struct Ignored {
    path: &'static str,
    entries: Vec<String>,
    count: usize,
}

impl Ignored {
    fn of(path: &'static str) -> Self {
        Self {
            path,
            entries: Vec::new(),
            count: 0,
        }
    }

    fn add(&mut self, line: usize, entry: &str, why: &str) {
        self.count += 1;
        if self.entries.len() < TOLD {
            // Quoted, as it may contain anything.
            self.entries
                .push(format!("line {line}: {entry:?} is {why}"));
        }
    }

    fn tell(&self) {
        let more = match self.count - self.entries.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        if self.count > 0 {
            let entries = self.entries.join("; ");
            tracing::warn!(
                "{} has entries that are ignored: {entries}{more}",
                self.path
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> (Hosts, Vec<String>) {
        let mut ignored = Ignored::of(HOSTS);
        let hosts = Hosts::parse(text, &mut ignored);
        (hosts, ignored.entries)
    }

    fn conf(text: &str) -> (Conf, Vec<String>) {
        let mut ignored = Ignored::of(RESOLV_CONF);
        let conf = Conf::parse(text, "machine.site.example", &mut ignored);
        (conf, ignored.entries)
    }

    fn addresses(all: &[&str]) -> Vec<IpAddr> {
        all.iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn the_hosts_file_knows_both_families() {
        let (hosts, ignored) = hosts(
            "10.0.0.1 Db.example db # the first\n::7 db\n10.0.0.2\tdb\r\n10.0.0.2 db\n\n# end",
        );
        assert_eq!(
            hosts.addresses("db"),
            addresses(&["10.0.0.1", "::7", "10.0.0.2"])
        );
        assert_eq!(hosts.addresses("db.example"), addresses(&["10.0.0.1"]));
        assert_eq!(hosts.addresses("example"), addresses(&[]));
        assert_eq!(ignored, [""; 0]);
    }

    #[test]
    fn a_bad_entry_of_the_hosts_file_is_lost_alone() {
        let (hosts, ignored) = hosts(
            "10.0.0.1 a \u{fffd} b\n10.0.0 c\nfe80::1%eth0 d\n10.0.0.2 e*\u{7} b # \u{fffd}\n\
             10.0.0.3 b\u{fc}cher",
        );
        assert_eq!(hosts.addresses("a"), addresses(&["10.0.0.1"]));
        assert_eq!(hosts.addresses("b"), addresses(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(hosts.addresses("c"), addresses(&[]));
        assert_eq!(hosts.addresses("xn--bcher-kva"), addresses(&["10.0.0.3"]));
        assert_eq!(
            ignored,
            [
                "line 1: \"\u{fffd}\" is not a host name",
                "line 2: \"10.0.0\" is not an IP address",
                "line 3: \"fe80::1%eth0\" is not an IP address",
                "line 4: \"e*\\u{7}\" is not a host name",
            ]
        );
    }

    #[test]
    fn many_bad_entries_are_told_in_one_line() {
        let (hosts, ignored) = hosts(&"x y\n".repeat(1000));
        assert!(hosts.0.is_empty());
        assert_eq!(ignored.len(), TOLD);
    }

    #[test]
    fn resolv_conf_says_how_servers_are_asked() {
        let (conf, ignored) = conf(
            "# of the network\nnameserver 10.0.0.53 ; near\n nameserver ::1\nnameserver fe80::1%1\n\
             domain one.example\nsearch Two.example three.example.\n\
             options ndots:3 timeout:2 attempts:4 rotate edns0 use-vc no-aaaa trust-ad\n",
        );
        let scoped = SocketAddrV6::new("fe80::1".parse().expect("an address"), 53, 0, 1);
        let expected = Conf {
            servers: vec![
                ([10, 0, 0, 53], 53).into(),
                (Ipv6Addr::LOCALHOST, 53).into(),
                scoped.into(),
            ],
            search: vec!["two.example".into(), "three.example".into()],
            dots: 3,
            timeout: Duration::from_secs(2),
            attempts: 4,
            switches: vec![Switch::Rotate, Switch::Edns, Switch::Tcp, Switch::NoIpv6],
        };
        assert_eq!(conf, expected);
        assert_eq!(ignored, [""; 0]);
    }

    #[test]
    fn a_bad_entry_of_resolv_conf_is_lost_alone() {
        let (conf, ignored) = conf(
            "nameserver 10.0.0\nnameserver\nnameserver 10.0.0.53 \u{fffd}\n\
             search a..example, \u{fffd}.example my_team.example . -x\n\
             options ndots:x timeout:0 attempts:99 retrans:1 ndots:2 ndots:\n\
             search_ x\nsortlist 10.0.0.0\n",
        );
        assert_eq!(conf.servers, [([10, 0, 0, 53], 53).into()]);
        assert_eq!(conf.search, ["my_team.example", ""]);
        assert_eq!(
            (conf.dots, conf.timeout, conf.attempts),
            (2, Duration::from_secs(1), MOST_ATTEMPTS)
        );
        assert_eq!(
            ignored,
            [
                "line 1: \"10.0.0\" is not an IP address",
                "line 2: \"nameserver\" is not an IP address",
                "line 4: \"a..example,\" is not a domain",
                "line 4: \"\u{fffd}.example\" is not a domain",
                "line 4: \"-x\" is not a domain",
            ]
        );
    }

    #[test]
    fn an_empty_resolv_conf_means_this_machine() {
        let (conf, _) = conf("");
        assert_eq!(conf.servers, [([127, 0, 0, 1], 53).into()]);
        assert_eq!(conf.search, ["site.example"]);
    }

    #[test]
    fn the_search_list_is_used_as_resolv_conf_says() {
        let candidates = |dots: usize, name: &str, ends: bool| {
            let text = format!("search a.example . b.example\noptions ndots:{dots}\n");
            conf(&text).0.candidates(name, ends)
        };
        assert_eq!(
            candidates(1, "host", false),
            ["host.a.example", "host", "host.b.example"]
        );
        assert_eq!(
            candidates(1, "x.host", false),
            ["x.host", "x.host.a.example", "x.host.b.example"]
        );
        assert_eq!(
            candidates(0, "host", false),
            ["host", "host.a.example", "host.b.example"]
        );
        assert_eq!(candidates(5, "x.host", true), ["x.host"]);
        let long = ["a".repeat(62).as_str(); 4].join(".");
        assert_eq!(candidates(1, &long, false), [long]);
    }
}
