//! Entries by key, in shards with a lock each, and how much room they take.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;

/// Number of shards: more than there are threads, mostly.
const SHARDS: usize = 64;

/// Bytes that an entry takes besides its key and data: itself, twice because of
/// the spare places of a map that grows by doubling, and two allocations.
pub(super) const OVERHEAD: usize = 160;

/// Entries that are compared to find one to drop.
const SAMPLE: usize = 8;

/// Entries that are looked at whenever one is added, and dropped if they have
/// ended: so no more than half of all are kept for nothing.
const LOOKED_AT: usize = 2;

/// An entry that ends by itself.
pub(super) trait Entry {
    /// Returns when it is as good as none.
    fn end(&self) -> u64;

    /// Returns the size of its data, in bytes.
    fn size(&self) -> usize {
        0
    }
}

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Entries at present, also those that have ended and were not looked at
    /// since.
    pub entries: usize,
    /// Their size, in bytes.
    pub bytes: usize,
    /// Entries that were dropped before their end, or not taken, for want of
    /// room.
    pub lost: u64,
}

/// Entries by key.
#[derive(Debug)]
pub(super) struct Table<E> {
    hasher: RandomState,
    shards: Box<[Shard<E>]>,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// On lines of the processor's cache that no other shard is on.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<E>(Mutex<Entries<E>>);

#[derive(Debug)]
struct Entries<E> {
    map: IndexMap<Box<[u8]>, E, RandomState>,
    /// State of a generator of random numbers.
    random: u64,
    /// No entry ends before this.
    next_end: u64,
}

impl<E: Entry> Default for Table<E> {
    fn default() -> Self {
        let hasher = RandomState::new();
        let shard = |number| {
            Shard(Mutex::new(Entries {
                // Another hasher for each: of the keys of a shard, those of one
                // hasher would have some bits in common.
                map: IndexMap::default(),
                random: hasher.hash_one(number),
                next_end: u64::MAX,
            }))
        };
        Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher,
            entries: AtomicUsize::default(),
            bytes: AtomicUsize::default(),
            lost: AtomicU64::default(),
        }
    }
}

