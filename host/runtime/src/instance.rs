//! An event instance of the component, and the calls into it.
//!
//! Every call goes through `Instance::call`, which sets its deadline and never
//! calls an instance again after a trap.

mod bodies;
mod judging;
pub(crate) mod sockets;
mod trap;
mod websockets;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::Resource;

use netwasm_base::address::Address;
use netwasm_base::config::Isolation;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::handler::Decision;
use netwasm_exchange::request::Request;
use netwasm_net::guest::{DatagramGuest, EventGuest, Gone, NoGuest};
use netwasm_net::parked::Parked;
use netwasm_net::pool::PoolPlace;
use netwasm_net::tls::SessionInfo;
use netwasm_net::transport::Transport;
use netwasm_net::udp::{self, Datagrams};

use crate::bindings::netwasm::net::http::Method;
use crate::bindings::netwasm::net::types::{ConnectionId, IpAddress, SocketId};
use crate::convert::{connecting, lost, resolving, sending};
use crate::decisions::decision;
use crate::event_program::{EventExports, EventProgram, Handlers, begin_event};
use crate::frames;
use crate::local::Local;
use crate::served::request_line;
use crate::state::{Later, State};
use crate::timed::Timed;
use crate::wasi;

use self::trap::method_name;
pub(crate) use self::trap::{also_lost, is_interrupt, note_trap, one_line, reason};

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

/// A connection or datagram socket of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// The host's number.
    pub(crate) number: u64,
    /// The guest's number, which events carry.
    pub(crate) token: u64,
}

/// The other end of an event's connection, for the log.
#[derive(Clone, Copy, Debug)]
enum Party<'a> {
    /// The event has none.
    Nobody,
    /// The peer of the connection of this number.
    Connection(u64),
    Peer(SocketAddr),
    Requester(Option<&'a Transport>),
    /// The client of a request.
    Request {
        transport: Option<&'a Transport>,
        method: &'a Method,
        target: &'a str,
    },
}

