//! Client for requests that guests send: `wasi:http/outgoing-handler@0.2` and
//! `wasi:http/client@0.3`.
//!
//! ```text
//!   guest --> SentBody --> hyper's client --> Connector --> connect, TLS --> peer
//!   guest <-- ReceivedBody <--+   |
//!                                 +-- idle connections, shared by all instances
//! ```
//!
//! Hyper does the exchange, and keeps idle connections for the next one. Each
//! worker has its own, shared by all its instances, and as many side by side as
//! servers of HTTP/2 need connections (`lanes`). A worker is one thread, so
//! nothing passes between threads. A connection whose exchange was cancelled is
//! not kept.
//!
//! `begin` finds out whether a request has a body, and `head` checks what a
//! response's head claims. Hyper leaves both to its callers. `settings` reads how many
//! streams a server takes, of which the lanes are made.
//!
//! `websocket` opens WebSocket connections, without hyper: after their handshake,
//! the driver of those of clients goes on with them.
//!
//! Requests arrive here only if their destination is allowed. An address that a
//! name resolves to is checked when it is connected to.

mod begin;
mod body;
mod connector;
mod failure;
mod head;
mod lanes;
mod line;
mod plain;
mod received;
mod settings;
mod websocket;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::TokioTimer;
use send_wrapper::SendWrapper;
use tokio::sync::OwnedSemaphorePermit;

use netwasm_base::counters::Counters;
use netwasm_exchange::failure::Failure;
use netwasm_exchange::outgoing::{Exchange, Outgoing, Received, SendOptions, Sending, WireBody};
use netwasm_exchange::websocket::{ClientRequest, OpeningByClient};
use netwasm_net::connect;
use netwasm_net::env::Env;
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;

use self::begin::{Beginning, begin};
use self::body::{RequestUpload, SentBody};
use self::connector::Connector;
use self::lanes::{LanePlace, Lanes};
use self::line::{ClientLine, Idle};
use self::received::ReceivedBody;
use crate::spans::Sent;
use crate::websocket::codec::ThreadBuffers;

/// Time limit for making a connection, unless the guest sets another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit of a response's silence, unless the guest sets another.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(600);

/// Time for which an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum of idle connections that a worker keeps for each host.
const MOST_IDLE: usize = 32;

/// Maximum of a response's head, and of its body read ahead of the guest, in
/// bytes.
pub(super) const MOST_HEAD: u32 = 256 << 10;

/// Maximum that is read ahead of a body in HTTP/2, in bytes: for one stream,
/// and for all on a connection. There the peer may send ahead. Instances share the
/// connection, so the bodies that one does not read must not use up its window:
/// it is enough for all exchanges of a lane. Half of it is what `h2` takes of small
/// frames that wait.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = lanes::STREAMS as u32 * STREAM_WINDOW;

/// Number of reset streams whose late frames are expected, for a second each.
const MOST_RESET: usize = 1000;

/// Maximum of frames on a connection that come later still, or are wrong. Each is
/// answered by a reset, and resets take memory while the server does not read.
const MOST_LATE: usize = 1 << 16;

/// Interval of HTTP/2 pings, while the connection has exchanges and the server is
/// silent. gRPC servers close the connections of clients that ask more than every
/// 5 minutes, which would end a stream that waits for long. The kernel notices
/// sooner that a server is gone (`connector`).
const PING_INTERVAL: Duration = Duration::from_secs(310);

/// Sender of the requests of a worker's guests.
#[derive(Debug)]
pub struct Client {
    env: Arc<Env>,
    worker: Weak<Worker>,
    /// Made on first use.
    lines: OnceCell<Rc<KeptLines>>,
    /// Buffers for the messages of WebSocket connections.
    messages: Rc<ThreadBuffers>,
}

