//! A host in memory, with a clock that stands still until nothing else is
//! left to do: for tests.

mod datagrams;
mod metrics;
mod pipe;
mod pool;
mod request;
pub(crate) mod shared;
mod topics;
mod websocket;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use self::pipe::session;
use super::{ConnectOptions, Endpoint, RawResponse, TlsRole};
use crate::connect::{connected, resolved};
use crate::connection::Shared;
use crate::log::Level;
use crate::time::nanoseconds;
use crate::udp::SharedSocket;
use crate::{Address, Error, ErrorKind, Info, Operation, Result, TlsInfo, executor, timers};

pub(crate) use self::datagrams::{
    DatagramTransport, Socket, bind_datagrams, cancel_datagrams, connect_datagrams, next_opened,
    opened,
};
pub(crate) use self::metrics::{
    add_to_counter, change_gauge, metric, observe_with_histogram, open_counter, open_gauge,
    open_histogram, set_gauge,
};
pub(crate) use self::pipe::{End, Pipe, Transport};
pub(crate) use self::pool::{PoolHandle, put};
pub(crate) use self::request::{RawRequest, RequestData, RequestHandle, inform};
pub(crate) use self::websocket::{
    WebSocketHandle, WebSocketServer, Wire, cancel_websocket, connect_websocket, listen_websocket,
    publish, subscribers,
};

/// The host of a thread.
#[derive(Default)]
struct Host {
    now: Cell<u64>,
    wake_at: Cell<Option<u64>>,
    wakes: Cell<u64>,
    pipes: RefCell<Vec<Weak<Pipe>>>,
    listeners: RefCell<HashMap<String, Rc<Backlog>>>,
    names: RefCell<HashMap<String, Vec<IpAddr>>>,
    files: RefCell<HashMap<String, Rc<[u8]>>>,
    connecting: RefCell<Vec<Connecting>>,
    resolving: RefCell<Vec<(u64, String)>>,
    datagram_attempts: RefCell<Vec<datagrams::Attempt>>,
    /// Datagram sockets that the guest opened.
    sockets: RefCell<VecDeque<Rc<SharedSocket>>>,
    pools: RefCell<Vec<pool::Shelf>>,
    log: RefCell<Vec<(Level, String)>>,
    metrics: RefCell<Vec<metrics::Series>>,
}

thread_local! {
    static HOST: Host = Host::default();
}

/// Connections on their way to a listener.
#[derive(Default)]
pub(crate) struct Backlog {
    pub(crate) pipes: RefCell<VecDeque<Rc<Pipe>>>,
    pub(crate) delay: Cell<Duration>,
}

struct Connecting {
    token: u64,
    /// The pool that the connection is made for.
    pool: Option<usize>,
    due: u64,
    backlog: Option<Rc<Backlog>>,
    tls: Option<TlsInfo>,
    failure: Option<Error>,
}

/// Addresses of documentation (RFC 5737).
pub(crate) fn example_info() -> Info {
    Info {
        peer: Address::Ip(([192, 0, 2, 1], 50_000).into()),
        local: Address::Ip(([192, 0, 2, 2], 80).into()),
        tls: None,
    }
}

/// A file of a test.
pub(crate) struct File(Rc<[u8]>);

impl File {
    pub(crate) fn open(path: &str) -> Result<Self> {
        HOST.with(|host| host.files.borrow().get(path).cloned())
            .map(Self)
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(crate) fn size(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) fn add_file(path: &str, content: &[u8]) {
    HOST.with(|host| {
        host.files
            .borrow_mut()
            .insert(path.to_owned(), content.into())
    });
}

pub(crate) fn now() -> u64 {
    HOST.with(|host| host.now.get())
}

pub(crate) fn wake_at(when: Option<u64>) {
    HOST.with(|host| {
        host.wake_at.set(when);
        host.wakes.set(host.wakes.get() + 1);
    });
}

/// How often `wake_at` was called.
#[cfg(test)]
pub(crate) fn wakes_requested() -> u64 {
    HOST.with(|host| host.wakes.get())
}

fn name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Name(name, port) => format!("{name} {port}"),
        Endpoint::Unix(path) => path.clone(),
    }
}

