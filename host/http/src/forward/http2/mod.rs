//! Requests to servers that speak HTTP/2 (RFC 9113), by the `h2` crate.
//!
//! ```text
//!   Forwarding --> MultiplexedPool --> Multiplexed (one for many requests)
//!        |                              |  a task: Multiplexer --> h2 --> WireIo
//!        +--> UpstreamStream <----------+
//!               |
//!   client <-- StreamedResponse          the client's task polls both directions
//! ```
//!
//! A worker keeps a connection to each address of a server, and another one when
//! the server takes no more streams there (`SETTINGS_MAX_CONCURRENT_STREAMS`). If
//! there are too many connections, requests wait in a queue. A connection is a
//! task; a request is none. Windows are opened as the client takes what has come,
//! so a slow client stops its own stream only.
//!
//! A request is sent again whatever its method if the server says that it was
//! not processed: by `REFUSED_STREAM`, or by a GOAWAY with a lower stream.

mod body;
mod driver;
mod frames;
mod io;
mod line;
mod pool;
mod queue;
mod stream;

pub(super) use self::body::StreamedResponse;
pub(super) use self::line::{Joined, SpokenToServer};
pub(super) use self::pool::MultiplexedPool;
pub(super) use self::queue::Queued;
pub(super) use self::stream::{StreamHead, UpstreamStream};
