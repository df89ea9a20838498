//! Interim responses on their way from a handler to the connection: RFC 9110,
//! section 15.2.

use std::cell::RefCell;

use crate::answer::Interim;

/// Maximum of interim responses that wait to be sent.
const MOST_INTERIM: usize = 16;

/// Interim responses that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Interims(RefCell<Vec<Interim>>);

impl Interims {
    /// Adds one. Returns false if too many wait.
    pub(crate) fn add(&self, interim: Interim) -> bool {
        let mut waiting = self.0.borrow_mut();
        if waiting.len() >= MOST_INTERIM {
            return false;
        }
        waiting.push(interim);
        true
    }

    /// Takes all that wait.
    pub(crate) fn take(&self) -> Vec<Interim> {
        self.0.take()
    }
}
