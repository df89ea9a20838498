//! Lines on their way to where they are kept. A thread writes them, so that a
//! slow disk, or a pipe that nobody reads, holds up nobody.
//!
//! Lines that the thread cannot keep up with, or cannot write, are dropped and
//! counted. A line that was begun is ended before the next one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// The `tracing` target of what is said about lines that were dropped.
pub const TARGET: &str = "netwasm::dropped";

/// The `tracing` target of what guests say.
pub const GUEST: &str = "guest";

/// How often dropped lines are told of, at most.
const TELL: Duration = Duration::from_secs(1);

/// A queue of lines for one file. Clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    what: &'static str,
    /// How much may be queued, bytes.
    most: usize,
    work: Sender<Work>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait to be written.
    queued: AtomicUsize,
    /// Lines that were dropped and not yet told of.
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Work {
    /// Whole lines.
    Write(Vec<u8>),
    Reopen,
    /// Dropped when all that was queued before it is written.
    Flush(Sender<()>),
}

impl Spool {
    /// Starts the thread that writes. `what` names the lines in the log;
    /// `most` is how much may wait to be written, bytes.
    ///
    /// # Errors
    /// The system gives no thread.
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
            false => match self.work.send(Work::Write(lines)) {
                Err(mpsc::SendError(Work::Write(lines))) => Some(lines),
                _ => None,
            },
        };
        if let Some(lines) = refused {
            self.counts.queued.fetch_sub(size, Ordering::Relaxed);
            self.counts.drop_lines(&lines);
        }
    }

    /// Has the file opened anew by its name, so that it can be renamed and a
    /// new one be begun.
    pub fn reopen(&self) {
        // The thread ends only with the last sender.
        let _ = self.work.send(Work::Reopen);
    }

    /// Waits until all that was queued is written, but no longer than `most`,
    /// and tells of dropped lines. Returns false where time was too short.
    pub fn finish(&self, most: Duration) -> bool {
        let deadline = Instant::now() + most;
        if !self.flush(deadline) {
            return false;
        }
        // The log itself has one more line now.
        !self.counts.tell(self.what) || self.flush(deadline)
    }

    fn flush(&self, deadline: Instant) -> bool {
        let (done, written) = mpsc::channel();
        let _ = self.work.send(Work::Flush(done));
        let left = deadline.saturating_duration_since(Instant::now());
        written.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Counts {
    fn drop_lines(&self, lines: &[u8]) {
        self.dropped.fetch_add(count(lines), Ordering::Relaxed);
    }

    /// Tells of dropped lines; returns false where there are none.
    fn tell(&self, what: &str) -> bool {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(target: TARGET, dropped, "lines of the {what} were dropped");
        }
        dropped > 0
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The thread's side.
#[derive(Debug)]
struct Writer {
    what: &'static str,
    output: Output,
    /// The rest of a line that was begun and could not be ended.
    begun: Vec<u8>,
    /// True if the last write failed, and the log says so.
    failing: bool,
    /// When dropped lines were last told of.
    told: Option<Instant>,
    counts: Arc<Counts>,
}

impl Writer {
    fn run(mut self, work: &Receiver<Work>) {
        loop {
            let owes = !self.failing && self.counts.dropped.load(Ordering::Relaxed) > 0;
            let next = match owes {
                true => work.recv_timeout(TELL),
                false => work.recv().map_err(RecvTimeoutError::from),
            };
            match next {
                Ok(Work::Write(lines)) => {
                    self.write(&lines);
                    self.counts.queued.fetch_sub(lines.len(), Ordering::Relaxed);
                }
                Ok(Work::Reopen) => self.reopen(),
                Ok(Work::Flush(done)) => drop(done),
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
        // A line that was cut stays so, in the old file.
        match self.output.reopen() {
            Ok(()) => self.begun.clear(),
            Err(error) => self.fail(&error),
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

/// Where lines are written.
#[derive(Debug)]
pub enum Output {
    /// A file, which is opened anew where it was moved away.
    File {
        /// Where it is.
        path: PathBuf,
        /// Itself, opened for appending.
        file: File,
    },
    /// Standard output.
    Stdout(io::Stdout),
    /// Standard error.
    Stderr(io::Stderr),
}

impl Output {
    /// Opens a file, to add to it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: append_to(path)?,
        })
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = append_to(path)?;
        }
        Ok(())
    }

    /// The descriptor: the standard streams' own locks are for those who may
    /// wait for each other.
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File { file, .. } => file.as_fd(),
            Self::Stdout(out) => out.as_fd(),
            Self::Stderr(out) => out.as_fd(),
        }
    }

    /// Writes all, or as much as can be; also returns how much that was.
    fn write_some(&self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let fd = self.fd();
        let mut written = 0;
        while let Some(rest) = bytes.get(written..)
            && !rest.is_empty()
        {
            match rustix::io::write(fd, rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                // A pipe or terminal that somebody else made non-blocking.
                Err(Errno::AGAIN) => {
                    let _ = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], None);
                }
                Err(errno) => return (written, Err(errno.into())),
            }
        }
        (written, Ok(()))
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};

    use super::*;

    /// A pipe whose reading end is in hand; as a file, by its name in /proc.
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
