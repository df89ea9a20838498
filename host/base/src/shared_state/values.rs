//! Small values that expire.

use std::sync::atomic::{AtomicU64, Ordering};

use super::table::{Entry, Locked, Table, Use};
use crate::error::ConnectionError;

/// A value, with the version that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub data: Vec<u8>,
    /// Its version.
    pub version: u64,
}

#[derive(Debug)]
struct Value {
    data: Box<[u8]>,
    version: u64,
    end: u64,
}

impl Entry for Value {
    fn end(&self) -> u64 {
        self.end
    }

    fn size(&self) -> usize {
        self.data.len()
    }
}

/// There is no room for a value.
struct NoRoom;

/// The values of a service.
#[derive(Debug, Default)]
pub(super) struct Values {
    table: Table<Value>,
    /// Versions so far.
    versions: AtomicU64,
}

impl Values {
    /// Returns a value.
    pub(super) fn get(&self, key: &[u8], now: u64) -> Option<Found> {
        let shard = self.table.lock(key);
        let value = live(&shard, key, now)?;
        Some(Found {
            data: value.data.to_vec(),
            version: value.version,
        })
    }

    /// Sets a value, and returns its version.
    ///
    /// # Errors
    /// Fails with `LimitExceeded` if there is no room.
    pub(super) fn set(
        &self,
        key: &[u8],
        data: &[u8],
        end: u64,
        now: u64,
        most: usize,
    ) -> Result<u64, ConnectionError> {
        self.with_room(key, now, |shard| self.put(shard, key, data, end, now, most))
    }

    /// Sets a value if there is one of this version, or none. Returns its new
    /// version; `None` if it was not set.
    ///
    /// # Errors
    /// Fails with `LimitExceeded` if there is no room.
    pub(super) fn compare_and_swap(
        &self,
        key: &[u8],
        version: Option<u64>,
        data: &[u8],
        end: u64,
        now: u64,
        most: usize,
    ) -> Result<Option<u64>, ConnectionError> {
        self.with_room(key, now, |shard| {
            if live(shard, key, now).map(|value| value.version) != version {
                return Ok(None);
            }
            self.put(shard, key, data, end, now, most).map(Some)
        })
    }

    /// Adds to a counter, and returns the sum. `end` is that of a new one.
    ///
    /// # Errors
    /// Fails with `InvalidState` if the value is no counter, and with
    /// `LimitExceeded` if there is no room.
    pub(super) fn add(
        &self,
        key: &[u8],
        more: i64,
        end: u64,
        now: u64,
        most: usize,
    ) -> Result<i64, ConnectionError> {
        let added = self.with_room(key, now, |shard| {
            let known = shard.get_mut(key).filter(|value| value.end > now);
            let Some(value) = known else {
                let data = more.to_le_bytes();
                return self
                    .put(shard, key, &data, end, now, most)
                    .map(|_| Ok(more));
            };
            let Ok(number) = <[u8; 8]>::try_from(&*value.data) else {
                return Ok(Err(ConnectionError::InvalidState));
            };
            let sum = i64::from_le_bytes(number).saturating_add(more);
            value.data.copy_from_slice(&sum.to_le_bytes());
            value.version = self.next_version();
            Ok(Ok(sum))
        });
        added?
    }

    /// Lets a value end then. Returns false if there is none.
    pub(super) fn touch(&self, key: &[u8], end: u64, now: u64) -> bool {
        let mut shard = self.table.lock(key);
        let Some(value) = shard.get_mut(key).filter(|value| value.end > now) else {
            return false;
        };
        value.end = end;
        shard.ends(end);
        true
    }

    /// Removes a value, perhaps only if it has this version. Returns true if it
    /// was removed.
    pub(super) fn remove(&self, key: &[u8], version: Option<u64>, now: u64) -> bool {
        let mut shard = self.table.lock(key);
        let Some(value) = live(&shard, key, now) else {
            return false;
        };
        if version.is_some_and(|version| version != value.version) {
            return false;
        }
        shard.remove(key).is_some()
    }

    /// Returns the numbers of values.
    pub(super) fn in_use(&self) -> Use {
        self.table.in_use()
    }

