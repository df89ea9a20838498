//! A file as the body of a guest's response, whose stream the guest passed on
//! unread: it comes back to the host, which has the kernel send it.
//!
//! Between an instance and its connection a body is frames of bytes, whatever it
//! is. So the connection asks before it takes the first frame, and a body that is
//! a file then gives itself. For one that does not ask it is read.

use std::cell::{Cell, RefCell};

use netwasm_exchange::content::FileContent;

/// Where bodies of one worker give themselves.
#[derive(Debug, Default)]
pub(crate) struct HandBack {
    /// Bodies that are files, and that nobody has begun to read.
    bodies: Cell<usize>,
    asked: Cell<bool>,
    given: RefCell<Option<FileContent>>,
}

impl HandBack {
    /// There is one more body that is a file, or one less.
    pub(crate) fn count(&self, more: bool) {
        let count = self.bodies.get();
        self.bodies.set(match more {
            true => count + 1,
            false => count.saturating_sub(1),
        });
    }

    /// Whether no body would give itself.
    pub(crate) fn is_unused(&self) -> bool {
        self.bodies.get() == 0
    }

    /// Asks whatever body is polled within.
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
