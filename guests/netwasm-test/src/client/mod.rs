//! A client of a byte stream: TCP, TLS, or a Unix socket.

mod stream;
#[cfg(test)]
mod tests;
mod waits;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::log::Log;
use crate::tls::Settings;
use stream::Stream;

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

    /// Checks that nothing comes for a while: no byte, and no end. What comes
    /// later is not noticed, so keep the wait as long as the test needs.
    ///
    /// # Panics
    /// Panics if bytes are there or come, or if the connection ends.
    #[track_caller]
    pub fn expect_nothing(&mut self, wait: Duration) {
        if let Err(fault) = self.try_expect_nothing(wait) {
            self.fail(&fault);
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

    /// Returns the protocol that the handshake of TLS chose by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&str> {
        // Only what this client offered as text can be chosen.
        std::str::from_utf8(self.stream.alpn()?).ok()
    }

    /// Resets the connection, as a client that crashes.
    ///
    /// # Panics
    /// Panics if the system refuses (`SO_LINGER`).
    #[track_caller]
    pub fn reset(mut self) {
        if let Err(error) = self.stream.reset_at_close() {
            self.fail(&format!("SO_LINGER cannot be set: {error}"));
        }
        // It is closed without close_notify.
        self.end = Some(End::Reset);
    }
}

impl Client {
    /// Connects over TCP.
    pub(crate) fn tcp(address: SocketAddr, limit: Duration, log: &Log) -> Result<Self, String> {
        Self::new(
            format!("tcp {address}"),
            Stream::tcp(address, limit),
            limit,
            log,
        )
    }

    /// Connects over TCP, and completes the handshake of TLS.
    pub(crate) fn tls(
        address: SocketAddr,
        settings: &Settings<'_>,
        limit: Duration,
        log: &Log,
    ) -> Result<Self, String> {
        let stream = settings
            .session()
            .map_err(|error| error.to_string())
            .and_then(|session| Stream::tls(address, session, limit));
        Self::new(format!("tls {address}"), stream, limit, log)
    }

    /// Connects to a Unix socket.
    pub(crate) fn unix(path: &Path, limit: Duration, log: &Log) -> Result<Self, String> {
        let name = format!("unix {}", path.display());
        Self::new(name, Stream::unix(path, limit), limit, log)
    }

    fn new(
        name: String,
        stream: Result<Stream, String>,
        limit: Duration,
        log: &Log,
    ) -> Result<Self, String> {
        let stream = stream.map_err(|fault| format!("{name}: {fault}"))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            end: None,
            name,
            limit,
            log: log.clone(),
        })
    }

    /// Fails the test, with the server's log.
    #[track_caller]
    pub(crate) fn fail(&self, fault: &str) -> ! {
        panic!("{}: {fault}\n{}", self.name, self.log.report())
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
        if self.end.is_none() {
            self.stream.say_farewell();
        }
    }
}
