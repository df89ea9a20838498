//! A worker's part in a run: it serves until the run drains, or runs a program
//! to its end.

use std::io;
use std::rc::Rc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::accept::Accepted;
use crate::checks;
use crate::listener::Listener;
use crate::service::{Program, Services};
use crate::thread::Tick;
use crate::worker::{ACCEPT, Worker};

use super::accepting::Accepting;

/// Tasks that the worker depends on.
#[derive(Debug, Default)]
struct Vital(JoinSet<io::Result<()>>);

impl Vital {
    /// Runs a task, which may end but must not fail.
    fn spawn(&mut self, task: impl Future<Output = io::Result<()>> + 'static) -> AbortHandle {
        self.0.spawn_local(task)
    }

    /// Waits until one of the tasks fails, by an error or a panic.
    async fn failed(&mut self) {
        loop {
            match self.0.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    tracing::error!(%error, "a worker fails");
                    return;
                }
                Some(Err(error)) if error.is_cancelled() => {}
                // The panic was logged.
                Some(Err(_)) => return,
                None => std::future::pending().await,
            }
        }
    }
}

/// Stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// New connections are accepted.
    Serving,
    /// Another generation of the service accepts the new connections; existing
    /// ones come to their end. Idle ones wait for one more request.
    Retiring,
    /// Graceful shutdown: no new connections; existing ones come to their end.
    Draining,
    /// The run waits for nothing more.
    Aborting,
}

/// Listeners and connections of a worker.
#[derive(Debug)]
pub struct Assignment {
    /// The worker's own listeners.
    pub listeners: Vec<Listener>,
    /// Connections that another worker accepted for this one.
    pub handed: mpsc::UnboundedReceiver<Accepted>,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Number of aborted connections; 1 for an aborted program.
    pub aborted: usize,
    /// Exit code of the program.
    pub code: Option<u8>,
    /// True if the worker could not go on, or never began.
    pub failed: bool,
}

/// Serves until the service ends, or runs the program to its end. To be run on
/// a thread whose main task runs the turns. Calls `begun` once it serves.
///
/// [`Worker::end`] ends what is left then.
pub async fn run(
    worker: Rc<Worker>,
    services: Services,
    assignment: Assignment,
    phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
    begun: impl FnOnce(),
) -> Ended {
    let mut vital = Vital::default();
    let ended = serve(
        &worker, services, assignment, phase, clock, begun, &mut vital,
    )
    .await;
    vital.0.shutdown().await;
    ended
}

async fn serve(
    worker: &Rc<Worker>,
    mut services: Services,
    assignment: Assignment,
    mut phase: watch::Receiver<Phase>,
    clock: watch::Receiver<Tick>,
    begun: impl FnOnce(),
    vital: &mut Vital,
) -> Ended {
    let program = services.program.take();
    let services = Rc::new(services);
    let thread = &worker.thread;
    vital.spawn(Rc::clone(worker).watch_deadlines(Rc::clone(&services), clock));
    vital.spawn(Rc::clone(worker).make_room(Rc::clone(&services)));
    vital.spawn(checks::watch(Rc::clone(worker)));
    let listening = match listen(worker, &services, assignment.listeners, vital) {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(%error, "a worker cannot watch a listening socket");
            return Ended {
                failed: true,
                ..Ended::default()
            };
        }
    };
    let taking = take_handed(Rc::clone(worker), Rc::clone(&services), assignment.handed);
    // It ends by itself, once no other worker can hand anything over. Until then,
    // the worker waits for it.
    let active = thread.active();
    vital.spawn(async move {
        taking.await;
        drop(active);
        Ok(())
    });

    begun();
    if let Some(program) = program {
        return command(worker, program, phase, vital).await;
    }
    let mut failed = tokio::select! {
        // An error means that the server is gone, which ends the run as well.
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => false,
        () = vital.failed() => true,
    };
    for (task, accepting) in listening {
        // It holds no connection where it can be aborted.
        task.abort();
        if accepting.is_removed() {
            let active = thread.active();
            vital.spawn(async move {
                let accepted = accepting.accept_rest().await;
                drop(active);
                accepted
            });
        }
    }
    let retiring = |phase: &watch::Receiver<Phase>| *phase.borrow() == Phase::Retiring;
    let spares_idle = !failed && retiring(&phase);
    worker.drain(spares_idle);
    if spares_idle {
        tokio::select! {
            () = thread.all_ended() => {}
            _ = phase.wait_for(|phase| *phase != Phase::Retiring) => worker.drain(false),
            () = vital.failed() => failed = true,
        }
    }
    if !failed {
        tokio::select! {
            () = thread.all_ended() => {}
            _ = phase.wait_for(|phase| *phase == Phase::Aborting) => {}
            () = vital.failed() => failed = true,
        }
    }
    // A worker that fails has nothing left to enforce its connections'
    // deadlines.
    let aborted = worker.abort().await;
    services.tick();
    Ended {
        aborted,
        code: None,
        failed,
    }
}

