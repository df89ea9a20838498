//! Channels between the tasks of an instance.

pub mod broadcast;
pub mod oneshot;
pub mod watch;

mod queue;

pub use queue::{Receiver, Sender, channel, unbounded};
