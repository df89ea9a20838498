//! A host in memory, with a clock that stands still until nothing else is
//! left to do: for tests.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{ConnectOptions, Endpoint, RawResponse, TlsRole};
use crate::connect::{connected, resolved};
use crate::connection::Shared;
use crate::log::Level;
use crate::time::nanoseconds;
use crate::{Address, Error, ErrorKind, Info, Operation, Result, TlsInfo, executor, timers};

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
    log: RefCell<Vec<(Level, String)>>,
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
    due: u64,
    backlog: Option<Rc<Backlog>>,
    tls: Option<TlsInfo>,
    failure: Option<Error>,
}

/// A connection between the guest and a test.
pub(crate) struct Pipe {
    /// Receiver of the events.
    events: RefCell<Weak<Shared>>,
    /// Bytes that the guest wrote and the test has not taken.
    written: RefCell<VecDeque<u8>>,
    /// Bytes that the test sent and the guest has not got.
    sent: RefCell<VecDeque<Vec<u8>>>,
    limits: Cell<(u64, u64)>,
    /// True if `writable` is due once there is room.
    promised: Cell<bool>,
    paused: Cell<bool>,
    /// How the guest ended its side.
    end: Cell<Option<End>>,
    /// True once the test ended its side; and once the guest knows.
    finished: Cell<bool>,
    finish_told: Cell<bool>,
    /// Why the connection failed, before the guest knows.
    failure: RefCell<Option<Error>>,
    lost: Cell<bool>,
    relay: RefCell<Option<Rc<Self>>>,
    tls: RefCell<Option<TlsInfo>>,
    tls_told: Cell<bool>,
    idle_timeout: Cell<Option<Duration>>,
}

/// How a guest ended its side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended its sending side.
    Finished,
    /// It closed the connection.
    Closed,
    /// It reset the connection.
    Aborted,
}

impl Pipe {
    pub(crate) fn new() -> Rc<Self> {
        let pipe = Rc::new(Self {
            events: RefCell::default(),
            written: RefCell::default(),
            sent: RefCell::default(),
            limits: Cell::new((64 << 10, 16 << 10)),
            promised: Cell::new(false),
            paused: Cell::new(false),
            end: Cell::new(None),
            finished: Cell::new(false),
            finish_told: Cell::new(false),
            failure: RefCell::default(),
            lost: Cell::new(false),
            relay: RefCell::default(),
            tls: RefCell::default(),
            tls_told: Cell::new(true),
            idle_timeout: Cell::new(None),
        });
        HOST.with(|host| host.pipes.borrow_mut().push(Rc::downgrade(&pipe)));
        pipe
    }

    /// Makes the guest's state of the connection.
    pub(crate) fn open(self: &Rc<Self>) -> Rc<Shared> {
        let shared = Shared::new(Transport(self.clone()));
        self.attach(&shared);
        shared
    }

    fn attach(&self, shared: &Rc<Shared>) {
        *self.events.borrow_mut() = Rc::downgrade(shared);
    }

    // Actions of the test.

    pub(crate) fn send(&self, data: &[u8]) {
        if !data.is_empty() {
            self.sent.borrow_mut().push_back(data.to_vec());
        }
    }

    pub(crate) fn finish(&self) {
        self.finished.set(true);
    }

    pub(crate) fn fail(&self, error: Error) {
        *self.failure.borrow_mut() = Some(error);
    }

    /// The bytes that wait to be taken.
    pub(crate) fn available(&self) -> usize {
        self.written.borrow().len()
    }

    pub(crate) fn take(&self, count: usize) -> Vec<u8> {
        let mut written = self.written.borrow_mut();
        let count = count.min(written.len());
        written.drain(..count).collect()
    }

