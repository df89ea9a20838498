//! strace(1) on a running server: which system calls it makes, and what it
//! does when one of them fails.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{DEADLINE, Log, Server, eventually, process, skipped};

/// A tracer, attached until it is dropped.
pub(crate) struct Strace {
    child: Child,
    trace: Log,
}

impl Strace {
    /// Attaches to all threads of a server. `None`, with a word, where this
    /// machine has no strace or does not let it work.
    pub(crate) fn attach(server: &Server, options: &[&str]) -> Option<Self> {
        let child = Command::new("strace")
            .args(["-f", "-p", &server.pid().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            skipped("there is no strace here");
            return None;
        };
        let trace = Log::follow(child.stderr.take().expect("its output"));
        let tracer = Self { child, trace };
        // "attached with N threads", or "attach: ptrace(...): why not".
        let line = tracer.trace.wait_for(&["attach"]);
        if line.contains("ptrace") {
            skipped(&line);
            return None;
        }
        Some(tracer)
    }

    /// Waits for a call that has all of these in its line.
    pub(crate) fn wait_for(&self, needles: &[&str]) {
        self.trace.wait_for(needles);
    }

    /// Waits for so many calls that have all of these in their line.
    pub(crate) fn wait_for_several(&self, needles: &[&str], count: usize) {
        let what = format!("{count} lines with {needles:?}");
        self.trace.wait(DEADLINE, &what, |lines| {
            let found = lines
                .iter()
                .filter(|line| needles.iter().all(|needle| line.contains(needle)));
            (found.count() >= count).then_some(())
        });
    }

    /// Detaches.
    pub(crate) fn detach(mut self) -> Vec<String> {
        process::signal(self.child.id(), Signal::INT);
        eventually("strace's end", || {
            self.child.try_wait().expect("its status")
        });
        self.trace.text().lines().map(str::to_owned).collect()
    }
}

/// How many bytes a trace shows to be moved by splice(2): each once into a pipe
/// and once out of it.
pub(crate) fn spliced(trace: &[String]) -> usize {
    moved_by("splice", trace)
}

/// How many bytes of files a trace shows to be sent by sendfile(2).
pub(crate) fn sent_by_sendfile(trace: &[String]) -> usize {
    moved_by("sendfile", trace)
}

/// The sum of what calls returned.
fn moved_by(call: &str, trace: &[String]) -> usize {
    let calls = trace.iter().filter(|line| line.contains(call));
    calls.filter_map(|line| result(line)).sum()
}

/// What a system call returned, if that was a number.
fn result(line: &str) -> Option<usize> {
    line.rsplit_once("= ")?
        .1
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

impl Drop for Strace {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // Killing a tracer detaches it.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
