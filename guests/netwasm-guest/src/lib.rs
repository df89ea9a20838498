//! Handlers for [netwasm](https://github.com/netwasm/netwasm): network servers
//! and clients as WebAssembly components, written as async functions.
//!
//! ```
//! use netwasm_guest::{Connection, Result};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(tcp: echo);
//!
//! async fn echo(mut conn: Connection) -> Result<()> {
//!     while let Some(data) = conn.read().await? {
//!         conn.write_all(data).await?;
//!     }
//!     Ok(())
//! }
//! # let mut client = netwasm_guest::testing::serve(echo);
//! # client.send("hello");
//! # client.expect("hello");
//! # client.finish();
//! # client.expect_end();
//! ```
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! netwasm run target/wasm32-wasip2/release/echo.wasm --tcp 8888
//! ```
//!
//! The crate of a handler is a library with `crate-type = ["cdylib"]`.
//! [`export!`] names its functions: one for each connection, datagram socket or
//! request. `testing` runs them in plain `cargo test`.
//!
//! # How it works
//!
//! The host calls the component for each event: data arrived, there is room
//! again, a timer is due. The event wakes the task that waits for it, and runs
//! it before it returns. So what a task does between two waits is one call from
//! the host, as fast as a handler of events that is written by hand. There are
//! no threads and no locks: state that tasks share is an `Rc`, or a
//! `thread_local!`. (Under `--isolation connection`, each connection has its own
//! instance, and so its own state; [`shared`] is for what all must know.)
//!
//! # Coming from asyncio
//!
//! | asyncio | here |
//! | --- | --- |
//! | `start_server`, `create_server` | `export!(tcp: serve)`, and `--tcp` |
//! | `StreamReader`: `read`, `readexactly`, `readuntil`, `readline` | [`Connection`]: `read`, `read_exact`, `read_until`, `read_line`, `lines` |
//! | `StreamWriter`: `write`, `drain`, `writelines`, `write_eof`, `close`, `wait_closed` | `write_all` (it waits as `drain` does), `write_vectored`, `finish`, dropping it, `close` |
//! | `get_extra_info` | `info`, `peer` |
//! | `open_connection`, `create_unix_connection` | [`connect()`], [`Connect`] |
//! | `start_tls`, `sendfile` | `start_tls_server`, `start_tls_client`, `write_file` |
//! | (a pool of connections) | [`Pool`] |
//! | `DatagramProtocol`, `create_datagram_endpoint` | `export!(udp: answer)`; [`UdpSocket::bind`], [`UdpSocket::connect`] |
//! | `get_extra_info('socket').setsockopt` | `set_option` |
//! | `getaddrinfo` | [`resolve`] |
//! | `sleep`, `timeout`, `wait_for`, `loop.time` | [`sleep`], [`timeout`], [`Instant`] |
//! | `create_task`, `TaskGroup`, `Task.cancel` | [`spawn`], [`Task::abort`] |
//! | `gather`, `wait(FIRST_COMPLETED)` | [`join`], [`join_all`], [`try_join`], [`select`], [`race`] |
//! | `Queue`, `Future` | [`channel()`], [`channel::oneshot`], [`channel::broadcast`], [`channel::watch`] |
//! | `Event`, `Semaphore` | [`Notify`], [`Semaphore`] |
//! | `add_signal_handler(SIGTERM, ...)` | [`shutdown()`] |
//! | `StreamResponse`, `EventSourceResponse` (aiohttp) | [`http::Response::stream`], [`http::Response::events`] |
//! | `request.content.read` (aiohttp) | [`http::Upload`] |
//! | `WebSocketResponse` (aiohttp), `websockets.serve` | `export!(websocket: serve)`, [`websocket`] |
//! | `ws_connect` (aiohttp), `websockets.connect` | [`websocket::connect()`] |
//! | (none) | `relay`, `relay_back`: the host copies |
//! | (none) | [`metrics`]: counts of the guest's own |
//! | (none) | [`shared`]: rate limits and values of all instances together |
//!
//! # Features
//!
//! - `json`: [`http`]'s `Json`, and queries and forms of types that serde
//!   deserializes.
//! - `http`: conversions from and to the types of the crate `http`, and handlers
//!   that take and return them.
//! - `futures`: `AsyncRead`, `AsyncWrite` and `Stream` of the futures crates.

#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod handler;

pub mod channel;
pub mod http;
pub mod log;
pub mod metrics;
pub mod shared;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod websocket;

mod address;
#[cfg(target_family = "wasm")]
mod body;
mod cell;
mod combine;
mod connect;
mod connection;
mod error;
mod executor;
mod export;
mod file;
#[cfg(feature = "futures")]
mod futures;
mod host;
#[cfg(target_family = "wasm")]
mod inlet;
mod option;
mod pool;
mod shutdown;
mod slab;
mod sync;
mod time;
mod timers;
mod tls;
mod udp;
mod wait;

pub use address::{Address, Info, ProxyInfo, ProxyTlsInfo, TlsInfo};
pub use channel::{Receiver, Sender, channel, unbounded};
pub use combine::{Either, join, join_all, race, select, try_join};
pub use connect::{Connect, check_endpoint, connect, resolve};
pub use connection::{Connection, Lines, Reader, Writer};
pub use error::{Error, ErrorKind, Operation, Result};
pub use executor::{Outcome, Task, spawn, yield_now};
pub use export::private;
pub use file::File;
pub use option::{KeepAlive, SocketOption};
pub use pool::{Pool, PoolBuilder, PoolCounts, Pooled};
pub use shutdown::{is_shutting_down, shutdown};
pub use sync::{Notify, Permit, Semaphore};
pub use time::{Instant, Interval, Sleep, interval, sleep, sleep_until, timeout};
pub use tls::TlsOptions;
pub use udp::UdpSocket;
