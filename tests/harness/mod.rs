//! Runs the real `netwasm` binary in tests: starts it on ports that it picks,
//! reads its output and its log, looks into `/proc`, and ends it.
//!
//! Every wait has a condition and a deadline. If a test fails, its server is
//! killed and the log is printed.

mod admin;
mod component;
mod conditional;
mod dns;
mod finished;
mod http;
pub(crate) mod http2;
mod http_file;
mod log;
mod namespace;
mod network;
mod otlp;
mod pace;
mod peer;
mod process;
mod redis;
mod registry;
mod reload;
mod run;
mod server;
mod strace;
mod tls;
mod upstream;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::redis::Redis;
pub(crate) use admin::{admin_of, administered, ask_admin, ok, probes_of, scrape};
pub(crate) use component::{
    datagram_handler, handler, handler_of_another_host, handler_that_has, handler_with_sockets,
};
pub(crate) use conditional::{EARLIER, IN_DASHES, LATER, conditions};
pub(crate) use dns::{Dns, Reply as DnsReply, aliases};
pub(crate) use finished::Finished;
pub(crate) use http::{Response, message, post};
pub(crate) use http_file::{FileClient, LONG_AGO, Reply, make_old, request, site, write_old};
pub(crate) use http2::Http2;
pub(crate) use log::Log;
pub(crate) use namespace::{SystemFile, in_own_network};
pub(crate) use network::{datagram_echo, refusing, refusing_datagrams, set_mtu, with_ipv6};
pub(crate) use otlp::{CollectedSpan, Collector, Point};
pub(crate) use pace::{Pace, slowly};
pub(crate) use peer::{
    Peer, TcpPeer, UdpPeer, echoes, fill, full_backlog, full_backlog_at, pattern, same,
};
pub(crate) use process::{raise_descriptor_limit, signal};
pub(crate) use registry::{Asked, Registry, Unusual, alone, artifact, log_in};
pub(crate) use reload::{
    Clients, Configured, Installed, install, install_as, refused, reload, reload_or_not, replaced,
    threads, until_closed,
};
pub(crate) use run::Run;
pub(crate) use server::{Server, unix_address, write};
pub(crate) use strace::{Strace, sent_by_sendfile, spliced};
pub(crate) use tls::{
    Client, TlsPeer, TlsServer, UNTRUSTED, certificates, mutual_config, server_config,
};
pub(crate) use upstream::{Http2Upstream, SecureUpstream, Secured, Upstream, serve_agreed};

/// Deadline for anything that should happen at once, on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Deadline for a start. A host that was built without optimisation may have to
/// compile the component, beside other such hosts.
pub(crate) const START: Duration = Duration::from_secs(150);

/// Waits for a condition: calls `probe` until it returns a value.
///
/// # Panics
/// Panics if there is no value within [`DEADLINE`], and says that `what` did
/// not happen.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, probe)
}

/// Like [`eventually`], with another deadline.
pub(crate) fn within<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "{what}: not within {deadline:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Checks that less time has passed.
#[track_caller]
pub(crate) fn took_less(begun: Instant, limit: Duration) {
    let took = begun.elapsed();
    assert!(took < limit, "{took:?}, not less than {limit:?}");
}

/// Checks that some work, which returns its time, takes less than a limit. It is done
/// three times at most, because other programs may hold it up once.
#[track_caller]
pub(crate) fn is_quick(limit: Duration, mut work: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let took = work();
        if took < limit {
            return;
        }
        seen.push(took);
    }
    panic!("{seen:?}, never less than {limit:?}");
}

/// Checks that as much time has passed.
#[track_caller]
pub(crate) fn took_more(begun: Instant, least: Duration) {
    let took = begun.elapsed();
    assert!(took >= least, "{took:?}, not {least:?}");
}

/// Prints that a test proves nothing here, and why. In CI, which has all that
/// tests need, the test fails instead.
#[track_caller]
pub(crate) fn skipped(why: &str) {
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "nothing is skipped where CI is set: {why}");
    eprintln!("skipped: {why}");
}

/// Returns the path of a compiled guest: `guests/NAME.wasm`, or a guest that
/// was just built in the directory that `NETWASM_GUESTS` names.
pub(crate) fn guest(name: &str) -> PathBuf {
    std::env::var_os("NETWASM_GUESTS")
        .map_or_else(|| repository().join("guests"), PathBuf::from)
        .join(format!("{name}.wasm"))
}

/// Returns the directory of the cache that tests share, so that a component is
/// compiled once for all of them.
pub(crate) fn cache() -> &'static str {
    concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")
}

/// Returns the path of a file in `certs/`.
pub(crate) fn cert(name: &str) -> PathBuf {
    repository().join("certs").join(name)
}

/// Returns the workspace's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns a port for those who must name one. No other test of this process gets it,
/// and it is below those that the system gives out by itself (ip(7),
/// `ip_local_port_range`). It was free for TCP on all IPv4 addresses. Tests of another
/// process begin elsewhere, and seldom come to the same port. If the system gives out
/// all ports, nothing keeps this one free.
pub(crate) fn free_port() -> u16 {
    /// Above those that programs are known by.
    const FIRST: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.expect("the range");
    let end = range
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok());
    let count = end.unwrap_or(0_u32).saturating_sub(FIRST);
    if count == 0 {
        // The system gives out all of them.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        return listener.local_addr().expect("its address").port();
    }
    // Of another process, most likely others.
    let first = std::process::id().wrapping_mul(97);
    let ports = (0..count).map(|_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + first.wrapping_add(number) % count;
        u16::try_from(port).expect("a port")
    });
    let mut free = ports.filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok());
    free.next().expect("a free port")
}

/// Makes a directory that is removed when the value is dropped.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Returns a path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
