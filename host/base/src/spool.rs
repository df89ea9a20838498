//! A queue of lines, which a thread writes to a file, or sends to a syslog
//! server. A slow disk, or a pipe that nobody reads, delays no other thread.
//!
//! Lines that the thread cannot keep up with, or cannot write, are dropped and
//! counted. A partly written line is completed before the next.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::identity::AsUser;
use crate::syslog::Syslog;

/// `tracing` target of messages about dropped lines.
pub const TARGET: &str = "netwasm::dropped";

/// `tracing` target of guests' output.
pub const GUEST: &str = "guest";

/// Minimum time between two reports of dropped lines.
const TELL: Duration = Duration::from_secs(1);

/// A queue of lines for one file. Clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    what: &'static str,
    /// Maximum that may be queued, in bytes.
    most: usize,
    work: Sender<Task>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes waiting to be written.
    queued: AtomicUsize,
    /// Dropped lines that have not been reported.
    dropped: AtomicU64,
    /// Lines that were reported as dropped.
    reported: AtomicU64,
}

#[derive(Debug)]
enum Task {
    /// Whole lines.
    Write(Vec<u8>),
    Reopen,
    /// Dropped once everything queued before it is written.
    Flush(Sender<()>),
}

impl Spool {
    /// Starts the writing thread. `what` names the lines in the log; `most` is
    /// the maximum waiting to be written, in bytes.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub fn start(what: &'static str, output: Output, most: usize) -> io::Result<Self> {
        let (work, waiting) = mpsc::channel();
        let counts = Arc::<Counts>::default();
        let writer = Writer {
            what,
            output,
            begun: Vec::new(),
            failing: false,
            told: None,
            counts: Arc::clone(&counts),
        };
        thread::Builder::new()
            .name(what.replace(' ', "-"))
            .spawn(move || writer.run(&waiting))?;
        Ok(Self {
            what,
            most,
            work,
            counts,
        })
    }

    /// Queues whole lines, or drops and counts them. Never waits.
    pub fn put(&self, lines: Vec<u8>) {
        let size = lines.len();
        let queued = self.counts.queued.fetch_add(size, Ordering::Relaxed);
        let refused = match queued.saturating_add(size) > self.most {
            true => Some(lines),
            false => match self.work.send(Task::Write(lines)) {
                Err(mpsc::SendError(Task::Write(lines))) => Some(lines),
                _ => None,
            },
        };
        if let Some(lines) = refused {
            self.counts.queued.fetch_sub(size, Ordering::Relaxed);
            self.counts.drop_lines(&lines);
        }
    }

    /// Reopens the file by its name. The old one can be renamed before, so that
    /// a new one is begun.
    pub fn reopen(&self) {
        // It cannot fail: the thread ends only with the last sender.
        let _ = self.work.send(Task::Reopen);
    }

    /// Returns the number of lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        let Counts {
            dropped, reported, ..
        } = &*self.counts;
        reported.load(Ordering::Relaxed) + dropped.load(Ordering::Relaxed)
    }

    /// Waits until the queue is written, for at most `most`, and reports
    /// dropped lines. Returns false if the time was too short.
    pub fn finish(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        if !self.flush(deadline) {
            return false;
        }
        // If this spool is the log's, the report has added a line.
        !self.counts.tell(self.what) || self.flush(deadline)
    }

    fn flush(&self, deadline: Instant) -> bool {
        let (done, written) = mpsc::channel();
        let _ = self.work.send(Task::Flush(done));
        let left = deadline.saturating_duration_since(Instant::now());
        written.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Counts {
    fn drop_lines(&self, lines: &[u8]) {
        self.dropped.fetch_add(count(lines), Ordering::Relaxed);
    }

    /// Reports dropped lines. Returns false if there are none.
    fn tell(&self, what: &str) -> bool {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        self.reported.fetch_add(dropped, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(target: TARGET, dropped, "lines of the {what} were dropped");
        }
        dropped > 0
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The state of the writing thread.
#[derive(Debug)]
struct Writer {
    what: &'static str,
    output: Output,
    /// Rest of a line that was partly written.
    begun: Vec<u8>,
    /// True if the last write failed, which has been logged.
    failing: bool,
    /// Time of the last report of dropped lines.
    told: Option<Instant>,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, work: &Receiver<Task>) {
        loop {
            let owes = !self.failing && self.counts.dropped.load(Ordering::Relaxed) > 0;
            let next = match owes {
                true => work.recv_timeout(TELL),
                false => work.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(Task::Write(lines)) => {
                    self.write(&lines);
                    self.counts.queued.fetch_sub(lines.len(), Ordering::Relaxed);
                }
                Ok(Task::Reopen) => self.reopen(),
                Ok(Task::Flush(done)) => drop(done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell();
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if !self.begun.is_empty() {
            let (count, result) = self.output.write_some(&self.begun);
            self.begun.drain(..count);
            if let Err(error) = result {
                self.counts.drop_lines(lines);
                return self.fail(&error);
            }
        }
        let (count, result) = self.output.write_some(lines);
        let Err(error) = result else {
            self.failing = false;
            return;
        };
        let (written, mut rest) = lines.split_at_checked(count).unwrap_or((lines, &[]));
        if written.last().is_some_and(|&byte| byte != b'\n') {
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
            let (line, others) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            self.begun = line.to_vec();
            rest = others;
        }
        self.counts.drop_lines(rest);
        self.fail(&error);
    }

    fn reopen(&mut self) {
        // A line that was cut stays cut in the old file.
        match self.output.reopen() {
            Ok(()) => self.begun.clear(),
            Err(error) => {
                let what = self.what;
                tracing::error!(
                    target: TARGET, %error,
                    "the {what} cannot be reopened: lines go on to the old file"
                );
            }
        }
    }

    fn fail(&mut self, error: &io::Error) {
        if !self.failing {
            let what = self.what;
            tracing::error!(target: TARGET, %error, "the {what} cannot be written");
            self.failing = true;
        }
    }

    fn tell(&mut self) {
        if self.failing || self.told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        if self.counts.tell(self.what) {
            self.told = Some(Instant::now());
        }
    }
}

/// Destination of lines.
#[derive(Debug)]
pub enum Output {
    /// A file, which [`Spool::reopen`] opens again.
    File {
        /// Path of the file.
        path: PathBuf,
        /// The file, opened for appending.
        file: File,
    },
    /// Standard output.
    Stdout(io::Stdout),
    /// Standard error.
    Stderr(io::Stderr),
    /// A syslog server, which gets each line as a message.
    Syslog(Box<Syslog>),
}

impl Output {
    /// Opens a file for appending.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        let Self::File { path, file } = self else {
            return Ok(());
        };
        // One that is still there need not be opened, which the user that the run
        // goes on as may not be allowed to.
        if is_at(file, path) {
            return Ok(());
        }
        let opened = append_to(path).map_err(|error| {
            let (path, user) = (path.display(), AsUser(&error));
            let reason = format!("cannot write {path}{user}: {error}");
            io::Error::new(error.kind(), reason)
        });
        *file = opened?;
        Ok(())
    }

    /// Writes as much as possible. Returns how much was written, and the error
    /// if it was not everything.
    fn write_some(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let fd = match self {
            Self::Syslog(syslog) => return send_lines(syslog, bytes),
            // Descriptors are used directly, since the locks of the standard
            // streams would let threads wait for each other.
            Self::File { file, .. } => AsFd::as_fd(&*file),
            Self::Stdout(out) => AsFd::as_fd(&*out),
            Self::Stderr(out) => AsFd::as_fd(&*out),
        };
        let mut written = 0;
        while let Some(rest) = bytes.get(written..)
            && !rest.is_empty()
        {
            match rustix::io::write(fd, rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                // A pipe or terminal that another program made non-blocking.
                Err(Errno::AGAIN) => {
                    let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
                }
                Err(errno) => return (written, Err(errno.into())),
            }
        }
        (written, Ok(()))
    }
}

/// Sends each line as a message, up to the first that fails.
fn send_lines(syslog: &mut Syslog, lines: &[u8]) -> (usize, io::Result<()>) {
    let mut sent = 0;
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if let Err(error) = syslog.send(line.trim_ascii_end()) {
            return (sent, Err(error));
        }
        sent += line.len();
    }
    (sent, Ok(()))
}

/// True if a path leads to an open file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (fs::metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => identity(there) == identity(open),
        _ => false,
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    // A pipe without a reader fails, rather than to keep whoever opens it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .custom_flags(flags)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};

    use super::*;

    /// Returns a pipe, and its writing end as a file, by its name in /proc.
    fn pipe() -> (io::PipeReader, io::PipeWriter, Output) {
        use std::os::fd::AsRawFd;
        let (reader, writer) = io::pipe().expect("a pipe");
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let output = Output::file(Path::new(&path)).expect("its writing end");
        (reader, writer, output)
    }

    const LINE: &[u8] = b"a line that is some fifty bytes long, as lines go\n";

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
        let (reader, writer, output) = pipe();
        drop(writer);
        let spool = Spool::start("test log", output, 64 << 10).expect("a thread");
        let put = 10_000;
        for _ in 0..put {
            spool.put(LINE.to_vec());
        }
        assert!(!spool.finish(Duration::from_millis(20)), "it is stuck");
        let reading = thread::spawn(move || BufReader::new(reader).lines().count());
        assert!(spool.finish(Duration::from_secs(30)), "it goes on");
        let dropped = put - {
            drop(spool);
            reading.join().expect("its lines")
        };
        assert!(0 < dropped && dropped < put, "{dropped} were dropped");
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        let full = Output::file(Path::new("/dev/full")).expect("/dev/full");
        let (mut reader, writer, output) = pipe();
        drop(writer);
        let mut writer = Writer {
            what: "test log",
            output: full,
            begun: b"the end of one\n".to_vec(),
            failing: false,
            told: None,
            counts: Arc::default(),
        };
        writer.write(LINE);
        assert!(writer.failing);
        assert_eq!(writer.counts.dropped.load(Ordering::Relaxed), 1);
        writer.output = output;
        writer.write(b"another\n");
        assert!(!writer.failing);
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("its lines");
        assert_eq!(text, "the end of one\nanother\n");
    }
}
