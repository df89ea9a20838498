//! The system's view of a process, and operations on it.

use std::collections::HashSet;
use std::io;
use std::process::{Child, Command};

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, Signal, pidfd_getfd, pidfd_open,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use socket2::Socket;

fn pid(id: u32) -> Pid {
    Pid::from_raw(id.cast_signed()).expect("a process id")
}

/// Returns the number of descriptors that a process has open.
pub(crate) fn descriptors(id: u32) -> usize {
    std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

/// Returns duplicates of the sockets of a process, or why there are none.
pub(crate) fn sockets(id: u32) -> io::Result<Vec<Socket>> {
    let process = pidfd_open(pid(id), PidfdFlags::empty())?;
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{id}/fd"))? {
        let path = entry?.path();
        // It may have been closed meanwhile.
        let Ok(kind) = std::fs::read_link(&path) else {
            continue;
        };
        let number = path.file_name().and_then(|it| it.to_str()?.parse().ok());
        if let (true, Some(number)) = (kind.to_string_lossy().starts_with("socket:"), number) {
            let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())?;
            sockets.push(Socket::from(socket));
        }
    }
    Ok(sockets)
}

/// Returns the number that a process's next descriptor will have.
pub(crate) fn lowest_unused_descriptor(id: u32) -> u64 {
    let used: HashSet<u64> = std::fs::read_dir(format!("/proc/{id}/fd"))
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    (0..)
        .find(|number| !used.contains(number))
        .expect("a number")
}

/// Returns the anonymous resident memory of a process in bytes. Mapped files
/// are left out: the more of the program itself is used, the more of it becomes
/// resident.
pub(crate) fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("/proc");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("RssAnon");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number");
    kib << 10
}

/// Returns the CPU time of a process, user and system, in seconds.
pub(crate) fn cpu_seconds(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("/proc");
    let (_, fields) = stat.rsplit_once(')').expect("the name in brackets");
    // proc_pid_stat(5): utime and stime are fields 14 and 15, in ticks of 10
    // ms.
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("ticks"))
        .sum();
    f64::from(u32::try_from(ticks).expect("less than a year")) / 100.0
}

/// Returns true if a thread of a process runs, waits for a processor or for a disk, or
/// is stopped by its tracer.
pub(crate) fn has_work(id: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else {
        return false;
    };
    // A thread may have ended meanwhile.
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let mut states = stats.filter_map(|stat| {
        // proc_pid_stat(5): the state comes after the name.
        let (_, fields) = stat.rsplit_once(')')?;
        fields.trim_start().chars().next()
    });
    states.any(|state| matches!(state, 'R' | 'D' | 't'))
}

/// Starts a program without root's right to override file permissions
/// (capabilities(7)).
pub(crate) fn spawn_without_override(command: &mut Command) -> io::Result<Child> {
    // The bounding set belongs to a thread. A process inherits it from the
    // thread that starts it.
    let spawn = || {
        for right in [CapabilitySet::DAC_OVERRIDE, CapabilitySet::DAC_READ_SEARCH] {
            // A user who may not drop a right does not have it.
            let _ = remove_capability_from_bounding_set(right);
        }
        command.spawn()
    };
    std::thread::scope(|scope| scope.spawn(spawn).join().expect("no panic"))
}

/// Sends a signal.
pub(crate) fn signal(id: u32, signal: Signal) {
    rustix::process::kill_process(pid(id), signal).expect("the process is there");
}

/// Sets the soft limit of a process's descriptors.
pub(crate) fn limit_descriptors(id: u32, soft: u64) {
    let limit = Rlimit {
        current: Some(soft),
        maximum: maximum(),
    };
    rustix::process::prlimit(Some(pid(id)), Resource::Nofile, limit).expect("prlimit(2)");
}

/// Raises this process's soft limit of descriptors to the hard limit.
pub(crate) fn raise_descriptor_limit() {
    let limit = Rlimit {
        current: maximum(),
        maximum: maximum(),
    };
    rustix::process::setrlimit(Resource::Nofile, limit).expect("setrlimit(2)");
}

fn maximum() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nofile).maximum
}
