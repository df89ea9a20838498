//! The sources of a component, and whether they have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that builds write into a project.
const BUILT: [&str; 4] = ["target", "node_modules", "__pycache__", "Cargo.lock"];

/// Most files that are looked at.
const MOST: usize = 20_000;

/// The files that a component is made from, with the time and length of each,
/// and their directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    files: BTreeMap<PathBuf, (Option<SystemTime>, u64)>,
    directories: BTreeSet<PathBuf>,
    /// True if there are links or too many files, so that not all was looked
    /// at.
    is_partial: bool,
}

impl Snapshot {
    /// Looks at a file, or at all files below a directory but for hidden and
    /// built ones. What cannot be read is left out: it may be written right
    /// now.
    pub(crate) fn of(path: &Path) -> Self {
        let mut snapshot = Self::default();
        snapshot.add(path);
        snapshot
    }

    /// Returns the directories that were looked into.
    pub(crate) fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.directories
    }

    /// True if there is no file: it was removed, perhaps to be written anew.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns a text that is another one after a change; `None` if a change
    /// may have been overlooked.
    pub(super) fn stamp(&self) -> Option<String> {
        (!self.is_partial).then(|| format!("{:?}", self.files))
    }

    fn add(&mut self, path: &Path) {
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        if metadata.is_file() {
            let state = (metadata.modified().ok(), metadata.len());
            self.files.insert(path.to_owned(), state);
            return;
        }
        let Ok(entries) = fs::read_dir(path) else {
            return;
        };
        self.directories.insert(path.to_owned());
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let is_written = !name.starts_with('.') && !BUILT.contains(&&*name);
            // A link may lead in circles, or out of the project.
            if !is_written {
                continue;
            }
            match is_link || self.files.len() >= MOST {
                true => self.is_partial = true,
                false => self.add(&entry.path()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_source_is_seen_and_none_of_what_is_built() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path();
        let write = |name: &str, content: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("it is made");
            fs::write(path, content).expect("a file");
        };
        write("src/lib.rs", "one");
        let first = Snapshot::of(root);
        assert_eq!(first, Snapshot::of(root));
        for built in [
            "target/a.wasm",
            ".git/index",
            "node_modules/a/b.js",
            "Cargo.lock",
        ] {
            write(built, "x");
            assert_eq!(first, Snapshot::of(root), "{built}");
        }
        write("src/lib.rs", "three");
        let second = Snapshot::of(root);
        assert_ne!(first, second);
        write("src/more.rs", "");
        assert_ne!(second, Snapshot::of(root));
        assert!(Snapshot::of(&root.join("nowhere")).is_empty());
        assert!(second.stamp() != first.stamp() && second.stamp().is_some());
        std::os::unix::fs::symlink("/etc/hostname", root.join("linked")).expect("a link");
        assert_eq!(Snapshot::of(root).stamp(), None);
    }
}
