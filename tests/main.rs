//! Tests of the real program, with real sockets, files and guests. They are one
//! crate, so that the harness is compiled once. To run one module:
//!
//! ```text
//! cargo test --workspace --test all http::
//! ```

mod harness;

mod bulk;
mod cli;
mod client;
mod command;
mod components;
mod conditions;
mod connect;
mod deferring;
mod dialing;
mod dns;
mod event_loop;
mod events;
mod fairness;
mod files;
mod guests;
mod http;
mod http2;
mod http2_faults;
mod http_bodies;
mod http_clients;
mod http_faults;
mod http_files;
mod http_parser;
mod http_sending;
mod http_uploads;
mod http_upstreams;
mod https;
mod interpreter;
mod leaving;
mod library;
mod limits;
mod log;
mod messages;
mod names;
mod native;
mod pool;
mod project;
mod relay;
mod shutdown;
mod sockets;
mod start;
mod stream;
mod structure;
mod targets;
mod tcp;
mod test_kit;
mod test_kit_http;
mod tls;
mod tls_engine;
mod udp;
mod unix;
mod wasi_http;
mod wasi_http_client;
mod wasi_http_faults;
mod wasi_http_files;
