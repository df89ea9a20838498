//! Response bodies that are files. If the guest passes a file's stream on
//! unread, the file comes back to the host, and the kernel sends it.
//!
//! Between an instance and its connection, every body is frames of bytes. So
//! the connection asks before it takes the first frame, and a file body then
//! hands its file over. If the connection does not ask, the file is read.

use std::cell::{Cell, RefCell};

use netwasm_exchange::content::FileContent;

/// Carries files from the bodies of one worker to their connections.
#[derive(Debug, Default)]
pub(crate) struct HandBack {
    /// Number of file bodies that nobody has begun to read.
    bodies: Cell<usize>,
    asked: Cell<bool>,
    given: RefCell<Option<FileContent>>,
}

impl HandBack {
    /// Counts one more file body, or one less.
    pub(crate) fn count(&self, more: bool) {
        let count = self.bodies.get();
        self.bodies.set(match more {
            true => count + 1,
            false => count.saturating_sub(1),
        });
    }

    /// True if no body could give a file.
    pub(crate) fn is_unused(&self) -> bool {
        self.bodies.get() == 0
    }

    /// Asks for the file of the body that `poll` polls.
    pub(crate) fn ask<R>(&self, poll: impl FnOnce() -> R) -> (R, Option<FileContent>) {
        self.asked.set(true);
        let polled = poll();
        self.asked.set(false);
        (polled, self.given.take())
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.get()
    }

    pub(crate) fn give(&self, content: FileContent) {
        *self.given.borrow_mut() = Some(content);
    }
}
