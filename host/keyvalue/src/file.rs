//! Buckets in files, by redb: an embedded store, whose commits survive the end
//! of the process and of the machine.
//!
//! Reads run on tokio's threads for blocking work. Changes go to the file's own
//! thread, which commits all that wait at once; each is acknowledged once it is
//! on the disk.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use aws_lc_rs::digest;
use netwasm_base::guarded::guarded;
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, ReadableDatabase, ReadableTable,
    TableDefinition,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::answer::{Answer, Error, Outcome, PAGE, Page, Value, check_sum};
use crate::committing::{Change, Done, Job, run};

/// The table of a file. Keys are ordered by a hash, like those in memory.
pub(crate) const TABLE: TableDefinition<'_, (u64, &str), &[u8]> = TableDefinition::new("keyvalue");

/// Cache of a file, in bytes.
const CACHE: usize = 16 << 20;

/// Bytes of changes that wait to be committed.
const WAITING: usize = 64 << 20;

/// Bytes that a change takes besides its keys and values, about.
const OVERHEAD: usize = 256;

/// The open files of the process: services and generations share them.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<FileStore>>>> = LazyLock::new(Mutex::default);

/// A bucket in a file.
#[derive(Clone, Debug)]
pub(crate) struct FileBucket(Arc<FileStore>);

#[derive(Debug)]
struct FileStore {
    file: Arc<File>,
    jobs: mpsc::UnboundedSender<Job>,
    room: Arc<Semaphore>,
}

/// A file. After a failure, it is opened again.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    database: Mutex<Option<Arc<Database>>>,
}

impl File {
    fn open(path: &Path) -> Result<Database, Error> {
        // A run that takes over opens it while the one before drains.
        let opened = Builder::new()
            .set_cache_size(CACHE)
            .set_concurrency_mode(ConcurrencyMode::MultiWriter)
            .create(path);
        opened.map_err(|error| {
            let path = path.display();
            Error::new(match error {
                DatabaseError::DatabaseAlreadyOpen => {
                    format!("the file {path} is in use by another program")
                }
                error => format!("cannot open the file {path}: {error}"),
            })
        })
    }

    /// Returns the open file.
    pub(crate) fn database(&self) -> Result<Arc<Database>, Error> {
        let mut slot = lock(&self.database);
        if let Some(database) = &*slot {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new(Self::open(&self.path)?);
        Ok(Arc::clone(slot.insert(database)))
    }

    /// Lets the next operation open the file again, and returns the error for
    /// this one.
    pub(crate) fn failed(&self, reason: &dyn fmt::Display) -> Error {
        let database = lock(&self.database).take();
        // Closing it may panic, if that is what it did before.
        let _ = guarded(|| drop(database));
        let path = self.path.display();
        tracing::warn!("the file {path} of --keyvalue fails: {reason}");
        Error::new(format!("the file {path} fails: {reason}"))
    }

    /// Makes an operation. A panic of redb is a failure of the file, which the next
    /// operation opens again.
    pub(crate) fn guarded<T>(&self, operation: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        guarded(operation).unwrap_or_else(|| Err(self.failed(&"the store panicked")))
    }

    /// Reads from the table.
    fn read<T>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<(u64, &'static str), &'static [u8]>) -> ReadOutcome<T>,
    ) -> Outcome<T> {
        self.guarded(|| {
            let database = self.database()?;
            let begin = || Ok(database.begin_read()?.open_table(TABLE)?);
            let table = begin().map_err(|error: redb::Error| self.failed(&error))?;
            read(&table).map_err(|error| self.failed(&error))?
        })
    }
}

/// Result of reading: the file's errors, and those of the operation.
type ReadOutcome<T> = Result<Outcome<T>, redb::Error>;

