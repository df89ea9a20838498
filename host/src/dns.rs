//! Names to addresses.
//!
//! An address as text is its own answer and `localhost` is loopback (RFC 6761,
//! section 6.3); then the hosts file is asked, then DNS servers: those of
//! `--dns-server`, or of the system with its search list, as resolv.conf(5)
//! says. Both families are asked at once, and answers are kept for as long as
//! they say.
//!
//! Each worker has its own resolver, whose sockets are its runtime's.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::sync::mpsc;

use crate::config::{DnsConfig, DnsServer};
use crate::destinations::Destinations;
use crate::error::ConnectionError;
use crate::policy::{Resolved, canonical_name, is_host_name};

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Said where no server answers in time.
pub(crate) const SILENT: &str = "the resolver does not answer (--dns-timeout)";

/// How often the two files are looked at for changes.
const REFRESH: Duration = Duration::from_secs(5);

/// How many times a question is asked, so that a lost packet or a server that
/// is silent does not use up the time.
const ATTEMPTS: u32 = 3;

/// The families, the one first that RFC 8305 prefers.
const FAMILIES: [RecordType; 2] = [RecordType::AAAA, RecordType::A];

/// Looks names up for the guests of a worker.
pub(crate) struct Resolver {
    config: DnsConfig,
    /// What was read from files, once a name was asked for.
    loaded: RefCell<Option<Loaded>>,
    /// What names led to, for the policy.
    names: RefCell<Resolved>,
    destinations: Destinations,
}

impl Resolver {
    pub(crate) fn new(config: &DnsConfig) -> Self {
        Self {
            config: config.clone(),
            loaded: RefCell::default(),
            names: RefCell::default(),
            destinations: Destinations::default(),
        }
    }

    /// What names led to so far.
    pub(crate) fn names(&self) -> Ref<'_, Resolved> {
        self.names.borrow()
    }

    /// The order in which addresses should be tried.
    pub(crate) fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Looks a name up: all its addresses, in the order in which they should
    /// be tried.
    ///
    /// # Errors
    /// There is none, or nobody says so.
    pub(crate) async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ConnectionError> {
        let mut answers = self.answers(host);
        let mut addresses = Vec::new();
        while let Some(answer) = answers.next().await {
            addresses.extend(answer?);
        }
        self.remember(host, &addresses);
        self.destinations.sort(&mut addresses);
        Ok(addresses)
    }

    /// The same as it comes: each family's addresses when they are there. It
    /// is given up where the answers are dropped.
    pub(crate) fn answers(&self, host: &str) -> Answers {
        let canonical = canonical_name(host);
        if let Ok(ip) = canonical.parse() {
            return Answers::ready(Ok(vec![ip]));
        }
        if !is_host_name(&canonical) {
            return Answers::ready(Err(ConnectionError::NameUnresolvable));
        }
        if canonical == "localhost" || canonical.ends_with(".localhost") {
            let loopback = [
                IpAddr::from(Ipv6Addr::LOCALHOST),
                Ipv4Addr::LOCALHOST.into(),
            ];
            return Answers::ready(Ok(loopback.into()));
        }
        let Ok(mut name) = Name::from_ascii(&canonical) else {
            return Answers::ready(Err(ConnectionError::NameUnresolvable));
        };
        let source = self.source();
        let known = FAMILIES.map(|family| source.known(&name, family)).concat();
        if !known.is_empty() {
            return Answers::ready(Ok(known));
        }
        name.set_fqdn(host.ends_with('.'));
        let (sender, found) = mpsc::unbounded_channel();
        let timeout = self.config.timeout;
        Answers {
            found,
            search: Some(Box::pin(async move {
                let search = search(&source, name, &sender);
                let missing = match tokio::time::timeout(timeout, search).await {
                    Ok(Ok(())) => return,
                    Ok(Err(missing)) => missing,
                    Err(_) => Missing::TimedOut,
                };
                // Nobody else has an interest in it.
                let _ = sender.send(Err(missing.into()));
            })),
            any: false,
        }
    }

    /// Keeps in mind what a name led to.
    pub(crate) fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut names = self.names.borrow_mut();
        names.remember(host, addresses.iter().copied());
    }

    /// What to ask, read anew where a file has changed.
    fn source(&self) -> Arc<Source> {
        let mut loaded = self.loaded.borrow_mut();
        if let Some(loaded) = loaded.as_mut()
            && loaded.is_current()
        {
            return Arc::clone(&loaded.source);
        }
        Arc::clone(&loaded.insert(Loaded::new(&self.config)).source)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The addresses of a name, as they come.
pub(crate) struct Answers {
    /// The look-up, until it is done: it runs only while somebody waits.
    search: Option<Pin<Box<dyn Future<Output = ()>>>>,
    found: mpsc::UnboundedReceiver<Answer>,
    /// Whether there were any addresses.
    any: bool,
}

type Answer = Result<Vec<IpAddr>, ConnectionError>;

impl Answers {
    /// One that is known already.
    pub(crate) fn ready(answer: Answer) -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        // The receiver is there.
        let _ = sender.send(answer);
        Self {
            search: None,
            found,
            any: false,
        }
    }

    /// The addresses of one family; none after the last. An error comes only
    /// where there are no addresses at all.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let answer = std::future::poll_fn(|cx| {
            if let Some(search) = &mut self.search
                && search.as_mut().poll(cx).is_ready()
            {
                self.search = None;
            }
            self.found.poll_recv(cx)
        })
        .await?;
        match answer {
            Ok(addresses) => {
                self.any = true;
                Some(Ok(addresses))
            }
            Err(_) if self.any => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Asks for a name, and for what the search list makes of it.
async fn search(
    source: &Source,
    name: Name,
    found: &mpsc::UnboundedSender<Answer>,
) -> Result<(), Missing> {
    let mut worst = Missing::NoName;
    for name in source.candidates(&name) {
        match ask_both(source, &name, found).await {
            Ok(()) => return Ok(()),
            // As with glibc, a server that is silent ends the search.
            Err(Missing::TimedOut) => return Err(Missing::TimedOut),
            Err(missing) => worst = worst.max(missing),
        }
    }
    Err(worst)
}

/// Asks for both families at once.
async fn ask_both(
    source: &Source,
    name: &Name,
    found: &mpsc::UnboundedSender<Answer>,
) -> Result<(), Missing> {
    let deliver = |answer: Result<Vec<IpAddr>, Missing>| {
        answer.map(|addresses| {
            // Nobody waits any more where this fails.
            let _ = found.send(Ok(addresses));
        })
    };
    let [first, second] = FAMILIES.map(|family| source.ask(name, family));
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    std::future::poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(answer) = first.as_mut().poll(cx)
        {
            one = Some(deliver(answer));
        }
        if other.is_none() {
            other = Some(deliver(ready!(second.as_mut().poll(cx))));
        }
        match one.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    match (one, other) {
        (Some(Ok(())), _) | (_, Some(Ok(()))) => Ok(()),
        // What does not exist has no family at all.
        (Some(Err(Missing::NoName)), _) | (_, Some(Err(Missing::NoName))) => Err(Missing::NoName),
        (Some(Err(one)), Some(Err(other))) => Err(one.max(other)),
        (None, _) | (_, None) => Err(Missing::Failed),
    }
}

/// Why a name has no address; the later ones tell more, and go before the
/// others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    NoName,
    NoAddress,
    Failed,
    TimedOut,
}

