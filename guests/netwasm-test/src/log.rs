//! The server's log, read while the server writes it.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::deadline::Deadline;

/// Time without a new line after which the log is taken for settled.
const SETTLED: Duration = Duration::from_millis(100);

/// Longest wait for the log to settle.
const UNSETTLED: Duration = Duration::from_secs(1);

/// The lines that the server has logged so far: those of the host, and what the
/// component prints and logs.
///
/// Clones share the lines. A clone outlives the server.
#[derive(Clone)]
pub struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
    limit: Duration,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    /// URLs of the `listening` lines.
    listening: Vec<String>,
    /// Those lines that are of standard output.
    output: Vec<String>,
    /// Streams that have not ended.
    open: usize,
    /// Number of lines that a failure has shown. `None` if none has.
    shown: Option<usize>,
    /// Refused requests, with what the responses say, that no failure has shown.
    notes: Vec<String>,
}

impl Log {
    /// Makes an empty log, whose waits have this limit.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            shared: Arc::default(),
            limit,
        }
    }

    /// Waits until a line contains `text`, and returns that line. A line of the
    /// past counts, too.
    ///
    /// # Panics
    /// Panics if there is no such line within the time limit, or if the server
    /// ends without one.
    #[track_caller]
    pub fn expect(&self, text: &str) -> String {
        let found = self.wait(self.limit, |lines| {
            lines.lines.iter().find(|line| line.contains(text)).cloned()
        });
        let Some(line) = found else {
            panic!("no line of the log contains {text:?}\n{}", self.report());
        };
        line
    }

    /// Waits until `count` lines contain `text`, and returns them. Further ones
    /// are not noticed.
    ///
    /// # Panics
    /// Panics if there are fewer within the time limit, or when the server ends.
    #[track_caller]
    pub fn expect_times(&self, text: &str, count: usize) -> Vec<String> {
        let find = |lines: &Lines| -> Vec<String> {
            let found = lines.lines.iter().filter(|line| line.contains(text));
            found.take(count).cloned().collect()
        };
        let found = self.wait(self.limit, |lines| {
            Some(find(lines)).filter(|found| found.len() == count)
        });
        found.unwrap_or_else(|| {
            let fewer = find(&self.lock()).len();
            panic!(
                "{fewer} lines of the log contain {text:?}, not {count}\n{}",
                self.report()
            )
        })
    }

    /// Checks that no line contains `text`, once no line has come for 100 ms.
    ///
    /// A line that comes later is not noticed. To check the whole log, keep a
    /// clone, and check it after [`crate::Server::stop`].
    ///
    /// # Panics
    /// Panics if a line contains `text`.
    #[track_caller]
    pub fn expect_none(&self, text: &str) {
        self.settle();
        let lines = self.lines();
        if let Some(line) = lines.iter().find(|line| line.contains(text)) {
            panic!(
                "a line of the log contains {text:?}: {line}\n{}",
                self.report()
            );
        }
    }

    /// Returns the lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Reads the `listening` lines and others from standard output.
    pub(crate) fn follow_output(&self, stream: impl Read + Send + 'static) {
        self.follow(stream, |lines, line| {
            // A program prints what it likes.
            let url = line.strip_prefix("listening ").filter(|it| is_url(it));
            match url {
                Some(url) => lines.listening.push(url.to_owned()),
                // The harness of a test prints these before an embedded host.
                None if line.is_empty() || line == "running 1 test" => {}
                None => {
                    lines.output.push(line.clone());
                    lines.lines.push(line);
                }
            }
        });
    }

    /// Returns the lines of standard output, without those of the listeners.
    pub(crate) fn output(&self) -> Vec<String> {
        self.lock().output.clone()
    }

    /// Reads lines from standard error.
    pub(crate) fn follow_errors(&self, stream: impl Read + Send + 'static) {
        self.follow(stream, |lines, line| lines.lines.push(line));
    }

    /// Reads a stream to its end, on its own thread.
    fn follow(&self, stream: impl Read + Send + 'static, add: fn(&mut Lines, String)) {
        self.lock().open += 1;
        let log = self.clone();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log.update(|lines| add(lines, text));
                line.clear();
            }
            log.update(|lines| lines.open -= 1);
        });
    }

    /// Waits for so many listeners, and returns their URLs. Returns `None` if
    /// they do not come within the limit, or if the streams end without them.
    pub(crate) fn listeners(&self, limit: Duration, count: usize) -> Option<Vec<String>> {
        self.wait(limit, |lines| {
            (lines.listening.len() >= count).then(|| lines.listening.clone())
        })
    }

    /// True if all streams have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().open == 0
    }

    /// Waits for the end of the streams.
    pub(crate) fn wait_for_end(&self, limit: Duration) {
        self.wait(limit, |lines| (lines.open == 0).then_some(()));
    }

    /// Notes a request that was refused, for the message of a failure.
    pub(crate) fn note(&self, note: String) {
        self.lock().notes.push(note);
    }

    /// Returns the settled log under a heading, and the requests that were refused,
    /// for the message of a failure.
    pub(crate) fn report(&self) -> String {
        self.settle();
        let mut guard = self.lock();
        guard.shown = Some(guard.lines.len());
        let notes = guard.take_notes();
        if guard.lines.is_empty() {
            return format!("the server's log is empty{notes}");
        }
        format!("the server's log:\n  {}{notes}", guard.lines.join("\n  "))
    }

    /// Like [`Self::report`], for what no message has shown yet. Returns `None`
    /// if that is nothing.
    pub(crate) fn rest(&self) -> Option<String> {
        let shown = self.lock().shown;
        let Some(shown) = shown else {
            return Some(self.report());
        };
        self.settle();
        let mut guard = self.lock();
        guard.shown = Some(guard.lines.len());
        let notes = guard.take_notes();
        let rest = guard.lines[shown..].join("\n  ");
        match rest.is_empty() {
            true => Some(notes.trim_start().to_owned()).filter(|notes| !notes.is_empty()),
            false => Some(format!("the rest of the server's log:\n  {rest}{notes}")),
        }
    }

    /// Waits until no line comes any more. What the server does about a failure
    /// is often logged a little later than a client notices it.
    fn settle(&self) {
        let deadline = Deadline::after(UNSETTLED);
        let mut count = self.lock().lines.len();
        while deadline.left().is_some() {
            let more = self.wait(SETTLED, |lines| {
                (lines.lines.len() > count).then_some(lines.lines.len())
            });
            match more {
                Some(now) => count = now,
                None => return,
            }
        }
    }

    /// Waits until `find` returns a value. Returns `None` if the limit passes,
    /// or if the streams end, without one.
    fn wait<T>(&self, limit: Duration, find: impl Fn(&Lines) -> Option<T>) -> Option<T> {
        let deadline = Deadline::after(limit);
        let mut guard = self.lock();
        loop {
            if let Some(found) = find(&guard) {
                return Some(found);
            }
            let left = deadline.left().filter(|_| guard.open > 0)?;
            let waited = self.shared.1.wait_timeout(guard, left);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn update(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lock());
        self.shared.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        let guard = self.shared.0.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Takes the notes, under a heading that follows a line; empty if there are none.
    fn take_notes(&mut self) -> String {
        let notes = std::mem::take(&mut self.notes);
        match notes.is_empty() {
            true => String::new(),
            false => format!("\nrequests that were refused:\n  {}", notes.join("\n  ")),
        }
    }
}

/// True for what follows `listening` where the host listens.
fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:")
}

