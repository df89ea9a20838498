//! Components of async guests, ready to be instantiated.

use std::{fmt, io};

use rustix::io::Errno;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::{p2 as http_p2, p3 as http_p3};

use crate::concurrent::bindings::exports::netwasm::net::stream_handler;
use crate::concurrent::state::{AsyncState, most_resources};
use crate::event_program::HOSTCALL_FUEL;
use crate::kind::Kind;
use crate::steps::{Computed, cpu_time, step};

/// Handles that a guest may have for each host object that it may have. What
/// arrives on a connection, what is sent, how either ended, and what waits for
/// that are handles, too.
const HANDLES: usize = 8;

/// Attempts to make an instance whose memory's image is busy, before the last.
const BUSY_ATTEMPTS: u32 = 4;

/// A component, ready to be instantiated.
pub(crate) struct Program {
    engine: Engine,
    pre: InstancePre<AsyncState>,
    pub(super) entry: Entry,
}

/// The export to call.
pub(super) enum Entry {
    Streams(stream_handler::GuestIndices),
    /// `wasi:http/incoming-handler@0.2`.
    Proxy(http_p2::bindings::ProxyIndices),
    /// `wasi:http/handler@0.3`.
    Service(http_p3::bindings::ServiceIndices),
    /// `wasi:cli/run@0.2`.
    RunP2(p2::bindings::CommandIndices),
    /// `wasi:cli/run@0.3`.
    RunP3(p3::bindings::CommandIndices),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

impl Program {
    /// Makes a program of a kind.
    ///
    /// # Errors
    /// Fails if an export is not of the type that its name promises.
    pub(crate) fn new(
        engine: Engine,
        pre: InstancePre<AsyncState>,
        kind: Kind,
    ) -> wasmtime::Result<Self> {
        let entry = match kind {
            Kind::Command => match p3::bindings::CommandIndices::new(&pre) {
                Ok(indices) => Entry::RunP3(indices),
                Err(_) => Entry::RunP2(p2::bindings::CommandIndices::new(&pre)?),
            },
            Kind::Proxy => Entry::Proxy(http_p2::bindings::ProxyIndices::new(&pre)?),
            Kind::Service => Entry::Service(http_p3::bindings::ServiceIndices::new(&pre)?),
            Kind::Events | Kind::Streams => {
                Entry::Streams(stream_handler::GuestIndices::new(&pre)?)
            }
        };
        Ok(Self { engine, pre, entry })
    }

    pub(crate) fn is_command(&self) -> bool {
        matches!(self.entry, Entry::RunP2(_) | Entry::RunP3(_))
    }

    pub(crate) fn takes_streams(&self) -> bool {
        matches!(self.entry, Entry::Streams(_))
    }

    pub(crate) fn takes_requests(&self) -> bool {
        matches!(self.entry, Entry::Proxy(_) | Entry::Service(_))
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// Fails if the pool is used up, or if the guest's start traps.
    pub(super) async fn instantiate(
        &self,
        mut state: AsyncState,
    ) -> wasmtime::Result<(Store<AsyncState>, Instance)> {
        for _ in 0..BUSY_ATTEMPTS {
            let mut store = self.store(state);
            match self.pre.instantiate_async(&mut store).await {
                Err(error) if is_busy(&error) => {
                    state = store.into_data();
                    state.memory.forget();
                }
                Err(error) => return Err(error),
                Ok(instance) => {
                    store.data_mut().memory.made();
                    return Ok((store, instance));
                }
            }
        }
        let mut store = self.store(state);
        let instance = self.pre.instantiate_async(&mut store).await?;
        store.data_mut().memory.made();
        Ok((store, instance))
    }

    /// Makes a store with the limits of its instance.
    fn store(&self, state: AsyncState) -> Store<AsyncState> {
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        let most = most_resources(store.data().env());
        store.set_max_component_handles(most.saturating_mul(HANDLES));
        store.set_epoch_deadline(1);
        if self.is_command() {
            // A command may compute as long as it likes, but not keep the
            // worker.
            store.epoch_deadline_async_yield_and_update(1);
        } else {
            // A turn may take as long as an event. Other instances get their
            // turns in between, so that not all that the thread computes
            // between two steps is this one's.
            let most = step(&store.data().env().net.limits);
            store.epoch_deadline_callback(move |mut store| {
                let state = store.data_mut();
                let turn = state.health.turn();
                if state.turn == turn {
                    let limits = &state.local.env.net.limits;
                    if !state.computed.step(cpu_time(), most, limits) {
                        return Err(Trap::Interrupt.into());
                    }
                } else {
                    (state.turn, state.computed) = (turn, Computed::default());
                    if !state.local.worker.thread.turns.is_overdue() {
                        // The deadline is from an earlier turn, however long
                        // ago.
                        return Ok(UpdateDeadline::Continue(1));
                    }
                }
                state.health.yields();
                Ok(UpdateDeadline::Yield(1))
            });
        }
        store
    }
}

/// True if the kernel could not seal the image of a memory, as it still held its
/// pages for a moment (`EBUSY` of fcntl(2), `F_ADD_SEALS`). The next attempt makes
/// another image.
fn is_busy(error: &wasmtime::Error) -> bool {
    let busy = |cause: &io::Error| cause.raw_os_error() == Some(Errno::BUSY.raw_os_error());
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(busy))
}