impl From<NetError> for Missing {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Self::NoName,
                ResponseCode::NoError => Self::NoAddress,
                _ => Self::Failed,
            },
            NetError::Timeout => Self::TimedOut,
            NetError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            error => {
                tracing::debug!(%error, "the resolver failed");
                Self::Failed
            }
        }
    }
}

impl From<Missing> for ConnectionError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::NoName => Self::NameUnresolvable,
            Missing::NoAddress => Self::NoAddress,
            Missing::Failed => Self::ResolverFailure,
            Missing::TimedOut => Self::Timeout(SILENT),
        }
    }
}

/// Where names are looked up, as of one point in time.
struct Loaded {
    source: Arc<Source>,
    /// When the files were last looked at, and when they had been changed.
    looked: Instant,
    changed: [Option<SystemTime>; 2],
}

impl Loaded {
    fn new(config: &DnsConfig) -> Self {
        // Before they are read: a change in the meantime is then seen later.
        let changed = changed();
        Self {
            source: Arc::new(Source::load(config)),
            looked: Instant::now(),
            changed,
        }
    }

    fn is_current(&mut self) -> bool {
        if self.looked.elapsed() < REFRESH {
            return true;
        }
        self.looked = Instant::now();
        changed() == self.changed
    }
}

/// When the files were changed.
fn changed() -> [Option<SystemTime>; 2] {
    [HOSTS, RESOLV_CONF].map(|path| {
        let metadata = std::fs::metadata(path);
        metadata.and_then(|metadata| metadata.modified()).ok()
    })
}

/// The hosts file, the servers, and what they answered.
struct Source {
    hosts: Hosts,
    resolver: Option<TokioResolver>,
    search: Vec<Name>,
    /// A name with fewer dots is first looked for in the search list.
    dots: usize,
}

impl Source {
    fn load(config: &DnsConfig) -> Self {
        let (system, mut options) = match config.servers.as_slice() {
            [] => system(),
            servers => {
                let servers = servers.iter().map(server).collect();
                (
                    ResolverConfig::from_name_servers(servers),
                    ResolverOpts::default(),
                )
            }
        };
        let (domain, search, servers) = system.into_parts();
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = config.timeout / ATTEMPTS;
        options.attempts = (ATTEMPTS - 1) as usize;
        let dots = options.ndots;
        let servers = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Self {
            hosts: hosts(Path::new(HOSTS)),
            resolver: builder
                .build()
                .inspect_err(|error| tracing::error!(%error, "no resolver"))
                .ok(),
            search: match search.is_empty() {
                true => domain.into_iter().collect(),
                false => search,
            },
            dots,
        }
    }

