//! Objects: reading, writing and deleting them.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{
    BlobFacts, Container, DIRECTORY, Failure, Going, MAX_NAME, MAX_SEGMENTS, UNFINISHED, beneath,
    cleaning, copy, facts, is_segment,
};

/// Attempts to write where others delete the directory at the same time.
const ATTEMPTS: usize = 4;

/// A part of an object, which stays as it was when opened, even if another
/// object takes its place.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    file: Arc<File>,
    start: u64,
    /// Bytes.
    pub(crate) length: u64,
}

impl Range {
    /// Reads up to `most` bytes from a position of the part; none at its end.
    ///
    /// # Errors
    /// Fails as pread(2) does, or if the object was cut short meanwhile: what is left
    /// would look whole.
    pub(crate) fn read_at(&self, position: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = self.length.saturating_sub(position);
        let most = usize::try_from(left).map_or(most, |left| left.min(most));
        let mut bytes = vec![0; most];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|it| !it.is_empty()) {
            let offset = self.start.saturating_add(position) + filled as u64;
            match self.file.read_at(rest, offset) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the object was cut short while it was read",
                    ));
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

impl Container {
    /// Opens a part of an object. `last` is the position of its last byte, if
    /// the object has that many.
    ///
    /// # Errors
    /// Fails if there is no such object.
    pub(crate) fn read(&self, name: &str, start: u64, last: u64) -> Result<Range, Failure> {
        let file = self.file(name)?;
        let size = facts(&file)
            .map_err(|error| Failure::told("read", name, error))?
            .size;
        let end = last.saturating_add(1).min(size);
        Ok(Range {
            file: Arc::new(file),
            start,
            length: end.saturating_sub(start),
        })
    }

    /// Returns size and time of an object.
    ///
    /// # Errors
    /// Fails if there is no such object.
    pub(crate) fn facts_of(&self, name: &str) -> Result<BlobFacts, Failure> {
        facts(&self.file(name)?).map_err(|error| Failure::told("look at", name, error))
    }

    /// True if there is such an object.
    ///
    /// # Errors
    /// Fails if the name cannot be an object's.
    pub(crate) fn has(&self, name: &str) -> Result<bool, Failure> {
        check_name(name)?;
        Ok(self.file(name).is_ok())
    }

    /// Checks that an object of this name may be written.
    ///
    /// # Errors
    /// Fails if the name cannot be a new object's, or if the container may only be
    /// read.
    pub(crate) fn check_target(&self, name: &str) -> Result<(), Failure> {
        self.check_change(name)?;
        // No listing would have it.
        match name.split('/').count() > MAX_SEGMENTS {
            true => Err(Failure::Told(format!(
                "cannot write '{}': the name of an object has {MAX_SEGMENTS} parts between \
                 slashes at most",
                name.escape_default()
            ))),
            false => Ok(()),
        }
    }

    /// Checks that an object of this name may be deleted.
    fn check_change(&self, name: &str) -> Result<(), Failure> {
        check_name(name)?;
        self.check_writable()
    }

    /// Makes an object of what `content` writes, in the place of one of this
    /// name. Directories are made as the name has them.
    ///
    /// # Errors
    /// Fails as the system calls do. The object is then as it was.
    pub(crate) fn write(
        &self,
        name: &str,
        content: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<(), Failure> {
        self.check_target(name)?;
        let written = self.put(name, content);
        if written.is_err() {
            // Those that were made for it.
            self.remove_empty(split(name).0, "");
        }
        written
    }

    fn put(
        &self,
        name: &str,
        content: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::told("write", name, error);
        let (parent, last) = split(name);
        for attempt in 1.. {
            let directory = self.made(parent).map_err(|errno| failed(errno.into()))?;
            // Open until it has its place: the lock tells others that it is written.
            let (unfinished, mut file) = match new_file(&directory) {
                // Another call deleted the directory with its last object.
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {
                    continue;
                }
                made => made.map_err(failed)?,
            };
            let written = fill(&mut file, content).and_then(|()| {
                rustix::fs::renameat(&directory, &*unfinished, &directory, last)?;
                // So that the name is on the disk, too. Some file systems cannot do
                // that, and the object is there: fsync(2).
                match rustix::fs::fsync(&directory) {
                    Ok(()) | Err(Errno::INVAL) => Ok(()),
                    Err(errno) => Err(errno.into()),
                }
            });
            if written.is_err() {
                let _ = rustix::fs::unlinkat(&directory, &*unfinished, AtFlags::empty());
            }
            return written.map_err(failed);
        }
        Ok(())
    }

    /// Makes a copy of an object of another container, or of this one.
    ///
    /// # Errors
    /// Fails if there is no such object, as writing does, or once nobody wants it.
    pub(crate) fn copy_from(
        &self,
        name: &str,
        source: &Self,
        source_name: &str,
        going: &Going,
    ) -> Result<(), Failure> {
        self.write_copy(name, &mut source.file(source_name)?, going)
    }

    fn write_copy(&self, name: &str, file: &mut File, going: &Going) -> Result<(), Failure> {
        self.write(name, &mut |target| {
            file.rewind()?;
            copy(file, target, going)
        })
    }

    /// Moves an object of another container, or of this one. Another object that has
    /// taken its place meanwhile stays: containers may be of one directory, or within
    /// each other, and then that is the copy.
    ///
    /// # Errors
    /// Fails if there is no such object, or as writing does.
    pub(crate) fn move_from(
        &self,
        name: &str,
        source: &Self,
        source_name: &str,
        going: &Going,
    ) -> Result<(), Failure> {
        source.check_change(source_name)?;
        self.check_target(name)?;
        let is_same = source.name == self.name && source_name == name;
        if is_same {
            return source.file(name).map(drop);
        }
        // Open until it is deleted, so that no other file has its identity.
        let mut moved = source.file(source_name)?;
        self.write_copy(name, &mut moved, going)?;
        let left = source.file(source_name).ok();
        let left = left.map(|file| identity(&file)).transpose();
        let is_left = left.and_then(|left| Ok(left == Some(identity(&moved)?)));
        match is_left.map_err(|error| Failure::told("delete", source_name, error))? {
            true => source.delete(source_name),
            false => Ok(()),
        }
    }

    /// Deletes an object, and the directories that are empty then. That there is
    /// none is no error.
    ///
    /// # Errors
    /// Fails as unlink(2) does.
    pub(crate) fn delete(&self, name: &str) -> Result<(), Failure> {
        self.check_change(name)?;
        let failed = |errno: Errno| Failure::told("delete", name, errno);
        let (parent, last) = split(name);
        match self.opened(parent) {
            Ok(directory) => match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => return Err(failed(errno)),
            },
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        }
        self.remove_empty(parent, "");
        Ok(())
    }

