//! Components: the engine that compiles and instantiates them, the instances,
//! and what they may call.

#[expect(
    missing_docs,
    unsafe_code,
    unused_qualifications,
    unreachable_pub,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::needless_pass_by_value,
    reason = "generated"
)]
pub(crate) mod bindings;
mod convert;
pub(crate) mod engine;
pub(crate) mod guest_log;
mod host;
pub(crate) mod instance;
pub(crate) mod state;
pub(crate) mod wasi;
