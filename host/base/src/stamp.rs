//! The stamp of a file, by which a change is noticed without reading it.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::config::ComponentSource;

/// Age of a file's last change after which the next one is sure to get another
/// time: the coarsest clock of a file system has two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Place, size and times of a file. Two files with the same stamp have the same
/// bytes.
///
/// The time of the last change of the inode is among them, which no program can
/// set: it tells of a file whose other times were put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Stamps of the files that a component is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// Returns the present stamps of a component's file and of those that are
    /// composed with it; `None` if one is not a regular file, or cannot be
    /// looked at.
    #[must_use]
    pub fn of_component(source: &ComponentSource, plugs: &[PathBuf]) -> Option<Self> {
        let plugs = plugs.iter().map(PathBuf::as_path);
        let files = std::iter::once(source.file()?).chain(plugs);
        files.map(Stamp::of_file).collect::<Option<_>>().map(Self)
    }

    /// Joins stamps, that of the component first; `None` if one is missing.
    #[must_use]
    pub fn of(stamps: impl IntoIterator<Item = Option<Stamp>>) -> Option<Self> {
        stamps.into_iter().collect::<Option<_>>().map(Self)
    }

    /// Returns the size of the largest file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.iter().map(|stamp| stamp.size).max().unwrap_or(0)
    }
}

impl Stamp {
    fn of_file(path: &Path) -> Option<Self> {
        // Not to wait for the other end of a pipe.
        Self::of(&path.metadata().ok()?)?;
        // Opened, since only that makes the client of a network file system ask its server.
        Self::of(&File::open(path).ok()?.metadata().ok()?)
    }

    /// Returns the stamp of a regular file; `None` for anything else.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        metadata.is_file().then(|| Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// True if each later change gives the file another stamp: its times are
    /// past by more than a clock's step. To be asked before the file is read.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let Ok(now) = now.duration_since(SystemTime::UNIX_EPOCH) else {
            return false;
        };
        [self.modified, self.changed].iter().all(|(seconds, _)| {
            // The times are cut to seconds, so the age is at least this.
            let next = u64::try_from(seconds.saturating_add(1)).unwrap_or(0);
            let age = now.checked_sub(Duration::from_secs(next));
            age.is_some_and(|age| age >= SETTLED)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn stamp(path: &Path) -> Stamp {
        Stamp::of(&fs::metadata(path).expect("a file")).expect("a regular file")
    }

    #[test]
    fn a_change_shows_though_size_and_time_are_put_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, b"one").expect("written");
        let then = SystemTime::now() - Duration::from_secs(100);
        let put_back = || {
            let file = File::options().write(true).open(&path).expect("a file");
            file.set_modified(then).expect("a time");
        };
        put_back();
        let before = stamp(&path);
        assert_eq!(stamp(&path), before);
        // Longer than a step of the kernel's clock.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, b"two").expect("written");
        put_back();
        assert_eq!(stamp(&path).modified, before.modified);
        assert_ne!(stamp(&path), before);
    }

    #[test]
    fn only_a_file_that_rests_is_settled() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let file = File::create(&path).expect("a file");
        let now = SystemTime::now();
        let later = now + SETTLED + Duration::from_secs(2);
        assert!(!stamp(&path).is_settled(now));
        assert!(stamp(&path).is_settled(later));
        // The inode was changed now, whatever the file's own time says.
        file.set_modified(now - Duration::from_secs(100))
            .expect("a time");
        assert!(!stamp(&path).is_settled(now));
        // A time in the future comes from another clock.
        file.set_modified(now + Duration::from_secs(100))
            .expect("a time");
        assert!(!stamp(&path).is_settled(later));
        assert_eq!(Stamp::of(&fs::metadata("/dev/null").expect("it")), None);
    }
}
