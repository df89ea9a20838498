//! The macro that makes a component of handlers.

/// Makes a component of the functions that handle what comes.
///
/// ```
/// # use netwasm_guest::{Connection, Result, UdpSocket, http::Request};
/// # async fn serve(conn: Connection) -> Result<()> { Ok(()) }
/// # async fn answer(socket: UdpSocket) -> Result<()> { Ok(()) }
/// # async fn site(request: Request<'_>) -> &'static str { "" }
/// # mod a {
/// # use super::*;
/// netwasm_guest::export!(tcp: serve);
/// # }
/// # mod b {
/// # use super::*;
/// netwasm_guest::export!(tcp: serve, udp: answer, http: site);
/// # }
/// # fn main() {}
/// ```
///
/// - `tcp` takes an async function of a [`Connection`](crate::Connection). It
///   returns nothing, or a result, whose error goes to the log with the name of
///   the peer: at the level `warn`, or `debug` if the peer is at fault (it reset
///   the connection, say).
/// - `udp` takes an async function of a [`UdpSocket`](crate::UdpSocket).
/// - `http` takes what [`http::App`](crate::http::App) stands for: an async
///   function of a request, or a function that makes a router.
///
/// - `uploads` is like `http`, for an app of which a handler reads the body of a
///   request piece by piece: [`http::Upload`](crate::http::Upload).
///
/// - `verdicts`, besides one of these two, takes a function of a
///   [`&http::Forwarded`](crate::http::Forwarded) that returns an
///   [`http::Verdict`](crate::http::Verdict): what becomes of the responses to
///   requests that were forwarded with a token.
///
/// - `websocket` takes an async function of a
///   [`WebSocket`](crate::websocket::WebSocket), or a function that decides about
///   each connection: [`websocket::Opening`](crate::websocket::Opening). Requests
///   for no such connection go to `http`, if that is there.
///
/// - `start`, before the others, takes a function without arguments that returns
///   a result. It is called when an instance is made: the first time, before
///   the host listens. On an error, the instance ends with an entry in the log,
///   and the host does not start.
///
/// - `websockets` alone is for a component that opens WebSocket connections without
///   `websocket`, which includes it: `export!(http: site, websockets)`.
/// - `connect` alone is for a component that opens connections without `tcp`,
///   which includes it: `export!(http: site, connect)`.
/// - `datagrams` alone is for a component that opens datagram sockets without
///   `udp`, which includes it: `export!(tcp: serve, datagrams)`.
///
/// The component exports what it handles, and what timers, names and the host's
/// shutdown need.
#[macro_export]
macro_rules! export {
    (start: $start:expr, $($rest:tt)+) => {
        $crate::__export!(start $start);
        $crate::export!($($rest)+);
    };
    ($($kind:ident $(: $handler:expr)?),+ $(,)?) => {
        $crate::__export!(begin);
        $crate::__export!(waiting);
        $($crate::__export!($kind $($handler)?);)+
    };
}

