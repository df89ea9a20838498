//! The host's state of one event instance: the objects behind its handles, the
//! work begun for it, and its limits.

use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::task::AbortHandle;
use wasmtime::component::Resource;

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::{Answer, Interim};
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::outlet::{Outlet, OutletBody, OutletLimits};
use netwasm_exchange::request::Request;
use netwasm_exchange::topics::connection::ConnectionTopics;
use netwasm_exchange::topics::events::Reader;
use netwasm_exchange::websocket::Socket;
use netwasm_net::files::File;
use netwasm_net::transport::Transport;
use netwasm_net::turns::Turn;
use netwasm_net::udp::Datagrams;

use crate::handles::FileHandle;
use crate::inlets::{Credit, Inlets, deliver};
use crate::instance::Instance;
use crate::local::Local;
use crate::measures::Measures;
use crate::memory::MemoryLimit;
use crate::numbers::Numbers;
use crate::pooling::Pooling;
use crate::responses::{Asker, BodyOfGuest, DeferredRequest, Responds as _, Responses};
use crate::served::request_line;
use crate::steps::Computed;
use crate::timer::Timer;
use crate::wasi::{Wasi, WasiHost};

/// Codes of close frames: the guest has exited, or has trapped (RFC 6455, section
/// 7.4.1).
const GOING_AWAY: u16 = 1001;
const INTERNAL: u16 = 1011;

/// Maximum of what is kept of a client's `Last-Event-ID`, in bytes.
const MOST_EVENT_ID: usize = 64;

/// The data of an instance's store.
pub(crate) struct State {
    pub(crate) local: Rc<Local>,
    /// The instance itself, for work that ends as an event.
    pub(crate) instance: Weak<Instance>,
    pub(crate) wasi: Wasi,
    pub(crate) memory: MemoryLimit,
    /// The request being handled.
    pub(crate) request: Option<Box<Request>>,
    /// Interim responses to it.
    pub(crate) interim: Vec<Interim>,
    /// Turn shared by all work begun for the instance.
    pub(crate) turn: Rc<Turn>,
    pub(crate) timer: Timer,
    pub(crate) responses: Responses,
    /// True if the guest hears of the bodies that it sends.
    pub(crate) streams: bool,
    /// True if the guest can decide about responses to forwarded requests.
    pub(crate) judges: bool,
    pub(crate) inlets: Inlets,
    /// Time that the present call has computed for.
    pub(crate) computed: Computed,
    pub(crate) transports: Numbers<Rc<Transport>>,
    /// Topics of connections that have some, by their numbers.
    pub(crate) subscribed: HashMap<u64, Rc<ConnectionTopics>>,
    pub(crate) datagrams: Numbers<Rc<Datagrams>>,
    pub(crate) websockets: Numbers<Rc<Socket>>,
    pub(crate) pooling: Pooling,
    pub(crate) measures: Measures,
    files: Slab<Rc<File>>,
    pending: Pending,
}

impl State {
    pub(crate) fn new(local: &Rc<Local>) -> Self {
        let env = &local.env;
        Self {
            local: Rc::clone(local),
            instance: Weak::new(),
            wasi: Wasi::new(env.wasi.clone()),
            memory: MemoryLimit::new(env),
            request: None,
            interim: Vec::new(),
            turn: local.worker.thread.turns.turn(),
            timer: Timer::default(),
            responses: Responses::default(),
            streams: false,
            judges: false,
            inlets: Inlets::default(),
            computed: Computed::default(),
            transports: Numbers::default(),
            subscribed: HashMap::new(),
            datagrams: Numbers::default(),
            websockets: Numbers::default(),
            pooling: Pooling::default(),
            measures: Measures::new(env),
            files: Slab::new(),
            pending: Pending::default(),
        }
    }

    // Handles. wasmtime has checked that the guest owns what it passes. A
    // number without an object is a bug of the host, and traps.

    /// Returns the instance if it decides about responses to forwarded requests.
    pub(crate) fn judging(&self) -> Option<&Weak<Instance>> {
        self.judges.then_some(&self.instance)
    }

    /// Returns the peer of the only connection; `None` if there is another number of
    /// them.
    pub(crate) fn only_peer(&self) -> Option<Address> {
        let mut all = self.transports.iter();
        match (all.next(), all.next()) {
            (Some(only), None) => Some(only.peer().clone()),
            _ => None,
        }
    }

    /// Closes all connections after the instance exited, as exit closes the
    /// sockets of a process: what the guest wrote is sent.
    pub(crate) fn close_all(&mut self) {
        for transport in self.transports.iter() {
            transport.close();
        }
        self.close_datagrams();
        self.close_websockets(GOING_AWAY);
        // An instance that a worker keeps may stay for long.
        self.subscribed.clear();
        self.datagrams = Numbers::default();
        self.websockets = Numbers::default();
        self.pooling = Pooling::default();
        self.stop_work();
    }

    /// Fails all connections after the instance trapped.
    pub(crate) fn abandon(&mut self) {
        for transport in self.transports.iter() {
            transport.fail(ConnectionError::Aborted);
        }
        for datagrams in self.datagrams.iter() {
            datagrams.abort();
        }
        self.close_websockets(INTERNAL);
        self.stop_work();
    }

