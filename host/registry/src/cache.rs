//! The cache: blobs by their digests, and the digests that tags had.
//!
//! ```text
//!   blobs/DIGEST         a manifest, a component, a signature; never changed
//!   blobs/DIGEST.seen    its stamp when it was last checked; its time: last used
//!   tags/HASH            the digest that a reference had; its time: when
//! ```
//!
//! A file gets its name once it is whole, checked and on the disk, so that
//! several processes can use the cache at once. A file that others may write is
//! not used.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use netwasm_base::caches;
use netwasm_base::stamp::Stamp;

use crate::client::Sink;
use crate::digest::{Digest, Hasher};
use crate::error::Error;

/// Name of the cache in the user's directory of caches.
const NAME: &str = "registry";

/// Largest total size of the digests of tags, in bytes.
const MOST_TAGS: u64 = 1 << 20;

/// Largest file about a tag or a stamp, in bytes.
const MOST_NOTE: u64 = 16 << 10;

/// Piece in which a file is checked, in bytes.
const PIECE: usize = 256 << 10;

/// End of the name of a file about another.
const SEEN: &str = "seen";

/// End of the name of a file that is not yet whole.
const UNFINISHED: &str = "tmp";

/// Age at which nobody is still writing an unfinished file, or about to load a
/// pulled one.
const ABANDONED: Duration = Duration::from_hours(1);

/// The directory of this process, where it keeps what it may not cache.
static OWN: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A directory with blobs and tags.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Largest total size of blobs in bytes.
    most: u64,
}

/// The digest that a reference had.
#[derive(Deserialize, Serialize)]
struct Tag {
    reference: String,
    digest: Digest,
}

