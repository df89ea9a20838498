//! A cache of what was made of components, in a directory of the user's own:
//! compiled code, and what is known of components' files.
//!
//! ```text
//!   a file's stamp --> known: its hash, exports --+
//!        |  (unknown, or changed)                 v
//!        +--> read, hash, parse -----------> hash, engine --> code: mapped
//!                                                  |  (missing, or damaged)
//!                                                  +--> compile
//! ```
//!
//! Compiled code is run as it is, so the code of a file that was damaged or
//! belongs to somebody else must not be run. Each file has a checksum, keyed by
//! the component and the engine's settings. A file whose checksum is wrong is
//! reported and replaced. No file is ever written in place, so that code can be
//! mapped.

mod known;

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use netwasm_base::caches;
use netwasm_base::identity::assumed;
use wasmtime::Engine;

pub(crate) use self::known::Facts;
pub use netwasm_base::stamp::Stamps;

/// Version of the files' form. It is part of each name.
const FORM: u32 = 2;

/// Length of the checksum at the end of a file, in bytes.
const CHECKSUM: usize = 32;

/// Piece in which a file is verified, in bytes.
const PIECE: usize = 256 << 10;

/// Largest total size of the files of code in bytes. Beyond it, the least
/// recently used files are removed.
const MOST_CODE: u64 = 1 << 30;

/// Largest total size of what is known of components, in bytes.
const MOST_KNOWN: u64 = 1 << 20;

/// Precision of the time at which a file was used last: marking it costs a
/// write.
const USE: Duration = Duration::from_hours(1);

/// Extension of a file that is not yet whole.
const UNFINISHED: &str = "tmp";

/// Age at which nobody is still writing an unfinished file.
const ABANDONED: Duration = Duration::from_hours(1);

/// A directory of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Largest total size of its files in bytes.
    most: u64,
}

/// Identifies a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(digest::Digest);

/// Hash of a component's bytes.
pub(crate) type ComponentHash = [u8; 32];

/// Hashes a component in binary form.
pub(crate) fn hash(component: &[u8]) -> ComponentHash {
    let mut hash = ComponentHash::default();
    let digest = digest::digest(&SHA256, component);
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Tells a component from others by a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(ComponentHash);

impl Fingerprint {
    pub(crate) fn new(hash: ComponentHash) -> Self {
        Self(hash)
    }

    /// True if it is that of a component in binary form.
    pub(crate) fn is_of(&self, component: &[u8]) -> bool {
        hash(component) == self.0
    }
}

impl Key {
    /// Returns the key of the code of a component, for an engine with these
    /// settings.
    pub(crate) fn of_code(engine: &Engine, component: &ComponentHash) -> Self {
        Self::new("code", |hasher| {
            engine.precompile_compatibility_hash().hash(hasher);
            component.hash(hasher);
        })
    }

    fn new(kind: &str, hash: impl FnOnce(&mut Sha256)) -> Self {
        let mut hasher = Sha256(digest::Context::new(&SHA256));
        (FORM, kind).hash(&mut hasher);
        hash(&mut hasher);
        Self(hasher.0.finish())
    }

    fn name(&self) -> String {
        let bytes = self.0.as_ref().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    fn checksum(&self) -> hmac::Context {
        let key = hmac::Key::new(HMAC_SHA256, self.0.as_ref());
        hmac::Context::with_key(&key)
    }
}

/// Returns the directory of compiled code; `None` if the environment names no
/// place for it.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    Some(Cache::of_code()?.directory)
}

impl Cache {
    /// Returns the cache of compiled code: `$XDG_CACHE_HOME/netwasm/code` or
    /// `~/.cache/netwasm/code`; `None` if the environment has neither.
    pub(crate) fn of_code() -> Option<Self> {
        Self::of_user("code", MOST_CODE)
    }

    /// Returns the cache of what is known of components, beside that of code.
    pub(crate) fn of_components() -> Option<Self> {
        Self::of_user("components", MOST_KNOWN)
    }

    fn of_user(name: &str, most: u64) -> Option<Self> {
        Some(Self {
            directory: caches::directory(name)?,
            most,
        })
    }

    /// Returns a cached file, if it is unchanged since it was stored.
    pub(crate) fn get(&self, key: &Key) -> Option<KeptCode> {
        match verified(&self.path(key), key) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // It is root's (`--user`).
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && assumed().is_some() =>
            {
                None
            }
            Err(error) => {
                self.refuse(key, &error);
                None
            }
        }
    }

    /// Logs why a cached file is not used, and removes it. It is then made and
    /// stored again.
    pub(crate) fn refuse(&self, key: &Key, reason: &dyn Display) {
        let path = self.path(key);
        tracing::warn!(
            path = %path.display(),
            "compiling again: the cached code is not used: {reason}"
        );
        // A file that cannot be removed is replaced.
        let _ = fs::remove_file(path);
    }

    /// Stores a file for the next run. Returns it, if it can be used in this run, too.
    pub(crate) fn put(&self, key: &Key, content: &[u8]) -> Option<KeptCode> {
        if let Err(error) = self.write(key, content) {
            tracing::info!(directory = %self.directory.display(), %error, "compiled code is not kept");
            return None;
        }
        // If the file system changes what is stored, the next run says so.
        verified(&self.path(key), key).ok()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.directory.join(key.name())
    }

    fn write(&self, key: &Key, content: &[u8]) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        let path = self.path(key);
        let unfinished = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        // An earlier process of this number may have left one behind.
        let _ = fs::remove_file(&unfinished);
        let written = options.open(&unfinished).and_then(|mut file| {
            let mut checksum = key.checksum();
            checksum.update(content);
            file.write_all(content)?;
            file.write_all(checksum.sign().as_ref())?;
            fs::rename(&unfinished, &path)
        });
        if written.is_err() {
            // An unfinished file may be what fills the disk.
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| self.tidy(&path))
    }

    /// Removes the least recently used files beyond the largest total size, and
    /// unfinished files that were abandoned. Other processes may do so at the same
    /// time, so that any file may be gone.
    fn tidy(&self, newest: &Path) -> io::Result<()> {
        let now = SystemTime::now();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Some(metadata) = unless_gone(entry.metadata())? else {
                continue;
            };
            let used = metadata.modified()?;
            let path = entry.path();
            let unfinished = path.extension().is_some_and(|end| end == UNFINISHED);
            if !unfinished && path != newest {
                files.push((used, metadata.len(), path));
            } else if unfinished && now.duration_since(used).is_ok_and(|age| age > ABANDONED) {
                unless_gone(fs::remove_file(path))?;
            }
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        let newest = unless_gone(fs::metadata(newest))?;
        let mut total = newest.map_or(0, |newest| newest.len());
        for (_, size, path) in files {
            total += size;
            if total > self.most {
                unless_gone(fs::remove_file(path))?;
            }
        }
        Ok(())
    }
}

