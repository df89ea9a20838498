//! Buckets in memory. All of a service are bounded together, and outlive its
//! generations.
//!
//! Entries are ordered by a hash of their key, so that a list goes on where it
//! was whatever is written in between.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::answer::{Error, Outcome, PAGE, Page, Swap, Value, check_sum, sum};

/// Parts of a bucket, each with its lock.
const SHARDS: usize = 16;

/// Bytes that an entry takes besides its key and value, about.
const OVERHEAD: usize = 128;

/// The buckets in memory of a service.
#[derive(Debug, Default)]
pub struct Memories {
    buckets: Mutex<HashMap<String, Arc<Memory>>>,
    room: Arc<Room>,
}

impl Memories {
    /// Returns the bucket of a name, which may make all buckets hold this many
    /// bytes.
    pub(crate) fn bucket(&self, name: &str, most: usize) -> MemoryBucket {
        let mut buckets = lock(&self.buckets);
        let make = || {
            Arc::new(Memory {
                hasher: RandomState::new(),
                shards: Default::default(),
                room: Arc::clone(&self.room),
            })
        };
        let memory = buckets.entry(name.to_owned()).or_insert_with(make);
        MemoryBucket {
            memory: Arc::clone(memory),
            most,
        }
    }
}

/// Bytes that all buckets of a service hold.
#[derive(Debug, Default)]
struct Room {
    used: AtomicUsize,
    told: AtomicBool,
}

impl Room {
    /// Changes the size of an entry.
    fn change(&self, before: usize, after: usize, most: usize) -> Outcome<()> {
        let Some(more) = after.checked_sub(before) else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
            return Ok(());
        };
        let fits = |used: usize| used.checked_add(more).filter(|used| *used <= most);
        let taken = (self.used).fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if more == 0 || taken.is_ok() {
            return Ok(());
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "buckets in memory fill their {most} bytes: more is refused until some of it is \
                 deleted (--max-keyvalue)"
            );
        }
        Err(Error::new(
            "the buckets in memory are full: delete keys, or allow more (--max-keyvalue)",
        ))
    }
}

#[derive(Debug)]
struct Memory {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    room: Arc<Room>,
}

/// Entries by the hash of their key.
type Shard = BTreeMap<u64, Vec<Entry>>;

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    value: Value,
}

/// A bucket in memory, and the limit of a generation.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBucket {
    memory: Arc<Memory>,
    most: usize,
}

impl MemoryBucket {
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        let (shard, place) = self.shard(key);
        Some(Arc::clone(&find(&shard, place, key)?.value))
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Outcome<Vec<Option<Value>>> {
        let mut bytes = 0;
        let one = |key: &String| {
            let value = self.get(key);
            bytes += value.as_ref().map_or(0, |value| value.len());
            check_sum(bytes)?;
            Ok(value)
        };
        keys.iter().map(one).collect()
    }

    pub(crate) fn set(&self, key: &str, value: Value) -> Outcome<()> {
        let (mut shard, place) = self.shard(key);
        self.put(&mut shard, place, key, Some(value))
    }

    pub(crate) fn delete(&self, key: &str) -> Outcome<()> {
        let (mut shard, place) = self.shard(key);
        self.put(&mut shard, place, key, None)
    }

    pub(crate) fn increment(&self, key: &str, by: i128, range: (i128, i128)) -> Outcome<i128> {
        let (mut shard, place) = self.shard(key);
        let before = find(&shard, place, key).map(|it| &*it.value);
        let sum = sum(before, by, range)?;
        let value = Value::from(sum.to_string().into_bytes());
        self.put(&mut shard, place, key, Some(value))?;
        Ok(sum)
    }

    pub(crate) fn swap(&self, key: &str, expected: Option<&[u8]>, value: Value) -> Outcome<Swap> {
        let (mut shard, place) = self.shard(key);
        let before = find(&shard, place, key).map(|it| &it.value);
        if before.map(|it| &**it) != expected {
            return Ok(Swap::Differs(before.map(Arc::clone)));
        }
        self.put(&mut shard, place, key, Some(value))?;
        Ok(Swap::Done)
    }

    pub(crate) fn list(&self, from: u64) -> Page {
        let mut page = Page::default();
        for (number, shard) in self.memory.shards.iter().enumerate() {
            if number < shard_of(from) {
                continue;
            }
            for (place, entries) in lock(shard).range(from..) {
                // Keys of one place are never on two pages.
                if page.keys.len() >= PAGE {
                    page.next = Some(*place);
                    return page;
                }
                let keys = entries.iter().map(|entry| entry.key.to_string());
                page.keys.extend(keys);
            }
        }
        page
    }

    fn shard(&self, key: &str) -> (MutexGuard<'_, Shard>, u64) {
        let place = self.memory.hasher.hash_one(key);
        // There is one for each place.
        let shard = &self.memory.shards[shard_of(place)];
        (lock(shard), place)
    }

