//! Files that guests send without reading them. They are opened beneath a
//! `--dir`, never outside of it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_primitives::fs::{OpenOptions, OpenOptionsExt};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use netwasm_base::config::Directory;
use netwasm_base::error::{ConnectionError, Error};

/// The directories of a run, opened once.
#[derive(Debug)]
pub struct Roots(Vec<Arc<Root>>);

#[derive(Debug)]
struct Root {
    /// Path in the guest, without a trailing slash; empty for `/`.
    guest: PathBuf,
    directory: fs::File,
}

impl Roots {
    /// Opens the directories.
    ///
    /// # Errors
    /// Fails with the first that is no directory or cannot be opened.
    pub fn open(directories: &[Directory]) -> Result<Self, Error> {
        directories
            .iter()
            .map(|directory| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::open(&directory.host, flags, Mode::empty());
                Ok(Arc::new(Root {
                    guest: relative(Path::new(&directory.guest)),
                    directory: opened.map(fs::File::from).map_err(|errno| {
                        Error::Directory(format!(
                            "--dir: cannot open the directory {}: {}",
                            directory.host.display(),
                            io::Error::from(errno)
                        ))
                    })?,
                }))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// True if a directory holds this path of the guest, so that it may be
    /// asked for.
    pub fn hold(&self, path: &str) -> bool {
        self.locate(path).is_some()
    }

    /// Opens a regular file by its path in the guest.
    ///
    /// # Errors
    /// - `AccessDenied`: no directory holds the path, or the file may not be
    ///   read.
    /// - `NotFound`: no file is there, it lies outside, or it is no regular
    ///   file.
    /// - `LimitExceeded`: no descriptor is left, or another program has a lease
    ///   on the file.
    pub fn open_file(&self, path: &str) -> Result<File, ConnectionError> {
        if path.contains('\0') {
            return Err(ConnectionError::NotFound);
        }
        let (root, rest) = self.locate(path).ok_or(ConnectionError::AccessDenied)?;
        if rest.is_empty() {
            return Err(ConnectionError::NotFound);
        }
        File::open(root, rest.into())
    }

    /// Returns the root that holds a path of the guest, and the path beneath
    /// it. The longest guest path wins, as with mounts.
    fn locate<'a>(&self, path: &'a str) -> Option<(&Arc<Root>, &'a str)> {
        let path = unrooted(path);
        let roots = self.0.iter();
        let (root, rest) = roots
            .filter_map(|root| Some((root, path.strip_prefix(&root.guest).ok()?)))
            .max_by_key(|(root, _)| root.guest.as_os_str().len())?;
        Some((root, rest.to_str()?))
    }
}

impl File {
    /// Opens a regular file by its path beneath a directory.
    fn open(root: &Arc<Root>, path: Box<str>) -> Result<Self, ConnectionError> {
        let file = match root.open_beneath(&path) {
            // A socket, a device without a driver, or a name longer than any
            // that can exist.
            Err(Errno::NXIO | Errno::NODEV | Errno::NAMETOOLONG) => {
                return Err(ConnectionError::NotFound);
            }
            // The lease holder was notified, and will release it in a moment.
            Err(Errno::AGAIN) => {
                return Err(ConnectionError::LimitExceeded(
                    "another program has a lease on the file",
                ));
            }
            result => result?,
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ConnectionError::NotFound);
        }
        Ok(Self {
            file,
            root: Some(Arc::clone(root)),
            path,
            metadata: Cell::new(Metadata::from(&stat)),
            refuses_sendfile: Cell::new(false),
        })
    }
}

/// Maximum of tries if a walk races with renames.
const MOST_TRIES: u32 = 32;

/// O_NONBLOCK prevents waits. Without it, opening a FIFO would wait for a
/// writer. Opening a file on which another program has a lease (fcntl(2),
/// `F_SETLEASE`) would wait for that program, for up to 45 seconds.
const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

