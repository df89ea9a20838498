//! Settings of a run, checked once and then passed down in parts.
//!
//! Everything here is valid by construction: addresses are parsed, limits are
//! not zero, and options that need each other are both present. Nothing here
//! opens a file or a socket.

mod access_log;
mod blobstore;
mod clients;
mod error;
mod keyvalue;
mod limits;
mod log_template;
mod otlp;
mod proxy;
mod route;
mod tls;
mod upstream;
mod websocket;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::identity::{Identity, IdentityError};
use crate::policy::Policy;
use crate::unix::{UnixRights, abstract_name};

pub use self::access_log::{AccessLogConfig, AccessLogFormat, AccessLogTarget};
pub use self::blobstore::{BlobContainer, BlobContainerError};
pub use self::clients::{ClientRules, Network, NetworkError};
pub use self::error::ConfigError;
pub use self::keyvalue::{KeyvalueBucket, KeyvalueError, KeyvalueStore, RedisUrl};
use self::limits::check_time;
pub use self::limits::{HttpLimits, Limits, NEVER, TcpOptions};
pub use self::log_template::{LogPart, LogTemplate, LogTemplateError, LogVariable};
pub use self::otlp::{OtlpConfig, OtlpHeader};
pub use self::proxy::{Proxy, ProxyError, ProxyProtocol};
pub use self::route::{HostPattern, Route, RouteError, plain_host, plain_path};
pub use self::tls::{
    CIPHER_SUITES, CipherSuite, CipherSuiteError, CipherSuites, TlsVersion, TlsVersionError,
};
pub use self::upstream::{
    Balance, Check, CheckKind, GroupSettings, HttpVersion, Statuses, Sticky, UpstreamAddress,
    UpstreamError, UpstreamGroup, UpstreamServer, UpstreamTls,
};
pub use self::websocket::{
    MessageCompression, Origin, SlowClient, WebSocketError, WebSocketLimits,
};
pub use crate::listen::{AddressError, ListenAddress, ListenerConfig, ListenerKind};

/// Default port of DNS servers: RFC 1035, section 4.2.
pub const DNS_PORT: u16 = 53;

/// The settings of a run: its services, and what they share.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The services; never empty.
    pub services: Vec<Config>,
    /// Number of threads that serve connections, of all services.
    pub workers: NonZeroUsize,
    /// Address of the admin interface; `None` if there is none.
    pub admin: Option<ListenAddress>,
    /// User that it goes on as once it listens; `None` if it stays what it is.
    pub user: Option<String>,
    /// Group that it goes on as, in place of the user's own.
    pub group: Option<String>,
    /// Receiver of traces; `None` if there is none.
    pub otlp: Option<OtlpConfig>,
    /// True if it takes the listening sockets of the run at `admin`.
    pub takeover: bool,
    /// True if it is reloaded whenever its files change.
    pub watch: bool,
    /// Files of secrets that its settings name.
    pub secrets: Vec<PathBuf>,
    /// The configuration file; `None` if the settings are of a command line.
    pub file: Option<PathBuf>,
    /// The settings as a configuration file, without variables' values.
    pub shown: String,
}

impl RunConfig {
    /// Joins services. They have the number of workers in common.
    #[must_use]
    pub fn of(services: Vec<Config>) -> Self {
        let workers = services.first().map(|service| service.workers);
        Self {
            services,
            workers: workers.unwrap_or(NonZeroUsize::MIN),
            admin: None,
            user: None,
            group: None,
            otlp: None,
            takeover: false,
            watch: false,
            secrets: Vec::new(),
            file: None,
            shown: String::new(),
        }
    }

    /// Returns the identity that it goes on with, if it is another one.
    ///
    /// # Errors
    /// Fails if the user or the group is unknown.
    pub fn identity(&self) -> Result<Option<Identity>, IdentityError> {
        let user = self.user.as_deref();
        let identity = user.map(|user| Identity::of(user, self.group.as_deref()));
        identity.transpose()
    }

