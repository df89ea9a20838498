//! Resolves names to addresses.
//!
//! An address in text form is its own answer, and `localhost` is loopback (RFC
//! 6761, section 6.3). Then the hosts file is searched, then DNS servers are
//! asked: those of `--dns-server`, or the system's with its search list, as in
//! resolv.conf(5). Both families are asked at once. Answers are cached for
//! their TTL.
//!
//! All workers share the files and the answers of servers. Each worker asks by
//! itself, since its sockets belong to its runtime. A name that several of its
//! guests wait for is asked for once.

mod cache;
mod exchange;
mod files;
mod questions;
mod servers;

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::rr::{Name, RecordType};
use tokio::sync::{Mutex, mpsc};

use netwasm_base::config::DnsConfig;
use netwasm_base::counters::Counters;
use netwasm_base::error::ConnectionError;
use netwasm_base::policy::{Resolved, canonical_name, is_host_name};

use crate::destinations::Destinations;

use self::exchange::{Undecided, Way};
use self::files::{Conf, HOSTS, Hosts};
use self::questions::Questions;
use self::servers::Servers;

pub use self::files::RESOLV_CONF;

/// Error text if no server answers in time.
pub const SILENT: &str = "the resolver does not answer (--dns-timeout)";

/// The name of this machine's loopback addresses.
const LOCALHOST: &str = "localhost";

/// Interval between checks of the two files for changes.
const REFRESH: Duration = Duration::from_secs(5);

/// Resolves names for the guests of a worker.
pub struct Resolver {
    sources: Arc<Sources>,
    questions: Rc<Questions>,
    /// Addresses that names resolved to, for the policy.
    names: RefCell<Resolved>,
    destinations: Destinations,
}

impl Resolver {
    pub(crate) fn new(sources: &Arc<Sources>) -> Self {
        Self {
            sources: Arc::clone(sources),
            questions: Rc::default(),
            names: RefCell::default(),
            destinations: Destinations::default(),
        }
    }

    /// Returns the addresses that names resolved to so far.
    pub fn names(&self) -> Ref<'_, Resolved> {
        self.names.borrow()
    }

    /// Returns the order in which to try addresses.
    pub(crate) fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// Resolves a name. Returns all its addresses, in the order in which to try
    /// them.
    ///
    /// # Errors
    /// Fails if the name has no address, or if no server answers.
    pub async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ConnectionError> {
        let mut answers = self.answers(host);
        let mut addresses = Vec::new();
        while let Some(answer) = answers.next().await {
            addresses.extend(answer?);
        }
        self.remember(host, &addresses);
        self.destinations.sort(&mut addresses);
        Ok(addresses)
    }

    /// Like [`Self::resolve`], but `localhost` has the addresses that the hosts
    /// file gives it, as in libc: a server that binds to the name listens where
    /// others of the machine do.
    ///
    /// # Errors
    /// Fails as [`Self::resolve`] does.
    pub async fn resolve_as_libc(&self, host: &str) -> Result<Vec<IpAddr>, ConnectionError> {
        let mut addresses = self.resolve(host).await?;
        if canonical_name(host) == LOCALHOST {
            let source = self.sources.current().await;
            let known = source.hosts.addresses(LOCALHOST);
            if addresses.iter().any(|ip| known.contains(ip)) {
                addresses.retain(|ip| known.contains(ip));
            }
        }
        Ok(addresses)
    }

    /// Like [`Self::resolve`], but gives each family's addresses as they
    /// arrive. Dropping the answers gives up.
    pub(crate) fn answers(&self, host: &str) -> Answers {
        let canonical = canonical_name(host);
        if let Ok(ip) = canonical.parse() {
            return Answers::ready(Ok(vec![ip]));
        }
        if !is_host_name(&canonical) || is_invalid(&canonical) {
            return Answers::ready(Err(ConnectionError::NameUnresolvable));
        }
        if canonical == LOCALHOST || canonical.ends_with(".localhost") {
            let loopback = [
                IpAddr::from(Ipv6Addr::LOCALHOST),
                Ipv4Addr::LOCALHOST.into(),
            ];
            return Answers::ready(Ok(loopback.into()));
        }
        let (sender, found) = mpsc::unbounded_channel();
        let (sources, questions) = (Arc::clone(&self.sources), Rc::clone(&self.questions));
        let ends = host.ends_with('.');
        let asks = Rc::<Cell<bool>>::default();
        let count = Count {
            counters: Arc::clone(&sources.counters),
            asks: Rc::clone(&asks),
        };
        Answers {
            found,
            search: Some(Box::pin(async move {
                let name = (&*canonical, ends);
                let search = search(&sources, &questions, name, &asks, &sender);
                let missing = match tokio::time::timeout(sources.config.timeout, search).await {
                    Ok(Ok(())) => return,
                    Ok(Err(missing)) => missing,
                    Err(_) => Missing::TimedOut,
                };
                // It fails only if nobody waits any more.
                let _ = sender.send(Err(missing.into()));
            })),
            any: false,
            count: Some(count),
        }
    }

    /// Like [`Self::resolve`], for the host's own use: nothing is counted, nor
    /// remembered for the policy, and the order is the servers'.
    ///
    /// # Errors
    /// Fails as [`Self::resolve`] does.
    pub(crate) async fn look(&self, host: &str) -> Result<Vec<IpAddr>, ConnectionError> {
        let mut answers = self.answers(host);
        answers.count = None;
        let mut addresses = Vec::new();
        while let Some(answer) = answers.next().await {
            addresses.extend(answer?);
        }
        Ok(addresses)
    }

    /// Remembers what a name resolved to.
    pub(crate) fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let mut names = self.names.borrow_mut();
        names.remember(host, addresses.iter().copied());
    }
}

