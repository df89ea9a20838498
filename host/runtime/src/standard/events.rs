//! The standard interfaces for handlers of events, whose functions cannot wait:
//! for a disk, the thread does, and so its other connections too, no longer than an
//! event may take in all.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use netwasm_base::trace::Trace;
use netwasm_keyvalue::Answer;
use tokio::task::coop::unconstrained;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower, ResourceTable};

use super::{Call, Guest, Reply};
use crate::local::Local;
use crate::state::State;
use crate::steps::cpu_time;

/// Longest pause without a look at the clock.
const PAUSE: Duration = Duration::from_secs(1);

impl Guest for State {
    const WAITS: bool = false;

    fn local(&self) -> &Local {
        &self.local
    }

    fn trace(store: &mut StoreContextMut<'_, Self>) -> Option<Rc<Trace>> {
        store.data().request.as_ref()?.trace.clone()
    }

    fn table(&mut self) -> &mut ResourceTable {
        self.wasi.resources()
    }

    fn settle<A>(&mut self, answer: Answer<A>) -> wasmtime::Result<Answer<A>> {
        let Answer::Later(later) = answer else {
            return Ok(answer);
        };
        let (begun, busy) = (Instant::now(), cpu_time());
        // All that an event waits for counts together, with what it computes.
        let left = self.computed.left(&self.local.env.net.limits);
        let waited = wait(later, left);
        let busy = cpu_time().saturating_sub(busy);
        self.computed.waited(begun.elapsed(), busy);
        match waited {
            Some(outcome) => Ok(Answer::Now(outcome)),
            None => wasmtime::bail!(
                "the event takes longer than it may (--event-timeout), with what it waited for"
            ),
        }
    }

    fn define<P, R>(
        linker: &mut LinkerInstance<'_, Self>,
        name: &str,
        call: Call<Self, P, R>,
    ) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lift + Send + Sync + 'static,
        R: ComponentNamedList + Lower + Send + Sync + 'static,
    {
        linker.func_wrap(
            name,
            move |mut store: StoreContextMut<'_, Self>, params: P| match call(
                store.data_mut(),
                params,
            )? {
                Reply::Now(reply) => Ok(reply),
                // All answers have been waited for.
                Reply::Later(_) => wasmtime::bail!("a handler may not wait"),
            },
        )
    }
}

/// Wakes a thread.
struct Woken(Thread);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for what another thread does. Returns `None` if that takes too long.
fn wait<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let begun = Instant::now();
    let waker = Waker::from(Arc::new(Woken(thread::current())));
    let mut context = Context::from_waker(&waker);
    // Futures that it polls would else wait for the next turn of this very task.
    let mut future = pin!(unconstrained(future));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
        let left = limit.checked_sub(begun.elapsed())?;
        thread::park_timeout(left.min(PAUSE));
    }
}
