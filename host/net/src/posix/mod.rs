//! Sockets in the form of POSIX, for programs that bring their own event loop:
//! each function is one system call that does not wait. Waiting is a
//! [`WatchList`]'s, an epoll(7) of the program's own.
//!
//! A socket counts against the limits that connections have
//! (`--max-connections`, `--max-outgoing`), and in the counters of a run. The
//! policy is the caller's: nothing here asks it.

mod notice;
mod options;
mod socket;
mod transfer;
mod watch_list;

pub use self::notice::Notice;
pub use self::options::PosixOption;
pub use self::socket::{Direction, PosixError, PosixSocket, SocketFamily, SocketKind};
pub use self::transfer::{MOST_BYTES, PosixDatagram, Receive};
pub use self::watch_list::{Readiness, WatchList};