/// In a component: implements the exported interfaces.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (begin) => {
        struct NetwasmApp;
    };
    (start $start:expr) => {
        // Called when an instance is made.
        #[unsafe(no_mangle)]
        extern "C" fn _initialize() {
            $crate::handler::start($start());
        }
    };
    (waiting) => {
        impl $crate::bindings::waiting::exports::netwasm::net::timer_handler::Guest for NetwasmApp {
            fn woken() {
                $crate::handler::woken();
            }
        }
        impl $crate::bindings::waiting::exports::netwasm::net::resolve_handler::Guest
            for NetwasmApp
        {
            fn resolved(
                token: u64,
                answer: ::std::result::Result<
                    ::std::vec::Vec<$crate::bindings::netwasm::net::types::IpAddress>,
                    $crate::bindings::netwasm::net::types::Error,
                >,
            ) {
                $crate::handler::resolved(token, answer);
            }
        }
        impl $crate::bindings::waiting::exports::netwasm::net::lifecycle::Guest for NetwasmApp {
            fn shutting_down(deadline: ::std::option::Option<u64>) {
                $crate::handler::shutting_down(deadline);
            }
        }
        $crate::bindings::waiting::export_waiting!(
            NetwasmApp with_types_in $crate::bindings::waiting
        );
    };
    (connect) => {
        $crate::__export!(tcp async |_: $crate::Connection| ());
    };
    (datagrams) => {
        $crate::__export!(udp async |_: $crate::UdpSocket| ());
    };
    (websockets) => {
        $crate::__export!(websocket $crate::handler::no_websockets);
    };
    (tcp $handler:expr) => {
        impl $crate::bindings::tcp::exports::netwasm::net::tcp_handler::Guest for NetwasmApp {
            fn connection_made(
                connection: $crate::bindings::netwasm::net::types::ConnectionId,
            ) -> u64 {
                $crate::handler::connection_made(connection, $handler)
            }
            fn data_received(token: u64, data: ::std::vec::Vec<u8>) {
                $crate::handler::data_received(token, data);
            }
            fn eof_received(token: u64) -> bool {
                $crate::handler::eof_received(token)
            }
            fn writable(token: u64) {
                $crate::handler::writable(token);
            }
            fn tls_started(token: u64, info: $crate::bindings::netwasm::net::types::TlsInfo) {
                $crate::handler::tls_started(token, info);
            }
            fn connection_lost(
                token: u64,
                reason: ::std::option::Option<$crate::bindings::netwasm::net::types::Error>,
            ) {
                $crate::handler::connection_lost(token, reason);
            }
        }
        impl $crate::bindings::tcp::exports::netwasm::net::connect_handler::Guest for NetwasmApp {
            fn connected(
                token: u64,
                outcome: ::std::result::Result<
                    $crate::bindings::netwasm::net::types::ConnectionId,
                    $crate::bindings::netwasm::net::types::Error,
                >,
            ) {
                $crate::handler::connected(token, outcome);
            }
        }
        $crate::bindings::tcp::export_tcp!(NetwasmApp with_types_in $crate::bindings::tcp);
    };
    (udp $handler:expr) => {
        impl $crate::bindings::udp::exports::netwasm::net::udp_handler::Guest for NetwasmApp {
            fn connection_made(socket: $crate::bindings::netwasm::net::types::SocketId) -> u64 {
                $crate::handler::socket_made(socket, $handler)
            }
            fn datagram_received(
                token: u64,
                data: ::std::vec::Vec<u8>,
                peer: $crate::bindings::netwasm::net::types::IpSocketAddress,
            ) {
                $crate::handler::datagram_received(token, data, peer);
            }
            fn error_received(
                token: u64,
                error: $crate::bindings::netwasm::net::types::Error,
                peer: ::std::option::Option<
                    $crate::bindings::netwasm::net::types::IpSocketAddress,
                >,
            ) {
                $crate::handler::error_received(token, error, peer);
            }
            fn connection_lost(
                token: u64,
                reason: ::std::option::Option<$crate::bindings::netwasm::net::types::Error>,
            ) {
                $crate::handler::socket_lost(token, reason);
            }
        }
        impl $crate::bindings::udp::exports::netwasm::net::datagram_connect_handler::Guest
            for NetwasmApp
        {
            fn connected(
                token: u64,
                outcome: ::std::result::Result<
                    $crate::bindings::netwasm::net::types::SocketId,
                    $crate::bindings::netwasm::net::types::Error,
                >,
            ) {
                $crate::handler::datagrams_connected(token, outcome);
            }
        }
        $crate::bindings::udp::export_udp!(NetwasmApp with_types_in $crate::bindings::udp);
    };
    (http $handler:expr) => {
        $crate::__export!(requests $handler, handle);
    };
    (uploads $handler:expr) => {
        $crate::__export!(requests $handler, handle_head);
        impl $crate::bindings::uploads::exports::netwasm::net::body_handler::Guest for NetwasmApp {
            fn body_received(token: u64, data: ::std::vec::Vec<u8>) {
                $crate::handler::body_received(token, data);
            }
            fn body_ended(token: u64, trailers: $crate::bindings::netwasm::net::http::Fields) {
                $crate::handler::body_ended(token, trailers);
            }
            fn body_failed(token: u64, error: $crate::bindings::netwasm::net::types::Error) {
                $crate::handler::body_failed(token, error);
            }
        }
        $crate::bindings::uploads::export_uploads!(
            NetwasmApp with_types_in $crate::bindings::uploads
        );
    };
    (websocket $handler:expr) => {
        impl $crate::bindings::websocket::exports::netwasm::net::websocket_handler::Guest
            for NetwasmApp
        {
            fn open(
                connection: $crate::bindings::netwasm::net::websockets::WebsocketId,
                target: ::std::string::String,
                request: &$crate::bindings::netwasm::net::http::Request,
            ) -> $crate::bindings::websocket::exports::netwasm::net::websocket_handler::Opening
            {
                $crate::handler::websocket_opens($handler, connection, &target, request)
            }
            fn text_received(token: u64, text: ::std::string::String) {
                $crate::handler::text_received(token, text);
            }
            fn binary_received(token: u64, data: ::std::vec::Vec<u8>) {
                $crate::handler::binary_received(token, data);
            }
            fn drained(token: u64) {
                $crate::handler::websocket_drained(token);
            }
            fn closed(token: u64, code: u16, reason: ::std::string::String) {
                $crate::handler::websocket_closed(token, code, reason);
            }
        }
        impl $crate::bindings::websocket::exports::netwasm::net::websocket_connect_handler::Guest
            for NetwasmApp
        {
            fn connected(
                token: u64,
                outcome: ::std::result::Result<
                    $crate::bindings::websocket::exports::netwasm::net::websocket_connect_handler::Opened,
                    $crate::bindings::websocket::exports::netwasm::net::websocket_connect_handler::Failure,
                >,
            ) {
                $crate::handler::websocket_connected(token, outcome);
            }
        }
        $crate::bindings::websocket::export_websocket!(
            NetwasmApp with_types_in $crate::bindings::websocket
        );
    };
    (verdicts $handler:expr) => {
        impl $crate::bindings::verdicts::exports::netwasm::net::forward_handler::Guest
            for NetwasmApp
        {
            fn responded(
                token: u64,
                status: u16,
                headers: $crate::bindings::netwasm::net::http::Fields,
            ) -> $crate::bindings::netwasm::net::http::Verdict {
                $crate::handler::responded($handler, token, status, headers)
            }
            fn failed(token: u64, status: u16) -> $crate::bindings::netwasm::net::http::Verdict {
                $crate::handler::forward_failed($handler, token, status)
            }
        }
        $crate::bindings::verdicts::export_verdicts!(
            NetwasmApp with_types_in $crate::bindings::verdicts
        );
    };
    (requests $handler:expr, $handle:ident) => {
        impl $crate::bindings::http::exports::netwasm::net::http_handler::Guest for NetwasmApp {
            fn handle(
                method: $crate::bindings::netwasm::net::http::Method,
                target: ::std::string::String,
                request: &$crate::bindings::netwasm::net::http::Request,
            ) -> $crate::bindings::netwasm::net::http::Answer {
                $crate::handler::$handle($handler, method, &target, request)
            }
        }
        impl $crate::bindings::http::exports::netwasm::net::response_handler::Guest for NetwasmApp {
            fn writable(token: u64) {
                $crate::handler::response_writable(token);
            }
            fn abandoned(token: u64) {
                $crate::handler::abandoned(token);
            }
        }
        $crate::bindings::http::export_http!(NetwasmApp with_types_in $crate::bindings::http);
    };
}

