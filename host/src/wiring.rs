//! Puts together what a worker serves: the one place that names a transport, a
//! protocol and a guest together.

use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::config::Config;
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_exchange::handler::Handlers;
use netwasm_exchange::sites::Sites;
use netwasm_http as http;
use netwasm_http::access_log::AccessLog;
use netwasm_http::flow_limit::FlowLimit;
use netwasm_http::local::{Account, Local};
use netwasm_http::tally::Tallies;
use netwasm_net::env::{Env, Settings};
use netwasm_net::files::Roots;
use netwasm_net::service::{Service, Services};
use netwasm_net::tls::Tls;
use netwasm_net::turns::{Steps, Turns};
use netwasm_net::worker::Worker;
use netwasm_net::{connection, udp};
use netwasm_runtime::guests::{LoadedComponent, OfRun, OfThread};
use netwasm_runtime::instance::Instance;

/// State that the services of a process share, and that outlives a generation
/// of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lasting {
    /// Counters of the service.
    pub(crate) counters: Arc<Counters>,
    /// Clock of the threads' turns.
    pub(crate) steps: Steps,
    /// Numbers of requests, if there are metrics.
    pub(crate) tallies: Option<Arc<Tallies>>,
}

/// A listener that services share, on a thread.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The services, the one whose listener it is first.
    pub(crate) sites: Sites,
    /// Accounts of the others.
    pub(crate) others: Vec<Account>,
}

/// State that all workers of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) net: Arc<Env>,
    pub(crate) http: Arc<http::local::Env>,
    pub(crate) guests: OfRun,
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
        if !config.policy.connect.is_empty() {
            // This runs while the component is compiled.
            tls.prepare_client();
        }
        let ready = LoadedComponent::load(config)?;
        let net = Arc::new(Env::new(Settings {
            limits: config.limits.clone(),
            guest: &config.guest.name,
            policy: config.policy.clone(),
            dns: config.dns.clone(),
            tls,
            places: ready.connections(),
            counters: lasting.counters,
            steps: lasting.steps,
            proxies: config.proxies.clone(),
            clients: config.clients.clone(),
        })?);
        let log = config.access_log.as_ref().map(AccessLog::open);
        Ok(Self {
            guests: OfRun::new(config, &net, &roots, ready)?,
            http: Arc::new(http::local::Env {
                access_log: log.transpose()?,
                flow_limit: FlowLimit::new(config.limits.http.max_unread),
                tallies: lasting.tallies,
            }),
            net,
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

    /// Returns what records the requests for this service on a thread.
    pub(crate) fn account(&self) -> Account {
        Account::new(&self.net, &self.http)
    }

    fn local(&self, handlers: Rc<dyn Handlers>, others: Vec<Account>) -> Rc<Local> {
        Local::new(Arc::clone(&self.http), handlers, self.account(), others)
    }

    /// Returns the protocol of each kind of listener, and of each shared one,
    /// with its handler.
    pub(crate) fn services(&self, guests: &OfThread, shared: Vec<Shared>) -> Services {
        let all = || Rc::new(guests.clone());
        let streams: connection::ToGuests<Instance> = match guests.streams() {
            Some(guests) => connection::ToGuests::streams(guests),
            None => connection::ToGuests::events(all()),
        };
        let http = self.local(all(), Vec::new());
        let answers = |shared: Shared| -> Rc<dyn Service> {
            let local = self.local(Rc::new(shared.sites), shared.others);
            Rc::new(http::Service::new(local))
        };
        let datagrams: udp::DatagramsToGuests<Instance> = udp::DatagramsToGuests::new(all());
        Services {
            streams: Some(Rc::new(streams)),
            http: Some(Rc::new(http::Service::new(http))),
            sites: shared.into_iter().map(answers).collect(),
            datagrams: Some(Rc::new(datagrams)),
            program: guests.program(),
        }
    }
}
