//! A run from start to end: builds the shared state, binds, starts the workers,
//! waits for a signal, drains, and reports how it went.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, Runtime};
use tokio::sync::{mpsc, oneshot, watch};

use netwasm_base::config::Config;
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_base::ticker::Ticker;
use netwasm_net::listener;
use netwasm_net::thread::{self, Tick};
use netwasm_net::worker::{self, Assignment, Ended, Phase};

use crate::logging;
use crate::signals::{Asked, Signals};
use crate::wiring::Run;

/// Number of tasks that a worker polls before it looks for new socket events.
/// Most rounds end before that: no task is left, or tasks with more to do have
/// given way (`turns`).
const EVENT_INTERVAL: u32 = 256;

/// Interval for closing expired connections of pools and reporting suppressed
/// lines.
const TIDY: Duration = Duration::from_millis(500);

/// Longest wait, at the end of a run, for workers that have nothing left to do
/// or were told to end.
const STUCK: Duration = Duration::from_secs(10);

/// Stack size of a worker's thread in bytes. A guest's stack is on it.
const STACK: usize = 4 << 20;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// True if all connections and the command ended by themselves, and no
    /// worker failed.
    pub drained: bool,
    /// Exit code of a command; 0 is success.
    pub code: u8,
}

/// Reloads certificates and client authorities after a renewal, and reopens the
/// access log after a rotation. A file that cannot be read leaves the old
/// state.
fn reload(shared: &Run, config: &Config) {
    match shared.net.tls.reload(&config.tls) {
        Ok(()) => tracing::info!(
            certificates = config.tls.certificates.len(),
            "SIGHUP: reloaded"
        ),
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the old certificates and authorities stay");
        }
    }
    if let Some(log) = &shared.http.access_log {
        log.reopen();
    }
}

/// Reopens the access log after a rotation.
fn reopen(shared: &Run) {
    match &shared.http.access_log {
        Some(log) if log.reopen() => tracing::info!("SIGUSR1: opening the access log anew"),
        _ => tracing::info!("SIGUSR1: there is no log file to open anew (--access-log FILE)"),
    }
}

/// Names the system resource that was refused.
fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Runs until a signal ends the run, or until its command ends. SIGTERM and
/// SIGINT start a graceful shutdown, and a second one, at least a second later,
/// aborts what is left. SIGHUP reloads certificates and `--client-ca`, and
/// reopens the access log; SIGUSR1 only reopens the log.
///
/// # Errors
/// Fails if the run cannot start.
pub fn run(config: &Config) -> Result<Outcome, Error> {
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
    let started = Instant::now();
    let Some(shared) = prepare(config, &main, &mut signals)? else {
        return Ok(Outcome {
            // A program that has not run has not succeeded.
            drained: !config.listeners.is_empty(),
            code: 0,
        });
    };
    let guests = &shared.guests;
    let ticker = guests.start_ticker(&config.limits, shared.net.steps.clone());
    let _ticker = ticker.map_err(Error::Thread)?;
    // A guest may ask for timers at its start, as on a worker.
    let trial = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    trial
        .map_err(system("starting a runtime"))?
        .block_on(shared.try_guest())?;
    // A command is one call.
    let workers = match shared.guests.is_program() {
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
    // Clock of the workers' deadlines, sent at each tick.
    let (clock, ticks) = watch::channel::<Tick>(0);
    let begun = Instant::now();
    let tick = thread::tick(&config.limits);
    let pooling = Arc::clone(&shared.net);
    let mut tidied = begun;
    let keep_clock = move || {
        if tidied.elapsed() >= TIDY {
            tidied = Instant::now();
            pooling.pools.expire();
            logging::tell();
        }
        let now = begun.elapsed().as_nanos() / tick.as_nanos().max(1);
        // Sending fails once no worker is left.
        let _ = clock.send(Tick::try_from(now).unwrap_or(Tick::MAX));
    };
    let _clock = Ticker::start("clock", tick, keep_clock).map_err(Error::Thread)?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let (failing, mut failures) = mpsc::unbounded_channel();
    let (ending, ends) = std::sync::mpsc::channel();
    for (number, assignment) in assignments.into_iter().enumerate() {
        let shared = shared.clone();
        let (watched, ticks) = (watched.clone(), ticks.clone());
        let (failing, ending) = (failing.clone(), ending.clone());
        let serve = move || serve(&shared, assignment, watched, ticks);
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .stack_size(STACK)
            .spawn(move || {
                // The panic is already logged.
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
                match signals.next().await {
                    Asked::End(ending) => return ending,
                    Asked::Reload => reload(&shared, config),
                    Asked::Reopen => reopen(&shared),
                }
            }
        };
        drop(watched);
        tokio::select! {
            biased;
            Some(()) = failures.recv() => {
                tracing::error!("a worker has failed: draining the others, to end with a failure");
            }
            ending = next_signal() => {
                tracing::info!(signal = ending.name(), "draining: no new connections");
                shared.net.signal.store(ending.number(), Ordering::Relaxed);
            }
            // The command has ended.
            () = phase.closed() => return,
        }
        let _ = phase.send(Phase::Draining);
        let drained = phase.closed();
        let deadline = tokio::time::sleep(config.limits.shutdown_timeout);
        tokio::select! {
            () = drained => return,
            () = deadline => tracing::warn!("aborting what is left (--shutdown-timeout)"),
            ending = next_signal() => {
                tracing::warn!(signal = ending.name(), "aborting what is left");
            }
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
    shared.net.pools.close();
    if let Some(log) = &shared.http.access_log {
        log.finish();
    }
    // A program that went well needs no report.
    if !shared.guests.is_program() || aborted > 0 || failed > 0 {
        report(&shared.net.counters, aborted, failed);
    }
    Ok(Outcome {
        drained: aborted == 0 && failed == 0,
        code,
    })
}

/// Builds all that the run needs on a thread of its own, because compiling may
/// take minutes. Returns `None` if a signal asked for the end meanwhile.
fn prepare(config: &Config, main: &Runtime, signals: &mut Signals) -> Result<Option<Run>, Error> {
    let (done, mut made) = oneshot::channel();
    let config = config.clone();
    std::thread::Builder::new()
        .name("start".into())
        .spawn(move || {
            // After a signal, nobody receives it.
            let _ = done.send(Run::new(&config));
        })
        .map_err(Error::Thread)?;
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

/// Runs the thread of a worker.
fn serve(
    shared: &Run,
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
            let ended = runtime.block_on(async {
                let (worker, services) = shared.worker();
                worker::run(worker, services, assignment, phase, clock).await
            });
            // A thread that still reads authorities must not delay the end.
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

/// Prints the addresses of the listeners on standard output, in one write, so
/// that a reader never sees half a line.
fn announce(urls: &[String]) -> io::Result<()> {
    let lines: String = urls
        .iter()
        .map(|url| format!("listening {url}\n"))
        .collect();
    let mut out = io::stdout().lock();
    match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        // The program that started this one may not read its output.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Logs how a run went.
fn report(counters: &Counters, aborted: usize, workers_failed: usize) {
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
