//! Files that a killed process left unfinished. They are removed once a guest
//! first uses the directory.
//!
//! A process has a lock (flock(2)) on each file that it writes, which ends with the
//! process, however that ends. A file without one is removed. The number of a process
//! in a file's name could not tell that its writer is gone: other machines, or
//! namespaces with numbers of their own, may share the directory.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::object::split;
use super::{Container, Failure, Going, Listing, beneath};

/// Directories that were cleaned or are being, by device and number: a reload cleans
/// none again.
static BEGUN: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Held by the thread that cleans, so that there is one at a time.
static CLEANING: Mutex<()> = Mutex::new(());

/// Begins to clean a directory on a thread of its own, unless that was begun before.
/// `has_many` is true if its sub-directories are the containers.
pub(super) fn begin(container: &Container, has_many: bool) {
    container.cleaned.call_once(|| {
        if !container.writable || !is_first(container) {
            return;
        }
        let own = container.clone();
        let thread = thread::Builder::new().name("blobs".into());
        let started = thread.spawn(move || {
            let _alone = CLEANING.lock().unwrap_or_else(PoisonError::into_inner);
            tell(&own, clean(&own, has_many));
        });
        if let Err(error) = started {
            tracing::warn!(
                container = container.name(),
                "no thread to remove unfinished files of --blobstore: {error}"
            );
        }
    });
}

/// True if no container of this directory was here before.
fn is_first(container: &Container) -> bool {
    let Ok(stat) = rustix::fs::fstat(&container.directory) else {
        return false;
    };
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    begun.insert(identity(&stat))
}

fn tell(container: &Container, cleaned: Result<usize, Failure>) {
    let container = container.name();
    match cleaned {
        Ok(0) => {}
        Ok(files) => tracing::info!(
            container,
            files,
            "unfinished files of a process that was killed are removed"
        ),
        Err(Failure::Told(reason)) => tracing::warn!(
            container,
            "unfinished files of a process that was killed may be left: {reason}"
        ),
        // It is writable.
        Err(Failure::NotAllowed(_) | Failure::ReadOnly(_)) => {}
    }
}

/// Removes the files that nobody writes any more, and returns how many.
///
/// # Errors
/// Fails if a directory cannot be read.
pub(super) fn clean(container: &Container, has_many: bool) -> Result<usize, Failure> {
    let going = Going::default();
    let mut listing = Listing::unfinished(container, &going)?;
    let mut files = 0;
    while let Some(path) = listing.next_name(&going)? {
        // One that cannot be opened or removed stays.
        if !remove(container, &path).unwrap_or(false) {
            continue;
        }
        files += 1;
        let (parent, _) = split(&path);
        let top = match has_many {
            true => parent.split('/').next().unwrap_or_default(),
            false => "",
        };
        container.remove_empty(parent, top);
    }
    Ok(files)
}

/// Removes a file, unless it is being written or has become an object. Returns true
/// if it is removed.
fn remove(container: &Container, path: &str) -> io::Result<bool> {
    let (parent, name) = split(path);
    let directory = container.opened(parent)?;
    // To write, since some file systems lock no other file exclusively.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = beneath(&directory, name, flags, Mode::empty())?;
    if !lock(&file)? {
        return Ok(false);
    }
    // While the lock is held, nobody else renames or removes the file.
    let there = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if identity(&there) != identity(&rustix::fs::fstat(&file)?) {
        return Ok(false);
    }
    rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
    Ok(true)
}

/// Locks a file until it is closed. Returns false if another has the lock.
///
/// # Errors
/// Fails as flock(2) does: some file systems have no locks, and there nothing is
/// cleaned.
pub(super) fn lock(file: impl AsFd) -> rustix::io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