impl Party<'_> {
    fn address(self, state: &State) -> Option<Address> {
        match self {
            Self::Nobody => None,
            Self::Connection(number) => Some(state.transports.get(number)?.peer().clone()),
            Self::Peer(address) => Some(Address::Ip(address)),
            Self::Requester(transport) | Self::Request { transport, .. } => {
                Some(transport?.peer().clone())
            }
        }
    }

    /// Returns the method and the target of the event's request.
    fn request(self) -> Option<String> {
        match self {
            Self::Request { method, target, .. } => Some(request_line(method_name(method), target)),
            _ => None,
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
        let limits = &local.env.net.limits;
        let none = |error: wasmtime::Error| NoGuest(reason(&error, limits));
        let instance = Rc::new(Self {
            guest: RefCell::new(None),
            life: Cell::new(Life::Alive),
        });
        // Work that the guest begins at its start ends as an event, too.
        let mut state = State::new(local);
        state.instance = Rc::downgrade(&instance);
        let guest = program.instantiate(state).map_err(none)?;
        instance.guest.replace(Some(guest));
        Ok(instance)
    }

    fn call<R>(
        &self,
        event: &'static str,
        party: Party<'_>,
        call: impl FnOnce(&mut Store<State>, &Handlers) -> wasmtime::Result<R>,
    ) -> Result<R, Gone> {
        if self.life.get() != Life::Alive {
            return Err(Gone);
        }
        // A guest is never called within its own call.
        let Ok(mut guest) = self.guest.try_borrow_mut() else {
            tracing::error!(event, "an event within a call of the guest is dropped");
            return Err(Gone);
        };
        let Some(EventExports { store, handlers }) = &mut *guest else {
            return Err(Gone);
        };
        begin_event(store);
        let timed = Timed::begin(&store.data().local.worker.thread);
        let called = call(store, handlers);
        timed.end(&store.data().local.worker.thread);
        match called {
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
                report(store.data(), event, party, &error);
                store.data_mut().abandon();
                let trapped = guest.take();
                drop(guest);
                drop(trapped);
                Err(Gone)
            }
        }
    }

    /// Calls the guest's `connected` for an established outgoing connection,
    /// which may have a place in a pool.
    pub(crate) fn connected(
        &self,
        token: u64,
        transport: &Rc<Transport>,
        place: Option<PoolPlace<Parked>>,
    ) -> Result<Numbered, Gone> {
        self.call(
            "connected",
            Party::Requester(Some(transport)),
            |store, handlers| {
                let connect = exported(handlers.connect.as_ref())?;
                let state = store.data_mut();
                state.finish(Later::Connection, token);
                let number = state.transports.add(Rc::clone(transport));
                if let Some(place) = place {
                    state.pooling.take_place(number, place);
                }
                connect.call_connected(store, token, Ok(ConnectionId { number }))?;
                Ok(Numbered { number, token })
            },
        )
    }

    /// Calls the guest's `connected` with an error.
    pub(crate) fn connect_failed(&self, token: u64, error: &ConnectionError) -> Result<(), Gone> {
        self.call("connected", Party::Nobody, |store, handlers| {
            let connect = exported(handlers.connect.as_ref())?;
            store.data_mut().finish(Later::Connection, token);
            connect.call_connected(store, token, Err(&connecting(error)))
        })
    }

    /// Calls the guest's `connected` of a datagram socket. Returns the socket, to
    /// be driven, if there is one.
    pub(crate) fn datagrams_connected(
        &self,
        token: u64,
        opened: Result<udp::Opened, ConnectionError>,
    ) -> Result<Option<(udp::Opened, Numbered)>, Gone> {
        self.call("connected", Party::Nobody, |store, handlers| {
            let connect = exported(handlers.datagram_connect.as_ref())?;
            let state = store.data_mut();
            state.finish(Later::Datagrams, token);
            let opened = opened.and_then(|opened| state.room_for_datagrams().map(|()| opened));
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::debug!(%error, "cannot open a datagram socket");
                    connect.call_connected(store, token, Err(&connecting(&error)))?;
                    return Ok(None);
                }
            };
            let number = state.datagrams.add(Rc::clone(opened.datagrams()));
            connect.call_connected(store, token, Ok(SocketId { number }))?;
            Ok(Some((opened, Numbered { number, token })))
        })
    }

    /// Calls the guest's `handle`, and returns the request with the answer.
    pub fn handle_request(
        &self,
        mut request: Box<Request>,
    ) -> (Box<Request>, Result<Decision, Gone>) {
        let method = Method::from(request.head.method());
        let mut target = std::mem::take(&mut request.target);
        target.clear();
        target.push_str(request.head.target());
        let transport = request.transport.clone();
        let party = Party::Request {
            transport: transport.as_deref(),
            method: &method,
            target: &target,
        };
        let mut slot = Some(request);
        let decision = self.call("handle", party, |store, handlers| {
            let http = exported(handlers.http.as_ref())?;
            let state = store.data_mut();
            state.refresh_files();
            state.request = slot.take();
            // There is one request at a time, so the number means nothing.
            let handle = Resource::new_borrow(0);
            let decided = http.call_handle(&mut *store, &method, &target, handle);
            let state = store.data_mut();
            let decided = decided.and_then(|it| decision(state, it));
            slot = state.request.take();
            decided
        });
        let mut request = slot.unwrap_or_default();
        request.target = target;
        (request, decision)
    }

    /// Calls the guest's `woken`.
    pub(crate) fn woken(&self) -> Result<(), Gone> {
        self.call("woken", Party::Nobody, |store, handlers| {
            exported(handlers.timer.as_ref())?.call_woken(store)
        })
    }

    /// Calls the guest's `shutting-down`, if it exports that.
    pub(crate) fn shutting_down(&self, deadline: Option<Duration>) -> Result<(), Gone> {
        self.call("shutting-down", Party::Nobody, |store, handlers| {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            match &handlers.lifecycle {
                Some(lifecycle) => lifecycle.call_shutting_down(store, deadline.map(nanos)),
                None => Ok(()),
            }
        })
    }

    pub(crate) fn resolved(
        &self,
        token: u64,
        answer: Result<Vec<IpAddr>, ConnectionError>,
    ) -> Result<(), Gone> {
        self.call("resolved", Party::Nobody, |store, handlers| {
            let resolve = exported(handlers.resolve.as_ref())?;
            store.data_mut().finish(Later::Question, token);
            let answer = answer
                .map(|addresses| {
                    addresses
                        .into_iter()
                        .map(IpAddress::from)
                        .collect::<Vec<_>>()
                })
                .map_err(|error| resolving(&error));
            let answer = answer.as_ref().map(Vec::as_slice);
            resolve.call_resolved(store, token, answer)
        })
    }
}

impl EventGuest for Instance {
    type Connection = Numbered;

    fn connection_made(&self, transport: &Rc<Transport>) -> Result<Self::Connection, Gone> {
        self.call(
            "connection-made",
            Party::Requester(Some(transport)),
            |store, handlers| {
                let tcp = exported(handlers.tcp.as_ref())?;
                let number = store.data_mut().transports.add(Rc::clone(transport));
                let token = tcp.call_connection_made(store, ConnectionId { number })?;
                Ok(Numbered { number, token })
            },
        )
    }

