//! A run from start to end: prepares the services, binds, starts the threads,
//! reloads, waits for a signal, drains, and reports how it went.
//!
//! ```text
//!   settings --prepare (a thread)--> Prepared --sockets, threads--> Serving
//!       ^                                                             |
//!       +--- SIGHUP: what has changed is prepared beside what runs,   |
//!            then replaces it; the old generation retires  <----------+
//! ```
//!
//! A service is one component with its settings. A generation of it lasts until
//! its settings or its component change. The listening sockets belong to the
//! run: generations have duplicates, so that no reload closes one that stays.

mod answers;
mod ending;
mod manager;
mod origin;
mod reload;
mod report;
mod service;
mod sockets;
mod starting;
pub(crate) mod takeover;
mod threads;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use netwasm_base::config::{Config, ListenAddress, NEVER, OtlpConfig, RunConfig};
use netwasm_base::error::Error;
use netwasm_base::input;
use netwasm_base::notify::Manager;
use netwasm_base::ticker::Ticker;
use netwasm_net::listener;
use netwasm_net::worker::Ended;

use crate::admin::{Admin, Ask};
use crate::changes::Watcher;
use crate::logging::{self, LogOptions};
use crate::otlp::{Counts, Exporter, Headers};
use crate::signals::{Ending, Signals};
use crate::wiring::Common;

pub use self::origin::{Fetch, Locate, Origin};
use self::reload::{Beginning, By, Refused, Reload, Reloading, Tombstone};
use self::report::{announce, report};
use self::service::{Prepared, Serving};
use self::sockets::Sockets;
use self::starting::{fetch, interfaces, prepare, take_over, try_guests};
use self::takeover::{Predecessor, Successor};
use self::threads::Threads;

/// Step of the clock of the threads' turns.
const STEP: Duration = Duration::from_millis(10);

/// Interval for reporting suppressed lines of the log.
const TELL: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// True if all connections and the command ended by themselves, and no
    /// worker failed.
    pub drained: bool,
    /// Exit code of a command; 0 is success.
    pub code: u8,
}

/// An event of a run, besides signals.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody asks, by the admin interface.
    Asked(Ask),
    /// A worker of a generation serves.
    Begun { generation: u64 },
    /// A worker of a generation has ended.
    Ended {
        generation: u64,
        thread: usize,
        ended: Ended,
    },
    /// A thread could not start, or has panicked.
    ThreadFailed { thread: usize },
    /// A file that the run is made from has changed: `--watch`.
    Changed(PathBuf),
    /// All that a reload needs is ready, or is not to be had.
    Reloaded(Box<Result<Reload, Refused>>),
}

/// Names the system resource that was refused.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Returns the outcome of a run that a signal has ended before it served.
fn ended_before(config: &RunConfig) -> Outcome {
    let listens = |service: &Config| !service.listeners.is_empty();
    Outcome {
        // A program that has not run has not succeeded.
        drained: config.services.iter().any(listens),
        code: 0,
    }
}