    /// Closes all WebSocket connections.
    fn close_websockets(&self, code: u16) {
        for socket in self.websockets.iter() {
            // It may be closing already.
            let _ = socket.close(code, "");
        }
    }

    /// Closes all datagram sockets once what the guest sent is with the kernel.
    fn close_datagrams(&self) {
        for datagrams in self.datagrams.iter() {
            datagrams.close();
        }
    }

    /// Adds a file and returns its handle.
    ///
    /// # Errors
    /// Fails with `LimitExceeded` if the instance holds too many files.
    pub(crate) fn add_file(&mut self, file: File) -> Result<Resource<FileHandle>, ConnectionError> {
        if self.files.len() >= self.local.env.net.limits.max_handles {
            return Err(TOO_MANY_HANDLES);
        }
        Ok(Resource::new_own(number(self.files.insert(Rc::new(file)))))
    }

    pub(crate) fn file(&self, handle: &Resource<FileHandle>) -> wasmtime::Result<&Rc<File>> {
        self.files.get(handle.rep() as usize).ok_or_else(unknown)
    }

    pub(crate) fn remove_file(
        &mut self,
        handle: &Resource<FileHandle>,
    ) -> wasmtime::Result<Rc<File>> {
        self.files
            .try_remove(handle.rep() as usize)
            .ok_or_else(unknown)
    }

    /// Refreshes the files that the guest kept from an earlier request. Mostly
    /// there are none.
    pub(crate) fn refresh_files(&self) {
        for (_, file) in &self.files {
            // A file that cannot be refreshed fails when it is sent.
            let _ = file.refresh();
        }
    }

    /// Returns the request behind the handle: there is one at a time.
    pub(crate) fn request(&self) -> wasmtime::Result<&Request> {
        self.request.as_deref().ok_or_else(unknown)
    }

    // Work that ends as an event.

    /// Begins work under the guest's token for it.
    ///
    /// # Errors
    /// Fails with `InvalidState` if work of this kind is pending under that
    /// token, and with `LimitExceeded` if too much is pending.
    pub(crate) fn begin<F: Future<Output = ()> + 'static>(
        &mut self,
        kind: Later,
        token: u64,
        start: impl FnOnce(&Self) -> F,
    ) -> Result<(), ConnectionError> {
        if self.pending.tasks.contains_key(&(kind, token)) {
            return Err(ConnectionError::InvalidState);
        }
        if self.pending.tasks.len() >= self.local.env.net.limits.max_handles {
            return Err(TOO_MANY_HANDLES);
        }
        let thread = &self.local.worker.thread;
        let task = thread.spawn_aside(Rc::clone(&self.turn), start(self));
        self.pending.tasks.insert((kind, token), task);
        Ok(())
    }

    /// Notes that work has ended, so that its token may be used again.
    pub(crate) fn finish(&mut self, kind: Later, token: u64) {
        self.pending.tasks.remove(&(kind, token));
    }

    /// Aborts work, which then ends without an event.
    pub(crate) fn cancel(&mut self, kind: Later, token: u64) {
        if let Some(task) = self.pending.tasks.remove(&(kind, token)) {
            task.abort();
        }
    }
}

/// True if the guest reads the body of the request that it handles.
pub(crate) fn reads_body(request: &Request) -> bool {
    request.arriving && request.coming.is_none()
}

// Requests and responses that are not over when `handle` returns.

impl State {
    /// Checks that a token can be used for a response.
    ///
    /// # Errors
    /// Fails with `InvalidState` if the token is in use, and with
    /// `LimitExceeded` if there are too many responses.
    fn check_response(&self, token: u64) -> Result<(), ConnectionError> {
        if self.responses.has(token) {
            return Err(ConnectionError::InvalidState);
        }
        if self.responses.len() >= self.local.env.net.limits.max_handles {
            return Err(TOO_MANY_HANDLES);
        }
        Ok(())
    }

    /// Notes that the request being handled is answered later.
    ///
    /// # Errors
    /// Fails as [`Self::check_response`] does.
    pub(crate) fn defer(&mut self, token: u64) -> Result<Rc<Deferred>, ConnectionError> {
        self.check_response(token)?;
        let asker = self.asker();
        let instance = Weak::clone(&self.instance);
        let deferred = Deferred::new(move || {
            if let Some(instance) = instance.upgrade() {
                // A trap is already logged.
                let _ = instance.abandoned(token);
            }
        });
        let request = self.request.as_deref();
        let line = request.map(|it| request_line(it.head.method(), it.head.target()));
        let added = DeferredRequest {
            decision: Rc::clone(&deferred),
            asker,
            is_read: request.is_some_and(reads_body),
            line: line.unwrap_or_default().into(),
        };
        self.responses.add_deferred(token, added);
        self.inform_all(&deferred);
        Ok(deferred)
    }

    /// Returns an answer whose body is a stream, as one that was deferred.
    pub(crate) fn given(&mut self, answer: Answer) -> Rc<Deferred> {
        let deferred = Deferred::given(answer);
        self.inform_all(&deferred);
        deferred
    }

