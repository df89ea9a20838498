//! The sources of a component, and whether they have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that builds write into a project.
const BUILT: [&str; 4] = ["target", "node_modules", "__pycache__", "Cargo.lock"];

/// Most files that are looked at.
const MOST: usize = 20_000;

/// Standard output and standard error of this process. They may be files below
/// the sources.
const OUTPUTS: [&str; 2] = ["/proc/self/fd/1", "/proc/self/fd/2"];

/// Files that the run itself writes, by device and inode.
type Written = BTreeSet<(u64, u64)>;

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
    /// built ones, logs, and this process's output. What cannot be read is left
    /// out: it may be written right now.
    pub(crate) fn of(path: &Path) -> Self {
        Self::without(path, &[])
    }

    /// Like `of`, but leaves out these logs, too.
    pub(crate) fn without(path: &Path, logs: &[PathBuf]) -> Self {
        let written = logs.iter().map(PathBuf::as_path);
        let written = written
            .chain(OUTPUTS.map(Path::new))
            .filter_map(|path| fs::metadata(path).ok())
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .collect();
        let mut snapshot = Self::default();
        snapshot.add(path, &written);
        snapshot
    }

    /// Returns a file, or else a directory, in which another snapshot differs.
    pub(crate) fn difference<'a>(&'a self, other: &'a Self) -> Option<&'a Path> {
        let changed = self.files.iter();
        let changed = changed.filter(|(path, state)| other.files.get(*path) != Some(*state));
        let gone = other.files.keys();
        let gone = gone.filter(|path| !self.files.contains_key(*path));
        let directories = self.directories.symmetric_difference(&other.directories);
        let mut all = changed.map(|(path, _)| path).chain(gone).chain(directories);
        all.next().map(PathBuf::as_path)
    }

    /// Returns the directories that were looked into.
    pub(crate) fn directories(&self) -> &BTreeSet<PathBuf> {
        &self.directories
    }

    /// True if there is no file: it was removed, perhaps to be written again.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns a text that is another one after a change; `None` if a change
    /// may have been overlooked.
    pub(super) fn stamp(&self) -> Option<String> {
        (!self.is_partial).then(|| format!("{:?}", self.files))
    }

    fn add(&mut self, path: &Path, written: &Written) {
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        if metadata.is_file() {
            if written.contains(&(metadata.dev(), metadata.ino())) {
                return;
            }
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
            let is_source =
                !name.starts_with('.') && !name.ends_with(".log") && !BUILT.contains(&&*name);
            if !is_source {
                continue;
            }
            // A link may lead in circles, or out of the project.
            match is_link || self.files.len() >= MOST {
                true => self.is_partial = true,
                false => self.add(&entry.path(), written),
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
            "watch.log",
        ] {
            write(built, "x");
            assert_eq!(first, Snapshot::of(root), "{built}");
        }
        write("src/lib.rs", "three");
        let second = Snapshot::of(root);
        assert_ne!(first, second);
        let place = |before: &Snapshot| {
            let now = Snapshot::of(root);
            now.difference(before).map(Path::to_owned)
        };
        assert_eq!(second.difference(&second), None);
        assert_eq!(place(&first), Some(root.join("src/lib.rs")));
        write("src/more.rs", "");
        assert_ne!(second, Snapshot::of(root));
        assert_eq!(place(&second), Some(root.join("src/more.rs")));
        fs::remove_file(root.join("src/more.rs")).expect("it is there");
        let logs = [root.join("requests.txt")];
        write("requests.txt", "one");
        assert_eq!(second, Snapshot::without(root, &logs));
        assert_eq!(place(&second), Some(logs[0].clone()));
        fs::remove_file(&logs[0]).expect("it is there");
        assert!(Snapshot::of(&root.join("nowhere")).is_empty());
        assert!(second.stamp() != first.stamp() && second.stamp().is_some());
        std::os::unix::fs::symlink("/etc/hostname", root.join("linked")).expect("a link");
        assert_eq!(Snapshot::of(root).stamp(), None);
    }
}
