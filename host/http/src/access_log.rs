//! Access log: a line for each request, once its response has been sent.
//!
//! Workers gather lines and put them into a [`Spool`], so that a slow or full
//! disk blocks nobody. Before the file is reopened, the lines gathered so far
//! are put there, because they belong to the old file.

mod line;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::Access;

use netwasm_base::config::{AccessLogConfig, AccessLogFormat, AccessLogTarget};
use netwasm_base::error::Error;
use netwasm_base::spool::{Output, Spool};
use netwasm_base::syslog::Syslog;

pub(crate) use self::line::{Entry, Text};

/// Bytes that a worker gathers before it hands them on.
const GATHER: usize = 32 << 10;

/// Maximum of bytes that wait to be written.
const WAITING: usize = 8 << 20;

/// Time that the end of a run waits for the last lines.
const LAST: Duration = Duration::from_secs(2);

/// The access logs of a process. Services that log to one file share it, and so
/// do the generations of a service: a rotation reaches them all.
#[derive(Debug, Default)]
pub struct Logs(Mutex<HashMap<AccessLogTarget, Arc<LogFile>>>);

impl Logs {
    /// Opens a log for appending, unless it is open.
    ///
    /// # Errors
    /// Fails if the file cannot be written, if there is no such syslog server,
    /// or if the system provides no thread.
    pub fn open(&self, config: &AccessLogConfig) -> Result<AccessLog, Error> {
        let known = locked(&self.0).get(&config.target).map(Arc::clone);
        let file = match known {
            Some(file) => file,
            None => {
                // Not under the lock: a disk may be slow.
                let opened = Arc::new(LogFile::open(&config.target)?);
                let mut files = locked(&self.0);
                Arc::clone(files.entry(config.target.clone()).or_insert(opened))
            }
        };
        Ok(AccessLog {
            format: config.format.clone(),
            file,
        })
    }

    /// Reopens all files by their names, so that they can be rotated. Requests
    /// whose lines are not yet gathered go to the new files. Returns false if no
    /// log is a file.
    pub fn reopen(&self) -> bool {
        let files = locked(&self.0);
        // Each of them.
        files.values().filter(|file| file.reopen()).count() > 0
    }

    /// Closes files that nothing logs to any more, once their lines are written.
    pub fn close_unused(&self) {
        locked(&self.0).retain(|_, file| Arc::strong_count(file) > 1);
    }

    /// Waits for the last lines at the end of a run, but not for a stalled
    /// reader.
    pub fn finish(&self) {
        let files = std::mem::take(&mut *locked(&self.0));
        let deadline = Instant::now() + LAST;
        for file in files.into_values() {
            let left = deadline.saturating_duration_since(Instant::now());
            if !file.spool.finish(left) {
                tracing::warn!("the access log takes no more lines: the last ones are lost");
            }
        }
    }
}

/// Checks that a log can be opened, and neither makes nor changes anything.
///
/// # Errors
/// Fails if the file cannot be written, or made.
pub fn check(target: &AccessLogTarget) -> Result<(), Error> {
    let AccessLogTarget::File(path) = target else {
        return Ok(());
    };
    let may = |path: &Path, access: Access| {
        let followed = rustix::fs::AtFlags::EACCESS;
        rustix::fs::accessat(rustix::fs::CWD, path, access, followed).map_err(io::Error::from)
    };
    let checked = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => may(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            may(directory, Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) => Err(error),
    };
    checked.map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })
}

/// The access log of a service.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    file: Arc<LogFile>,
}

impl AccessLog {
    /// Returns the log for a worker.
    pub(super) fn lines(&self) -> LogLines {
        let gathered = Arc::<Gathered>::default();
        let mut all = locked(&self.file.gathered);
        all.retain(|gathered| gathered.strong_count() > 0);
        all.push(Arc::downgrade(&gathered));
        drop(all);
        LogLines {
            format: self.format.clone(),
            gathered,
            spool: self.file.spool.clone(),
            rests: true,
        }
    }
}

/// A file of lines.
#[derive(Debug)]
struct LogFile {
    spool: Spool,
    /// False for standard output and a syslog server.
    is_file: bool,
    /// Gathered lines of each worker.
    gathered: Mutex<Vec<Weak<Gathered>>>,
}

