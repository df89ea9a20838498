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

mod reload;
mod service;
mod sockets;
pub(crate) mod takeover;
mod threads;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use netwasm_base::config::{Config, ListenAddress, NEVER, RunConfig};
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_base::notify::Manager;
use netwasm_base::ticker::Ticker;
use netwasm_net::worker::{Ended, Phase};

use crate::admin::{Admin, Ask, ListenerView, ServiceView, View};
use crate::logging::{self, LogOptions};
use crate::signals::{Asked, Ending, Signals};
use crate::wiring::{Common, Lasting};

use self::reload::{Beginning, Refused, Reload, Reloading, Tombstone};
use self::service::{Prepared, Serving};
use self::sockets::Sockets;
use self::takeover::{Luggage, Predecessor};
use self::threads::{STACK, Threads};

/// Longest wait, at the end of a run, for workers that have nothing left to do
/// or were told to end.
const STUCK: Duration = Duration::from_secs(10);

/// Time for idle connections to close at the end of a retired generation,
/// before what is left is aborted.
const LAST: Duration = Duration::from_secs(1);

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

/// Reads the settings anew, for a reload. The error is one line.
pub type Reread = Arc<dyn Fn() -> Result<(RunConfig, LogOptions), String> + Send + Sync>;

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
    /// All that a reload needs is ready, or is not to be had.
    Reloaded(Box<Result<Reload, Refused>>),
}

/// Names the system resource that was refused.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Runs until a signal ends the run, or until its commands end. SIGTERM and
/// SIGINT start a graceful shutdown, and a second one, at least a second later,
/// aborts what is left. SIGHUP reads settings, components and certificates anew,
/// and reopens the access logs; SIGUSR1 only reopens the logs.
///
/// # Errors
/// Fails if the run cannot start.
pub fn run(config: &RunConfig, log: LogOptions, reread: Reread) -> Result<Outcome, Error> {
    // Signals are caught from here on, so that a signal during compilation is
    // not lost.
    let main = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("a runtime"))?;
    let signals = {
        let _entered = main.enter();
        Signals::catch().map_err(system("catching signals"))?
    };
    let mut signals = signals;
    let started = Instant::now();
    let common = Common::new(&config.services, config.admin.is_some());
    let Some(prepared) = prepare(config, &common, &main, &mut signals)? else {
        let listens = |service: &Config| !service.listeners.is_empty();
        return Ok(Outcome {
            // A program that has not run has not succeeded.
            drained: config.services.iter().any(listens),
            code: 0,
        });
    };
    let (sender, events) = mpsc::unbounded_channel();
    let threads = match prepared.iter().all(Prepared::is_program) {
        true => 1,
        false => config.workers.get(),
    };
    let (predecessor, handed) = match (config.takeover, &config.admin) {
        (true, Some(ListenAddress::Unix(socket))) => match takeover::take(socket)? {
            Some((predecessor, handed)) => (Some(predecessor), handed),
            None => {
                tracing::info!("--takeover: no run is there to take over from");
                (None, Vec::new())
            }
        },
        _ => (None, Vec::new()),
    };
    // The admin interface belongs to no service.
    let (of_admin, handed): (Vec<_>, Vec<_>) = handed
        .into_iter()
        .enumerate()
        .partition(|(_, handed)| handed.owner.is_empty());
    let of_admin = of_admin.into_iter().flat_map(|(_, handed)| handed.bound);
    let of_admin: Vec<_> = of_admin.collect();
    let admin = match &config.admin {
        None => None,
        Some(address) if of_admin.is_empty() => Some(Admin::bind(address)?),
        Some(address) => Some(Admin::adopt(of_admin, address)),
    };
    let settings: Vec<_> = prepared.iter().map(|it| it.config.clone()).collect();
    let (sockets, unused) = Sockets::open(handed, &settings, threads)?;
    let urls = sockets.urls();
    let steps = common.steps.clone();
    let mut server = Server {
        threads: Threads::start(threads, &common.steps, &sender)?,
        events,
        sender,
        reread,
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
        log,
        reloads: [0, 0],
        retired_failed: 0,
        predecessor: predecessor.map(|predecessor| (predecessor, unused)),
        successor: None,
        handed_after: 0,
        interface: None,
        manager: Manager::of_environment().map(Arc::new),
        watchdog: None,
        _clocks: [
            Ticker::start(STEP, move || steps.advance()).map_err(Error::Thread)?,
            Ticker::start(TELL, logging::tell).map_err(Error::Thread)?,
        ],
        common,
    };
    server.begin(prepared)?;
    if let Some(mut admin) = admin {
        let _entered = main.enter();
        admin.serve(&server.sender)?;
        for url in admin.urls() {
            tracing::info!(url, "the admin interface listens");
        }
        server.interface = Some(admin);
    }
    announce(&urls).map_err(system("standard output"))?;
    tracing::debug!(elapsed = ?started.elapsed(), workers = threads, "serving");
    if let (Some(manager), Some(_)) = (&server.manager, &server.predecessor) {
        manager.is_main();
    }
    server.is_ready();
    server.watchdog = server
        .manager
        .as_ref()
        .and_then(|it| it.watchdog())
        .map(|_| Instant::now());
    let common = Arc::clone(&server.common);
    let outcome = main.block_on(server.run(signals));
    common.logs.finish();
    Ok(outcome)
}

