//! Bytes of the network that sessions hold and have not used yet.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

/// Maximum of the network's bytes that wait to be read, of one session. A record
/// has 16 KiB.
pub(super) const MOST_FED: usize = 1 << 20;

/// Maximum of fed bytes that all sessions of an instance hold together.
pub(super) const MOST_FED_IN_ALL: usize = 64 << 20;

/// Capacity from which an empty buffer is given back, in bytes.
const KEPT: usize = 16 << 10;

/// Bytes that the sessions of an instance hold and have not used.
#[derive(Clone, Debug, Default)]
pub struct Held(Rc<Cell<usize>>);

/// Bytes that were fed to a session, counted in [`Held`].
pub(super) struct Fed {
    bytes: VecDeque<u8>,
    held: Held,
}

impl Fed {
    pub(super) fn new(held: &Held) -> Self {
        Self {
            bytes: VecDeque::new(),
            held: held.clone(),
        }
    }

    /// Adds bytes. Returns false if they are too many.
    pub(super) fn add(&mut self, data: &[u8]) -> bool {
        let all = self.held.0.get().saturating_add(data.len());
        let own = self.bytes.len().saturating_add(data.len());
        if own > MOST_FED || all > MOST_FED_IN_ALL {
            return false;
        }
        self.held.0.set(all);
        self.bytes.extend(data);
        true
    }

    /// Gives the bytes to a reader, and returns how many it used.
    pub(super) fn give(
        &mut self,
        mut read: impl FnMut(&mut dyn Read) -> io::Result<usize>,
    ) -> usize {
        if self.bytes.is_empty() {
            return 0;
        }
        let before = self.bytes.len();
        // It fails only while its buffer of plain text is full.
        let used = read(&mut self.bytes).unwrap_or(0);
        self.count(before - self.bytes.len());
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        used
    }

    pub(super) fn clear(&mut self) {
        self.count(self.bytes.len());
        self.bytes = VecDeque::new();
    }

    /// Counts bytes that are held no more.
    fn count(&self, gone: usize) {
        self.held.0.set(self.held.0.get().saturating_sub(gone));
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.clear();
    }
}