impl Root {
    /// Opens whatever a path leads to beneath the directory. Fails with `XDEV`
    /// if it leads out.
    fn open_beneath(&self, path: &str) -> Result<fs::File, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | FLAGS;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            tries += 1;
            match rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::INTR) => {}
                // A rename raced with the walk (openat2(2)). If the error
                // persists, the cause is another.
                Err(Errno::AGAIN) if tries < MOST_TRIES => {}
                // An old kernel, or a container whose filter does not know the
                // call. Some filters say that it is not permitted.
                Err(Errno::NOSYS | Errno::PERM) => return self.walk(path),
                result => return result.map(fs::File::from),
            }
        }
    }

    /// Like [`Self::open_beneath`], without openat2(2): directory by directory,
    /// reading and following each link by hand.
    fn walk(&self, path: &str) -> Result<fs::File, Errno> {
        let mut options = OpenOptions::new();
        let flags = FLAGS.bits().cast_signed();
        options.read(true).custom_flags(flags);
        let opened = cap_primitives::fs::open(&self.directory, Path::new(path), &options);
        // An error that is not the system's means that the path leads out.
        opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::XDEV))
    }
}

/// Returns the path without its root, so that it can be opened beneath a
/// directory. `..` stays, so that openat2(2) sees it and refuses it if it leads
/// out.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .collect()
}

/// Like [`relative`], but keeps `.` and empty parts in the middle, which the
/// system ignores. It allocates nothing.
fn unrooted(path: &str) -> &Path {
    let path = Path::new(path);
    path.strip_prefix("/")
        .or_else(|_| path.strip_prefix("."))
        .unwrap_or(path)
}

/// A regular file, open for reading.
#[derive(Debug)]
pub struct File {
    file: fs::File,
    /// Its directory, so that siblings can be opened.
    root: Option<Arc<Root>>,
    /// Path beneath the root.
    path: Box<str>,
    metadata: Cell<Metadata>,
    refuses_sendfile: Cell<bool>,
}

/// Metadata of a file, by fstat(2).
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    /// Length in bytes.
    pub length: u64,
    /// Time of the last change of content: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// When anything of it was last changed, its times among that. No program
    /// can set this one.
    pub changed: (i64, u32),
    /// Its number in the file system.
    pub inode: u64,
}

impl From<&Stat> for Metadata {
    fn from(stat: &Stat) -> Self {
        let nanoseconds = |count| u32::try_from(count).unwrap_or_default();
        Self {
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            inode: stat.st_ino,
        }
    }
}

impl File {
    /// Wraps a file that was opened elsewhere. It has no siblings and no name.
    ///
    /// # Errors
    /// Fails as fstat(2) does.
    pub fn of(file: fs::File) -> Result<Self, ConnectionError> {
        let stat = rustix::fs::fstat(&file)?;
        Ok(Self {
            file,
            root: None,
            path: Box::default(),
            metadata: Cell::new(Metadata::from(&stat)),
            refuses_sendfile: Cell::new(false),
        })
    }

    /// Opens the file beside this one, whose name is longer by a suffix such as
    /// `.gz`. If this one is a link, looks beside the link.
    ///
    /// # Errors
    /// Fails as [`Roots::open_file`] does, and with `AccessDenied` if the file
    /// was opened elsewhere.
    pub fn open_sibling(&self, suffix: &str) -> Result<Self, ConnectionError> {
        let root = self.root.as_ref().ok_or(ConnectionError::AccessDenied)?;
        Self::open(root, format!("{}{suffix}", self.path).into())
    }

