//! Functions behind the exports of a component.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use crate::bindings::netwasm::net::types::{ConnectionId, SocketId};
use crate::bindings::netwasm::net::websockets::WebsocketId;
use crate::bindings::netwasm::net::{http, types};
use crate::bindings::websocket::exports::netwasm::net::{
    websocket_connect_handler, websocket_handler,
};
use crate::cell::with;
use crate::connection::Shared;
use crate::executor::Task;
use crate::host::{DatagramTransport, Transport};
use crate::http::{Answered, Forwarded, Later, Method, Response, Verdict, accepted};
use crate::slab::Slab;
use crate::udp::SharedSocket;
use crate::websocket::{Decided, Message, NotOpened, Opened, Refusal, SharedWebSocket};
use crate::{connect, connection, executor, shutdown, timers, udp, websocket};

// `tcp-handler`.

pub fn connection_made<F>(
    connection: ConnectionId,
    handler: impl FnOnce(crate::Connection) -> F,
) -> u64
where
    F: Future + 'static,
    F::Output: executor::Outcome,
{
    let shared = Shared::new(connection.into());
    connection::serve(&shared, handler);
    let token = connect::register(shared);
    executor::run();
    token as u64
}

fn event(token: u64, handle: impl FnOnce(&Shared)) {
    if let Some(shared) = connect::find(token) {
        handle(&shared);
    }
    executor::run();
}

pub fn data_received(token: u64, data: Vec<u8>) {
    event(token, |shared| shared.data_received(data));
}

pub fn eof_received(token: u64) -> bool {
    event(token, Shared::eof_received);
    // The connection is closed when the task drops it.
    true
}

pub fn writable(token: u64) {
    event(token, Shared::writable);
}

pub fn tls_started(token: u64, info: types::TlsInfo) {
    event(token, |shared| shared.tls_started(info.into()));
}

pub fn connection_lost(token: u64, reason: Option<types::Error>) {
    if let Some(shared) = connect::release(token) {
        shared.connection_lost(reason.map(Into::into));
    }
    executor::run();
}

// `connect-handler`, `resolve-handler`.

pub fn connected(token: u64, outcome: Result<ConnectionId, types::Error>) {
    let outcome = outcome.map(Transport::from).map_err(Into::into);
    connect::connected(token, outcome);
}

pub fn resolved(token: u64, answer: Result<Vec<types::IpAddress>, types::Error>) {
    let answer = answer
        .map(|addresses| addresses.into_iter().map(Into::into).collect())
        .map_err(Into::into);
    connect::resolved(token, answer);
}

// `timer-handler`, `lifecycle`.

pub fn woken() {
    timers::woken();
}

pub fn shutting_down(deadline: Option<types::Duration>) {
    shutdown::begin(deadline.map(std::time::Duration::from_nanos));
}

// `udp-handler`.

pub fn socket_made<F>(socket: SocketId, handler: impl FnOnce(crate::UdpSocket) -> F) -> u64
where
    F: Future + 'static,
    F::Output: executor::Outcome,
{
    let shared = SharedSocket::new(socket.into());
    udp::serve(&shared, handler);
    let token = udp::register(shared);
    executor::run();
    token as u64
}

fn socket_event(token: u64, handle: impl FnOnce(&SharedSocket)) {
    if let Some(shared) = udp::find(token) {
        handle(&shared);
    }
    executor::run();
}

pub fn datagram_received(token: u64, data: Vec<u8>, peer: types::IpSocketAddress) {
    socket_event(token, |shared| shared.datagram_received(data, peer.into()));
}

pub fn error_received(token: u64, error: types::Error, peer: Option<types::IpSocketAddress>) {
    socket_event(token, |shared| {
        shared.error_received(&error.into(), peer.map(Into::into));
    });
}

pub fn socket_lost(token: u64, reason: Option<types::Error>) {
    socket_event(token, |shared| {
        shared.connection_lost(reason.map(Into::into))
    });
    udp::release(token);
}

// `datagram-connect-handler`.

