//! HTTP/1.1 (RFC 9110, RFC 9112) and HTTP/2 (RFC 9113) for handlers of requests,
//! and the client for requests that guests send.
//!
//! ```text
//!   bytes --> head, chunked --> h1 --\                     /--> h1 --> bytes
//!                                     exchange --> handler
//!   bytes --> h2 (frames by `h2`) ---/    |                \--> h2 --> bytes
//!                                         |   response, file_body
//!                                     access_log
//!
//!   a request that is forwarded --> forward --> server, and its response back
//!   a guest's own request --> client (hyper) --> connect, TLS --> peer
//! ```
//!
//! The host parses, the handler decides. A handler sees one request after
//! another, without their framing. A request that has arrived whole costs no
//! task, channel or allocation.
//!
//! An async guest gets its request before the body has arrived, and reads the
//! body itself (`upload`, `h2`). Its response is sent as it is made. If the
//! response's body is a file, the kernel sends it. An event guest may do the
//! same by events; its streamed bodies and deferred requests take that way too.
//!
//! # Modules
//!
//! A module imports only those above it. `h1` and `h2` share only the first
//! bytes of a connection.
//!
//! | module | contents |
//! | --- | --- |
//! | `asked`, `media`, `coding`, `range` | request fields, media types, codings, ranges |
//! | `date`, `version`, `conditional` | dates, versions of files, conditional requests |
//! | `file_body` | a file as the body of a response |
//! | [`tally`] | numbers of requests, for metrics |
//! | [`access_log`] | a line for each request |
//! | `spans` | spans of requests, for traces |
//! | [`flow_limit`] | limit of a run on what clients send ahead of the guests |
//! | `websocket::codec` | WebSocket: frames, messages, their compression |
//! | [`local`] | state shared by the HTTP connections of a run and of a thread |
//! | `response` | check of a response, and the bytes of its head |
//! | [`retry_after`] | the pause that a response asks for |
//! | `sink`, `coalescing` | frames that `h2` writes to a transport; data of its streams, small frames joined |
//! | `upload` | body of an HTTP/1.1 request, read by an async guest |
//! | `forward` | requests that a handler forwards, and their responses |
//! | `exchange` | decisions about a request that HTTP/1.1 and HTTP/2 share |
//! | `websocket` | WebSocket connections, over HTTP/1.1 and HTTP/2 |
//! | `h2` | HTTP/2 by the `h2` crate: streams, flow control, floods |
//! | `h1` | HTTP/1.1: requests in, responses out, in their order |
//! | [`client`] | requests that guests send: connections, bodies, time-outs; WebSocket connections that they open |

pub mod access_log;
mod asked;
pub mod client;
mod coalescing;
mod coding;
mod conditional;
mod date;
mod exchange;
mod file_body;
pub mod flow_limit;
mod forward;
mod h1;
mod h2;
pub mod local;
mod media;
mod range;
mod response;
pub mod retry_after;
mod sink;
mod spans;
pub mod tally;
#[cfg(test)]
mod testing;
mod upload;
mod version;
mod websocket;

use std::rc::Rc;

use netwasm_net::service;
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;

use crate::local::Local;

/// HTTP service of a listener.
#[derive(Debug)]
pub struct Service(Rc<Local>);

impl Service {
    /// Returns the service for the connections of a thread.
    pub fn new(local: Rc<Local>) -> Self {
        Self(local)
    }
}

impl service::Service for Service {
    fn accept(&self, worker: &Rc<Worker>, transport: Rc<Transport>) {
        let driver = h1::Driver::accepted(Rc::clone(&self.0), Rc::clone(&transport));
        worker.drive(&transport, driver);
    }

    fn tick(&self) {
        self.0.tick();
    }
}