impl Outgoing for Client {
    fn send(&self, mut request: Request<WireBody>, mut exchange: Exchange) -> Sending {
        let make = || Rc::new(KeptLines::new(&self.env, Weak::clone(&self.worker)));
        let lines = Rc::clone(self.lines.get_or_init(make));
        let (env, asked) = (Arc::clone(&self.env), request.uri().authority().cloned());
        let traced = exchange.trace.take();
        let traced = traced.map(|trace| Sent::begin(trace.take(), &mut request));
        Box::pin(async move {
            let sent = lines.send(request, exchange).await;
            if let Some(traced) = traced {
                traced.end(&env, &sent);
            }
            match &sent {
                Ok(_) => env.counters.upstream.answered.add(),
                Err(_) => env.counters.upstream.failed.add(),
            }
            if let Err(Failure::HttpResponseHeaderSectionSize) = &sent {
                let from = asked.as_ref().map_or("", Authority::as_str);
                tracing::warn!(
                    guest = %env.guest, from,
                    "the head of a response has more than {} headers (--max-response-headers), or \
                     more than {} KiB",
                    env.limits.http.max_response_headers, MOST_HEAD >> 10
                );
            }
            sent
        })
    }

    fn open_websocket(&self, transport: Rc<Transport>, request: ClientRequest) -> OpeningByClient {
        let (worker, messages) = (Weak::clone(&self.worker), Rc::clone(&self.messages));
        Box::pin(websocket::open(worker, messages, transport, request))
    }
}

impl Client {
    /// Returns the client of a worker.
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self {
            env: Arc::clone(worker.env()),
            worker: Rc::downgrade(worker),
            lines: OnceCell::new(),
            messages: Rc::default(),
        }
    }
}

/// Connections of a worker's client.
#[derive(Debug)]
struct KeptLines {
    worker: Weak<Worker>,
    /// Hyper's clients, by lane. Each is made on its first use.
    clients: RefCell<HashMap<usize, HyperClient>>,
    lanes: Lanes,
    tasks: Tasks,
    idle: Idle,
    /// Maximum of header lines in a response.
    most_fields: usize,
    counters: Arc<Counters>,
}

type HyperClient = legacy::Client<Connector, SentBody>;

impl KeptLines {
    fn new(env: &Env, worker: Weak<Worker>) -> Self {
        Self {
            tasks: Tasks(SendWrapper::new(Weak::clone(&worker))),
            worker,
            clients: RefCell::default(),
            lanes: Lanes::default(),
            idle: Idle::default(),
            most_fields: env.limits.http.max_response_headers,
            counters: Arc::clone(&env.counters),
        }
    }

