//! What a run is to do, checked once and then passed down in parts.
//!
//! Everything here is valid by construction: addresses are parsed, limits are
//! not zero, and what must come together came together. Nothing here opens a
//! file or a socket.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::descriptors;
use crate::policy::Policy;

/// What `sun_path` holds, less its final NUL: unix(7).
const MAX_UNIX_PATH: usize = 107;

/// Where DNS servers listen unless said otherwise: RFC 1035, section 4.2.
const DNS_PORT: u16 = 53;

/// A page of WebAssembly, bytes: less memory is none.
const PAGE: usize = 64 << 10;

/// The end of 32-bit memory, bytes.
const MAX_MEMORY: usize = 4 << 30;

/// The largest head of a request that may be allowed, bytes: it is kept whole,
/// and looked at again when more of it comes.
const MAX_HEAD: usize = 16 << 20;

/// The longest time-out. What is meant to be for ever is `None`, and clocks
/// overflow if they are asked for centuries.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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

/// One `--tcp`, `--tls`, `--udp`, `--http` or `--https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// Where.
    pub address: ListenAddress,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Byte streams, as they are.
    Tcp,
    /// Byte streams in TLS.
    Tls,
    /// Datagrams.
    Udp,
    /// HTTP/1.
    Http,
    /// HTTP/1 in TLS.
    Https,
}

impl ListenerKind {
    /// The flag that asks for it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp",
            Self::Tls => "--tls",
            Self::Udp => "--udp",
            Self::Http => "--http",
            Self::Https => "--https",
        }
    }

    /// Whether connections begin with a TLS handshake.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// Whether the host parses requests there.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A port of localhost: 127.0.0.1 and, where the machine has it, ::1.
    Localhost(u16),
    /// One address.
    Socket(SocketAddr),
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// What it takes that no other listener may take; nothing where the system
    /// picks the port.
    fn places(&self) -> Vec<Self> {
        let localhost = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        match self {
            Self::Localhost(0) => Vec::new(),
            Self::Socket(address) if address.port() == 0 => Vec::new(),
            Self::Localhost(port) => localhost
                .map(|ip: IpAddr| Self::Socket(SocketAddr::new(ip, *port)))
                .into(),
            Self::Socket(_) | Self::Unix(_) => vec![self.clone()],
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => port.fmt(f),
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// From `PORT`, `localhost:PORT`, `IP:PORT`, `[IPV6]:PORT`, or `unix:PATH`.
impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                0 => Err(AddressError::NoPath),
                1..=MAX_UNIX_PATH => Ok(Self::Unix(PathBuf::from(path))),
                length => Err(AddressError::LongPath(length)),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        if let Some((_, rest)) = text.split_once("://") {
            return Err(AddressError::Url(rest.trim_end_matches('/').to_owned()));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'))
            .unwrap_or(text);
        let port = |digits: &str| {
            digits
                .parse()
                .map_err(|_| AddressError::Port(digits.to_owned()))
        };
        match text.rsplit_once(':') {
            None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                port(text).map(Self::Localhost)
            }
            Some((host, digits)) if host.eq_ignore_ascii_case("localhost") => {
                port(digits).map(Self::Localhost)
            }
            Some(("" | "*", digits)) => Err(AddressError::Everywhere(port(digits)?)),
            _ if bare.parse::<Ipv6Addr>().is_ok() => Err(AddressError::Brackets(bare.to_owned())),
            _ if bare.parse::<IpAddr>().is_ok() => Err(AddressError::NoPort(bare.to_owned())),
            Some((host, digits)) => {
                port(digits)?;
                match host.parse::<Ipv6Addr>() {
                    Ok(_) => Err(AddressError::Brackets(host.to_owned())),
                    Err(_) => Err(AddressError::Host(host.to_owned())),
                }
            }
            None if text.starts_with('/') || text.starts_with('.') => {
                Err(AddressError::Path(text.to_owned()))
            }
            None => Err(AddressError::Unknown(text.to_owned())),
        }
    }
}

