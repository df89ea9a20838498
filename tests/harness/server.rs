//! A running server, and its end.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    DEADLINE, Log, Peer, START, TcpPeer, UdpPeer, echoes, eventually, pattern, process, skipped,
    within,
};

/// A running server.
pub(crate) struct Server {
    pub(super) child: Child,
    /// Its standard output.
    pub(crate) stdout: Log,
    /// Its log, on standard error.
    pub(crate) log: Log,
    /// URLs of the listeners, in the order of the command line.
    pub(crate) listening: Vec<String>,
    pub(super) status: Option<ExitStatus>,
}

impl Server {
    /// Returns the address of the first listener for `tcp`, `tls`, `udp`,
    /// `http` or `https`.
    pub(crate) fn address(&self, scheme: &str) -> SocketAddr {
        let prefix = format!("{scheme}://");
        let address = self
            .listening
            .iter()
            .find_map(|url| url.strip_prefix(&prefix));
        let address = address.unwrap_or_else(|| panic!("no {scheme} in {:?}", self.listening));
        address.parse().expect("an address")
    }

    /// Waits for the line `listening on ADDRESS` of a program that opens its
    /// own listener, and returns the address.
    pub(crate) fn own_listener(&self) -> SocketAddr {
        let line = self.stdout.wait(START, "its address", |lines| {
            let mut lines = lines.iter();
            lines.find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
        });
        line.parse().expect("an address")
    }

    /// Connects to the TCP listener.
    pub(crate) fn connect(&self) -> TcpPeer {
        Peer::connect(self.address("tcp"))
    }

    /// Connects to the HTTP listener.
    pub(crate) fn connect_http(&self) -> TcpPeer {
        Peer::connect(self.address("http"))
    }

    /// Returns a client of the UDP listener.
    pub(crate) fn datagrams(&self) -> UdpPeer {
        UdpPeer::connect(self.address("udp"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns duplicates of the server's sockets; `None`, and prints why, if
    /// this machine does not allow that.
    pub(crate) fn sockets(&self) -> Option<Vec<socket2::Socket>> {
        let sockets = process::sockets(self.pid());
        sockets
            .inspect_err(|error| skipped(&format!("pidfd_getfd(2): {error}")))
            .ok()
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        process::descriptors(self.pid())
    }

    /// Returns the number of open descriptors at rest: after all threads have
    /// started, and a connection has come and gone.
    pub(crate) fn descriptors_at_rest(&self) -> usize {
        if self.listening.iter().any(|url| url.starts_with("http://")) {
            // The first request makes the first instance.
            self.connect_http().fetch("/");
        }
        let stream = ["tcp://", "tls://", "http://", "https://"];
        for url in &self.listening {
            let address = stream.iter().find_map(|scheme| url.strip_prefix(scheme));
            if let Some(address) = address {
                Peer::come_and_go(address.parse().expect("an address"));
            }
        }
        self.settled_descriptors()
    }

    /// Returns the number of open descriptors, once it has not changed for 200
    /// ms.
    pub(crate) fn settled_descriptors(&self) -> usize {
        let (mut last, mut since) = (0, Instant::now());
        eventually("descriptors at rest", || {
            let now = self.descriptors();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            (since.elapsed() > Duration::from_millis(200)).then_some(now)
        })
    }

    /// Waits until the server is idle: it has used at most 50 ms of CPU time
    /// within 300 ms, and not for want of a processor.
    pub(crate) fn idles(&self) {
        let (mut cpu, mut since) = (self.cpu_seconds(), Instant::now());
        eventually("it idles", || {
            let now = self.cpu_seconds();
            if now - cpu > 0.05 {
                (cpu, since) = (now, Instant::now());
            }
            let rested = since.elapsed() > Duration::from_millis(300);
            (rested && !process::has_work(self.pid())).then_some(())
        });
    }

    /// Waits until at most `at_most` descriptors are open.
    pub(crate) fn wait_for_descriptors(&self, at_most: usize) {
        eventually(&format!("no more than {at_most} descriptors"), || {
            (self.descriptors() <= at_most).then_some(())
        });
    }

    /// Returns the anonymous resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        process::resident(self.pid())
    }

    /// Returns the CPU time used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.pid())
    }

    /// Limits the server to the descriptors that it has open, until
    /// [`Self::give_descriptors_back`].
    pub(crate) fn take_descriptors_away(&self) {
        let unused = process::lowest_unused_descriptor(self.pid());
        process::limit_descriptors(self.pid(), unused);
    }

    /// Limits the server to so many descriptors more than it has open, until
    /// [`Self::give_descriptors_back`].
    pub(crate) fn leave_descriptors(&self, more: u64) {
        let unused = process::lowest_unused_descriptor(self.pid());
        process::limit_descriptors(self.pid(), unused + more);
    }

    pub(crate) fn give_descriptors_back(&self) {
        process::limit_descriptors(self.pid(), 1024);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Sends SIGTERM again, so long after the first one that it counts. That one
    /// was noticed at `noticed`.
    pub(crate) fn terminate_again(&self, noticed: Instant) {
        /// Time within which signals count as one.
        const ONE: Duration = Duration::from_secs(1);
        std::thread::sleep(ONE.saturating_sub(noticed.elapsed()));
        self.signal(Signal::TERM);
    }

    /// True if the server has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Waits until the server ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_within(DEADLINE)
    }

    pub(super) fn wait_within(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = within(deadline, "the server's end", || {
            child.try_wait().expect("its status")
        });
        self.status = Some(status);
        assert_eq!(status.signal(), None, "it ends by itself, not by a signal");
        status
    }

    /// Sends SIGTERM, and checks that the server drains and exits with code 0.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "drained");
    }

    /// Checks that the server still serves: it echoes on a new connection.
    pub(crate) fn serves_echo(&self) {
        let mut peer = self.connect();
        peer.echoes(b"still there?");
    }

    /// Checks that streams of these sizes come back, and a thousand small
    /// messages one by one.
    pub(crate) fn echoes_little(&self, sizes: &[usize]) {
        for size in sizes {
            echoes(self.connect(), &pattern(*size));
        }
        let mut peer = self.connect();
        for _ in 0..1000 {
            peer.echoes(b"ping");
        }
    }

    /// Checks that what eight clients send at once comes back to each unmixed.
    pub(crate) fn keeps_clients_apart(&self) {
        std::thread::scope(|scope| {
            for client in 0..8_u8 {
                scope.spawn(move || {
                    let bytes = pattern(1 << 20);
                    let bytes: Vec<u8> = bytes.iter().map(|byte| byte ^ client).collect();
                    echoes(self.connect(), &bytes);
                });
            }
        });
    }

    /// Waits until the HTTP listener refuses connections.
    pub(crate) fn refuses_http(&self) {
        let address = self.address("http");
        eventually("a closed listener", || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1))
                .is_err()
                .then_some(())
        });
    }

    /// Checks that the server still answers a request on a new connection.
    #[track_caller]
    pub(crate) fn serves_http(&self) {
        let response = self.connect_http().fetch("/request?still-there");
        assert_eq!(response.status, 200, "{response:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.status.is_none() {
            // The server may have ended in the meantime.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n  {}", self.log.lines().join("\n  "));
        }
    }
}

/// Returns the address of a Unix listener at a path.
pub(crate) fn unix_address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Writes a file for a test, and returns its path.
pub(crate) fn write(directory: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, contents).expect("a file is written");
    path
}
