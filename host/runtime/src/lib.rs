//! Components: the engines that compile and instantiate them, the instances,
//! and what they may call.
//!
//! ```text
//!   bytes --> component, fit --> engine (cache, room) --> a program, ready to
//!                                   |                      make instances of
//!                                inspect                      |
//!                                                             v
//!   drivers --EventGuest, Handler--> guests --> instance, or concurrent::*
//!                                                  |
//!                                                  v  host calls
//!                                     host, wasi, concurrent::* --> policy --> net
//! ```
//!
//! There are two engines. Events call a guest synchronously ([`instance`]).
//! Guests that await (handlers of streams, of `wasi:http`, and programs) have an
//! engine of their own (`concurrent`), whose instances are tasks.
//!
//! # Modules
//!
//! | module | lives there | does not |
//! | --- | --- | --- |
//! | `kind`, `component`, `fit` | by what a component is driven; its bytes, before any engine; what it exports and imports, and whether that fits | running it |
//! | `handles`, `bindings`, `convert` | what handles stand for; the types of the WIT package, and ours | rules |
//! | `steps`, `room`, `cache` | interrupting what takes too long; what an instance takes, and how many connections that is room for; compiled code between runs | instances |
//! | `hand_back`, `moving` | bodies: a file's way back to the connection; that they move is told | |
//! | `guest_log`, `wasi` | what guests say; WASI for guests of events | |
//! | `local` | what instances share: those of a run, and those of a thread | |
//! | `state`, `host`, `later` | what the host keeps for an instance of events; what that may call, thin; work that ends as an event | rules |
//! | `event_program`, [`instance`] | a component that events drive; its instances | |
//! | `concurrent` | the same for guests that await | |
//! | `engine` | compiling, loading, linking | |
//! | [`guests`] | who shares an instance; what drivers are given | HTTP |
//! | [`inspect`] | what there is to say of a component | |
//!
//! `unsafe` is denied but for loading compiled code, in `engine`.

mod bindings;
mod cache;
mod component;
mod concurrent;
mod convert;
mod engine;
mod event_program;
mod fit;
mod guest_log;
pub mod guests;
mod hand_back;
mod handles;
mod host;
pub mod inspect;
pub mod instance;
mod kind;
mod later;
mod local;
mod moving;
mod room;
mod state;
mod steps;
mod wasi;

pub use engine::compile;
