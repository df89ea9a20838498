//! Watches the files that a run is made from: `run --watch`.
//!
//! ```text
//!   inotify(7): something happened in a directory --> look at all files
//!        which have changed, and rest --> the run reloads, as by SIGHUP
//! ```
//!
//! Directories are watched rather than files, because editors and deployments
//! put a new file in the place of the old one. What happened is of no
//! consequence: the state of the files decides. So a link in the middle of a
//! path may change, and a file that is still being written is waited for.

mod directories;
mod resting;
mod states;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;

use self::directories::Directories;
use self::resting::Resting;
use self::states::{Files, State};

/// Interval for looking at files in directories that cannot be watched, as they
/// do not exist yet.
const LOOK: Duration = Duration::from_millis(500);

/// Watches files. Clones share the files.
#[derive(Clone, Debug)]
pub struct Watcher(Arc<SharedChanges>);

#[derive(Debug)]
struct SharedChanges {
    files: Mutex<Files>,
    /// Files that the run writes, which are no sources wherever they are.
    logs: Mutex<Vec<PathBuf>>,
    /// Signalled when there are other files.
    wake: OwnedFd,
}

impl Watcher {
    /// Returns a watcher of no files.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(SharedChanges {
            files: Mutex::default(),
            logs: Mutex::default(),
            wake,
        })))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logs(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches these files and projects' directories from now on, in place of
    /// others. To be called before they are read. The run writes `logs`.
    pub(crate) fn set(&self, paths: impl IntoIterator<Item = PathBuf>, logs: &[PathBuf]) {
        *self.logs() = logs.to_vec();
        let mut files = self.files();
        let mut before = std::mem::take(&mut *files);
        for path in paths {
            let known = before.remove(&path);
            let state = known.unwrap_or_else(|| State::of(&path, logs));
            files.insert(path, state);
        }
        drop(files);
        // It fails if it is signalled already, for ever.
        let _ = rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes());
    }

    /// Tells each change, by a path that has changed. Ends once `changed` returns
    /// false.
    ///
    /// # Errors
    /// Fails if the system gives no thread.
    pub(crate) fn start(&self, changed: impl Fn(&Path) -> bool + Send + 'static) -> io::Result<()> {
        let watcher = self.clone();
        let watch = move || {
            if let Err(error) = watcher.watch(&changed) {
                tracing::error!(%error, "--watch: changes are no longer noticed");
            }
        };
        let thread = std::thread::Builder::new().name("watch".into());
        thread.spawn(watch).map(drop)
    }

    fn watch(&self, changed: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        let mut resting = Resting::new(self.look(), Instant::now());
        let mut directories = Directories::new(resting.seen(), false);
        loop {
            let wait = match resting.left(Instant::now()) {
                None if !directories.are_watched() => Some(LOOK),
                left => left,
            };
            let happened = self.wait(&directories, wait)?;
            let seen = self.look();
            directories = directories.renewed(&seen);
            if resting.have_rested(seen, Instant::now())
                && let Some(path) = self.take_change(resting.seen())
                && !changed(&path)
            {
                return Ok(());
            }
            if happened {
                // There may be more in a moment, in a directory that was not
                // watched yet.
                resting.may_change(Instant::now());
            }
        }
    }

    /// Returns the present states of the files.
    fn look(&self) -> Files {
        let paths: Vec<_> = self.files().keys().cloned().collect();
        let logs = self.logs().clone();
        let look = |path: PathBuf| {
            let state = State::of(&path, &logs);
            (path, state)
        };
        paths.into_iter().map(look).collect()
    }

    /// Takes note of changed states. Returns a path that has changed.
    fn take_change(&self, now: &Files) -> Option<PathBuf> {
        let mut changed = None;
        for (path, state) in &mut *self.files() {
            if let Some(now) = now.get(path)
                && now != state
            {
                changed.get_or_insert_with(|| now.place(state, path));
                state.clone_from(now);
            }
        }
        changed
    }

    /// Waits until something happens, for so long. Returns true if it did.
    fn wait(&self, directories: &Directories, most: Option<Duration>) -> io::Result<bool> {
        let wake = &self.0.wake;
        let all = directories.descriptor().into_iter().chain([wake]);
        let mut all: Vec<_> = all.map(|it| PollFd::new(it, PollFlags::IN)).collect();
        let most = most.and_then(|it| Timespec::try_from(it).ok());
        match rustix::event::poll(&mut all, most.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // It has the number of signals since.
        let _ = rustix::io::read(wake, &mut [0; 8]);
        directories.empty()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::{self, Receiver};

    use super::resting::REST;
    use super::*;

    /// Longest wait for a change that should be told at once.
    const DEADLINE: Duration = Duration::from_secs(30);

    fn watched(paths: &[&Path]) -> (Watcher, Receiver<PathBuf>) {
        let watcher = Watcher::new().expect("a watcher");
        watcher.set(paths.iter().map(|path| path.to_path_buf()), &[]);
        let (told, changes) = mpsc::channel();
        let tell = move |path: &Path| told.send(path.to_owned()).is_ok();
        watcher.start(tell).expect("a thread");
        (watcher, changes)
    }

    #[track_caller]
    fn told(changes: &Receiver<PathBuf>, path: &Path) {
        assert_eq!(changes.recv_timeout(DEADLINE).expect("a change"), path);
    }

    #[test]
    fn a_change_is_told_however_it_is_made() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (file, other) = (scratch.path().join("file"), scratch.path().join("other"));
        fs::write(&file, "1").expect("a file");
        let (_watcher, changes) = watched(&[&file]);
        fs::write(&file, "22").expect("a file");
        told(&changes, &file);
        // As editors do.
        fs::write(&other, "333").expect("a file");
        fs::rename(&other, &file).expect("it is replaced");
        told(&changes, &file);
        fs::remove_file(&file).expect("it was there");
        told(&changes, &file);
        fs::write(&other, "4444").expect("a file");
        symlink(&other, &file).expect("a link");
        told(&changes, &file);
        fs::write(&other, "55555").expect("a file");
        told(&changes, &file);
        // Beside it.
        fs::write(scratch.path().join("beside"), "x").expect("a file");
        assert!(changes.recv_timeout(REST * 4).is_err());
    }

    #[test]
    fn a_link_in_the_middle_of_a_path_may_change() {
        // As Kubernetes mounts secrets.
        let scratch = tempfile::tempdir().expect("a directory");
        let path = |name: &str| scratch.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(path(version)).expect("a directory");
            fs::write(path(version).join("key"), version).expect("a file");
        }
        symlink("one", path("data")).expect("a link");
        symlink("data/key", path("key")).expect("a link");
        let (_watcher, changes) = watched(&[&path("key")]);
        symlink("two", path("new")).expect("a link");
        fs::rename(path("new"), path("data")).expect("it is replaced");
        told(&changes, &path("key"));
        fs::write(path("two/key"), "three").expect("a file");
        told(&changes, &path("key"));
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        use std::io::Write;
        let scratch = tempfile::tempdir().expect("a directory");
        let file = scratch.path().join("file");
        fs::write(&file, "").expect("a file");
        let watcher = Watcher::new().expect("a watcher");
        watcher.set([file.clone()], &[]);
        let mut now = Instant::now();
        let mut resting = Resting::new(watcher.look(), now);
        let mut writing = fs::File::create(&file).expect("a file");
        for _ in 0..20 {
            writing.write_all(b"a part").expect("it is written");
            now += REST / 2;
            assert!(!resting.have_rested(watcher.look(), now), "it is not whole");
            assert_eq!(resting.left(now), Some(REST));
        }
        now += REST - Duration::from_millis(1);
        assert!(
            !resting.have_rested(watcher.look(), now),
            "there may be more"
        );
        now += Duration::from_millis(1);
        assert!(resting.have_rested(watcher.look(), now));
        assert_eq!(watcher.take_change(resting.seen()), Some(file));
        now += REST * 2;
        assert!(!resting.have_rested(watcher.look(), now), "it is told once");
        assert_eq!(resting.left(now), None);
        resting.may_change(now);
        assert_eq!(resting.left(now), Some(REST));
    }

    #[test]
    fn files_come_and_go_with_their_directories() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (below, project) = (scratch.path().join("below"), scratch.path().join("project"));
        let file = below.join("file");
        let (watcher, changes) = watched(&[&file]);
        fs::create_dir(&below).expect("a directory");
        fs::write(&file, "1").expect("a file");
        told(&changes, &file);
        fs::remove_dir_all(&below).expect("it was there");
        told(&changes, &file);
        // Another one, with all that is in it.
        fs::create_dir_all(project.join("src")).expect("a directory");
        fs::write(project.join("src/lib.rs"), "1").expect("a file");
        watcher.set([project.clone()], &[]);
        fs::write(project.join("src/lib.rs"), "22").expect("a file");
        told(&changes, &project.join("src/lib.rs"));
        fs::create_dir(scratch.path().join("more")).expect("a directory");
        fs::write(scratch.path().join("more/mod.rs"), "1").expect("a file");
        fs::rename(scratch.path().join("more"), project.join("src/more")).expect("it moves");
        told(&changes, &project.join("src/more/mod.rs"));
        fs::write(project.join("src/more/mod.rs"), "22").expect("a file");
        told(&changes, &project.join("src/more/mod.rs"));
        // Built files are no sources.
        fs::create_dir(project.join("target")).expect("a directory");
        fs::write(project.join("target/x"), "1").expect("a file");
        assert!(changes.recv_timeout(REST * 4).is_err());
    }
}
