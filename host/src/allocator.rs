//! The program's allocator of memory.

use std::time::Duration;

/// Time after which a start, or a reload, has freed what only it has used.
const SOON: Duration = Duration::from_secs(1);

/// Returns free memory to the system, a second from now. By itself, mimalloc does so only
/// while more is allocated and freed: a process that has compiled a component, and then
/// waits, would keep what the compiler has used for ever.
pub(crate) fn give_back_soon() {
    tokio::spawn(async {
        tokio::time::sleep(SOON).await;
        give_back();
    });
}

#[expect(unsafe_code, reason = "the crate `mimalloc` has no call for it")]
fn give_back() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
