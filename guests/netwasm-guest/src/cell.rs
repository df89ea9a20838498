//! State that the tasks of an instance share.

use std::cell::Cell;

/// Takes the content out of a cell, works on it, and puts it back.
///
/// Unlike a `RefCell`, this cannot panic, and so adds no code and no messages
/// for that. `work` must not come back to the same cell: it may neither wake a
/// task, nor drop what others gave.
pub(crate) fn with<T: Default, R>(cell: &Cell<T>, work: impl FnOnce(&mut T) -> R) -> R {
    let mut content = cell.take();
    let result = work(&mut content);
    cell.set(content);
    result
}