/// Begins to serve listeners. Returns those of streams, with the tasks that accept
/// their connections.
///
/// # Errors
/// Fails if the runtime cannot watch a socket.
fn listen(
    worker: &Rc<Worker>,
    services: &Rc<Services>,
    listeners: Vec<Listener>,
    vital: &mut Vital,
) -> io::Result<Vec<(AbortHandle, Rc<Accepting>)>> {
    let thread = &worker.thread;
    let mut listening = Vec::new();
    for listener in listeners {
        match listener {
            Listener::Stream(listener) => {
                let accepting = Rc::new(Accepting::new(worker, services, listener)?);
                let task = vital.spawn(Rc::clone(&accepting).accept_all());
                listening.push((task, accepting));
            }
            Listener::Datagram(socket) => {
                let Some(service) = &services.datagrams else {
                    continue;
                };
                let (active, turn) = (thread.active(), thread.turns.turn());
                let serving = service.serve(thread, socket, &turn);
                vital.spawn(async move {
                    let result = turn.run(serving).await;
                    drop(active);
                    result
                });
            }
        }
    }
    Ok(listening)
}

/// Serves connections that other workers accepted for this one.
async fn take_handed(
    worker: Rc<Worker>,
    services: Rc<Services>,
    mut handed: mpsc::UnboundedReceiver<Accepted>,
) {
    let turn = worker.thread.turns.turn();
    while let Some(accepted) = handed.recv().await {
        worker.accept(&services, accepted);
        if !handed.is_empty() {
            turn.pause(ACCEPT).await;
        }
    }
}

/// Runs the program until it ends, or is made to end. Its connections end with
/// it, as a process's do.
async fn command(
    worker: &Rc<Worker>,
    program: Program,
    mut phase: watch::Receiver<Phase>,
    vital: &mut Vital,
) -> Ended {
    let mut aborting = phase.clone();
    let draining = Rc::clone(worker);
    worker.thread.spawn_local(async move {
        // An error means that the server is gone, which ends the run as well.
        let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
        draining.drain(false);
    });
    let mut failed = false;
    let turn = worker.thread.turns.turn();
    // A task of its own, since the main task's polls begin the rounds of the
    // turns.
    let mut running = JoinSet::new();
    running.spawn_local(async move { turn.run(program).await });
    let code = tokio::select! {
        code = running.join_next() => {
            let code = code.and_then(Result::ok);
            // `None` means a panic, which was logged.
            failed = code.is_none();
            code
        }
        _ = aborting.wait_for(|phase| *phase == Phase::Aborting) => None,
        () = vital.failed() => {
            failed = true;
            None
        }
    };
    if code.is_some() {
        worker.close_all().await;
    } else {
        worker.abort().await;
    }
    running.shutdown().await;
    Ended {
        aborted: usize::from(code.is_none()),
        code,
        failed,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use netwasm_base::config::Limits;

    use super::*;
    use crate::listener::StreamListener;
    use crate::testing::{connection, in_worker};

    #[test]
    fn a_task_that_must_live_and_does_not_is_noticed() {
        in_worker(Limits::default(), async |_| {
            let mut vital = Vital::default();
            vital.spawn(async { Ok(()) });
            vital.spawn(std::future::pending()).abort();
            let ended = tokio::time::timeout(Duration::from_millis(10), vital.failed());
            assert!(
                ended.await.is_err(),
                "what has ended in order is no failure"
            );
            vital.spawn(async { panic!("as it was told") });
            vital.failed().await;
            vital.spawn(async { Err(io::ErrorKind::OutOfMemory.into()) });
            vital.failed().await;
        });
    }

    #[test]
    fn a_worker_that_cannot_watch_a_listener_fails_and_has_not_begun() {
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            // epoll(7) takes no files.
            let file = tempfile::tempfile().expect("a file");
            let (_handing, handed) = mpsc::unbounded_channel();
            let assignment = Assignment {
                listeners: vec![Listener::Stream(StreamListener::of(file.into()))],
                handed,
            };
            let (_phase, phase) = watch::channel(Phase::Serving);
            let (_clock, clock) = watch::channel::<Tick>(0);
            let serving = run(
                worker,
                Services::default(),
                assignment,
                phase,
                clock,
                || panic!("it does not serve"),
            );
            let ended = serving.await;
            assert!(ended.failed);
        });
    }

    #[test]
    fn the_tasks_of_a_worker_end_with_it_and_what_they_begin_in_their_end() {
        struct Begins(Rc<Worker>, Rc<()>);

        impl Drop for Begins {
            fn drop(&mut self) {
                let held = Rc::clone(&self.1);
                self.0.thread.spawn_local(async move {
                    std::future::pending::<()>().await;
                    drop(held);
                });
            }
        }

        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let held = Rc::new(());
            let begins = Begins(Rc::clone(&worker), Rc::clone(&held));
            let turn = worker.thread.turns.turn();
            worker.thread.spawn_aside(turn, async move {
                std::future::pending::<()>().await;
                drop(begins);
            });
            let (transport, _client) = connection(&worker);
            worker.drive(&transport, std::future::pending());
            tokio::task::yield_now().await;
            worker.end().await;
            assert_eq!(Rc::strong_count(&held), 1);
            assert!(!worker.thread.is_active());
        });
    }

    #[test]
    fn a_clock_that_stops_is_noticed() {
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let (clock, ticks) = watch::channel::<Tick>(0);
            let mut vital = Vital::default();
            vital.spawn(Rc::clone(&worker).watch_deadlines(Rc::default(), ticks));
            clock.send(7).expect("it listens");
            while worker.thread.now() < 7 {
                tokio::task::yield_now().await;
            }
            drop(clock);
            vital.failed().await;
        });
    }
}
