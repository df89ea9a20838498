//! HTTP/1.1 (RFC 9110, RFC 9112) and HTTP/2 (RFC 9113) for handlers that answer
//! requests, and the client for requests that guests send.
//!
//! ```text
//!   bytes --> head, chunked --> h1 --\                     /--> h1 --> bytes
//!                                     exchange --> handler
//!   bytes --> h2 (frames by `h2`) ---/    |                \--> h2 --> bytes
//!                                         |   response, file_body
//!                                     access_log
//!
//!   a guest's own request --> client (hyper) --> connect, TLS --> peer
//! ```
//!
//! The host parses, the handler decides: it sees one request after another, and
//! nothing of how they were framed. No task, channel or allocation is made for
//! a request that has come whole.
//!
//! A handler that awaits gets its request before the body has come, and reads
//! that itself (`upload`, `h2`); what it answers is sent as it makes it, or by
//! the kernel where that is a file.
//!
//! # Modules
//!
//! A module imports only those above it; `h1` and `h2` do not know each other
//! but for the first bytes of a connection.
//!
//! | module | lives there |
//! | --- | --- |
//! | `asked`, `media`, `coding`, `range` | what a client asks of a file, its type, its compressed forms, and parts of it |
//! | `date`, `version`, `conditional` | dates in headers, what tells versions of a file apart, and whether the client has this one |
//! | `file_body` | a file as the answer to a request |
//! | [`access_log`] | a line for each request |
//! | [`local`] | what the HTTP connections of a run and of a thread share |
//! | `response` | what a response must not say, and the bytes of a head |
//! | `exchange` | what HTTP/1.1 and HTTP/2 do alike around one request |
//! | `upload` | the body of a request in HTTP/1.1 as a handler reads it |
//! | `h2` | HTTP/2 by the `h2` crate: streams instead of a connection; floods |
//! | `h1` | HTTP/1.1: requests in, responses out, in their order |
//! | [`client`] | HTTP requests that guests send: their connections, bodies, time-outs |

pub mod access_log;
mod asked;
pub mod client;
mod coding;
mod conditional;
mod date;
mod exchange;
mod file_body;
mod h1;
mod h2;
pub mod local;
mod media;
mod range;
mod response;
#[cfg(test)]
mod testing;
mod upload;
mod version;

use std::rc::Rc;

use netwasm_net::service;
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;

use crate::local::Local;

/// Speaks HTTP on a listener.
#[derive(Debug)]
pub struct Service(Rc<Local>);

impl Service {
    /// For the connections of a thread.
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
