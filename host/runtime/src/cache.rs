//! A cache of compiled code, in a directory of the user's own.
//!
//! Compiled code is run as it is, so the code of a file that was damaged or
//! belongs to somebody else must not be run. Each file has a checksum, keyed by
//! the component and the engine's settings. A file whose checksum is wrong is
//! reported and replaced.

use std::fmt::{self, Display};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{self, Context, SHA256};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use wasmtime::Engine;

/// Length of the checksum at the start of a file, in bytes.
const CHECKSUM: usize = 32;

/// Largest total size of the files in bytes. Beyond it, the least recently used
/// files are removed.
const MOST: u64 = 1 << 30;

/// Extension of a file that is not yet whole.
const UNFINISHED: &str = "tmp";

/// Age at which nobody is still writing an unfinished file.
const ABANDONED: Duration = Duration::from_hours(1);

/// The cache's directory.
#[derive(Clone, Debug)]
pub(super) struct Cache(PathBuf);

/// Tells a component from others by a hash.
#[derive(Clone)]
pub struct Fingerprint {
    /// The hash of the settings of the engine that compiles it.
    settings: Context,
    digest: digest::Digest,
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.fmt(f)
    }
}

impl Fingerprint {
    /// Hashes a component in binary form, and the settings of the engine that
    /// compiles it.
    pub(super) fn new(engine: &Engine, component: &[u8]) -> Self {
        let mut settings = Sha256(Context::new(&SHA256));
        engine.precompile_compatibility_hash().hash(&mut settings);
        let Sha256(settings) = settings;
        Self {
            digest: hash(settings.clone(), component),
            settings,
        }
    }

    /// True if it is that of a component in binary form.
    pub(crate) fn is_of(&self, component: &[u8]) -> bool {
        hash(self.settings.clone(), component).as_ref() == self.digest.as_ref()
    }

    /// Returns the key of its code.
    pub(super) fn key(&self) -> Key {
        Key(self.digest)
    }
}

fn hash(settings: Context, component: &[u8]) -> digest::Digest {
    let mut hasher = Sha256(settings);
    component.hash(&mut hasher);
    hasher.0.finish()
}

/// Identifies code: a hash of the component and of the engine's settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(digest::Digest);

impl Key {
    fn name(&self) -> String {
        let bytes = self.0.as_ref().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    fn checksum(&self) -> hmac::Key {
        hmac::Key::new(HMAC_SHA256, self.0.as_ref())
    }
}

impl Cache {
    /// Returns `$XDG_CACHE_HOME/netwasm/code` or `~/.cache/netwasm/code`;
    /// `None` if the environment has neither.
    pub(super) fn of_user() -> Option<Self> {
        let home = |name, below: &str| {
            let path = PathBuf::from(std::env::var_os(name)?);
            path.is_absolute().then(|| path.join(below))
        };
        let directory = home("XDG_CACHE_HOME", "netwasm/code");
        directory
            .or_else(|| home("HOME", ".cache/netwasm/code"))
            .map(Self)
    }

