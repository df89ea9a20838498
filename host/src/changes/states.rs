//! The files that are watched, and their states.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::project::sources::Snapshot;

/// The files, each with its state when a change of it was last told.
pub(super) type Files = BTreeMap<PathBuf, State>;

/// State of a file. If it is another one, the file has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    Missing,
    /// Device, inode, length, and times of the last changes.
    File([u64; 3], [(i64, i64); 2]),
    /// The sources of a project.
    Sources(Snapshot),
}

impl State {
    pub(super) fn of(path: &Path, logs: &[PathBuf]) -> Self {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::Sources(Snapshot::without(path, logs)),
            Ok(metadata) => Self::File(
                [metadata.dev(), metadata.ino(), metadata.len()],
                [
                    (metadata.mtime(), metadata.mtime_nsec()),
                    (metadata.ctime(), metadata.ctime_nsec()),
                ],
            ),
            Err(_) => Self::Missing,
        }
    }

    /// Returns the path, or the file below it, that differs from the state before.
    pub(super) fn place(&self, before: &Self, path: &Path) -> PathBuf {
        match (self, before) {
            (Self::Sources(now), Self::Sources(before)) => now.difference(before).unwrap_or(path),
            _ => path,
        }
        .to_owned()
    }
}
