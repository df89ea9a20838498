//! A running host.

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Client;
use crate::counts::Counts;
use crate::deadline::Deadline;
use crate::guardian::Guardian;
#[cfg(feature = "http2")]
use crate::http::Http2Client;
use crate::http::HttpClient;
use crate::listener::Listener;
use crate::log::Log;
use crate::start::Start;
use crate::tls::Settings;
use crate::udp::UdpClient;

/// Time that a shutdown takes beyond the time limit: the default of
/// `--shutdown-timeout`.
const DRAIN: Duration = Duration::from_secs(5);

/// A running server: the host with a component.
///
/// End it by [`stop`](Self::stop), which checks how the run went. Dropping it
/// kills the host and waits for its end; if the test is panicking, it also prints
/// the log. The host ends with the test's process, too, however that ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `None` once the host has ended.
    guardian: Option<Guardian>,
    /// URLs of the listeners.
    listening: Vec<String>,
    pub(crate) log: Log,
    pub(crate) limit: Duration,
    /// Holds the socket and the certificates.
    _scratch: TempDir,
    authority: Option<PathBuf>,
}

impl Server {
    /// Connects to the TCP listener.
    ///
    /// # Panics
    /// Panics if there is none, or if it does not accept within the time limit.
    #[track_caller]
    #[must_use]
    pub fn connect_tcp(&self) -> Client {
        let client = self
            .find(Listener::Tcp)
            .and_then(|address| Client::tcp(address, self.limit, &self.log));
        self.checked(client)
    }

    /// Connects to the TLS listener, and completes the handshake. The client
    /// trusts only the authority of this run.
    ///
    /// # Panics
    /// Panics if there is none, or if the handshake fails or does not end within
    /// the time limit.
    #[track_caller]
    #[must_use]
    pub fn connect_tls(&self) -> Client {
        self.checked(self.secure(Listener::Tls, &Settings::default()))
    }

    /// Like [`Self::connect_tls`], and offers these protocols by ALPN
    /// ([`crate::Component::alpn`]). [`Client::alpn`] tells which was chosen.
    ///
    /// # Panics
    /// Panics as [`Self::connect_tls`] does.
    #[track_caller]
    #[must_use]
    pub fn connect_tls_alpn(&self, protocols: &[&str]) -> Client {
        let settings = Settings {
            alpn: protocols,
            ..Settings::default()
        };
        self.checked(self.secure(Listener::Tls, &settings))
    }

    /// Like [`Self::connect_tls`], with a certificate of the client, made for
    /// this connection and with this common name
    /// ([`crate::Component::client_certificates`]).
    ///
    /// # Panics
    /// Panics as [`Self::connect_tls`] does.
    #[track_caller]
    #[must_use]
    pub fn connect_tls_as(&self, name: &str) -> Client {
        let settings = Settings {
            certificate: Some(name),
            ..Settings::default()
        };
        self.checked(self.secure(Listener::Tls, &settings))
    }

    /// Connects to the HTTP listener, for what [`Self::http`] cannot send or
    /// receive: a malformed request, a response that does not end.
    ///
    /// # Panics
    /// Panics if there is none, or if it does not accept within the time limit.
    #[track_caller]
    #[must_use]
    pub fn connect_http(&self) -> Client {
        let client = self
            .find(Listener::Http)
            .and_then(|address| Client::tcp(address, self.limit, &self.log));
        self.checked(client)
    }

    /// Connects to the Unix socket.
    ///
    /// # Panics
    /// Panics if there is none, or if it does not accept within the time limit.
    #[track_caller]
    #[must_use]
    pub fn connect_unix(&self) -> Client {
        let client = self
            .url(Listener::Unix)
            .and_then(|path| Client::unix(Path::new(path), self.limit, &self.log));
        self.checked(client)
    }

    /// Connects over TCP to an address, such as that of a program's own listener.
    ///
    /// # Panics
    /// Panics if nobody accepts there within the time limit.
    #[track_caller]
    #[must_use]
    pub fn connect_to(&self, address: SocketAddr) -> Client {
        self.checked(Client::tcp(address, self.limit, &self.log))
    }

    /// Makes a client of the UDP listener.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    #[must_use]
    pub fn udp(&self) -> UdpClient {
        let client = self.find(Listener::Udp).and_then(|address| {
            UdpClient::connect(address, self.limit, &self.log)
                .map_err(|error| format!("udp {address}: no socket: {error}"))
        });
        self.checked(client)
    }