    /// Returns the cached code, if it is unchanged since it was stored.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.0.join(key.name());
        match read(&path, key) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.refuse(key, &error);
                None
            }
        }
    }

    /// Logs why cached code is not used. It is then compiled and stored anew.
    pub(super) fn refuse(&self, key: &Key, reason: &dyn Display) {
        let path = self.0.join(key.name());
        tracing::warn!(path = %path.display(), "compiling anew: the cached code is not used: {reason}");
    }

    /// Stores code for the next run.
    pub(super) fn put(&self, key: &Key, code: &[u8]) {
        if let Err(error) = self.write(key, code) {
            tracing::info!(directory = %self.0.display(), %error, "compiled code is not kept");
        }
    }

    fn write(&self, key: &Key, code: &[u8]) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.0)?;
        let path = self.0.join(key.name());
        let unfinished = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&unfinished).and_then(|mut file| {
            file.write_all(hmac::sign(&key.checksum(), code).as_ref())?;
            file.write_all(code)?;
            fs::rename(&unfinished, &path)
        });
        if written.is_err() {
            // An unfinished file may be what fills the disk.
            let _ = fs::remove_file(&unfinished);
        }
        written.and_then(|()| self.tidy(&path))
    }

    /// Removes the least recently used files beyond [`MOST`], and unfinished
    /// files that were abandoned.
    fn tidy(&self, newest: &Path) -> io::Result<()> {
        let now = SystemTime::now();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let used = metadata.modified()?;
            let path = entry.path();
            let unfinished = path.extension().is_some_and(|end| end == UNFINISHED);
            if !unfinished && path != newest {
                files.push((used, metadata.len(), path));
            } else if unfinished && now.duration_since(used).is_ok_and(|age| age > ABANDONED) {
                fs::remove_file(path)?;
            }
        }
        files.sort_unstable_by(|one, other| other.cmp(one));
        let mut total = fs::metadata(newest)?.len();
        for (_, size, path) in files {
            total += size;
            if total > MOST {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Reads and verifies a file of the cache.
///
/// # Errors
/// Fails if the file is missing or damaged, or if another user could have
/// written it.
fn read(path: &Path, key: &Key) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let user = rustix::process::geteuid();
    if ![user.as_raw(), 0].contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write the file"));
    }
    let mut checksum = [0; CHECKSUM];
    file.read_exact(&mut checksum)?;
    let mut code = Vec::new();
    file.read_to_end(&mut code)?;
    hmac::verify(&key.checksum(), &code, &checksum)
        .map_err(|_| io::Error::other("the file is damaged"))?;
    // Marks the file as used. If the user may not do that, the file just ages.
    let _ = file.set_modified(SystemTime::now());
    Ok(code)
}

/// SHA-256 as a [`Hasher`].
struct Sha256(Context);

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
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(component: &[u8]) -> Key {
        Fingerprint::new(&Engine::default(), component).key()
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache(directory.path().join("code"));
        let key = key(b"a component");
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"some code");
        assert_eq!(cache.get(&key).as_deref(), Some(&b"some code"[..]));
        let path = cache.0.join(key.name());
        let whole = fs::read(&path).expect("the file");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(cache.get(&key), None, "byte {at}");
            fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(cache.get(&key), None, "{at} bytes");
        }
        cache.put(&key, b"some code");
        assert_eq!(cache.get(&key).as_deref(), Some(&b"some code"[..]));
    }

    #[test]
    fn the_file_of_another_component_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache(directory.path().to_owned());
        let (one, other) = (key(b"one"), key(b"other"));
        cache.put(&one, b"some code");
        let path = |key: &Key| cache.0.join(key.name());
        fs::rename(path(&one), path(&other)).expect("renamed");
        assert_eq!(cache.get(&other), None);
    }

    #[test]
    fn a_file_that_others_may_write_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache(directory.path().to_owned());
        let key = key(b"a component");
        cache.put(&key, b"some code");
        let others = fs::Permissions::from_mode(0o666);
        fs::set_permissions(cache.0.join(key.name()), others).expect("permissions");
        assert_eq!(cache.get(&key), None);
    }

    #[test]
    fn what_was_used_least_recently_goes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Cache(directory.path().to_owned());
        let write = |name: &str, size: u64, age: u64| {
            let file = File::create(directory.path().join(name)).expect("a file");
            file.set_len(size).expect("a length");
            let used = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(used).expect("a time");
        };
        write("old", MOST / 2, 200);
        write("recent", MOST / 2, 100);
        write("abandoned.1.tmp", 1, 7200);
        write("under-way.2.tmp", 1, 60);
        cache.put(&key(b"a component"), b"some code");
        let exists = |name: &str| directory.path().join(name).exists();
        assert!(exists("recent") && exists("under-way.2.tmp"));
        assert!(!exists("old") && !exists("abandoned.1.tmp"));
    }
}
