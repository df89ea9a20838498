//! An event instance of the component, and the calls into it.
//!
//! Every call goes through `Instance::call`, which sets its deadline and never
//! calls an instance again after a trap.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};

use wasmtime::component::{Resource, ResourceAny};
use wasmtime::{Store, Trap};

use netwasm_base::address::Address;
use netwasm_base::config::Limits;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::{Answer, Body};
use netwasm_exchange::request::Request;
use netwasm_net::guest::{DatagramGuest, EventGuest, Gone, NoGuest};
use netwasm_net::transport::Transport;
use netwasm_net::udp::Datagrams;

use crate::bindings::netwasm::net::http::{Body as WitBody, Method, Response};
use crate::bindings::netwasm::net::types::{ErrorCode, IpAddress};
use crate::event_program::{EventExports, EventProgram, Handlers};
use crate::frames;
use crate::host::files;
use crate::local::Local;
use crate::state::{Later, MemoryLimit, State};
use crate::wasi;

/// An event instance, of one connection or of a worker.
pub struct Instance {
    /// `None` after a trap. That frees the slot for others before the
    /// instance's last connection has ended.
    guest: RefCell<Option<EventExports>>,
    life: Cell<Life>,
}

/// State of an instance. Only a live instance can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// The guest exited with success: what it wrote is whole.
    Exited,
    Trapped,
}

/// A connection as the guest has it.
#[derive(Clone, Copy, Debug)]
pub struct EventConnection {
    resource: ResourceAny,
    client: Client,
}

/// The peer of an event, for the log. Unlike an [`Address`] it can be copied,
/// so that each event may bring it.
#[derive(Clone, Copy, Debug)]
enum Client {
    Ip(SocketAddr),
    Unix,
}

