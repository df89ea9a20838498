//! A run from its beginning to its end: build what is shared, bind, start the
//! workers, wait for a signal, drain, and say how it went.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::config::{Config, GuestConfig, Isolation, Limits};
use crate::dns::Sources;
use crate::error::{ConnectionError, Error};
use crate::files::Roots;
use crate::http::access_log::AccessLog;
use crate::listener;
use crate::logging;
use crate::parked::Pools;
use crate::places::Places;
use crate::policy::{Denied, Policy};
use crate::ticker::Ticker;
use crate::tls::Tls;
use crate::turns::Steps;
use crate::wasm::concurrent::Background;
use crate::wasm::engine::Loaded;
use crate::wasm::guest_log::GuestLog;
use crate::wasm::room::Room;
use crate::wasm::wasi::WasiSetup;
use crate::worker::{self, Assignment, Ended, Tick};

/// How many tasks a worker polls before it looks for new events of its sockets.
/// Most rounds end before that: no task is left, or those that have more to do
/// have given way (`turns`).
const EVENT_INTERVAL: u32 = 256;

/// How often it is looked for what is no longer needed.
const TIDY: Duration = Duration::from_millis(500);

/// How long the end of a run waits for workers that have nothing left to do, or
/// were told to end.
const STUCK: Duration = Duration::from_secs(10);

/// The stack of a worker's thread, bytes: a guest's stack is on it.
const STACK: usize = 4 << 20;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Accepting.
    Serving,
    /// Waiting for connections to end.
    Draining,
    /// Ending those that are left.
    Aborting,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// True if all connections, and the command, had ended by themselves, and
    /// no worker failed.
    pub drained: bool,
    /// What a command said of itself; 0 is success.
    pub code: u8,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) isolation: Isolation,
    pub(crate) room: Room,
    pub(crate) guest: GuestConfig,
    pub(crate) policy: Policy,
    pub(crate) names: Arc<Sources>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) roots: Roots,
    pub(crate) program: Loaded,
    pub(crate) log: GuestLog,
    pub(crate) wasi: WasiSetup,
    pub(crate) counters: Arc<Counters>,
    pub(crate) access_log: Option<AccessLog>,
    /// Of accepted connections.
    pub(crate) places: Arc<Places>,
    /// Outgoing connections that are still allowed.
    outgoing: Arc<Semaphore>,
    pub(crate) background: Background,
    pub(crate) pools: Pools,
    /// The clock of the workers' turns.
    pub(crate) steps: Steps,
}

impl Shared {
    /// Builds all that a run needs and that can go wrong before it begins.
    ///
    /// # Errors
    /// The component, a certificate or a directory cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let roots = Roots::open(&config.guest.dirs)?;
        let tls = Arc::new(Tls::load(&config.tls)?);
        if !config.policy.connect.is_empty() {
            tls.prepare_client();
        }
        let log = GuestLog::new(&config.guest.name);
        let (program, isolation, room) = Loaded::load(config)?;
        let awaits = program.events().is_err();
        let wasi = WasiSetup::new(&config.guest, &config.limits, awaits, log.clone())?;
        let counters: Arc<Counters> = Arc::default();
        Ok(Self {
            limits: config.limits.clone(),
            isolation,
            guest: config.guest.clone(),
            policy: config.policy.clone(),
            names: Arc::new(Sources::new(&config.dns)),
            tls,
            roots,
            program,
            log,
            wasi,
            places: Places::new(room.connections, &counters),
            outgoing: Arc::new(Semaphore::new(config.limits.max_outgoing)),
            background: Background::new(&config.limits, &counters),
            counters,
            access_log: config
                .access_log
                .as_ref()
                .map(AccessLog::open)
                .transpose()?,
            pools: Pools::new().map_err(system("epoll"))?,
            room,
            steps: Steps::default(),
        })
    }

    /// Reads certificates and the authorities of clients anew and opens the
    /// access log anew, as after a renewal and a rotation. What cannot be read
    /// stays as it was.
    fn reload(&self, config: &Config) {
        match self.tls.reload(&config.tls) {
            Ok(()) => tracing::info!(
                certificates = config.tls.certificates.len(),
                "SIGHUP: reloaded"
            ),
            Err(error) => {
                tracing::error!(%error, "SIGHUP: the old certificates and authorities stay");
            }
        }
        if let Some(log) = &self.access_log {
            log.reopen();
        }
    }

    /// One more outgoing connection.
    ///
    /// # Errors
    /// There are as many as are allowed.
    pub(crate) fn try_outgoing_permit(&self) -> Result<OwnedSemaphorePermit, ConnectionError> {
        Arc::clone(&self.outgoing)
            .try_acquire_owned()
            .map_err(|_| ConnectionError::LimitExceeded("--max-outgoing is reached"))
    }

    /// Logs all that was denied of something, as of the addresses of a name.
    pub(crate) fn deny_all(&self, denied: &[Denied]) {
        for denied in denied {
            self.deny(denied);
        }
    }

    /// Logs what the policy denied, with the flag that would allow it.
    pub(crate) fn deny(&self, denied: &Denied) {
        self.counters.denied.add();
        tracing::warn!(guest = %self.guest.name, "{denied}");
    }
}