    /// Makes a client of the HTTP listener. It connects at its first request.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    #[must_use]
    pub fn http(&self) -> HttpClient {
        let address = self.checked(self.find(Listener::Http));
        HttpClient::new(address, false, self.limit, &self.log)
    }

    /// Makes a client of the HTTPS listener. It connects at its first request,
    /// and trusts only the authority of this run.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    #[must_use]
    pub fn https(&self) -> HttpClient {
        let address = self.checked(self.find(Listener::Https));
        HttpClient::new(address, true, self.limit, &self.log)
    }

    /// Makes a client of the HTTP listener that speaks HTTP/2, without TLS. It
    /// connects at its first request.
    ///
    /// # Panics
    /// Panics if there is none.
    #[cfg(feature = "http2")]
    #[track_caller]
    #[must_use]
    pub fn http2(&self) -> Http2Client {
        let address = self.checked(self.find(Listener::Http));
        Http2Client::new(address, false, self.limit, &self.log)
    }

    /// Makes a client of the HTTPS listener that speaks HTTP/2, by ALPN. It
    /// connects at its first request, and trusts only the authority of this run.
    ///
    /// # Panics
    /// Panics if there is none.
    #[cfg(feature = "http2")]
    #[track_caller]
    #[must_use]
    pub fn https2(&self) -> Http2Client {
        let address = self.checked(self.find(Listener::Https));
        Http2Client::new(address, true, self.limit, &self.log)
    }

    /// Returns the address of the listener of a kind: `tcp`, `tls`, `udp`,
    /// `http` or `https`. Another component may connect to it.
    ///
    /// # Panics
    /// Panics if there is none.
    #[track_caller]
    #[must_use]
    pub fn address(&self, kind: &str) -> SocketAddr {
        let scheme = format!("{kind}://");
        let mut urls = self.listening.iter();
        let address = urls.find_map(|url| url.strip_prefix(&scheme)?.parse().ok());
        let none = || format!("no {kind} listener among {:?}", self.listening);
        self.checked(address.ok_or_else(none))
    }

    /// Returns the URLs of all listeners, for other clients, in the host's order:
    /// `tcp://127.0.0.1:41873`, `unix:/tmp/x/server.sock`.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.listening
    }

    /// Returns the file in PEM with the authority that signed the server's
    /// certificate, for other clients. The file is removed with the server.
    ///
    /// # Panics
    /// Panics if there is no listener for TLS or HTTPS.
    #[track_caller]
    #[must_use]
    pub fn authority(&self) -> &Path {
        let authority = self.authority.as_deref();
        self.checked(authority.ok_or_else(|| "there is no .tls() and no .https()".to_owned()))
    }

    /// Returns the log. It can be read while the server runs, and afterwards.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the process id of the host.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, waits for the graceful shutdown, and returns the host's
    /// counts.
    ///
    /// An [`HttpClient`] may live on: the host closes connections that wait for a
    /// request. Close other clients first. A connection that stays open is aborted
    /// after 5 seconds.
    ///
    /// # Panics
    /// Panics if an instance of the component trapped, if connections were
    /// aborted, if the host reports a failure, or if it does not end within the
    /// time limit and another 5 seconds. The message has the log.
    #[track_caller]
    pub fn stop(mut self) -> Counts {
        match self.try_stop() {
            Ok(counts) if counts.traps == 0 => counts,
            Ok(counts) => panic!(
                "the component trapped: traps={}\n{}",
                counts.traps,
                self.log.report()
            ),
            Err(fault) => panic!("{fault}\n{}", self.log.report()),
        }
    }

    /// Like [`Self::stop`], for tests of a component that traps: accepts traps.
    ///
    /// # Panics
    /// Panics as [`Self::stop`] does, except for traps.
    #[track_caller]
    #[must_use = "the counts tell how many traps there were"]
    pub fn stop_despite_traps(mut self) -> Counts {
        match self.try_stop() {
            Ok(counts) => counts,
            Err(fault) => panic!("{fault}\n{}", self.log.report()),
        }
    }
}