/// Builds all that the services need on a thread of its own, because compiling
/// may take minutes. Returns `None` if a signal asked for the end meanwhile.
fn prepare(
    config: &RunConfig,
    common: &Arc<Common>,
    main: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Vec<Prepared>>, Error> {
    let (done, mut made) = oneshot::channel();
    let services = config.services.clone();
    let common = Arc::clone(common);
    on_thread("start", move || {
        let prepared = services
            .iter()
            .map(|service| Prepared::new(service, Lasting::first(&common)));
        // After a signal, nobody receives it.
        let _ = done.send(prepared.collect::<Result<Vec<_>, _>>());
    })?;
    main.block_on(async {
        loop {
            tokio::select! {
                biased;
                made = &mut made => {
                    // The panic is already logged.
                    let failed = |_| Error::Engine("the start failed".into());
                    return made.map_err(failed)?.map(Some);
                }
                asked = signals.next() => if let Asked::End(ending) = asked {
                    tracing::info!(signal = ending.name(), "ended before it served");
                    return Ok(None);
                },
            }
        }
    })
}

/// Runs a task on a thread of its own, on which guests may run, too.
fn on_thread(name: &str, task: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(task)
        .map(drop)
        .map_err(Error::Thread)
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
    reread: Reread,
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
    /// How the log is written, which no reload changes.
    log: LogOptions,
    /// Number of reloads that were done, and that failed.
    reloads: [u64; 2],
    /// Number of workers of retired generations that failed.
    retired_failed: u64,
    /// The process whose sockets were taken, until all workers serve, and the
    /// numbers of the listeners for which there is no use.
    predecessor: Option<(Predecessor, Vec<usize>)>,
    /// Set once another process has taken the sockets: the numbers of the
    /// listeners for which it has no use, and to whom it says that it drains.
    successor: Option<(Vec<usize>, oneshot::Sender<()>)>,
    /// Number of reloads when the listeners were last handed over.
    handed_after: u64,
    /// The admin interface, if there is one.
    interface: Option<Admin>,
    /// The service manager, if there is one.
    manager: Option<Arc<Manager>>,
    /// Time at which the manager is to hear next that the run is alive.
    watchdog: Option<Instant>,
    /// The clock of the turns, and that of the log.
    _clocks: [Ticker; 2],
}

/// Why a run stops serving.
enum Stop {
    Signal(Ending),
    WorkerFailed,
    /// All services have ended.
    Ended,
    /// Another process has taken the listeners, but for those of these numbers.
    TakenOver(Vec<usize>, oneshot::Sender<()>),
}

impl Server {
    /// Serves until a signal or a failure ends the run, and drains.
    async fn run(mut self, mut signals: Signals) -> Outcome {
        match self.until_stop(&mut signals).await {
            Stop::Ended => {}
            Stop::Signal(ending) => {
                tracing::info!(signal = ending.name(), "draining: no new connections");
                self.pass_on(ending);
                self.drain(&mut signals, true).await;
            }
            Stop::TakenOver(unused, reply) => {
                tracing::info!("another process has taken over: draining");
                self.sockets.leave(&unused);
                if let Some(interface) = self.interface.take() {
                    interface.leave();
                }
                self.give_up_reload();
                for service in self.services.iter_mut().chain(&mut self.retired) {
                    if service.phase() == Phase::Serving {
                        // Idle connections wait for one more request.
                        service.retire();
                    }
                }
                // It may have ended.
                let _ = reply.send(());
                self.until_ended(&mut signals, false).await;
            }
            Stop::WorkerFailed => {
                tracing::error!("a worker has failed: draining the others, to end with a failure");
                self.drain(&mut signals, false).await;
            }
        }
        let Ends {
            aborted,
            failed,
            code,
        } = self.ends;
        Outcome {
            drained: aborted == 0 && failed == 0,
            code,
        }
    }

    async fn until_stop(&mut self, signals: &mut Signals) -> Stop {
        loop {
            // By whatever they have ended.
            if self.ends.failed > 0 {
                return Stop::WorkerFailed;
            }
            if self.has_ended() {
                return Stop::Ended;
            }
            if let Some((unused, reply)) = self.successor.take() {
                return Stop::TakenOver(unused, reply);
            }
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                asked = signals.next() => match asked {
                    Asked::End(ending) => return Stop::Signal(ending),
                    Asked::Reload => self.reload(),
                    Asked::Reopen => self.reopen("SIGUSR1"),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    /// Lets programs know of a signal.
    fn pass_on(&self, ending: Ending) {
        for service in self.services.iter().chain(&self.retired) {
            let signal = &service.run.net.signal;
            signal.store(ending.number(), Ordering::Relaxed);
        }
    }

    /// Lets connections come to their end until the deadline of each service.
    fn drain_all(&mut self) {
        for service in self.services.iter_mut().chain(&mut self.retired) {
            let limit = service.config.limits.shutdown_timeout;
            if matches!(service.phase(), Phase::Serving | Phase::Retiring) {
                service.enter(Phase::Draining, limit);
            }
        }
    }

    /// Ends all generations: lets connections come to their end until the
    /// deadline or another signal, and then aborts what is left. `asked` says
    /// that a signal has asked for the end.
    async fn drain(&mut self, signals: &mut Signals, asked: bool) {
        self.sockets.close();
        if let Some(manager) = &self.manager {
            manager.stopping("draining: no new connections");
        }
        self.give_up_reload();
        self.drain_all();
        self.until_ended(signals, asked).await;
    }

    /// Waits until all generations have ended. The first signal drains them,
    /// unless that was asked for already; another one aborts what is left.
    async fn until_ended(&mut self, signals: &mut Signals, mut is_asked: bool) {
        while !self.has_ended() {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                asked = signals.next() => match asked {
                    Asked::End(ending) if !is_asked => {
                        is_asked = true;
                        tracing::info!(signal = ending.name(), "draining: a second signal aborts");
                        self.pass_on(ending);
                        self.drain_all();
                    }
                    Asked::End(ending) => {
                        tracing::warn!(signal = ending.name(), "aborting what is left");
                        self.abort();
                    }
                    Asked::Reload => {
                        tracing::info!("SIGHUP: the run is ending, so nothing is read anew");
                        self.reopen("SIGHUP");
                    }
                    Asked::Reopen => self.reopen("SIGUSR1"),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    /// True if no generation is left.
    fn has_ended(&self) -> bool {
        self.services.is_empty() && self.retired.is_empty() && self.beginning.is_none()
    }

    fn abort(&mut self) {
        for service in self.services.iter_mut().chain(&mut self.retired) {
            if service.phase() != Phase::Aborting {
                service.forced = true;
                service.enter(Phase::Aborting, STUCK);
            }
        }
    }

    /// Returns the first deadline of a generation, or the watchdog's.
    fn next_deadline(&self) -> Instant {
        let all = self.services.iter().chain(&self.retired);
        let far = Instant::now() + NEVER;
        let all = all.filter_map(|it| it.deadline).chain(self.watchdog);
        all.min().unwrap_or(far)
    }

    /// Tells the manager that the run serves.
    fn is_ready(&self) {
        if let Some(manager) = &self.manager {
            let names = self.services.iter().map(|it| &*it.config.guest.name);
            let names = names.collect::<Vec<_>>().join(", ");
            manager.ready(&format!("serving {names}"));
        }
    }

    /// Tells the manager that the run is alive, once all threads have said so.
    fn feed_watchdog(&mut self, now: Instant) {
        let Some(manager) = self.manager.clone() else {
            return;
        };
        let Some(interval) = manager.watchdog() else {
            return;
        };
        if self.watchdog.is_none_or(|due| due > now) {
            return;
        }
        self.watchdog = now.checked_add(interval / 3);
        let (reply, mut replies) = mpsc::unbounded_channel();
        self.threads.ping(&reply);
        drop(reply);
        let threads = self.threads.count();
        tokio::spawn(async move {
            for _ in 0..threads {
                if replies.recv().await.is_none() {
                    return;
                }
            }
            manager.alive();
        });
    }

    /// Moves generations whose deadline has passed to their next phase.
    fn pass_deadlines(&mut self) {
        let now = Instant::now();
        self.feed_watchdog(now);
        let (several, is_ending) = (self.several, self.sockets.are_closed());
        let mut stuck = [0, 0];
        let services = self.services.iter_mut().map(|it| (it, 0));
        let retired = self.retired.iter_mut().map(|it| (it, 1));
        for (service, place) in services.chain(retired) {
            if service.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            match service.phase() {
                Phase::Serving => service.deadline = None,
                Phase::Retiring => {
                    service.overdue = !is_ending;
                    service.enter(Phase::Draining, LAST);
                }
                Phase::Draining => {
                    tracing::warn!(
                        service = several.then_some(&*service.config.guest.name),
                        "aborting what is left (--shutdown-timeout)"
                    );
                    service.forced = is_ending && !service.overdue;
                    service.enter(Phase::Aborting, STUCK);
                }
                Phase::Aborting => {
                    tracing::error!(
                        "a worker does not end: the system keeps it, perhaps for a slow disk"
                    );
                    let left = std::mem::take(&mut service.left).len();
                    if let Some(stuck) = stuck.get_mut(place) {
                        *stuck += left;
                    }
                }
            }
        }
        let [failed, retired_failed] = stuck;
        self.ends.failed += failed;
        self.retired_failed += retired_failed as u64;
        self.sweep();
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
            if let Some(code @ 1..) = ended.code {
                self.ends.code = code;
            }
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

    /// Begins the first generations.
    fn begin(&mut self, prepared: Vec<Prepared>) -> Result<(), Error> {
        let mut ready = Vec::new();
        for prepared in prepared {
            self.generations += 1;
            let sockets = self.sockets.of(&prepared.config.guest.name);
            ready.push(prepared.ready(self.generations, &sockets, &self.threads)?);
        }
        // The last ones first: they answer on listeners of those before them.
        let begun = ready.into_iter().rev().map(|it| it.begin(&self.threads));
        self.services = begun.collect();
        self.services.reverse();
        Ok(())
    }

    /// Reopens the access logs after a rotation.
    fn reopen(&self, signal: &str) {
        match self.common.logs.reopen() {
            true => tracing::info!("{signal}: opening the access log anew"),
            false => {
                tracing::info!("{signal}: there is no log file to open anew (--access-log FILE)");
            }
        }
    }

    /// Answers the admin interface.
    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::View(reply) => {
                // It may have left, here and below.
                let _ = reply.send(self.view());
            }
            Ask::Connections(reply) => self.threads.describe(&reply),
            Ask::HandOver(reply) => {
                let _ = reply.send(self.luggage());
            }
            // Too late, or it answers once nothing is accepted any more.
            Ask::TakenOver { .. } if self.sockets.are_closed() => {}
            Ask::TakenOver { unused, reply } => {
                // A reload may have changed the listeners since.
                let is_known = self.handed_after == self.reloads[0];
                let unused = if is_known { unused } else { Vec::new() };
                self.successor = Some((unused, reply));
            }
            Ask::Reload(reply) if self.sockets.are_closed() => {
                let _ = reply.send(Err("the run is ending".into()));
            }
            Ask::Reload(reply) => {
                self.reloading.next.push(reply);
                self.reload();
            }
        }
    }

    /// Packs the listeners for another process.
    fn luggage(&mut self) -> Result<Luggage, String> {
        let mut programs = self.services.iter().filter(|it| it.run.guests.is_program());
        if let Some(program) = programs.next() {
            return Err(format!(
                "{} is a program, whose sockets are its own: end this run, and then start the \
                 other",
                program.config.guest.name
            ));
        }
        if self.sockets.are_closed() {
            return Err("the run is ending".into());
        }
        if self.beginning.is_some() {
            return Err("a reload is under way: try again".into());
        }
        self.handed_after = self.reloads[0];
        let of_admin = self.interface.iter().map(Admin::listener);
        let all = self.sockets.listeners().chain(of_admin);
        Luggage::pack(all).map_err(|error| error.to_string())
    }

    /// Ends the process whose sockets were taken, once all workers serve.
    fn end_predecessor(&mut self) {
        if self.services.iter().any(|service| service.beginning > 0) {
            return;
        }
        if let Some((predecessor, unused)) = self.predecessor.take() {
            let ended = predecessor.end(&unused);
            self.sockets.own();
            if let Some(interface) = &mut self.interface {
                interface.own();
            }
            match ended {
                Ok(()) => tracing::info!("--takeover: the other run no longer accepts"),
                Err(error) => {
                    tracing::warn!(%error, "--takeover: the other run does not say that it ends");
                }
            }
        }
    }

    fn view(&self) -> View {
        let draining = self.sockets.are_closed();
        let listeners = self.sockets.all().map(|(service, bound)| ListenerView {
            service: service.to_owned(),
            url: bound.url.clone(),
            accepted: bound.accepted.get(),
        });
        let listeners: Vec<_> = listeners.collect();
        View {
            not_ready: match (draining, listeners.is_empty()) {
                (true, _) => Some("draining"),
                (false, true) => Some("nothing listens"),
                (false, false) => None,
            },
            config: self.shown.clone(),
            services: self
                .services
                .iter()
                .map(|service| ServiceView {
                    name: service.config.guest.name.clone(),
                    component: service.config.component.to_string(),
                    generation: service.generation,
                    since: service.since,
                    counters: Arc::clone(&service.run.net.counters),
                    tallies: service.run.http.tallies.clone(),
                })
                .collect(),
            listeners,
            workers: self.threads.count(),
            retiring: self.retired.len(),
            retired_failed: self.retired_failed,
            reloads: self.reloads,
            draining,
        }
    }
}

/// Prints the addresses of the listeners on standard output, in one write, so
/// that a reader never sees half a line.
fn announce(urls: &[String]) -> io::Result<()> {
    let lines: String = urls
        .iter()
        .map(|url| format!("listening {url}\n"))
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        // The program that started this one may not read its output.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Logs how a service went: the connections that it accepted, and all other
/// counts that are not zero.
fn report(service: &Serving, is_named: bool, workers_failed: usize) {
    let counters: &Counters = &service.run.net.counters;
    let some = |count: u64| Some(count).filter(|count| *count > 0);
    let several = |count: usize| Some(count).filter(|count| *count > 0);
    tracing::info!(
        service = is_named.then_some(&*service.config.guest.name),
        accepted = counters.connections_accepted.get(),
        made = some(counters.connections_made.get()),
        closed = some(counters.connections_closed.get()),
        lost = some(counters.connections_lost.get()),
        reclaimed = some(counters.connections_reclaimed.get()),
        waited = some(counters.connections_waited.get()),
        left_behind = some(counters.left_behind.get()),
        left_behind_ended = some(counters.left_behind_ended.get()),
        handshakes_failed = some(counters.handshakes_failed.get()),
        proxies_refused = some(counters.proxies_refused.get()),
        clients_refused = some(counters.clients_refused.get()),
        datagrams = some(counters.datagrams_received.get()),
        requests = some(counters.requests.get()),
        requests_refused = some(counters.requests_refused.get()),
        responses_refused = some(counters.responses_refused.get()),
        files_failed = some(counters.files_failed.get()),
        traps = some(counters.traps.get()),
        denied = some(counters.denied.get()),
        instances_failed = some(counters.instances_failed.get()),
        aborted = several(service.aborted),
        workers_failed = several(workers_failed),
        "ended"
    );
}
