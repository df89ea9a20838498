//! The kernel: its version, and the calls that spare copies, tried out.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::pipe::{SpliceFlags, pipe, splice};

use netwasm_runtime::is_pagemap_scan_available;

use super::{Finding, word};

/// Version that has all that must be there: openat2(2).
const NEEDED: (u32, u32) = (5, 6);

/// Bytes that are sent to try a call.
const SENT: usize = 4;

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![version()];
    let sandbox = "let the sandbox (seccomp, gVisor) allow it; runsc has none";
    for (name, result, otherwise) in [
        ("sendfile", sends_files(), "files are copied through memory"),
        ("splice", splices(), "relays are copied through memory"),
    ] {
        findings.push(match result {
            Ok(()) => Finding::ok(name, "it works"),
            Err(error) => Finding::slow(name, format!("{error}: {otherwise}"), sandbox),
        });
    }
    findings.push(match reuses_ports() {
        Ok(()) => Finding::ok("SO_REUSEPORT", "it works"),
        Err(error) => Finding::wrong(
            "SO_REUSEPORT",
            format!("{error}: workers cannot share a port"),
            "let the sandbox allow it, or run with --workers 1",
        ),
    });
    findings.push(match is_pagemap_scan_available() {
        true => Finding::ok(
            "PAGEMAP_SCAN",
            "it works: an instance's memory is cleared by its pages",
        ),
        false => Finding::slow(
            "PAGEMAP_SCAN",
            "the kernel lacks it: more of an instance's memory is cleared after each use",
            "Linux 6.7 or later",
        ),
    });
    findings.extend(huge_pages());
    findings
}

fn version() -> Finding {
    const NAME: &str = "kernel";
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < NEEDED => Finding::wrong(
            NAME,
            format!("Linux {release} has no openat2(2), by which --dir keeps guests inside"),
            "Linux 5.6 or later",
        ),
        _ => Finding::ok(NAME, format!("Linux {release}")),
    }
}

fn sends_files() -> Result<(), Errno> {
    let mut file = std::fs::File::from(memfd_create("netwasm-doctor", MemfdFlags::CLOEXEC)?);
    file.write_all(&[0; SENT]).map_err(|error| errno(&error))?;
    let (to, _other) = UnixStream::pair().map_err(|error| errno(&error))?;
    let mut offset = 0;
    sendfile(&to, &file, Some(&mut offset), SENT).map(drop)
}

fn splices() -> Result<(), Errno> {
    let (from, mut other) = UnixStream::pair().map_err(|error| errno(&error))?;
    other.write_all(&[0; SENT]).map_err(|error| errno(&error))?;
    let (_read, write) = pipe()?;
    splice(&from, None, &write, None, SENT, SpliceFlags::NONBLOCK).map(drop)
}

fn reuses_ports() -> Result<(), Errno> {
    let bound = |port: u16| -> Result<OwnedFd, Errno> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        Ok(socket)
    };
    let first = bound(0)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
    bound(address.port()).map(drop)
}

/// Looks at transparent huge pages, which the allocator turns off for the process.
fn huge_pages() -> Option<Finding> {
    const NAME: &str = "huge pages";
    let mode = word("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let is_on = status.lines().any(|line| line == "THP_enabled:\t1");
    Some(match mode.contains("[always]") && is_on {
        true => Finding::slow(
            NAME,
            "transparent ones are always made: an instance may take 2 MiB where it uses 64 KiB",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        false => Finding::ok(
            NAME,
            format!("{mode}; none are made for this process unless it asks"),
        ),
    })
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
