//! `get-random-bytes` and `get-insecure-random-bytes` of `wasi:random@0.2`,
//! which must return as many bytes as requested.
//!
//! wasmtime-wasi draws a separate number for each byte: 64 MiB take longer than
//! an event may, and nothing interrupts that. AWS-LC, which TLS has, would fill
//! them as fast as this generator, but takes 60 ms of a process for its first.

use rand::Rng;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::instance;

/// Largest result of one call in bytes; wasmtime's own limit.
const MAX_BYTES: u64 = 64 << 20;

/// Replaces both functions in the linker.
///
/// # Errors
/// Fails if they are not linked yet.
pub(crate) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    max_memory: impl Fn(&T) -> usize + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for (interface, function) in [
        ("wasi:random/random", "get-random-bytes"),
        ("wasi:random/insecure", "get-insecure-random-bytes"),
    ] {
        instance(linker, interface)?.func_wrap(
            function,
            move |store: StoreContextMut<'_, T>, (len,): (u64,)| {
                Ok((bytes(len, max_memory(store.data()))?,))
            },
        )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Returns random bytes.
///
/// # Errors
/// Fails if they exceed the guest's limit.
fn bytes(len: u64, max_memory: usize) -> wasmtime::Result<Vec<u8>> {
    let most = MAX_BYTES.min(max_memory as u64);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len as u64 > most {
        wasmtime::bail!("{len} random bytes at once: the limit is {most}");
    }
    let mut bytes = vec![0; len];
    rand::rng().fill_bytes(&mut bytes);
    Ok(bytes)
}
