//! A generation of a service: a component with its settings, from its
//! compilation to the end of its last connection.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use netwasm_base::config::{ComponentSource, Config};
use netwasm_base::error::Error;
use netwasm_base::ticker::Ticker;
use netwasm_net::listener::Bound;
use netwasm_net::thread::{self, Tick};
use netwasm_net::worker::{Assignment, Ended, Phase};

use crate::logging;
use crate::wiring::{Lasting, Run};

use super::system;
use super::threads::{Begin, Threads};

/// Interval for closing expired connections of pools and reporting suppressed
/// lines.
const TIDY: Duration = Duration::from_millis(500);

/// A service that is ready to serve.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: Config,
    stamp: Option<Stamp>,
    run: Run,
    epoch: Ticker,
    leads: Arc<AtomicBool>,
}

/// State of a component's file. Another one means that the file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the state of a component's file; `None` if it is not a file, or
    /// cannot be looked at.
    pub(super) fn of(component: &ComponentSource) -> Option<Self> {
        let ComponentSource::File(path) = component else {
            return None;
        };
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Prepared {
    /// Compiles a service's component, reads its files, and tries to start the
    /// guest. This may take minutes.
    ///
    /// # Errors
    /// Fails if a file cannot be used, or if an event guest traps at its start.
    pub(super) fn new(config: &Config, lasting: Lasting) -> Result<Self, Error> {
        let stamp = Stamp::of(&config.component);
        let steps = lasting.steps.clone();
        let run = Run::new(config, lasting)?;
        let leads = Arc::new(AtomicBool::new(false));
        let epoch = run
            .guests
            .start_ticker(&config.limits, steps, Arc::clone(&leads))
            .map_err(Error::Thread)?;
        // A guest may ask for timers at its start, as on a worker.
        let trial = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        trial
            .map_err(system("starting a runtime"))?
            .block_on(run.try_guest())?;
        Ok(Self {
            config: config.clone(),
            stamp,
            run,
            epoch,
            leads,
        })
    }

    /// True if the component is one call, rather than serving connections.
    pub(super) fn is_program(&self) -> bool {
        self.run.guests.is_program()
    }

    /// Begins to serve on all threads, with these sockets.
    ///
    /// # Errors
    /// Fails if no descriptor or no thread is left. Then nothing has begun.
    pub(super) fn serve(
        self,
        generation: u64,
        sockets: &[(usize, &Bound)],
        threads: &Threads,
    ) -> Result<Serving, Error> {
        let Self {
            config,
            stamp,
            run,
            epoch,
            leads,
        } = self;
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
            let listeners = bound.listeners(listener.kind, site, &config.limits, &handing)?;
            for (assignment, listener) in assignments.iter_mut().zip(listeners) {
                assignment.listeners.push(listener);
            }
        }
        drop(handing);
        let (clock, ticks) = watch::channel::<Tick>(0);
        let clock = keep_clock(&config, &run, clock)?;
        let (phase, watched) = watch::channel(Phase::Serving);
        for (thread, assignment) in assignments.into_iter().enumerate() {
            let begin = Begin {
                generation,
                run: run.clone(),
                sites: config.sites.clone(),
                routes: config.routes.clone(),
                assignment,
                phase: watched.clone(),
                clock: ticks.clone(),
            };
            threads.begin(thread, begin);
        }
        Ok(Serving {
            generation,
            config,
            stamp,
            run,
            phase,
            since: Instant::now(),
            deadline: None,
            left: workers,
            aborted: 0,
            leads,
            _epoch: epoch,
            _clock: clock,
        })
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
            logging::tell();
        }
        let now = begun.elapsed().as_nanos() / tick.as_nanos().max(1);
        // Sending fails once no worker is left.
        let _ = clock.send(Tick::try_from(now).unwrap_or(Tick::MAX));
    };
    Ticker::start("clock", tick, keep).map_err(Error::Thread)
}

/// A generation of a service that has begun.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) generation: u64,
    pub(super) config: Config,
    pub(super) stamp: Option<Stamp>,
    pub(super) run: Run,
    phase: watch::Sender<Phase>,
    /// Time at which it began.
    pub(super) since: Instant,
    /// Time at which its phase goes on.
    pub(super) deadline: Option<Instant>,
    /// Number of workers that have not ended.
    pub(super) left: usize,
    /// Number of connections that were aborted at its end.
    pub(super) aborted: usize,
    leads: Arc<AtomicBool>,
    /// Interrupts calls that take too long.
    _epoch: Ticker,
    /// Keeps deadlines.
    _clock: Ticker,
}

impl Serving {
    /// Sets whether this service advances the clock of the threads' turns.
    pub(super) fn lead(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    /// Returns what the next generation goes on with.
    pub(super) fn lasting(&self) -> Lasting {
        Lasting {
            counters: Arc::clone(&self.run.net.counters),
            steps: self.run.net.steps.clone(),
            tallies: self.run.http.tallies.clone(),
        }
    }

    /// Returns the present phase.
    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Begins a phase, which ends after this time.
    pub(super) fn enter(&mut self, phase: Phase, lasts: Duration) {
        // Fails if all workers have ended.
        let _ = self.phase.send(phase);
        self.deadline = Instant::now().checked_add(lasts);
    }

    /// Notes the end of a worker.
    pub(super) fn worker_ended(&mut self, ended: Ended) {
        self.left = self.left.saturating_sub(1);
        self.aborted += ended.aborted;
    }

    /// Releases what is left once no worker is.
    pub(super) fn finish(&self) {
        self.run.net.pools.close();
        if let Some(log) = &self.run.http.access_log {
            log.finish();
        }
    }
}
