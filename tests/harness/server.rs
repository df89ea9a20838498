//! A run of the binary: its command line, the running server, and its end.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{
    DEADLINE, Log, Peer, START, TcpPeer, UdpPeer, cert, eventually, guest, process, skipped, text,
    within,
};

/// A command line under construction.
pub(crate) struct Run {
    command: Command,
    /// Number of `listening` lines it will print.
    listening: usize,
    guest_args: Vec<String>,
    /// Bytes for standard input.
    input: Vec<u8>,
    obeys_permissions: bool,
}

impl Run {
    /// Makes `netwasm run guests/NAME.wasm`.
    pub(crate) fn guest(name: &str) -> Self {
        Self::component(&guest(name))
    }

    /// Makes `netwasm run FILE`.
    pub(crate) fn component(file: &Path) -> Self {
        Self::command(&["run", text(file)])
    }

    /// Makes `netwasm run --config FILE`, which has so many addresses to listen
    /// on.
    pub(crate) fn config(file: &Path, listening: usize) -> Self {
        let mut run = Self::command(&["run", "--config", text(file)]);
        run.listening = listening;
        run
    }

    /// Makes `netwasm ARGS`.
    pub(crate) fn command(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netwasm"));
        // Tests share a cache, so that a component is compiled once for all of
        // them.
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
        command
            .args(args)
            .env("XDG_CACHE_HOME", cache)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            command,
            listening: 0,
            guest_args: Vec::new(),
            input: Vec::new(),
            obeys_permissions: false,
        }
    }

    /// Listens for TCP on a port that the system picks.
    pub(crate) fn tcp(self) -> Self {
        self.listen("--tcp", "127.0.0.1:0")
    }

    /// Listens for UDP on a port that the system picks.
    pub(crate) fn udp(self) -> Self {
        self.listen("--udp", "127.0.0.1:0")
    }

    /// Listens for TLS on a port that the system picks, with a certificate for
    /// `localhost`.
    pub(crate) fn tls(self) -> Self {
        self.listen("--tls", "127.0.0.1:0")
            .certificate("cert.pem", "key.pem")
    }

    /// Listens for HTTP on a port that the system picks.
    pub(crate) fn http(self) -> Self {
        self.listen("--http", "127.0.0.1:0")
    }

    /// Listens for HTTPS on a port that the system picks, with a certificate
    /// for `localhost`.
    pub(crate) fn https(self) -> Self {
        self.listen("--https", "127.0.0.1:0")
            .certificate("cert.pem", "key.pem")
    }

    /// Adds a listener. A port alone counts as two if this machine has IPv6.
    pub(crate) fn listen(mut self, flag: &str, address: &str) -> Self {
        let both = address.parse::<u16>().is_ok() && TcpListener::bind("[::1]:0").is_ok();
        self.listening += if both { 2 } else { 1 };
        self.args([flag, address])
    }

    /// Adds a certificate of `certs/`.
    pub(crate) fn certificate(self, chain: &str, key: &str) -> Self {
        self.args(["--cert", text(&cert(chain)), "--key", text(&cert(key))])
    }

    /// Adds arguments for the host.
    pub(crate) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, args: I) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the host's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds arguments for the guest, which follow `--`.
    pub(crate) fn guest_args(mut self, args: &[&str]) -> Self {
        self.guest_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Sends the log elsewhere. The harness then sees none of it.
    pub(crate) fn log_to(mut self, log: impl Into<Stdio>) -> Self {
        self.command.stderr(log);
        self
    }

    /// Sends the output elsewhere. The harness then sees none of it.
    pub(crate) fn print_to(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stdout(output);
        self
    }

    /// Runs without root's right to override file permissions.
    pub(crate) fn obeys_permissions(mut self) -> Self {
        self.obeys_permissions = true;
        self
    }

    /// Runs as another user, and a group of the same number.
    pub(crate) fn user(mut self, number: u32) -> Self {
        self.command.uid(number).gid(number);
        self
    }

    /// Runs under a limit of ulimit(1), such as `-n 64`.
    pub(crate) fn ulimit(self, limit: &str) -> Self {
        let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        self.by("sh", &["-c", &script])
    }

    /// Runs under strace(1) from the first system call; strace's own messages
    /// are lost. Returns `None`, and prints why, if there is no strace.
    pub(crate) fn traced(self, options: &[&str]) -> Option<Self> {
        let found = Command::new("strace")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            skipped("there is no strace here");
            return None;
        }
        let always = ["-f", "-o", "/dev/null"];
        Some(self.by("strace", &[&always, options].concat()))
    }

    /// Starts the run through another program.
    pub(crate) fn by(mut self, program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    /// Writes these bytes to standard input, then closes it.
    pub(crate) fn input(mut self, bytes: &[u8]) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = bytes.to_vec();
        self
    }

    /// Starts a program, without waiting for listeners. A program opens its
    /// own.
    pub(crate) fn start_command(self) -> Server {
        let (child, stdout, log) = self.spawn();
        Server {
            child,
            stdout,
            log,
            listening: Vec::new(),
            status: None,
        }
    }

    /// Starts the echo on `wasi:sockets@0.3`, and returns its address, too.
    pub(crate) fn socket_echo() -> (Server, SocketAddr) {
        let any = "127.0.0.1:0";
        let command = Self::guest("socket-echo")
            .args(["--allow-listen", any])
            .guest_args(&[any])
            .start_command();
        let address = command.own_listener();
        (command, address)
    }

    /// Starts the server, and waits until all listeners accept.
    pub(crate) fn start(self) -> Server {
        let expected = self.listening;
        assert!(expected > 0, "a server has a listener");
        let mut server = self.start_command();
        let lines = server
            .stdout
            .wait(START, &format!("{expected} listening lines"), |lines| {
                (lines.len() >= expected).then(|| lines.to_vec())
            });
        server.listening = lines
            .iter()
            .map(|line| {
                let url = line.strip_prefix("listening ");
                url.unwrap_or_else(|| panic!("not a listening line: {line}"))
                    .to_owned()
            })
            .collect();
        server
    }

    /// Runs the command until it ends by itself.
    pub(crate) fn output(self) -> Finished {
        let mut server = self.start_command();
        let status = server.wait_within(START);
        Finished {
            code: status.code(),
            stdout: server.stdout.text(),
            stderr: server.log.text(),
        }
    }

    fn spawn(mut self) -> (Child, Log, Log) {
        if !self.guest_args.is_empty() {
            self.command.arg("--").args(&self.guest_args);
        }
        let mut child = if self.obeys_permissions {
            process::spawn_without_override(&mut self.command)
        } else {
            self.command.spawn()
        }
        .expect("netwasm starts");
        if let Some(mut stdin) = child.stdin.take() {
            // On a thread, because its output may fill a pipe meanwhile.
            let input = self.input;
            std::thread::spawn(move || stdin.write_all(&input));
        }
        let stdout = child.stdout.take().map(Log::follow).unwrap_or_default();
        let stderr = child.stderr.take().map(Log::follow).unwrap_or_default();
        (child, stdout, stderr)
    }
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks that the command was refused: with this exit code, no output, and
    /// a message that contains all needles and is neither a panic nor a
    /// backtrace. With code 1 the message is one line.
    pub(crate) fn refused(&self, code: i32, needles: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert_eq!(self.stdout, "", "nothing is printed where nothing listens");
        for needle in needles {
            assert!(self.stderr.contains(needle), "no {needle:?} in {self:#?}");
        }
        for bad in ["panicked", "backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(bad), "{self:#?}");
        }
        if code == 1 {
            assert_eq!(
                self.stderr.trim_end().lines().count(),
                1,
                "one line: {self:#?}"
            );
        }
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Its standard output.
    pub(crate) stdout: Log,
    /// Its log, on standard error.
    pub(crate) log: Log,
    /// URLs of the listeners, in the order of the command line.
    pub(crate) listening: Vec<String>,
    status: Option<ExitStatus>,
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
    /// within 300 ms.
    pub(crate) fn idles(&self) {
        let (mut cpu, mut since) = (self.cpu_seconds(), Instant::now());
        eventually("it idles", || {
            let now = self.cpu_seconds();
            if now - cpu > 0.05 {
                (cpu, since) = (now, Instant::now());
            }
            (since.elapsed() > Duration::from_millis(300)).then_some(())
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

    /// True if the server has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    /// Waits until the server ends.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_within(DEADLINE)
    }

    fn wait_within(&mut self, deadline: Duration) -> ExitStatus {
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
        peer.send(b"still there?");
        assert_eq!(peer.take(12), b"still there?");
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
