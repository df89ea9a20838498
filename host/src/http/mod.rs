//! HTTP/1.1 (RFC 9110, RFC 9112) and HTTP/2 (`http2`) for guests that answer
//! requests.
//!
//! ```text
//!   bytes --> head, chunked --> connection --> guest --> response --> bytes
//!                                   |                       |
//!                               access_log              file_body
//! ```
//!
//! The host parses, the guest decides: it sees one request after another, and
//! nothing of how they were framed. No task, channel or allocation is made for
//! a request that has come whole.
//!
//! A guest that awaits gets its request before the body has come, and reads that
//! itself (`upload`); what it answers (`reply`) is sent as it makes it, or by the
//! kernel where that is a file (`hand_back`).
//!
//! What guests send themselves is `client`'s, and hyper's.
//!
//! `head` and `chunked` are what hostile bytes meet first. They do no I/O, and
//! are fuzzed and compared with hyper.

pub(crate) mod access_log;
pub(crate) mod answer;
mod chunked;
mod client;
mod coding;
mod conditional;
mod connection;
pub(crate) mod content;
mod exchange;
pub(crate) mod failure;
mod file_body;
pub(crate) mod handler;
mod head;
pub(crate) mod hop;
mod http2;
mod local;
mod media;
pub(crate) mod outgoing;
mod range;
pub(crate) mod reply;
mod request;
mod response;
mod upload;

use std::rc::Rc;

use crate::service;
use crate::transport::Transport;
use crate::worker::Worker;

pub(crate) use answer::{Answer, Body};
pub(crate) use client::{Client, Destination};
pub(crate) use content::{Ended, FileContent};
pub(crate) use local::{Env, Local};
pub(crate) use outgoing::Outgoing;
pub(crate) use reply::{Answered, NoResponse, Reply};
pub(crate) use request::Request;

/// Speaks HTTP on a listener.
#[derive(Debug)]
pub(crate) struct Service(Rc<Local>);

impl Service {
    /// For the connections of a thread.
    pub(crate) fn new(local: Rc<Local>) -> Self {
        Self(local)
    }
}

impl service::Service for Service {
    fn accept(&self, worker: &Rc<Worker>, transport: Rc<Transport>) {
        let driver = connection::Driver::accepted(Rc::clone(&self.0), Rc::clone(&transport));
        worker.drive(&transport, driver);
    }

    fn tick(&self) {
        self.0.tick();
    }
}
