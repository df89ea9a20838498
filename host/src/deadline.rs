//! A limit of time for work that has none of its own, such as connecting to a Unix
//! socket whose backlog is full, or asking the C library for a name.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Does some work on a thread of its own, and waits for it. Returns `None` if it
/// takes longer, or if there is no thread. The thread is then left to itself: this is
/// for commands that end soon.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    begin(work)?.recv_timeout(limit).ok()
}

/// Begins some work on a thread of its own, as [`within`] does, and returns what gets
/// the result; `None` if there is no thread.
pub(crate) fn begin<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<mpsc::Receiver<T>> {
    let (sender, done) = mpsc::channel();
    let work = move || {
        // Nobody waits for it after the limit.
        let _ = sender.send(work());
    };
    thread::Builder::new().spawn(work).ok()?;
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_takes_too_long_is_given_up() {
        let (release, waits) = mpsc::channel::<()>();
        let never = within(Duration::from_millis(20), move || waits.recv().is_ok());
        assert_eq!(never, None);
        drop(release);
        assert_eq!(within(Duration::from_secs(30), || 1), Some(1));
    }
}
