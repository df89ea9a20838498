//! State of a service that its instances share (`netwasm:net/shared`).
//!
//! ```text
//!   SharedState (of a service, over all its generations)
//!      |-- Buckets: token buckets, dropped when they are full
//!      |-- Values: bytes that expire, refused when there is no room
//!      v
//!   Table: shards by the hash of the key, each with a lock
//! ```
//!
//! A lock is held for as long as one entry is looked up and changed, and never
//! together with another one. Times are nanoseconds of a clock that begins with
//! the state.

mod buckets;
mod table;
mod values;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use self::buckets::Buckets;
use self::values::Values;
use crate::error::ConnectionError;

pub use self::buckets::{Rate, Taken};
pub use self::table::Use;
pub use self::values::Found;

/// Longest key, in bytes.
const LONGEST_KEY: usize = 256;

/// Longest value, in bytes.
const LONGEST_VALUE: usize = 64 << 10;

/// State of a service that its instances share.
#[derive(Debug)]
pub struct SharedState {
    begun: Instant,
    buckets: Buckets,
    values: Values,
    /// True once the log was told that buckets are lost.
    told_of_buckets: AtomicBool,
    /// True once the log was told that values are refused.
    told_of_values: AtomicBool,
}

impl Default for SharedState {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            buckets: Buckets::default(),
            values: Values::default(),
            told_of_buckets: AtomicBool::default(),
            told_of_values: AtomicBool::default(),
        }
    }
}

impl SharedState {
    /// Takes tokens from a bucket, or none if there are too few. Of `most`
    /// bytes, half are for buckets (`--max-shared`).
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if the key is too long, if the rate or the
    /// burst is none, or if `count` is more than the burst.
    pub fn take(
        &self,
        key: &[u8],
        rate: Rate,
        count: u32,
        most: usize,
    ) -> Result<Taken, ConnectionError> {
        check_key(key)?;
        self.buckets.take(key, rate, count, self.now(), most / 2)
    }

    /// Returns a value.
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        self.values.get(key, self.now())
    }

    /// Sets a value, which expires after so many nanoseconds, and returns its
    /// version. Of `most` bytes, half are for values (`--max-shared`).
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if the key or the data is too long, and with
    /// `LimitExceeded` if there is no room.
    pub fn set(
        &self,
        key: &[u8],
        data: &[u8],
        ttl: Option<u64>,
        most: usize,
    ) -> Result<u64, ConnectionError> {
        check(key, data)?;
        let now = self.now();
        self.values.set(key, data, end(now, ttl), now, most / 2)
    }

    /// Sets a value if the one that is there has this version, or if there is
    /// none. Returns the new version; `None` if it was not set.
    ///
    /// # Errors
    /// Fails as [`Self::set`] does.
    pub fn compare_and_swap(
        &self,
        key: &[u8],
        version: Option<u64>,
        data: &[u8],
        ttl: Option<u64>,
        most: usize,
    ) -> Result<Option<u64>, ConnectionError> {
        check(key, data)?;
        let now = self.now();
        let end = end(now, ttl);
        (self.values).compare_and_swap(key, version, data, end, now, most / 2)
    }

    /// Adds to a counter, which begins at 0 and then expires after so many
    /// nanoseconds. Returns the sum.
    ///
    /// # Errors
    /// Fails with `InvalidState` if the value is no counter, and as
    /// [`Self::set`] does.
    pub fn add(
        &self,
        key: &[u8],
        more: i64,
        ttl: Option<u64>,
        most: usize,
    ) -> Result<i64, ConnectionError> {
        check_key(key)?;
        let now = self.now();
        self.values.add(key, more, end(now, ttl), now, most / 2)
    }

    /// Lets a value expire after so many nanoseconds. Returns false if there is
    /// none.
    pub fn touch(&self, key: &[u8], ttl: Option<u64>) -> bool {
        let now = self.now();
        self.values.touch(key, end(now, ttl), now)
    }

    /// Removes a value, perhaps only if it has this version. Returns true if it
    /// was removed.
    pub fn remove(&self, key: &[u8], version: Option<u64>) -> bool {
        self.values.remove(key, version, self.now())
    }

    /// Returns the numbers of buckets, and their size.
    pub fn buckets(&self) -> Use {
        self.buckets.in_use()
    }

    /// Returns the numbers of values, and their size.
    pub fn values(&self) -> Use {
        self.values.in_use()
    }

    /// True at the first call, for a line of the log about buckets that is
    /// wanted once.
    pub fn is_news_of_buckets(&self) -> bool {
        !self.told_of_buckets.swap(true, Ordering::Relaxed)
    }

    /// True at the first call, for a line of the log about values that is wanted
    /// once.
    pub fn is_news_of_values(&self) -> bool {
        !self.told_of_values.swap(true, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        // 584 years.
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Returns when something ends that begins now; without a length, never.
fn end(now: u64, ttl: Option<u64>) -> u64 {
    ttl.map_or(u64::MAX, |ttl| now.saturating_add(ttl))
}

fn check_key(key: &[u8]) -> Result<(), ConnectionError> {
    match key.len() <= LONGEST_KEY {
        true => Ok(()),
        false => Err(ConnectionError::InvalidArgument),
    }
}

fn check(key: &[u8], data: &[u8]) -> Result<(), ConnectionError> {
    check_key(key)?;
    match data.len() <= LONGEST_VALUE {
        true => Ok(()),
        false => Err(ConnectionError::InvalidArgument),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1 << 20;

    #[test]
    fn keys_and_data_that_are_too_long_are_refused() {
        const WRONG: Option<ConnectionError> = Some(ConnectionError::InvalidArgument);
        let state = SharedState::default();
        let (long, longest) = ([b'k'; 257], [b'k'; 256]);
        let rate = Rate::new(1.0, 1).expect("a rate");
        assert_eq!(state.take(&long, rate, 1, ROOM).err(), WRONG);
        assert_eq!(state.set(&long, b"", None, ROOM).err(), WRONG);
        assert_eq!(state.add(&long, 1, None, ROOM).err(), WRONG);
        let swapped = state.compare_and_swap(&long, None, b"", None, ROOM);
        assert_eq!(swapped.err(), WRONG);
        let data = vec![0; (64 << 10) + 1];
        assert_eq!(state.set(b"a", &data, None, ROOM).err(), WRONG);
        assert_eq!((state.get(&long), state.touch(&long, None)), (None, false));
        assert!(state.take(&longest, rate, 1, ROOM).is_ok());
        assert!(state.set(&longest, &data[1..], None, ROOM).is_ok());
    }

    #[test]
    fn buckets_and_values_have_keys_of_their_own() {
        let state = SharedState::default();
        let rate = Rate::new(1.0, 1).expect("a rate");
        assert!(state.take(b"a", rate, 1, ROOM).is_ok_and(|it| it.is_taken));
        assert_eq!(state.get(b"a"), None);
        assert_eq!(state.add(b"a", 2, None, ROOM), Ok(2));
        assert!(!state.take(b"a", rate, 1, ROOM).is_ok_and(|it| it.is_taken));
        assert_eq!((state.buckets().entries, state.values().entries), (1, 1));
    }
}