/// Runs until a signal ends the run, or until its commands end. SIGTERM and
/// SIGINT start a graceful shutdown, and a second one, at least a second later,
/// aborts what is left. SIGHUP reads settings, components and certificates again,
/// and reopens the access logs; SIGUSR1 only reopens the logs. A change that
/// `watcher` tells is as SIGHUP.
///
/// # Errors
/// Fails if the run cannot start.
pub fn run(
    config: &RunConfig,
    log: LogOptions,
    origin: Origin,
    watcher: Option<&Watcher>,
) -> Result<Outcome, Error> {
    // Signals are caught from here on, so that a signal during compilation is
    // not lost.
    let main = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("a runtime"))?;
    let mut signals = {
        let _entered = main.enter();
        Signals::catch().map_err(system("catching signals"))?
    };
    let origin = Arc::new(origin);
    let Some(fetched) = fetch(config, &origin, &main, &mut signals)? else {
        return Ok(ended_before(config));
    };
    let config = &fetched;
    let started = Instant::now();
    let identity = config.identity()?;
    if let Some(identity) = &identity {
        identity.check()?;
    }
    let exporter = match &config.otlp {
        Some(otlp) => Some(Exporter::start(otlp, &config.services)?),
        None => None,
    };
    let traces = exporter.as_ref();
    let span_counts = traces.map(|it| Arc::clone(&it.counts));
    let otlp_headers = traces.map(|it| it.headers.clone());
    let traces = traces.map(|it| (Arc::clone(&it.sink), it.ratio));
    let is_asked = config.admin.is_some() || config.probes.is_some();
    let common = Common::new(&config.services, is_asked, traces);
    let Some(prepared) = prepare(config, &common, &main, &mut signals)? else {
        return Ok(ended_before(config));
    };
    let (sender, events) = mpsc::unbounded_channel();
    let threads = match prepared.iter().all(Prepared::is_program) {
        true => 1,
        false => config.workers.get(),
    };
    let (predecessor, handed) = take_over(config)?;
    // The admin interface and the probes belong to no service.
    let (own, handed): (Vec<_>, Vec<_>) = handed
        .into_iter()
        .enumerate()
        .partition(|(_, handed)| handed.owner.is_empty());
    let interfaces = interfaces(config, own.into_iter().map(|(_, handed)| handed).collect())?;
    let settings: Vec<_> = prepared.iter().map(|it| it.config.clone()).collect();
    let (sockets, unused) = Sockets::open(handed, &settings, threads)?;
    for name in listener::close_unused() {
        tracing::warn!(
            name,
            "a passed socket is closed, since no listener is fd:{name}: its clients wait as long \
             as the service manager holds it open (FileDescriptorName=)"
        );
    }
    let urls = sockets.urls();
    if let Some(identity) = identity {
        // Before any guest runs, and any thread that serves.
        identity.assume()?;
        tracing::info!(user = identity.shown, "root's rights are given up (--user)");
    }
    let Some(prepared) = try_guests(prepared, &main, &mut signals)? else {
        return Ok(ended_before(config));
    };
    let steps = common.steps.clone();
    let mut server = Server {
        threads: Threads::start(threads, &common.steps, &sender)?,
        events,
        sender,
        origin,
        services: Vec::new(),
        retired: Vec::new(),
        ended_programs: Vec::new(),
        sockets,
        generations: 0,
        reloading: Reloading::default(),
        beginning: None,
        dead_threads: BTreeSet::new(),
        ends: Ends::default(),
        several: config.services.len() > 1,
        shown: config.shown.clone(),
        admin: config.admin.clone(),
        probes: config.probes.clone(),
        shutdown_delay: config.shutdown_delay,
        ends_at: None,
        user: [config.user.clone(), config.group.clone()],
        otlp: config.otlp.clone(),
        otlp_headers,
        span_counts,
        log,
        reloads: [0, 0],
        retired_failed: 0,
        predecessor: predecessor.map(|predecessor| (predecessor, unused)),
        handing: false,
        taken_over: false,
        successor: None,
        interfaces: Vec::new(),
        manager: Manager::of_environment().map(Arc::new),
        watchdog: None,
        _clocks: [
            Ticker::start(STEP, move || steps.advance()).map_err(Error::Thread)?,
            Ticker::start(TELL, logging::tell).map_err(Error::Thread)?,
        ],
        common,
    };
    server.begin(prepared)?;
    for mut interface in interfaces {
        let _entered = main.enter();
        interface.serve(&server.sender)?;
        interface.announce();
        server.interfaces.push(interface);
    }
    announce(&urls, log).map_err(system("standard output"))?;
    tracing::debug!(elapsed = ?started.elapsed(), workers = threads, "serving");
    input::limit_waits();
    if server.predecessor.is_none() {
        server.is_ready();
    }
    if let Some(watcher) = watcher {
        let events = server.sender.clone();
        let tell = move |path: &Path| events.send(Event::Changed(path.to_owned())).is_ok();
        watcher.start(tell).map_err(Error::Thread)?;
    }
    let common = Arc::clone(&server.common);
    let outcome = main.block_on(server.run(signals));
    common.logs.finish();
    if let Some(exporter) = exporter {
        exporter.finish();
    }
    Ok(outcome)
}

