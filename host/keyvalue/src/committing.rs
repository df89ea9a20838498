//! Changes of a file, and the thread that commits them.

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::answer::{Outcome, Swap, sum};
use crate::file::{File, TABLE, find, place};

/// Most changes of one commit.
const MOST: usize = 4096;

/// A change of a file.
#[derive(Debug)]
pub(crate) enum Change {
    /// Sets keys, or deletes those without a value.
    Write(Vec<(String, Option<Vec<u8>>)>),
    Increment {
        key: String,
        by: i128,
        range: (i128, i128),
    },
    Swap {
        key: String,
        expected: Option<Box<[u8]>>,
        value: Vec<u8>,
    },
    #[cfg(test)]
    Panic,
}

impl Change {
    /// Returns the size of its keys and values, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Write(writes) => {
                let size = |(key, value): &(String, Option<Vec<u8>>)| {
                    key.len() + value.as_ref().map_or(0, Vec::len)
                };
                writes.iter().map(size).sum()
            }
            Self::Increment { key, .. } => key.len(),
            Self::Swap {
                key,
                expected,
                value,
            } => key.len() + expected.as_ref().map_or(0, |it| it.len()) + value.len(),
            #[cfg(test)]
            Self::Panic => 0,
        }
    }

    /// Makes the change. The inner result is its own, the outer one the file's.
    fn apply(&self, table: &mut Table<'_>) -> Result<Outcome<Done>, redb::Error> {
        Ok(match self {
            Self::Write(writes) => {
                for (key, value) in writes {
                    let place = (place(key), &**key);
                    match value {
                        Some(value) => drop(table.insert(place, &**value)?),
                        None => drop(table.remove(place)?),
                    }
                }
                Ok(Done::Written)
            }
            Self::Increment { key, by, range } => {
                let before = find(table, key)?;
                let sum = sum(before.as_deref(), *by, *range);
                if let Ok(sum) = sum {
                    let digits = sum.to_string();
                    table.insert((place(key), &**key), digits.as_bytes())?;
                }
                sum.map(Done::Counted)
            }
            Self::Swap {
                key,
                expected,
                value,
            } => {
                let before = find(table, key)?;
                Ok(Done::Swapped(
                    match before.as_deref() == expected.as_deref() {
                        true => {
                            table.insert((place(key), &**key), &**value)?;
                            Swap::Done
                        }
                        false => Swap::Differs(before),
                    },
                ))
            }
            #[cfg(test)]
            Self::Panic => panic!("for a test"),
        })
    }
}

type Table<'a> = redb::Table<'a, (u64, &'static str), &'static [u8]>;

/// Result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Written,
    Counted(i128),
    Swapped(Swap),
}

/// A change that waits to be committed.
#[derive(Debug)]
pub(crate) struct Job {
    change: Change,
    reply: oneshot::Sender<Outcome<Done>>,
    _room: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn new(
        change: Change,
        reply: oneshot::Sender<Outcome<Done>>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            change,
            reply,
            _room: room,
        }
    }
}

/// Commits changes until no bucket is left: all that wait at once.
pub(crate) fn run(file: &File, mut waiting: UnboundedReceiver<Job>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut jobs = vec![first];
        while jobs.len() < MOST {
            match waiting.try_recv() {
                Ok(job) => jobs.push(job),
                Err(_) => break,
            }
        }
        match file.guarded(|| commit(file, &jobs)) {
            Ok(done) => {
                for (job, done) in jobs.into_iter().zip(done) {
                    // Whoever asked may have ended.
                    let _ = job.reply.send(done);
                }
            }
            Err(error) => {
                for job in jobs {
                    let _ = job.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Makes all of these changes, or none.
fn commit(file: &File, jobs: &[Job]) -> Outcome<Vec<Outcome<Done>>> {
    let database = file.database()?;
    let commit = || {
        let write = database.begin_write()?;
        let mut table = write.open_table(TABLE)?;
        let changes = jobs.iter().map(|job| job.change.apply(&mut table));
        let done = changes.collect::<Result<Vec<_>, redb::Error>>()?;
        drop(table);
        // It is on the disk once this returns: `Durability::Immediate`.
        write.commit()?;
        Ok(done)
    };
    commit().map_err(|error: redb::Error| file.failed(&error))
}
