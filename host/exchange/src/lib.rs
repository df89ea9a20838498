//! The types between an HTTP driver and a handler: a request's head, an answer,
//! bodies, failures by name. Neither side knows the other.
//!
//! ```text
//!   bytes --> head, chunked --> Request ----Handler::handle----> Answer
//!                               Call -------Handler::begin-----> Reply: Answered
//!                               (its body is streamed)           (Content: bytes
//!                                                                 or a file)
//!                      or a Forward, for the driver alone
//!   a guest's own request --> Outgoing::send --> Received
//! ```
//!
//! `head` and `chunked` parse a client's untrusted bytes. They do no I/O, and are
//! fuzzed and compared with hyper.
//!
//! # Modules
//!
//! A module imports only those above it, except that a request names the service
//! that it is for, a `handler::Site`.
//!
//! | module | contents |
//! | --- | --- |
//! | [`head`] | HTTP/1.1 heads: what is refused, and what a head means |
//! | [`chunked`] | the chunked coding |
//! | [`hop`] | hop-by-hop fields |
//! | [`failure`] | reasons why an exchange failed, by the names of RFC 9209 |
//! | [`content`] | bodies: of a response, perhaps a file; of a streamed request |
//! | [`outlet`] | a response's body that an event guest sends piece by piece |
//! | [`told`] | the host's own words on an error, in the form that the client asks for |
//! | [`request`], [`answer`] | a request that is buffered, or whose body has yet to arrive; its answer |
//! | `interim` | interim responses that wait to be sent |
//! | [`forward`] | a decision to forward a request |
//! | [`reply`] | a response, between the instance that makes it and the connection that sends it |
//! | [`message`], [`topics`] | messages to all subscribers of a topic, on all threads, streams of events made of them, and subscribed connections of byte streams |
//! | [`destination`] | the server of a URL |
//! | [`websocket`] | WebSocket connections: requests for them, and a guest's end |
//! | [`handler`], [`deferred`] | the traits of a handler; an answer that it gives later |
//! | [`sites`] | handlers of several services on one listener, by host and path |
//! | [`redirect`] | handlers that send clients to HTTPS |
//! | [`outgoing`] | requests that guests send |

pub mod answer;
pub mod chunked;
pub mod content;
pub mod deferred;
pub mod destination;
pub mod failure;
pub mod forward;
pub mod handler;
pub mod head;
pub mod hop;
mod interim;
pub mod message;
pub mod outgoing;
pub mod outlet;
pub mod redirect;
pub mod reply;
pub mod request;
pub mod sites;
pub mod told;
pub mod topics;
pub mod websocket;