/// What was counted in a run; told at its end.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_made: Counter,
    pub(crate) connections_closed: Counter,
    pub(crate) connections_lost: Counter,
    /// Idle connections that were closed for new ones, at `--max-connections`.
    pub(crate) connections_reclaimed: Counter,
    /// How often a new connection had to wait, at `--max-connections`.
    pub(crate) connections_waited: Counter,
    /// How often a guest that awaits went on when nobody waited for it any more.
    pub(crate) left_behind: Counter,
    /// How often it was ended then.
    pub(crate) left_behind_ended: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) datagrams_received: Counter,
    pub(crate) requests: Counter,
    pub(crate) requests_refused: Counter,
    pub(crate) responses_refused: Counter,
    pub(crate) instances_failed: Counter,
    /// Files that are there, but could not be opened or read.
    pub(crate) files_failed: Counter,
    pub(crate) traps: Counter,
    pub(crate) denied: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that no task sees to the end of: dropping it counts it as
/// closed.
#[derive(Debug)]
pub(crate) struct Counted(Option<Arc<Counters>>);

impl Counted {
    /// One that was counted when it was made.
    pub(crate) fn new(counters: &Arc<Counters>) -> Self {
        Self(Some(Arc::clone(counters)))
    }

    /// A task sees to it from now on.
    pub(crate) fn resume(mut self) {
        self.0 = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(counters) = &self.0 {
            counters.connections_closed.add();
        }
    }
}