    fn client(&self) -> HyperClient {
        legacy::Client::builder(self.tasks.clone())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MOST_IDLE)
            .http1_max_buf_size(MOST_HEAD as usize)
            .http1_max_headers(head::most_lines(self.most_fields))
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            // `head::receive` refuses more than `MOST_HEAD`: h2 would not say
            // why.
            .http2_max_header_list_size(2 * MOST_HEAD)
            // Guests that leave reset streams for which the server still sends: that
            // is no fault of the server's, up to a point.
            .http2_max_concurrent_reset_streams(MOST_RESET)
            .http2_max_local_error_reset_streams(MOST_LATE)
            .http2_keep_alive_interval(PING_INTERVAL)
            .build(Connector::new(Weak::clone(&self.worker), &self.lanes))
    }

    /// True if another connection is within `--max-outgoing`.
    fn may_connect(&self) -> bool {
        let worker = self.worker.upgrade();
        worker.is_some_and(|worker| connect::permit(&worker).is_ok())
    }

    /// Begins a request in a lane.
    fn request(&self, lane: usize, request: Request<SentBody>) -> legacy::ResponseFuture {
        let mut clients = self.clients.borrow_mut();
        let client = clients.entry(lane).or_insert_with(|| self.client());
        client.request(request)
    }

    async fn send(
        &self,
        request: Request<WireBody>,
        exchange: Exchange,
    ) -> Result<Received, Failure> {
        let Exchange {
            place,
            health,
            options,
            trace: _,
        } = exchange;
        let (mut parts, mut body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(Failure::HttpRequestMethodInvalid);
        }
        // The client derives it from the URI, and HTTP/2 has none.
        parts.headers.remove(HOST);
        let Beginning { told, first, empty } = begin(&mut parts, &mut body).await?;
        let upload = Arc::new(RequestUpload::default());
        let again = parts.clone();
        let body = match empty {
            true => SentBody::empty(&upload),
            false => SentBody::new(body, first, told, &upload, health),
        };
        let mut outcome = self
            .attempt(Request::from_parts(parts, body), &upload, &options, false)
            .await;
        if let Err(failed) = &outcome
            && (failed.refused
                || failed.is_crowded()
                || failed.stale && again.method.is_idempotent())
            && let Some(body) = match empty {
                true => Some(SentBody::empty(&upload)),
                false => upload.take_unsent(),
            }
        {
            tracing::debug!(uri = %again.uri, "the request was not taken: once more");
            let crowded = failed.is_crowded();
            let request = Request::from_parts(again, body);
            outcome = self.attempt(request, &upload, &options, crowded).await;
        }
        upload.settle();
        let (response, mut guard) =
            outcome.map_err(|failed| upload.take_failure().unwrap_or(failed.error))?;
        let (parts, body) = response.into_parts();
        let between = options.between_bytes_timeout.unwrap_or(RESPONSE_TIMEOUT);
        guard.place = Some(place);
        let guard = Arc::new(guard);
        if !upload.has_ended() {
            self.tasks.execute(send_rest(Arc::clone(&guard), between));
        }
        let body = ReceivedBody::new(body, parts.version, between, guard);
        let body = body.boxed_unsync();
        let sent = upload.watch().ended();
        Ok((Response::from_parts(parts, body), Box::pin(sent)))
    }

    /// Sends a request on an idle connection or on a new one. If `crowded`, it waits
    /// for its turn on the server's first one.
    async fn attempt(
        &self,
        mut request: Request<SentBody>,
        upload: &Arc<RequestUpload>,
        options: &SendOptions,
        crowded: bool,
    ) -> Result<(Response<Incoming>, Guard), Failed> {
        let empty = request.body().is_end_stream();
        // Without TLS, it speaks HTTP/1.1.
        let secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        let lane = request.uri().authority().filter(|_| secure);
        let lane = lane.map(|server| match crowded {
            true => self.lanes.enter_first(server),
            false => self.lanes.enter(server, || self.may_connect()),
        });
        let number = lane.as_ref().map_or(0, |lane| lane.number);
        let captured = capture_connection(&mut request);
        let mut connecting = captured.clone();
        let mut sending = pin!(self.request(number, request));
        let limit = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        tokio::select! {
            biased;
            result = &mut sending => {
                let (guard, kept) = self.guard(&captured, upload, lane);
                let response = result.map_err(|error| Failed::new(&error, kept))?;
                return self.receive(response, guard, &captured);
            }
            connected = connecting.wait_for_connection_metadata() => drop(connected),
            () = tokio::time::sleep(limit) => return Err(Failure::ConnectionTimeout.into()),
        }
        let (guard, kept) = self.guard(&captured, upload, lane);
        upload.begin();
        let limit = options.first_byte_timeout.unwrap_or(RESPONSE_TIMEOUT);
        // Of a head alone, nothing is left to be acknowledged bit by bit. Its
        // connection need not be woken and measured.
        let line = guard.line.as_ref().filter(|_| !empty);
        tokio::select! {
            biased;
            result = &mut sending => {
                let response = result.map_err(|error| Failed::new(&error, kept))?;
                self.receive(response, guard, &captured)
            }
            error = upload.stalled(limit, line) => Err(error.into()),
        }
    }

    /// Checks the head of a response. If it is refused, the connection ends and
    /// serves no other exchange, as anything may follow.
    fn receive(
        &self,
        response: Response<Incoming>,
        guard: Guard,
        captured: &CaptureConnection,
    ) -> Result<(Response<Incoming>, Guard), Failed> {
        let (mut parts, body) = response.into_parts();
        match head::receive(&mut parts, self.most_fields) {
            Ok(()) => Ok((Response::from_parts(parts, body), guard)),
            Err(refused) => {
                if guard.cuts
                    && let Some(connected) = &*captured.connection_metadata()
                {
                    connected.poison();
                }
                guard.cut();
                Err(refused.into())
            }
        }
    }

    /// Returns the guard of the connection on which an exchange has begun, and
    /// true if the connection had been used before.
    fn guard(
        &self,
        captured: &CaptureConnection,
        upload: &Arc<RequestUpload>,
        lane: Option<LanePlace>,
    ) -> (Guard, bool) {
        let connected = captured.connection_metadata();
        let mut extras = http::Extensions::new();
        if let Some(connected) = &*connected {
            connected.get_extras(&mut extras);
        }
        let line: Option<ClientLine> = extras.remove();
        let kept = line.as_ref().is_some_and(ClientLine::begin);
        if kept {
            self.counters.upstream.reused.add();
        }
        let is_http1 = connected.as_ref().is_some_and(|it| !it.is_negotiated_h2());
        if is_http1 && let Some(lane) = &lane {
            lane.speaks_http1();
        }
        let streams = line.as_ref().and_then(ClientLine::streams);
        if let (Some(lane), Some(streams)) = (&lane, streams) {
            lane.has_streams(streams);
        }
        let guard = Guard {
            cuts: is_http1,
            line,
            upload: Arc::clone(upload),
            idle: self.idle.clone(),
            place: None,
            _lane: lane,
        };
        (guard, kept)
    }
}

