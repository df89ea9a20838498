//! Frames and messages, without I/O.

pub(super) mod deflate;
pub(super) mod fault;
pub(super) mod frame;
mod mask;
pub(super) mod reader;
#[cfg(test)]
pub(super) mod testing;
mod utf8;

pub(crate) use self::deflate::{Agreed, Packing};
pub(crate) use self::reader::Buffers;