/// Why a text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is none of the forms.
    #[error("'{0}' is no address: write PORT, IP:PORT, [IPV6]:PORT or unix:PATH")]
    Unknown(String),
    /// The port is no number, or too large.
    #[error("'{0}' is not a port: write a number from 0 to 65535, 0 for one that is free")]
    Port(String),
    /// The port is missing.
    #[error("no port: write {0}:8888")]
    NoPort(String),
    /// The host is a star, or empty.
    #[error("write 0.0.0.0:{0} for all IPv4 addresses of this machine, [::]:{0} for all of IPv6")]
    Everywhere(u16),
    /// An IPv6 address stands without brackets.
    #[error("an IPv6 address needs brackets and a port: [{0}]:8888")]
    Brackets(String),
    /// The host is a name.
    #[error("'{0}' is not an IP address: one listens on an address of this machine, or on PORT")]
    Host(String),
    /// A URL.
    #[error("an address is wanted, not a URL: write {0}")]
    Url(String),
    /// A path without `unix:`.
    #[error("a Unix socket is written unix:{0}")]
    Path(String),
    /// `unix:` is followed by nothing.
    #[error("no path after unix:")]
    NoPath,
    /// The path of a Unix socket is too long.
    #[error("the path of a Unix socket has at most {MAX_UNIX_PATH} bytes, and this has {0}")]
    LongPath(usize),
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

/// Limits and deadlines. None is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, incoming and outgoing; beyond it the backlog waits.
    pub max_connections: usize,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: i32,
    /// Linear memory of an instance, bytes.
    pub max_memory: usize,
    /// How long one event may take in the guest.
    pub event_timeout: Duration,
    /// How long a connection may be without a byte in either direction;
    /// `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a peer may take nothing of what is queued for it.
    pub write_timeout: Duration,
    /// The high watermark of a connection's queue, bytes.
    pub write_high: usize,
    /// The low watermark, bytes.
    pub write_low: usize,
    /// How much may be queued for a connection at all, bytes.
    pub max_write_buffer: usize,
    /// Handles of each kind that an instance may hold at once, besides its
    /// accepted connections: timers, questions, pending connects, files.
    pub max_handles: usize,
    /// How long to wait for connections to end at shutdown.
    pub shutdown_timeout: Duration,
    /// The largest component that is read, bytes.
    pub max_component_size: u64,
    /// How long compiling it may take.
    pub compile_timeout: Duration,
    /// What an HTTP client may send, and how slowly.
    pub http: HttpLimits,
}

/// Limits and deadlines of HTTP requests. None is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The head of a request, bytes.
    pub max_head: usize,
    /// The first line of it, bytes.
    pub max_request_line: usize,
    /// Lines of headers.
    pub max_headers: usize,
    /// The body of a request, bytes.
    pub max_body: usize,
    /// How long a client may take to send a head, from its first byte or, for
    /// a connection's first request, from when the connection was made.
    pub head_timeout: Duration,
    /// How long a client may send nothing of a body.
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long a guest that awaits may take to begin its response, since it
    /// got what came last of the request, and to finish what it does after the
    /// end of it.
    pub response_timeout: Duration,
    /// How many requests an instance answers that awaits, before another one
    /// takes its place.
    pub max_instance_reuse: usize,
    /// How many of them at once.
    pub max_instance_concurrency: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_head: 32 << 10,
            max_request_line: 8 << 10,
            max_headers: 100,
            max_body: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(60),
            max_instance_reuse: 128,
            max_instance_concurrency: 16,
        }
    }
}

