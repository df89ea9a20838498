//! Components driven by events, ready to be instantiated.

use std::fmt;
use std::time::Duration;

use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::bindings::exports::netwasm::net::{
    body_handler, connect_handler, datagram_connect_handler, forward_handler, http_handler,
    lifecycle, resolve_handler, response_handler, tcp_handler, timer_handler, udp_handler,
    websocket_connect_handler, websocket_handler,
};
use crate::state::State;
use crate::steps::{Computed, cpu_time};

/// Maximum that the host copies out of guest memory in one call, in units of about a
/// byte. See `Store::set_hostcall_fuel`.
pub(crate) const HOSTCALL_FUEL: usize = 32 << 20;

/// Begins the time of a call.
#[inline]
pub(crate) fn begin_event(store: &mut Store<State>) {
    store.data_mut().computed = Computed::default();
    store.set_epoch_deadline(1);
}

/// A component driven by events, ready to be instantiated.
pub(crate) struct EventProgram {
    engine: Engine,
    pre: InstancePre<State>,
    handlers: Indices,
}

struct Indices {
    tcp: Option<tcp_handler::GuestIndices>,
    udp: Option<udp_handler::GuestIndices>,
    http: Option<http_handler::GuestIndices>,
    connect: Option<connect_handler::GuestIndices>,
    datagram_connect: Option<datagram_connect_handler::GuestIndices>,
    timer: Option<timer_handler::GuestIndices>,
    resolve: Option<resolve_handler::GuestIndices>,
    lifecycle: Option<lifecycle::GuestIndices>,
    response: Option<response_handler::GuestIndices>,
    body: Option<body_handler::GuestIndices>,
    forward: Option<forward_handler::GuestIndices>,
    websocket: Option<websocket_handler::GuestIndices>,
    websocket_connect: Option<websocket_connect_handler::GuestIndices>,
}

impl fmt::Debug for EventProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventProgram").finish_non_exhaustive()
    }
}

impl EventProgram {
    /// Looks up the handlers of a linked component.
    pub(crate) fn new(engine: Engine, pre: InstancePre<State>) -> Self {
        Self {
            handlers: Indices::new(&pre),
            pre,
            engine,
        }
    }

    /// True if the guest is to be told of the shutdown.
    pub(crate) fn hears_of_shutdown(&self) -> bool {
        self.handlers.lifecycle.is_some()
    }

    /// True if the guest gets requests at their heads.
    pub(crate) fn takes_heads(&self) -> bool {
        self.handlers.body.is_some()
    }

    /// True if the guest takes WebSocket connections.
    pub(crate) fn opens_websockets(&self) -> bool {
        self.handlers.websocket.is_some()
    }

    /// True if the guest answers HTTP requests.
    pub(crate) fn answers_requests(&self) -> bool {
        self.handlers.http.is_some()
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// Fails if the pool is used up, or if the guest's start traps.
    pub(crate) fn instantiate(&self, state: State) -> wasmtime::Result<EventExports> {
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.memory);
        store.epoch_deadline_callback(|mut store| {
            let State {
                computed, local, ..
            } = store.data_mut();
            // Nothing else runs on the thread meanwhile.
            match computed.step(cpu_time(), Duration::MAX, &local.env.net.limits) {
                true => Ok(UpdateDeadline::Continue(1)),
                false => Ok(UpdateDeadline::Interrupt),
            }
        });
        begin_event(&mut store);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        let instance = self.pre.instantiate(&mut store)?;
        store.data_mut().memory.made();
        let indices = &self.handlers;
        let handlers = Handlers {
            tcp: indices
                .tcp
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            udp: indices
                .udp
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            http: indices
                .http
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            connect: indices
                .connect
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            datagram_connect: indices
                .datagram_connect
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            timer: indices
                .timer
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            resolve: indices
                .resolve
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            lifecycle: indices
                .lifecycle
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            response: indices
                .response
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            body: indices
                .body
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            forward: indices
                .forward
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            websocket: indices
                .websocket
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
            websocket_connect: indices
                .websocket_connect
                .as_ref()
                .map(|it| it.load(&mut store, &instance))
                .transpose()?,
        };
        store.data_mut().streams = handlers.response.is_some();
        store.data_mut().judges = handlers.forward.is_some();
        Ok(EventExports { store, handlers })
    }
}

impl Indices {
    fn new(pre: &InstancePre<State>) -> Self {
        // A missing handler is an error only of the lookup.
        Self {
            tcp: tcp_handler::GuestIndices::new(pre).ok(),
            udp: udp_handler::GuestIndices::new(pre).ok(),
            http: http_handler::GuestIndices::new(pre).ok(),
            connect: connect_handler::GuestIndices::new(pre).ok(),
            datagram_connect: datagram_connect_handler::GuestIndices::new(pre).ok(),
            timer: timer_handler::GuestIndices::new(pre).ok(),
            resolve: resolve_handler::GuestIndices::new(pre).ok(),
            lifecycle: lifecycle::GuestIndices::new(pre).ok(),
            response: response_handler::GuestIndices::new(pre).ok(),
            body: body_handler::GuestIndices::new(pre).ok(),
            forward: forward_handler::GuestIndices::new(pre).ok(),
            websocket: websocket_handler::GuestIndices::new(pre).ok(),
            websocket_connect: websocket_connect_handler::GuestIndices::new(pre).ok(),
        }
    }
}

/// The store of an instance, and the handlers that the component exports.
pub(crate) struct EventExports {
    pub(crate) store: Store<State>,
    pub(crate) handlers: Handlers,
}

/// Handlers that a component exports. Each may be missing.
pub(crate) struct Handlers {
    pub(crate) tcp: Option<tcp_handler::Guest>,
    pub(crate) udp: Option<udp_handler::Guest>,
    pub(crate) http: Option<http_handler::Guest>,
    pub(crate) connect: Option<connect_handler::Guest>,
    pub(crate) datagram_connect: Option<datagram_connect_handler::Guest>,
    pub(crate) timer: Option<timer_handler::Guest>,
    pub(crate) resolve: Option<resolve_handler::Guest>,
    pub(crate) lifecycle: Option<lifecycle::Guest>,
    pub(crate) response: Option<response_handler::Guest>,
    pub(crate) body: Option<body_handler::Guest>,
    pub(crate) forward: Option<forward_handler::Guest>,
    pub(crate) websocket: Option<websocket_handler::Guest>,
    pub(crate) websocket_connect: Option<websocket_connect_handler::Guest>,
}