impl From<&Address> for Client {
    fn from(address: &Address) -> Self {
        match address {
            Address::Ip(address) => Self::Ip(*address),
            Address::Unix(_) => Self::Unix,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Makes an instance.
    ///
    /// # Errors
    /// Fails if all slots of the pool are in use, or if the guest's start
    /// traps.
    pub(crate) fn new(program: &EventProgram, local: &Rc<Local>) -> Result<Rc<Self>, NoGuest> {
        let none = |error: wasmtime::Error| NoGuest(one_line(&error));
        let mut guest = program.instantiate(State::new(local)).map_err(none)?;
        Ok(Rc::new_cyclic(|instance| {
            guest.store.data_mut().instance = Weak::clone(instance);
            Self {
                guest: RefCell::new(Some(guest)),
                life: Cell::new(Life::Alive),
            }
        }))
    }

    fn call<R>(
        &self,
        event: &'static str,
        client: Option<Client>,
        call: impl FnOnce(&mut Store<State>, &Handlers) -> wasmtime::Result<R>,
    ) -> Result<R, Gone> {
        if self.life.get() != Life::Alive {
            return Err(Gone);
        }
        let mut guest = self.guest.borrow_mut();
        let Some(EventExports { store, handlers }) = &mut *guest else {
            return Err(Gone);
        };
        store.set_epoch_deadline(store.data().deadline());
        match call(store, handlers) {
            Ok(value) => Ok(value),
            Err(error) if wasi::has_exited(&error) => {
                self.life.set(Life::Exited);
                let state = store.data_mut();
                tracing::info!(guest = %state.local.env.net.guest, event, "the guest exited");
                state.close_all();
                Err(Gone)
            }
            Err(error) => {
                self.life.set(Life::Trapped);
                report(store.data(), event, client, &error);
                store.data_mut().abandon();
                let trapped = guest.take();
                drop(guest);
                drop(trapped);
                Err(Gone)
            }
        }
    }

    /// Calls the guest's `connected` for an established outgoing connection.
    pub(crate) fn connected(
        &self,
        id: u64,
        transport: &Rc<Transport>,
    ) -> Result<EventConnection, Gone> {
        let client = Client::from(transport.peer());
        let resource = self.call("connected", Some(client), |store, handlers| {
            let connect = exported(handlers.connect.as_ref())?;
            store.data_mut().finish(Later::Connection, id);
            let handle = store.data_mut().add_transport(transport)?;
            connect.call_connected(store, id, handle)
        })?;
        Ok(EventConnection { resource, client })
    }

    pub(crate) fn connect_failed(&self, id: u64, error: &ConnectionError) -> Result<(), Gone> {
        self.call("connect-failed", None, |store, handlers| {
            let connect = exported(handlers.connect.as_ref())?;
            store.data_mut().finish(Later::Connection, id);
            connect.call_connect_failed(store, id, &error.into())
        })
    }

    /// Calls the guest's `handle`, and returns the request with the answer.
    pub fn handle_request(
        &self,
        mut request: Box<Request>,
    ) -> (Box<Request>, Result<Answer, Gone>) {
        let method = Method::from(request.head.method());
        let mut target = std::mem::take(&mut request.target);
        target.clear();
        target.push_str(request.head.target());
        let client = request.transport.as_ref();
        let client = client.map(|transport| Client::from(transport.peer()));
        let mut slot = Some(request);
        let answer = self.call("handle", client, |store, handlers| {
            let http = exported(handlers.http.as_ref())?;
            let state = store.data_mut();
            state.refresh_files();
            state.request = slot.take();
            // There is one request at a time, so the number means nothing.
            let handle = Resource::new_borrow(0);
            let response = http.call_handle(&mut *store, &method, &target, handle);
            slot = store.data_mut().request.take();
            answer(store.data_mut(), response?)
        });
        let mut request = slot.unwrap_or_default();
        request.target = target;
        (request, answer)
    }

    pub(crate) fn timer_fired(&self, id: u64) -> Result<(), Gone> {
        self.call("timer-fired", None, |store, handlers| {
            let timer = exported(handlers.timer.as_ref())?;
            store.data_mut().finish(Later::Timer, id);
            timer.call_timer_fired(store, id)
        })
    }

    pub(crate) fn resolved(
        &self,
        id: u64,
        answer: Result<Vec<IpAddr>, ConnectionError>,
    ) -> Result<(), Gone> {
        self.call("resolved", None, |store, handlers| {
            let resolve = exported(handlers.resolve.as_ref())?;
            store.data_mut().finish(Later::Question, id);
            let answer = answer
                .map(|addresses| {
                    addresses
                        .into_iter()
                        .map(IpAddress::from)
                        .collect::<Vec<_>>()
                })
                .map_err(ErrorCode::from);
            let answer = answer.as_ref().map(Vec::as_slice);
            resolve.call_resolved(store, id, answer)
        })
    }
}

impl EventGuest for Instance {
    type Connection = EventConnection;

    fn connection_made(&self, transport: &Rc<Transport>) -> Result<Self::Connection, Gone> {
        let client = Client::from(transport.peer());
        let resource = self.call("connection-made", Some(client), |store, handlers| {
            let tcp = exported(handlers.tcp.as_ref())?;
            let handle = store.data_mut().add_transport(transport)?;
            tcp.connection().call_constructor(store, handle)
        })?;
        Ok(EventConnection { resource, client })
    }

    fn data_received(&self, connection: Self::Connection, data: &[u8]) -> Result<(), Gone> {
        let EventConnection { resource, client } = connection;
        self.call("data-received", Some(client), |store, handlers| {
            let tcp = exported(handlers.tcp.as_ref())?;
            tcp.connection().call_data_received(store, resource, data)
        })
    }

    fn eof_received(&self, connection: Self::Connection) -> Result<bool, Gone> {
        let EventConnection { resource, client } = connection;
        self.call("eof-received", Some(client), |store, handlers| {
            exported(handlers.tcp.as_ref())?
                .connection()
                .call_eof_received(store, resource)
        })
    }

    fn pause_writing(&self, connection: Self::Connection) -> Result<(), Gone> {
        let EventConnection { resource, client } = connection;
        self.call("pause-writing", Some(client), |store, handlers| {
            exported(handlers.tcp.as_ref())?
                .connection()
                .call_pause_writing(store, resource)
        })
    }

    fn resume_writing(&self, connection: Self::Connection) -> Result<(), Gone> {
        let EventConnection { resource, client } = connection;
        self.call("resume-writing", Some(client), |store, handlers| {
            exported(handlers.tcp.as_ref())?
                .connection()
                .call_resume_writing(store, resource)
        })
    }

    /// Calls `connection-lost`, then drops the guest's resource.
    fn connection_lost(
        &self,
        connection: Self::Connection,
        reason: Option<&ConnectionError>,
    ) -> Result<(), Gone> {
        let EventConnection { resource, client } = connection;
        self.call("connection-lost", Some(client), |store, handlers| {
            let reason = reason.map(ErrorCode::from);
            let tcp = exported(handlers.tcp.as_ref())?;
            tcp.connection()
                .call_connection_lost(&mut *store, resource, reason.as_ref())?;
            resource.resource_drop(store)
        })
    }

    /// True if the guest trapped or exited, so that it cannot be called.
    fn is_dead(&self) -> bool {
        self.life.get() != Life::Alive
    }

    /// True if the guest exited with success.
    fn has_exited(&self) -> bool {
        self.life.get() == Life::Exited
    }
}

impl DatagramGuest for Instance {
    type Endpoint = ResourceAny;

    fn endpoint_made(&self, datagrams: &Rc<Datagrams>) -> Result<Self::Endpoint, Gone> {
        self.call("connection-made", None, |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            let handle = store.data_mut().add_datagrams(datagrams);
            udp.endpoint().call_constructor(store, handle)
        })
    }

    fn datagram_received(
        &self,
        endpoint: Self::Endpoint,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<(), Gone> {
        self.call(
            "datagram-received",
            Some(Client::Ip(peer)),
            |store, handlers| {
                let udp = exported(handlers.udp.as_ref())?;
                udp.endpoint()
                    .call_datagram_received(store, endpoint, data, peer.into())
            },
        )
    }

    fn error_received(
        &self,
        endpoint: Self::Endpoint,
        error: &ConnectionError,
        peer: Option<SocketAddr>,
    ) -> Result<(), Gone> {
        self.call("error-received", peer.map(Client::Ip), |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            let peer = peer.map(Into::into);
            udp.endpoint()
                .call_error_received(store, endpoint, &error.into(), peer)
        })
    }

    /// Calls `connection-lost` of a datagram socket, then drops the guest's
    /// resource.
    fn endpoint_lost(&self, endpoint: Self::Endpoint) -> Result<(), Gone> {
        self.call("connection-lost", None, |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            udp.endpoint()
                .call_connection_lost(&mut *store, endpoint, None)?;
            endpoint.resource_drop(store)
        })
    }

