//! CPU time and memory of a server, from the kernel; and the cores of both
//! sides.

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores of the server and of the load generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    /// Core of the server.
    pub(crate) server: usize,
    /// Core of the load generator.
    pub(crate) load: usize,
}

impl Cores {
    /// Picks the first and the last core that this process may use. They are
    /// one if there is only one.
    pub(crate) fn pick() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores
            .next()
            .ok_or_else(|| io::Error::other("no core at all"))?;
        Ok(Self {
            server,
            load: cores.next_back().unwrap_or(server),
        })
    }

    /// Pins the calling thread, and all that it will start, to the load
    /// generator's core.
    pub(crate) fn pin_load(self) -> io::Result<()> {
        pin(self.load)
    }

    /// Starts a process on the server's core. The threads of a process begin on
    /// the cores of whoever started them, so it never runs elsewhere.
    pub(crate) fn spawn_server(self, command: &mut Command) -> io::Result<Child> {
        pin(self.server)?;
        let child = command.spawn();
        pin(self.load)?;
        child
    }
}

fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Returns the CPU time, user and system, that a process and all its threads
/// have taken so far, including ended threads.
///
/// The process's CPU clock (clock_getcpuclockid(3)) is the same sum as utime
/// and stime of /proc/PID/stat, which the kernel scales to it, but in
/// nanoseconds rather than ticks of 10 ms. Unlike the schedstat files of
/// /proc/PID/task, it keeps the time of ended threads. For a running thread, it
/// may be late by one tick of the scheduler, at most 10 ms.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
    Ok(clock_gettime(clock)?.into())
}

/// Returns how long the threads of a process have been ready to run while their
/// core was busy with something else (`run_delay` of schedstat). Shows who else
/// used the server's core.
pub(crate) fn waiting_time(pid: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let nanos = text
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanos.unwrap_or_default());
    }
    Ok(total)
}

/// Returns the memory of a process in bytes, with its fair share of the pages
/// that others use too (`Pss` of proc_pid_smaps(5)).
pub(crate) fn pss(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kibibytes(&text, "Pss:").ok_or_else(|| io::Error::other("smaps_rollup has no Pss"))
}

/// Returns the largest resident memory that a process ever had, in bytes
/// (`VmHWM` of proc_pid_status(5)).
pub(crate) fn most_memory(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kibibytes(&text, "VmHWM:").ok_or_else(|| io::Error::other("status has no VmHWM"))
}

/// Returns the value of a line in bytes that has it in KiB.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim().strip_suffix(" kB")?;
        value.parse::<u64>().ok().map(|kib| kib * 1024)
    })
}

/// Raises the limit of descriptors to its maximum. Thousands of connections
/// need as many descriptors, here and in the servers, which inherit the limit.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?)
}

/// Returns the median of values that are not NaN; of two in the middle, their
/// mean. NaN if there are none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => f64::midpoint(values[(n - 1) / 2], values[n / 2]),
    }
}