impl Server {
    /// Starts the host.
    ///
    /// # Errors
    /// Fails if it does not start, or does not listen in time. The message has
    /// the log.
    pub(crate) fn start(start: Start<'_>) -> Result<Self, String> {
        let limit = start.limit;
        let scratch = tempfile::tempdir()
            .map_err(|error| format!("there is no temporary directory: {error}"))?;
        let (args, authority) = start.args(scratch.path())?;
        let mut command = start.host.command(&args)?;
        command
            // Only the flags decide what is logged.
            .env_remove("RUST_LOG")
            .envs(start.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let log = Log::new(limit);
        let (child, guardian) = spawn(&mut command, &log)
            .map_err(|error| format!("{command:?} cannot be started: {error}"))?;
        let mut server = Self {
            child,
            guardian: Some(guardian),
            listening: Vec::new(),
            log,
            limit,
            _scratch: scratch,
            authority,
        };
        match server.log.listeners(limit, start.listeners.len()) {
            Some(listening) => {
                server.listening = listening;
                Ok(server)
            }
            None => Err(server.not_listening(&command)),
        }
    }

    /// Says why the host does not listen.
    fn not_listening(&mut self, command: &Command) -> String {
        let limit = self.limit;
        // Its output may end a little earlier than it does.
        let deadline = Deadline::after(Duration::from_secs(1));
        let ended = loop {
            match self.child.try_wait() {
                Ok(None) if self.log.has_ended() && deadline.left().is_some() => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(status) => break status,
                Err(_) => break None,
            }
        };
        let fault = match ended {
            Some(status) => format!("the host ended ({status}) before it listened"),
            None => format!("the host did not listen within {limit:?}"),
        };
        format!("{fault}: {command:?}\n{}", self.log.report())
    }

    pub(crate) fn secure(
        &self,
        listener: Listener,
        settings: &Settings<'_>,
    ) -> Result<Client, String> {
        let address = self.find(listener)?;
        Client::tls(address, settings, self.limit, &self.log)
    }

    /// Returns the address of a listener.
    pub(crate) fn find(&self, listener: Listener) -> Result<SocketAddr, String> {
        let address = self.url(listener)?;
        address
            .parse()
            .map_err(|_| format!("the host listens on {address:?}, which is not an address"))
    }

    /// Returns what follows the scheme in the URL of a listener.
    fn url(&self, listener: Listener) -> Result<&str, String> {
        let mut urls = self.listening.iter();
        let found = urls.find_map(|url| url.strip_prefix(listener.scheme()));
        found.ok_or_else(|| {
            format!(
                "the server has no such listener: add {} before .start()",
                listener.method()
            )
        })
    }

    #[track_caller]
    pub(crate) fn checked<T>(&self, result: Result<T, String>) -> T {
        match result {
            Ok(value) => value,
            Err(fault) => panic!("{fault}\n{}", self.log.report()),
        }
    }

    fn try_stop(&mut self) -> Result<Counts, String> {
        if let Err(error) = self.terminate() {
            return Err(format!("SIGTERM cannot be sent: {error}"));
        }
        let limit = self.limit + DRAIN;
        let Some(status) = self.wait_for(limit) else {
            return Err(format!("the host did not end within {limit:?}"));
        };
        self.log.wait_for_end(self.limit);
        let counts = Counts::in_log(&self.log.lines());
        if !status.success() {
            return Err(unsuccessful(status, counts.as_ref()));
        }
        counts.ok_or_else(|| {
            "the log has no line 'ended' with all counts: does the host's version fit?".to_owned()
        })
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        let process = Pid::from_child(&self.child);
        Ok(kill_process(process, Signal::TERM)?)
    }

    /// Waits for the host's end. Returns `None` if it does not end in time.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(limit);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.guardian = None;
                return Some(status);
            }
            deadline.left()?;
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.guardian.is_some() {
            // It may have ended in the meantime.
            let _ = self.child.kill();
            self.guardian = None;
            let _ = self.child.wait();
        }
        if std::thread::panicking()
            && let Some(log) = self.log.rest()
        {
            eprintln!("{log}");
        }
    }
}

/// Starts the host, its guardian, and the threads that read its output.
fn spawn(command: &mut Command, log: &Log) -> io::Result<(Child, Guardian)> {
    let mut child = command.spawn()?;
    let guardian = match Guardian::of(child.id()) {
        Ok(guardian) => guardian,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    if let Some(output) = child.stdout.take() {
        log.follow_output(output);
    }
    if let Some(errors) = child.stderr.take() {
        log.follow_errors(errors);
    }
    Ok((child, guardian))
}

/// Says why the host did not exit with code 0.
fn unsuccessful(status: ExitStatus, counts: Option<&Counts>) -> String {
    match counts {
        Some(counts) if counts.aborted > 0 => format!(
            "{} connections were still open at the end: close the clients before stop()",
            counts.aborted
        ),
        _ if status.signal().is_some() => format!("the host was killed ({status})"),
        _ => format!("the host failed ({status})"),
    }
}
