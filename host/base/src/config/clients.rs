//! Clients that may connect, and how much each may ask for.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use ipnet::IpNet;

/// Rules for the clients of a service's listeners. Clients of Unix sockets have
/// none: the file system says who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRules {
    /// Networks whose clients may connect (`--allow-from`); all if there are
    /// none.
    pub allow: Vec<Network>,
    /// Networks whose clients may not (`--deny-from`).
    pub deny: Vec<Network>,
    /// Connections of a client at once (`--max-client-connections`).
    pub connections: Option<NonZeroU32>,
    /// New connections of a client a second (`--max-client-rate`).
    pub rate: Option<NonZeroU32>,
    /// HTTP requests of a client a second (`--max-client-requests`).
    pub requests: Option<NonZeroU32>,
}

impl ClientRules {
    /// True if a client may connect. Of the networks that have its address, the
    /// smallest decides, and of two equal ones the denial. An address of none
    /// may connect unless some are allowed.
    #[must_use]
    pub fn allow(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let smallest = |networks: &[Network]| {
            let with = networks.iter().filter(|network| network.0.contains(&ip));
            with.map(|network| network.0.prefix_len()).max()
        };
        match (smallest(&self.allow), smallest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (Some(allowed), Some(denied)) => allowed > denied,
            (allowed, _) => allowed.is_some(),
        }
    }

    /// True if each client has limits of its own.
    #[must_use]
    pub fn limit(&self) -> bool {
        self.connections.is_some() || self.rate.is_some() || self.requests.is_some()
    }
}

/// A network, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let network = match (bare.parse::<IpNet>(), bare.parse::<IpAddr>()) {
            (Ok(network), _) => network,
            (_, Ok(ip)) => ip.to_canonical().into(),
            _ => return Err(NetworkError::Unknown(text.to_owned())),
        };
        let whole = network.trunc();
        match whole == network {
            true => Ok(Self(network)),
            // Somebody may have meant one address.
            false => Err(NetworkError::Inside(text.to_owned(), network.addr(), whole)),
        }
    }
}

/// Reason why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The text has none of the forms.
    #[error("'{0}' is not a network: write one such as 10.0.0.0/8 or fd00::/8, or an IP address")]
    Unknown(String),
    /// The address is not the first of its network.
    #[error("'{0}' is one address in a network: write {1} for the address, or {2}")]
    Inside(String, IpAddr, IpNet),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_decides() {
        let networks = |all: &[&str]| -> Vec<Network> {
            let all = all.iter().map(|it| it.parse().expect("a network"));
            all.collect()
        };
        let rules = |allow: &[&str], deny: &[&str]| ClientRules {
            allow: networks(allow),
            deny: networks(deny),
            ..ClientRules::default()
        };
        for (allow, deny, ip, allowed) in [
            (&[][..], &[][..], "1.2.3.4", true),
            (&["10.0.0.0/8"], &[], "10.1.2.3", true),
            (&["10.0.0.0/8"], &[], "11.1.2.3", false),
            (&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", true),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.2.3", true),
            (&["10.1.2.3"], &["10.0.0.0/8"], "10.1.2.3", true),
            (&["10.0.0.0/8"], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "10.1.2.3", false),
            (&[], &["10.0.0.0/8"], "fd00::1", true),
            (&["0.0.0.0/0"], &["fd00::/8"], "fd00::1", false),
            (&["::/0"], &[], "fd00::1", true),
        ] {
            let ip = ip.parse().expect("an address");
            assert_eq!(
                rules(allow, deny).allow(ip),
                allowed,
                "{allow:?} {deny:?} {ip}"
            );
        }
    }

    #[test]
    fn a_network_is_written_by_its_first_address() {
        for text in ["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"] {
            let network: Network = text.parse().expect(text);
            assert_eq!(network.to_string(), text);
        }
        for (text, error) in [
            (
                "10.0.0.1/8",
                "'10.0.0.1/8' is one address in a network: write 10.0.0.1 for the address, or 10.0.0.0/8",
            ),
            (
                "*",
                "'*' is not a network: write one such as 10.0.0.0/8 or fd00::/8, or an IP address",
            ),
        ] {
            let found = text.parse::<Network>().expect_err(text);
            assert_eq!(found.to_string(), error);
        }
    }
}