impl Cache {
    /// Opens the user's cache, or, if there is none or it is not to be used, a
    /// directory of this process.
    pub(crate) fn open(is_used: bool, most: u64) -> Result<Self, Error> {
        let of_user = caches::directory(NAME).filter(|_| is_used);
        if let Some(directory) = of_user {
            match Self::at(&directory, most) {
                Ok(cache) => return Ok(cache),
                Err(error) => tracing::info!(
                    directory = %directory.display(), %error,
                    "components of registries are not kept for the next run"
                ),
            }
        }
        let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = &*own {
            match Self::at(directory, most) {
                // It belongs to the user that this process ran as before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                opened => return opened.map_err(Error::file(directory)),
            }
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let number = now.map_or(0, |it| it.as_nanos());
        let name = format!("netwasm-registry-{}-{number:x}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(Error::file(&directory))?;
        let cache = Self::at(&directory, most).map_err(Error::file(&directory))?;
        *own = Some(directory);
        Ok(cache)
    }

    pub(crate) fn at(directory: &Path, most: u64) -> io::Result<Self> {
        for part in ["blobs", "tags"] {
            let part = directory.join(part);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&part)?;
            rustix::fs::access(&part, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            most,
        })
    }

    /// Returns a small blob in memory, checked.
    pub(crate) fn small(&self, digest: &Digest, most: u64) -> Option<Vec<u8>> {
        let path = self.blob(digest);
        let bytes = read_own(&path, most).ok()?;
        if Digest::of(&bytes) != *digest {
            refuse(&path, "it is damaged");
            return None;
        }
        self.mark(digest, None);
        Some(bytes)
    }

    /// Returns the file of a blob, checked.
    pub(crate) fn file(&self, digest: &Digest, size: u64) -> Option<PathBuf> {
        let path = self.blob(digest);
        match self.check(&path, digest, size) {
            Ok(()) => Some(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                refuse(&path, &error.to_string());
                None
            }
        }
    }

    /// Checks a file by its digest, unless it is as it was when that was done.
    fn check(&self, path: &Path, digest: &Digest, size: u64) -> io::Result<()> {
        let begun = SystemTime::now();
        let mut file = open_own(path)?;
        if file.metadata()?.len() != size {
            return Err(io::Error::other("it is damaged"));
        }
        let stamp = |file: &File| file.metadata().ok().as_ref().and_then(Stamp::of);
        let before = stamp(&file).filter(|it| it.is_settled(begun));
        let text = before.as_ref().map(|it| format!("{it:?}"));
        let seen = read_own(&self.seen(digest), MOST_NOTE).ok();
        if text.is_some() && seen == text.as_ref().map(|it| it.as_bytes().to_vec()) {
            self.mark(digest, None);
            return Ok(());
        }
        let mut hasher = Hasher::new();
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => hasher.update(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if hasher.finish() != *digest {
            return Err(io::Error::other("it is damaged"));
        }
        let text = text.filter(|_| stamp(&file) == before);
        self.mark(digest, text.as_deref());
        Ok(())
    }

    /// Notes that a blob is used, and its stamp, if it was checked.
    fn mark(&self, digest: &Digest, stamp: Option<&str>) {
        let path = self.seen(digest);
        let marked = match stamp {
            Some(stamp) => self.put(&path, stamp.as_bytes()),
            None => File::open(&path).and_then(|it| it.set_modified(SystemTime::now())),
        };
        // Without it, the blob is checked again, and ages.
        if marked.is_err() {
            let _ = self.put(&path, b"");
        }
    }

    /// Stores a small blob.
    pub(crate) fn store(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let path = self.blob(digest);
        let unfinished = Unfinished::new(&path).and_then(|mut unfinished| {
            unfinished.file.write_all(bytes)?;
            unfinished.file.sync_data()?;
            unfinished.finish()
        });
        unfinished.map_err(Error::file(path))?;
        self.mark(digest, None);
        Ok(())
    }

    /// Begins to store a blob that comes in pieces.
    pub(crate) fn begin(&self, digest: &Digest) -> Result<Unfinished, Error> {
        let path = self.blob(digest);
        let unfinished = Unfinished::new(&path).map_err(Error::file(&path));
        let mut unfinished = unfinished?;
        unfinished.digest = Some(*digest);
        Ok(unfinished)
    }

    /// Gives a blob its name. The caller has checked its digest.
    pub(crate) fn finish(&self, unfinished: Unfinished) -> Result<PathBuf, Error> {
        let digest = unfinished.digest;
        let path = unfinished.place.clone();
        let synced = unfinished.file.sync_data();
        synced
            .and_then(|()| unfinished.finish())
            .map_err(Error::file(&path))?;
        if let Some(digest) = &digest {
            self.mark(digest, None);
            // A file that is not removed now is so later.
            let _ = self.tidy(digest);
        }
        Ok(path)
    }

    /// Returns the digest that a tag had, and how long ago.
    pub(crate) fn tag(&self, reference: &str) -> Option<(Digest, Duration)> {
        let path = self.tag_file(reference);
        let bytes = read_own(&path, MOST_NOTE).ok()?;
        let tag: Tag = serde_json::from_slice(&bytes).ok()?;
        let then = fs::metadata(path).and_then(|it| it.modified()).ok()?;
        let age = SystemTime::now().duration_since(then).unwrap_or_default();
        (tag.reference == reference).then_some((tag.digest, age))
    }

    /// Notes the digest that a tag has now.
    pub(crate) fn set_tag(&self, reference: &str, digest: Digest) -> Result<(), Error> {
        let path = self.tag_file(reference);
        let tag = Tag {
            reference: reference.to_owned(),
            digest,
        };
        let text = serde_json::to_vec(&tag).unwrap_or_default();
        self.put(&path, &text).map_err(Error::file(&path))?;
        let _ = trim(&self.directory.join("tags"), MOST_TAGS, &path);
        Ok(())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs").join(digest.hex())
    }

    fn seen(&self, digest: &Digest) -> PathBuf {
        self.blob(digest).with_extension(SEEN)
    }

    fn tag_file(&self, reference: &str) -> PathBuf {
        let hash = Digest::of(reference.as_bytes());
        self.directory.join("tags").join(hash.hex())
    }

    /// Writes a file that may be lost with the machine's power.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut unfinished = Unfinished::new(path)?;
        unfinished.file.write_all(bytes)?;
        unfinished.finish()
    }

    /// Removes the least recently used blobs beyond the largest total size.
    fn tidy(&self, newest: &Digest) -> io::Result<()> {
        trim(&self.directory.join("blobs"), self.most, &self.blob(newest))
    }
}

/// Removes the directory of this process, if it has one: to be called when it
/// ends.
pub fn clean() {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(directory) = own {
        let _ = fs::remove_dir_all(directory);
    }
}

/// A file that has no name yet.
pub(crate) struct Unfinished {
    file: File,
    path: PathBuf,
    /// The name that it is to get.
    place: PathBuf,
    digest: Option<Digest>,
    /// True once it has that name.
    is_done: bool,
}

impl Unfinished {
    fn new(place: &Path) -> io::Result<Self> {
        // Not by the process: those of two containers may have one number.
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random)
            .map_err(|_| io::Error::other("the system gives no random numbers"))?;
        let random = u128::from_ne_bytes(random);
        let path = place.with_extension(format!("{random:032x}.{UNFINISHED}"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Ok(Self {
            file: options.open(&path)?,
            path,
            place: place.to_owned(),
            digest: None,
            is_done: false,
        })
    }

    fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Sink for Unfinished {
    fn begin(&mut self) -> Result<(), Error> {
        let begun = self.file.set_len(0).and_then(|()| {
            use std::io::Seek;
            self.file.rewind()
        });
        begun.map_err(Error::file(&self.path))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::file(&self.path))
    }
}

/// Opens a file that only this user and root can have written.
fn open_own(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid();
    if ![user.as_raw(), 0].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write it"));
    }
    Ok(file)
}

fn read_own(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_own(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match read as u64 > most {
        true => Err(io::Error::other("it is too large")),
        false => Ok(bytes),
    }
}

fn refuse(path: &Path, reason: &str) {
    // It is replaced, and not removed: another process may just have done so.
    tracing::warn!(path = %path.display(), "pulling again: the cached file is not used: {reason}");
}

/// Removes the least recently used files beyond a total size, except those of
/// the last hour, and unfinished ones that were abandoned. Other processes may
/// do so at the same time.
fn trim(directory: &Path, most: u64, newest: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        let changed = metadata.modified()?;
        let has_end = |end| path.extension().is_some_and(|it| it == end);
        let is_old = |then| now.duration_since(then).is_ok_and(|age| age > ABANDONED);
        if has_end(UNFINISHED) {
            if is_old(changed) {
                let _ = fs::remove_file(path);
            }
            continue;
        }
        if has_end(SEEN) {
            continue;
        }
        let seen = fs::metadata(path.with_extension(SEEN)).and_then(|it| it.modified());
        let used = seen.unwrap_or(changed);
        files.push((used, is_old(used), metadata.len(), path));
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    let mut total = fs::metadata(newest).map_or(0, |it| it.len());
    let others = files.into_iter().filter(|(.., path)| path != newest);
    for (_, is_old, size, path) in others {
        total += size;
        if total > most && is_old {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(path.with_extension(SEEN));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn stored(cache: &Cache, bytes: &[u8]) -> (Digest, PathBuf) {
        let digest = Digest::of(bytes);
        let mut unfinished = cache.begin(&digest).expect("a file");
        unfinished
            .write(b"an attempt that failed")
            .expect("written");
        unfinished.begin().expect("begun again");
        unfinished.write(bytes).expect("written");
        (digest, cache.finish(unfinished).expect("a blob"))
    }

    fn aged(cache: &Cache, digest: &Digest, age: u64) {
        let then = SystemTime::now() - Duration::from_secs(age);
        let file = File::open(cache.seen(digest)).expect("a file");
        file.set_modified(then).expect("a time");
    }

    #[test]
    fn what_is_damaged_or_of_others_is_not_used() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(scratch.path(), 1 << 20).expect("a cache");
        let (digest, path) = stored(&cache, b"abc");
        assert_eq!(cache.file(&digest, 3), Some(path.clone()));
        assert_eq!(cache.small(&digest, 3).as_deref(), Some(b"abc".as_slice()));
        assert_eq!(cache.small(&digest, 2), None);
        fs::write(&path, "abd").expect("written");
        assert_eq!(cache.file(&digest, 3), None);
        let (_, path) = stored(&cache, b"abc");
        assert_eq!(cache.file(&digest, 3), Some(path.clone()), "it is replaced");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).expect("permissions");
        assert_eq!(cache.file(&digest, 3), None);
        // Nothing is left of one that does not end well.
        drop(cache.begin(&digest).expect("a file"));
        let names = fs::read_dir(scratch.path().join("blobs")).expect("a directory");
        let mut names = names.map(|it| it.expect("an entry").path());
        assert!(!names.any(|it| it.extension().is_some_and(|end| end == UNFINISHED)));
    }

    #[test]
    fn the_least_recently_used_goes() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(scratch.path(), 250).expect("a cache");
        let blobs: Vec<_> = (0..2_u8).map(|it| stored(&cache, &[it; 100]).0).collect();
        aged(&cache, &blobs[0], 7220);
        aged(&cache, &blobs[1], 7210);
        // It is used, and so the other one is the oldest.
        assert!(cache.file(&blobs[0], 100).is_some());
        let (third, _) = stored(&cache, &[2; 100]);
        assert!(cache.file(&blobs[1], 100).is_none());
        assert!(cache.file(&blobs[0], 100).is_some());
        assert!(cache.file(&third, 100).is_some());
        aged(&cache, &third, 7200);
        let (large, _) = stored(&cache, &[3; 1000]);
        assert!(cache.file(&large, 1000).is_some(), "it is the newest");
        assert!(cache.file(&third, 100).is_none());
        assert!(cache.file(&blobs[0], 100).is_some(), "it was used just now");
    }

    #[test]
    fn tags_are_kept_with_their_age() {
        let scratch = tempfile::tempdir().expect("a directory");
        let cache = Cache::at(scratch.path(), 1 << 20).expect("a cache");
        let digest = Digest::of(b"abc");
        assert!(cache.tag("oci://a/b:1").is_none());
        cache.set_tag("oci://a/b:1", digest).expect("a tag");
        let (found, age) = cache.tag("oci://a/b:1").expect("a tag");
        assert_eq!(found, digest);
        assert!(age < Duration::from_secs(60), "{age:?}");
        assert!(cache.tag("oci://a/b:2").is_none());
    }
}
