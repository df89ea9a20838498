//! Async instances, and the calls into them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use send_wrapper::SendWrapper;
use tokio::task::unconstrained;
use wasmtime::Store;
use wasmtime::component::{Accessor, AccessorTask, HasSelf, Instance};
use wasmtime_wasi::I32Exit;

use netwasm_base::config::Isolation;
use netwasm_base::error::ConnectionError;
use netwasm_net::health::Health;
use netwasm_net::stream::Stream;
use netwasm_net::thread::{Active, Thread};
use netwasm_net::transport::Transport;

use crate::concurrent::bindings::exports::netwasm::net::stream_handler::Guest;
use crate::concurrent::handles::ConnectionHandle;
use crate::concurrent::program::{Entry, Program};
use crate::concurrent::state::AsyncState;
use crate::frames;
use crate::instance::{also_lost, note_trap, one_line, reason};
use crate::local::Local;
use crate::served::Served;
use crate::timed::Timed;
use crate::wasi;

/// Instance that all connections of a worker share.
pub(crate) type KeptCalls = RefCell<Option<Calls>>;

/// Gives connections to an instance that all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Calls {
    coming: Rc<Coming>,
    health: Rc<Health>,
}

/// Connections that wait for their call. A simple queue, because the instance
/// polls it at every step.
#[derive(Debug, Default)]
struct Coming {
    streams: RefCell<VecDeque<Arrived>>,
    waker: RefCell<Option<Waker>>,
}

/// A connection that waits for its call. The worker's shutdown waits for the
/// call's end.
#[derive(Debug)]
struct Arrived {
    stream: Rc<Stream>,
    _active: Active,
}