    /// Checks that the services go together, and notes which listeners they
    /// share: the first service of a listener opens it for the others.
    ///
    /// # Errors
    /// Fails with the first fault, and the number of the service that has it.
    pub fn join(&mut self) -> Result<(), (usize, ConfigError)> {
        self.join_after(&[])
    }

    /// Joins the services anew, with those of these names before all others.
    ///
    /// # Errors
    /// Fails as [`Self::join`] does.
    pub fn join_after(&mut self, first: &[&str]) -> Result<(), (usize, ConfigError)> {
        for service in &mut self.services {
            service.hosted.clear();
            service.tls.shared.clear();
            let own = service.listeners.iter().enumerate();
            let own = own.filter(|(_, listener)| listener.kind.is_http());
            // Any may be shared after a reload.
            let sites = own.map(|(listener, its)| SharedListener {
                listener,
                redirects: its.kind == ListenerKind::Redirect,
                others: Vec::new(),
            });
            service.sites = sites.collect();
        }
        let mut taken: HashMap<_, (usize, usize)> = HashMap::new();
        let rank = |number: &usize| {
            let service = self.services.get(*number);
            let known = service.and_then(|service| {
                let name = &*service.guest.name;
                first.iter().position(|its| *its == name)
            });
            known.unwrap_or(first.len())
        };
        let mut order: Vec<_> = (0..self.services.len()).collect();
        order.sort_by_key(rank);
        for number in order {
            let listeners = match self.services.get(number) {
                Some(service) => service.listeners.clone(),
                None => continue,
            };
            for (place, listener) in listeners.iter().enumerate() {
                let datagrams = listener.kind == ListenerKind::Udp;
                let mut host = None;
                for address in listener.address.places() {
                    let before = *taken.entry((datagrams, address)).or_insert((number, place));
                    if before.0 != number {
                        host = Some(before);
                    }
                }
                let joined = match host {
                    Some(host) => self.share(host, (number, place), listener),
                    None => Ok(()),
                };
                joined.map_err(|error| (number, error))?;
            }
        }
        let certificates = self.services.iter().map(|service| {
            let its = service.tls.certificates.clone();
            (service.guest.name.clone(), its)
        });
        let certificates: HashMap<_, _> = certificates.collect();
        for service in &mut self.services {
            let hosted = &service.hosted;
            service
                .sites
                .retain(|site| !hosted.contains(&site.listener));
            let own = &service.tls.certificates;
            let of_others = service.sites.iter().map(|site| {
                let its = site.others.iter();
                let its = its.filter_map(|other| certificates.get(&other.name));
                let mut shared = Vec::new();
                for certificate in its.flatten() {
                    if !own.contains(certificate) && !shared.contains(certificate) {
                        shared.push(certificate.clone());
                    }
                }
                shared
            });
            let of_others: Vec<_> = of_others.collect();
            if of_others.iter().any(|its| !its.is_empty()) {
                service.tls.shared = of_others;
            }
        }
        Ok(())
    }