    /// Puts a value in place, and returns its version.
    fn put(
        &self,
        shard: &mut Locked<'_, Value>,
        key: &[u8],
        data: &[u8],
        end: u64,
        now: u64,
        most: usize,
    ) -> Result<u64, NoRoom> {
        let version = self.next_version();
        let value = Value {
            data: data.into(),
            version,
            end,
        };
        match shard.put(key, value, now, most) {
            true => Ok(version),
            false => Err(NoRoom),
        }
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Does something with the shard of a key, and again if there was no room
    /// until expired values were dropped.
    fn with_room<T>(
        &self,
        key: &[u8],
        now: u64,
        mut attempt: impl FnMut(&mut Locked<'_, Value>) -> Result<T, NoRoom>,
    ) -> Result<T, ConnectionError> {
        if let Ok(done) = attempt(&mut self.table.lock(key)) {
            return Ok(done);
        }
        if self.table.sweep(now)
            && let Ok(done) = attempt(&mut self.table.lock(key))
        {
            return Ok(done);
        }
        self.table.refuse();
        Err(ConnectionError::LimitExceeded(
            "the service has no room for another shared value (--max-shared)",
        ))
    }
}

fn live<'a>(shard: &'a Locked<'_, Value>, key: &[u8], now: u64) -> Option<&'a Value> {
    shard.get(key).filter(|value| value.end > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_state::table::OVERHEAD;

    const NEVER: u64 = u64::MAX;
    const ROOM: usize = 1 << 20;

    fn data(values: &Values, key: &str, now: u64) -> Option<Vec<u8>> {
        values.get(key.as_bytes(), now).map(|found| found.data)
    }

    fn is_full<T>(result: &Result<T, ConnectionError>) -> bool {
        matches!(result, Err(ConnectionError::LimitExceeded(_)))
    }

    #[test]
    fn a_value_is_there_until_it_expires() {
        let values = Values::default();
        assert_eq!(values.get(b"a", 0), None);
        let first = values.set(b"a", b"one", 10, 0, ROOM).expect("room");
        let found = values.get(b"a", 9).expect("a value");
        assert_eq!((&*found.data, found.version), (&b"one"[..], first));
        assert_eq!(values.get(b"a", 10), None);
        assert!(!values.touch(b"a", NEVER, 10) && !values.remove(b"a", None, 10));
        let second = values.set(b"a", b"two", NEVER, 10, ROOM).expect("room");
        assert!(second > first);
        assert!(values.touch(b"a", 20, 10));
        assert_eq!(values.get(b"a", 19).map(|it| it.version), Some(second));
        assert_eq!(values.get(b"a", 20), None);
        let in_use = values.in_use();
        assert_eq!((in_use.entries, in_use.bytes), (1, 1 + 3 + OVERHEAD));
    }

    #[test]
    fn a_swap_needs_the_version_that_is_there() {
        let values = Values::default();
        let swap = |version, data: &str, now| {
            let swapped = values.compare_and_swap(b"a", version, data.as_bytes(), 10, now, ROOM);
            swapped.expect("room")
        };
        let first = swap(None, "one", 0).expect("there was none");
        assert_eq!(swap(None, "two", 0), None, "there is one");
        let second = swap(Some(first), "two", 0).expect("it is that one");
        assert_eq!(swap(Some(first), "three", 0), None, "it is another one");
        assert_eq!(data(&values, "a", 0), Some(b"two".to_vec()));
        assert_eq!(swap(Some(second), "three", 10), None, "it has expired");
        assert!(swap(None, "four", 10).is_some());
        assert!(!values.remove(b"a", Some(second), 10));
        assert_eq!(values.get(b"a", 10), None, "its end is 10, too");
    }

    #[test]
    fn a_counter_keeps_its_end_and_its_range() {
        let values = Values::default();
        let add = |more, end, now| values.add(b"a", more, end, now, ROOM);
        assert_eq!(add(5, 10, 0), Ok(5));
        assert_eq!(add(-7, 99, 9), Ok(-2));
        assert_eq!(add(1, 20, 10), Ok(1), "the first one has expired");
        assert_eq!(data(&values, "a", 10), Some(1_i64.to_le_bytes().to_vec()));
        assert_eq!(add(i64::MAX, 20, 10), Ok(i64::MAX));
        let before = values.get(b"a", 10).expect("a counter").version;
        assert_eq!(add(i64::MIN, 20, 10), Ok(-1));
        assert!(values.get(b"a", 10).is_some_and(|it| it.version > before));
        values.set(b"a", b"text", NEVER, 10, ROOM).expect("room");
        assert_eq!(add(1, 20, 10), Err(ConnectionError::InvalidState));
        assert_eq!(data(&values, "a", 10), Some(b"text".to_vec()));
    }

    #[test]
    fn a_full_store_keeps_what_it_has() {
        let values = Values::default();
        let most = 10 * (OVERHEAD + 1 + 100);
        let set = |key: char, size, end, now| {
            let key = key.to_string();
            values.set(key.as_bytes(), &vec![0; size], end, now, most)
        };
        for key in 'a'..='j' {
            assert!(set(key, 100, 50, 0).is_ok());
        }
        assert!(is_full(&set('k', 0, 50, 49)));
        assert!(is_full(&set('a', 101, 50, 49)));
        assert!(is_full(&values.add(b"k", 1, 50, 49, most)));
        assert_eq!(values.in_use().lost, 3);
        assert_eq!(data(&values, "a", 49).map(|it| it.len()), Some(100));
        // Less, and one in the place of another, is always possible.
        assert!(set('a', 99, NEVER, 49).is_ok());
        assert!(set('a', 100, NEVER, 49).is_ok());
        assert!(values.touch(b"b", NEVER, 49));
        // All others have expired.
        assert!(set('k', 0, 60, 50).is_ok());
        assert_eq!(values.in_use().entries, 3);
        assert!(values.remove(b"a", None, 50) && values.remove(b"b", None, 50));
        let in_use = values.in_use();
        assert_eq!((in_use.entries, in_use.bytes), (1, OVERHEAD + 1));
        assert!(is_full(&set('l', 64 << 10, 60, 50)), "more than all");
    }

    #[test]
    fn expired_values_do_not_gather() {
        let values = Values::default();
        for number in 0..10_000_u32 {
            let (key, now) = (number.to_le_bytes(), u64::from(number));
            values.set(&key, b"x", now + 10, now, ROOM).expect("room");
        }
        let in_use = values.in_use();
        assert!(in_use.entries < 1_000, "{in_use:?}");
    }

    #[test]
    fn threads_that_swap_lose_nothing() {
        let values = Values::default();
        let count = |values: &Values| loop {
            let found = values.get(b"a", 0);
            let (version, number) = found.map_or((None, 0), |it| (Some(it.version), it.data[0]));
            let swapped = values.compare_and_swap(b"a", version, &[number + 1], 1, 0, ROOM);
            if swapped.expect("room").is_some() {
                break;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| count(&values)));
            }
        });
        assert_eq!(data(&values, "a", 0), Some(vec![200]));
    }
}
