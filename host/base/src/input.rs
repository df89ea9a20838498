//! Files that are read once, from the beginning to the end: settings, certificates,
//! components.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl, fstatfs};

/// Time for whoever writes to a FIFO to write all of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// True once the run serves.
static IS_SERVING: AtomicBool = AtomicBool::new(false);

/// Makes FIFOs that are opened from now on an error unless they are read whole within
/// 5 seconds: a reload that waits would hold up all later ones. A start may wait.
pub fn limit_waits() {
    IS_SERVING.store(true, Ordering::Relaxed);
}

/// A file to read. See [`limit_waits`] for a FIFO. A pipe without a name, as of a
/// shell, is waited for.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// True for a FIFO with a name. It is opened without waiting for a writer.
    is_fifo: bool,
    /// Time by which a FIFO has to end.
    deadline: Option<Instant>,
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// Fails as open(2) does.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_serving = IS_SERVING.load(Ordering::Relaxed);
        Self::open_for(path, is_serving.then_some(PATIENCE))
    }

    fn open_for(path: &Path, patience: Option<Duration>) -> io::Result<Self> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let is_fifo = file.metadata()?.file_type().is_fifo() && !is_pipe(&file);
        if !is_fifo {
            fcntl_setfl(&file, OFlags::empty())?;
        }
        Ok(Self {
            file,
            is_fifo,
            deadline: patience.map(|patience| Instant::now() + patience),
        })
    }

    /// Returns the file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_fifo {
            // Without a writer so far, a FIFO looks as if it had ended.
            let mut events = [PollFd::new(&self.file, PollFlags::IN)];
            let left = self
                .deadline
                .map(|it| it.saturating_duration_since(Instant::now()));
            let left = left.map(Timespec::try_from).transpose();
            let left = left.map_err(io::Error::other)?;
            if poll(&mut events, left.as_ref())? == 0 {
                let why = "it is a FIFO, and nobody writes all of it within 5 s";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        self.file.read(buffer)
    }
}

/// True if a file is in the file system of pipes without a name: pipe(7), statfs(2).
fn is_pipe(file: &File) -> bool {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    fstatfs(file).is_ok_and(|found| found.f_type == PIPEFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;
    use std::thread;

    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_millis(100));

    /// Makes a FIFO in a folder.
    fn fifo(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("fifo");
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo").success());
        path
    }

    fn read(mut input: Input) -> io::Result<String> {
        let mut text = String::new();
        input.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_fifo_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = fifo(folder.path());
        let refused = read(Input::open_for(&path, SHORT).expect("it is opened"));
        let refused = refused.expect_err("nobody writes");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        // A writer that holds it open, and writes nothing more.
        let held = File::options().read(true).write(true).open(&path);
        let mut held = held.expect("it is opened");
        let input = Input::open_for(&path, SHORT).expect("it is opened");
        held.write_all(b"some").expect("it is written");
        let refused = read(input).expect_err("nothing more comes");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_fifo_is_read_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = fifo(folder.path());
        let input = Input::open(&path).expect("it is opened");
        let writes = thread::spawn(move || std::fs::write(path, "good day"));
        assert_eq!(read(input).expect("it is read"), "good day");
        writes.join().expect("an end").expect("it is written");
    }

    #[test]
    fn a_pipe_without_a_name_is_waited_for() {
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let input = Input::open_for(Path::new(&path), SHORT).expect("it is opened");
        assert!(!input.is_fifo);
        writer.write_all(b"good day").expect("it is written");
        drop(writer);
        assert_eq!(read(input).expect("it is read"), "good day");
    }

    #[test]
    fn other_files_are_read_as_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "good day").expect("it is written");
        let input = Input::open(&path).expect("it is opened");
        assert_eq!(read(input).expect("it is read"), "good day");
        let missing = Input::open(&folder.path().join("missing"));
        let missing = missing.expect_err("there is none");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let is_a_folder = Input::open(folder.path()).and_then(read);
        assert!(is_a_folder.is_err());
    }
}
