//! A client of a byte stream: TCP, TLS, or a Unix socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustls::{ClientConnection, StreamOwned};

use crate::deadline::Deadline;
use crate::log::Log;
use crate::{difference, tls};

/// Longest that one write or read waits before the client looks at the other
/// direction, and at its deadline.
const SLICE: Duration = Duration::from_millis(20);

/// Time for further bytes to arrive after a difference, so that the message
/// shows them.
const MORE: Duration = Duration::from_millis(100);

/// A connection to the server, over TCP, TLS or a Unix socket.
///
/// Bytes that arrive before they are asked for are kept. Every operation has the
/// server's time limit ([`crate::Component::time_limit`], 10 seconds by
/// default), and panics with the server's log if it fails.
///
/// Dropping a client closes its connection; over TLS it sends close_notify first.
pub struct Client {
    stream: Stream,
    /// Bytes that were received but not taken.
    received: Vec<u8>,
    end: Option<End>,
    name: String,
    limit: Duration,
    log: Log,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How the server ended its direction.
#[derive(Clone, Debug)]
enum End {
    /// By a FIN, over TLS after close_notify.
    Orderly,
    Reset,
    /// By a FIN without close_notify.
    Truncated,
    Failed(String),
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orderly => formatter.write_str("the server ended the connection"),
            Self::Reset => formatter.write_str("the server reset the connection"),
            Self::Truncated => {
                formatter.write_str("the server ended the connection without close_notify")
            }
            Self::Failed(error) => write!(formatter, "the connection failed ({error})"),
        }
    }
}

/// Outcome of a read.
enum Arrival {
    Bytes,
    Nothing,
    End(End),
}

impl Client {
    /// Sends all bytes. If the server does not take them, the client receives
    /// meanwhile, so that an echo of any size does not block both.
    ///
    /// # Panics
    /// Panics if the server ends the connection, or if it does not take all
    /// bytes within the time limit.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(fault) = self.try_send(bytes.as_ref()) {
            self.fail(&fault);
        }
    }

    /// Receives as many bytes as `expected` has, and checks that they are these.
    /// Further bytes are left for the next operation.
    ///
    /// # Panics
    /// Panics if other bytes come, if the connection ends, or if fewer bytes
    /// come within the time limit. The message shows the difference.
    #[track_caller]
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) {
        if let Err(fault) = self.try_expect(expected.as_ref()) {
            self.fail(&fault);
        }
    }

    /// Receives exactly `count` bytes.
    ///
    /// # Panics
    /// Panics if the connection ends, or if fewer bytes come within the time
    /// limit.
    #[track_caller]
    #[must_use]
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        match self.try_read(count) {
            Ok(bytes) => bytes,
            Err(fault) => self.fail(&fault),
        }
    }

    /// Receives a line that ends in LF or CRLF, and returns it without its end.
    ///
    /// # Panics
    /// Panics if the line is not UTF-8, if the connection ends before the line
    /// does, or if there is no line within the time limit.
    #[track_caller]
    #[must_use]
    pub fn read_line(&mut self) -> String {
        match self.try_read_line() {
            Ok(line) => line,
            Err(fault) => self.fail(&fault),
        }
    }

    /// Receives everything up to an orderly end of the server's direction.
    ///
    /// # Panics
    /// Panics if the connection does not end in order within the time limit.
    #[track_caller]
    #[must_use]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        match self.try_read_to_end() {
            Ok(bytes) => bytes,
            Err(fault) => self.fail(&fault),
        }
    }

    /// Half-closes the connection: sends no more, and still receives. Over TLS,
    /// this sends close_notify.
    ///
    /// # Panics
    /// Panics if close_notify cannot be sent within the time limit.
    #[track_caller]
    pub fn finish(&mut self) {
        if let Err(fault) = self.try_finish() {
            self.fail(&fault);
        }
    }

    /// Waits for an orderly end of the server's direction: no further byte, and
    /// over TLS a close_notify.
    ///
    /// # Panics
    /// Panics if a byte comes, if the connection is reset, or if it does not end
    /// within the time limit.
    #[track_caller]
    pub fn expect_end(&mut self) {
        if let Err(fault) = self.try_expect_end() {
            self.fail(&fault);
        }
    }

    /// Waits until the server resets the connection, and returns the bytes that
    /// came before. A reset may discard bytes that were on their way.
    ///
    /// # Panics
    /// Panics if the connection ends in order, or not within the time limit.
    #[track_caller]
    pub fn expect_reset(&mut self) -> Vec<u8> {
        match self.try_expect_reset() {
            Ok(bytes) => bytes,
            Err(fault) => self.fail(&fault),
        }
    }

    /// Resets the connection, as a client that crashes.
    ///
    /// # Panics
    /// Panics if the system refuses (`SO_LINGER`).
    #[track_caller]
    pub fn reset(mut self) {
        let set = match &self.stream {
            Stream::Tcp(stream) => sockopt::set_socket_linger(stream, Some(Duration::ZERO)),
            Stream::Tls(stream) => sockopt::set_socket_linger(&stream.sock, Some(Duration::ZERO)),
            // A Unix socket that is closed with bytes unread resets.
            Stream::Unix(_) => Ok(()),
        };
        if let Err(error) = set {
            self.fail(&format!("SO_LINGER cannot be set: {error}"));
        }
        // It is closed without close_notify.
        self.end = Some(End::Reset);
    }
}

