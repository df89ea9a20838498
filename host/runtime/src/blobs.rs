//! Containers of objects that are directories of the host: `--blobstore`.
//!
//! An object is a regular file, and its name the path beneath the container's
//! directory. openat2(2) resolves each path, follows no symbolic link, and
//! leaves the directory by none. A new object is written to a hidden file,
//! which takes its place once it is whole.
//!
//! All functions block, and so are called on a thread that may.

mod cleaning;
mod copying;
mod listing;
mod object;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Once};
use std::time::UNIX_EPOCH;

use netwasm_base::config::BlobContainer;
use netwasm_base::error::Error;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub(crate) use self::copying::{Going, copy};
pub(crate) use self::listing::{Listing, ListingShare};
pub(crate) use self::object::Range;

use self::listing::ListingPlaces;

/// Start of the names of files that are not whole yet. No object has such a
/// name.
const UNFINISHED: &str = ".netwasm-unfinished-";

/// Resolution of paths: beneath a directory, and through no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Longest name of an object in bytes, as of the systems that others use.
const MAX_NAME: usize = 1024;

/// Most segments of an object's name, the parts between slashes. A listing has a
/// directory open for each while it reads that deep.
const MAX_SEGMENTS: usize = 32;

/// Most passes over a container that is cleared, to which others may write.
const PASSES: usize = 16;

/// The containers of a service.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    named: BTreeMap<String, Container>,
    /// Directory whose sub-directories are containers.
    any: Option<Container>,
}

/// A container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    name: Arc<str>,
    directory: Arc<OwnedFd>,
    writable: bool,
    /// Directories that listings may have open.
    places: ListingPlaces,
    /// Done when the removal of unfinished files has begun.
    cleaned: Arc<Once>,
}

/// Times and size of an object, or of a container, whose size is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobFacts {
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Bytes.
    pub(crate) size: u64,
}

/// Reason why an operation failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No `--blobstore` allows the container of this name.
    NotAllowed(String),
    /// The container of this name may only be read.
    ReadOnly(String),
    /// Told to the guest.
    Told(String),
}

impl Failure {
    pub(crate) fn told(what: &str, name: &str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        Self::Told(match error.kind() {
            io::ErrorKind::NotFound => format!("cannot {what} '{name}': there is none"),
            _ => format!("cannot {what} '{name}': {error}"),
        })
    }
}

impl Containers {
    /// Opens the directories.
    ///
    /// # Errors
    /// Fails with the first that is no directory or cannot be opened.
    pub(crate) fn open(containers: &[BlobContainer]) -> Result<Self, Error> {
        let mut all = Self::default();
        for container in containers {
            let opened = rustix::fs::open(&container.directory, DIRECTORY, Mode::empty());
            let directory = opened.map_err(|errno| {
                Error::Directory(format!(
                    "--blobstore {}: cannot open the directory {}: {}",
                    container.shown(),
                    container.directory.display(),
                    io::Error::from(errno)
                ))
            })?;
            let opened = Container {
                name: container.shown().into(),
                directory: Arc::new(directory),
                writable: container.writable,
                places: ListingPlaces::shared(),
                cleaned: Arc::new(Once::new()),
            };
            match &container.name {
                Some(name) => drop(all.named.insert(name.clone(), opened)),
                None => all.any = Some(opened),
            }
        }
        Ok(all)
    }

    /// Returns a container. The first use of a directory begins to remove the files
    /// that killed processes left unfinished there.
    ///
    /// # Errors
    /// Fails if it is not allowed, or not there.
    pub(crate) fn get(&self, name: &str) -> Result<Container, Failure> {
        if let Some(container) = self.named.get(name) {
            cleaning::begin(container, false);
            return Ok(container.clone());
        }
        let all = self.any_for(name)?;
        let opened = beneath(&all.directory, name, DIRECTORY, Mode::empty());
        let directory = opened.map_err(|errno| Failure::told("open the container", name, errno))?;
        Ok(Container {
            name: name.into(),
            directory: Arc::new(directory),
            ..all.clone()
        })
    }

    /// Returns the directory in which a container of this name may be.
    fn any_for(&self, name: &str) -> Result<&Container, Failure> {
        let all = self.any.as_ref();
        let all = all.ok_or_else(|| Failure::NotAllowed(name.into()))?;
        check_container_name(name)?;
        cleaning::begin(all, true);
        Ok(all)
    }

    /// Makes a container, unless it is there, and returns it.
    ///
    /// # Errors
    /// Fails if it is not allowed, or the system refuses it.
    pub(crate) fn create(&self, name: &str) -> Result<Container, Failure> {
        if self.named.contains_key(name) {
            return self.get(name);
        }
        let all = self.any_for(name)?;
        all.check_writable()?;
        match rustix::fs::mkdirat(&all.directory, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.get(name),
            Err(errno) => Err(Failure::told("make the container", name, errno)),
        }
    }

