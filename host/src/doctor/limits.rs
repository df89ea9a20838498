//! Limits of the process: descriptors, mappings, memory, processors, threads.

use std::thread;

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use netwasm_base::{descriptors, memory};
use netwasm_runtime::connections_by_mappings;

use super::cgroup::Groups;
use super::{Finding, number};

/// Memory below which compiling a component may be killed, in bytes.
const LITTLE_MEMORY: u64 = 256 << 20;

/// Threads besides the workers: compiling, names, files, the log.
const OTHER_THREADS: u64 = 64;

pub(super) fn findings() -> Vec<Finding> {
    let groups = Groups::own();
    let mut findings = vec![open_files(), mappings()];
    findings.extend(address_space());
    findings.extend([control_group(), processors(&groups), threads(&groups)]);
    findings
}

fn open_files() -> Finding {
    const NAME: &str = "open files";
    let connections = descriptors::connections(false);
    let limit = getrlimit(Resource::Nofile).maximum;
    let shown = limit.map_or_else(|| "none".into(), |limit| limit.to_string());
    let found =
        format!("the hard limit (ulimit -Hn) is {shown}: {connections} connections at once");
    let cure = "ulimit -Hn 131072 as root, or LimitNOFILE=131072 in the unit";
    match limit {
        Some(limit @ ..descriptors::LEAST) => Finding::wrong(
            NAME,
            format!(
                "the hard limit (ulimit -Hn) is {limit}, and a run needs {} at least",
                descriptors::LEAST
            ),
            cure,
        ),
        _ if connections < descriptors::FEW => Finding::slow(NAME, found, cure),
        _ => Finding::ok(NAME, found),
    }
}

fn mappings() -> Finding {
    const NAME: &str = "mappings";
    let (of_events, of_async) = (
        connections_by_mappings(false),
        connections_by_mappings(true),
    );
    let found = format!(
        "vm.max_map_count has room for {of_events} connections with an instance of one memory each, \
         {of_async} if they are async"
    );
    let wanted = descriptors::connections(false);
    match of_async < wanted {
        // A run then has fewer connections, or none if --max-connections asks for more.
        true => Finding::slow(
            NAME,
            format!("{found}; open files allow {wanted}"),
            "sysctl -w vm.max_map_count=1048576 (in /etc/sysctl.d to stay)",
        ),
        false => Finding::ok(NAME, found),
    }
}

fn address_space() -> Option<Finding> {
    let limit = getrlimit(Resource::As).current?;
    Some(Finding::slow(
        "address space",
        format!(
            "the limit (ulimit -v) is {}: pools of instances get half of it, and code is slower",
            ByteSize::b(limit).display().iec()
        ),
        "ulimit -v unlimited",
    ))
}

fn control_group() -> Finding {
    const NAME: &str = "memory";
    let Some(limit) = memory::limit() else {
        return Finding::ok(NAME, "no limit of a control group");
    };
    let shown = ByteSize::b(limit).display().iec().to_string();
    match limit < LITTLE_MEMORY {
        true => Finding::slow(
            NAME,
            format!(
                "the control group's limit is {shown}: compiling a large component may exceed it"
            ),
            "compile ahead (netwasm compile, then run --allow-compiled), or MemoryMax=512M",
        ),
        false => Finding::ok(
            NAME,
            format!(
                "the control group's limit is {shown}: {} connections at once by default",
                memory::connections(false).min(descriptors::connections(false))
            ),
        ),
    }
}

fn processors(groups: &Groups) -> Finding {
    const NAME: &str = "processors";
    let workers = thread::available_parallelism().map_or(1, usize::from);
    match groups.processors() {
        Some(quota) if quota < 1.0 => Finding::slow(
            NAME,
            format!(
                "the control group may use {quota:.2} of one: all connections wait for the rest of \
                 each period"
            ),
            "CPUQuota=100% or more (a limit of 1000m in Kubernetes)",
        ),
        Some(quota) => Finding::ok(
            NAME,
            format!("the control group may use {quota:.2}: {workers} workers by default"),
        ),
        None => Finding::ok(NAME, format!("{workers} workers by default")),
    }
}

fn threads(groups: &Groups) -> Finding {
    const NAME: &str = "threads";
    let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
    let needed = workers + OTHER_THREADS;
    let limits = [
        groups.lowest("pids.max"),
        // Root is not bound by it.
        getrlimit(Resource::Nproc)
            .current
            .filter(|_| !rustix::process::geteuid().is_root()),
        number("/proc/sys/kernel/threads-max"),
    ];
    let lowest = limits.into_iter().flatten().min();
    match lowest {
        Some(limit) if limit < needed => Finding::wrong(
            NAME,
            format!("{limit} are allowed, and a run may have {needed}"),
            "TasksMax=1024 in the unit, or ulimit -u 1024",
        ),
        Some(limit) => Finding::ok(NAME, format!("{limit} are allowed")),
        None => Finding::ok(NAME, "no limit"),
    }
}
