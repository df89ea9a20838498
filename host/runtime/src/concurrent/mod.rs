//! The engine for async guests: handlers of streams
//! (`netwasm:net/stream-handler`), of HTTP requests (`wasi:http`), and commands
//! (`wasi:cli/run`).
//!
//! An instance's calls, and the streams between it and the host, run as tasks
//! of its store's own loop (`Store::run_concurrent`), which is one task of the
//! worker. So one instance may hold many connections, and a call waits while
//! others run.

pub(crate) mod background;
mod bindings;
mod blobstore;
mod bucket_calls;
mod client;
mod failure;
mod files;
mod handles;
mod host;
pub(crate) mod http;
mod http_error;
mod informing;
pub(crate) mod instance;
pub(crate) mod link;
mod lookup;
mod opening;
mod opening_p2;
mod outgoing;
pub(crate) mod permissions;
pub(crate) mod place;
pub(crate) mod program;
mod response;
mod sending;
mod sent;
mod sockets;
mod spin;
pub(crate) mod state;
mod streams;
mod tcp;
mod tls;
mod tls_engine;
mod transmission;
mod udp;
