//! Interim responses on their way from a handler to the connection: RFC 9110,
//! section 15.2.

use std::cell::{Cell, RefCell};

use crate::answer::Interim;

/// Maximum of interim responses that wait to be sent.
const MOST_INTERIM: usize = 16;

/// Maximum of what the connection takes for a request, in bytes of memory, besides
/// what waits to be sent. A client that takes nothing leaves all of it with the
/// connection.
const MOST_TAKEN: usize = 256 << 10;

/// Memory of a response in a connection besides its fields, in bytes, about.
const RESPONSE: usize = 512;

/// Memory of a field in a connection besides its name and value, in bytes, about.
const FIELD: usize = 128;

/// Interim responses that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Interims {
    waiting: RefCell<Vec<Interim>>,
    /// Memory of those that the connection has taken, in bytes.
    taken: Cell<usize>,
}

impl Interims {
    /// Adds one.
    ///
    /// # Errors
    /// Fails if too many wait, or if the request has had too many. The text says
    /// which.
    pub(crate) fn add(&self, interim: Interim) -> Result<(), &'static str> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MOST_INTERIM {
            return Err("too many interim responses wait to be sent");
        }
        if self.taken.get() >= MOST_TAKEN {
            return Err("the request has had interim responses of 256 KiB, which is the most");
        }
        waiting.push(interim);
        Ok(())
    }

    /// Takes all that wait.
    pub(crate) fn take(&self) -> Vec<Interim> {
        let taken = self.waiting.take();
        let memory: usize = taken.iter().map(memory).sum();
        self.taken.set(self.taken.get().saturating_add(memory));
        taken
    }
}

/// Returns the memory that a response takes in a connection, in bytes, about.
fn memory(interim: &Interim) -> usize {
    let fields = interim.headers.iter();
    let fields = fields.map(|(name, value)| FIELD + name.len() + value.len());
    RESPONSE + fields.sum::<usize>()
}
