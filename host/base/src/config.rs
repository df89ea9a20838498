//! What a run is to do, checked once and then passed down in parts.
//!
//! Everything here is valid by construction: addresses are parsed, limits are
//! not zero, and what must come together came together. Nothing here opens a
//! file or a socket.

mod error;
mod limits;

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::policy::Policy;

pub use self::error::ConfigError;
use self::limits::check_time;
pub use self::limits::{HttpLimits, Limits, NEVER};
pub use crate::listen::{AddressError, ListenAddress, ListenerConfig, ListenerKind};

/// Where DNS servers listen unless said otherwise: RFC 1035, section 4.2.
pub const DNS_PORT: u16 = 53;

/// All that a run needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The component to run.
    pub component: ComponentSource,
    /// Whether a file that `netwasm compile` made may be loaded. Such a file is
    /// native code: loading it is as much trust as running a program.
    pub trust_compiled: bool,
    /// Where compiled code is kept between runs; `None` compiles anew each time.
    pub cache: bool,
    /// What to listen on.
    pub listeners: Vec<ListenerConfig>,
    /// Certificates and what else TLS needs.
    pub tls: TlsFiles,
    /// Who shares an instance; `None` leaves it to the kind of component.
    pub isolation: Option<Isolation>,
    /// How many threads serve connections.
    pub workers: NonZeroUsize,
    /// Limits and deadlines.
    pub limits: Limits,
    /// What the guest is given.
    pub guest: GuestConfig,
    /// What the guest may reach.
    pub policy: Policy,
    /// Where a line for each HTTP request goes.
    pub access_log: Option<AccessLogConfig>,
    /// How names become addresses.
    pub dns: DnsConfig,
}

impl Config {
    /// Checks what the parts must have in common.
    ///
    /// # Errors
    /// The first thing that is wrong, with the flags to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut taken = HashSet::new();
        for listener in &self.listeners {
            if listener.kind == ListenerKind::Udp
                && let ListenAddress::Unix(path) = &listener.address
            {
                return Err(ConfigError::UdpOverUnix(path.clone()));
            }
            let datagrams = listener.kind == ListenerKind::Udp;
            // The kernel would share the connections among both.
            if listener
                .address
                .places()
                .into_iter()
                .any(|place| !taken.insert((datagrams, place)))
            {
                return Err(ConfigError::Twice(listener.address.clone()));
            }
        }
        if self.isolation == Some(Isolation::Request)
            && let Some(listener) = self.listeners.iter().find(|it| !it.kind.is_http())
        {
            return Err(ConfigError::NoRequests(listener.kind.flag()));
        }
        let encrypted = self
            .listeners
            .iter()
            .find(|listener| listener.kind.is_encrypted());
        if let Some(listener) = encrypted
            && self.tls.certificates.is_empty()
        {
            return Err(ConfigError::NoCertificate(listener.clone()));
        }
        let speaks_http = |listener: &ListenerConfig| listener.kind.is_http();
        if self.access_log.is_some() && !self.listeners.iter().any(speaks_http) {
            return Err(ConfigError::NothingToLog);
        }
        if let Some(long) = self
            .tls
            .alpn
            .iter()
            .find(|name| !(1..=255).contains(&name.len()))
        {
            return Err(ConfigError::Alpn(long.len()));
        }
        let mut guest_paths = HashSet::new();
        if let Some(twice) = self
            .guest
            .dirs
            .iter()
            .find(|directory| !guest_paths.insert(&directory.guest))
        {
            return Err(ConfigError::DirectoryTwice(twice.guest.clone()));
        }
        check_time("--dns-timeout", Some(self.dns.timeout))?;
        self.limits.check()
    }
}

/// Where a component's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentSource {
    /// A file: a component in binary or text form, or compiled code.
    File(PathBuf),
    /// One that is built into the program, by name.
    BuiltIn {
        /// Its name, such as `echo`.
        name: &'static str,
        /// The component.
        bytes: &'static [u8],
    },
}

impl fmt::Display for ComponentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn { name, .. } => f.write_str(name),
        }
    }
}

/// The files that `--cert`, `--key`, `--client-ca` and `--ca` name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificates; the first one is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Clients must show a certificate that one of these authorities signed.
    pub client_ca: Option<PathBuf>,
    /// Protocols that `--tls` speaks, the best one first.
    pub alpn: Vec<Vec<u8>>,
    /// Authorities that outgoing connections trust besides the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Whether outgoing connections take any certificate: whoever answers can
    /// then read and change all that is sent.
    pub insecure: bool,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where a line for each HTTP request goes, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file that lines are added to; `-` is standard output.
    pub path: PathBuf,
    /// The form of a line.
    pub format: AccessLogFormat,
}

/// The form of a line of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// The combined format of Apache and nginx.
    #[default]
    Combined,
    /// An object a line.
    Json,
}

