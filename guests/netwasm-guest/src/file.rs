//! Files that the host sends.

use crate::{Result, host};

/// A file below one of the directories of `--dir`, open for sending: by
/// `write_file` of a connection, or as the body of a response. The guest never
/// sees its bytes. (To read a file, use `std::fs`.)
pub struct File(host::File);

impl File {
    /// Opens a file by its path as the guest sees it. The path cannot lead out
    /// of the directory.
    ///
    /// # Errors
    /// - `NotFound`: there is no such file, it lies outside, or it is not a
    ///   regular file.
    /// - `AccessDenied`: no `--dir` holds the path, or the host may not read
    ///   the file.
    /// - `LimitExceeded`: no descriptor is left.
    pub fn open(path: &str) -> Result<Self> {
        host::File::open(path).map(Self)
    }

    /// Returns the current length in bytes.
    ///
    /// # Errors
    /// The host could not ask for it.
    pub fn size(&self) -> Result<u64> {
        self.0.size()
    }

    pub(crate) const fn raw(&self) -> &host::File {
        &self.0
    }

    pub(crate) fn into_raw(self) -> host::File {
        self.0
    }
}