impl Client {
    /// Connects over TCP.
    pub(crate) fn tcp(address: SocketAddr, limit: Duration, log: &Log) -> Result<Self, String> {
        let name = format!("tcp {address}");
        let stream = connect(address, limit).map_err(|error| not_connected(&name, &error))?;
        Ok(Self::new(Stream::Tcp(stream), name, limit, log))
    }

    /// Connects over TCP, and completes the handshake of TLS.
    pub(crate) fn tls(
        address: SocketAddr,
        alpn: &[&str],
        limit: Duration,
        log: &Log,
    ) -> Result<Self, String> {
        let name = format!("tls {address}");
        let stream = connect(address, limit).map_err(|error| not_connected(&name, &error))?;
        let session = tls::session(alpn).map_err(|error| format!("{name}: {error}"))?;
        let mut stream = StreamOwned::new(session, stream);
        let deadline = Deadline::after(limit);
        while stream.conn.is_handshaking() {
            match stream.conn.complete_io(&mut stream.sock) {
                Err(error) if !waits(&error) => {
                    return Err(format!("{name}: the handshake failed: {error}"));
                }
                _ if deadline.left().is_none() => {
                    return Err(format!("{name}: no handshake within {limit:?}"));
                }
                _ => {}
            }
        }
        Ok(Self::new(Stream::Tls(Box::new(stream)), name, limit, log))
    }

    /// Connects to a Unix socket.
    pub(crate) fn unix(path: &Path, limit: Duration, log: &Log) -> Result<Self, String> {
        let name = format!("unix {}", path.display());
        let stream = connect_unix(path, limit).map_err(|error| not_connected(&name, &error))?;
        Ok(Self::new(Stream::Unix(stream), name, limit, log))
    }

    fn new(stream: Stream, name: String, limit: Duration, log: &Log) -> Self {
        Self {
            stream,
            received: Vec::new(),
            end: None,
            name,
            limit,
            log: log.clone(),
        }
    }

    /// Fails the test, with the server's log.
    #[track_caller]
    pub(crate) fn fail(&self, fault: &str) -> ! {
        panic!("{}: {fault}\n{}", self.name, self.log.report())
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        let mut sent = 0;
        while sent < bytes.len() || !self.is_flushed() {
            if deadline.left().is_none() {
                return Err(format!(
                    "the server took only {sent} of {} bytes within {:?}",
                    bytes.len(),
                    self.limit
                ));
            }
            let result = if sent < bytes.len() {
                self.stream.write(&bytes[sent..])
            } else {
                self.stream.flush().map(|()| 0)
            };
            match result {
                Ok(count) => sent += count,
                Err(error) if waits(&error) => {
                    self.receive(SLICE);
                }
                Err(error) => {
                    let count = bytes.len();
                    return Err(format!(
                        "the connection ended after {sent} of {count} bytes were sent ({error})"
                    ));
                }
            }
        }
        Ok(())
    }

    /// True if TLS has nothing to send any more.
    fn is_flushed(&self) -> bool {
        match &self.stream {
            Stream::Tls(stream) => !stream.conn.wants_write(),
            Stream::Tcp(_) | Stream::Unix(_) => true,
        }
    }