    /// True if the guest trapped or exited, so that it cannot be called.
    fn is_dead(&self) -> bool {
        self.life.get() != Life::Alive
    }
}

/// Converts a response, and takes its file out of the guest's handles.
fn answer(state: &mut State, response: Response) -> wasmtime::Result<Answer> {
    let body = match response.body {
        WitBody::Empty => Body::Empty,
        WitBody::Bytes(bytes) => Body::Bytes(bytes),
        WitBody::File(handle) => Body::File(state.remove_file(&handle)?),
        WitBody::Path(path) => match files::open(state, &path) {
            Ok(file) => Body::File(Rc::new(file)),
            Err(error) => Body::Unopened(error),
        },
    };
    Ok(Answer {
        status: response.status,
        headers: response.headers,
        body,
        trailers: response.trailers,
    })
}

/// Returns a handler. The checks at start ensure that no needed one is missing.
fn exported<T>(handler: Option<&T>) -> wasmtime::Result<&T> {
    handler.ok_or_else(|| wasmtime::Error::msg("the component exports no handler for this event"))
}

/// Logs why an instance ended.
fn report(state: &State, event: &str, client: Option<Client>, error: &wasmtime::Error) {
    let net = &state.local.env.net;
    let reason = note_trap(&state.local, &state.memory, error);
    let peer = client.map(tracing::field::display);
    let frames = frames::of_trap(error);
    tracing::error!(guest = %net.guest, event, peer, frames, "the guest trapped: {reason}");
    tracing::debug!(guest = %net.guest, "{error:?}");
}

/// Counts a trap, counts a timeout against the client, and returns the reason.
pub(crate) fn note_trap(local: &Local, memory: &MemoryLimit, error: &wasmtime::Error) -> String {
    let net = &local.env.net;
    net.counters.traps.add();
    if let Some(Trap::Interrupt) = error.downcast_ref() {
        local.worker.thread.turns.note_time_out();
    }
    reason(error, &net.limits, memory)
}

/// Returns why a guest trapped, and what may have led to it.
fn reason(error: &wasmtime::Error, limits: &Limits, memory: &MemoryLimit) -> String {
    let mut reason = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!(
            "it took longer than {} (--event-timeout)",
            humantime::format_duration(limits.event_timeout)
        ),
        Some(trap) => trap.to_string(),
        None => wasi::reason(error).unwrap_or_else(|| one_line(error)),
    };
    if memory.denied {
        reason.push_str("; it was denied more memory (--max-memory)");
    }
    reason
}

/// Joins an error and its causes in one line, without a backtrace.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // `-v` shows the backtrace.
        let text = text.lines().next().unwrap_or_default().trim().to_owned();
        if !text.starts_with("error while executing") && parts.last() != Some(&text) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
