//! Components: the engines that compile and instantiate them, the instances,
//! and what they may call.

pub(crate) mod bindings;
mod cache;
pub(crate) mod concurrent;
mod convert;
pub(crate) mod engine;
pub(crate) mod guest_log;
pub(crate) mod host;
pub(crate) mod instance;
pub(crate) mod kind;
pub(crate) mod room;
pub(crate) mod state;
pub(crate) mod wasi;

pub use engine::compile;