    /// Sets or deletes an entry.
    fn put(&self, shard: &mut Shard, place: u64, key: &str, value: Option<Value>) -> Outcome<()> {
        let size = |length: usize| length + key.len() + OVERHEAD;
        let after = value.as_ref().map_or(0, |it| size(it.len()));
        let before = find(shard, place, key).map_or(0, |it| size(it.value.len()));
        self.memory.room.change(before, after, self.most)?;
        let Some(value) = value else {
            if let Some(entries) = shard.get_mut(&place) {
                entries.retain(|entry| *entry.key != *key);
                if entries.is_empty() {
                    shard.remove(&place);
                }
            }
            return Ok(());
        };
        let entries = shard.entry(place).or_default();
        match entries.iter_mut().find(|entry| *entry.key == *key) {
            Some(entry) => entry.value = value,
            None => entries.push(Entry {
                key: key.into(),
                value,
            }),
        }
        Ok(())
    }
}

/// Returns the number of the shard of a hash: its highest bits, so that shards
/// are in the order of hashes.
fn shard_of(place: u64) -> usize {
    usize::try_from(place >> (u64::BITS - SHARDS.ilog2())).unwrap_or(0)
}

fn find<'a>(shard: &'a Shard, place: u64, key: &str) -> Option<&'a Entry> {
    let mut entries = shard.get(&place)?.iter();
    entries.find(|entry| *entry.key == *key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn value(text: &str) -> Value {
        Value::from(text.as_bytes())
    }

    #[test]
    fn a_list_has_each_key_once_whatever_is_deleted_meanwhile() {
        let bucket = Memories::default().bucket("a", usize::MAX);
        let all: BTreeSet<String> = (0..3500).map(|number| number.to_string()).collect();
        for key in &all {
            bucket.set(key, value("x")).expect("there is room");
        }
        let (mut found, mut from, mut pages) = (Vec::new(), Some(0), 0);
        while let Some(at) = from {
            let page = bucket.list(at);
            for key in page.keys.iter().take(10) {
                bucket.delete(key).expect("it is there");
            }
            found.extend(page.keys);
            (from, pages) = (page.next, pages + 1);
        }
        assert_eq!(pages, 4);
        assert_eq!(found.len(), all.len());
        assert_eq!(BTreeSet::from_iter(found), all);
        assert_eq!(bucket.list(u64::MAX).next, None);
    }

    #[test]
    fn buckets_are_bounded_together_and_give_back_what_is_deleted() {
        let memories = Memories::default();
        let (one, other) = (memories.bucket("a", 1000), memories.bucket("b", 1000));
        one.set("k", value(&"x".repeat(800)))
            .expect("there is room");
        let full = other.set("k", value("x")).expect_err("there is none");
        assert!(full.to_string().contains("--max-keyvalue"), "{full}");
        one.set("k", value("x")).expect("it is smaller");
        other
            .set("k", value(&"x".repeat(600)))
            .expect("there is room");
        one.set("k", value(&"x".repeat(600)))
            .expect_err("there is none");
        assert_eq!(one.get("k"), Some(value("x")), "it is as it was");
        other.delete("k").expect("it is there");
        other.delete("k").expect("it does nothing");
        one.set("k", value(&"x".repeat(800)))
            .expect("there is room");
        assert_eq!(
            memories.bucket("a", 1).get("k").map(|it| it.len()),
            Some(800)
        );
    }

    #[test]
    fn a_counter_keeps_to_the_range_of_its_type() {
        let bucket = Memories::default().bucket("a", 1000);
        let unsigned = (0, u64::MAX.into());
        assert_eq!(bucket.increment("n", 5, unsigned), Ok(5));
        assert_eq!(bucket.get("n"), Some(value("5")));
        assert!(bucket.increment("n", u64::MAX.into(), unsigned).is_err());
        let signed = (i64::MIN.into(), i64::MAX.into());
        assert_eq!(bucket.increment("n", -7, signed), Ok(-2));
        assert!(bucket.increment("n", 1, unsigned).is_err());
        bucket.set("n", value("x")).expect("there is room");
        assert!(bucket.increment("n", 1, signed).is_err());
    }

    #[test]
    fn a_swap_needs_the_value_that_was_read() {
        let bucket = Memories::default().bucket("a", 1000);
        let some = |text: &str| Some(value(text));
        assert_eq!(bucket.swap("k", None, value("1")), Ok(Swap::Done));
        let differs = Ok(Swap::Differs(some("1")));
        assert_eq!(bucket.swap("k", None, value("2")), differs);
        assert_eq!(bucket.swap("k", Some(b"0"), value("2")), differs);
        assert_eq!(bucket.swap("k", Some(b"1"), value("2")), Ok(Swap::Done));
        bucket.delete("k").expect("it is there");
        let gone = Ok(Swap::Differs(None));
        assert_eq!(bucket.swap("k", Some(b"2"), value("3")), gone);
    }
}