    /// Returns the name, without directories.
    pub fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(&*self.path, |(_, name)| name)
    }

    /// Returns the metadata as of opening, or of the last [`Self::refresh`].
    pub fn metadata(&self) -> Metadata {
        self.metadata.get()
    }

    /// Reads the metadata again, for a file that has been open for a while.
    pub fn refresh(&self) -> Result<(), ConnectionError> {
        let stat = rustix::fs::fstat(&self.file)?;
        self.metadata.set(Metadata::from(&stat));
        Ok(())
    }

    /// Returns the present length in bytes.
    pub fn size(&self) -> Result<u64, ConnectionError> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads at an offset in bytes, by pread(2).
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Fills a buffer.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or if it has become shorter.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::Error::other(self.shortened())),
                Ok(count) => {
                    buffer = buffer.get_mut(count..).unwrap_or_default();
                    offset += count as u64;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// True if sendfile(2) has failed on the file.
    pub(crate) fn refuses_sendfile(&self) -> bool {
        self.refuses_sendfile.get()
    }

    pub(crate) fn note_sendfile_refused(&self) {
        self.refuses_sendfile.set(true);
    }

    /// Returns the error text for a file that ends too early.
    pub(crate) fn shortened(&self) -> &'static str {
        "the file became shorter while it was sent"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Creates a directory, which a guest sees as `/data`.
    fn roots() -> (tempfile::TempDir, Roots) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let roots = Roots::open(&[Directory {
            host: directory.path().to_owned(),
            guest: "/data".to_owned(),
            writable: false,
        }])
        .expect("roots");
        (directory, roots)
    }

    #[test]
    fn an_unrooted_path_is_the_relative_one() {
        for path in [
            "",
            "/",
            ".",
            "./",
            "/.",
            "//",
            "/data",
            "data",
            "./data",
            "././data",
            "/./data",
            "//data//x",
            "/data/x/",
            "/data/x/.",
            "/data/./x",
            "/data/a/../x",
            "/../x",
            "../x",
            "/data/..",
            "..",
            "/data/.hidden",
            ".hidden",
        ] {
            assert_eq!(unrooted(path), relative(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_file_is_opened_by_any_spelling_of_its_path() {
        let (directory, roots) = roots();
        fs::create_dir(directory.path().join("a")).expect("a directory");
        fs::write(directory.path().join("c.txt"), "some").expect("a file");
        for path in [
            "/data/c.txt",
            "data/c.txt",
            "./data//./c.txt/",
            "/data/a/../c.txt",
        ] {
            let file = roots.open_file(path).expect(path);
            assert_eq!(
                (file.name(), file.metadata().length),
                ("c.txt", 4),
                "{path}"
            );
        }
        let long = format!("/data/{}", "x".repeat(300));
        for path in ["/data", "/data/", "/data/a", "/data/a/../../c.txt", &long] {
            assert_eq!(
                roots.open_file(path).err(),
                Some(ConnectionError::NotFound),
                "{path}"
            );
        }
        let outside = roots.open_file("/c.txt").err();
        assert_eq!(outside, Some(ConnectionError::AccessDenied));
    }

    #[test]
    fn metadata_are_those_of_the_opening_until_they_are_refreshed() {
        let (directory, roots) = roots();
        let path = directory.path().join("some.txt");
        fs::write(&path, "some").expect("a file");
        let file = roots.open_file("/data/some.txt").expect("open");
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        let opened = fs::File::options().write(true).open(&path).expect("open");
        opened.set_len(6 << 30).expect("a length");
        opened.set_modified(time).expect("a time");
        assert_eq!(file.metadata().length, 4);
        file.refresh().expect("refreshed");
        assert_eq!(file.metadata().length, 6 << 30);
        assert_eq!(file.metadata().modified, (1_000_000_000, 123_456_789));
    }

    #[test]
    fn a_sibling_is_a_regular_file_beneath_the_same_root() {
        let (directory, roots) = roots();
        let inside = directory.path().join("inside");
        fs::create_dir(&inside).expect("a directory");
        fs::create_dir(inside.join("x.br")).expect("a directory");
        for name in ["secret", "inside/x", "inside/x.gz", "inside/linked.gz"] {
            fs::write(directory.path().join(name), name).expect("a file");
        }
        symlink("../secret", inside.join("x.zst")).expect("a link");
        symlink("x", inside.join("linked")).expect("a link");
        let within = Roots::open(&[Directory {
            host: inside,
            guest: "/".to_owned(),
            writable: false,
        }])
        .expect("roots");
        let file = within.open_file("/x").expect("open");
        assert_eq!(file.open_sibling(".gz").expect("open").name(), "x.gz");
        for suffix in [".br", ".zst", ".none"] {
            let opened = file.open_sibling(suffix).err();
            assert_eq!(opened, Some(ConnectionError::NotFound), "{suffix}");
        }
        let linked = within.open_file("/linked").expect("open");
        let sibling = linked.open_sibling(".gz").expect("open");
        assert_eq!(sibling.name(), "linked.gz");
        // Within the wider root, the link does not lead out.
        let file = roots.open_file("/data/inside/x").expect("open");
        assert!(file.open_sibling(".zst").is_ok());
    }

    #[test]
    fn a_fifo_is_not_found_and_does_not_block() {
        let (directory, roots) = roots();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let opened = roots.open_file("/data/fifo").err();
        assert_eq!(opened, Some(ConnectionError::NotFound));
    }
}