    fn try_expect(&mut self, expected: &[u8]) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        loop {
            let equal = difference::position(expected, &self.received);
            if equal == expected.len() {
                self.received.drain(..equal);
                return Ok(());
            }
            if equal < self.received.len() {
                self.gather(expected.len());
                let shown = self.shown(expected);
                return Err(format!("byte {equal} differs\n{shown}"));
            }
            if let Err(fault) = self.arrive(deadline) {
                let count = expected.len();
                let shown = self.shown(expected);
                return Err(format!("{fault} after {equal} of {count} bytes\n{shown}"));
            }
        }
    }

    /// Shows what differs. Bytes for later expectations are left out.
    fn shown(&self, expected: &[u8]) -> String {
        let until = self.received.len().min(expected.len());
        difference::show(expected, &self.received[..until])
    }

    pub(crate) fn try_read(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        while self.received.len() < count {
            if let Err(fault) = self.arrive(deadline) {
                let got = self.got();
                return Err(format!("{fault} instead of {count} bytes; received: {got}"));
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    pub(crate) fn try_read_line(&mut self) -> Result<String, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return String::from_utf8(line.to_vec())
                    .map_err(|_| format!("the line is not UTF-8: {}", quoted(line)));
            }
            if let Err(fault) = self.arrive(deadline) {
                let got = self.got();
                return Err(format!("{fault} instead of a line; received: {got}"));
            }
        }
    }

    pub(crate) fn try_read_to_end(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Orderly)) => return Ok(std::mem::take(&mut self.received)),
                Ok(Some(end)) => {
                    let got = self.got();
                    return Err(format!("{end} instead of an orderly end; received: {got}"));
                }
                Err(fault) => {
                    let got = self.got();
                    return Err(format!("{fault} instead of the end; received: {got}"));
                }
            }
        }
    }

    fn try_finish(&mut self) -> Result<(), String> {
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                return self.try_send(&[]);
            }
        };
        match result {
            // The server may have reset it. The next operation notices.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            result => result.map_err(|error| format!("the half-close failed: {error}")),
        }
    }

    fn try_expect_end(&mut self) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        loop {
            if !self.received.is_empty() {
                self.gather(usize::MAX);
                return Err(format!("bytes instead of the end: {}", self.got()));
            }
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Orderly)) => return Ok(()),
                Ok(Some(end)) => return Err(format!("{end} instead of an orderly end")),
                Err(fault) => return Err(format!("{fault} instead of the end")),
            }
        }
    }

    fn try_expect_reset(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Reset)) => return Ok(std::mem::take(&mut self.received)),
                Ok(Some(end)) => {
                    let got = self.got();
                    return Err(format!("{end} instead of a reset; received: {got}"));
                }
                Err(fault) => {
                    let got = self.got();
                    return Err(format!("{fault} instead of a reset; received: {got}"));
                }
            }
        }
    }

    /// Returns the bytes that were received but not taken.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.received
    }

    /// Takes the first bytes of [`Self::buffered`].
    pub(crate) fn consume(&mut self, count: usize) {
        self.received.drain(..count);
    }

    /// Waits for bytes.
    ///
    /// # Errors
    /// Fails if the deadline passes, or if the connection ends. The fault is the
    /// beginning of a sentence: `the server ended the connection`.
    pub(crate) fn arrive(&mut self, deadline: Deadline) -> Result<(), String> {
        match self.arrive_or_end(deadline)? {
            None => Ok(()),
            Some(end) => Err(end.to_string()),
        }
    }

    /// Waits for bytes, or for the end, which it returns.
    fn arrive_or_end(&mut self, deadline: Deadline) -> Result<Option<End>, String> {
        loop {
            let Some(left) = deadline.left() else {
                return Err(format!("nothing came within {:?}", self.limit));
            };
            match self.receive(left) {
                Arrival::Bytes => return Ok(None),
                Arrival::Nothing => {}
                Arrival::End(end) => return Ok(Some(end)),
            }
        }
    }

    /// Receives for a little longer, until there are `enough` bytes.
    fn gather(&mut self, enough: usize) {
        let deadline = Deadline::after(MORE);
        while self.received.len() < enough {
            let Some(left) = deadline.left() else { return };
            if let Arrival::End(_) = self.receive(left) {
                return;
            }
        }
    }

    /// Reads once, and waits at most this long.
    fn receive(&mut self, wait: Duration) -> Arrival {
        if let Some(end) = &self.end {
            return Arrival::End(end.clone());
        }
        let mut buffer = [0; 1 << 14];
        let result = self
            .stream
            .socket()
            .set_read_timeout(wait)
            .and_then(|()| self.stream.read(&mut buffer));
        let end = match result {
            Ok(0) => End::Orderly,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                return Arrival::Bytes;
            }
            Err(error) if waits(&error) => return Arrival::Nothing,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => End::Reset,
                ErrorKind::UnexpectedEof => End::Truncated,
                _ => End::Failed(error.to_string()),
            },
        };
        self.end = Some(end.clone());
        Arrival::End(end)
    }

    fn got(&self) -> String {
        quoted(&self.received)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("name", &self.name)
            .field("received", &self.got())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let (Stream::Tls(stream), None) = (&mut self.stream, &self.end) {
            stream.conn.send_close_notify();
            // The server may be gone.
            let _ = stream.conn.write_tls(&mut stream.sock);
        }
    }
}

