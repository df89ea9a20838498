//! The TLS session of one connection.
//!
//! It works on the connection's own buffers: what arrives is decrypted from the
//! worker's scratch buffer, and what a guest writes is encrypted straight from
//! its memory. It uses rustls directly rather than tokio-rustls, which reads 4
//! KiB of ciphertext per system call; this code reads all that is there.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{Connection, HandshakeKind};

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::{Measure, Meter};

use crate::queue::{Chunk, WriteQueue};

use super::clients::TlsClients;
use super::tls_error;

/// Bytes of a file to encrypt at a time: one record's worth.
const FILE_STEP: usize = 16 << 10;

/// The TLS session of one connection.
pub struct Session {
    connection: Connection,
    /// Verification of clients, if this is a server that asks for certificates.
    clients: Option<Arc<TlsClients>>,
    /// Plain text that may not be encrypted yet, as it follows a part of a file
    /// that is still being sent.
    staged: WriteQueue,
    /// Ciphertext that has arrived but was not used yet, since the guest
    /// paused.
    incoming: KeptCiphertext,
    /// Plain bytes that rustls holds until the handshake is done.
    waiting: u64,
    /// True if the peer sent `close_notify`.
    peer_closed: bool,
    start: Start,
}

/// How the peer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Nothing has come. True if plain text is wanted.
    Unknown { wanted: bool },
    /// By a record of TLS, or by what is neither.
    Tls,
    /// By plain text.
    PlainText,
    /// By plain text, which is wanted and was kept.
    Wanted,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("staged", &self.staged)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(mut connection: Connection, clients: Option<Arc<TlsClients>>) -> Self {
        // The connection's own limit applies instead.
        connection.set_buffer_limit(None);
        Self {
            connection,
            clients,
            staged: WriteQueue::default(),
            incoming: KeptCiphertext::default(),
            waiting: 0,
            peer_closed: false,
            start: Start::Unknown { wanted: false },
        }
    }

    /// Keeps plain text that comes in place of a handshake, without an alert.
    pub(crate) fn take_plain_text(&mut self) {
        if let Start::Unknown { wanted } = &mut self.start {
            *wanted = true;
        }
    }

    /// The plain text that came in place of a handshake, where it was wanted.
    pub(crate) fn plain_text(&mut self) -> Option<Vec<u8>> {
        (self.start == Start::Wanted).then(|| std::mem::take(&mut self.incoming.data))
    }

    /// Looks at the first bytes that come.
    fn begin(&mut self, received: &[u8]) -> Result<(), ConnectionError> {
        let (Start::Unknown { wanted }, Some(first)) = (self.start, received.first()) else {
            return Ok(());
        };
        // A record's type is 20 to 24 (RFC 8446, section 5.1).
        self.start = match first.is_ascii_graphic() {
            false => Start::Tls,
            true if wanted => Start::Wanted,
            true => Start::PlainText,
        };
        if self.start == Start::Wanted {
            self.keep(received);
            return Err(no_tls());
        }
        Ok(())
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// True if this is the server's end.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.connection, Connection::Server(_))
    }

    /// Counts a handshake that is done.
    pub(crate) fn count_handshake(&self, meter: &Meter) {
        let (done, resumed) = match &self.connection {
            Connection::Server(_) => (Measure::ServerHandshakes, Measure::ServerResumptions),
            Connection::Client(_) => (Measure::ClientHandshakes, Measure::ClientResumptions),
        };
        meter.add(done, 1);
        if self.connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            meter.add(resumed, 1);
        }
    }

    /// Returns the plain text queued, in bytes: all of it, and the part in
    /// memory.
    pub(crate) fn staged(&self) -> (u64, u64) {
        (
            self.staged.len() + self.waiting,
            self.staged.in_memory() + self.waiting,
        )
    }

    /// Returns the number of file parts in the queue of plain text.
    pub(crate) fn staged_parts(&self) -> usize {
        self.staged.file_parts()
    }

    /// True if the session can be half-closed: in TLS 1.3 (RFC 8446, section
    /// 6.1), not before.
    pub(crate) fn can_half_close(&self) -> bool {
        !self.is_handshaking()
            && self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// Keeps ciphertext for later, after what is kept already.
    pub(crate) fn keep(&mut self, ciphertext: &[u8]) {
        self.incoming.data.extend_from_slice(ciphertext);
    }

    /// Takes the kept ciphertext, if any.
    pub(crate) fn take_kept(&mut self) -> Option<KeptCiphertext> {
        (!self.incoming.rest().is_empty()).then(|| std::mem::take(&mut self.incoming))
    }

    /// Puts back the unused rest of [`Self::take_kept`].
    pub(crate) fn put_back(&mut self, kept: KeptCiphertext) {
        if !kept.rest().is_empty() {
            self.incoming = kept;
        }
    }

    /// Takes some ciphertext, and returns how much. The caller must then take
    /// out the plain text by [`Self::read`] before giving more.
    ///
    /// # Errors
    /// Fails if the peer broke the protocol, or if its certificate is refused.
    /// An alert for the peer may be waiting to be sent.
    pub(crate) fn feed(&mut self, ciphertext: &[u8]) -> Result<usize, ConnectionError> {
        self.begin(ciphertext)?;
        let mut rest = ciphertext;
        let was_handshaking = self.is_handshaking();
        while !rest.is_empty() && !self.peer_closed {
            // rustls takes a few KiB at a time, and refuses while its buffer of
            // plain text is full.
            if !matches!(self.connection.read_tls(&mut rest), Ok(1..)) {
                break;
            }
            let state = self.connection.process_new_packets();
            let state = state.map_err(|error| match self.start {
                Start::PlainText => no_tls(),
                _ => tls_error(error),
            })?;
            self.peer_closed = state.peer_has_closed();
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        if was_handshaking && !self.is_handshaking() {
            self.waiting = 0;
            if let (Some(clients), Connection::Server(server)) = (&self.clients, &self.connection) {
                clients.verify_again(server).map_err(tls_error)?;
            }
        }
        Ok(ciphertext.len() - rest.len())
    }

    /// Takes out plain text; 0 means none at present.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        // rustls reports none at present as `WouldBlock`, and the end as 0.
        // `peer_closed` tells the end here.
        self.connection.reader().read(buffer).unwrap_or(0)
    }

    /// True if [`Self::read`] would yield plain text, or may do so once the
    /// kept ciphertext is taken in.
    pub(crate) fn has_plain_text(&mut self) -> bool {
        let chunk = self.connection.reader().into_first_chunk();
        chunk.is_ok_and(|chunk| !chunk.is_empty()) || !self.incoming.rest().is_empty()
    }

    /// True if the peer ended its stream by `close_notify`.
    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Encrypts into `out`, or stages what must wait for a file.
    pub(crate) fn write(&mut self, data: &[u8], out: &mut dyn Sink) {
        if self.staged.is_empty() {
            self.encrypt(data, out);
        } else {
            self.staged.push_bytes(data);
        }
    }

    /// Encrypts several slices, joined to as few records as they fill.
    pub(crate) fn write_vectored(&mut self, slices: &[&[u8]], out: &mut dyn Sink) {
        if self.staged.is_empty() && slices.len() > 1 {
            self.encrypt(&slices.concat(), out);
        } else {
            for data in slices {
                self.write(data, out);
            }
        }
    }

    /// Returns the queue of plain text that [`Self::pump`] encrypts.
    pub(crate) fn stage(&mut self) -> &mut WriteQueue {
        &mut self.staged
    }

    /// Encrypts the next piece of the staged plain text, once all before it is
    /// gone.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or became shorter.
    pub(crate) fn pump(&mut self, out: &mut dyn Sink) -> io::Result<()> {
        if self.is_handshaking() {
            return Ok(());
        }
        match self.staged.shift() {
            None => {}
            Some(Chunk::Bytes { data, .. }) => self.encrypt(&data, out),
            Some(Chunk::File(mut part)) => {
                let wanted = part.remaining.min(FILE_STEP as u64);
                let mut buffer = vec![0; usize::try_from(wanted).unwrap_or(FILE_STEP)];
                let count = part.file.read_at(&mut buffer, part.offset)?;
                if count == 0 {
                    let reason = part.file.shortened();
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
                self.encrypt(buffer.get(..count).unwrap_or_default(), out);
                part.offset += count as u64;
                part.remaining = part.remaining.saturating_sub(count as u64);
                self.staged.unshift_file(part);
            }
        }
        Ok(())
    }

    /// Sends `close_notify`.
    pub(crate) fn close(&mut self, out: &mut dyn Sink) {
        self.connection.send_close_notify();
        self.flush(out);
    }

    /// True if nothing is under way, so that the session can be parked.
    pub(crate) fn is_quiet(&mut self) -> bool {
        !self.peer_closed
            && !self.is_handshaking()
            && !self.connection.wants_write()
            && self.staged().0 == 0
            && !self.has_plain_text()
    }

    /// Returns the session without its transport's parts.
    pub(crate) fn park(self) -> ParkedSession {
        ParkedSession(self.connection)
    }

    /// Hands the records that rustls produced (handshake, alerts) to `out`.
    pub(crate) fn flush(&mut self, out: &mut dyn Sink) {
        let mut adapter = Adapter(out);
        while self.connection.wants_write() {
            // The sink takes everything, so neither an error nor a zero ends
            // this early.
            if !matches!(self.connection.write_tls(&mut adapter), Ok(1..)) {
                break;
            }
        }
    }

    fn encrypt(&mut self, data: &[u8], out: &mut dyn Sink) {
        if self.is_handshaking() {
            self.waiting += data.len() as u64;
        }
        // Without a buffer limit this takes everything.
        let _ = self.connection.writer().write_all(data);
        self.flush(out);
    }

    /// True if both ends have agreed on a protocol.
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.connection.alpn_protocol() == Some(protocol)
    }

    /// Returns what is known of the session, once its handshake is done.
    pub(crate) fn info(&self) -> Option<SessionInfo> {
        if self.is_handshaking() {
            return None;
        }
        let suite = self.connection.negotiated_cipher_suite()?;
        Some(SessionInfo {
            version: match self.connection.protocol_version()? {
                rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
                rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
                _ => "unknown",
            },
            cipher: suite.suite().as_str().unwrap_or("unknown"),
            alpn: self
                .connection
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            server_name: match &self.connection {
                Connection::Server(server) => server.server_name().map(ToOwned::to_owned),
                Connection::Client(_) => None,
            },
            peer_certificates: self
                .connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        })
    }
}