/// Returns the result about a file; `None` if the file is gone.
///
/// # Errors
/// Fails for another reason than that.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file of the cache, which was verified. Its content ends before its last
/// [`CHECKSUM`] bytes.
#[derive(Debug)]
pub(crate) struct KeptCode {
    file: File,
    /// Length of the content in bytes.
    length: u64,
}

impl KeptCode {
    /// Returns the file, whose checksum follows the content.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// True if the file stays as long as it is open: statfs(2). Another machine
    /// may remove one of a network's file system, and a program that serves a
    /// file system may end.
    pub(crate) fn is_local(&self) -> bool {
        /// NFS, SMB, SMB 2, CIFS, 9P, FUSE, AFS, Ceph, Coda.
        const REMOTE: [u32; 9] = [
            0x6969,
            0x517b,
            0xfe53_4d42,
            0xff53_4d42,
            0x0102_1997,
            0x6573_5546,
            0x5346_414f,
            0x00c3_6400,
            0x7375_7245,
        ];
        let kind = rustix::fs::fstatfs(&self.file).map(|it| it.f_type);
        // The upper half is not of the number.
        kind.is_ok_and(|kind| !REMOTE.contains(&(kind as u32)))
    }

    /// Reads the content.
    ///
    /// # Errors
    /// Fails as read(2) does.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.rewind()?;
        let mut content = Vec::new();
        file.take(self.length).read_to_end(&mut content)?;
        Ok(content)
    }
}

/// Opens a file of the cache, and verifies its checksum. Reads it in pieces, so
/// that it takes no memory.
///
/// # Errors
/// Fails if the file is missing or damaged, or if another user could have
/// written it.
fn verified(path: &Path, key: &Key) -> io::Result<KeptCode> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid();
    if ![user.as_raw(), 0].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write the file"));
    }
    let damaged = || io::Error::other("the file is damaged");
    let length = metadata.len().checked_sub(CHECKSUM as u64);
    let length = length.ok_or_else(damaged)?;
    let mut checksum = key.checksum();
    let mut content = (&mut file).take(length);
    let mut piece = vec![0; PIECE];
    loop {
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => checksum.update(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut wanted = [0; CHECKSUM];
    file.read_exact(&mut wanted)?;
    if checksum.sign().as_ref() != wanted {
        return Err(damaged());
    }
    let now = SystemTime::now();
    let used = metadata.modified()?;
    if now.duration_since(used).is_ok_and(|age| age > USE) {
        // If the user may not mark it, the file just ages.
        let _ = file.set_modified(now);
    }
    Ok(KeptCode { file, length })
}

/// SHA-256 as a [`Hasher`].
struct Sha256(digest::Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests;
