//! A bucket of any store.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use netwasm_base::meter::{Measure, Meter};

use crate::answer::{Answer, Error, MAX_KEY, Outcome, Page, Swap, Value, check_sum};
use crate::committing::{Change, Done};
use crate::file::FileBucket;
use crate::memory::MemoryBucket;
use crate::server::RedisBucket;

/// A bucket, as a thread uses it: only that thread may call it. Clones are the
/// same one.
#[derive(Clone, Debug)]
pub struct Bucket {
    kind: Kind,
    meter: Arc<Meter>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Memory(MemoryBucket),
    File(FileBucket),
    Redis(Arc<RedisBucket>),
}

/// Type of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// 0 to 2⁶⁴ - 1.
    Unsigned,
    /// -2⁶³ to 2⁶³ - 1.
    Signed,
}

impl Count {
    fn range(self) -> (i128, i128) {
        match self {
            Self::Unsigned => (0, u64::MAX.into()),
            Self::Signed => (i64::MIN.into(), i64::MAX.into()),
        }
    }
}

/// Checks the keys of an operation, and returns a failed answer with the first
/// that is too long.
macro_rules! check {
    ($keys:expr) => {
        if let Err(error) = check($keys) {
            return Answer::failed(error);
        }
    };
}

impl Bucket {
    pub(crate) fn new(kind: Kind, meter: Arc<Meter>) -> Self {
        Self { kind, meter }
    }

    /// True if its answers come over the network, which a handler of events cannot
    /// wait for.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.kind, Kind::Redis(_))
    }

    /// Returns the value of a key.
    pub fn get(&self, key: String) -> Answer<Option<Value>> {
        self.counted(self.kind.get(key))
    }

    /// Returns the values of keys, in their order: 32 MiB of them at most.
    pub fn get_many(&self, keys: Vec<String>) -> Answer<Vec<Option<Value>>> {
        self.counted(self.kind.get_many(keys))
    }

    /// True if a key has a value.
    pub fn exists(&self, key: String) -> Answer<bool> {
        self.counted(self.kind.exists(key))
    }

    /// Sets keys, or deletes those without a value. In a file, all are set or
    /// none.
    pub fn write(&self, writes: Vec<(String, Option<Vec<u8>>)>) -> Answer<()> {
        self.counted(self.kind.write(writes))
    }

    /// Sets a key.
    pub fn set(&self, key: String, value: Vec<u8>) -> Answer<()> {
        self.counted(self.kind.set(key, value))
    }

    /// Deletes a key; one that is not there is no error.
    pub fn delete(&self, key: String) -> Answer<()> {
        self.write(vec![(key, None)])
    }

    /// Adds to a counter atomically, and returns the sum.
    pub fn increment(&self, key: String, by: i128, count: Count) -> Answer<i128> {
        self.counted(self.kind.increment(key, by, count))
    }

    /// Sets a key if its value is the expected one, `None` being no value.
    pub fn swap(&self, key: String, expected: Option<Value>, value: Vec<u8>) -> Answer<Swap> {
        self.counted(self.kind.swap(key, expected, value))
    }

    /// Returns all of its keys: 32 MiB of them at most.
    pub fn keys(&self) -> Answer<Vec<String>> {
        self.counted(Answer::later(all_keys(self.kind.clone())))
    }

    /// Returns some of its keys, from a place that a page before named. Zero is
    /// the begin.
    pub fn list(&self, from: u64) -> Answer<Page> {
        self.counted(self.kind.list(from))
    }

    /// Counts an operation, and one that fails.
    fn counted<T: Send + 'static>(&self, answer: Answer<T>) -> Answer<T> {
        self.meter.add(Measure::BucketCalls, 1);
        match answer {
            Answer::Now(outcome) => {
                count_failure(&self.meter, &outcome);
                Answer::Now(outcome)
            }
            Answer::Later(later) => {
                let meter = Arc::clone(&self.meter);
                Answer::later(async move {
                    let outcome = later.await;
                    count_failure(&meter, &outcome);
                    outcome
                })
            }
        }
    }
}

fn count_failure<T>(meter: &Meter, outcome: &Outcome<T>) {
    if outcome.is_err() {
        meter.add(Measure::BucketFailures, 1);
    }
}

