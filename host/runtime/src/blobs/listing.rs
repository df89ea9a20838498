//! The objects of a container, found one after the other.

use std::sync::{Arc, LazyLock};

use netwasm_base::descriptors;
use rustix::fs::{AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Container, DIRECTORY, Failure, Going, MAX_SEGMENTS, beneath, is_segment, is_unfinished,
};

/// Directories that listings may have open at once. A guest may keep many listings,
/// which take no descriptors from connections so.
#[derive(Clone, Debug)]
pub(super) struct ListingPlaces {
    of_all: Arc<Semaphore>,
    /// Those of an instance, unless the host lists for itself.
    pub(super) of_instance: Option<ListingShare>,
}

/// Directories that the listings of one instance may have open. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ListingShare(Arc<Semaphore>);

/// A place for a directory.
struct ListingPlace {
    _of_all: OwnedSemaphorePermit,
    _of_instance: Option<OwnedSemaphorePermit>,
}

impl ListingPlaces {
    pub(super) fn new(most: usize) -> Self {
        Self {
            of_all: Arc::new(Semaphore::new(most)),
            of_instance: None,
        }
    }

    /// Returns those that all services share.
    pub(super) fn shared() -> Self {
        static SHARED: LazyLock<ListingPlaces> =
            LazyLock::new(|| ListingPlaces::new(descriptors::listings()));
        SHARED.clone()
    }

    /// Returns the number that is left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.of_all.available_permits()
    }

    /// Takes one.
    ///
    /// # Errors
    /// Fails with whose are all taken.
    fn take(&self) -> Result<ListingPlace, &'static str> {
        let of_instance = match &self.of_instance {
            Some(ListingShare(places)) => {
                let place = Arc::clone(places).try_acquire_owned();
                Some(place.map_err(|_| "this instance")?)
            }
            None => None,
        };
        let of_all = Arc::clone(&self.of_all).try_acquire_owned();
        Ok(ListingPlace {
            _of_all: of_all.map_err(|_| "all guests")?,
            _of_instance: of_instance,
        })
    }
}

impl ListingShare {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl Default for ListingShare {
    fn default() -> Self {
        Self::new(descriptors::listings_of_instance())
    }
}

/// A listing that is under way. What is made or deleted meanwhile may be in it
/// or not.
pub(crate) struct Listing {
    /// Name of the container.
    container: Arc<str>,
    places: ListingPlaces,
    /// Directories within each other.
    open: Vec<Level>,
    /// Most of them.
    deepest: usize,
    /// True for the names of files that are looked for.
    is_wanted: fn(&str) -> bool,
    /// File that is found already, or the failure that ends the listing.
    found: Option<Result<String, Failure>>,
}

/// A directory that is being read.
struct Level {
    /// Path of the directory with a slash at its end; empty for the container's own.
    path: String,
    directory: Dir,
    _place: ListingPlace,
}

impl Listing {
    /// Begins a listing of the objects.
    pub(super) fn of(container: &Container, going: &Going) -> Result<Self, Failure> {
        Self::begin(container, MAX_SEGMENTS, is_segment, going)
    }

    /// Begins a listing of the files that are not whole yet, or were left so. It shares
    /// its descriptors with no other.
    pub(super) fn unfinished(container: &Container, going: &Going) -> Result<Self, Failure> {
        // The containers may themselves be sub-directories.
        let deepest = MAX_SEGMENTS + 1;
        let container = Container {
            places: ListingPlaces::new(deepest),
            ..container.clone()
        };
        Self::begin(&container, deepest, is_unfinished, going)
    }

    fn begin(
        container: &Container,
        deepest: usize,
        is_wanted: fn(&str) -> bool,
        going: &Going,
    ) -> Result<Self, Failure> {
        let mut listing = Self {
            container: Arc::clone(&container.name),
            places: container.places.clone(),
            open: Vec::new(),
            deepest,
            is_wanted,
            found: None,
        };
        let place = listing.place()?;
        // Its own, as two listings do not share a position.
        let root = beneath(&container.directory, ".", DIRECTORY, Mode::empty());
        let directory = root
            .and_then(Dir::new)
            .map_err(|errno| listing.failed(errno))?;
        listing.open.push(Level {
            path: String::new(),
            directory,
            _place: place,
        });
        listing.found = listing.search(going)?.map(Ok);
        Ok(listing)
    }

    /// True if there is no further object.
    pub(crate) fn is_over(&self) -> bool {
        self.found.is_none()
    }

    /// Returns the name of the next object. Once nobody wants it, the listing is
    /// over.
    ///
    /// # Errors
    /// Fails if a directory cannot be read, and then each time: what is left would
    /// look whole.
    pub(crate) fn next_name(&mut self, going: &Going) -> Result<Option<String>, Failure> {
        match self.found.take() {
            Some(Ok(name)) => {
                self.found = self.search(going).transpose();
                Ok(Some(name))
            }
            Some(Err(failure)) => {
                self.open.clear();
                self.found = Some(Err(failure.clone()));
                Err(failure)
            }
            None => Ok(None),
        }
    }

    /// Passes over what is not wanted: over as much as there is.
    fn search(&mut self, going: &Going) -> Result<Option<String>, Failure> {
        while going.check().is_ok() {
            let depth = self.open.len();
            let Some(Level {
                path, directory, ..
            }) = self.open.last_mut()
            else {
                return Ok(None);
            };
            let entry = match directory.next() {
                Some(Ok(entry)) => entry,
                Some(Err(errno)) => return Err(self.failed(errno)),
                None => {
                    self.open.pop();
                    continue;
                }
            };
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let (is_wanted, may_contain) = ((self.is_wanted)(name), is_segment(name));
            if !is_wanted && !may_contain {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(directory, name),
                known => known,
            };
            let whole = format!("{path}{name}");
            match kind {
                FileType::RegularFile if is_wanted => return Ok(Some(whole)),
                FileType::Directory if may_contain && depth < self.deepest => {
                    let within = directory.fd();
                    let opened = within.and_then(|it| beneath(it, name, DIRECTORY, Mode::empty()));
                    self.enter(&whole, opened.and_then(Dir::new))?;
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Reads a directory next.
    fn enter(&mut self, path: &str, opened: rustix::io::Result<Dir>) -> Result<(), Failure> {
        match opened {
            Ok(directory) => {
                let place = self.place()?;
                self.open.push(Level {
                    path: format!("{path}/"),
                    directory,
                    _place: place,
                });
                Ok(())
            }
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(self.failed(errno)),
            // It is gone, or is not for this user.
            Err(_) => Ok(()),
        }
    }

    /// Takes a place for a directory.
    fn place(&self) -> Result<ListingPlace, Failure> {
        self.places.take().map_err(|whose| {
            Failure::Told(format!(
                "cannot list '{}': the listings of {whose} have as many directories open as the \
                 host's limit of open files leaves for them (ulimit -Hn); drop listings that are \
                 not read to their end, or try again later",
                self.container
            ))
        })
    }

    fn failed(&self, errno: Errno) -> Failure {
        Failure::told("list", &self.container, errno)
    }
}

fn kind_of(directory: &Dir, name: &str) -> FileType {
    let stat = directory.fd();
    let stat = stat.and_then(|it| rustix::fs::statat(it, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode))
}
