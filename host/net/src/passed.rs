//! Sockets that the service manager has opened: sd_listen_fds(3).

use std::env;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process;
use std::sync::OnceLock;

use std::os::fd::AsFd;

use crate::io;

/// Number of the first passed descriptor.
const FIRST: i32 = 3;

/// Most descriptors that are taken.
const MOST: i32 = 1024;

/// Name of a descriptor that has none.
const UNNAMED: &str = "unknown";

static PASSED: OnceLock<Vec<(String, OwnedFd)>> = OnceLock::new();

/// Returns the sockets of a name.
pub(crate) fn named(name: &str) -> Vec<BorrowedFd<'static>> {
    let all = PASSED.get_or_init(take).iter();
    let named = all.filter(|(own, _)| own == name);
    named.map(|(_, socket)| socket.as_fd()).collect()
}

/// Returns the names of all sockets, for a message.
pub(crate) fn names() -> Vec<&'static str> {
    let all = PASSED.get_or_init(take).iter();
    all.map(|(name, _)| &**name).collect()
}

/// Takes the descriptors that the environment tells of.
#[expect(unsafe_code, reason = "the environment tells only the numbers")]
fn take() -> Vec<(String, OwnedFd)> {
    let number = |name: &str| env::var(name).ok()?.parse::<i32>().ok();
    let own = i32::try_from(process::id()).ok();
    if number("LISTEN_PID") != own {
        // They are another process's, if there are any.
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, MOST);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let each = (FIRST..FIRST + count).filter_map(|number| {
        let name = names.next().filter(|name| !name.is_empty());
        // SAFETY: the manager has passed it to this process, as LISTEN_PID says,
        // and the cell runs this function once.
        let socket = unsafe { io::inherited(number) }?;
        Some((name.unwrap_or(UNNAMED).to_owned(), socket))
    });
    each.collect()
}
