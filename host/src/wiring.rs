//! Puts together what a worker serves: the one place that names a transport, a
//! protocol and a guest together.

use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use netwasm_base::config::Config;
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_base::guest_metrics::{Families, GuestMetrics};
use netwasm_base::trace::{Sink, Tracer};
use netwasm_base::{descriptors, memory};
use netwasm_exchange::handler::{Handlers, Neighbor};
use netwasm_exchange::sites::{Member, Sites};
use netwasm_http as http;
use netwasm_http::access_log::Logs;
use netwasm_http::flow_limit::FlowLimit;
use netwasm_http::local::{Account, Local};
use netwasm_http::tally::Tallies;
use netwasm_keyvalue::Memories;
use netwasm_net::clients::Clients;
use netwasm_net::env::{Env, Settings};
use netwasm_net::files::Roots;
use netwasm_net::permits::{Permits, Whole};
use netwasm_net::places::{Places, PresentPlaces};
use netwasm_net::service::{Services, SharedService};
use netwasm_net::tls::Tls;
use netwasm_net::turns::{Steps, Turns};
use netwasm_net::worker::Worker;
use netwasm_net::{connection, udp};
use netwasm_runtime::guests::{LoadedComponent, OfRun, OfThread};
use netwasm_runtime::instance::Instance;
use netwasm_runtime::{Fingerprint, mappings_of_instances, stores};

/// State that the services of a process share.
pub(crate) struct Common {
    /// Clock of the threads' turns.
    pub(crate) steps: Steps,
    /// The access logs.
    pub(crate) logs: Logs,
    /// Budget of accepted connections.
    places: Arc<Whole>,
    /// Budget of outgoing connections.
    outgoing: Arc<Whole>,
    /// Budget of mappings of instances.
    mappings: Arc<Whole>,
    /// True if requests are counted for metrics.
    metrics: bool,
    /// Where traces go, if there is a receiver.
    traces: Option<(Sink, f64)>,
    /// Metrics of all guests, by name.
    families: Arc<Families>,
    /// Number of services.
    services: AtomicUsize,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").finish_non_exhaustive()
    }
}

impl Common {
    /// Returns what these services share. Finished spans go to the sink of
    /// `traces`, which also says how many of them are sampled.
    pub(crate) fn new(
        services: &[Config],
        metrics: bool,
        traces: Option<(Sink, f64)>,
    ) -> Arc<Self> {
        let common = Arc::new(Self {
            steps: Steps::default(),
            logs: Logs::default(),
            places: Whole::new(0),
            outgoing: Whole::new(0),
            mappings: Whole::new(mappings_of_instances()),
            metrics,
            traces,
            families: Arc::default(),
            services: AtomicUsize::new(0),
        });
        common.fit(services);
        common
    }

    /// Raises the budgets to those of these services: as many connections as
    /// there are descriptors for, or as the services were given. A budget that
    /// was raised stays.
    pub(crate) fn fit(&self, services: &[Config]) {
        self.services.store(services.len(), Ordering::Relaxed);
        let connects = services.iter().any(Config::connects);
        let possible = descriptors::connections(connects).min(memory::connections(connects));
        let limits = services.iter().map(|it| &it.limits);
        let given = limits.clone().filter(|it| it.connections_given);
        let given = given.map(|it| it.max_connections).sum();
        self.places.raise(possible.max(given));
        let outgoing = limits.map(|it| it.max_outgoing).max();
        self.outgoing.raise(possible.max(outgoing.unwrap_or(0)));
    }
}

/// State that outlives a generation of a service.
#[derive(Clone, Debug)]
pub(crate) struct Lasting {
    pub(crate) common: Arc<Common>,
    /// Counters of the service.
    counters: Arc<Counters>,
    /// Numbers of requests, if there are metrics.
    tallies: Option<Arc<Tallies>>,
    /// Buckets in memory of the service.
    memories: Arc<Memories>,
    /// Budgets of the generation before; `None` for the first.
    before: Option<Budgets>,
}

impl Lasting {
    /// Returns what the first generation of a service begins with.
    pub(crate) fn first(common: &Arc<Common>) -> Self {
        Self {
            common: Arc::clone(common),
            counters: Arc::new(Counters {
                of_guest: GuestMetrics::among(&common.families),
                ..Counters::default()
            }),
            tallies: common.metrics.then(Arc::default),
            memories: Arc::default(),
            before: None,
        }
    }
}