/// The error of a peer that does not speak TLS.
fn no_tls() -> ConnectionError {
    ConnectionError::Tls("the peer speaks plain text, and no TLS".into())
}

/// A session whose connection is not in use.
pub struct ParkedSession(Connection);

impl fmt::Debug for ParkedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedSession").finish_non_exhaustive()
    }
}

impl ParkedSession {
    /// Takes in ciphertext. Returns true if it held only the session's own
    /// messages: no plain text, no end, nothing to answer.
    pub(crate) fn takes_quietly(&mut self, mut ciphertext: &[u8]) -> bool {
        while !ciphertext.is_empty() {
            if !matches!(self.0.read_tls(&mut ciphertext), Ok(1..)) {
                return false;
            }
            let quiet = self.0.process_new_packets().is_ok_and(|state| {
                state.plaintext_bytes_to_read() == 0
                    && state.tls_bytes_to_write() == 0
                    && !state.peer_has_closed()
            });
            if !quiet {
                return false;
            }
        }
        true
    }

    pub(crate) fn resume(self) -> Session {
        Session::new(self.0, None)
    }
}

/// Ciphertext that was received and not decrypted yet.
#[derive(Debug, Default)]
pub struct KeptCiphertext {
    data: Vec<u8>,
    used: usize,
}

impl KeptCiphertext {
    pub(crate) fn rest(&self) -> &[u8] {
        self.data.get(self.used..).unwrap_or_default()
    }

