#![doc = include_str!("../README.md")]
//!
//! # Data flow
//!
//! ```text
//!   test --> Component --cargo--> component.wasm
//!               |                      |
//!               | start                v
//!               +-----> Server ==> netwasm run component.wasm --tcp 127.0.0.1:0 ...
//!                       |    ^         | listening lines, log lines
//!                       |    +-- Log <-+
//!                       v
//!             Client, UdpClient, HttpClient,
//!             WebSocketClient            == real sockets ==> the component
//! ```
//!
//! [`Component`] is the start: it has the flags of the host. [`Server`] makes the
//! clients and ends the host. All panics are failures of the test; nothing
//! returns an error.
#![forbid(unsafe_code)]

mod cargo;
mod certificate;
mod client;
mod component;
mod counts;
mod deadline;
mod difference;
mod embedded;
mod guardian;
mod host;
mod http;
mod listener;
mod log;
mod program;
mod server;
mod start;
mod tls;
mod udp;
mod websocket;

pub use client::Client;
pub use component::Component;
pub use counts::Counts;
pub use host::Host;
#[cfg(feature = "http2")]
pub use http::{Http2Client, Pending};
pub use http::{HttpClient, Request, Response};
pub use log::Log;
pub use program::Finished;
pub use serde_json::{Value, json};
pub use server::Server;
pub use udp::UdpClient;
pub use websocket::{WebSocketClient, WebSocketMessage};

/// For [`embedded_host`].
#[doc(hidden)]
pub mod private {
    pub use crate::embedded::{embedded_in, run_host};
}