impl FileBucket {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// Fails if it cannot be opened, or is no store.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = place_of(path)?;
        let mut open = lock(&OPEN);
        if let Some(store) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(Self(store));
        }
        let database = opening(&path, || {
            let database = File::open(&path)?;
            let create = || {
                let write = database.begin_write()?;
                write.open_table(TABLE)?;
                write.commit()?;
                Ok(())
            };
            create().map_err(|error: redb::Error| {
                let path = path.display();
                Error::new(format!("cannot write to the file {path}: {error}"))
            })?;
            Ok(database)
        })?;
        let file = Arc::new(File {
            path: path.clone(),
            database: Mutex::new(Some(Arc::new(database))),
        });
        let (jobs, waiting) = mpsc::unbounded_channel();
        let writer = Arc::clone(&file);
        thread::Builder::new()
            .name("keyvalue".into())
            .spawn(move || run(&writer, waiting))
            .map_err(|error| Error::new(format!("cannot start a thread: {error}")))?;
        let store = Arc::new(FileStore {
            file,
            jobs,
            room: Arc::new(Semaphore::new(WAITING)),
        });
        open.retain(|_, store| store.strong_count() > 0);
        open.insert(path, Arc::downgrade(&store));
        Ok(Self(store))
    }

    pub(crate) fn get(&self, key: String) -> Answer<Option<Value>> {
        self.read(move |file| file.read(|table| Ok(Ok(find(table, &key)?))))
    }

    pub(crate) fn get_many(&self, keys: Vec<String>) -> Answer<Vec<Option<Value>>> {
        self.read(move |file| {
            file.read(|table| {
                let (mut values, mut bytes) = (Vec::new(), 0);
                for key in &keys {
                    let value = find(table, key)?;
                    bytes += value.as_ref().map_or(0, |value| value.len());
                    if let Err(error) = check_sum(bytes) {
                        return Ok(Err(error));
                    }
                    values.push(value);
                }
                Ok(Ok(values))
            })
        })
    }

    pub(crate) fn list(&self, from: u64) -> Answer<Page> {
        self.read(move |file| {
            file.read(|table| {
                let (mut page, mut last) = (Page::default(), from);
                for entry in table.range((from, "")..)? {
                    let (key, _) = entry?;
                    let (place, key) = key.value();
                    // Keys of one place are never on two pages.
                    if page.keys.len() >= PAGE && place != last {
                        page.next = Some(place);
                        break;
                    }
                    page.keys.push(key.to_owned());
                    last = place;
                }
                Ok(Ok(page))
            })
        })
    }

    /// Makes a change. The answer comes when it is on the disk.
    pub(crate) fn change(&self, change: Change) -> Answer<Done> {
        let Self(store) = self;
        let (room, jobs) = (Arc::clone(&store.room), store.jobs.clone());
        let size = change.size().saturating_add(OVERHEAD).min(WAITING);
        Answer::later(async move {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            // The semaphore is never closed.
            let permit = room.acquire_many_owned(size).await.map_err(|_| gone())?;
            let (reply, done) = oneshot::channel();
            let job = Job::new(change, reply, permit);
            jobs.send(job).map_err(|_| gone())?;
            done.await.map_err(|_| gone())?
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&File) -> Outcome<T> + Send + 'static,
    ) -> Answer<T> {
        let file = Arc::clone(&self.0.file);
        Answer::later(async move {
            let done = spawn_blocking(move || read(&file)).await;
            done.map_err(|_| gone())?
        })
    }
}

/// Returns the whole path of a file, which need not be there.
///
/// # Errors
/// Fails if its folder is not there, or if it is a folder itself.
pub(crate) fn place_of(path: &Path) -> Result<PathBuf, Error> {
    let no_file = || {
        let (given, within) = (path.display(), path.join("state.redb"));
        let within = within.display();
        Error::new(format!(
            "{given} is a folder: give the path of a file, such as file:{within}"
        ))
    };
    // The root, `.` and `..` have none.
    let name = path.file_name().ok_or_else(no_file)?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let folder = folder.canonicalize().map_err(|error| {
        let folder = folder.display();
        Error::new(format!("cannot open the folder {folder}: {error}"))
    })?;
    let place = folder.join(name);
    let place = place.canonicalize().unwrap_or(place);
    match place.is_dir() {
        true => Err(no_file()),
        false => Ok(place),
    }
}

/// Opens a store. A panic of redb, as of a broken file, is an error.
fn opening<T>(path: &Path, open: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    guarded(open).unwrap_or_else(|| {
        let path = path.display();
        Err(Error::new(format!(
            "cannot open the file {path}: the store panicked"
        )))
    })
}

fn gone() -> Error {
    Error::new("the store ended")
}