    /// Lets a service answer on the listener of another one.
    fn share(
        &mut self,
        host: (usize, usize),
        guest: (usize, usize),
        listener: &ListenerConfig,
    ) -> Result<(), ConfigError> {
        let (Some(owner), Some(member)) = (self.services.get(host.0), self.services.get(guest.0))
        else {
            return Ok(());
        };
        let other = owner.guest.name.clone();
        let opened = owner.listeners.get(host.1);
        // Some of the requests of a plain one may be redirected.
        let same = opened.is_some_and(|opened| {
            let secure = listener.kind.is_encrypted();
            opened.address == listener.address
                && opened.kind.is_http()
                && opened.kind.is_encrypted() == secure
        });
        if !same || !listener.kind.is_http() {
            let listener = listener.clone();
            return Err(ConfigError::OtherServices { listener, other });
        }
        if let Some(what) = differing(owner, member, listener) {
            return Err(ConfigError::SharedListenerDiffers { what, other });
        }
        let (name, routes) = (member.guest.name.clone(), member.routes.clone());
        let own = |routes: &[Route]| match routes {
            [] => vec![Route::all()],
            some => some.to_vec(),
        };
        let others = owner.sites.iter().filter(|it| it.listener == host.1);
        let others = others.flat_map(|it| &it.others);
        let all = others.map(|other| (&other.name, own(&other.routes)));
        for (other, taken) in all.chain([(&other, own(&owner.routes))]) {
            if let Some(route) = own(&routes).into_iter().find(|it| taken.contains(it)) {
                let other = other.clone();
                return Err(ConfigError::RouteTwice { route, other });
            }
        }
        if let Some(member) = self.services.get_mut(guest.0) {
            member.hosted.push(guest.1);
        }
        let Some(owner) = self.services.get_mut(host.0) else {
            return Ok(());
        };
        let site = owner.sites.iter_mut().find(|it| it.listener == host.1);
        if let Some(site) = site {
            site.others.push(SharingService {
                name,
                routes,
                redirects: listener.kind == ListenerKind::Redirect,
            });
        }
        Ok(())
    }
}

/// Returns the flag of a setting of connections in which two services differ
/// that share a listener. A connection is served before it is known for which
/// of them its requests are.
fn differing(one: &Config, other: &Config, listener: &ListenerConfig) -> Option<&'static str> {
    let its = &other.limits;
    let secure = listener.kind.is_encrypted();
    let is_unix = matches!(listener.address, ListenAddress::Unix(_));
    // All of them, so that a new limit is thought of.
    let Limits {
        max_connections,
        connections_given,
        // Of guests, each of which has its own.
        max_outgoing: _,
        max_memory: _,
        event_timeout: _,
        max_handles: _,
        background_timeout: _,
        max_background: _,
        max_metrics: _,
        max_shared: _,
        max_keyvalue: _,
        max_component_size: _,
        compile_timeout: _,
        backlog,
        idle_timeout,
        half_close_timeout,
        tcp,
        handshake_timeout,
        write_timeout,
        write_high,
        write_low,
        max_write_buffer,
        shutdown_timeout,
        http,
    } = &one.limits;
    let HttpLimits {
        max_head,
        max_request_line,
        max_headers,
        max_body,
        head_timeout,
        body_timeout,
        keep_alive_timeout,
        response_timeout,
        response_body_timeout,
        max_unread,
        send_informational,
        // Of guests.
        max_response_headers: _,
        max_instance_reuse: _,
        max_instance_concurrency: _,
        max_connection_instances: _,
        // Each service has its own.
        websocket: _,
    } = http;
    let theirs = &its.http;
    let settings = [
        (
            "--max-connections",
            // Defaults follow from what each may do.
            *max_connections == its.max_connections
                || !(*connections_given || its.connections_given),
        ),
        ("--backlog", *backlog == its.backlog),
        ("--idle-timeout", *idle_timeout == its.idle_timeout),
        (
            "--half-close-timeout",
            *half_close_timeout == its.half_close_timeout,
        ),
        ("--tcp-keepalive", tcp.keepalive == its.tcp.keepalive),
        (
            "--tcp-user-timeout",
            tcp.user_timeout == its.tcp.user_timeout,
        ),
        (
            "--tcp-receive-buffer",
            tcp.receive_buffer == its.tcp.receive_buffer,
        ),
        ("--tcp-send-buffer", tcp.send_buffer == its.tcp.send_buffer),
        ("--write-timeout", *write_timeout == its.write_timeout),
        ("--write-high", *write_high == its.write_high),
        ("--write-low", *write_low == its.write_low),
        (
            "--max-write-buffer",
            *max_write_buffer == its.max_write_buffer,
        ),
        (
            "--shutdown-timeout",
            *shutdown_timeout == its.shutdown_timeout,
        ),
        ("--max-body", *max_body == theirs.max_body),
        ("--max-head", *max_head == theirs.max_head),
        (
            "--max-request-line",
            *max_request_line == theirs.max_request_line,
        ),
        ("--max-headers", *max_headers == theirs.max_headers),
        ("--max-unread", *max_unread == theirs.max_unread),
        ("--head-timeout", *head_timeout == theirs.head_timeout),
        ("--body-timeout", *body_timeout == theirs.body_timeout),
        (
            "--keep-alive-timeout",
            *keep_alive_timeout == theirs.keep_alive_timeout,
        ),
        (
            "--response-timeout",
            *response_timeout == theirs.response_timeout,
        ),
        (
            "--response-body-timeout",
            *response_body_timeout == theirs.response_body_timeout,
        ),
        (
            "--send-informational",
            *send_informational == theirs.send_informational,
        ),
        ("--unix-mode", !is_unix || one.unix.mode == other.unix.mode),
        (
            "--unix-owner",
            !is_unix || one.unix.owner == other.unix.owner,
        ),
        (
            "--unix-group",
            !is_unix || one.unix.group == other.unix.group,
        ),
        ("--proxy-protocol-from", one.proxies == other.proxies),
        ("--allow-from", one.clients.allow == other.clients.allow),
        ("--deny-from", one.clients.deny == other.clients.deny),
        (
            "--max-client-connections",
            one.clients.connections == other.clients.connections,
        ),
        ("--max-client-rate", one.clients.rate == other.clients.rate),
        (
            "--max-client-requests",
            one.clients.requests == other.clients.requests,
        ),
        (
            "--handshake-timeout",
            !secure || *handshake_timeout == its.handshake_timeout,
        ),
        (
            "--client-ca",
            !secure || one.tls.client_ca == other.tls.client_ca,
        ),
        ("--alpn", !secure || one.tls.alpn == other.tls.alpn),
        (
            "--tls-min-version",
            !secure || one.tls.min_version == other.tls.min_version,
        ),
        (
            "--tls-ciphers",
            !secure || one.tls.ciphers == other.tls.ciphers,
        ),
    ];
    let wrong = settings.iter().find(|(_, agrees)| !agrees);
    wrong.map(|(flag, _)| *flag)
}

