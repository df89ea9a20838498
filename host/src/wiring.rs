//! Puts together what a worker serves: the one place that names a transport, a
//! protocol and a guest together.

use std::rc::Rc;
use std::sync::Arc;

use crate::config::Config;
use crate::counters::Counters;
use crate::dns::Sources;
use crate::env::Env;
use crate::error::Error;
use crate::files::Roots;
use crate::http;
use crate::http::access_log::AccessLog;
use crate::parked::Pools;
use crate::places::Places;
use crate::service::Services;
use crate::tls::Tls;
use crate::turns::Steps;
use crate::wasm::engine::Loaded;
use crate::wasm::instance::Instance;
use crate::wasm::local::{self, LocalGuests};
use crate::worker::Worker;
use crate::{connection, udp};

/// What all workers of a run share.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) net: Arc<Env>,
    pub(crate) http: Arc<http::Env>,
    pub(crate) guests: Arc<local::Env>,
}

impl Run {
    /// Builds all that a run needs and that can go wrong before it begins.
    ///
    /// # Errors
    /// The component, a certificate or a directory cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let roots = Arc::new(Roots::open(&config.guest.dirs)?);
        let tls = Arc::new(Tls::load(&config.tls)?);
        if !config.policy.connect.is_empty() {
            tls.prepare_client();
        }
        let loaded = Loaded::load(config)?;
        let (_, _, room) = &loaded;
        let counters: Arc<Counters> = Arc::default();
        let net = Arc::new(Env {
            limits: config.limits.clone(),
            guest: config.guest.name.clone(),
            policy: config.policy.clone(),
            names: Arc::new(Sources::new(&config.dns)),
            tls,
            places: Places::new(room.connections, &counters),
            outgoing: Env::outgoing(&config.limits),
            counters,
            pools: Pools::new().map_err(|source| Error::System {
                what: "epoll",
                source,
            })?,
            steps: Steps::default(),
        });
        let log = config.access_log.as_ref().map(AccessLog::open);
        Ok(Self {
            guests: Arc::new(local::Env::new(config, &net, &roots, loaded)?),
            http: Arc::new(http::Env {
                access_log: log.transpose()?,
                roots,
            }),
            net,
        })
    }

    /// A worker of this thread, and what it serves.
    pub(crate) fn worker(&self) -> (Rc<Worker>, Services) {
        let worker = Worker::new(Arc::clone(&self.net));
        let guests = self.guests_of(&worker);
        let services = self.services(&guests);
        (worker, services)
    }

    /// The guests of a worker.
    pub(crate) fn guests_of(&self, worker: &Rc<Worker>) -> LocalGuests {
        let outgoing = Rc::new(http::Client::new(worker));
        let env = Arc::clone(&self.guests);
        LocalGuests(local::Local::new(Rc::clone(worker), env, outgoing))
    }

    /// Each kind of listener, what is spoken there, and who answers.
    fn services(&self, guests: &LocalGuests) -> Services {
        let all = || Rc::new(guests.clone());
        let streams: connection::ToGuests<Instance> = match self.guests.program.streams() {
            Some(_) => connection::ToGuests::streams(all()),
            None => connection::ToGuests::events(all()),
        };
        let http = http::Local::new(Arc::clone(&self.http), all());
        let datagrams: udp::ToGuests<Instance> = udp::ToGuests::new(all());
        Services {
            streams: Some(Rc::new(streams)),
            http: Some(Rc::new(http::Service::new(http))),
            datagrams: Some(Rc::new(datagrams)),
            program: guests.0.program(),
        }
    }
}