    /// What the hosts file says.
    fn known(&self, name: &Name, family: RecordType) -> Vec<IpAddr> {
        let query = Query::query(name.clone(), family);
        let lookup = self.hosts.lookup_static_host(&query);
        let records = lookup.as_ref().map(Lookup::answers);
        let addresses = records.into_iter().flatten();
        addresses
            .filter_map(|record| record.data.ip_addr())
            .collect()
    }

    /// What to ask for in turn: resolv.conf(5), `search` and `ndots`.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let mut candidates: Vec<_> = self
            .search
            .iter()
            // Too long a name is none.
            .filter_map(|domain| name.clone().append_domain(domain).ok())
            .filter(|candidate| *candidate != absolute)
            .collect();
        let place = match dots >= self.dots {
            true => 0,
            false => candidates.len(),
        };
        candidates.insert(place, absolute);
        candidates
    }

    /// Asks the servers for the addresses of one family.
    async fn ask(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, Missing> {
        let Some(resolver) = &self.resolver else {
            return Err(Missing::Failed);
        };
        let lookup = resolver.lookup(name.clone(), family).await?;
        let records = lookup.answers().iter();
        let addresses: Vec<_> = records
            .filter(|record| record.record_type() == family)
            .filter_map(|record| record.data.ip_addr())
            .collect();
        match addresses.is_empty() {
            true => Err(Missing::NoAddress),
            false => Ok(addresses),
        }
    }
}

/// The system's servers; without any the one of this machine, as
/// resolv.conf(5) says.
fn system() -> (ResolverConfig, ResolverOpts) {
    system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::debug!(%error, "no DNS server in {RESOLV_CONF}: asking 127.0.0.1");
        let local = DnsServer(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        let config = ResolverConfig::from_name_servers(vec![server(&local)]);
        (config, ResolverOpts::default())
    })
}

/// A server that is asked by UDP, and by TCP where the answer is cut short.
fn server(DnsServer(address): &DnsServer) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .into();
    server
}

/// The hosts file; one that cannot be read says nothing.
fn hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = std::fs::File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    if let Err(error) = read {
        tracing::debug!(%error, path = %path.display(), "no hosts file");
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(hosts: &str, search: &[&str], dots: usize) -> Source {
        let mut known = Hosts::default();
        known
            .read_hosts_conf(hosts.as_bytes())
            .expect("a hosts file");
        Source {
            hosts: known,
            resolver: None,
            search: search
                .iter()
                .map(|name| name.parse().expect("a name"))
                .collect(),
            dots,
        }
    }

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn the_search_list_is_used_as_resolv_conf_says() {
        let candidates = |dots, text: &str| -> Vec<String> {
            source("", &["a.example.", "b.example."], dots)
                .candidates(&name(text))
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        let searched = |text: &str| ["a.example.", "b.example."].map(|it| format!("{text}.{it}"));
        let [one, two] = searched("host");
        assert_eq!(candidates(1, "host"), [one, two, "host.".into()]);
        let [one, two] = searched("x.host");
        assert_eq!(
            candidates(1, "x.host"),
            ["x.host.".into(), one.clone(), two.clone()]
        );
        assert_eq!(candidates(5, "x.host"), [one, two, "x.host.".into()]);
        assert_eq!(candidates(5, "x.host."), ["x.host."]);
    }

    #[test]
    fn the_hosts_file_knows_both_families() {
        let source = source(
            "10.0.0.1 Db.example db # the first\n::7 db\n10.0.0.2 db\n",
            &[],
            1,
        );
        let known = |text: &str| {
            FAMILIES
                .map(|family| source.known(&name(text), family))
                .concat()
        };
        let addresses = |all: &[&str]| -> Vec<IpAddr> {
            all.iter()
                .map(|text| text.parse().expect("an address"))
                .collect()
        };
        assert_eq!(known("db"), addresses(&["::7", "10.0.0.1", "10.0.0.2"]));
        assert_eq!(known("DB.example."), addresses(&["10.0.0.1"]));
        assert_eq!(known("example"), addresses(&[]));
    }

    #[test]
    fn what_needs_no_server_asks_none() {
        let resolver = Resolver::new(&DnsConfig::default());
        let resolve = |host: &str| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            // Without its drivers nothing could be sent.
            runtime.expect("a runtime").block_on(resolver.resolve(host))
        };
        for (host, address) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::1", "::1"),
            ("\u{ff11}92.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(
                resolve(host),
                Ok(vec![address.parse().expect("an address")])
            );
        }
        for host in ["localhost", "LOCALHOST.", "app.localhost"] {
            let found = resolve(host).expect("loopback");
            assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
            assert_eq!(found.len(), 2);
        }
        for host in ["", "a..b", "127.1", "a b", "fe80::1%1"] {
            assert_eq!(
                resolve(host),
                Err(ConnectionError::NameUnresolvable),
                "{host}"
            );
        }
    }
}