/// How the generations of a run ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    aborted: usize,
    failed: usize,
    code: u8,
}

/// A run that has begun.
struct Server {
    threads: Threads,
    common: Arc<Common>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    origin: Arc<Origin>,
    /// The services, in the order of the settings.
    services: Vec<Serving>,
    /// Generations that were replaced and have not ended.
    retired: Vec<Serving>,
    /// Programs that have ended, which no reload runs again.
    ended_programs: Vec<Tombstone>,
    sockets: Sockets,
    /// Number of generations so far.
    generations: u64,
    reloading: Reloading,
    /// Services that a reload has begun, until all their workers serve.
    beginning: Option<Beginning>,
    dead_threads: BTreeSet<usize>,
    ends: Ends,
    /// True if there was more than one service, so that lines name them.
    several: bool,
    /// The settings as a configuration file.
    shown: String,
    /// Address of the admin interface, which no reload changes.
    admin: Option<ListenAddress>,
    /// Address of the probes, which no reload changes.
    probes: Option<ListenAddress>,
    /// Time to serve on after a signal, which no reload changes.
    shutdown_delay: Option<Duration>,
    /// The signal that has asked for the end, and the time at which the drain
    /// begins.
    ends_at: Option<(Ending, Instant)>,
    /// User and group that it has gone on as, which no reload changes.
    user: [Option<String>; 2],
    /// Receiver of traces. A reload changes its headers alone.
    otlp: Option<OtlpConfig>,
    /// Headers of requests to it.
    otlp_headers: Option<Headers>,
    /// Numbers of spans, if there is a receiver.
    span_counts: Option<Arc<Counts>>,
    /// How the log is written, which no reload changes.
    log: LogOptions,
    /// Number of reloads that were done, and that failed.
    reloads: [u64; 2],
    /// Number of workers of retired generations that failed.
    retired_failed: u64,
    /// The process whose sockets were taken, until all workers serve, and the
    /// numbers of the listeners for which there is no use.
    predecessor: Option<(Predecessor, Vec<usize>)>,
    /// True once another process has the listeners, unless it has given up. It
    /// may serve, so that the files of Unix sockets are its own.
    handing: bool,
    /// True once that process serves in place of this one.
    taken_over: bool,
    /// Set once that process serves.
    successor: Option<Successor>,
    /// The admin interface and the probes, as far as they are there.
    interfaces: Vec<Admin>,
    /// The service manager, if there is one.
    manager: Option<Arc<Manager>>,
    /// Time at which the manager is to hear next that the run is alive.
    watchdog: Option<Instant>,
    /// The clock of the turns, and that of the log.
    _clocks: [Ticker; 2],
}

impl Server {
    /// True if no generation is left.
    fn has_ended(&self) -> bool {
        self.services.is_empty() && self.retired.is_empty() && self.beginning.is_none()
    }

    /// True if nothing new begins: it has been asked to end.
    fn is_ending(&self) -> bool {
        self.ends_at.is_some() || self.sockets.are_closed()
    }

    /// Returns the first deadline of a generation, the watchdog's, or that of the
    /// run.
    fn next_deadline(&self) -> Instant {
        let all = self.services.iter().chain(&self.retired);
        let far = Instant::now() + NEVER;
        let all = all.filter_map(|it| it.deadline).chain(self.watchdog);
        let all = all.chain(self.ends_at.map(|(_, drains)| drains));
        all.min().unwrap_or(far)
    }