    /// Passes on the interim responses to the request being handled.
    fn inform_all(&mut self, deferred: &Deferred) {
        for interim in self.interim.drain(..) {
            // It holds none yet, and takes as many.
            let _ = deferred.inform(interim);
        }
    }

    /// Returns the turns of the connection of the request being handled.
    pub(crate) fn request_turn(&self) -> Rc<Turn> {
        let request = self.request.as_deref();
        let transport = request.and_then(|request| request.transport.as_ref());
        Rc::clone(transport.map_or(&self.turn, |transport| &transport.turn))
    }

    /// Returns the client of the request being handled.
    pub(crate) fn asker(&self) -> Asker {
        let request = self.request.as_deref();
        let seen = request.and_then(|request| request.head.first("last-event-id"));
        Asker {
            turn: self.request_turn(),
            reader: Reader {
                // Another ID than the host's is as good as any other.
                seen: seen.map(|it| it.iter().take(MOST_EVENT_ID).copied().collect()),
                transport: request.and_then(|request| request.transport.clone()),
            },
        }
    }

    /// Begins a body that the guest sends piece by piece, in the turns of its
    /// connection. Returns the connection's end.
    ///
    /// # Errors
    /// Fails as [`Self::check_response`] does.
    pub(crate) fn begin_body(
        &mut self,
        token: u64,
        turn: &Rc<Turn>,
    ) -> Result<OutletBody, ConnectionError> {
        self.check_response(token)?;
        let guest = BodyOfGuest {
            instance: Weak::clone(&self.instance),
            token,
        };
        let limits = &self.local.env.net.limits;
        let limits = OutletLimits {
            high: limits.write_high,
            low: limits.write_low,
            most: limits.max_write_buffer,
        };
        let (outlet, body) = Outlet::new(guest, limits, &self.responses.held, turn);
        self.responses.add_body(token, outlet);
        Ok(body)
    }

    /// Queues a piece of a body. Returns the room that is left.
    pub(crate) fn send_body(&self, token: u64, data: &[u8]) -> u64 {
        let Some(outlet) = self.responses.body(token) else {
            return u64::MAX;
        };
        outlet
            .send(data, self.responses.len())
            .unwrap_or_else(|_overflow| {
                tracing::error!(
                    guest = %self.local.env.net.guest,
                    "the guest sends a body faster than its client takes it \
                     (--max-write-buffer)"
                );
                u64::MAX
            })
    }

    /// Begins to read the body of the request being handled.
    ///
    /// # Errors
    /// Fails with `InvalidState` if there is none to read, or the token is in
    /// use, and with `LimitExceeded` if too many bodies are being read.
    pub(crate) fn read_body(&mut self, token: u64, credit: u64) -> Result<(), ConnectionError> {
        if self.inlets.has(token) {
            return Err(ConnectionError::InvalidState);
        }
        if self.inlets.len() >= self.local.env.net.limits.max_handles {
            return Err(TOO_MANY_HANDLES);
        }
        let request = self.request.as_deref_mut();
        let body = request.and_then(|request| request.coming.take());
        let body = body.ok_or(ConnectionError::InvalidState)?;
        let turn = self.request_turn();
        let credit = Credit::new(credit);
        let reading = deliver(
            Weak::clone(&self.instance),
            token,
            Rc::clone(&credit),
            body,
            Rc::clone(&turn),
        );
        let task = self.local.worker.thread.spawn_aside(turn, reading);
        self.inlets.add(token, credit, task);
        Ok(())
    }

    /// Ends what is under way for an instance that is gone.
    fn stop_work(&mut self) {
        self.timer.stop();
        self.responses = Responses::default();
        self.inlets = Inlets::default();
        self.pending = Pending::default();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // The tasks of sockets that the guest opened do not keep the instance.
        self.close_datagrams();
    }
}

impl WasiHost for State {
    fn wasi(&mut self) -> &mut Wasi {
        &mut self.wasi
    }

    fn max_memory(&self) -> usize {
        self.local.env.net.limits.max_memory
    }

    fn time_left(&self) -> Duration {
        self.computed.left(&self.local.env.net.limits)
    }

    fn waited(&mut self, time: Duration) {
        self.computed.waited(time, Duration::ZERO);
    }
}

pub(crate) const TOO_MANY_HANDLES: ConnectionError =
    ConnectionError::LimitExceeded("the instance holds too many handles (--max-handles)");

fn number(key: usize) -> u32 {
    // The limit on open descriptors keeps the key far below.
    u32::try_from(key).unwrap_or(u32::MAX)
}

fn unknown() -> wasmtime::Error {
    wasmtime::Error::msg("the handle stands for nothing")
}

/// Work that ends as an event. Each kind has tokens of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Later {
    Connection,
    /// A resolver query.
    Question,
    /// A connected datagram socket.
    Datagrams,
    /// A WebSocket connection.
    WebSocket,
}

/// Resolver queries and connections under way, by the guest's tokens.
#[derive(Debug, Default)]
struct Pending {
    tasks: HashMap<(Later, u64), AbortHandle>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}
