//! The buckets of a service.

use std::collections::HashMap;
use std::sync::Arc;

use netwasm_base::config::{KeyvalueBucket, KeyvalueStore, RedisUrl};
use netwasm_base::meter::BucketMeters;

use crate::bucket::{Bucket, Kind};
use crate::dial::Dial;
use crate::file::{FileBucket, place_of};
use crate::memory::{Memories, MemoryBucket};
use crate::server::RedisBucket;

/// Name of the bucket that guests open without a name.
const DEFAULT: &str = "default";

/// The buckets of a generation of a service.
#[derive(Clone, Debug, Default)]
pub struct Stores(Arc<HashMap<String, Store>>);

#[derive(Debug)]
enum Store {
    Memory(MemoryBucket),
    File(FileBucket),
    Redis(RedisUrl, Arc<dyn Dial>),
}

impl Stores {
    /// Opens the buckets of a service. Those in memory hold `most` bytes together.
    /// Redis servers are looked for when a guest first asks, by `dial`.
    ///
    /// # Errors
    /// Fails with the name of the bucket if its file cannot be opened.
    pub fn open(
        buckets: &[KeyvalueBucket],
        most: usize,
        memories: &Memories,
        dial: &Arc<dyn Dial>,
    ) -> Result<Self, String> {
        let open = |bucket: &KeyvalueBucket| {
            let KeyvalueBucket { name, store } = bucket;
            let store = match store {
                KeyvalueStore::Memory => Store::Memory(memories.bucket(name, most)),
                KeyvalueStore::File(path) => Store::File(
                    FileBucket::open(path)
                        .map_err(|error| format!("the bucket {name} of --keyvalue: {error}"))?,
                ),
                KeyvalueStore::Redis(url) => Store::Redis(url.clone(), Arc::clone(dial)),
            };
            Ok((name.clone(), store))
        };
        let stores = buckets.iter().map(open).collect::<Result<_, String>>()?;
        Ok(Self(Arc::new(stores)))
    }

    /// Checks that the files of buckets can be where they are to be, and makes
    /// none.
    ///
    /// # Errors
    /// Fails with the name of the bucket whose file has no folder.
    pub fn check(buckets: &[KeyvalueBucket]) -> Result<(), String> {
        buckets.iter().try_for_each(|bucket| {
            let KeyvalueBucket { name, store } = bucket;
            let KeyvalueStore::File(path) = store else {
                return Ok(());
            };
            let place = place_of(path);
            place.map_err(|error| format!("the bucket {name} of --keyvalue: {error}"))?;
            Ok(())
        })
    }

    /// Returns the buckets for a worker, which has its own connections and counts
    /// in `meters`.
    #[must_use]
    pub fn of_worker(&self, meters: &BucketMeters) -> Buckets {
        let buckets = self.0.iter().map(|(name, store)| {
            let kind = match store {
                Store::Memory(bucket) => Kind::Memory(bucket.clone()),
                Store::File(bucket) => Kind::File(bucket.clone()),
                Store::Redis(url, dial) => {
                    Kind::Redis(Arc::new(RedisBucket::new(url.clone(), Arc::clone(dial))))
                }
            };
            (name.clone(), Bucket::new(kind, meters.of_thread(name)))
        });
        Buckets(buckets.collect())
    }
}

/// The buckets of a service, for a worker.
#[derive(Debug, Default)]
pub struct Buckets(HashMap<String, Bucket>);

impl Buckets {
    /// Returns the bucket that a guest opens by this name. Without a name, it is
    /// the one that is called `default`.
    #[must_use]
    pub fn bucket(&self, name: &str) -> Option<&Bucket> {
        let name = match name {
            "" => DEFAULT,
            name => name,
        };
        self.0.get(name)
    }
}
