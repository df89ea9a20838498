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
mod chunked;
mod client;
mod coding;
mod conditional;
mod connection;
mod file_body;
mod hand_back;
mod head;
pub(crate) mod hop;
mod http2;
mod local;
mod media;
mod moving;
mod range;
pub(crate) mod reply;
mod request;
mod response;
mod upload;

pub(crate) use client::{Client, Destination, Exchange, MOST_EXCHANGES};
pub(crate) use connection::Driver;
pub(crate) use hand_back::{Ended, FileContent};
pub(crate) use local::Local;
pub(crate) use moving::Moving;
pub(crate) use reply::{Answered, NoResponse, Reply};
pub(crate) use request::Request;
pub(crate) use response::{Answer, Body};
pub(crate) use upload::RequestBody;
