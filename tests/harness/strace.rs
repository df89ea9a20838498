//! strace(1) on a running server: shows its system calls, and makes some of
//! them fail.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{DEADLINE, Log, Server, eventually, process, skipped};

/// A tracer that is attached until it is dropped.
pub(crate) struct Strace {
    child: Child,
    trace: Log,
    /// The process, or one of its threads.
    traced: u32,
}

impl Strace {
    /// Attaches to all threads of a server. Returns `None`, and prints why, if
    /// this machine has no strace or does not let it work.
    pub(crate) fn attach(server: &Server, options: &[&str]) -> Option<Self> {
        Self::with(&[&["-f"], options].concat(), server.pid())
    }

    /// Like [`Self::attach`], to a thread alone.
    pub(crate) fn attach_thread(thread: u32, options: &[&str]) -> Option<Self> {
        Self::with(options, thread)
    }

    fn with(options: &[&str], traced: u32) -> Option<Self> {
        let child = Command::new("strace")
            .args(["-p", &traced.to_string()])
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
        let tracer = Self {
            child,
            trace,
            traced,
        };
        // strace prints "attached with N threads", or "attach: ptrace(...):
        // REASON".
        let line = tracer.trace.wait_for(&["attach"]);
        if line.contains("ptrace") {
            skipped(&line);
            return None;
        }
        Some(tracer)
    }

    /// Waits for a call whose line contains all needles.
    pub(crate) fn wait_for(&self, needles: &[&str]) {
        self.trace.wait_for(needles);
    }

    /// Waits for at least `count` calls whose lines contain all needles.
    pub(crate) fn wait_for_several(&self, needles: &[&str], count: usize) {
        let what = format!("{count} lines with {needles:?}");
        self.trace.wait(DEADLINE, &what, |lines| {
            let found = lines
                .iter()
                .filter(|line| needles.iter().all(|needle| line.contains(needle)));
            (found.count() >= count).then_some(())
        });
    }

    /// Detaches, and returns the lines of the trace. The calls whose effects were seen
    /// may have yet to return, and are lines only then: for that, it waits a while until
    /// the process rests.
    pub(crate) fn detach(mut self) -> Vec<String> {
        let begun = Instant::now();
        while process::has_work(self.traced) && begun.elapsed() < DEADLINE / 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        process::signal(self.child.id(), Signal::INT);
        eventually("strace's end", || {
            self.child.try_wait().expect("its status")
        });
        self.trace.text().lines().map(str::to_owned).collect()
    }
}

/// Returns the number of bytes that splice(2) moved in a trace. Each byte
/// counts twice: once into a pipe and once out of it.
pub(crate) fn spliced(trace: &[String]) -> usize {
    moved_by("splice", trace)
}

/// Returns the number of bytes that sendfile(2) sent in a trace.
pub(crate) fn sent_by_sendfile(trace: &[String]) -> usize {
    moved_by("sendfile", trace)
}

/// Returns the sum of a call's results.
fn moved_by(call: &str, trace: &[String]) -> usize {
    let calls = trace.iter().filter(|line| line.contains(call));
    calls.filter_map(|line| result(line)).sum()
}

/// Returns the result of a system call, if it is a number.
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