impl Limits {
    /// Checks that none is zero, and what they must have in common.
    ///
    /// # Errors
    /// The first one that is wrong, by its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("--max-connections", self.max_connections),
            ("--backlog", usize::try_from(self.backlog).unwrap_or(0)),
            ("--write-high", self.write_high),
            ("--write-low", self.write_low),
            ("--max-write-buffer", self.max_write_buffer),
            ("--max-handles", self.max_handles),
            ("--max-head", self.http.max_head),
            ("--max-request-line", self.http.max_request_line),
            ("--max-headers", self.http.max_headers),
            ("--max-body", self.http.max_body),
            ("--max-instance-reuse-count", self.http.max_instance_reuse),
            (
                "--max-instance-concurrent-reuse-count",
                self.http.max_instance_concurrency,
            ),
            (
                "--max-component-size",
                usize::try_from(self.max_component_size).unwrap_or(usize::MAX),
            ),
        ];
        if let Some((flag, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(flag));
        }
        let times = [
            ("--event-timeout", Some(self.event_timeout)),
            ("--idle-timeout", self.idle_timeout),
            ("--handshake-timeout", Some(self.handshake_timeout)),
            ("--write-timeout", Some(self.write_timeout)),
            ("--shutdown-timeout", Some(self.shutdown_timeout)),
            ("--compile-timeout", Some(self.compile_timeout)),
            ("--head-timeout", Some(self.http.head_timeout)),
            ("--body-timeout", Some(self.http.body_timeout)),
            ("--keep-alive-timeout", Some(self.http.keep_alive_timeout)),
            ("--response-timeout", Some(self.http.response_timeout)),
        ];
        for (flag, time) in times {
            check_time(flag, time)?;
        }
        if !(PAGE..=MAX_MEMORY).contains(&self.max_memory) {
            return Err(ConfigError::Memory(self.max_memory));
        }
        if self.write_low > self.write_high {
            return Err(ConfigError::Watermarks {
                low: self.write_low,
                high: self.write_high,
            });
        }
        if self.write_high > self.max_write_buffer {
            let (high, max) = (self.write_high, self.max_write_buffer);
            return Err(ConfigError::WriteBuffer { high, max });
        }
        if self.http.max_head > MAX_HEAD {
            return Err(ConfigError::Head(self.http.max_head));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: descriptors::MAX_CONNECTIONS,
            backlog: 1024,
            max_memory: 64 << 20,
            event_timeout: Duration::from_millis(100),
            idle_timeout: None,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            write_high: 64 << 10,
            write_low: 16 << 10,
            max_write_buffer: 16 << 20,
            max_handles: 1024,
            shutdown_timeout: Duration::from_secs(30),
            max_component_size: 64 << 20,
            compile_timeout: Duration::from_secs(60),
            http: HttpLimits::default(),
        }
    }
}

fn check_time(flag: &'static str, time: Option<Duration>) -> Result<(), ConfigError> {
    match time {
        Some(Duration::ZERO) => Err(ConfigError::Zero(flag)),
        Some(time) if time > MAX_TIMEOUT => Err(ConfigError::TooLong(flag)),
        _ => Ok(()),
    }
}

/// How names become addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers to ask; none are those of the system.
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
    /// Its name, in the log and as its first argument.
    pub name: String,
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

