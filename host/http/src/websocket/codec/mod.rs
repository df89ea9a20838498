//! Frames and messages, without I/O.

use std::cell::RefCell;

mod agreed;
pub(super) mod deflate;
pub(super) mod fault;
pub(super) mod frame;
pub(super) mod mask;
pub(super) mod reader;
#[cfg(test)]
pub(super) mod testing;
mod utf8;

pub(crate) use self::agreed::Agreed;
pub(crate) use self::deflate::Packing;
pub(crate) use self::frame::Side;
pub(crate) use self::reader::Buffers;

/// Buffers and compressors of a thread, for the messages of all its connections.
/// Empty between polls.
#[derive(Debug, Default)]
pub(crate) struct ThreadBuffers {
    pub(super) reading: RefCell<Buffers>,
    pub(super) packing: RefCell<Packing>,
}