pub(crate) fn listen(endpoint: &Endpoint) -> Rc<Backlog> {
    let backlog = Rc::new(Backlog::default());
    HOST.with(|host| {
        let mut listeners = host.listeners.borrow_mut();
        listeners.insert(name(endpoint), backlog.clone());
    });
    backlog
}

pub(crate) fn connect_upstream(token: u64, group: &str, limit: Option<Duration>) -> Result<()> {
    let options = ConnectOptions {
        timeout: limit,
        ..ConnectOptions::default()
    };
    begin_connecting(token, upstream(group), options, None);
    Ok(())
}

/// The number of a connection, which nothing here asks for.
pub(crate) type Number = u64;

/// Connects as [`connect_upstream`] does: no server here is told of a client.
pub(crate) fn connect_upstream_for(
    token: u64,
    group: &str,
    _: Number,
    limit: Option<Duration>,
) -> Result<()> {
    connect_upstream(token, group, limit)
}

/// Returns the endpoint that stands for a group here.
pub(crate) fn upstream(group: &str) -> Endpoint {
    Endpoint::Unix(format!("@{group}"))
}

pub(crate) fn connect(token: u64, to: Endpoint, options: ConnectOptions) -> Result<()> {
    begin_connecting(token, to, options, None);
    Ok(())
}

fn begin_connecting(token: u64, to: Endpoint, options: ConnectOptions, pool: Option<usize>) {
    HOST.with(|host| {
        let backlog = host.listeners.borrow().get(&name(&to)).cloned();
        let delay = backlog.as_ref().map_or(Duration::ZERO, |it| it.delay.get());
        let limit = options.timeout.unwrap_or(Duration::from_secs(30));
        let kind = if backlog.is_none() {
            Some(ErrorKind::ConnectionRefused)
        } else {
            (delay > limit).then_some(ErrorKind::Timeout)
        };
        let own_name = match to {
            Endpoint::Name(name, _) => Some(name),
            Endpoint::Unix(_) => None,
        };
        host.connecting.borrow_mut().push(Connecting {
            token,
            pool,
            due: host.now.get() + nanoseconds(delay.min(limit)),
            backlog,
            tls: options
                .tls
                .map(|tls| session(tls.server_name.or(own_name), tls.alpn.into_iter().next())),
            failure: kind.map(|kind| Error::fixed(kind, Operation::Connect, kind.text())),
        });
    });
}

pub(crate) fn cancel_connect(token: u64) {
    HOST.with(|host| {
        let mut connecting = host.connecting.borrow_mut();
        let cancelled = connecting.extract_if(.., |attempt| attempt.token == token);
        cancelled.for_each(|attempt| pool::give_place(host, attempt.pool));
        pool::cancel(host, token);
    });
}

pub(crate) fn set_addresses(name: &str, addresses: &[IpAddr]) {
    HOST.with(|host| {
        let mut names = host.names.borrow_mut();
        names.insert(name.to_owned(), addresses.to_vec());
    });
}

pub(crate) fn resolve(token: u64, name: &str) -> Result<()> {
    HOST.with(|host| host.resolving.borrow_mut().push((token, name.to_owned())));
    Ok(())
}

pub(crate) fn cancel_resolve(token: u64) {
    HOST.with(|host| {
        host.resolving
            .borrow_mut()
            .retain(|(other, _)| *other != token);
    });
}

pub(crate) fn log(level: Level, message: &str) {
    let name = match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    println!("{name}: {message}"); // shown where the test fails
    HOST.with(|host| host.log.borrow_mut().push((level, message.to_owned())));
}

pub(crate) fn take_log() -> Vec<(Level, String)> {
    HOST.with(|host| host.log.take())
}