    /// Removes a directory and those above it, as far as they are there and empty, and
    /// below `top`.
    pub(super) fn remove_empty(&self, path: &str, top: &str) {
        let mut emptied = path;
        while emptied != top {
            let (above, own) = split(emptied);
            let removed = self
                .opened(above)
                .and_then(|directory| rustix::fs::unlinkat(&directory, own, AtFlags::REMOVEDIR));
            match removed {
                Ok(()) | Err(Errno::NOENT | Errno::NAMETOOLONG) => emptied = above,
                // It has other objects.
                Err(_) => return,
            }
        }
    }

    /// Opens an object's file.
    fn file(&self, name: &str) -> Result<File, Failure> {
        check_name(name)?;
        let failed = |errno: Errno| Failure::told("read", name, errno);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = beneath(&self.directory, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(failed(Errno::NOENT)),
        }
    }

    /// Opens a directory of the container; its own if the path is empty.
    pub(super) fn opened(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        beneath(&self.directory, path, DIRECTORY, Mode::empty())
    }

    /// Opens a directory of the container, and makes it if it is not there.
    fn made(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let mut directory = self.opened("")?;
        for own in path.split('/').filter(|own| !own.is_empty()) {
            match rustix::fs::mkdirat(&directory, own, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            directory = beneath(&directory, own, DIRECTORY, Mode::empty())?;
        }
        Ok(directory)
    }
}

/// Makes a file whose name is gone at once.
///
/// # Errors
/// Fails as open(2) and unlink(2) do.
pub(super) fn unlinked_file(directory: &OwnedFd) -> io::Result<File> {
    let (name, file) = new_hidden(directory, OFlags::RDWR, 0o600)?;
    rustix::fs::unlinkat(directory, &*name, AtFlags::empty())?;
    Ok(file)
}

/// Makes a file that is not whole yet, and returns its name.
fn new_file(directory: &OwnedFd) -> io::Result<(String, File)> {
    new_hidden(directory, OFlags::WRONLY, 0o666)
}

fn new_hidden(directory: &OwnedFd, access: OFlags, mode: u32) -> io::Result<(String, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{UNFINISHED}{}-{number}", std::process::id());
        let flags = access | OFlags::CREATE | OFlags::EXCL;
        let file = match beneath(directory, &name, flags, Mode::from_raw_mode(mode)) {
            // A process of this number was killed.
            Err(Errno::EXIST) => continue,
            file => file?,
        };
        // Without locks, nobody cleans.
        let is_own = cleaning::lock(&file).unwrap_or(true);
        // Until it had the lock, another process may have removed it.
        if is_own && rustix::fs::fstat(&file)?.st_nlink > 0 {
            return Ok((name, file.into()));
        }
    }
}

/// Fills a file, and waits until the disk has it.
fn fill(file: &mut File, content: &mut dyn FnMut(&mut File) -> io::Result<()>) -> io::Result<()> {
    content(file)?;
    file.flush()?;
    file.sync_all()
}

/// Returns what tells a file from all others of the machine.
fn identity(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Splits a path into its directory, which may be empty, and its last name.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

fn check_name(name: &str) -> Result<(), Failure> {
    match name.len() <= MAX_NAME && name.split('/').all(is_segment) {
        true => Ok(()),
        false => Err(Failure::Told(format!(
            "'{}' is not an object name: between slashes there is something, not . or .., and \
             it has 1024 bytes at most",
            name.escape_default()
        ))),
    }
}
