//! Bodies of requests that handlers read from the host piece by piece.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use crate::Result;
use crate::bindings::netwasm::net::http;
use crate::cell::with;
use crate::http::Pieces;
use crate::slab::Slab;

thread_local! {
    // Never dropped: an instance ends with its memory.
    static INLETS: ManuallyDrop<Cell<Slab<Rc<Pieces>>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

/// The host that sends the pieces of a body. Dropping it stops that.
pub(crate) struct Source {
    token: usize,
    pieces: Rc<Pieces>,
}

impl Source {
    /// Begins to read a body, by a call of the host under a token.
    pub(crate) fn open(pieces: &Rc<Pieces>, begin: impl FnOnce(u64) -> Result<()>) -> Result<Self> {
        let token = INLETS.with(|all| with(all, |all| all.insert(pieces.clone())));
        let source = Self {
            token,
            pieces: pieces.clone(),
        };
        begin(token as u64)?;
        Ok(source)
    }

    /// Lets so many more bytes come.
    pub(crate) fn read_more(&self, count: usize) {
        if !self.pieces.over.get() {
            http::read_more(self.token as u64, count as u64);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if release(self.token as u64, &self.pieces) {
            http::stop_reading(self.token as u64);
        }
    }
}

/// Frees a token, unless its body has ended and it is another's.
fn release(token: u64, pieces: &Rc<Pieces>) -> bool {
    if pieces.over.replace(true) {
        return false;
    }
    take(token).is_some()
}

fn take(token: u64) -> Option<Rc<Pieces>> {
    let key = usize::try_from(token).ok()?;
    INLETS.with(|all| with(all, |all| all.remove(key)))
}

pub(crate) fn received(token: u64, data: Vec<u8>) {
    let pieces = INLETS.with(|all| {
        with(all, |all| {
            let key = usize::try_from(token).ok()?;
            all.get_mut(key).map(|it| it.clone())
        })
    });
    if let Some(pieces) = pieces {
        pieces.push(data);
    }
}

/// Ends a body. Its token is free then.
pub(crate) fn ended(token: u64, end: Result<http::Fields>) {
    if let Some(pieces) = take(token) {
        pieces.end(end);
    }
}
