//! Foundation of netwasm: plain data, and rules that need no runtime.
//!
//! ```text
//!   command line --> config --> limits, policy, listeners, directories
//!                      |              read by every crate above
//!                      +--> ConfigError: one line, with the flag to change
//! ```
//!
//! Nothing here listens or knows of WebAssembly. Whatever waits does so
//! in a thread of its own.
//!
//! # Modules
//!
//! A module imports only those above it.
//!
//! | module | contents |
//! | --- | --- |
//! | [`base64`] | Base64 |
//! | [`guarded`] | panics of libraries on broken input, which are errors here |
//! | [`mod@line`] | texts in one line, whatever is in them |
//! | [`caches`] | the user's directory of caches |
//! | [`users`] | users and groups of the machine |
//! | [`identity`] | the user that a run goes on as |
//! | [`input`] | files that are read once, without a wait for ever |
//! | [`unix`] | names and rights of Unix sockets |
//! | [`syslog`] | lines to a syslog server |
//! | [`address`] | the addresses of a connection's ends |
//! | [`listen`] | kinds and addresses of listeners |
//! | [`policy`] | what a guest may reach; denies by default, asked before any system call |
//! | [`descriptors`] | the limit of open files, and how many connections fit below it |
//! | [`memory`] | the memory that a container has, and how many connections fit below it |
//! | [`config`] | the settings of a run, checked once and passed down in parts |
//! | [`error`] | errors, grouped by who is at fault |
//! | [`stamp`] | stamps of files, by which a change is noticed |
//! | [`guest_metrics`] | metrics that guests make |
//! | [`shared_state`] | token buckets and values that the instances of a service share |
//! | [`per_thread`] | counts that each thread keeps apart, and their sums |
//! | [`meter`] | counts on the path of every event, for each thread apart |
//! | [`traps`] | traps of guests, by cause |
//! | [`counters`] | the counters of a service |
//! | [`trace`] | traces: identities, what is sampled, finished spans |
//! | [`notify`] | messages to the service manager |
//! | [`supervised`] | work of a thread, which a panic does not end |
//! | [`ticker`] | a thread for periodic work |
//! | [`limiter`] | a limit of lines per second, and a count of the others |
//! | [`spool`] | a queue of lines that a thread writes to a file |

pub mod address;
pub mod base64;
pub mod caches;
pub mod config;
pub mod counters;
pub mod descriptors;
pub mod error;
pub mod guarded;
pub mod guest_metrics;
pub mod identity;
pub mod input;
pub mod limiter;
pub mod line;
pub mod listen;
pub mod memory;
pub mod meter;
pub mod notify;
pub mod per_thread;
pub mod policy;
pub mod shared_state;
pub mod spool;
pub mod stamp;
pub mod supervised;
pub mod syslog;
pub mod ticker;
pub mod trace;
pub mod traps;
pub mod unix;
pub mod users;

pub use error::Error;