/// Reads a value of the table.
pub(crate) fn find(
    table: &impl ReadableTable<(u64, &'static str), &'static [u8]>,
    key: &str,
) -> Result<Option<Value>, redb::Error> {
    let value = table.get((place(key), key))?;
    Ok(value.map(|value| Value::from(value.value())))
}

/// Returns the place of a key in the order of a file. It is part of the file's
/// format.
pub(crate) fn place(key: &str) -> u64 {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    let first = hash.as_ref().first_chunk::<8>();
    first.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::answer::Swap;

    async fn wait<T>(answer: Answer<T>) -> Outcome<T> {
        match answer {
            Answer::Now(outcome) => outcome,
            Answer::Later(later) => later.await,
        }
    }

    fn set(key: &str, value: &str) -> Change {
        Change::Write(vec![(key.to_owned(), Some(value.as_bytes().to_vec()))])
    }

    fn runtime() -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime")
    }

    #[test]
    fn a_folder_is_refused_by_the_path_that_was_given() {
        let folder = tempfile::tempdir().expect("a folder");
        for given in ["/", "..", folder.path().to_str().expect("text")] {
            let refused = FileBucket::open(Path::new(given)).expect_err("no file");
            let within = Path::new(given).join("state.redb");
            let told = format!(
                "{given} is a folder: give the path of a file, such as file:{}",
                within.display()
            );
            assert_eq!(refused.to_string(), told);
        }
    }

    #[test]
    fn a_file_keeps_what_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.redb");
        runtime().block_on(async {
            let bucket = FileBucket::open(&path).expect("it is made");
            let again = FileBucket::open(&path).expect("it is shared");
            assert!(Arc::ptr_eq(&bucket.0, &again.0));
            let done = wait(bucket.change(set("k", "v"))).await;
            assert_eq!(done, Ok(Done::Written));
            let value = wait(again.get("k".into())).await.expect("it is read");
            assert_eq!(value.as_deref(), Some(&b"v"[..]));
            let swap = |expected: Option<&str>| Change::Swap {
                key: "k".into(),
                expected: expected.map(|it| it.as_bytes().into()),
                value: b"w".to_vec(),
            };
            let differs = Ok(Done::Swapped(Swap::Differs(value)));
            assert_eq!(wait(bucket.change(swap(None))).await, differs);
            let swapped = wait(bucket.change(swap(Some("v")))).await;
            assert_eq!(swapped, Ok(Done::Swapped(Swap::Done)));
            // One that is refused takes nothing away from those beside it.
            let bad = Change::Increment {
                key: "k".into(),
                by: 1,
                range: (0, 10),
            };
            let (bad, good) = (bucket.change(bad), bucket.change(set("l", "1")));
            let (bad, good) = tokio::join!(wait(bad), wait(good));
            assert!(bad.is_err());
            assert_eq!(good, Ok(Done::Written));
        });
        runtime().block_on(async {
            let bucket = FileBucket::open(&path).expect("it is opened again");
            let values = wait(bucket.get_many(vec!["k".into(), "x".into()])).await;
            let values = values.expect("they are read");
            assert_eq!(values[0].as_deref(), Some(&b"w"[..]));
            assert_eq!(values[1], None);
        });
    }

    #[test]
    fn a_list_of_a_file_has_each_key_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.redb");
        runtime().block_on(async {
            let bucket = FileBucket::open(&path).expect("it is made");
            let all: BTreeSet<String> = (0..2500).map(|number| number.to_string()).collect();
            let writes = all.iter().map(|key| (key.clone(), Some(vec![1])));
            let done = wait(bucket.change(Change::Write(writes.collect()))).await;
            assert_eq!(done, Ok(Done::Written));
            let (mut found, mut from) = (Vec::new(), Some(0));
            while let Some(at) = from {
                let page = wait(bucket.list(at)).await.expect("it is read");
                found.extend(page.keys);
                from = page.next;
            }
            assert_eq!(found.len(), all.len());
            assert_eq!(BTreeSet::from_iter(found), all);
        });
    }

    #[test]
    fn a_panic_of_the_store_fails_its_call_and_no_later_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.redb");
        runtime().block_on(async {
            let bucket = FileBucket::open(&path).expect("it is made");
            let done = wait(bucket.change(set("k", "v"))).await;
            assert_eq!(done, Ok(Done::Written));
            let told = |error: Error| {
                let text = error.to_string();
                assert!(
                    text.contains("state.redb fails: the store panicked"),
                    "{text}"
                );
            };
            told(
                wait(bucket.change(Change::Panic))
                    .await
                    .expect_err("no change"),
            );
            let panics = |file: &File| file.read::<()>(|_| panic!("for a test"));
            told(wait(bucket.read(panics)).await.expect_err("no value"));
            let done = wait(bucket.change(set("l", "w"))).await;
            assert_eq!(done, Ok(Done::Written));
            let value = wait(bucket.get("k".into())).await.expect("it is read");
            assert_eq!(value.as_deref(), Some(&b"v"[..]));
        });
    }

    #[test]
    fn what_is_no_store_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.redb");
        std::fs::write(&path, "hello, this is a text, and no store at all").expect("it is written");
        let error = FileBucket::open(&path).expect_err("it is refused");
        assert!(error.to_string().contains("state.redb"), "{error}");
        let missing = folder.path().join("x/y.redb");
        let error = FileBucket::open(&missing).expect_err("it is refused");
        assert!(error.to_string().contains("folder"), "{error}");
        let error = opening::<()>(&path, || panic!("for a test")).expect_err("it is refused");
        let text = error.to_string();
        assert!(text.ends_with("state.redb: the store panicked"), "{text}");
    }
}
