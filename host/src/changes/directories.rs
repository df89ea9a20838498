//! The directories of watched files: inotify(7).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::states::{Files, State};

/// Events that are watched for in a directory.
const WHAT: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// The directories of files, watched.
#[derive(Debug)]
pub(super) struct Directories {
    /// `None` if the system gives none.
    inotify: Option<OwnedFd>,
    all: BTreeSet<PathBuf>,
    /// False if some cannot be watched at present.
    are_watched: bool,
    /// True if that was told, for another reason than that they do not exist.
    is_told: bool,
}

impl Directories {
    pub(super) fn new(files: &Files, mut is_told: bool) -> Self {
        // All containers of a user number on a machine have 128 of them together
        // (fs.inotify.max_user_instances, inotify(7)).
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(error) = &inotify
            && !std::mem::replace(&mut is_told, true)
        {
            tracing::warn!(
                %error,
                "--watch: files are looked at twice a second, as the system has no inotify left \
                 for this user (sysctl fs.inotify.max_user_instances)"
            );
        }
        let mut directories = Self {
            inotify: inotify.ok(),
            all: directories_of(files),
            are_watched: true,
            is_told,
        };
        directories.watch();
        directories
    }

    /// Returns the descriptor that is readable once something has happened.
    pub(super) fn descriptor(&self) -> Option<&OwnedFd> {
        self.inotify.as_ref()
    }

    /// Returns false if some cannot be watched at present.
    pub(super) fn are_watched(&self) -> bool {
        self.are_watched
    }

    /// Watches the directories of these files, which may be other ones.
    pub(super) fn renewed(mut self, files: &Files) -> Self {
        if directories_of(files) == self.all {
            // One may have been removed and made again. Others are not watched twice.
            self.watch();
            return self;
        }
        let is_told = self.is_told;
        // Its own goes first: there may be no other.
        drop(self);
        Self::new(files, is_told)
    }

    fn watch(&mut self) {
        let Some(inotify) = &self.inotify else {
            self.are_watched = false;
            return;
        };
        self.are_watched = true;
        for directory in &self.all {
            match inotify::add_watch(inotify, directory, WHAT) {
                Ok(_) => {}
                Err(errno) => {
                    self.are_watched = false;
                    let is_missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
                    if !is_missing && !std::mem::replace(&mut self.is_told, true) {
                        tracing::warn!(
                            directory = %directory.display(), error = %errno,
                            "--watch: it is looked at twice a second, as inotify cannot watch it"
                        );
                    }
                }
            }
        }
    }

    /// Takes what has happened, without looking at it.
    pub(super) fn empty(&self) -> io::Result<()> {
        let Some(inotify) = &self.inotify else {
            return Ok(());
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {}
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Returns the directories in which something happens if one of these files
/// changes: that of its name, and that of the file that links lead to.
fn directories_of(files: &Files) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for (path, state) in files {
        let parent = |path: &Path| match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        directories.insert(parent(path));
        if let Ok(real) = fs::canonicalize(path) {
            directories.insert(parent(&real));
        }
        if let State::Sources(sources) = state {
            directories.extend(sources.directories().iter().cloned());
        }
    }
    directories
}