impl fmt::Debug for Log {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.lines()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    #[test]
    fn a_failure_shows_each_line_once() {
        let log = Log::new(LIMIT);
        assert_eq!(log.rest().as_deref(), Some("the server's log is empty"));
        assert_eq!(log.rest(), None);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        log.follow_errors(reader);
        writer.write_all(b"one\ntwo\n").expect("it is read");
        log.expect("two");
        assert_eq!(log.report(), "the server's log:\n  one\n  two");
        assert_eq!(log.rest(), None);
        writer.write_all(b"three").expect("it is read");
        drop(writer);
        log.wait_for_end(LIMIT);
        let rest = "the rest of the server's log:\n  three";
        assert_eq!(log.rest().as_deref(), Some(rest));
    }

    #[test]
    fn a_failure_shows_each_refused_request_once() {
        let log = Log::new(LIMIT);
        log.note("POST /sum: 415 send the header".to_owned());
        let shown = "the server's log is empty\nrequests that were refused:\n  POST /sum: 415 send the header";
        assert_eq!(log.report(), shown);
        assert_eq!(log.rest(), None);
        log.note("PUT /sum: 400 no number".to_owned());
        let shown = "requests that were refused:\n  PUT /sum: 400 no number";
        assert_eq!(log.rest().as_deref(), Some(shown));
    }

    #[test]
    fn listening_lines_are_no_lines_of_the_log() {
        let log = Log::new(LIMIT);
        let output = b"listening tcp://127.0.0.1:1\nlistening on 127.0.0.1:2\nGET / 200\n";
        log.follow_output(&output[..]);
        let urls = log.listeners(LIMIT, 1).expect("a listener");
        assert_eq!(urls, ["tcp://127.0.0.1:1"]);
        log.wait_for_end(LIMIT);
        assert_eq!(log.lines(), ["listening on 127.0.0.1:2", "GET / 200"]);
        assert_eq!(log.output(), log.lines());
        assert_eq!(log.listeners(LIMIT, 2), None);
    }

    #[test]
    #[should_panic(expected = "no line of the log contains \"no such\"")]
    fn a_line_that_does_not_come_is_a_failure() {
        Log::new(LIMIT).expect("no such");
    }
}