/// Why an attempt failed.
struct Failed {
    error: Failure,
    /// True if the connection ended, perhaps before the request arrived.
    stale: bool,
    /// True if the peer says that it did nothing with the request.
    refused: bool,
}

impl Failed {
    /// Classifies an error. `kept` is true if the connection had been used
    /// before.
    fn new(error: &legacy::Error, kept: bool) -> Self {
        Self {
            error: failure::of_exchange(error),
            stale: kept && failure::is_lost(error),
            refused: failure::is_refused(error),
        }
    }

    /// True if there was no room for another connection.
    fn is_crowded(&self) -> bool {
        matches!(self.error, Failure::ConnectionLimitReached)
    }
}

impl From<Failure> for Failed {
    fn from(error: Failure) -> Self {
        Self {
            error,
            stale: false,
            refused: false,
        }
    }
}

/// Supervises a request's body that the peer has answered before its end.
async fn send_rest(guard: Arc<Guard>, limit: Duration) {
    if !guard.upload.rest(limit, guard.line.as_ref()).await {
        guard.cut();
    }
}

/// Guard of an exchange on its connection, until the response has ended or was
/// dropped, and the request was sent. If an exchange is dropped while the
/// request is still being sent, its HTTP/1.1 connection ends.
struct Guard {
    line: Option<ClientLine>,
    cuts: bool,
    upload: Arc<RequestUpload>,
    idle: Idle,
    /// Released at the end.
    place: Option<OwnedSemaphorePermit>,
    /// Released at the end, too.
    _lane: Option<LanePlace>,
}

impl Guard {
    /// Ends the connection, unless it serves other exchanges too.
    fn cut(&self) {
        if let Some(line) = &self.line
            && self.cuts
        {
            line.cut();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.upload.has_ended() {
            self.cut();
        }
        if let Some(line) = &self.line {
            self.idle.end(line);
        }
    }
}

/// Executor that runs the client's tasks, one for each connection, on the
/// worker. They end with it.
#[derive(Clone, Debug)]
struct Tasks(SendWrapper<Weak<Worker>>);

impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, task: F) {
        if let Some(worker) = self.0.upgrade() {
            worker.thread.spawn_local(task);
        }
    }
}
