//! Files that guests send without reading them: opened beneath a `--dir`, and
//! never outside of it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::config::Directory;
use crate::error::{ConnectionError, Error};

/// The directories of a run, opened once.
#[derive(Debug)]
pub(crate) struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    /// Where the guest sees it, without a slash at the end; empty for `/`.
    guest: PathBuf,
    directory: OwnedFd,
}

impl Roots {
    /// Opens the directories.
    ///
    /// # Errors
    /// Names the first that is no directory or cannot be read.
    pub(crate) fn open(directories: &[Directory]) -> Result<Self, Error> {
        directories
            .iter()
            .map(|directory| {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::open(&directory.host, flags, Mode::empty());
                Ok(Root {
                    guest: relative(Path::new(&directory.guest)),
                    directory: opened.map_err(|errno| {
                        Error::Directory(format!(
                            "--dir: cannot open the directory {}: {}",
                            directory.host.display(),
                            io::Error::from(errno)
                        ))
                    })?,
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a directory holds a path of the guest, so that it may ask.
    pub(crate) fn hold(&self, path: &str) -> bool {
        let path = relative(Path::new(path));
        self.0.iter().any(|root| path.starts_with(&root.guest))
    }

    /// Opens a regular file by its path as the guest sees it.
    ///
    /// # Errors
    /// `AccessDenied` where no directory holds the path or the file may not
    /// be read; `NotFound` where there is none, it lies outside, or it is no
    /// regular file; `LimitExceeded` where no descriptor is left.
    pub(crate) fn open_file(&self, path: &str) -> Result<File, ConnectionError> {
        if path.contains('\0') {
            return Err(ConnectionError::NotFound);
        }
        let path = relative(Path::new(path));
        // The longest guest path that holds it, as with mounts.
        let (root, rest) = self
            .0
            .iter()
            .filter_map(|root| Some((root, path.strip_prefix(&root.guest).ok()?)))
            .max_by_key(|(root, _)| root.guest.as_os_str().len())
            .ok_or(ConnectionError::AccessDenied)?;
        if rest.as_os_str().is_empty() {
            return Err(ConnectionError::NotFound);
        }
        // Without O_NONBLOCK, opening a FIFO would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let fd = loop {
            match rustix::fs::openat2(&root.directory, rest, flags, Mode::empty(), resolve) {
                // A rename raced with the walk (openat2(2)).
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A socket, or a device without a driver.
                Err(Errno::NXIO | Errno::NODEV) => return Err(ConnectionError::NotFound),
                result => break result?,
            }
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ConnectionError::NotFound);
        }
        Ok(File {
            file: fs::File::from(fd),
            refuses_sendfile: Cell::new(false),
        })
    }
}

/// The path without its root, so that it can be opened beneath a directory.
/// `..` stays: openat2(2) is to see and to refuse it where it leads out.
fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .collect()
}

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct File {
    file: fs::File,
    refuses_sendfile: Cell<bool>,
}

impl File {
    /// Its length now, bytes.
    pub(crate) fn size(&self) -> Result<u64, ConnectionError> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads at an offset, bytes from the start; pread(2).
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether sendfile(2) was seen to fail on it.
    pub(crate) fn refuses_sendfile(&self) -> bool {
        self.refuses_sendfile.get()
    }

    pub(crate) fn note_sendfile_refused(&self) {
        self.refuses_sendfile.set(true);
    }

    /// What to say of a file that ends too early.
    pub(crate) fn shortened(&self) -> &'static str {
        "the file became shorter while it was sent"
    }
}