/// Why a configuration cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to listen on, and the component is no command: that
    /// is known when it was read.
    #[error(
        "nothing to listen on: give --tcp, --tls, --udp, --http or --https with PORT (of \
         localhost), IP:PORT, [IPV6]:PORT or, not for --udp, unix:PATH"
    )]
    NoListener,
    /// An instance for each request, where there are none.
    #[error("--isolation request is for --http and --https: {0} has connections, not requests")]
    NoRequests(&'static str),
    /// The same for a component that is not made for it.
    #[error(
        "--isolation request is for components that export wasi:http/incoming-handler or \
         wasi:http/handler: all others take connection or worker"
    )]
    NotOfRequests,
    /// Datagrams over a Unix socket.
    #[error("--udp cannot use a Unix socket: write --tcp unix:{}", .0.display())]
    UdpOverUnix(PathBuf),
    /// Two listeners have one address.
    #[error("two listeners have the address {0}: give each its own")]
    Twice(ListenAddress),
    /// TLS without a certificate.
    #[error(
        "{} {} needs --cert FILE and --key FILE (for a test: certs/cert.pem and certs/key.pem)",
        .0.kind.flag(), .0.address
    )]
    NoCertificate(ListenerConfig),
    /// An access log where nothing speaks HTTP.
    #[error("--access-log is of HTTP requests, and there is neither --http nor --https")]
    NothingToLog,
    /// A protocol's name has no byte, or more than a length byte can say.
    #[error("--alpn takes a name of 1 to 255 bytes, and this has {0}")]
    Alpn(usize),
    /// Two directories have one path in the guest.
    #[error("two --dir have the path {0} in the guest: give each its own")]
    DirectoryTwice(String),
    /// A limit is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A time is longer than anybody waits.
    #[error("{0} takes at most 365 days")]
    TooLong(&'static str),
    /// More or less memory than there can be.
    #[error("--max-memory takes 64KiB, a page of WebAssembly, to 4GiB, and this is {0} bytes")]
    Memory(usize),
    /// More than a head needs.
    #[error("--max-head takes at most 16MiB, and this is {0} bytes")]
    Head(usize),
    /// The low watermark is above the high one.
    #[error("--write-low ({low} bytes) must not be above --write-high ({high} bytes)")]
    Watermarks {
        /// `--write-low`.
        low: usize,
        /// `--write-high`.
        high: usize,
    },
    /// The high watermark is above what may be queued.
    #[error("--write-high ({high} bytes) must not be above --max-write-buffer ({max} bytes)")]
    WriteBuffer {
        /// `--write-high`.
        high: usize,
        /// `--max-write-buffer`.
        max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_documented() {
        let socket = |text: &str| ListenAddress::Socket(text.parse().expect("an address"));
        for (text, address) in [
            ("8888", ListenAddress::Localhost(8888)),
            ("0", ListenAddress::Localhost(0)),
            ("localhost:80", ListenAddress::Localhost(80)),
            ("LOCALHOST:80", ListenAddress::Localhost(80)),
            ("127.0.0.1:80", socket("127.0.0.1:80")),
            ("0.0.0.0:0", socket("0.0.0.0:0")),
            ("[::1]:80", socket("[::1]:80")),
            ("[::]:80", socket("[::]:80")),
            (
                "unix:/run/a.sock",
                ListenAddress::Unix("/run/a.sock".into()),
            ),
            ("unix:a", ListenAddress::Unix("a".into())),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_to_write() {
        for (text, error) in [
            (
                "",
                "'' is no address: write PORT, IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            (
                "http",
                "'http' is no address: write PORT, IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            (
                "-1",
                "'-1' is no address: write PORT, IP:PORT, [IPV6]:PORT or unix:PATH",
            ),
            (
                "65536",
                "'65536' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            (
                "127.0.0.1:http",
                "'http' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            (
                "localhost:",
                "'' is not a port: write a number from 0 to 65535, 0 for one that is free",
            ),
            ("127.0.0.1", "no port: write 127.0.0.1:8888"),
            (
                "*:80",
                "write 0.0.0.0:80 for all IPv4 addresses of this machine, [::]:80 for all of IPv6",
            ),
            (
                ":80",
                "write 0.0.0.0:80 for all IPv4 addresses of this machine, [::]:80 for all of IPv6",
            ),
            (
                "::1",
                "an IPv6 address needs brackets and a port: [::1]:8888",
            ),
            (
                "[::1]",
                "an IPv6 address needs brackets and a port: [::1]:8888",
            ),
            (
                "fe80::1%x:80",
                "'fe80::1%x' is not an IP address: one listens on an address of \
                this machine, or on PORT",
            ),
            (
                "example.org:80",
                "'example.org' is not an IP address: one listens on an address of \
                this machine, or on PORT",
            ),
            (
                "tcp://127.0.0.1:80/",
                "an address is wanted, not a URL: write 127.0.0.1:80",
            ),
            ("/run/a.sock", "a Unix socket is written unix:/run/a.sock"),
            ("unix:", "no path after unix:"),
        ] {
            match text.parse::<ListenAddress>() {
                Ok(address) => panic!("{text} gave {address:?}"),
                Err(found) => assert_eq!(found.to_string(), error, "{text}"),
            }
        }
        let longest = format!("unix:{}", "a".repeat(107));
        assert!(longest.parse::<ListenAddress>().is_ok());
        assert_eq!(
            format!("{longest}a").parse::<ListenAddress>(),
            Err(AddressError::LongPath(108))
        );
    }

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
