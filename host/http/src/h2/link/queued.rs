//! Bytes of responses that wait in memory.

use std::rc::Rc;

use super::Link;

/// Bytes of a response that wait until the client takes them.
pub(super) struct QueuedResponse {
    link: Rc<Link>,
    bytes: usize,
}

impl QueuedResponse {
    pub(super) fn new(link: &Rc<Link>, bytes: usize) -> Self {
        link.queued.set(link.queued.get() + bytes);
        Self {
            link: Rc::clone(link),
            bytes,
        }
    }
}

impl Drop for QueuedResponse {
    fn drop(&mut self) {
        self.link.queued.set(self.link.queued.get() - self.bytes);
    }
}