/// Budgets that the generations of a service share, so that there is no more while
/// one replaces another.
#[derive(Clone, Debug)]
struct Budgets {
    places: Arc<Places>,
    outgoing: Arc<Permits>,
    background: Arc<Permits>,
    unread: Arc<FlowLimit>,
    clients: Arc<Clients>,
}

impl Budgets {
    /// Returns the budgets of a generation with room for so many connections,
    /// each of which takes so many mappings. Budgets of the generation before
    /// stay, unless their size differs.
    fn new(config: &Config, lasting: &Lasting, connections: usize, mappings: u32) -> Self {
        let common = &lasting.common;
        let before = lasting.before.as_ref();
        let whole = |whole: &Arc<Whole>| (Arc::clone(whole), 1);
        let permits = |most, within, before: Option<&Arc<Permits>>| {
            let new = Permits::new(most, within);
            match before {
                Some(before) if before.is_like(&new) => Arc::clone(before),
                _ => new,
            }
        };
        let mut within = vec![whole(&common.places)];
        if mappings > 0 {
            within.push((Arc::clone(&common.mappings), mappings));
        }
        let places = permits(connections, within, before.map(|it| it.places.permits()));
        let limits = &config.limits;
        let unread = limits.http.max_unread;
        Self {
            places: match before {
                Some(before) if Arc::ptr_eq(before.places.permits(), &places) => {
                    Arc::clone(&before.places)
                }
                _ => Places::new(places, &lasting.counters),
            },
            outgoing: permits(
                limits.max_outgoing,
                vec![whole(&common.outgoing)],
                before.map(|it| &it.outgoing),
            ),
            background: permits(
                limits.max_background,
                Vec::new(),
                before.map(|it| &it.background),
            ),
            unread: match before {
                Some(before) if before.unread.most() == unread => Arc::clone(&before.unread),
                _ => Arc::new(FlowLimit::new(unread)),
            },
            clients: match before {
                Some(before) if *before.clients.rules() == config.clients => {
                    Arc::clone(&before.clients)
                }
                _ => Clients::new(config.clients.clone()),
            },
        }
    }
}

/// A listener of HTTP, which services may share, on a thread.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The services, the one whose listener it is first.
    pub(crate) sites: Rc<Sites>,
    /// Places for its connections.
    pub(crate) places: Arc<Places>,
    /// Accounts of the others.
    pub(crate) others: Vec<Rc<Account>>,
}

/// The services of a listener on a thread, to be replaced while it serves.
#[derive(Debug)]
pub(crate) struct Replaceable {
    sites: Weak<Sites>,
    local: Weak<Local>,
    places: Rc<PresentPlaces>,
}

/// The other services that a listener is to have.
pub(crate) struct Members {
    pub(crate) members: Vec<Member>,
    /// Accounts of those that are new.
    pub(crate) accounts: Vec<Rc<Account>>,
    /// Places for connections that may use all of them.
    pub(crate) places: Arc<Places>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").finish_non_exhaustive()
    }
}

impl Replaceable {
    /// Replaces the services on the listener of a worker with what `next` returns.
    pub(crate) fn replace(&self, worker: &Worker, next: impl FnOnce(&Sites) -> Option<Members>) {
        // Otherwise its last connection has ended.
        if let (Some(sites), Some(local)) = (self.sites.upgrade(), self.local.upgrade())
            && let Some(next) = next(&sites)
        {
            // Before the first request for one of them.
            worker.replace_places(&self.places, &next.places);
            local.add(next.accounts);
            sites.replace(next.members);
        }
    }
}

/// State that all workers of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) net: Arc<Env>,
    pub(crate) http: Arc<http::local::Env>,
    pub(crate) guests: OfRun,
    /// Fingerprint of the component, unless it was compiled ahead of time.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// State for the next generation.
    pub(crate) lasting: Lasting,
}

