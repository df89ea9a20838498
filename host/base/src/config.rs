//! Settings of a run, checked once and then passed down in parts.
//!
//! Everything here is valid by construction: addresses are parsed, limits are
//! not zero, and options that need each other are both present. Nothing here
//! opens a file or a socket.

mod access_log;
mod blobstore;
mod clients;
mod dns;
mod error;
mod guest;
mod keyvalue;
mod limits;
mod log_template;
mod otlp;
mod proxy;
mod registry;
mod route;
mod run;
mod tls;
mod topics;
mod upstream;
mod websocket;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::policy::Policy;
use crate::unix::{UnixRights, abstract_name};

pub use self::access_log::{AccessLogConfig, AccessLogFormat, AccessLogTarget};
pub use self::blobstore::{BlobContainer, BlobContainerError};
pub use self::clients::{ClientRules, Network, NetworkError};
pub use self::dns::{DNS_PORT, DnsConfig, DnsServer, DnsServerError};
pub use self::error::ConfigError;
pub use self::guest::{ComponentSource, Directory, DirectoryError, GuestConfig};
pub use self::keyvalue::{KeyvalueBucket, KeyvalueError, KeyvalueStore, RedisUrl};
use self::limits::check_time;
pub use self::limits::{HttpLimits, Limits, NEVER, TcpOptions};
pub use self::log_template::{LogPart, LogTemplate, LogTemplateError, LogVariable};
pub use self::otlp::{OtlpConfig, OtlpHeader};
pub use self::proxy::{Proxy, ProxyError, ProxyProtocol};
pub use self::registry::RegistryConfig;
pub use self::route::{Route, RouteError, RouteHost, plain_host, plain_path};
pub use self::run::{RunConfig, SharedListener, SharingService, connections_wanted};
pub use self::tls::{
    CIPHER_SUITES, CertificateFiles, CipherSuite, CipherSuiteError, CipherSuites, TlsFiles,
    TlsVersion, TlsVersionError,
};
pub use self::topics::{EventLimits, TopicsServer};
pub use self::upstream::{
    Balance, Check, CheckKind, GroupSettings, HttpVersion, Statuses, Sticky, UpstreamAddress,
    UpstreamError, UpstreamGroup, UpstreamServer, UpstreamTls,
};
pub use self::websocket::{
    MessageCompression, Origin, SlowClient, WebSocketError, WebSocketLimits,
};
pub use crate::listen::{AddressError, ListenAddress, ListenerConfig, ListenerKind};

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
    /// compiles.
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
    /// Server that joins its topics with those of other processes.
    pub topics: Option<TopicsServer>,
    /// Groups of servers that the guest may forward to.
    pub upstreams: Vec<UpstreamGroup>,
    /// Destination of the access log, with a line for each HTTP request.
    pub access_log: Option<AccessLogConfig>,
    /// Settings of name resolution.
    pub dns: DnsConfig,
    /// Settings of registries. They count until its components are pulled.
    pub registry: RegistryConfig,
}

impl Config {
    /// True if the guest may connect somewhere, or have requests forwarded.
    #[must_use]
    pub fn connects(&self) -> bool {
        let is_secure = |bucket: &KeyvalueBucket| match &bucket.store {
            KeyvalueStore::Redis(url) => url.secure,
            KeyvalueStore::Memory | KeyvalueStore::File(_) => false,
        };
        !self.policy.connect.is_empty()
            || !self.upstreams.is_empty()
            || self.keyvalue.iter().any(is_secure)
            || self.topics.as_ref().is_some_and(|server| server.0.secure)
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

/// Checks an address of the probes.
///
/// # Errors
/// Fails if only this process's own user could reach it.
pub fn check_probes(address: &ListenAddress) -> Result<(), ConfigError> {
    match address {
        ListenAddress::Unix(_) => Err(ConfigError::ProbesOverUnix(address.clone())),
        _ => Ok(()),
    }
}

/// Returns the parts of a guest path without those that say nothing, so that
/// `/data`, `data/` and `./data` are one.
fn plain(path: &str) -> Vec<&str> {
    let says = |part: &&str| !matches!(*part, "" | ".");
    path.split('/').filter(says).collect()
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