    fn data_received(&self, connection: Self::Connection, data: &[u8]) -> Result<(), Gone> {
        let party = Party::Connection(connection.number);
        self.call("data-received", party, |store, handlers| {
            let tcp = exported(handlers.tcp.as_ref())?;
            tcp.call_data_received(store, connection.token, data)
        })
    }

    fn eof_received(&self, connection: Self::Connection) -> Result<bool, Gone> {
        let party = Party::Connection(connection.number);
        self.call("eof-received", party, |store, handlers| {
            exported(handlers.tcp.as_ref())?.call_eof_received(store, connection.token)
        })
    }

    fn writable(&self, connection: Self::Connection) -> Result<(), Gone> {
        let party = Party::Connection(connection.number);
        self.call("writable", party, |store, handlers| {
            exported(handlers.tcp.as_ref())?.call_writable(store, connection.token)
        })
    }

    fn tls_started(&self, connection: Self::Connection, info: SessionInfo) -> Result<(), Gone> {
        let party = Party::Connection(connection.number);
        self.call("tls-started", party, |store, handlers| {
            exported(handlers.tcp.as_ref())?.call_tls_started(store, connection.token, &info.into())
        })
    }

    /// Calls `connection-lost`, after which the number means nothing.
    fn connection_lost(
        &self,
        connection: Self::Connection,
        reason: Option<&ConnectionError>,
    ) -> Result<(), Gone> {
        let party = Party::Connection(connection.number);
        self.call("connection-lost", party, |store, handlers| {
            let reason = reason.map(lost);
            let tcp = exported(handlers.tcp.as_ref())?;
            let Numbered { number, token } = connection;
            tcp.call_connection_lost(&mut *store, token, reason.as_ref())?;
            let state = store.data_mut();
            state.transports.remove(number);
            state.subscribed.remove(&number);
            state.pooling.give_place(number);
            Ok(())
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
    type Endpoint = Numbered;

    fn endpoint_made(&self, datagrams: &Rc<Datagrams>) -> Result<Self::Endpoint, Gone> {
        self.call("connection-made", Party::Nobody, |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            let number = store.data_mut().datagrams.add(Rc::clone(datagrams));
            let token = udp.call_connection_made(store, SocketId { number })?;
            Ok(Numbered { number, token })
        })
    }

    fn datagram_received(
        &self,
        endpoint: Self::Endpoint,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<(), Gone> {
        self.call("datagram-received", Party::Peer(peer), |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            udp.call_datagram_received(store, endpoint.token, data, peer.into())
        })
    }

    fn error_received(
        &self,
        endpoint: Self::Endpoint,
        error: &ConnectionError,
        peer: Option<SocketAddr>,
    ) -> Result<(), Gone> {
        let party = peer.map_or(Party::Nobody, Party::Peer);
        self.call("error-received", party, |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            let peer = peer.map(Into::into);
            udp.call_error_received(store, endpoint.token, &sending(error), peer)
        })
    }

    /// Calls `connection-lost` of a datagram socket, after which the number
    /// means nothing.
    fn endpoint_lost(&self, endpoint: Self::Endpoint) -> Result<(), Gone> {
        self.call("connection-lost", Party::Nobody, |store, handlers| {
            let udp = exported(handlers.udp.as_ref())?;
            udp.call_connection_lost(&mut *store, endpoint.token, None)?;
            store.data_mut().datagrams.remove(endpoint.number);
            Ok(())
        })
    }

    /// True if the guest trapped or exited, so that it cannot be called.
    fn is_dead(&self) -> bool {
        self.life.get() != Life::Alive
    }
}

/// Returns a handler. The checks at start ensure that no needed one is missing.
fn exported<T>(handler: Option<&T>) -> wasmtime::Result<&T> {
    handler.ok_or_else(|| wasmtime::Error::msg("the component exports no handler for this event"))
}

/// Logs why an instance ended.
fn report(state: &State, event: &str, party: Party<'_>, error: &wasmtime::Error) {
    let net = &state.local.env.net;
    let reason = note_trap(&state.local, &state.memory, error);
    // A task of the guest's may run at any event.
    let peer = party.address(state).or_else(|| state.only_peer());
    let peer = peer.as_ref().map(tracing::field::display);
    let frames = frames::of_trap(error);
    let panic = state.wasi.panic();
    let is_shared = state.local.env.isolation == Isolation::Worker;
    let connections = is_shared.then(|| state.transports.len() + state.websockets.len());
    let also_lost = also_lost(&state.local);
    let request = party.request();
    // An event such as `woken` is of any of them.
    let waiting = state.responses.deferred_requests();
    tracing::error!(
        guest = %net.guest, event, peer, request, waiting, connections, panic, frames,
        "the guest trapped: {reason}{also_lost}"
    );
    tracing::debug!(guest = %net.guest, "{error:?}");
}
