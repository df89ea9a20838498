//! Sockets that the service manager has opened: sd_listen_fds(3).

use std::env;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::io;

/// Number of the first passed descriptor.
const FIRST: i32 = 3;

/// Most descriptors that are taken.
const MOST: i32 = 1024;

/// Name of a descriptor that has none.
const UNNAMED: &str = "unknown";

/// A socket that the service manager has opened.
#[derive(Debug)]
struct Passed {
    name: String,
    socket: OwnedFd,
    /// True if a listener has it.
    used: bool,
}

static PASSED: OnceLock<Mutex<Vec<Passed>>> = OnceLock::new();

fn passed() -> MutexGuard<'static, Vec<Passed>> {
    let all = PASSED.get_or_init(|| Mutex::new(take()));
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns duplicates of the sockets of a name.
///
/// # Errors
/// Fails if no descriptor is left.
pub(crate) fn named(name: &str) -> std::io::Result<Vec<OwnedFd>> {
    let mut all = passed();
    let named = all.iter_mut().filter(|it| it.name == name);
    let named = named.map(|passed| {
        passed.used = true;
        passed.socket.try_clone()
    });
    named.collect()
}

/// Returns the names of all sockets, for a message.
pub(crate) fn names() -> Vec<String> {
    passed().iter().map(|it| it.name.clone()).collect()
}

/// Closes the sockets that no listener has, and returns their names.
pub(crate) fn close_unused() -> Vec<String> {
    let mut all = passed();
    let closed = all.extract_if(.., |it| !it.used);
    closed.map(|it| it.name).collect()
}

/// Takes the descriptors that the environment tells of.
#[expect(unsafe_code, reason = "the environment tells only the numbers")]
fn take() -> Vec<Passed> {
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
        Some(Passed {
            name: name.unwrap_or(UNNAMED).to_owned(),
            socket,
            used: false,
        })
    });
    each.collect()
}
