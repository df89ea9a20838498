//! A denial, and its text.

use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::name::valid_name;

/// A denied operation, and the flag that would allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    what: String,
    /// Flag and argument; `None` if no argument could express it.
    pub(super) remedy: Option<(&'static str, String)>,
    /// Effect of that flag.
    effect: &'static str,
}

const ALLOWS_IT: &str = "would allow it";

impl Denied {
    /// Denies a use of a target.
    pub(super) fn target(way: Way, target: &Target<'_>) -> Self {
        let pattern = match target {
            Target::Name(host, _) if !valid_name(host) => None,
            // A path that is not text cannot be written as a pattern.
            Target::Unix(path) => path.to_str().map(|_| target.to_string()),
            _ => Some(target.to_string()),
        };
        Self {
            what: format!("{} {target} is not allowed", way.verb()),
            remedy: pattern.map(|pattern| (way.flag(), pattern)),
            effect: ALLOWS_IT,
        }
    }

    /// Denies an allowed name because of the address that it resolves to.
    pub(super) fn not_public(way: Way, host: &str, address: SocketAddr) -> Self {
        let (verb, target) = (way.verb(), Target::name(host, address.port()));
        let ip = address.ip();
        Self {
            what: format!("{verb} {target} is not allowed at {ip}, which is not a public address"),
            remedy: Some((way.flag(), Target::Address(address).to_string())),
            effect: ALLOWS_IT,
        }
    }

    /// Denies opening a container of objects that has no name on the command
    /// line.
    #[must_use]
    pub fn container(name: &str) -> Self {
        Self::unnamed("opening the container", name, "--blobstore", "NAME=DIR")
    }

    /// Denies writing to a container that may only be read.
    #[must_use]
    pub fn writing(name: &str) -> Self {
        let form = "NAME=DIR:rw";
        Self::unnamed("writing to the container", name, "--blobstore", form)
    }

    /// Denies a guest the choice of authorities that have no name on the command
    /// line.
    #[must_use]
    pub fn authority(name: &str) -> Self {
        Self::unnamed(
            "trusting the authority",
            name,
            "--tls-authority",
            "NAME=FILE",
        )
    }

    /// Denies forwarding to a group that has no name on the command line.
    #[must_use]
    pub fn upstream(name: &str) -> Self {
        Self::unnamed("forwarding to", name, "--upstream", "NAME=HOST:PORT")
    }

    /// Denies opening a bucket that has no name on the command line.
    #[must_use]
    pub fn bucket(name: &str) -> Self {
        Self::unnamed("opening the bucket", name, "--keyvalue", "NAME=memory:")
    }

    /// Denies a guest the choice of a certificate that has no name on the command
    /// line.
    #[must_use]
    pub fn identity(name: &str) -> Self {
        Self::unnamed(
            "presenting the certificate",
            name,
            "--tls-identity",
            "NAME=CERT,KEY",
        )
    }

    fn unnamed(verb: &str, name: &str, flag: &'static str, form: &str) -> Self {
        Self {
            what: format!("{verb} '{}' is not allowed", printable(name)),
            remedy: Some((flag, form.replace("NAME", &printable(name)))),
            effect: ALLOWS_IT,
        }
    }

    /// Denies resolving a name. Clients mostly resolve a name to connect, which
    /// `--allow-resolve` does not allow, so the text first names
    /// `--allow-connect`.
    pub(super) fn name(host: &str) -> Self {
        let to_connect = match valid_name(host) {
            true => format!("; --allow-connect {host}:PORT allows that and connecting"),
            false => String::new(),
        };
        Self {
            what: format!("looking {} up is not allowed{to_connect}", printable(host)),
            remedy: valid_name(host).then(|| ("--allow-resolve", host.to_owned())),
            effect: "allows the look-up alone",
        }
    }
}

impl Display for Denied {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.remedy {
            Some((flag, pattern)) => write!(f, "; {flag} {pattern} {}", self.effect),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Denied {}

/// Use of an address by a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Connect,
    Send,
    Listen,
}

impl Way {
    fn verb(self) -> &'static str {
        match self {
            Self::Connect => "connecting to",
            Self::Send => "sending datagrams to",
            Self::Listen => "listening on",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Connect => "--allow-connect",
            Self::Send => "--allow-udp",
            Self::Listen => "--allow-listen",
        }
    }
}

/// Target of a rule, in the form of a pattern.
pub(super) enum Target<'a> {
    Name(&'a str, u16),
    Address(SocketAddr),
    Unix(&'a Path),
}

impl<'a> Target<'a> {
    pub(super) fn name(host: &'a str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => Self::Address(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host, port),
        }
    }
}

impl Display for Target<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(host, port) => write!(f, "{}:{port}", printable(host)),
            // Formatted without its scope, such as %2, which is no part of a
            // pattern.
            Self::Address(address) => SocketAddr::new(address.ip(), address.port()).fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", printable(&path.to_string_lossy())),
        }
    }
}

/// Escapes a guest's text for the log: one line of limited length.
fn printable(text: &str) -> String {
    text.chars()
        .take(253)
        .flat_map(char::escape_debug)
        .collect()
}
