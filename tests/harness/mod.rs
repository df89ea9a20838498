//! Runs the real `netwasm` binary for the tests: starts it on ports that it
//! picks, reads what it prints and logs, looks into `/proc`, and ends it.
//!
//! Everything that waits has a deadline and waits for a condition; a server
//! that a failed test leaves behind is killed, and its log is printed.

mod component;
mod dns;
mod http;
pub(crate) mod http2;
mod http_file;
mod log;
mod namespace;
mod network;
mod pace;
mod peer;
mod process;
mod server;
mod strace;
mod tls;
mod upstream;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use component::{datagram_handler, handler, handler_of_another_host, handler_that_has};
pub(crate) use dns::{Dns, Reply as DnsReply, aliases};
pub(crate) use http::{Response, message, post};
pub(crate) use http_file::{FileClient, LONG_AGO, Reply, make_old, request, site, write_old};
pub(crate) use http2::Http2;
pub(crate) use log::Log;
pub(crate) use namespace::{SystemFile, in_own_network};
pub(crate) use network::{refusing, refusing_datagrams, set_mtu, with_ipv6};
pub(crate) use pace::{Pace, slowly};
pub(crate) use peer::{Peer, TcpPeer, UdpPeer, echoes, fill, full_backlog, pattern, same};
pub(crate) use process::raise_descriptor_limit;
pub(crate) use server::{Finished, Run, Server, unix_address, write};
pub(crate) use strace::{Strace, sent_by_sendfile, spliced};
pub(crate) use tls::{Client, TlsPeer, TlsServer, certificates, server_config};
pub(crate) use upstream::{SecureUpstream, Secured, Upstream};

/// How long anything may take that should happen at once, on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// How long a start may take, where the component must be compiled by a host
/// that was built without optimisation, beside others that do the same.
pub(crate) const START: Duration = Duration::from_secs(150);

/// Waits for a condition: calls `probe` until it gives something.
///
/// # Panics
/// After [`DEADLINE`], saying that `what` did not happen.
pub(crate) fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(DEADLINE, what, probe)
}

/// The same with another deadline.
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

/// Says that a test proves nothing here, and why. In CI, which has all that a
/// test needs, it fails instead.
#[track_caller]
pub(crate) fn skipped(why: &str) {
    let in_ci = std::env::var_os("CI").is_some();
    assert!(!in_ci, "nothing is skipped where CI is set: {why}");
    eprintln!("skipped: {why}");
}

/// A compiled guest: `guests/NAME.wasm`, or one that was just built in the
/// directory that `NETWASM_GUESTS` names.
pub(crate) fn guest(name: &str) -> PathBuf {
    std::env::var_os("NETWASM_GUESTS")
        .map_or_else(|| repository().join("guests"), PathBuf::from)
        .join(format!("{name}.wasm"))
}

/// A file of the test certificates.
pub(crate) fn cert(name: &str) -> PathBuf {
    repository().join("certs").join(name)
}

/// The workspace's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A directory that is removed with the value.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