/// The settings of a service: a component, its listeners, its limits and what it
/// may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The component to run.
    pub component: ComponentSource,
    /// Components to compose with it: files, or directories of projects. The
    /// first is outermost.
    pub plugs: Vec<PathBuf>,
    /// Containers of `wasi:blobstore` that the guest may open.
    pub blobstore: Vec<BlobContainer>,
    /// True if files made by `netwasm compile` may be loaded. They are native
    /// code: loading one takes as much trust as running a program.
    pub trust_compiled: bool,
    /// True if compiled code is cached between runs; otherwise each run
    /// compiles anew.
    pub cache: bool,
    /// Listeners to open.
    pub listeners: Vec<ListenerConfig>,
    /// Port of HTTPS that clients are redirected to; `None` is that of an
    /// `--https` listener.
    pub redirect_port: Option<u16>,
    /// Rights of the files of its Unix sockets.
    pub unix: UnixRights,
    /// Requests that it answers, of those of its HTTP listeners; all if there
    /// are none.
    pub routes: Vec<Route>,
    /// Listeners of HTTP that it opens, in the order of `listeners`, each with the
    /// services that share it.
    pub sites: Vec<SharedListener>,
    /// Numbers of listeners that it shares and another service opens.
    pub hosted: Vec<usize>,
    /// Proxies whose connections begin with a PROXY header.
    pub proxies: Vec<Proxy>,
    /// Clients that may connect, and limits of each.
    pub clients: ClientRules,
    /// Certificates and other files of TLS.
    pub tls: TlsFiles,
    /// Sharing of instances; `None` leaves it to the kind of component.
    pub isolation: Option<Isolation>,
    /// Number of threads that serve connections.
    pub workers: NonZeroUsize,
    /// Limits and deadlines.
    pub limits: Limits,
    /// Name, arguments, environment and directories of the guest.
    pub guest: GuestConfig,
    /// Destinations, names and listeners that the guest is allowed.
    pub policy: Policy,
    /// Buckets of keys and values that the guest may open.
    pub keyvalue: Vec<KeyvalueBucket>,
    /// Groups of servers that the guest may forward to.
    pub upstreams: Vec<UpstreamGroup>,
    /// Destination of the access log, with a line for each HTTP request.
    pub access_log: Option<AccessLogConfig>,
    /// Settings of name resolution.
    pub dns: DnsConfig,
}

