//! A command line of the binary, and its start.

use std::ffi::OsStr;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Finished, Log, START, Server, cache, cert, guest, process, skipped, text};

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
        command
            .args(args)
            .env("XDG_CACHE_HOME", cache())
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
