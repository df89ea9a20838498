//! Compiled code, which an engine loads.

use std::os::fd::AsRawFd;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::KeptCode;

/// Compiled code of a component.
#[derive(Debug)]
pub(crate) enum Code {
    /// In a file of the cache.
    Cached(KeptCode),
    /// In memory.
    Serialized(Vec<u8>),
}

impl Code {
    /// Loads the code, with an engine of the kind that it was compiled for.
    ///
    /// A cached file is mapped, so that only what is used of it takes memory,
    /// and so are the images of the guest's memories in it.
    ///
    /// # Errors
    /// Fails if the engine's settings differ, or if there is no memory.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        match self {
            Self::Cached(kept) if kept.is_local() => {
                map(engine, kept).or_else(|_| deserialize(engine, &kept.read()?))
            }
            // Another machine may remove it while it is mapped.
            Self::Cached(kept) => deserialize(engine, &kept.read()?),
            Self::Serialized(code) => deserialize(engine, code),
        }
    }
}

/// Maps a file of the cache. That fails without `/proc`, or where nothing of the
/// file system may be executed.
#[expect(unsafe_code, reason = "compiled code is run as it is")]
fn map(engine: &Engine, kept: &KeptCode) -> wasmtime::Result<Component> {
    // The very file that was verified, whatever the path leads to by now.
    let path = format!("/proc/self/fd/{}", kept.file().as_raw_fd());
    // SAFETY: `deserialize_file` needs a file that wasmtime made, and that
    // nobody changes while it is mapped. Its checksum, keyed by what it was
    // compiled from, is right; only the user or root may write it; and the
    // cache replaces files, and writes none in place. wasmtime checks version
    // and settings. The checksum at its end is beyond all sections.
    unsafe { Component::deserialize_file(engine, path) }
}

/// Loads code from memory.
#[expect(unsafe_code, reason = "compiled code is run as it is")]
pub(crate) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that wasmtime made. Either this process
    // just serialized them; or they come from the cache, whose checksum is
    // keyed by what they were compiled from and is right, in a file that only
    // the user or root may write; or `netwasm compile` made them, for which the
    // user vouches by the flag. wasmtime checks version and settings.
    unsafe { Component::deserialize(engine, code) }
}