impl LogFile {
    fn open(target: &AccessLogTarget) -> Result<Self, Error> {
        let output = match target {
            AccessLogTarget::Stdout => Output::Stdout(io::stdout()),
            AccessLogTarget::File(path) => Output::file(path).map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?,
            AccessLogTarget::Syslog(target) => {
                let connected = Syslog::connect(target).map_err(|source| Error::System {
                    what: "the syslog server of --access-log",
                    source,
                })?;
                Output::Syslog(Box::new(connected))
            }
        };
        let is_file = matches!(target, AccessLogTarget::File(_));
        let spool = Spool::start("access log", output, WAITING);
        Ok(Self {
            spool: spool.map_err(Error::Thread)?,
            is_file,
            gathered: Mutex::default(),
        })
    }

    /// Reopens the file. Returns false if it is none.
    fn reopen(&self) -> bool {
        if self.is_file {
            for gathered in &*locked(&self.gathered) {
                if let Some(gathered) = gathered.upgrade() {
                    gathered.flush(&self.spool);
                }
            }
            self.spool.reopen();
        }
        self.is_file
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whole lines. Only their worker uses them, except when the file is reopened,
/// so the lock is usually free.
#[derive(Debug, Default)]
struct Gathered(Mutex<Vec<u8>>);

impl Gathered {
    /// Hands on the gathered lines. Holds the lock meanwhile, so that no later
    /// line overtakes them.
    fn flush(&self, spool: &Spool) {
        let mut lines = locked(&self.0);
        if !lines.is_empty() {
            spool.put(std::mem::take(&mut lines));
        }
    }
}

/// A worker's end of the log.
#[derive(Debug)]
pub(crate) struct LogLines {
    format: AccessLogFormat,
    gathered: Arc<Gathered>,
    spool: Spool,
    /// True if there was no line since the gathered ones were handed on last.
    rests: bool,
}

impl LogLines {
    /// Adds a line, if the entry has what a line needs.
    pub(super) fn add(&mut self, entry: &Entry, sent: u64) {
        let Some(text) = &entry.text else { return };
        let mut gathered = locked(&self.gathered.0);
        text.write(&self.format, entry, sent, &mut gathered);
        // A line after a pause is not kept waiting.
        let goes_on = std::mem::replace(&mut self.rests, false) || gathered.len() > GATHER;
        drop(gathered);
        if goes_on {
            self.gathered.flush(&self.spool);
        }
    }

    /// Returns the names of the request's headers that a line has, besides the
    /// usual ones.
    pub(super) fn headers(&self) -> &[String] {
        match &self.format {
            AccessLogFormat::Template(template) => &template.headers,
            AccessLogFormat::Combined | AccessLogFormat::Json => &[],
        }
    }

    /// Hands on the gathered lines. Called a few times a second.
    pub(super) fn flush(&mut self) {
        self.rests = true;
        self.gathered.flush(&self.spool);
    }
}

impl Drop for LogLines {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::line::tests::entry;

    #[test]
    fn a_line_after_a_pause_is_written_at_once_and_others_are_gathered() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let logs = Logs::default();
        let log = logs.open(&AccessLogConfig {
            target: AccessLogTarget::File(path.clone()),
            format: AccessLogFormat::Combined,
        });
        let mut lines = log.expect("a log").lines();
        let written = || {
            std::fs::read_to_string(&path)
                .expect("a file")
                .lines()
                .count()
        };
        let wait_for = |count: usize| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while written() < count && Instant::now() < deadline {
                std::thread::yield_now();
            }
            assert_eq!(written(), count);
        };
        lines.add(&entry(), 1);
        wait_for(1);
        for _ in 0..10 {
            lines.add(&entry(), 1);
        }
        assert_eq!(
            locked(&lines.gathered.0).split(|it| *it == b'\n').count(),
            11
        );
        lines.flush();
        wait_for(11);
        lines.add(&entry(), 1);
        wait_for(12);
        drop(lines);
        logs.finish();
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_told_without_a_try() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        check(&AccessLogTarget::Stdout).expect("it is open");
        for path in [at("log"), "/dev/null".into()] {
            check(&AccessLogTarget::File(path)).expect("it can be opened");
        }
        assert!(!at("log").exists());
        for path in [directory.path().to_owned(), at("none/log")] {
            let error = check(&AccessLogTarget::File(path)).expect_err("it cannot");
            assert!(error.to_string().contains("cannot write"), "{error}");
        }
    }
}