impl Config {
    /// True if the guest may connect somewhere, or have requests forwarded.
    #[must_use]
    pub fn connects(&self) -> bool {
        !self.policy.connect.is_empty() || !self.upstreams.is_empty()
    }

    /// Checks that the parts go together.
    ///
    /// # Errors
    /// Fails with the first thing that is wrong, and the flags to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut taken = HashSet::new();
        for listener in &self.listeners {
            if listener.kind == ListenerKind::Udp
                && let ListenAddress::Unix(path) = &listener.address
            {
                return Err(ConfigError::UdpOverUnix(path.clone()));
            }
            if let ListenAddress::Unix(path) = &listener.address
                && abstract_name(path).is_some()
                && self.unix != UnixRights::default()
            {
                return Err(ConfigError::NoRights(path.clone()));
            }
            let datagrams = listener.kind == ListenerKind::Udp;
            // The kernel would share the connections among both listeners.
            if listener
                .address
                .places()
                .into_iter()
                .any(|place| !taken.insert((datagrams, place)))
            {
                return Err(ConfigError::Twice(listener.address.clone()));
            }
        }
        let mut containers = HashSet::new();
        if let Some(twice) = self
            .blobstore
            .iter()
            .find(|it| !containers.insert(&it.name))
        {
            return Err(ConfigError::ContainerTwice(twice.shown().to_owned()));
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
        if !self.routes.is_empty() && !self.listeners.iter().any(speaks_http) {
            return Err(ConfigError::NothingToRoute);
        }
        if let Some(long) = self
            .tls
            .alpn
            .iter()
            .find(|name| !(1..=255).contains(&name.len()))
        {
            return Err(ConfigError::Alpn(long.len()));
        }
        let ciphers = &self.tls.ciphers;
        let min_version = self.tls.min_version;
        if !ciphers.is_empty() && ciphers.iter().all(|it| it.version() < min_version) {
            return Err(ConfigError::CiphersOff);
        }
        let mut guest_paths = HashSet::new();
        if let Some(twice) = self
            .guest
            .dirs
            .iter()
            .find(|directory| !guest_paths.insert(plain(&directory.guest)))
        {
            return Err(ConfigError::DirectoryTwice(twice.guest.clone()));
        }
        let mut buckets = HashSet::new();
        if let Some(twice) = self.keyvalue.iter().find(|it| !buckets.insert(&*it.name)) {
            return Err(ConfigError::BucketTwice(twice.name.clone()));
        }
        let mut groups = HashSet::new();
        if let Some(twice) = self.upstreams.iter().find(|it| !groups.insert(&*it.name)) {
            return Err(ConfigError::UpstreamTwice(twice.name.clone()));
        }
        check_time("--dns-timeout", Some(self.dns.timeout))?;
        self.limits.check()
    }
}

/// Checks an address of the admin interface.
///
/// # Errors
/// Fails if others than this machine could reach it.
pub fn check_admin(address: &ListenAddress) -> Result<(), ConfigError> {
    match address {
        ListenAddress::Socket(socket) if socket.ip().is_loopback() => Ok(()),
        ListenAddress::Localhost(_) | ListenAddress::Unix(_) => Ok(()),
        other => Err(ConfigError::AdminInPublic(other.clone())),
    }
}

/// A listener of HTTP whose requests go to services by their host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedListener {
    /// Number of the listener in the settings of the service that opens it.
    pub listener: usize,
    /// True if the service that opens it redirects its requests to HTTPS.
    pub redirects: bool,
    /// The other services.
    pub others: Vec<SharingService>,
}