/// Returns the system's servers, in the order of asking.
///
/// # Errors
/// Fails if [`RESOLV_CONF`] cannot be read.
pub fn system_servers() -> std::io::Result<Vec<SocketAddr>> {
    std::fs::read(RESOLV_CONF)?;
    Ok(Conf::load(&DnsConfig::default()).servers)
}

/// Asks a server for the servers of the root, which all servers know and which
/// tells it nothing. Waits until it answers: with them, or that it does not tell.
///
/// # Errors
/// Fails if it cannot be asked, or if what it sends is no answer.
pub async fn probe(server: SocketAddr) -> Result<(), String> {
    let way = Way {
        server,
        edns: false,
        tcp: false,
    };
    match exchange::ask(way, &Name::root(), RecordType::NS).await {
        Ok(_) | Err(Undecided::Code(_) | Undecided::Referral | Undecided::Aliases) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// True for names that must not be sent to a DNS server: RFC 6761 (section 6.4)
/// and RFC 7686.
fn is_invalid(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("invalid" | "onion"))
}

/// The addresses of a name, as they arrive.
pub(crate) struct Answers {
    /// The look-up, until it is done. It runs only while a task waits for it.
    search: Option<Pin<Box<dyn Future<Output = ()>>>>,
    found: mpsc::UnboundedReceiver<Addresses>,
    /// True if any addresses have arrived.
    any: bool,
    /// Counts the result, unless it was known without looking it up.
    count: Option<Count>,
}

/// Counts the result of a look-up.
struct Count {
    counters: Arc<Counters>,
    /// True once a server is asked.
    asks: Rc<Cell<bool>>,
}

impl Count {
    fn result(self, result: &Addresses) {
        let lookups = &self.counters.lookups;
        if !self.asks.get() {
            lookups.at_hand.add();
        }
        match result {
            Ok(_) => lookups.found.add(),
            Err(ConnectionError::NameUnresolvable) => lookups.no_name.add(),
            Err(ConnectionError::NoAddress) => lookups.no_address.add(),
            Err(ConnectionError::Timeout(_)) => lookups.timed_out.add(),
            Err(_) => lookups.failed.add(),
        }
    }
}

type Addresses = Result<Vec<IpAddr>, ConnectionError>;

impl Answers {
    /// Returns answers that are known already.
    pub(crate) fn ready(addresses: Addresses) -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        // The receiver exists.
        let _ = sender.send(addresses);
        Self {
            search: None,
            found,
            any: false,
            count: None,
        }
    }

    /// Waits for the addresses of one family. Returns `None` after the last. An
    /// error comes only if there are no addresses at all.
    pub(crate) async fn next(&mut self) -> Option<Addresses> {
        let answer = std::future::poll_fn(|cx| {
            if let Some(search) = &mut self.search
                && search.as_mut().poll(cx).is_ready()
            {
                self.search = None;
            }
            self.found.poll_recv(cx)
        })
        .await?;
        if let Some(count) = self.count.take() {
            count.result(&answer);
        }
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

/// Searches the hosts file, then asks for a name and for its combinations with
/// the search list, unless the name ends with a dot. Sets `asks` if that needs a
/// server.
async fn search(
    sources: &Sources,
    questions: &Rc<Questions>,
    (name, ends): (&str, bool),
    asks: &Cell<bool>,
    found: &mpsc::UnboundedSender<Addresses>,
) -> Result<(), Missing> {
    let source = sources.current().await;
    let known = source.hosts.addresses(name);
    if !known.is_empty() {
        // It fails only if nobody waits any more.
        let _ = found.send(Ok(known.to_vec()));
        return Ok(());
    }
    let mut worst = Missing::NoName;
    for name in source.servers.candidates(name, ends) {
        match questions.ask(&source.servers, &name, asks, found).await {
            Ok(()) => return Ok(()),
            // As with glibc, a silent server ends the search.
            Err(Missing::TimedOut) => return Err(Missing::TimedOut),
            Err(missing) => worst = worst.max(missing),
        }
    }
    Err(worst)
}

/// Answers for one family of a name.
type Answer = Result<Arc<[IpAddr]>, Missing>;

/// Reason why a name has no address. Later ones say more, and take precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    NoName,
    NoAddress,
    Failed,
    TimedOut,
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

/// The sources of names, shared by all workers. They are read when the first
/// name is asked for, and again when a file has changed.
#[derive(Debug)]
pub(crate) struct Sources {
    config: DnsConfig,
    counters: Arc<Counters>,
    loaded: Mutex<Option<Loaded>>,
}

impl Sources {
    pub(crate) fn new(config: &DnsConfig, counters: &Arc<Counters>) -> Self {
        Self {
            config: config.clone(),
            counters: Arc::clone(counters),
            loaded: Mutex::default(),
        }
    }

    /// Returns the present sources. The files may be long, so they are read on
    /// another thread.
    async fn current(&self) -> Arc<Source> {
        let mut loaded = self.loaded.lock().await;
        if let Some(loaded) = loaded.as_mut()
            && loaded.is_current()
        {
            return Arc::clone(&loaded.source);
        }
        let config = self.config.clone();
        let reading = tokio::task::spawn_blocking(move || Loaded::new(&config));
        // If that thread fails, the files are read here.
        let read = reading.await.unwrap_or_else(|_| Loaded::new(&self.config));
        Arc::clone(&loaded.insert(read).source)
    }
}

/// The files, as of one point in time.
#[derive(Debug)]
struct Loaded {
    source: Arc<Source>,
    /// Time of the last check of the files, and their times of change then.
    looked: Instant,
    changed: [Option<SystemTime>; 2],
}

impl Loaded {
    fn new(config: &DnsConfig) -> Self {
        // Taken before reading: a change in the meantime is then noticed later.
        let changed = changed();
        let servers = Servers::new(Conf::load(config), config.timeout);
        Self {
            source: Arc::new(Source {
                hosts: Hosts::load(),
                servers: Arc::new(servers),
            }),
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

/// Returns the times of change of the files.
fn changed() -> [Option<SystemTime>; 2] {
    [HOSTS, RESOLV_CONF].map(|path| {
        let metadata = std::fs::metadata(path);
        metadata.and_then(|metadata| metadata.modified()).ok()
    })
}

/// The hosts file, and the servers.
#[derive(Debug)]
struct Source {
    hosts: Hosts,
    servers: Arc<Servers>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_server_asks_none() {
        let resolver = Resolver::new(&Arc::new(Sources::new(
            &DnsConfig::default(),
            &Arc::default(),
        )));
        let resolve = |host: &str| {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            // Without its drivers the runtime cannot send anything.
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
        for host in [
            "",
            "a..b",
            "127.1",
            "a b",
            "fe80::1%1",
            "x.invalid",
            "x.onion.",
        ] {
            assert_eq!(
                resolve(host),
                Err(ConnectionError::NameUnresolvable),
                "{host}"
            );
        }
    }
}