impl<E: Entry> Table<E> {
    /// Locks the shard of a key.
    pub(super) fn lock(&self, key: &[u8]) -> Locked<'_, E> {
        self.lock_shard(self.number(key))
    }

    fn number(&self, key: &[u8]) -> usize {
        let hash = self.hasher.hash_one(key);
        // It is less than the number of shards.
        usize::try_from(hash % SHARDS as u64).unwrap_or_default()
    }

    fn lock_shard(&self, number: usize) -> Locked<'_, E> {
        let Shard(mutex) = &self.shards[number];
        Locked {
            table: self,
            // No code panics while it holds the lock.
            entries: mutex.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Drops entries until no more than `most` bytes are in use: first those
    /// that have ended, then those that end soon, as far as a sample shows.
    /// That of `key` stays. Returns the number of those that had not ended.
    pub(super) fn make_room(&self, key: &[u8], now: u64, most: usize) -> u64 {
        let mut lost = 0;
        while self.bytes.load(Ordering::Relaxed) > most {
            let Some((end, dropped)) = self.first_of_sample(key) else {
                break;
            };
            // Another thread may have been here first.
            let is_gone = self.lock(&dropped).remove(&dropped).is_some();
            lost += u64::from(is_gone && end > now);
        }
        self.lost.fetch_add(lost, Ordering::Relaxed);
        lost
    }

    /// Returns the end and the key of an entry that ends before others of a
    /// sample: of the shard of this key, and of the next ones if that has few.
    fn first_of_sample(&self, but: &[u8]) -> Option<(u64, Box<[u8]>)> {
        let own = self.number(but);
        let (mut first, mut seen) = (None, 0);
        for step in 0..SHARDS {
            let mut shard = self.lock_shard((own + step) % SHARDS);
            seen += shard.sample(but, &mut first);
            if seen >= SAMPLE {
                break;
            }
        }
        first
    }

    /// Drops all entries that have ended. Returns false if there are none.
    pub(super) fn sweep(&self, now: u64) -> bool {
        let mut found = false;
        for number in 0..SHARDS {
            found |= self.lock_shard(number).sweep(now);
        }
        found
    }

    /// Counts an entry that found no room.
    pub(super) fn refuse(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the numbers of entries.
    pub(super) fn in_use(&self) -> Use {
        Use {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

/// A shard of a table, locked.
pub(super) struct Locked<'a, E> {
    table: &'a Table<E>,
    entries: MutexGuard<'a, Entries<E>>,
}

impl<E: Entry> Locked<'_, E> {
    /// Returns an entry, even if it has ended.
    pub(super) fn get(&self, key: &[u8]) -> Option<&E> {
        self.entries.map.get(key)
    }

    /// Returns an entry to change. Its size must stay. Where a table is swept, an
    /// earlier end is told by [`Self::ends`].
    pub(super) fn get_mut(&mut self, key: &[u8]) -> Option<&mut E> {
        self.entries.map.get_mut(key)
    }

    /// Notes that an entry ends then.
    pub(super) fn ends(&mut self, end: u64) {
        self.entries.next_end = self.entries.next_end.min(end);
    }

    /// Adds an entry, or replaces it. Fails if more than `most` bytes would then
    /// be in use.
    pub(super) fn put(&mut self, key: &[u8], entry: E, now: u64, most: usize) -> bool {
        let new = entry.size();
        let known = self.entries.map.get_mut(key);
        let old = known.as_ref().map(|it| it.size());
        let more = match old {
            Some(old) => new.saturating_sub(old),
            None => key.len() + OVERHEAD + new,
        };
        let bytes = &self.table.bytes;
        if bytes
            .fetch_add(more, Ordering::Relaxed)
            .saturating_add(more)
            > most
            && more > 0
        {
            bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        bytes.fetch_sub(old.unwrap_or(0).saturating_sub(new), Ordering::Relaxed);
        let end = entry.end();
        match known {
            Some(known) => *known = entry,
            None => {
                self.entries.map.insert(key.into(), entry);
                self.table.entries.fetch_add(1, Ordering::Relaxed);
                self.drop_ended(now);
            }
        }
        self.ends(end);
        true
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<E> {
        let (place, ..) = self.entries.map.get_full(key)?;
        self.remove_at(place)
    }

    fn remove_at(&mut self, place: usize) -> Option<E> {
        let (key, entry) = self.entries.map.swap_remove_index(place)?;
        self.forget(1, key.len() + OVERHEAD + entry.size());
        Some(entry)
    }

    fn forget(&self, entries: usize, bytes: usize) {
        self.table.entries.fetch_sub(entries, Ordering::Relaxed);
        self.table.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Looks at some entries, and drops those that have ended.
    fn drop_ended(&mut self, now: u64) {
        for _ in 0..LOOKED_AT {
            let place = self.place();
            let entry = self.entries.map.get_index(place);
            if entry.is_some_and(|(_, entry)| entry.end() <= now) {
                self.remove_at(place);
            }
        }
    }

    /// Looks at a sample of the entries, but not that of this key. Leaves the
    /// end and the key of the one that ends first in `first`, unless what is
    /// there ends before. Returns the number of entries.
    fn sample(&mut self, but: &[u8], first: &mut Option<(u64, Box<[u8]>)>) -> usize {
        let entries = self.entries.map.len();
        let mut found: Option<(u64, usize)> = None;
        for step in 0..entries.min(SAMPLE) {
            let place = if entries <= SAMPLE {
                step
            } else {
                self.place()
            };
            if let Some((key, entry)) = self.entries.map.get_index(place)
                && **key != *but
            {
                let one = (entry.end(), place);
                found = Some(found.map_or(one, |found| found.min(one)));
            }
        }
        if let Some((end, place)) = found
            && first.as_ref().is_none_or(|(other, _)| end < *other)
            && let Some((key, _)) = self.entries.map.get_index(place)
        {
            *first = Some((end, key.clone()));
        }
        entries
    }

    /// Drops all entries that have ended. Returns false if there are none.
    fn sweep(&mut self, now: u64) -> bool {
        if self.entries.next_end > now {
            return false;
        }
        let (mut entries, mut bytes, mut next_end) = (0, 0, u64::MAX);
        self.entries.map.retain(|key, entry| {
            let end = entry.end();
            if end > now {
                next_end = next_end.min(end);
                return true;
            }
            entries += 1;
            bytes += key.len() + OVERHEAD + entry.size();
            false
        });
        self.entries.next_end = next_end;
        self.forget(entries, bytes);
        entries > 0
    }

    /// Returns a place in the map by chance (xorshift64, Marsaglia 2003).
    fn place(&mut self) -> usize {
        let entries = &mut *self.entries;
        let mut random = entries.random.max(1);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        entries.random = random;
        let most = entries.map.len().max(1) as u64;
        usize::try_from((random >> 16) % most).unwrap_or_default()
    }
}
