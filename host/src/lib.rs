//! netwasm runs network servers and clients whose logic is a sandboxed
//! WebAssembly component. The host owns every socket, TLS session, DNS lookup
//! and file; what happens on a connection is handed to the component as
//! events, in the manner of Python's asyncio (`wit/` has the interfaces).
//!
//! ```text
//!            SIGTERM          netwasm run COMPONENT --tcp 8888 ...
//!               |                            |
//!               v                            v  cli -> config (checked once)
//!          +------------------------- server::run -------------------------+
//!          |  binds, compiles, starts the workers, drains them at the end   |
//!          +----+----------------------------------------------------+-----+
//!               v  a thread per core, nothing shared on the hot path  v
//!   +--------- worker ---------------------------------------+   (the others)
//!   |                                                         |
//!   |  listener --accept--> connection, or http::connection   |
//!   |                         |   (one task each): handshake, |
//!   |   protocol, or <--------+   events or requests, the end |
//!   |   http::head            |                               |
//!   |   peer <== transport <--+--> wasm::instance <==> guest  |
//!   |            |  queue, tls            ^                   |
//!   |            |  relay (splice)        |  host calls:      |
//!   |            |  sendfile              +-- wasm::host -----+--> policy
//!   |                                                         |
//!   |  udp  <== datagrams, many a system call                 |
//!   |  connect  outgoing connections; dns  names              |
//!   |  http::client  outgoing HTTP, by hyper                  |
//!   +---------------------------------------------------------+
//! ```
//!
//! Guests that await have an engine of their own. Their streams read and write
//! a transport directly, in the guest's memory; the connection's task only
//! flushes, relays and ends. A program (`wasi:cli/run`) has one worker.
//!
//! A byte goes from the socket to the worker's scratch buffer, from there into
//! the guest's memory, and what the guest writes goes from its memory to the
//! socket in the same call. Bytes that a guest does not need to see (`relay`,
//! `send-file`, files as HTTP bodies) do not leave the kernel.
//!
//! # Modules
//!
//! | module | lives there | does not |
//! | --- | --- | --- |
//! | [`cli`] | the command line | what it means |
//! | [`config`] | what it means: checked once, passed down in parts | binding, reading files |
//! | [`policy`] | what a guest may reach; denies by default, asked before any system call | sockets |
//! | [`logging`] | where the log goes, and how much of it | what is logged |
//! | `spool` | lines on their way to a file, by a thread | their form |
//! | [`inspect`] | what a component exports and imports, and whether that fits | running it |
//! | [`server`] | a run from beginning to end; what workers share; counters | TLS or WIT details |
//! | `worker` | a thread: its runtime, clock, connections, scratch buffers | the protocol |
//! | `turns` | fairness: which of a worker's tasks goes on, and when sockets are looked at in between | what tasks do |
//! | `listener` | bind, socket options, an accept that cannot fail the server | handshakes |
//! | `incoming` | the same for sockets that a guest listens on | policy |
//! | `connection` | one task, one connection: handshake, events, end | parsing, policy |
//! | `protocol` | the grammar of events, without I/O | tokio, wasmtime |
//! | `http` | HTTP/1.1 and 2: heads and bodies, the exchange on a connection, responses, files as bodies, the access log | sockets, wasmtime |
//! | `http::connection::streaming`, `http::upload`, `http::reply`, `http::moving` | the exchange with a guest that awaits: a request whose body is read as it comes, a response that is sent while it is made | instances |
//! | `http::http2` | the same in HTTP/2: streams instead of a connection, by the `h2` crate; floods | frames, windows |
//! | `http::client` | HTTP requests that guests send: their connections, bodies, time-outs, and the names of what goes wrong; the exchange is hyper's | policy |
//! | `http::hand_back` | a file whose stream is a response's body, on its way back to the connection | reading it |
//! | `transport` | a socket with its TLS session and its queue; deadlines, by what the peer acknowledged | policy |
//! | `stream` | a connection as a guest's streams see it | WIT |
//! | `queue` | what is yet to be sent | TLS |
//! | `relay` | copying natively from one transport to another | guests |
//! | `tls` | certificates, sessions | sockets |
//! | `trust` | whom outgoing TLS trusts | sessions |
//! | `files`, `sendfile` | files beneath `--dir`, and sending them | HTTP |
//! | `udp` | datagram sockets | streams |
//! | `connect` | outgoing connections | policy |
//! | `places` | `--max-connections`: who gets a place, and what is closed for it | sockets |
//! | `pool` | connections that are kept for the next: who gets one, and for how long; `pool::lookout` notices those that end | sockets |
//! | `parked` | what a pool keeps, and how it goes from worker to worker | waiting |
//! | `datagram` | datagram sockets of guests that await | policy |
//! | `dns`, `destinations` | names to addresses; which of them to try first | connecting |
//! | `descriptors` | the limit of descriptors | |
//! | `ticker` | a thread for what happens regularly | timers of guests |
//! | `watch` | descriptors in the runtime, and what their peers acknowledged | |
//! | `error` | errors, by whose fault they are | |
//! | [`wasm`] | the engines, instances, what guests may call; those that await are in `wasm::concurrent` | business rules |
//! | `wasm::room` | what an instance takes; the size of the pool, and how many connections that is room for | instances |
//! | `wasm::concurrent::place` | which of the instances that answer requests may begin | making them |
//! | `wasm::concurrent::http` | instances that answer requests of `wasi:http`: which gets one, how many, their end | HTTP/1.1 |
//! | `wasm::concurrent::response` | their responses that are files | sending them |
//!
//! `unsafe` is denied but for two places, each with its reason: `watch`, and
//! loading compiled code in `wasm::engine`.

mod address;
#[doc(hidden)]
pub mod bench;
pub mod cli;
pub mod config;
mod connect;
mod connection;
mod counters;
mod datagram;
pub mod descriptors;
mod destinations;
mod dns;
mod env;
mod error;
mod files;
mod guest;
mod health;
mod http;
mod incoming;
pub mod inspect;
mod limiter;
mod listener;
pub mod logging;
mod parked;
mod places;
pub mod policy;
mod pool;
mod protocol;
mod queue;
mod relay;
mod sendfile;
pub mod server;
mod service;
mod spool;
mod stream;
mod thread;
mod ticker;
mod tls;
mod transport;
mod trust;
mod turns;
mod udp;
pub mod wasm;
mod watch;
mod wiring;
mod worker;

pub use error::Error;