/// Delivers an event if one is due. Returns false if there was none.
pub(crate) fn deliver() -> bool {
    let pipes: Vec<_> = HOST.with(|host| {
        let mut pipes = host.pipes.borrow_mut();
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.iter().filter_map(Weak::upgrade).collect()
    });
    if pipes.iter().any(|pipe| pipe.deliver()) {
        executor::run();
        return true;
    }
    if let Some(attempt) = next_connecting() {
        let outcome = match (attempt.failure, attempt.backlog) {
            (None, Some(backlog)) => {
                let pipe = Pipe::new();
                *pipe.tls.borrow_mut() = attempt.tls;
                pipe.pool.set(attempt.pool);
                backlog.pipes.borrow_mut().push_back(pipe.clone());
                Ok((Transport(pipe.clone()), pipe))
            }
            (failure, _) => {
                HOST.with(|host| pool::give_place(host, attempt.pool));
                Err(failure.unwrap_or_else(|| ErrorKind::Other.into()))
            }
        };
        let (outcome, pipe) = match outcome {
            Ok((transport, pipe)) => (Ok(transport), Some(pipe)),
            Err(error) => (Err(error), None),
        };
        let shared = connected(attempt.token, outcome);
        if let (Some(pipe), Some(shared)) = (pipe, shared) {
            pipe.attach(&shared);
            // As the host does, which keeps the guest's state until the end.
            HELD.with(|held| held.borrow_mut().push(shared));
        }
        return true;
    }
    if pool::deliver() || datagrams::deliver() || websocket::deliver() {
        return true;
    }
    let lookup = HOST.with(|host| host.resolving.borrow_mut().pop());
    if let Some((token, name)) = lookup {
        let addresses = HOST.with(|host| host.names.borrow().get(&name).cloned());
        let kind = ErrorKind::NameUnresolvable;
        let answer = addresses.ok_or_else(|| Error::fixed(kind, Operation::Resolve, kind.text()));
        resolved(token, answer);
        return true;
    }
    if HOST.with(|host| {
        host.wake_at
            .get()
            .is_some_and(|when| when <= host.now.get())
    }) {
        HOST.with(|host| host.wake_at.set(None));
        timers::woken();
        return true;
    }
    false
}

thread_local! {
    /// The guest's states of its connections.
    static HELD: RefCell<Vec<Rc<Shared>>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the state of a connection, as the host does until it is lost.
pub(crate) fn hold(shared: Rc<Shared>) {
    HELD.with(|held| held.borrow_mut().push(shared));
}

fn next_connecting() -> Option<Connecting> {
    HOST.with(|host| {
        let mut connecting = host.connecting.borrow_mut();
        let at = connecting
            .iter()
            .position(|attempt| attempt.due <= host.now.get())?;
        Some(connecting.remove(at))
    })
}

/// Moves the clock to the next time at which something happens. Returns false
/// if nothing ever will, or not until `limit`.
pub(crate) fn advance(limit: u64) -> bool {
    HOST.with(|host| {
        let connecting = host.connecting.borrow();
        let attempts = connecting.iter().map(|attempt| attempt.due);
        match attempts.chain(host.wake_at.get()).min() {
            Some(next) if next <= limit => {
                host.now.set(next.max(host.now.get()));
                true
            }
            _ => false,
        }
    })
}

/// Moves the clock.
pub(crate) fn set_now(now: u64) {
    HOST.with(|host| host.now.set(now));
}

/// Forgets everything.
pub(crate) fn reset() {
    HELD.with(RefCell::take);
    shared::reset();
    websocket::reset();
    HOST.with(|host| {
        host.wake_at.set(None);
        host.wakes.set(0);
        host.pipes.take();
        host.listeners.take();
        host.names.take();
        host.files.take();
        host.connecting.take();
        host.resolving.take();
        host.datagram_attempts.take();
        host.sockets.take();
        host.pools.take();
        host.log.take();
        host.metrics.take();
    });
}

/// Answer of a test's handler.
pub(crate) type Answer = RawResponse;