    pub(crate) fn peek(&self) -> Vec<u8> {
        self.written.borrow().iter().copied().collect()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(crate) fn in_tls(&self) -> bool {
        self.tls.borrow().is_some()
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.get()
    }

    // Actions of the host.

    fn lose(&self, events: &Shared, reason: Option<Error>) {
        self.lost.set(true);
        if reason.is_some() {
            self.end.set(Some(End::Aborted));
        }
        events.connection_lost(reason);
    }

    /// Delivers an event if one is due.
    fn deliver(&self) -> bool {
        if self.lost.get() {
            return false;
        }
        let Some(events) = self.events.borrow().upgrade() else {
            return false;
        };
        let failure = self.failure.borrow_mut().take();
        if failure.is_some() {
            self.lose(&events, failure);
            return true;
        }
        match self.end.get() {
            Some(End::Closed) => {
                self.lose(&events, None);
                return true;
            }
            Some(End::Aborted) => {
                let aborted = ErrorKind::ConnectionAborted;
                let error = Error::fixed(aborted, Operation::Connection, aborted.text());
                self.lose(&events, Some(error));
                return true;
            }
            Some(End::Finished) | None => {}
        }
        if !self.tls_told.replace(true) {
            let session = self.tls.borrow().clone().unwrap_or_default();
            events.tls_started(session);
            return true;
        }
        let relay = self.relay.borrow().clone();
        if !self.paused.get() {
            let data = self.sent.borrow_mut().pop_front();
            if let Some(data) = data {
                match relay {
                    Some(to) => to.written.borrow_mut().extend(data),
                    None => events.data_received(data),
                }
                return true;
            }
            if self.finished.get() && !self.finish_told.replace(true) {
                match relay {
                    Some(to) => to.end.set(Some(End::Finished)),
                    None => events.eof_received(),
                }
                return true;
            }
        }
        if self.relay.borrow().is_some() && self.finish_told.get() && self.end.get().is_some() {
            self.end.set(Some(End::Closed));
            return true;
        }
        let (_, low) = self.limits.get();
        if self.promised.get() && self.available() as u64 <= low {
            self.promised.set(false);
            events.writable();
            return true;
        }
        false
    }
}

/// The guest's end of a pipe.
pub(crate) struct Transport(Rc<Pipe>);

impl Transport {
    fn is_closing(&self) -> bool {
        let ended = matches!(self.0.end.get(), Some(End::Closed | End::Aborted));
        ended || self.0.lost.get()
    }

    pub(crate) fn write(&self, data: &[u8]) -> u64 {
        if self.is_closing() || self.0.end.get().is_some() {
            return u64::MAX;
        }
        self.0.written.borrow_mut().extend(data);
        self.room()
    }

    pub(crate) fn writelines(&self, data: &[Vec<u8>]) -> u64 {
        self.write(&data.concat())
    }

    pub(crate) fn room(&self) -> u64 {
        let (high, _) = self.0.limits.get();
        let room = high.saturating_sub(self.0.available() as u64);
        if room == 0 {
            self.0.promised.set(true);
        }
        room
    }

    pub(crate) fn want_write(&self) {
        self.0.promised.set(true);
    }

    pub(crate) fn write_eof(&self) -> Result<()> {
        if self.0.end.get().is_some() || self.0.lost.get() {
            return Err(ErrorKind::InvalidState.into());
        }
        self.0.end.set(Some(End::Finished));
        Ok(())
    }

    pub(crate) fn send_file(&self, file: &File, offset: u64, length: Option<u64>) -> Result<u64> {
        let part = usize::try_from(offset).ok().and_then(|offset| {
            let rest = file.0.get(offset..)?;
            match length {
                Some(length) => rest.get(..usize::try_from(length).ok()?),
                None => Some(rest),
            }
        });
        let part = part.ok_or(ErrorKind::InvalidArgument)?;
        self.0.written.borrow_mut().extend(part);
        Ok(part.len() as u64)
    }

    pub(crate) fn relay(&self, to: &Self) -> Result<()> {
        if self.is_closing() || to.is_closing() || self.0.relay.borrow().is_some() {
            return Err(ErrorKind::InvalidState.into());
        }
        *self.0.relay.borrow_mut() = Some(to.0.clone());
        Ok(())
    }

