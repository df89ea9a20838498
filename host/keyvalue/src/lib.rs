//! Stores of keys and values for guests: in memory, in a file, on a Redis
//! server. Such a server joins topics of several processes, too.
//!
//! ```text
//!   --keyvalue NAME=STORE --Stores::open--> Stores (a generation of a service)
//!                                             |  of_worker
//!                                             v
//!   guest --open NAME--> Buckets --bucket--> Bucket --Answer--> guest
//!                                             |
//!               memory (at once) -------------+
//!               file (own thread, which commits what waits at once)
//!               redis (one connection for each worker)
//! ```
//!
//! # Modules
//!
//! | module | contents | not there |
//! | --- | --- | --- |
//! | `answer` | results that are there, or come later; errors; limits | stores |
//! | `memory` | buckets in memory, which outlive generations | |
//! | `file` | buckets in files | the thread that commits |
//! | `committing` | that thread, and changes of a file | |
//! | `dial` | connections that another crate makes | |
//! | `connection` | connections to Redis servers | |
//! | `server` | buckets on Redis servers | |
//! | [`channels`] | channels of Redis servers, for topics | topics |
//! | `bucket` | a bucket of any store | permissions |
//! | `stores` | the buckets of a service | |

mod answer;
mod bucket;
pub mod channels;
mod committing;
mod connection;
mod dial;
mod file;
mod memory;
mod server;
mod stores;

pub use answer::{Answer, Error, Later, Outcome, Page, Swap, Value};
pub use bucket::{Bucket, Count};
pub use dial::{Dial, Dialing, Stream};
pub use memory::Memories;
pub use stores::{Buckets, Stores};
