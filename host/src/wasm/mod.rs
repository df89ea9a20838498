//! Components: the engines that compile and instantiate them, the instances,
//! and what they may call.

pub(crate) mod bindings;
mod cache;
pub(crate) mod concurrent;
mod convert;
pub(crate) mod engine;
pub(crate) mod guest_log;
mod hand_back;
mod handlers;
pub(crate) mod host;
pub(crate) mod instance;
pub(crate) mod kind;
mod later;
pub(crate) mod local;
mod moving;
pub(crate) mod room;
pub(crate) mod state;
pub(crate) mod wasi;

pub use engine::compile;