impl Stream {
    fn socket(&self) -> Socket<'_> {
        match self {
            Self::Tcp(stream) => Socket::Tcp(stream),
            Self::Unix(stream) => Socket::Unix(stream),
            Self::Tls(stream) => Socket::Tcp(&stream.sock),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The socket below a stream.
enum Socket<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl Socket<'_> {
    fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        // The system has microseconds; 0 would be no limit.
        let wait = Some(wait.max(Duration::from_millis(1)));
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(wait),
            Self::Unix(stream) => stream.set_read_timeout(wait),
        }
    }
}

fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}

/// Connects to a Unix socket. If its backlog is full, the system refuses a
/// socket that does not wait; one that does has no limit.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let deadline = Deadline::after(limit);
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(rustix::io::Errno::AGAIN) if deadline.left().is_some() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}

fn not_connected(name: &str, error: &io::Error) -> String {
    format!("{name}: cannot connect: {error}")
}

/// True if an operation ended because its time was over.
fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Returns bytes for a message, the first ones if there are many.
fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let (shown, more) = bytes.split_at(bytes.len().min(MOST));
    let text = format!("\"{}\"", shown.escape_ascii());
    if more.is_empty() {
        text
    } else {
        format!("{text}... ({} bytes)", bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    /// Returns a client, and the server's end of its connection.
    fn connected() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let client = Client::tcp(address, LIMIT, &Log::new(LIMIT)).expect("a connection");
        (client, listener.accept().expect("the client").0)
    }

    #[test]
    fn a_wait_has_a_limit() {
        let (mut client, mut server) = connected();
        server.write_all(b"abc").expect("it is sent");
        let fault = client.try_expect(b"abcdef").expect_err("too little");
        assert!(
            fault.starts_with("nothing came within 200ms after 3 of 6 bytes"),
            "{fault}"
        );
        let fault = client.try_read_line().expect_err("no line");
        assert_eq!(
            fault,
            "nothing came within 200ms instead of a line; received: \"abc\""
        );
        let fault = client.try_expect_reset().expect_err("no reset");
        assert!(fault.contains("instead of a reset"), "{fault}");
        assert_eq!(client.try_read(3), Ok(b"abc".to_vec()));
        let fault = client.try_expect_end().expect_err("no end");
        assert_eq!(fault, "nothing came within 200ms instead of the end");
    }

    #[test]
    fn a_server_that_takes_nothing_is_an_error() {
        let (mut client, _server) = connected();
        let bytes = vec![0; 64 << 20];
        let fault = client.try_send(&bytes).expect_err("too much");
        assert!(fault.contains("of 67108864 bytes within 200ms"), "{fault}");
    }

    #[test]
    fn a_difference_shows_what_came_with_it() {
        let (mut client, mut server) = connected();
        server.write_all(b"a").expect("it is sent");
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            server.write_all(b"B").expect("it is sent");
            std::thread::sleep(Duration::from_millis(20));
            server.write_all(b"cdef").expect("it is sent");
            server
        });
        let fault = client.try_expect(b"abcd").expect_err("another byte");
        assert!(fault.starts_with("byte 1 differs\n"), "{fault}");
        assert!(fault.contains(r#"received (4 bytes): "aBcd""#), "{fault}");
        sender.join().expect("no panic");
    }

    #[test]
    fn nobody_to_connect_to_is_an_error() {
        let log = Log::new(LIMIT);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let fault = Client::tcp(address, LIMIT, &log).expect_err("no listener");
        assert!(fault.contains("cannot connect"), "{fault}");
        let fault = Client::unix(Path::new("/no/such"), LIMIT, &log).expect_err("no file");
        assert!(
            fault.starts_with("unix /no/such: cannot connect"),
            "{fault}"
        );
    }

    #[test]
    fn a_server_without_a_handshake_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let fault = Client::tls(address, &[], LIMIT, &Log::new(LIMIT)).expect_err("no TLS");
        assert!(fault.ends_with("no handshake within 200ms"), "{fault}");
    }
}
