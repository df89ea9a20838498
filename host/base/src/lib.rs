//! What all of netwasm is built on: plain data, and rules that need no runtime.
//!
//! ```text
//!   command line --> config --> limits, policy, listeners, directories
//!                      |              asked and read by every crate above
//!                      +--> ConfigError: one line, with the flag to change
//! ```
//!
//! Nothing here opens a socket or knows of WebAssembly; what waits does so in a
//! thread of its own.
//!
//! # Modules
//!
//! A module imports only those above it.
//!
//! | module | lives there |
//! | --- | --- |
//! | [`address`] | the addresses of a connection's ends |
//! | [`listen`] | what a listener speaks, and where |
//! | [`policy`] | what a guest may reach; denies by default, asked before any system call |
//! | [`descriptors`] | the limit of open files, and how many connections fit below it |
//! | [`config`] | what a run is to do, checked once and passed down in parts |
//! | [`error`] | errors, by whose fault they are |
//! | [`counters`] | what is counted in a run |
//! | [`ticker`] | a thread for what happens regularly |
//! | [`limiter`] | so many lines a second, and a count of the others |
//! | [`spool`] | lines on their way to a file, by a thread |

pub mod address;
pub mod config;
pub mod counters;
pub mod descriptors;
pub mod error;
pub mod limiter;
pub mod listen;
pub mod policy;
pub mod spool;
pub mod ticker;

pub use error::Error;
