//! A generation of a service: a component with its settings, from its
//! compilation to the end of its last connection.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use netwasm_base::config::{ComponentSource, Config, ListenAddress, ListenerKind};
use netwasm_base::error::Error;
use netwasm_base::ticker::Ticker;
use netwasm_exchange::redirect::Redirects;
use netwasm_net::listener::Bound;
use netwasm_net::thread::{self, Tick};
use netwasm_net::worker::{Assignment, Ended, Phase};
use netwasm_runtime::Stamps;
use netwasm_runtime::guests::is_the_component;

use crate::wiring::{Lasting, Run};

use super::system;
use super::threads::{Begin, Generations, Threads};

/// Default port of HTTPS.
const HTTPS: u16 = 443;

/// Interval for closing expired connections of pools.
const TIDY: Duration = Duration::from_millis(500);

/// A service that is ready to serve.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: Config,
    stamp: Option<Stamps>,
    run: Run,
}

impl Prepared {
    /// Compiles a service's component, and reads its files. This may take
    /// minutes. No code of the guest runs.
    ///
    /// # Errors
    /// Fails if a file cannot be used.
    pub(super) fn new(config: &Config, lasting: Lasting) -> Result<Self, Error> {
        let stamp = Stamps::of_component(&config.component, &config.plugs);
        Ok(Self {
            config: config.clone(),
            stamp,
            run: Run::new(config, lasting)?,
        })
    }

    /// Tries to start the guest.
    ///
    /// # Errors
    /// Fails if an event guest traps at its start.
    pub(super) fn try_guest(&self) -> Result<(), Error> {
        // A guest may ask for timers at its start, as on a worker.
        let trial = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        trial
            .map_err(system("starting a runtime"))?
            .block_on(self.run.try_guest())
    }

    /// True if the component is one call, rather than serving connections.
    pub(super) fn is_program(&self) -> bool {
        self.run.guests.is_program()
    }

    /// Makes all that its workers need: duplicates of these sockets, and a
    /// clock. Its generation is one of these that serve beside each other.
    ///
    /// # Errors
    /// Fails if no descriptor or no thread is left.
    pub(super) fn ready(
        self,
        generations: &Arc<Generations>,
        sockets: &[(usize, &Bound)],
        threads: &Threads,
    ) -> Result<Ready, Error> {
        let Self { config, stamp, run } = self;
        let generation = generations.get(&config.guest.name);
        let generation = generation.copied().unwrap_or_default();
        // A command is one call.
        let workers = match run.guests.is_program() {
            true => 1,
            false => threads.count(),
        };
        let (handing, handed): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::unbounded_channel()).unzip();
        let mut assignments: Vec<_> = handed
            .into_iter()
            .map(|handed| Assignment {
                listeners: Vec::new(),
                handed,
            })
            .collect();
        for (number, bound) in sockets {
            let Some(listener) = config.listeners.get(*number) else {
                continue;
            };
            let site = config.sites.iter().position(|it| it.listener == *number);
            let listeners = bound.listeners(listener.kind, site, &handing)?;
            for (number, listener) in listeners.into_iter().enumerate() {
                // Sockets of another process may be more than the workers.
                if let Some(assignment) = assignments.get_mut(number % workers) {
                    assignment.listeners.push(listener);
                }
            }
        }
        drop(handing);
        let redirects = Redirects::to(https_port(&config, sockets));
        let (clock, ticks) = watch::channel::<Tick>(0);
        let clock = keep_clock(&config, &run, clock)?;
        let (phase, watched) = watch::channel(Phase::Serving);
        let begins = assignments.into_iter().map(|assignment| Begin {
            generation,
            beside: Arc::clone(generations),
            run: run.clone(),
            sites: config.sites.clone(),
            routes: config.routes.clone(),
            redirects,
            assignment,
            phase: watched.clone(),
            clock: ticks.clone(),
        });
        Ok(Ready {
            begins: begins.collect(),
            serving: Serving {
                generation,
                config,
                stamp,
                run,
                phase,
                since: Instant::now(),
                deadline: None,
                left: (0..workers).collect(),
                beginning: workers,
                aborted: 0,
                code: None,
                overdue: false,
                forced: false,
                _clock: clock,
            },
        })
    }
}

/// Returns the port of HTTPS that clients are redirected to: that of the
/// settings, or of a listener, if possible the default one.
fn https_port(config: &Config, sockets: &[(usize, &Bound)]) -> u16 {
    let listeners = config.listeners.iter().enumerate();
    let secure = listeners.filter(|(_, it)| it.kind == ListenerKind::Https);
    let ports = secure.filter_map(|(number, listener)| {
        let mut its = sockets.iter().filter(|(of, _)| *of == number);
        // The system may have picked it.
        let bound = its.find_map(|(_, bound)| {
            let address = bound.url.strip_prefix("https://")?;
            Some(address.parse::<SocketAddr>().ok()?.port())
        });
        bound.or_else(|| match listener.address {
            ListenAddress::Localhost(port) => Some(port),
            ListenAddress::Socket(address) => Some(address.port()),
            ListenAddress::Unix(_) | ListenAddress::Passed(_) => None,
        })
    });
    let ports: Vec<_> = ports.collect();
    let port = match ports.contains(&HTTPS) {
        true => Some(HTTPS),
        false => ports.first().copied(),
    };
    config.redirect_port.or(port).unwrap_or(HTTPS)
}