pub fn datagrams_connected(token: u64, outcome: Result<SocketId, types::Error>) {
    let outcome = outcome.map(DatagramTransport::from).map_err(Into::into);
    udp::connected(token, outcome);
}

// `http-handler`, `response-handler`, `body-handler`.

pub fn handle<M>(
    app: impl crate::http::App<M>,
    method: http::Method,
    target: &str,
    request: &http::Request,
) -> http::Answer {
    respond(app, method, target, request, true)
}

/// Handles a request whose body may have yet to arrive.
pub fn handle_head<M>(
    app: impl crate::http::App<M>,
    method: http::Method,
    target: &str,
    request: &http::Request,
) -> http::Answer {
    respond(app, method, target, request, None::<bool>)
}

fn respond<M>(
    app: impl crate::http::App<M>,
    method: http::Method,
    target: &str,
    request: &http::Request,
    whole: impl Into<Option<bool>>,
) -> http::Answer {
    crate::http::within(request, || {
        let request = crate::http::Request::new(method.into(), target, request.into(), whole);
        match app.respond(request) {
            Answered::Ready(response) => {
                // Tasks that it has spawned begin.
                executor::run();
                response.in_form(accepted).into_raw().into()
            }
            Answered::Collect => http::Answer::Collect(None),
            Answered::Later(later) => defer(later),
        }
    })
}

