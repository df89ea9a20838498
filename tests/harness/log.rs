//! A log of the server, read while the server writes it.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// The lines that a stream has given so far.
#[derive(Clone, Default)]
pub(crate) struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads a stream to its end, on its own thread.
    pub(crate) fn follow(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                writer.update(|lines| lines.lines.push(text));
                line.clear();
            }
            writer.update(|lines| lines.ended = true);
        });
        log
    }

    fn update(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.shared.0.lock().expect("the log's lock"));
        self.shared.1.notify_all();
    }

    /// Waits for a line that contains all needles, and returns it.
    pub(crate) fn wait_for(&self, needles: &[&str]) -> String {
        self.wait_for_within(DEADLINE, needles)
    }

    /// Like [`Self::wait_for`], with another deadline.
    pub(crate) fn wait_for_within(&self, within: Duration, needles: &[&str]) -> String {
        self.wait(within, &format!("a line with {needles:?}"), |lines| {
            lines
                .iter()
                .find(|line| needles.iter().all(|needle| line.contains(needle)))
                .cloned()
        })
    }

    /// Waits until exactly `count` lines contain `needle`.
    pub(crate) fn wait_for_count(&self, needle: &str, count: usize) {
        self.wait(
            DEADLINE,
            &format!("{count} lines with {needle:?}"),
            |lines| {
                let with = lines.iter().filter(|line| line.contains(needle));
                (with.count() == count).then_some(())
            },
        );
    }

    /// Waits until `find` returns a value for the lines.
    pub(crate) fn wait<T>(
        &self,
        within: Duration,
        what: &str,
        find: impl Fn(&[String]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + within;
        let (lock, condition) = &*self.shared;
        let mut guard = lock.lock().expect("the log's lock");
        loop {
            if let Some(found) = find(&guard.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if guard.ended || left.is_zero() {
                let all = guard.lines.join("\n  ");
                drop(guard);
                panic!("waited for {what}; there is only:\n  {all}");
            }
            guard = condition
                .wait_timeout(guard, left)
                .expect("the log's lock")
                .0;
        }
    }

    /// Returns the number of lines so far that contain `needle`.
    pub(crate) fn count(&self, needle: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(needle))
            .count()
    }

    /// Returns the lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shared.0.lock().expect("the log's lock").lines.clone()
    }

    /// Waits for the end of the stream, and returns all of it.
    pub(crate) fn text(&self) -> String {
        let (lock, condition) = &*self.shared;
        let guard = lock.lock().expect("the log's lock");
        let (guard, _) = condition
            .wait_timeout_while(guard, DEADLINE, |lines| !lines.ended)
            .expect("the log's lock");
        guard.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