    /// Marks `count` bytes as used.
    ///
    /// # Errors
    /// Fails if `count` is 0: the session is stuck, and retrying would never
    /// end.
    pub(crate) fn advance(&mut self, count: usize) -> Result<(), ConnectionError> {
        if count == 0 {
            return Err(ConnectionError::Tls("the session takes no more".into()));
        }
        self.used += count;
        Ok(())
    }
}

/// Facts of a session: `tls-info` of the WIT package.
#[derive(Debug)]
pub struct SessionInfo {
    /// Version, such as `TLSv1.3`.
    pub version: &'static str,
    /// IANA name of the cipher suite.
    pub cipher: &'static str,
    /// Agreed protocol (RFC 7301).
    pub alpn: Option<String>,
    /// Server name that the client asked for (RFC 6066, section 3).
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first.
    pub peer_certificates: Vec<Vec<u8>>,
}

/// Destination of ciphertext: the socket, and the queue for what the socket
/// does not take. A sink takes everything.
pub trait Sink {
    /// Takes the slices, in order.
    fn accept(&mut self, slices: &[io::IoSlice<'_>]);
}

/// A [`Sink`] as rustls writes to it.
struct Adapter<'a>(&'a mut dyn Sink);

impl Write for Adapter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.accept(&[io::IoSlice::new(data)]);
        Ok(data.len())
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.accept(slices);
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
