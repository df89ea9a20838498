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

mod service;
mod sockets;
mod threads;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use netwasm_base::config::{Config, NEVER, RunConfig};
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_base::notify::Manager;
use netwasm_net::turns::Steps;
use netwasm_net::worker::{Ended, Phase};

use crate::admin::{Admin, Ask, ListenerView, ServiceView, View};
use crate::signals::{Asked, Ending, Signals};
use crate::wiring::{Lasting, Run};

use self::service::{Prepared, Serving, Stamp};
use self::sockets::Sockets;
use self::threads::{STACK, Threads};

/// Longest wait, at the end of a run, for workers that have nothing left to do
/// or were told to end.
const STUCK: Duration = Duration::from_secs(10);

/// Time for idle connections to close at the end of a retired generation,
/// before what is left is aborted.
const LAST: Duration = Duration::from_secs(1);

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
pub type Reread = Arc<dyn Fn() -> Result<RunConfig, String> + Send + Sync>;

/// What happens in a run, besides signals.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody asks, by the admin interface.
    Asked(Ask),
    /// A worker of a generation has ended.
    Ended { generation: u64, ended: Ended },
    /// A thread could not start, or has panicked.
    ThreadFailed,
    /// What a reload needs is ready, or is not to be had.
    Reloaded(Box<Result<Reload, String>>),
}

/// What a reload has prepared.
#[derive(Debug)]
pub(crate) struct Reload {
    run: RunConfig,
    /// The services in the order of the settings.
    services: Vec<Next>,
}