    /// Removes a container with all its objects.
    ///
    /// # Errors
    /// Fails if it is not allowed: a container with its own `--blobstore` is
    /// the operator's. Fails once nobody wants it.
    pub(crate) fn delete(&self, name: &str, going: &Going) -> Result<(), Failure> {
        if self.named.contains_key(name) {
            return Err(Failure::Told(format!(
                "cannot delete the container '{name}': its directory is the host's; clear it"
            )));
        }
        let all = self
            .any
            .as_ref()
            .ok_or_else(|| Failure::NotAllowed(name.into()))?;
        all.check_writable()?;
        let container = self.get(name)?;
        container.clear(going)?;
        rustix::fs::unlinkat(&all.directory, name, AtFlags::REMOVEDIR)
            .map_err(|errno| Failure::told("delete the container", name, errno))
    }

    /// True if a container is there.
    ///
    /// # Errors
    /// Fails if it is not allowed.
    pub(crate) fn exists(&self, name: &str) -> Result<bool, Failure> {
        match self.get(name) {
            Ok(_) => Ok(true),
            Err(Failure::Told(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Returns a file without a name, for an object that has none yet.
    ///
    /// # Errors
    /// Fails if no container may be written to.
    pub(crate) fn unnamed_file(&self) -> io::Result<File> {
        let all = self.named.values().chain(&self.any);
        let directory = all.filter(|it| it.writable).map(|it| &it.directory).next();
        let directory = directory.ok_or(io::ErrorKind::PermissionDenied)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        match rustix::fs::openat(directory, ".", flags, mode) {
            Ok(file) => Ok(file.into()),
            // NFS has no files without a name, for one: open(2).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => object::unlinked_file(directory),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Container {
    /// Returns it for an instance, whose listings have a share of the directories that
    /// may be open.
    pub(crate) fn with_share(mut self, share: &ListingShare) -> Self {
        self.places.of_instance = Some(share.clone());
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Checks that objects may be written and deleted.
    ///
    /// # Errors
    /// Fails with [`Failure::ReadOnly`].
    pub(crate) fn check_writable(&self) -> Result<(), Failure> {
        match self.writable {
            true => Ok(()),
            false => Err(Failure::ReadOnly(self.name.to_string())),
        }
    }

    /// Returns when the container was made.
    ///
    /// # Errors
    /// Fails as stat(2) does.
    pub(crate) fn facts(&self) -> Result<BlobFacts, Failure> {
        let file = self.directory.try_clone().map(File::from);
        let facts = file.and_then(|file| facts(&file));
        let facts = facts.map_err(|error| Failure::told("look at", &self.name, error))?;
        Ok(BlobFacts { size: 0, ..facts })
    }

    /// Returns a listing of the objects.
    ///
    /// # Errors
    /// Fails as open(2) does, or if listings have too many directories open.
    pub(crate) fn list(&self, going: &Going) -> Result<Listing, Failure> {
        Listing::of(self, going)
    }

    /// Deletes all objects.
    ///
    /// # Errors
    /// Fails with the first that cannot be deleted, or once nobody wants it.
    pub(crate) fn clear(&self, going: &Going) -> Result<(), Failure> {
        self.check_writable()?;
        let check = || {
            let going = going.check();
            going.map_err(|error| Failure::told("clear", &self.name, error))
        };
        // Objects that are deleted while a directory is read may hide something else.
        for _ in 0..PASSES {
            let mut listing = self.list(going)?;
            let mut found = false;
            while let Some(name) = listing.next_name(going)? {
                check()?;
                self.delete(&name)?;
                found = true;
            }
            // The listing may have ended early.
            check()?;
            if !found {
                break;
            }
        }
        Ok(())
    }
}

/// Opens a path beneath a directory, through no symbolic link.
fn beneath(
    directory: impl AsFd,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, mode, BENEATH) {
            // A directory was moved meanwhile, or a signal came.
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Returns what is known of an open file.
fn facts(file: &File) -> io::Result<BlobFacts> {
    let metadata = file.metadata()?;
    let created = metadata.created().or_else(|_| metadata.modified())?;
    let created = created
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    Ok(BlobFacts {
        created,
        size: metadata.len(),
    })
}

/// Checks the name of a container that is a sub-directory.
fn check_container_name(name: &str) -> Result<(), Failure> {
    match is_segment(name) && name.len() <= MAX_NAME {
        true => Ok(()),
        false => Err(Failure::Told(format!(
            "'{}' is not a container name: it is neither empty, . nor .., and has no slash",
            name.escape_default()
        ))),
    }
}

/// True if a name is that of an entry of a directory, and may be an object's.
fn is_segment(name: &str) -> bool {
    let is_special = matches!(name, "" | "." | "..") || is_unfinished(name);
    !is_special && !name.contains(['/', '\0'])
}

/// True if a name is that of a file that is not whole.
fn is_unfinished(name: &str) -> bool {
    name.starts_with(UNFINISHED)
}

#[cfg(test)]
mod tests;