    pub(crate) fn start_tls(&self, role: TlsRole, received: &[u8]) -> Result<()> {
        if self.is_closing() || self.0.in_tls() {
            return Err(ErrorKind::InvalidState.into());
        }
        let session = match role {
            TlsRole::Server => session(None, None),
            TlsRole::Client(options) => {
                session(options.server_name, options.alpn.into_iter().next())
            }
        };
        *self.0.tls.borrow_mut() = Some(session);
        self.0.tls_told.set(false);
        if !received.is_empty() {
            // There is no cipher here: what is sent is what arrives.
            self.0.sent.borrow_mut().push_front(received.to_vec());
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        if !self.is_closing() {
            self.0.end.set(Some(End::Closed));
        }
    }

    pub(crate) fn abort(&self) {
        if !self.is_closing() {
            self.0.written.borrow_mut().clear();
            self.0.end.set(Some(End::Aborted));
        }
    }

    pub(crate) fn pause_reading(&self) {
        self.0.paused.set(true);
    }

    pub(crate) fn resume_reading(&self) {
        self.0.paused.set(false);
    }

    pub(crate) fn set_idle_timeout(&self, after: Option<Duration>) {
        self.0.idle_timeout.set(after);
    }

    pub(crate) fn set_write_buffer_limits(&self, high: u64, low: u64) {
        let high = high.max(1);
        self.0.limits.set((high, low.min(high)));
    }

    pub(crate) fn info(&self) -> Info {
        Info {
            tls: self.0.tls.borrow().clone(),
            ..example_info()
        }
    }
}

fn session(server_name: Option<String>, alpn: Option<String>) -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
        alpn,
        server_name,
        peer_certificates: Vec::new(),
    }
}

/// Addresses of documentation (RFC 5737).
pub(crate) fn example_info() -> Info {
    Info {
        peer: Address::Ip(([192, 0, 2, 1], 50_000).into()),
        local: Address::Ip(([192, 0, 2, 2], 80).into()),
        tls: None,
    }
}

/// A datagram socket of a test.
#[derive(Default)]
pub(crate) struct Socket {
    pub(crate) sent: RefCell<VecDeque<(Vec<u8>, SocketAddr)>>,
    pub(crate) closed: Cell<bool>,
}

/// The guest's end of a socket.
pub(crate) struct DatagramTransport(pub(crate) Rc<Socket>);

impl DatagramTransport {
    pub(crate) fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<()> {
        if self.0.closed.get() {
            return Err(ErrorKind::InvalidState.into());
        }
        if data.len() > 65_507 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        self.0.sent.borrow_mut().push_back((data.to_vec(), to));
        Ok(())
    }

    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        (!self.0.closed.get()).then(|| ([192, 0, 2, 2], 53).into())
    }

    pub(crate) fn close(&self) {
        self.0.closed.set(true);
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

pub(crate) fn connect(token: u64, to: Endpoint, options: ConnectOptions) -> Result<()> {
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
            due: host.now.get() + nanoseconds(delay.min(limit)),
            backlog,
            tls: options
                .tls
                .map(|tls| session(tls.server_name.or(own_name), tls.alpn.into_iter().next())),
            failure: kind.map(|kind| Error::fixed(kind, Operation::Connect, kind.text())),
        });
    });
    Ok(())
}

pub(crate) fn cancel_connect(token: u64) {
    HOST.with(|host| {
        let mut connecting = host.connecting.borrow_mut();
        connecting.retain(|attempt| attempt.token != token);
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
                backlog.pipes.borrow_mut().push_back(pipe.clone());
                Ok((Transport(pipe.clone()), pipe))
            }
            (failure, _) => Err(failure.unwrap_or_else(|| ErrorKind::Other.into())),
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
    HOST.with(|host| {
        host.wake_at.set(None);
        host.wakes.set(0);
        host.pipes.take();
        host.listeners.take();
        host.names.take();
        host.files.take();
        host.connecting.take();
        host.resolving.take();
        host.log.take();
    });
}

/// A request, apart from its method and target.
pub(crate) struct RequestData {
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// A request, as a handler sees it.
#[derive(Clone, Copy)]
pub(crate) struct RawRequest<'a>(pub(crate) &'a RequestData);

impl RawRequest<'_> {
    pub(crate) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.header_values(name).into_iter().next()
    }

    pub(crate) fn header_values(&self, name: &str) -> Vec<Vec<u8>> {
        let named = |(other, _): &&(String, Vec<u8>)| other.eq_ignore_ascii_case(name);
        let values = self.0.headers.iter().filter(named);
        values.map(|(_, value)| value.clone()).collect()
    }

    pub(crate) fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.headers.clone()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        self.0.body.clone()
    }

    pub(crate) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    pub(crate) fn scheme(&self) -> String {
        "http".to_owned()
    }

    pub(crate) fn authority(&self) -> Option<String> {
        let host = self.header("host")?;
        String::from_utf8(host).ok()
    }

    pub(crate) fn info(&self) -> Info {
        example_info()
    }
}

/// Answer of a test's handler.
pub(crate) type Answer = RawResponse;
