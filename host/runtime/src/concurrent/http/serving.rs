//! The task of an instance: it gives requests to the guest, and ends with it.

use std::cell::Cell;
use std::future::{poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use send_wrapper::SendWrapper;
use wasmtime::component::AccessorTask as _;
use wasmtime::{Store, Trap};

use netwasm_base::trace::Trace;
use netwasm_exchange::reply::NoResponse;
use netwasm_net::health::Health;
use netwasm_net::turns::{REQUEST, Turn};

use super::Requests;
use crate::concurrent::http::answering::{Answering, HttpGuest};
use crate::concurrent::instance::{Running, in_turns, note_exit, report};
use crate::concurrent::place::Place;
use crate::concurrent::program::{Entry, Program};
use crate::concurrent::state::AsyncState;
use crate::instance::reason;
use crate::local::Local;
use crate::wasi;

/// Adds the time that a guest takes to the span that `trace` returns.
async fn timed<R>(trace: impl Fn() -> Option<Rc<Trace>>, running: impl Future<Output = R>) -> R {
    let mut running = pin!(running);
    poll_fn(|cx| {
        let timed = trace().map(|trace| (trace, Instant::now()));
        let polled = running.as_mut().poll(cx);
        if let Some((trace, begun)) = timed {
            trace.add_guest(begun.elapsed());
        }
        polled
    })
    .await
}

/// Runs an instance from its start to its end.
pub(super) async fn serve(
    local: &Rc<Local>,
    requests: &Rc<Requests>,
    turn: &Rc<Turn>,
    place: &Cell<Option<Place>>,
) {
    let health = Rc::clone(&requests.health);
    let (mut store, guest) = match instantiate(local, &requests.program, &health).await {
        Ok(made) => made,
        Err(error) => {
            local.env.net.counters.instances_failed.add();
            let error = reason(&error, &local.env.net.limits);
            tracing::error!(guest = %local.env.net.guest, %error, "no instance for a request");
            return requests.fail_all(&NoResponse::NoInstance);
        }
    };
    let traces = local.env.net.tracer.is_some();
    if traces {
        let requests = Rc::downgrade(requests);
        let hooks = &mut store.data_mut().http.hooks;
        hooks.trace_by(move |call| {
            let requests = requests.upgrade()?;
            call.map_or_else(|| requests.trace(), |call| requests.trace_of(call))
        });
    }
    let mut life = Running::new(&health);
    let guest = Arc::new(guest);
    let background = &local.env.background;
    let running = store.run_concurrent(async |accessor| {
        while let Some(request) = poll_fn(|cx| requests.poll_next(cx)).await {
            let answering = Answering {
                guest: Arc::clone(&guest),
                request: SendWrapper::new(request),
                requests: SendWrapper::new(Rc::clone(requests)),
            };
            match &*guest {
                // Only a request that runs beside others needs its own task.
                HttpGuest::Service(_) if requests.open.get() || requests.is_behind() => {
                    accessor.spawn(answering)?;
                }
                HttpGuest::Proxy(_) | HttpGuest::Service(_) => answering.run(accessor).await?,
            }
            if requests.is_waited_for() {
                turn.pause(REQUEST).await;
                // Each request has the time of an event: the one just begun
                // runs before the next.
                tokio::task::yield_now().await;
                health.moved();
            }
        }
        requests.all_finished().await;
        // From here on, the instance takes a place of `--max-background`.
        drop(place.take());
        // Tasks that the guest spawned go on for a while.
        let rest = poll_fn(|cx| accessor.poll_no_interesting_tasks(cx));
        Ok(background.bound(ready(()), rest).await.is_some())
    });
    let running = in_turns(&local.worker.thread, &health, running);
    let trace = || if traces { requests.trace() } else { None };
    let running = timed(trace, running);
    let ended = match requests.one_at_a_time {
        false => running.await,
        true => tokio::select! {
            biased;
            ended = running => ended,
            () = requests.left_behind(background) => Ok(Ok(false)),
        },
    };
    match ended.and_then(|ended: wasmtime::Result<bool>| ended) {
        Ok(true) => life.end(),
        Ok(false) => requests.fail_all(&NoResponse::TimedOut),
        Err(error) if wasi::has_exited(&error) => {
            note_exit(&store, "handle");
            // The store holds the other ends of the bodies.
            requests.exited().await;
        }
        Err(error) => {
            report(&store, "handle", &requests.served(), &error);
            requests.fail_all(&match error.downcast_ref() {
                Some(Trap::Interrupt) => NoResponse::TimedOut,
                _ => NoResponse::Trapped,
            });
        }
    }
}

async fn instantiate(
    local: &Rc<Local>,
    program: &Program,
    health: &Rc<Health>,
) -> wasmtime::Result<(Store<AsyncState>, HttpGuest)> {
    let (mut store, instance) = program.instantiate(AsyncState::new(local, health)).await?;
    let guest = match &program.entry {
        Entry::Proxy(indices) => HttpGuest::Proxy(indices.load(&mut store, &instance)?),
        Entry::Service(indices) => HttpGuest::Service(indices.load(&mut store, &instance)?),
        _ => wasmtime::bail!("the component takes no requests"),
    };
    Ok((store, guest))
}