/// Natively: checks the types of the handlers, so that a crate with tests
/// compiles as its component does.
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (begin) => {};
    (waiting) => {};
    (connect) => {};
    (datagrams) => {};
    (websockets) => {};
    (start $start:expr) => {
        const _: fn() = || $crate::private::start($start());
    };
    ($kind:ident $handler:expr) => {
        const _: fn() = || $crate::private::$kind($handler);
    };
}

/// Checks of `export!`.
#[doc(hidden)]
pub mod private {

    use crate::executor::Outcome;
    use crate::{Connection, UdpSocket, http, websocket};

    pub fn start<E: std::fmt::Display>(_: Result<(), E>) {}

    pub fn tcp<F>(_: impl FnOnce(Connection) -> F)
    where
        F: Future + 'static,
        F::Output: Outcome,
    {
    }

    pub fn udp<F>(_: impl FnOnce(UdpSocket) -> F)
    where
        F: Future + 'static,
        F::Output: Outcome,
    {
    }

    pub fn http<M>(_: impl http::App<M>) {}

    pub fn uploads<M>(_: impl http::App<M>) {}

    pub fn websocket<M>(_: impl websocket::Opens<M>) {}

    pub fn verdicts(_: impl Fn(&http::Forwarded) -> http::Verdict) {}
}
