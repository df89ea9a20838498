//! The objects of a container, found one after the other.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode};

use super::{DIRECTORY, Going, MAX_SEGMENTS, beneath, is_segment};

/// A listing that is under way. What is made or deleted meanwhile may be in it
/// or not.
pub(crate) struct Listing {
    /// Directories within each other, each with its path.
    open: Vec<(String, Dir)>,
    /// Object that is found already.
    found: Option<String>,
}

impl Listing {
    pub(super) fn of(directory: &OwnedFd, going: &Going) -> rustix::io::Result<Self> {
        // Its own, as two listings do not share a position.
        let root = beneath(directory, ".", DIRECTORY, Mode::empty())?;
        let mut listing = Self {
            open: vec![(String::new(), Dir::new(root)?)],
            found: None,
        };
        listing.found = listing.search(going);
        Ok(listing)
    }

    /// True if there is no further object.
    pub(crate) fn is_over(&self) -> bool {
        self.found.is_none()
    }

    /// Returns the name of the next object. Once nobody wants it, the listing is
    /// over.
    pub(crate) fn next_name(&mut self, going: &Going) -> Option<String> {
        let name = self.found.take()?;
        self.found = self.search(going);
        Some(name)
    }

    /// Passes over what is no object: over as much as there is.
    fn search(&mut self, going: &Going) -> Option<String> {
        loop {
            going.check().ok()?;
            let depth = self.open.len();
            let (path, directory) = self.open.last_mut()?;
            let Some(Ok(entry)) = directory.next() else {
                self.open.pop();
                continue;
            };
            let Some(name) = entry.file_name().to_str().ok().filter(|it| is_segment(it)) else {
                continue;
            };
            let whole = format!("{path}{name}");
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(directory, name),
                known => known,
            };
            match kind {
                FileType::RegularFile => return Some(whole),
                FileType::Directory if depth < MAX_SEGMENTS => {
                    let within = directory.fd();
                    let opened = within.and_then(|it| beneath(it, name, DIRECTORY, Mode::empty()));
                    // It may be gone.
                    if let Ok(opened) = opened.and_then(Dir::new) {
                        self.open.push((format!("{whole}/"), opened));
                    }
                }
                _ => {}
            }
        }
    }
}

fn kind_of(directory: &Dir, name: &str) -> FileType {
    let stat = directory.fd();
    let stat = stat.and_then(|it| rustix::fs::statat(it, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.map_or(FileType::Unknown, |it| FileType::from_raw_mode(it.st_mode))
}