impl Coming {
    fn push(&self, arrived: Arrived) {
        self.streams.borrow_mut().push_back(arrived);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<Arrived> {
        if let Some(arrived) = self.streams.borrow_mut().pop_front() {
            return Poll::Ready(arrived);
        }
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    async fn next(&self) -> Arrived {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// Begins the guest's call for a connection.
pub(crate) fn serve(
    local: &Rc<Local>,
    program: &Arc<Program>,
    kept: &KeptCalls,
    transport: &Rc<Transport>,
) -> Rc<Stream> {
    match local.env.isolation {
        Isolation::Connection | Isolation::Request => {
            let health = Rc::default();
            let stream = Stream::new(transport, &health);
            let (serving, program) = (Rc::clone(local), Arc::clone(program));
            let connection = Rc::clone(&stream);
            local
                .worker
                .thread
                .spawn(Rc::clone(&transport.turn), async move {
                    serve_one(&serving, &program, &health, connection).await;
                });
            stream
        }
        Isolation::Worker => {
            let mut shared = kept.borrow_mut();
            let calls = match &mut *shared {
                Some(calls) if !calls.health.is_gone() => calls,
                shared => shared.insert(Calls::begin(local, program)),
            };
            let stream = Stream::new(transport, &calls.health);
            calls.coming.push(Arrived {
                stream: Rc::clone(&stream),
                _active: local.worker.thread.active(),
            });
            stream
        }
    }
}

impl Calls {
    /// Starts an instance that takes connections until it traps or exits.
    pub(crate) fn begin(local: &Rc<Local>, program: &Arc<Program>) -> Self {
        let calls = Self {
            coming: Rc::default(),
            health: Rc::default(),
        };
        let (coming, health) = (Rc::clone(&calls.coming), Rc::clone(&calls.health));
        let (local, program) = (Rc::clone(local), Arc::clone(program));
        let thread = Rc::clone(&local.worker.thread);
        let life = async move {
            serve_all(&local, &program, &health, &coming).await;
            // Connections that came too late.
            for arrived in coming.streams.take() {
                arrived.stream.transport().fail(ConnectionError::Aborted);
            }
        };
        // Shutdown waits for the connections; this task ends with the worker.
        thread.spawn_aside(thread.turns.turn(), life);
        calls
    }
}

/// Runs an instance of one connection.
async fn serve_one(local: &Rc<Local>, program: &Program, health: &Rc<Health>, stream: Rc<Stream>) {
    let Some((mut store, guest)) = instantiate(local, program, health, &stream).await else {
        return;
    };
    let connection = Rc::clone(&stream);
    let running = store.run_concurrent(async |accessor| {
        call(accessor, &guest, SendWrapper::new(stream)).await?;
        // Tasks that the guest spawned go on.
        poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
        Ok(())
    });
    let running = in_turns(&local.worker.thread, health, running);
    let background = &local.env.background;
    match background.bound(connection.over(), running).await {
        Some(ended) => {
            let served = Served {
                peer: Some(connection.transport().peer().clone()),
                ..Served::default()
            };
            settle(&store, health, &served, ended);
        }
        None => health.trapped(),
    }
}

/// Runs an instance of all connections of a worker.
async fn serve_all(local: &Rc<Local>, program: &Program, health: &Rc<Health>, coming: &Coming) {
    let first = coming.next().await;
    let Some((mut store, guest)) = instantiate(local, program, health, &first.stream).await else {
        // The next connection gets a new instance.
        health.trapped();
        return;
    };
    let guest = Arc::new(guest);
    let running = store.run_concurrent(async |accessor| {
        let mut next = first;
        loop {
            accessor.spawn(TaskCall {
                guest: Arc::clone(&guest),
                arrived: SendWrapper::new(next),
            })?;
            next = coming.next().await;
        }
    });
    let ended = in_turns(&local.worker.thread, health, running).await;
    // The guest does not tell for which connection it ran.
    settle(&store, health, &Served::default(), ended);
}

/// Runs an instance's loop, one turn a poll.
///
/// A guest may make many host calls in a poll. With tokio's budget for a task,
/// the 129th would find nothing ready, and a guest of WASI 0.2 that has just
/// polled takes that for a full buffer. The guest's time limits the poll
/// instead.
pub(super) async fn in_turns<R>(
    thread: &Thread,
    health: &Health,
    running: impl Future<Output = R>,
) -> R {
    let mut running = pin!(unconstrained(running));
    poll_fn(|cx| {
        health.begin_turn();
        let timed = Timed::begin(thread);
        let polled = running.as_mut().poll(cx);
        timed.end(thread);
        polled
    })
    .await
}

/// A call, as a task of its store.
struct TaskCall {
    guest: Arc<Guest>,
    arrived: SendWrapper<Arrived>,
}

impl AccessorTask<AsyncState, HasSelf<AsyncState>> for TaskCall {
    async fn run(self, accessor: &Accessor<AsyncState>) -> wasmtime::Result<()> {
        let stream = SendWrapper::new(Rc::clone(&self.arrived.stream));
        call(accessor, &self.guest, stream).await
    }
}

async fn call(
    accessor: &Accessor<AsyncState>,
    guest: &Guest,
    stream: SendWrapper<Rc<Stream>>,
) -> wasmtime::Result<()> {
    // Many may begin in one turn, and each has the time of an event.
    stream.moved();
    let handle = ConnectionHandle(stream);
    let handle = accessor.with(|mut store| store.data_mut().table.push(handle))?;
    guest.call_handle(accessor, handle).await
}

/// Makes an instance for its first connection. Fails that connection if this is
/// impossible.
async fn instantiate(
    local: &Rc<Local>,
    program: &Program,
    health: &Rc<Health>,
    stream: &Stream,
) -> Option<(Store<AsyncState>, Guest)> {
    let made = async {
        let Entry::Streams(indices) = &program.entry else {
            wasmtime::bail!("the component takes no streams");
        };
        let (mut store, instance) = program.instantiate(AsyncState::new(local, health)).await?;
        let guest = indices.load(&mut store, &instance)?;
        Ok((store, guest))
    };
    match made.await {
        Ok(made) => Some(made),
        Err(error) => {
            local.env.net.counters.instances_failed.add();
            let peer = stream.transport().peer();
            let error = reason(&error, &local.env.net.limits);
            tracing::error!(%peer, %error, "no instance for a connection");
            stream.transport().fail(ConnectionError::Aborted);
            None
        }
    }
}

/// Records and logs how an instance ended.
fn settle(
    store: &Store<AsyncState>,
    health: &Health,
    served: &Served,
    ended: wasmtime::Result<wasmtime::Result<()>>,
) {
    let Err(error) = ended.and_then(|ended| ended) else {
        return;
    };
    if wasi::has_exited(&error) {
        health.exited();
        note_exit(store, "handle");
    } else {
        health.trapped();
        report(store, "handle", served, &error);
    }
}

/// Logs that a guest exited with success.
pub(super) fn note_exit(store: &Store<AsyncState>, call: &str) {
    let guest = &store.data().env().net.guest;
    tracing::info!(%guest, call, "the guest exited");
}

/// Logs that a guest trapped.
pub(super) fn report(
    store: &Store<AsyncState>,
    call: &str,
    served: &Served,
    error: &wasmtime::Error,
) {
    let state = store.data();
    let env = state.env();
    let mut reason = note_trap(&state.local, &state.memory, error);
    if reason.contains("handle limit exceeded") {
        reason = "the guest holds too many handles (--max-handles)".to_owned();
    }
    let peer = served.peer.as_ref().map(tracing::field::display);
    let (request, waiting) = (served.request.as_deref(), served.waiting.as_deref());
    let frames = frames::of_trap(error);
    let panic = state.panic();
    let also_lost = also_lost(&state.local);
    tracing::error!(
        guest = %env.net.guest, call, peer, request, waiting, panic, frames,
        "the guest trapped: {reason}{also_lost}"
    );
    tracing::debug!(guest = %env.net.guest, "{error:?}");
}

/// Runs a command to its end. Returns its exit code, which is 1 after a trap.
pub(crate) async fn run(local: &Rc<Local>, program: &Program) -> u8 {
    let health = Rc::default();
    let made = program.instantiate(AsyncState::new(local, &health)).await;
    let (mut store, instance) = match made {
        Ok(made) => made,
        Err(error) => {
            let error = one_line(&error);
            tracing::error!(guest = %local.env.net.guest, %error, "the guest cannot start");
            return 1;
        }
    };
    let mut life = Running::new(&health);
    let running = call_run(local, program, &mut store, &instance);
    match in_turns(&local.worker.thread, &health, running).await {
        Ok(ended) => {
            life.end();
            u8::from(ended.is_err())
        }
        Err(error) => match error.downcast_ref() {
            Some(I32Exit(code)) => {
                life.end();
                // An exit code that does not fit a byte is a failure
                // nonetheless.
                u8::try_from(*code).unwrap_or(1)
            }
            None => {
                report(&store, "run", &Served::default(), &error);
                1
            }
        },
    }
}

async fn call_run(
    local: &Rc<Local>,
    program: &Program,
    store: &mut Store<AsyncState>,
    instance: &Instance,
) -> wasmtime::Result<Result<(), ()>> {
    match &program.entry {
        Entry::RunP3(indices) => {
            let command = indices.load(&mut *store, instance)?;
            let run = async |accessor: &Accessor<AsyncState>| {
                let ended = command.wasi_cli_run().call_run(accessor).await;
                // Tasks that it spawned go on: a server that has stopped
                // accepting still has clients. Graceful shutdown waits only for
                // those.
                let rest = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
                tokio::select! {
                    () = rest => {}
                    () = local.worker.thread.all_drained() => {}
                }
                ended
            };
            store.run_concurrent(run).await?
        }
        Entry::RunP2(indices) => {
            let command = indices.load(&mut *store, instance)?;
            command.wasi_cli_run().call_run(store).await
        }
        Entry::Streams(_) | Entry::Proxy(_) | Entry::Service(_) => {
            Err(wasmtime::Error::msg("the component is not a command"))
        }
    }
}

/// Guards a command, or an instance that answers requests. Unless it ends by
/// itself, what it sends must not look whole.
pub(super) struct Running<'a> {
    health: &'a Health,
    ended: bool,
}

impl<'a> Running<'a> {
    pub(super) fn new(health: &'a Health) -> Self {
        Self {
            health,
            ended: false,
        }
    }

    /// Notes that it ended by itself.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.health.trapped();
        }
    }
}