thread_local! {
    /// The tasks that answer later.
    static DEFERRED: ManuallyDrop<Cell<Slab<Option<Task<()>>>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

/// State that a task that answers shares with the call of the host.
#[derive(Default)]
struct Deferral {
    /// True once the call has returned.
    returned: Cell<bool>,
    response: Cell<Option<Response>>,
    /// `Accept` of the client, for an error later.
    accept: Cell<Vec<u8>>,
}

/// Lets a task answer: at once if it can, and later if it waits.
fn defer(later: Later) -> http::Answer {
    let deferral = Rc::new(Deferral::default());
    let token = DEFERRED.with(|all| with(all, |all| all.insert(None)));
    let Later { answer, request } = later;
    let task = executor::spawn({
        let deferral = deferral.clone();
        async move {
            let response = answer.await;
            if deferral.returned.get() {
                drop(DEFERRED.with(|all| with(all, |all| all.remove(token))));
                settle(token as u64, response, deferral.accept.take());
            } else {
                deferral.response.set(Some(response));
            }
        }
    });
    executor::run();
    if let Some(response) = deferral.response.take() {
        drop(DEFERRED.with(|all| with(all, |all| all.remove(token))));
        return response.in_form(accepted).into_raw().into();
    }
    deferral.accept.set(accepted());
    if let Some(request) = request {
        request.keep(token as u64);
    }
    deferral.returned.set(true);
    DEFERRED.with(|all| {
        with(all, |all| {
            if let Some(place) = all.get_mut(token) {
                *place = Some(task);
            }
        });
    });
    http::Answer::Defer(token as u64)
}

/// Answers a deferred request, or forwards it.
fn settle(token: u64, response: Response, accept: Vec<u8>) {
    let answer: http::Answer = response.in_form(|| accept).into_raw().into();
    // Fails if the client has left.
    let _ = match answer {
        http::Answer::Forward(forward) => {
            let forwarded = http::forward_deferred(token, &forward);
            let refused = forwarded.as_ref().err().map(|error| error.code);
            if refused == Some(types::ErrorCode::InvalidState) {
                // If its body was read piece by piece, it waits still.
                // No page: each guest would have the code for it.
                let _ = http::respond(token, Response::new(500).into_raw().into());
            }
            forwarded
        }
        http::Answer::Respond(response) => http::respond(token, response),
        // Nothing else is made of a response.
        http::Answer::Defer(_) | http::Answer::Collect(_) => Ok(()),
    };
}

pub fn response_writable(token: u64) {
    crate::body::writable(token);
    executor::run();
}

pub fn abandoned(token: u64) {
    if crate::body::abandoned(token) {
        return executor::run();
    }
    let task = usize::try_from(token)
        .ok()
        .and_then(|token| DEFERRED.with(|all| with(all, |all| all.remove(token))));
    if let Some(Some(task)) = task {
        task.abort();
    }
    executor::run();
}

pub fn body_received(token: u64, data: Vec<u8>) {
    crate::inlet::received(token, data);
    executor::run();
}

pub fn body_ended(token: u64, trailers: http::Fields) {
    crate::inlet::ended(token, Ok(trailers));
    executor::run();
}

pub fn body_failed(token: u64, error: types::Error) {
    crate::inlet::ended(token, Err(error.into()));
    executor::run();
}

// `forward-handler`.

pub fn responded(
    decide: impl Fn(&Forwarded) -> Verdict,
    token: u64,
    status: u16,
    headers: http::Fields,
) -> http::Verdict {
    judge(decide, &Forwarded::new(token, status, Some(headers)))
}

pub fn forward_failed(
    decide: impl Fn(&Forwarded) -> Verdict,
    token: u64,
    status: u16,
) -> http::Verdict {
    judge(decide, &Forwarded::new(token, status, None))
}

fn judge(decide: impl Fn(&Forwarded) -> Verdict, forwarded: &Forwarded) -> http::Verdict {
    let verdict = decide(forwarded);
    executor::run();
    verdict.into_raw().into()
}

// `websocket-handler`.

pub fn websocket_opens<M>(
    app: impl websocket::Opens<M>,
    connection: WebsocketId,
    target: &str,
    request: &http::Request,
) -> websocket_handler::Opening {
    let opening = crate::http::within(request, || {
        let request = crate::http::Request::new(Method::Get, target, request.into(), true);
        app.open(&request)
    });
    match opening.into_decided() {
        Decided::Accept(accepted) => {
            let opened = Opened {
                protocol: accepted.protocol.clone(),
                ..Opened::default()
            };
            let shared = SharedWebSocket::new(connection.into(), opened);
            (accepted.start)(&shared);
            let token = websocket::register(shared);
            executor::run();
            websocket_handler::Opening::Accept(websocket_handler::Acceptance {
                token,
                protocol: accepted.protocol,
                headers: accepted.headers,
            })
        }
        Decided::Refuse(response) => {
            executor::run();
            let response = response.in_form(|| crate::http::within(request, accepted));
            websocket_handler::Opening::Refuse(response.into_raw().into())
        }
    }
}

fn websocket_event(token: u64, handle: impl FnOnce(&SharedWebSocket)) {
    if let Some(shared) = websocket::find(token) {
        handle(&shared);
    }
    executor::run();
}

/// Decides about connections for a component that takes none.
pub fn no_websockets(_: &crate::http::Request<'_>) -> websocket::Opening {
    websocket::Opening::refuse(Response::error(404))
}

pub fn text_received(token: u64, text: String) {
    websocket_event(token, |shared| shared.received(Message::Text(text)));
}

pub fn binary_received(token: u64, data: Vec<u8>) {
    websocket_event(token, |shared| shared.received(Message::Binary(data)));
}

pub fn websocket_drained(token: u64) {
    websocket_event(token, SharedWebSocket::drained);
}

pub fn websocket_closed(token: u64, code: u16, reason: String) {
    if let Some(shared) = websocket::release(token) {
        shared.ended(code, reason);
    }
    executor::run();
}

// `websocket-connect-handler`.

pub fn websocket_connected(
    token: u64,
    outcome: Result<websocket_connect_handler::Opened, websocket_connect_handler::Failure>,
) {
    use websocket_connect_handler::Failure;

    let outcome = match outcome {
        Ok(opened) => {
            let agreed = Opened {
                protocol: opened.protocol,
                headers: opened.headers,
            };
            Ok(SharedWebSocket::new(opened.connection.into(), agreed))
        }
        Err(Failure::Error(error)) => Err(NotOpened::Failed(error.into())),
        Err(Failure::Refused(refusal)) => Err(NotOpened::Refused(Refusal {
            status: refusal.status,
            headers: refusal.headers,
        })),
    };
    websocket::connected(token, outcome);
}

// `export!(start: ...)`.

pub fn start<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        crate::log::write(crate::log::Level::Error, &error.to_string());
        std::process::exit(1);
    }
}