/// A service after a reload.
#[derive(Debug)]
enum Next {
    /// It has not changed: the number of its generation.
    Kept(u64),
    /// It is new, or has changed.
    New(Box<Prepared>),
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
pub fn run(config: &RunConfig, reread: Reread) -> Result<Outcome, Error> {
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
    let steps = Steps::default();
    let Some(prepared) = prepare(config, &steps, &main, &mut signals)? else {
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
    let admin = config.admin.as_ref().map(Admin::bind).transpose()?;
    let mut sockets = Sockets::default();
    let urls = sockets.bind(prepared.iter().map(|it| &it.config), threads)?;
    let mut server = Server {
        threads: Threads::start(threads, &steps, &sender)?,
        steps,
        events,
        sender,
        reread,
        services: Vec::new(),
        retired: Vec::new(),
        sockets,
        generations: 0,
        reloading: Reloading::default(),
        dead_threads: 0,
        ends: Ends::default(),
        several: config.services.len() > 1,
        metrics: admin.is_some(),
        shown: config.shown.clone(),
        reloads: [0, 0],
        manager: Manager::of_environment().map(Arc::new),
        watchdog: None,
    };
    // The last ones first: they answer on listeners of those before them.
    for prepared in prepared.into_iter().rev() {
        let serving = server.serve(prepared)?;
        server.services.insert(0, serving);
    }
    server.choose_leader();
    if let Some(admin) = &admin {
        let _entered = main.enter();
        admin.serve(&server.sender)?;
        for url in admin.urls() {
            tracing::info!(url, "the admin interface listens");
        }
    }
    announce(&urls).map_err(system("standard output"))?;
    tracing::debug!(elapsed = ?started.elapsed(), workers = threads, "serving");
    server.is_ready();
    server.watchdog = server
        .manager
        .as_ref()
        .and_then(|it| it.watchdog())
        .map(|_| Instant::now());
    Ok(main.block_on(server.run(signals)))
}

/// Builds all that the services need on a thread of its own, because compiling
/// may take minutes. Returns `None` if a signal asked for the end meanwhile.
fn prepare(
    config: &RunConfig,
    steps: &Steps,
    main: &Runtime,
    signals: &mut Signals,
) -> Result<Option<Vec<Prepared>>, Error> {
    let (done, mut made) = oneshot::channel();
    let services = config.services.clone();
    let steps = steps.clone();
    let metrics = config.admin.is_some();
    on_thread("start", move || {
        let prepared = services
            .iter()
            .map(|service| Prepared::new(service, first(&steps, metrics)));
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

/// Returns what the first generation of a service begins with.
fn first(steps: &Steps, metrics: bool) -> Lasting {
    Lasting {
        steps: steps.clone(),
        tallies: metrics.then(Arc::default),
        ..Lasting::default()
    }
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

/// State of reloads.
#[derive(Debug, Default)]
struct Reloading {
    /// True while what a reload needs is prepared.
    runs: bool,
    /// True if another one was asked for meanwhile.
    again: bool,
    /// Those who wait for the present one.
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    /// Those who wait for the next one.
    next: Vec<oneshot::Sender<Result<(), String>>>,
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
    steps: Steps,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    reread: Reread,
    /// The services, in the order of the settings.
    services: Vec<Serving>,
    /// Generations that were replaced and have not ended.
    retired: Vec<Serving>,
    sockets: Sockets,
    /// Number of generations so far.
    generations: u64,
    reloading: Reloading,
    /// Number of threads that have failed.
    dead_threads: usize,
    ends: Ends,
    /// True if there was more than one service, so that lines name them.
    several: bool,
    /// True if requests are counted for metrics.
    metrics: bool,
    /// The settings as a configuration file.
    shown: String,
    /// Number of reloads that were done, and that failed.
    reloads: [u64; 2],
    /// The service manager, if there is one.
    manager: Option<Arc<Manager>>,
    /// Time at which the manager is to hear next that the run is alive.
    watchdog: Option<Instant>,
}

/// Why a run stops serving.
enum Stop {
    Signal(Ending),
    WorkerFailed,
    /// All services have ended.
    Ended,
}

impl Server {
    /// Serves until a signal or a failure ends the run, and drains.
    async fn run(mut self, mut signals: Signals) -> Outcome {
        match self.until_stop(&mut signals).await {
            Stop::Ended => {}
            Stop::Signal(ending) => {
                tracing::info!(signal = ending.name(), "draining: no new connections");
                for service in self.services.iter().chain(&self.retired) {
                    let signal = &service.run.net.signal;
                    signal.store(ending.number(), Ordering::Relaxed);
                }
                self.drain(&mut signals).await;
            }
            Stop::WorkerFailed => {
                tracing::error!("a worker has failed: draining the others, to end with a failure");
                self.drain(&mut signals).await;
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
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => {
                    self.note(event);
                    if self.ends.failed > 0 {
                        return Stop::WorkerFailed;
                    }
                    if self.services.is_empty() && self.retired.is_empty() {
                        return Stop::Ended;
                    }
                }
                asked = signals.next() => match asked {
                    Asked::End(ending) => return Stop::Signal(ending),
                    Asked::Reload => self.reload(),
                    Asked::Reopen => self.reopen(),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    /// Ends all generations: lets connections come to their end until the
    /// deadline or another signal, and then aborts what is left.
    async fn drain(&mut self, signals: &mut Signals) {
        self.sockets.close();
        if let Some(manager) = &self.manager {
            manager.stopping("draining: no new connections");
        }
        for service in self.services.iter_mut().chain(&mut self.retired) {
            let limit = service.config.limits.shutdown_timeout;
            if service.phase() != Phase::Draining {
                service.enter(Phase::Draining, limit);
            }
        }
        while !self.has_ended() {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                asked = signals.next() => match asked {
                    Asked::End(ending) => {
                        tracing::warn!(signal = ending.name(), "aborting what is left");
                        self.abort();
                    }
                    Asked::Reload | Asked::Reopen => self.reopen(),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    /// True if no generation is left.
    fn has_ended(&self) -> bool {
        self.services.is_empty() && self.retired.is_empty()
    }

    fn abort(&mut self) {
        for service in self.services.iter_mut().chain(&mut self.retired) {
            if service.phase() != Phase::Aborting {
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
        let several = self.several;
        let all = self.retired.iter_mut().chain(&mut self.services);
        let mut stuck = 0;
        for service in all {
            if service.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            match service.phase() {
                Phase::Serving => service.deadline = None,
                Phase::Retiring => service.enter(Phase::Draining, LAST),
                Phase::Draining => {
                    tracing::warn!(
                        service = several.then_some(&*service.config.guest.name),
                        "aborting what is left (--shutdown-timeout)"
                    );
                    service.enter(Phase::Aborting, STUCK);
                }
                Phase::Aborting => {
                    tracing::error!(
                        "a worker does not end: the system keeps it, perhaps for a slow disk"
                    );
                    stuck += service.left;
                    service.left = 0;
                }
            }
        }
        self.ends.failed += stuck;
        self.sweep();
    }

    /// Takes note of an event.
    fn note(&mut self, event: Event) {
        match event {
            Event::Ended { generation, ended } => {
                self.ends.failed += usize::from(ended.failed);
                if let Some(code @ 1..) = ended.code {
                    self.ends.code = code;
                }
                let mut all = self.services.iter_mut().chain(&mut self.retired);
                if let Some(service) = all.find(|it| it.generation == generation) {
                    service.worker_ended(ended);
                }
            }
            Event::ThreadFailed => {
                self.ends.failed += 1;
                self.dead_threads += 1;
            }
            Event::Reloaded(reload) => self.reloaded(*reload),
            Event::Asked(ask) => self.answer(ask),
        }
        self.sweep();
    }

    /// Drops generations of which no worker is left.
    fn sweep(&mut self) {
        let dead = self.dead_threads;
        let mut is_left = |service: &mut Serving, counts: bool| {
            if service.left > dead {
                return true;
            }
            service.finish();
            if counts {
                self.ends.aborted += service.aborted;
                let is_program = service.run.guests.is_program();
                // A program that went well needs no report.
                if !is_program || service.aborted > 0 || self.ends.failed > 0 {
                    report(service, self.several, self.ends.failed);
                }
            } else if service.aborted > 0 {
                tracing::warn!(
                    service = service.config.guest.name,
                    aborted = service.aborted,
                    "the generation that was replaced has ended"
                );
            }
            false
        };
        self.services.retain_mut(|service| is_left(service, true));
        self.retired.retain_mut(|service| is_left(service, false));
        self.choose_leader();
    }

    /// Begins a generation.
    fn serve(&mut self, prepared: Prepared) -> Result<Serving, Error> {
        self.generations += 1;
        let sockets = self.sockets.of(&prepared.config.guest.name);
        prepared.serve(self.generations, &sockets, &self.threads)
    }

    /// Lets the first service advance the clock of the turns.
    fn choose_leader(&self) {
        for (number, service) in self.services.iter().enumerate() {
            service.lead(number == 0);
        }
    }

    /// Reopens the access logs after a rotation.
    fn reopen(&self) {
        match self.reopen_logs() {
            true => tracing::info!("SIGUSR1: opening the access log anew"),
            false => {
                tracing::info!("SIGUSR1: there is no log file to open anew (--access-log FILE)");
            }
        }
    }

    /// Returns true if there is a log that is a file.
    fn reopen_logs(&self) -> bool {
        let mut files = false;
        let logs = self
            .services
            .iter()
            .filter_map(|it| it.run.http.access_log.as_ref());
        for log in logs {
            files |= log.reopen();
        }
        files
    }

    /// Begins to read the settings, components and certificates anew.
    fn reload(&mut self) {
        self.reopen_logs();
        if self.reloading.runs {
            // What it has read may be old already.
            self.reloading.again = true;
            return;
        }
        self.reloading.waiting = std::mem::take(&mut self.reloading.next);
        let current: Vec<_> = self
            .services
            .iter()
            .map(|service| Current {
                generation: service.generation,
                config: service.config.clone(),
                stamp: service.stamp,
                run: service.run.clone(),
                lasting: service.lasting(),
            })
            .collect();
        let (reread, events) = (Arc::clone(&self.reread), self.sender.clone());
        let (steps, metrics) = (self.steps.clone(), self.metrics);
        let begun = on_thread("reload", move || {
            let work = || prepare_reload(&*reread, &current, &first(&steps, metrics));
            // A panic is already logged.
            let reload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err("reading it panicked".into()));
            drop(current);
            let _ = events.send(Event::Reloaded(Box::new(reload)));
        });
        match begun {
            Ok(()) => {
                self.reloading.runs = true;
                if let Some(manager) = &self.manager {
                    manager.reloading();
                }
            }
            Err(error) => self.reload_ended(&Err(error.to_string())),
        }
    }

    /// Ends a reload: what it has prepared replaces what runs.
    fn reloaded(&mut self, reload: Result<Reload, String>) {
        self.reloading.runs = false;
        let done = match reload {
            // The run is ending.
            Ok(_) if self.sockets.are_closed() => Err("the run is ending".into()),
            Ok(reload) => self.replace(reload),
            Err(reason) => Err(reason),
        };
        self.reload_ended(&done);
        if std::mem::take(&mut self.reloading.again) && !self.sockets.are_closed() {
            self.reload();
        }
    }

    /// Tells how a reload went: the log, and those who wait for it.
    fn reload_ended(&mut self, done: &Result<(), String>) {
        let [well, badly] = &mut self.reloads;
        match done {
            Ok(()) => *well += 1,
            Err(reason) => {
                *badly += 1;
                tracing::error!("SIGHUP: everything stays as it was: {reason}");
            }
        }
        if !self.sockets.are_closed() {
            self.is_ready();
        }
        for waiting in self.reloading.waiting.drain(..) {
            // It may have left.
            let _ = waiting.send(done.clone());
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
            Ask::Reload(reply) if self.sockets.are_closed() => {
                let _ = reply.send(Err("the run is ending".into()));
            }
            Ask::Reload(reply) => {
                self.reloading.next.push(reply);
                self.reload();
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
            reloads: self.reloads,
            draining,
        }
    }

    /// Replaces the services that have changed.
    fn replace(&mut self, reload: Reload) -> Result<(), String> {
        let Reload { run, services } = reload;
        let line = |error: Error| error.to_string();
        let threads = self.threads.count();
        let sockets = self.sockets.next(&run.services, threads).map_err(line)?;
        let mut next = Vec::new();
        let mut names = Vec::new();
        // As at the start, the last ones first.
        for service in services.into_iter().rev() {
            match service {
                Next::Kept(generation) => next.push(Err(generation)),
                Next::New(prepared) => {
                    names.push(prepared.config.guest.name.clone());
                    self.generations += 1;
                    let its = sockets.of(&self.sockets, &prepared.config.guest.name);
                    match prepared.serve(self.generations, &its, &self.threads) {
                        Ok(serving) => next.push(Ok(serving)),
                        Err(error) => {
                            for mut begun in next.into_iter().flatten() {
                                begun.enter(Phase::Aborting, STUCK);
                                self.retired.push(begun);
                            }
                            return Err(line(error));
                        }
                    }
                }
            }
        }
        self.several |= next.len() > 1;
        next.reverse();
        names.reverse();
        let mut old = std::mem::take(&mut self.services);
        for service in next {
            match service {
                Ok(serving) => self.services.push(serving),
                Err(generation) => {
                    let kept = old.iter().position(|it| it.generation == generation);
                    self.services.extend(kept.map(|place| old.remove(place)));
                }
            }
        }
        for mut service in old {
            service.lead(false);
            let limit = service.config.limits.shutdown_timeout;
            service.enter(Phase::Retiring, limit);
            self.retired.push(service);
        }
        let (opened, closed) = self.sockets.replace(sockets);
        if let Err(error) = announce(&opened) {
            tracing::warn!(%error, "cannot print the new listeners");
        }
        for url in closed {
            tracing::info!(url, "no longer listening");
        }
        self.choose_leader();
        self.shown = run.shown;
        let certificates = run.services.iter().map(|it| it.tls.certificates.len());
        tracing::info!(
            certificates = certificates.sum::<usize>(),
            replaced = names.join(" "),
            "SIGHUP: reloaded"
        );
        Ok(())
    }
}

/// A service as it runs when a reload begins.
#[derive(Debug)]
struct Current {
    generation: u64,
    config: Config,
    stamp: Option<Stamp>,
    run: Run,
    lasting: Lasting,
}

/// Reads the settings anew, and prepares what has changed.
///
/// # Errors
/// Fails with a line that says what is wrong. Certificates of services that
/// stay are read last, so that nothing has changed then.
fn prepare_reload(
    reread: &dyn Fn() -> Result<RunConfig, String>,
    current: &[Current],
    first: &Lasting,
) -> Result<Reload, String> {
    let mut run = reread()?;
    if let Some(first) = current.first() {
        let (present, given) = (first.config.workers, run.workers);
        if present != given {
            tracing::warn!(
                present,
                given,
                "another number of --workers needs a restart: the present one stays"
            );
        }
        run.workers = present;
        for service in &mut run.services {
            service.workers = present;
        }
    }
    let mut services = Vec::new();
    let mut kept = Vec::new();
    let mut changed = Vec::new();
    // The last ones first: if one changes, so do those on whose listeners it
    // answers.
    for config in run.services.iter().rev() {
        let before = current
            .iter()
            .find(|it| it.config.guest.name == config.guest.name);
        let others = config.sites.iter().flat_map(|it| &it.others);
        let others_stay = others.clone().all(|(name, _)| !changed.contains(&name));
        match before {
            Some(before)
                if before.config == *config
                    && before.stamp == Stamp::of(&config.component)
                    && others_stay =>
            {
                kept.push((before, config));
                services.push(Next::Kept(before.generation));
            }
            before => {
                changed.push(&config.guest.name);
                let lasting = before.map_or_else(
                    || Lasting {
                        // Each service has its own.
                        counters: Arc::default(),
                        tallies: first.tallies.as_ref().map(|_| Arc::default()),
                        steps: first.steps.clone(),
                    },
                    |before| before.lasting.clone(),
                );
                let prepared = Prepared::new(config, lasting);
                let prepared = prepared.map_err(|error| error.to_string())?;
                services.push(Next::New(Box::new(prepared)));
            }
        }
    }
    for (before, config) in kept {
        before
            .run
            .net
            .tls
            .reload(&config.tls)
            .map_err(|error| format!("{error} (the old certificates and authorities stay)"))?;
    }
    services.reverse();
    Ok(Reload { run, services })
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

/// Logs how a service went.
fn report(service: &Serving, is_named: bool, workers_failed: usize) {
    let counters: &Counters = &service.run.net.counters;
    tracing::info!(
        service = is_named.then_some(&*service.config.guest.name),
        accepted = counters.connections_accepted.get(),
        made = counters.connections_made.get(),
        closed = counters.connections_closed.get(),
        lost = counters.connections_lost.get(),
        reclaimed = counters.connections_reclaimed.get(),
        waited = counters.connections_waited.get(),
        left_behind = counters.left_behind.get(),
        left_behind_ended = counters.left_behind_ended.get(),
        handshakes_failed = counters.handshakes_failed.get(),
        proxies_refused = counters.proxies_refused.get(),
        datagrams = counters.datagrams_received.get(),
        requests = counters.requests.get(),
        requests_refused = counters.requests_refused.get(),
        responses_refused = counters.responses_refused.get(),
        files_failed = counters.files_failed.get(),
        traps = counters.traps.get(),
        denied = counters.denied.get(),
        instances_failed = counters.instances_failed.get(),
        aborted = service.aborted,
        workers_failed,
        "ended"
    );
}
