//! Requests that an event instance has deferred.

use std::collections::HashMap;
use std::rc::Rc;

use netwasm_exchange::deferred::Deferred;

/// Requests that an instance has deferred, by the guest's tokens. Dropping them
/// tells the connections that no answer comes.
#[derive(Debug, Default)]
pub(crate) struct Deferrals(HashMap<u64, Rc<Deferred>>);

impl Deferrals {
    /// Returns the number of deferred requests.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a request. Returns false if the token is in use.
    pub(crate) fn add(&mut self, token: u64, deferred: &Rc<Deferred>) -> bool {
        if self.0.contains_key(&token) {
            return false;
        }
        self.0.insert(token, Rc::clone(deferred));
        true
    }

    /// Takes the request of a token.
    pub(crate) fn take(&mut self, token: u64) -> Option<Rc<Deferred>> {
        self.0.remove(&token)
    }
}

impl Drop for Deferrals {
    fn drop(&mut self) {
        for deferred in self.0.values() {
            deferred.give(None);
        }
    }
}
