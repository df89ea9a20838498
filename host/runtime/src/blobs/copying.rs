//! Copies of files, piece by piece, so that one which nobody wants any more ends.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a piece: much enough that the file system may share them.
const PIECE: u64 = 8 << 20;

/// Tells work on another thread when nobody wants it any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Going(Arc<AtomicBool>);

/// Keeps work going. Once it is dropped, the work ends.
#[derive(Debug)]
pub(crate) struct Wanted(Going);

impl Going {
    /// Returns a guard of the work.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted(self.clone())
    }

    /// Checks that the work is still wanted.
    ///
    /// # Errors
    /// Fails if its instance has ended.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(io::Error::other("its instance has ended")),
            false => Ok(()),
        }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let Self(Going(ended)) = self;
        ended.store(true, Ordering::Relaxed);
    }
}

/// Copies a file from its position to its end.
///
/// # Errors
/// Fails as copy_file_range(2) or write(2) does, or once nobody wants it.
pub(crate) fn copy(from: &mut File, to: &mut File, going: &Going) -> io::Result<()> {
    loop {
        going.check()?;
        let copied = io::copy(&mut from.by_ref().take(PIECE), to)?;
        if copied < PIECE {
            return Ok(());
        }
    }
}