    /// Takes note of an event.
    fn note(&mut self, event: Event) {
        match event {
            Event::Begun { generation } => self.worker_begun(generation),
            Event::Ended {
                generation,
                thread,
                ended,
            } => self.worker_ended(generation, thread, ended),
            Event::ThreadFailed { thread } => {
                self.ends.failed += 1;
                self.dead_threads.insert(thread);
            }
            Event::Changed(path) if !self.is_ending() => {
                tracing::info!("--watch: {} has changed", path.display());
                self.reload(By::Watch);
            }
            Event::Changed(_) => {}
            Event::Reloaded(reload) => self.reloaded(*reload),
            Event::Asked(ask) => self.answer(ask),
        }
        self.sweep();
    }

    /// Takes note of the end of a worker. The failure of one that a reload has
    /// just begun undoes the reload, and that of a retired one is of no
    /// consequence for those that serve.
    fn worker_ended(&mut self, generation: u64, thread: usize, ended: Ended) {
        let its = |it: &&mut Serving| it.generation == generation;
        if let Some(service) = self.services.iter_mut().find(its) {
            self.ends.failed += usize::from(ended.failed);
            service.worker_ended(thread, ended);
        } else if let Some(service) = self.retired.iter_mut().find(its) {
            service.worker_ended(thread, ended);
            if ended.failed {
                self.retired_failed += 1;
                tracing::warn!(
                    service = service.config.guest.name,
                    generation,
                    "a worker of a generation that was replaced has failed"
                );
            }
        } else {
            self.beginner_ended(generation, thread, ended);
        }
    }

    /// Drops generations of which no worker is left.
    fn sweep(&mut self) {
        let dead = &self.dead_threads;
        let is_over = |service: &mut Serving| {
            service.left.retain(|thread| !dead.contains(thread));
            service.left.is_empty()
        };
        let ended: Vec<_> = self.services.extract_if(.., is_over).collect();
        let retired: Vec<_> = self.retired.extract_if(.., is_over).collect();
        let one_less = !retired.is_empty();
        for service in ended {
            service.finish();
            self.ends.aborted += service.aborted;
            // It may have ended before the reload that has begun it was done.
            self.ends.code = service.code.unwrap_or(self.ends.code);
            if service.is_program() {
                if !self.sockets.are_closed() && !self.services.is_empty() {
                    let name = &service.config.guest.name;
                    tracing::info!(service = name, "a program has ended");
                }
                self.ended_programs.push(Tombstone::of(&service));
            }
            // A program that went well needs no report.
            if !service.is_program() || service.aborted > 0 || self.ends.failed > 0 {
                report(&service, self.several, self.ends.failed);
            }
        }
        for service in retired {
            service.finish();
            if service.forced {
                self.ends.aborted += service.aborted;
            }
            if service.aborted > 0 {
                tracing::warn!(
                    service = service.config.guest.name,
                    aborted = service.aborted,
                    "the generation that was replaced has ended"
                );
            }
        }
        if one_less && !self.sockets.are_closed() {
            // At the end of the run, the last lines are waited for.
            self.common.logs.close_unused();
            self.there_is_room();
        }
    }

    /// Returns the number of another generation.
    fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Begins the first generations.
    fn begin(&mut self, prepared: Vec<Prepared>) -> Result<(), Error> {
        let names = prepared.iter().map(|it| it.config.guest.name.clone());
        let generations = Arc::new(names.map(|name| (name, self.next_generation())).collect());
        let mut ready = Vec::new();
        for prepared in prepared {
            let sockets = self.sockets.of(&prepared.config.guest.name);
            ready.push(prepared.ready(&generations, &sockets, &self.threads)?);
        }
        // The last ones first: they answer on listeners of those before them.
        let begun = ready.into_iter().rev().map(|it| it.begin(&self.threads));
        self.services = begun.collect();
        self.services.reverse();
        Ok(())
    }
}