/// Names what the machine did not give.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Runs until a signal ends it, or the command that it runs. SIGTERM and SIGINT
/// drain, a second one aborts what is left; SIGHUP reads certificates and
/// `--client-ca` anew and opens the access log anew.
///
/// # Errors
/// What keeps it from starting.
pub fn run(config: &Config) -> Result<Outcome, Error> {
    // Signals are caught from here on, so that one that comes while the
    // component is compiled is not lost.
    let main = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("a runtime"))?;
    let (mut terminate, mut interrupt, mut hangup) = {
        let _entered = main.enter();
        let catch = |kind| signal(kind).map_err(system("catching signals"));
        (
            catch(SignalKind::terminate())?,
            catch(SignalKind::interrupt())?,
            catch(SignalKind::hangup())?,
        )
    };
    let started = Instant::now();
    let shared = Arc::new(Shared::new(config)?);
    // A command is one call.
    let workers = match shared.program.is_command() {
        true => 1,
        false => config.workers.get(),
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
    let mut urls = Vec::new();
    let mut files = Vec::new();
    for listener in &config.listeners {
        for bound in listener::bind(listener, workers, &config.limits, &handing)? {
            urls.extend(bound.urls);
            files.extend(bound.file);
            for (assignment, socket) in assignments.iter_mut().zip(bound.sockets) {
                assignment.listeners.push(socket);
            }
        }
    }
    drop(handing);
    let ticker = shared
        .program
        .start_ticker(&config.limits, shared.steps.clone());
    let _ticker = ticker.map_err(Error::Thread)?;
    // As of each tick, the time that the workers' deadlines go by.
    let (clock, ticks) = watch::channel::<Tick>(0);
    let begun = Instant::now();
    let tick = worker::tick(&config.limits);
    let pooling = Arc::clone(&shared);
    let mut tidied = begun;
    let keep_clock = move || {
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            pooling.pools.expire();
            logging::tell();
        }
        let now = begun.elapsed().as_nanos() / tick.as_nanos().max(1);
        // Without workers nobody wants to know.
        let _ = clock.send(Tick::try_from(now).unwrap_or(Tick::MAX));
    };
    let _clock = Ticker::start("clock", tick, keep_clock).map_err(Error::Thread)?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let (failing, mut failures) = mpsc::unbounded_channel();
    let (ending, ends) = std::sync::mpsc::channel();
    for (number, assignment) in assignments.into_iter().enumerate() {
        let shared = Arc::clone(&shared);
        let (watched, ticks) = (watched.clone(), ticks.clone());
        let (failing, ending) = (failing.clone(), ending.clone());
        let serve = move || serve(shared, assignment, watched, ticks);
        thread::Builder::new()
            .name(format!("worker-{number}"))
            .stack_size(STACK)
            .spawn(move || {
                // The panic was logged.
                let ended = catch_unwind(AssertUnwindSafe(serve)).unwrap_or_else(|_| Ended {
                    failed: true,
                    ..Ended::default()
                });
                if ended.failed {
                    let _ = failing.send(());
                }
                let _ = ending.send(ended);
            })
            .map_err(Error::Thread)?;
    }
    announce(&urls).map_err(system("standard output"))?;
    tracing::debug!(elapsed = ?started.elapsed(), workers, "serving");

    main.block_on(async {
        let mut next_signal = async || {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return "SIGTERM",
                    _ = interrupt.recv() => return "SIGINT",
                    _ = hangup.recv() => shared.reload(config),
                }
            }
        };
        drop(watched);
        tokio::select! {
            biased;
            Some(()) = failures.recv() => {
                tracing::error!("a worker has failed: draining the others, to end with a failure");
            }
            name = next_signal() => tracing::info!(signal = name, "draining: no new connections"),
            // The command has ended.
            () = phase.closed() => return,
        }
        let _ = phase.send(Phase::Draining);
        let drained = phase.closed();
        let deadline = tokio::time::sleep(config.limits.shutdown_timeout);
        tokio::select! {
            () = drained => return,
            () = deadline => tracing::warn!("aborting what is left (--shutdown-timeout)"),
            name = next_signal() => tracing::warn!(signal = name, "aborting what is left"),
        }
        let _ = phase.send(Phase::Aborting);
    });
    let mut aborted = 0;
    let mut code = 0;
    let mut failed = 0;
    let deadline = Instant::now() + STUCK;
    for _ in 0..workers {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(ended) = ends.recv_timeout(left) else {
            tracing::error!("a worker does not end: the system keeps it, perhaps for a slow disk");
            failed += 1;
            continue;
        };
        aborted += ended.aborted;
        code = ended.code.unwrap_or(code);
        failed += usize::from(ended.failed);
    }
    drop(files);
    shared.pools.close();
    if let Some(log) = &shared.access_log {
        log.finish();
    }
    // Nobody asks a program for an account of how it went.
    if !shared.program.is_command() || aborted > 0 || failed > 0 {
        shared.report(aborted, failed);
    }
    Ok(Outcome {
        drained: aborted == 0 && failed == 0,
        code,
    })
}

/// The thread of a worker.
fn serve(
    shared: Arc<Shared>,
    assignment: Assignment,
    phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
) -> Ended {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(worker::run(shared, assignment, phase, clock));
            // A thread that still reads authorities must not hold up the end.
            runtime.shutdown_background();
            ended
        }
        Err(error) => {
            tracing::error!(%error, "a worker cannot start");
            Ended {
                failed: true,
                ..Ended::default()
            }
        }
    }
}

/// Tells on standard output where to connect to, in one write, so that a
/// reader never sees half a line.
fn announce(urls: &[String]) -> io::Result<()> {
    let lines: String = urls
        .iter()
        .map(|url| format!("listening {url}\n"))
        .collect();
    let mut out = io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        // Whoever started us does not want to know.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

impl Shared {
    fn report(&self, aborted: usize, workers_failed: usize) {
        let counters = &self.counters;
        tracing::info!(
            accepted = counters.connections_accepted.get(),
            made = counters.connections_made.get(),
            closed = counters.connections_closed.get(),
            lost = counters.connections_lost.get(),
            reclaimed = counters.connections_reclaimed.get(),
            waited = counters.connections_waited.get(),
            left_behind = counters.left_behind.get(),
            left_behind_ended = counters.left_behind_ended.get(),
            handshakes_failed = counters.handshakes_failed.get(),
            datagrams = counters.datagrams_received.get(),
            requests = counters.requests.get(),
            requests_refused = counters.requests_refused.get(),
            responses_refused = counters.responses_refused.get(),
            files_failed = counters.files_failed.get(),
            traps = counters.traps.get(),
            denied = counters.denied.get(),
            instances_failed = counters.instances_failed.get(),
            aborted,
            workers_failed,
            "ended"
        );
    }
}
