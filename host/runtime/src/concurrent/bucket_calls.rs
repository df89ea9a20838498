//! Bounds of an instance's calls of buckets, of which many may be under way at
//! once: what they keep is the host's memory.
//!
//! A call whose answer comes later waits for a place. What it keeps besides is
//! counted in bytes: a value to be written, which the guest has handed over
//! before the call may wait, and keys that the guest has yet to read. Beyond the
//! bound, a call fails.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Most calls at once that a store works on. Each may bring 32 MiB.
const MOST: usize = 8;

/// Most bytes of values to be written and keys to be read, of all calls together.
const MOST_BYTES: usize = 64 << 20;

/// Bytes that are counted. They are given back when this is dropped.
pub(super) type Kept = OwnedSemaphorePermit;

/// The calls of an instance.
#[derive(Debug)]
pub(crate) struct BucketCalls {
    places: Semaphore,
    bytes: Arc<Semaphore>,
}

impl Default for BucketCalls {
    fn default() -> Self {
        Self {
            places: Semaphore::new(MOST),
            bytes: Arc::new(Semaphore::new(MOST_BYTES)),
        }
    }
}

impl BucketCalls {
    /// Waits for a place. Calls get theirs in their order.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.places.acquire().await.ok()
    }

    /// Counts bytes that a call keeps. One call alone may keep as many as it likes:
    /// other limits bound it.
    ///
    /// # Errors
    /// Fails if it were too many with those of other calls, with a text for the
    /// guest.
    pub(super) fn keep(&self, bytes: usize) -> Result<Kept, String> {
        let bytes = u32::try_from(bytes.min(MOST_BYTES)).unwrap_or(u32::MAX);
        let kept = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        kept.map_err(|_| {
            format!(
                "calls of this instance that are not over hold {} MiB of values and keys: wait \
                 for some, and read their keys, before the next",
                MOST_BYTES >> 20
            )
        })
    }
}

/// Returns the memory that keys take, in bytes.
pub(super) fn size_of_keys(keys: &[String]) -> usize {
    let each = keys.iter().map(|key| key.len() + size_of::<String>());
    each.sum()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn calls_beyond_the_places_wait() {
        let calls = BucketCalls::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut place = || match pin!(calls.place()).poll(&mut context) {
            Poll::Ready(place) => place,
            Poll::Pending => None,
        };
        let mut places: Vec<_> = (0..MOST).map(|_| place().expect("a place")).collect();
        assert!(place().is_none());
        places.pop();
        assert!(place().is_some());
    }

    #[test]
    fn bytes_beyond_the_bound_are_refused_until_others_are_given_back() {
        let calls = BucketCalls::default();
        let half = calls.keep(MOST_BYTES / 2).expect("half of it");
        let rest = calls.keep(MOST_BYTES / 2).expect("the rest");
        let told = calls.keep(1).expect_err("it is refused");
        assert!(told.contains("hold 64 MiB"), "{told}");
        drop((half, rest));
        let all = calls.keep(usize::MAX).expect("one alone");
        calls.keep(1).expect_err("it is refused");
        drop(all);
        drop(calls.keep(1).expect("there is room"));
    }
}