/// A service on the listener of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharingService {
    /// Name.
    pub name: String,
    /// Its routes there.
    pub routes: Vec<Route>,
    /// True if its requests are redirected to HTTPS.
    pub redirects: bool,
}

/// Returns the parts of a guest path without those that say nothing, so that
/// `/data`, `data/` and `./data` are one.
fn plain(path: &str) -> Vec<&str> {
    let says = |part: &&str| !matches!(*part, "" | ".");
    path.split('/').filter(says).collect()
}

/// Source of a component's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentSource {
    /// A file: a component in binary or text form, or compiled code.
    File(PathBuf),
    /// A component built into the program.
    BuiltIn {
        /// Name, such as `echo`.
        name: &'static str,
        /// Bytes of the component.
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

/// The files that the flags of TLS name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificates; the first one is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates of other services, for each listener of HTTP that the service
    /// opens; none if no listener needs any.
    pub shared: Vec<Vec<CertificateFiles>>,
    /// Authorities of which one must have signed a client's certificate.
    pub client_ca: Option<PathBuf>,
    /// ALPN protocols of `--tls`, the best first.
    pub alpn: Vec<Vec<u8>>,
    /// Lowest version that listeners speak.
    pub min_version: TlsVersion,
    /// Cipher suites that listeners accept, the best first. A version that none
    /// of them is of has all of its own.
    pub ciphers: Vec<CipherSuite>,
    /// Trust roots of outgoing connections besides the system's.
    pub extra_roots: Vec<PathBuf>,
    /// True if outgoing connections accept any certificate. Whoever answers can
    /// then read and change everything that is sent.
    pub insecure: bool,
    /// Authorities that guests may choose for a connection, by name.
    pub authorities: Vec<(String, PathBuf)>,
    /// Certificates that guests may choose to present to a server, by name.
    pub identities: Vec<(String, CertificateFiles)>,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Sharing of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Every HTTP request has its own instance.
    Request,
    /// Every connection has its own instance.
    Connection,
    /// All connections of a worker share an instance.
    Worker,
}

/// Settings of name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers in the order of asking; empty for the system's.
    pub servers: Vec<DnsServer>,
    /// Time limit of a whole look-up.
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

/// Reason why a text is no `--dns-server`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsServerError {
    /// The text is not an address, with or without a port.
    #[error("'{0}' is not an IP address: write one such as 10.0.0.53, 10.0.0.53:5353 or [::1]:53")]
    Address(String),
    /// The port is 0.
    #[error("the port must not be zero")]
    Port,
}

/// Name, arguments, environment and directories of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestConfig {
    /// Name in the log.
    pub name: String,
    /// First argument: the name of the component's file.
    pub program: String,
    /// Arguments that follow `--`.
    pub args: Vec<String>,
    /// Environment variables: `--env`.
    pub env: Vec<(String, String)>,
    /// Configuration that it reads through `wasi:config`: `--config-var`.
    pub config: Vec<(String, String)>,
    /// Preopens: `--dir`.
    pub dirs: Vec<Directory>,
    /// Folder of a program in Python, among the preopens. `None`: the component
    /// is the program itself.
    pub folder: Option<PathBuf>,
}

/// A preopen: a directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Path on the host.
    pub host: PathBuf,
    /// Path in the guest.
    pub guest: String,
    /// True if the guest may write there.
    pub writable: bool,
}

/// Parses `HOST` or `HOST::GUEST`, either with `:ro` or `:rw`. Without `GUEST`
/// the guest sees the directory under its path on the host. Without `:rw` it
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

/// Reason why a text is no `--dir`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The host's path is missing.
    #[error("no directory of the host: write HOST::GUEST, such as ./public::/")]
    NoHost,
    /// The guest's path is missing.
    #[error("no path for the guest: write {0}::/ to have it there as /")]
    NoGuest(String),
    /// A colon is followed by neither `ro` nor `rw`.
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
            // A path that ends like an access right.
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