/// Who shares an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Nobody: every HTTP request has its own.
    Request,
    /// Every connection has its own.
    Connection,
    /// All connections of a worker share one.
    Worker,
}

/// How names become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers to ask, in their order; none are those of the system.
    pub servers: Vec<DnsServer>,
    /// How long a look-up may take as a whole.
    pub timeout: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The argument of one `--dns-server`: `IP` or `IP:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = DnsServerError;

    fn from_str(text: &str) -> Result<Self, DnsServerError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(text);
        let address = match (text.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
            (Ok(address), _) => address,
            (_, Ok(ip)) => SocketAddr::new(ip, DNS_PORT),
            _ => return Err(DnsServerError::Address(text.to_owned())),
        };
        match address.port() {
            0 => Err(DnsServerError::Port),
            _ => Ok(Self(address)),
        }
    }
}

/// Why a text is no `--dns-server`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsServerError {
    /// It is neither an address nor one with a port.
    #[error("'{0}' is not an IP address: write one such as 10.0.0.53, 10.0.0.53:5353 or [::1]:53")]
    Address(String),
    /// Nobody can be asked there.
    #[error("the port must not be zero")]
    Port,
}

/// What a guest is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestConfig {
    /// Its name in the log.
    pub name: String,
    /// What it is told as its first argument: the name of its file.
    pub program: String,
    /// What follows `--`.
    pub args: Vec<String>,
    /// `--env`.
    pub env: Vec<(String, String)>,
    /// `--dir`.
    pub dirs: Vec<Directory>,
}

/// A directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the guest.
    pub guest: String,
    /// Whether the guest may write there.
    pub writable: bool,
}

/// From `HOST`, `HOST::GUEST`, and either with `:ro` or `:rw`. Without `GUEST`
/// the guest sees the directory under its path on the host; without the end it
/// may only read.
impl FromStr for Directory {
    type Err = DirectoryError;

    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let (paths, writable) = match text.rsplit_once(':') {
            Some((paths, "ro")) if !paths.ends_with(':') => (paths, false),
            Some((paths, "rw")) if !paths.ends_with(':') => (paths, true),
            _ => (text, false),
        };
        let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
        if host.is_empty() {
            return Err(DirectoryError::NoHost);
        }
        if guest.is_empty() {
            return Err(DirectoryError::NoGuest(host.to_owned()));
        }
        if paths.contains("::") && guest.contains(':') {
            return Err(DirectoryError::Access(guest.to_owned()));
        }
        Ok(Self {
            host: PathBuf::from(host),
            guest: guest.to_owned(),
            writable,
        })
    }
}

/// Why a text is no `--dir`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The host's path is missing.
    #[error("no directory of the host: write HOST::GUEST, such as ./public::/")]
    NoHost,
    /// The guest's path is missing.
    #[error("no path for the guest: write {0}::/ to have it there as /")]
    NoGuest(String),
    /// A colon that is followed by neither `ro` nor `rw`.
    #[error("'{0}': a path for the guest has no colon, and only :ro or :rw may follow it")]
    Access(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_as_they_are_documented() {
        for (text, host, guest, writable) in [
            (".", ".", ".", false),
            ("./public::/", "./public", "/", false),
            ("./public::/:ro", "./public", "/", false),
            ("./public::/:rw", "./public", "/", true),
            ("/srv/data:rw", "/srv/data", "/srv/data", true),
            ("/srv/a:b", "/srv/a:b", "/srv/a:b", false),
            ("/srv/a:b::/b", "/srv/a:b", "/b", false),
            // One that ends like an access right.
            ("/srv/x:rw:ro", "/srv/x:rw", "/srv/x:rw", false),
        ] {
            let directory = Directory {
                host: host.into(),
                guest: guest.into(),
                writable,
            };
            assert_eq!(text.parse(), Ok(directory), "{text}");
        }
        for (text, error) in [
            ("", DirectoryError::NoHost),
            ("::/data", DirectoryError::NoHost),
            ("data::", DirectoryError::NoGuest("data".into())),
            ("data::/x:wr", DirectoryError::Access("/x:wr".into())),
            ("a::b::c", DirectoryError::Access("b::c".into())),
        ] {
            assert_eq!(text.parse::<Directory>(), Err(error), "{text}");
        }
    }

    #[test]
    fn dns_servers_are_addresses_with_or_without_a_port() {
        for (text, address) in [
            ("10.0.0.53", "10.0.0.53:53"),
            ("10.0.0.53:5353", "10.0.0.53:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(text.parse(), Ok(DnsServer(address)), "{text}");
        }
        for text in [
            "",
            "dns.example",
            "10.0.0.53:",
            "10.0.0.53:0",
            "10.0.0.53:x",
            "[10.0.0.53",
        ] {
            assert!(text.parse::<DnsServer>().is_err(), "{text}");
        }
    }
}
