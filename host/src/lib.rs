//! netwasm runs network servers and clients whose logic is a sandboxed
//! WebAssembly component. The host owns every socket, TLS session, DNS lookup
//! and file. It tells the component what happens on a connection by events, in
//! the manner of Python's asyncio (`wit/` has the interfaces).
//!
//! ```text
//!        SIGTERM, SIGHUP      netwasm run COMPONENT --tcp 8888 ..., or --config FILE
//!               |                            |
//!               v                            v  cli -> base::config (checked once)
//!          +------------------------- server::run -------------------------+
//!          |  each service: registry pulls its component, wiring loads it   |
//!          |  (runtime) and binds (net); it has a worker on each thread;    |
//!          |  drained at the end, or replaced                               |
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
//!   |                                                    +--> keyvalue
//!   |  net::udp <== datagrams, many a system call              |
//!   |  net::connect  outgoing connections; net::dns  names     |
//!   |  http::client  outgoing HTTP, by hyper                   |
//!   +------------+-----------------------------+---------------+
//!                | base::counters, meter       | base::trace
//!                v                             v
//!              admin --> operators           otlp (its own thread) --> receiver
//! ```
//!
//! Async guests have their own engine. Their streams read and write a transport
//! directly, in the guest's memory; the connection's task only flushes, relays
//! and ends. A program (`wasi:cli/run`) has one worker.
//!
//! The host reads from the socket into the worker's scratch buffer, and copies
//! from there into the guest's memory. What the guest writes goes from its
//! memory to the socket in the same call. Bytes that a guest does not need to
//! see (`relay`, `send-file`, files as HTTP bodies) do not leave the kernel.
//!
//! # Crates
//!
//! Lowest layer first: a crate uses only crates above it in this table. `http`
//! and `runtime` do not use each other.
//!
//! | crate | contents | never uses |
//! | --- | --- | --- |
//! | `netwasm-base` | settings, limits, policy, errors, counters | tokio, rustls, wasmtime |
//! | `netwasm-keyvalue` | stores of keys and values: memory, files, Redis | net, rustls, wasmtime |
//! | `netwasm-otlp` | messages of the OpenTelemetry protocol | tokio, rustls, wasmtime |
//! | `netwasm-net` | sockets, TLS, names, transports, worker threads, the drivers of events | http, wasmtime |
//! | `netwasm-registry` | components from registries: pull, push, cache, signatures | http, runtime, wasmtime |
//! | `netwasm-exchange` | the types between an HTTP driver and a handler | h2, hyper, wasmtime |
//! | `netwasm-http` | HTTP/1.1 and 2, the client, files as bodies, the access log | runtime, wasmtime |
//! | `netwasm-runtime` | engines, instances, host functions, WASI, `inspect` | http |
//! | `netwasm-commit` | a macro: the commit that the program is built from | anything else |
//! | `netwasm` | the program: below | |
//!
//! # Where does a new ... go
//!
//! | a new | its place | then |
//! | --- | --- | --- |
//! | protocol on a listener | a `Service` of `net::service`: in a folder of `netwasm-http` beside `h1` and `h2` if it carries requests, else in `netwasm-net` beside `connection` | a kind in `base::listen`, its line in `net::service::Services`, in `wiring`, and a flag |
//! | protocol to servers | `net::connect` for bytes, `http::client` for requests | a host function, and a rule of `base::policy` |
//! | limit | `base::config::limits`, with its default and its check | a flag in `cli::flags::limits`; its owner reads it from `net::env` |
//! | flag | the file of `cli` that has its group: `flags`, `flags::http`, `topics`, ... | a field in `base::config`, a line in `OPERATING.md`; the key of configuration files comes by itself |
//! | host function | `wit/`, and the file of `runtime::host` (event guests) or `runtime::concurrent` (async guests) that has the interface's name | `fit::needs` if it needs a flag; `host` of `netwasm-guest` |
//! | standard interface | `runtime::standard`; stores behind it, `netwasm-keyvalue` | `runtime::fit::imports` |
//! | permission | `base::policy`, asked by whoever does the work | a flag `--allow-...`, `fit::needs` |
//! | metric | `base::counters`, or `base::meter` on the path of each event | a row in `admin::metrics::services` |
//! | message of OTLP | `netwasm-otlp` | `otlp` for those of the host, `runtime::standard::otel` for those of guests |
//! | source of components | `netwasm-registry` | `server::origin` |
//! | command | `cli`, its flags | `program`, its exit code |
//!
//! # Modules of this crate
//!
//! | module | contents | not there |
//! | --- | --- | --- |
//! | [`cli`] | the command line, and configuration files with its flags as keys | their meaning |
//! | `prose` | text for terminals and manual pages, from Markdown | what it says |
//! | [`logging`] | where the log goes, and how much of it | what is logged |
//! | `wiring` | the protocol of each listener, and its handler: the one place that names a transport, a protocol and a guest together | |
//! | [`admin`] | the interface for operators: metrics, state, reload | what they ask of |
//! | `otlp` | the export of traces, and of what guests report | what is traced |
//! | `signals` | the signals of a run, and what each asks for | what is done then |
//! | [`changes`] | the files that a run is made from, watched for `--watch` | what is done then |
//! | [`program`] | the commands and their exit codes | how a run goes |
//! | [`server`] | a run from start to end: services, their generations, reloads | TLS or WIT details |
//! | [`project`] | writing a handler: `new`, `build`, `wit`, `run --watch` | running a component |
//! | `allocator` | memory that is free, back to the system | |
//! | `deadline` | a limit of time for work that has none | |
//! | [`doctor`] | what of the machine keeps a run from being right, or fast | curing it |
//! | [`bench`] | internals for micro-benchmarks | |
//!
//! `unsafe` is denied except in `allocator`, which calls mimalloc, in `doctor::clock`,
//! which asks the kernel for the state of its clock, and in `project::children`, whose
//! processes end with this one.

pub mod admin;
mod allocator;
#[doc(hidden)]
pub mod bench;
pub mod changes;
pub mod cli;
mod deadline;
pub mod doctor;
pub mod logging;
mod otlp;
pub mod program;
pub mod project;
mod prose;
pub mod server;
mod signals;
mod wiring;
