//! Child processes that end with this one, even if it is killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};

/// Starts a process that gets SIGTERM when the thread that called this ends,
/// however it ends: prctl(2), `PR_SET_PDEATHSIG`.
///
/// # Errors
/// Fails if the program cannot be started.
#[expect(unsafe_code, reason = "only the child itself can ask for that signal")]
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        match getppid() == Some(parent) {
            true => Ok(()),
            // It has ended in between, and no signal comes any more.
            false => Err(Errno::SRCH.into()),
        }
    };
    // SAFETY: between fork and exec, the closure makes two system calls, and
    // neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) }.spawn()
}

/// Sends a signal to a child.
pub(super) fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}