/// A generation that needs nothing more to serve.
#[derive(Debug)]
pub(super) struct Ready {
    /// A worker for each thread.
    begins: Vec<Begin>,
    serving: Serving,
}

impl Ready {
    /// Begins to serve on all threads.
    pub(super) fn begin(self, threads: &Threads) -> Serving {
        for (thread, begin) in self.begins.into_iter().enumerate() {
            threads.begin(thread, begin);
        }
        self.serving
    }
}

/// Starts the clock of the deadlines of a service's workers, sent at each tick.
fn keep_clock(config: &Config, run: &Run, clock: watch::Sender<Tick>) -> Result<Ticker, Error> {
    let begun = Instant::now();
    let tick = thread::tick(&config.limits);
    let net = Arc::clone(&run.net);
    let mut tidied = begun;
    let keep = move || {
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            net.pools.expire();
        }
        let now = begun.elapsed().as_nanos() / tick.as_nanos().max(1);
        // Sending fails once no worker is left.
        let _ = clock.send(Tick::try_from(now).unwrap_or(Tick::MAX));
    };
    Ticker::start(tick, keep).map_err(Error::Thread)
}

/// A generation of a service that has begun.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) generation: u64,
    pub(super) config: Config,
    pub(super) stamp: Option<Stamps>,
    pub(super) run: Run,
    phase: watch::Sender<Phase>,
    /// Time at which it began.
    pub(super) since: Instant,
    /// Time at which its phase goes on.
    pub(super) deadline: Option<Instant>,
    /// Threads whose workers have not ended.
    pub(super) left: BTreeSet<usize>,
    /// Number of workers that do not serve yet.
    pub(super) beginning: usize,
    /// Number of connections that were aborted at its end.
    pub(super) aborted: usize,
    /// Exit code of a program that has ended and has failed.
    pub(super) code: Option<u8>,
    /// True if it was retired for longer than `--shutdown-timeout`.
    pub(super) overdue: bool,
    /// True if the end of the run aborted what was left.
    pub(super) forced: bool,
    /// Keeps deadlines.
    _clock: Ticker,
}

impl Serving {
    /// True if the component is one call, rather than serving connections.
    pub(super) fn is_program(&self) -> bool {
        self.run.guests.is_program()
    }

    /// Returns the present phase.
    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Begins a phase, which ends after this time.
    pub(super) fn enter(&mut self, phase: Phase, lasts: Duration) {
        if phase != Phase::Serving {
            self.run.net.draining.store(true, Ordering::Relaxed);
        }
        // Fails if all workers have ended.
        let _ = self.phase.send(phase);
        self.deadline = Instant::now().checked_add(lasts);
    }

    /// Begins to come to an end, as another generation accepts the new
    /// connections, or nobody.
    pub(super) fn retire(&mut self) {
        let limit = self.config.limits.shutdown_timeout;
        self.enter(Phase::Retiring, limit);
    }

    /// Notes the end of a worker.
    pub(super) fn worker_ended(&mut self, thread: usize, ended: Ended) {
        self.left.remove(&thread);
        self.aborted += ended.aborted;
        self.code = ended.code.filter(|code| *code > 0).or(self.code);
    }

    /// Releases what is left once no worker is.
    pub(super) fn finish(&self) {
        self.run.net.pools.close();
    }
}

/// A service as it runs when a reload begins.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) generation: u64,
    pub(super) config: Config,
    stamp: Option<Stamps>,
    pub(super) run: Run,
}

impl Current {
    pub(super) fn of(service: &Serving) -> Self {
        Self {
            generation: service.generation,
            config: service.config.clone(),
            stamp: service.stamp.clone(),
            run: service.run.clone(),
        }
    }

    /// Compares the component's files with the component that runs. Returns the
    /// state of the file; `None` if the file has another component.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or is no component.
    pub(super) fn same_component(&self) -> Result<Option<Option<Stamps>>, Error> {
        let config = &self.config;
        let now = Stamps::of_component(&config.component, &config.plugs);
        if now.is_some() && now == self.stamp {
            return Ok(Some(now));
        }
        let is_same = match (&config.component, &self.run.fingerprint) {
            (ComponentSource::BuiltIn { .. }, _) if config.plugs.is_empty() => true,
            // Its bytes may come back as another file, and another time may
            // be all that changed.
            (_, Some(fingerprint)) => is_the_component(config, fingerprint)?,
            (_, None) => false,
        };
        Ok(is_same.then_some(now))
    }
}