impl Kind {
    fn get(&self, key: String) -> Answer<Option<Value>> {
        check!([&*key]);
        match self {
            Self::Memory(bucket) => Answer::Now(Ok(bucket.get(&key))),
            Self::File(bucket) => bucket.get(key),
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.get(&key).await })
            }
        }
    }

    fn get_many(&self, keys: Vec<String>) -> Answer<Vec<Option<Value>>> {
        check!(keys.iter().map(|key| &**key));
        match self {
            Self::Memory(bucket) => Answer::Now(bucket.get_many(&keys)),
            Self::File(bucket) => bucket.get_many(keys),
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.get_many(&keys).await })
            }
        }
    }

    fn exists(&self, key: String) -> Answer<bool> {
        check!([&*key]);
        match self {
            Self::Memory(bucket) => Answer::Now(Ok(bucket.get(&key).is_some())),
            Self::File(bucket) => match bucket.get(key) {
                Answer::Now(found) => Answer::Now(found.map(|it| it.is_some())),
                Answer::Later(found) => Answer::later(async move { Ok(found.await?.is_some()) }),
            },
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.exists(&key).await })
            }
        }
    }

    fn write(&self, writes: Vec<(String, Option<Vec<u8>>)>) -> Answer<()> {
        check!(writes.iter().map(|(key, _)| &**key));
        match self {
            Self::Memory(bucket) => {
                let mut writes = writes.into_iter();
                Answer::Now(writes.try_for_each(|(key, value)| match value {
                    Some(value) => bucket.set(&key, value.into()),
                    None => bucket.delete(&key),
                }))
            }
            Self::File(bucket) => {
                changed(bucket.change(Change::Write(writes)), |done| match done {
                    Done::Written => Some(()),
                    _ => None,
                })
            }
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.write(&writes).await })
            }
        }
    }

    fn set(&self, key: String, value: Vec<u8>) -> Answer<()> {
        match self {
            Self::Memory(bucket) => {
                check!([&*key]);
                Answer::Now(bucket.set(&key, value.into()))
            }
            _ => self.write(vec![(key, Some(value))]),
        }
    }

    fn increment(&self, key: String, by: i128, count: Count) -> Answer<i128> {
        check!([&*key]);
        let range = count.range();
        match self {
            Self::Memory(bucket) => Answer::Now(bucket.increment(&key, by, range)),
            Self::File(bucket) => {
                let change = Change::Increment { key, by, range };
                changed(bucket.change(change), |done| match done {
                    Done::Counted(sum) => Some(sum),
                    _ => None,
                })
            }
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.increment(&key, by, range).await })
            }
        }
    }

    fn swap(&self, key: String, expected: Option<Value>, value: Vec<u8>) -> Answer<Swap> {
        check!([&*key]);
        match self {
            Self::Memory(bucket) => {
                Answer::Now(bucket.swap(&key, expected.as_deref(), value.into()))
            }
            Self::File(bucket) => {
                let expected = expected.as_deref().map(Into::into);
                let change = Change::Swap {
                    key,
                    expected,
                    value,
                };
                changed(bucket.change(change), |done| match done {
                    Done::Swapped(swap) => Some(swap),
                    _ => None,
                })
            }
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.swap(&key, expected.as_deref(), &value).await })
            }
        }
    }

    fn list(&self, from: u64) -> Answer<Page> {
        match self {
            Self::Memory(bucket) => Answer::Now(Ok(bucket.list(from))),
            Self::File(bucket) => bucket.list(from),
            Self::Redis(bucket) => {
                let bucket = Arc::clone(bucket);
                Answer::later(async move { bucket.list(from).await })
            }
        }
    }
}

/// Returns all keys of a bucket, a page at a time: others go on in between.
async fn all_keys(bucket: Kind) -> Outcome<Vec<String>> {
    let (mut keys, mut from, mut bytes) = (Vec::new(), Some(0), 0);
    while let Some(at) = from {
        let page = match bucket.list(at) {
            Answer::Now(page) => page?,
            Answer::Later(page) => page.await?,
        };
        let size = |key: &String| size_of::<String>() + key.len();
        bytes += page.keys.iter().map(size).sum::<usize>();
        check_sum(bytes)?;
        keys.extend(page.keys);
        from = page.next;
        give_way().await;
    }
    Ok(keys)
}

/// Lets other tasks go on. Not by tokio, as a handler of events waits for its keys
/// within a task, of which tokio wakes none before it ends.
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| match std::mem::replace(&mut given, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Returns what a change of a file resulted in.
fn changed<T: Send + 'static>(
    answer: Answer<Done>,
    part: impl FnOnce(Done) -> Option<T> + Send + 'static,
) -> Answer<T> {
    let of = |done| part(done).ok_or_else(|| Error::new("the store answered something else"));
    match answer {
        Answer::Now(done) => Answer::Now(done.and_then(of)),
        Answer::Later(done) => Answer::later(async move { of(done.await?) }),
    }
}

fn check<'a>(keys: impl IntoIterator<Item = &'a str>) -> Outcome<()> {
    match keys.into_iter().any(|key| key.len() > MAX_KEY) {
        true => Err(Error::new("a key has more than 8 KiB: take a shorter one")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::memory::Memories;

    #[test]
    fn all_keys_of_a_large_bucket_are_read_with_pauses() {
        let bucket = Bucket {
            kind: Kind::Memory(Memories::default().bucket("a", usize::MAX)),
            meter: Arc::default(),
        };
        for number in 0..2500 {
            let answer = bucket.set(number.to_string(), vec![1]);
            assert!(matches!(answer, Answer::Now(Ok(()))));
        }
        let Answer::Later(mut keys) = bucket.keys() else {
            panic!("it takes time");
        };
        let mut pauses = 0;
        let keys = loop {
            match keys.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => pauses += 1,
                Poll::Ready(keys) => break keys.expect("they are read"),
            }
        };
        assert_eq!((keys.len(), pauses), (2500, 3));
    }
}
