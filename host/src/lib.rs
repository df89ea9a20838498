//! netwasm runs network servers and clients whose logic is a sandboxed
//! WebAssembly component. The host owns every socket, TLS session, DNS lookup
//! and file; what happens on a connection is handed to the component as
//! events, in the manner of Python's asyncio (`wit/` has the interfaces).
//!
//! ```text
//!            SIGTERM          netwasm run COMPONENT --tcp 8888 ...
//!               |                            |
//!               v                            v  cli -> base::config (checked once)
//!          +------------------------- server::run -------------------------+
//!          |  wiring: loads (runtime), binds (net), starts the workers,     |
//!          |  and drains them at the end                                    |
//!          +----+----------------------------------------------------+-----+
//!               v  a thread per core, nothing shared on the hot path  v
//!   +--------- net::worker ------------------------------------+   (the others)
//!   |                                                          |
//!   |  net::listener --accept--> Service: net::connection, or  |
//!   |                            http::h1, h2 (one task each)  |
//!   |                               |                          |
//!   |   peer <== net::transport <---+--EventGuest,--> runtime <==> guest
//!   |              |  queue, tls       Handler           |     |
//!   |              |  relay (splice)                     | host calls
//!   |              |  sendfile                           +--> base::policy
//!   |                                                          |
//!   |  net::udp <== datagrams, many a system call              |
//!   |  net::connect  outgoing connections; net::dns  names     |
//!   |  http::client  outgoing HTTP, by hyper                   |
//!   +----------------------------------------------------------+
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
//! # Crates
//!
//! Ground floor first. None knows one that stands below it in this table, but
//! for the last, which knows them all; `http` and `runtime` do not know each
//! other.
//!
//! | crate | lives there | never reaches |
//! | --- | --- | --- |
//! | `netwasm-base` | settings, limits, policy, errors, counters | tokio, rustls, wasmtime |
//! | `netwasm-net` | sockets, TLS, names, transports, worker threads, the drivers of events | http, wasmtime |
//! | `netwasm-exchange` | what an HTTP driver and a handler say to each other | h2, hyper, wasmtime |
//! | `netwasm-http` | HTTP/1.1 and 2, the client, files as bodies, the access log | runtime, wasmtime |
//! | `netwasm-runtime` | engines, instances, host functions, WASI, `inspect` | http |
//! | `netwasm` | the program: below | |
//!
//! A new limit or setting is `base::config`'s; a new protocol is a `Service`
//! beside `http` and `net::connection`, and a line in `wiring`; a new host
//! function is `runtime::host`'s (events) or `runtime::concurrent`'s; a new flag
//! is `cli`'s.
//!
//! # Modules of this crate
//!
//! | module | lives there | does not |
//! | --- | --- | --- |
//! | [`cli`] | the command line | what it means |
//! | [`logging`] | where the log goes, and how much of it | what is logged |
//! | `wiring` | what is spoken on each listener, and who answers: the one place that names a transport, a protocol and a guest together | |
//! | `signals` | which signal asks for what | what is done then |
//! | [`server`] | a run from beginning to end | TLS or WIT details |
//! | [`bench`] | what micro-benchmarks need of the inside | |

#[doc(hidden)]
pub mod bench;
pub mod cli;
pub mod logging;
pub mod server;
mod signals;
mod wiring;