impl Run {
    /// Builds everything that a service needs and that can fail before it
    /// begins.
    ///
    /// # Errors
    /// Fails if the component, a certificate, a directory or the access log
    /// cannot be used.
    pub(crate) fn new(config: &Config, lasting: Lasting) -> Result<Self, Error> {
        let roots = Arc::new(Roots::open(&config.guest.dirs)?);
        let tls = Arc::new(Tls::load(&config.tls)?);
        if config.connects() {
            // This runs while the component is compiled.
            tls.prepare_client();
        }
        let stores = stores::open(config, &lasting.memories, &tls)?;
        let services = lasting.common.services.load(Ordering::Relaxed);
        let ready = LoadedComponent::load(config, services, &|told| tracing::info!("{told}"))?;
        let budgets = Budgets::new(config, &lasting, ready.connections(), ready.mappings());
        let traces = lasting.common.traces.as_ref();
        let net = Arc::new(Env::new(Settings {
            limits: config.limits.clone(),
            guest: &config.guest.name,
            policy: config.policy.clone(),
            dns: config.dns.clone(),
            tls,
            places: Arc::clone(&budgets.places),
            outgoing: Arc::clone(&budgets.outgoing),
            counters: Arc::clone(&lasting.counters),
            times_guests: lasting.common.metrics,
            tracer: traces.map(|(sink, ratio)| Tracer::new(&config.guest.name, *ratio, sink)),
            steps: lasting.common.steps.clone(),
            proxies: config.proxies.clone(),
            clients: Arc::clone(&budgets.clients),
            upstreams: &config.upstreams,
        })?);
        let log = config.access_log.as_ref();
        let log = log.map(|log| lasting.common.logs.open(log));
        let background = Arc::clone(&budgets.background);
        let fingerprint = ready.fingerprint().copied();
        Ok(Self {
            guests: OfRun::new(config, &net, &roots, background, stores, ready)?,
            http: Arc::new(http::local::Env {
                access_log: log.transpose()?,
                flow_limit: Arc::clone(&budgets.unread),
                tallies: lasting.tallies.clone(),
            }),
            net,
            fingerprint,
            lasting: Lasting {
                before: Some(budgets),
                ..lasting
            },
        })
    }

    /// Makes an instance of an event guest and drops it, so that a guest that
    /// cannot work says so at the start, not to each client.
    ///
    /// # Errors
    /// Fails if the guest's start traps or exits.
    pub(crate) async fn try_guest(&self) -> Result<(), Error> {
        let worker = Worker::new(Arc::clone(&self.net));
        self.guests_of(&worker).try_start()
    }

    /// Makes a worker for this thread, and its guests.
    pub(crate) fn worker(&self, turns: &Rc<Turns>) -> (Rc<Worker>, OfThread) {
        let worker = Worker::beside_others(Arc::clone(&self.net), Rc::clone(turns));
        let guests = self.guests_of(&worker);
        (worker, guests)
    }

    /// Makes the guests of a worker.
    pub(crate) fn guests_of(&self, worker: &Rc<Worker>) -> OfThread {
        let outgoing = Rc::new(http::client::Client::new(worker));
        self.guests.of_thread(worker, outgoing)
    }

    /// Returns this service for the listener of another one, with these handlers,
    /// and its account there.
    pub(crate) fn neighbor(&self, handlers: Rc<dyn Handlers>) -> (Rc<Neighbor>, Rc<Account>) {
        let account = Rc::new(self.account());
        let neighbor = Neighbor::new(handlers, Rc::<Account>::clone(&account));
        (neighbor, account)
    }

    /// Returns what records the requests for this service on a thread.
    fn account(&self) -> Account {
        Account::new(&self.net, &self.http)
    }

    fn local(&self, handlers: Rc<dyn Handlers>, others: Vec<Rc<Account>>) -> Rc<Local> {
        Local::new(Arc::clone(&self.http), handlers, self.account(), others)
    }

    /// Returns the protocol of each kind of listener, and of each one of HTTP,
    /// with its handler, and what replaces the services of these.
    pub(crate) fn services(
        &self,
        guests: &OfThread,
        shared: Vec<Shared>,
    ) -> (Services, Vec<Replaceable>) {
        let all = || Rc::new(guests.clone());
        let streams: connection::ToGuests<Instance> = match guests.streams() {
            Some(guests) => connection::ToGuests::streams(guests),
            None => connection::ToGuests::events(all()),
        };
        let mut replaceable = Vec::new();
        let answers = |shared: Shared| {
            let sites = Rc::downgrade(&shared.sites);
            let local = self.local(shared.sites, shared.others);
            let places = PresentPlaces::new(shared.places);
            replaceable.push(Replaceable {
                sites,
                local: Rc::downgrade(&local),
                places: Rc::clone(&places),
            });
            SharedService {
                service: Rc::new(http::Service::new(local)),
                places,
            }
        };
        let datagrams: udp::DatagramsToGuests<Instance> = udp::DatagramsToGuests::new(all());
        let sites = shared.into_iter().map(answers).collect();
        let services = Services {
            streams: Some(Rc::new(streams)),
            sites,
            datagrams: Some(Rc::new(datagrams)),
            program: guests.program(),
        };
        (services, replaceable)
    }
}
