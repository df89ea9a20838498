//! Channels between the tasks of an instance.

pub mod broadcast;
pub mod oneshot;
pub mod watch;

mod queue;
mod senders;

pub use queue::{Receiver, Sender, channel, unbounded};
