//! TLS sessions without input and output, for guests that move the bytes
//! themselves: `tls-engine` of the WIT package.
//!
//! ```text
//!   network --feed--> fed --> rustls --read--> guest
//!   network <--take-- out <-- rustls <--write-- guest
//! ```
//!
//! A server is first a greeting that is waited for: the guest chooses its
//! options by it.

mod data;
mod failure;
mod fed;
mod options;

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{Accepted, Acceptor};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion,
    ServerConfig, SupportedCipherSuite,
};

pub use self::data::Plaintext;
pub use self::failure::EngineFailure;
pub use self::fed::Held;
use self::fed::{Fed, MOST_FED, MOST_FED_IN_ALL};
pub use self::options::{ClientCertificates, Configs, EngineOptions, Identity, Verification};

/// Maximum of encrypted bytes that wait to be taken, roughly.
const MOST_WAITING: usize = 256 << 10;

/// Maximum of keying material, in bytes: RFC 5869 allows no more for the
/// shortest hash.
const MOST_EXPORTED: usize = 255 * 32;

/// Type of an alert's record, and the level at which it ends a session.
const ALERT: u8 = 21;
const FATAL: u8 = 2;

type Outcome<T> = Result<T, EngineFailure>;

/// How far a handshake is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeProgress {
    /// Data can be written and read.
    Done,
    /// It needs more of the network's bytes.
    WantRead,
    /// A client has greeted, and waits for [`Engine::answer`].
    Greeted(Greeting),
}

/// Greeting of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// The name that it wants to reach.
    pub server_name: Option<String>,
    /// The protocols that it speaks.
    pub alpn: Vec<String>,
}

/// A session.
pub struct Engine {
    side: Side,
    /// Bytes of the network that were not used yet.
    fed: Fed,
    /// True if the network has ended.
    ended: bool,
    /// Bytes for the network besides those of `side`: the alert that refuses a
    /// greeting.
    out: Vec<u8>,
    /// Name that a client checks the certificate by, for messages.
    name: Option<String>,
    /// Failure after which nothing goes on.
    failed: Option<EngineFailure>,
}

enum Side {
    Greeting(Box<Acceptor>),
    Greeted(Box<Accepted>, Greeting),
    Connection(Box<Connection>),
    /// It failed before there was a connection.
    None,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Engine {
    fn new(side: Side, name: Option<String>, held: &Held) -> Self {
        Self {
            side,
            fed: Fed::new(held),
            ended: false,
            out: Vec::new(),
            name,
            failed: None,
        }
    }

    /// Begins a client's session.
    ///
    /// # Errors
    /// `Invalid`: the configuration cannot be used.
    pub fn connect(config: Arc<ClientConfig>, name: Option<&str>, held: &Held) -> Outcome<Self> {
        let server = match name {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| EngineFailure::Invalid(format!("'{name}' is not a server name")))?,
            // An address is not sent, and nothing is checked by it.
            None => ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])),
        };
        let mut connection = ClientConnection::new(config, server)
            .map_err(|error| EngineFailure::Invalid(error.to_string()))?;
        connection.set_buffer_limit(Some(MOST_WAITING));
        let side = Side::Connection(Box::new(connection.into()));
        Ok(Self::new(side, name.map(ToOwned::to_owned), held))
    }

    /// Begins a server's session.
    #[must_use]
    pub fn accept(held: &Held) -> Self {
        Self::new(Side::Greeting(Box::default()), None, held)
    }

    /// Answers a client's greeting.
    ///
    /// # Errors
    /// `Invalid`: there is no greeting. Otherwise fails as a handshake does.
    pub fn answer(&mut self, config: Arc<ServerConfig>) -> Outcome<()> {
        self.check()?;
        match std::mem::replace(&mut self.side, Side::None) {
            Side::Greeted(accepted, _) => match accepted.into_connection(config) {
                Ok(mut connection) => {
                    connection.set_buffer_limit(Some(MOST_WAITING));
                    self.side = Side::Connection(Box::new(connection.into()));
                    Ok(())
                }
                Err((error, mut alert)) => {
                    // Writing to memory cannot fail.
                    let _ = alert.write_all(&mut self.out);
                    Err(self.fail(&error))
                }
            },
            side => {
                self.side = side;
                Err(EngineFailure::Invalid(
                    "there is no greeting to answer".into(),
                ))
            }
        }
    }

    /// Refuses a client's greeting by an alert of this number.
    ///
    /// # Errors
    /// `Invalid`: there is no greeting.
    pub fn refuse(&mut self, alert: u8) -> Outcome<()> {
        self.check()?;
        if !matches!(self.side, Side::Greeted(..)) {
            return Err(EngineFailure::Invalid(
                "there is no greeting to refuse".into(),
            ));
        }
        self.side = Side::None;
        // RFC 8446, sections 5.1 and 6: nothing is encrypted yet.
        self.out.extend([ALERT, 3, 3, 0, 2, FATAL, alert]);
        let name = AlertDescription::from(alert);
        self.failed = Some(EngineFailure::Protocol(format!(
            "the greeting was refused: {name:?}"
        )));
        self.fed.clear();
        Ok(())
    }

    /// Takes bytes from the network.
    pub fn feed(&mut self, data: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        if !self.fed.add(data) {
            let (most, all) = (MOST_FED >> 20, MOST_FED_IN_ALL >> 20);
            self.failed = Some(EngineFailure::Protocol(format!(
                "more was fed and not read than {most} MiB, or {all} MiB of all sessions"
            )));
            self.fed.clear();
        }
    }

    /// True if the session has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Notes that the network has ended.
    pub fn feed_end(&mut self) {
        self.ended = true;
    }

    /// Returns the bytes for the network.
    pub fn take(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        if let Side::Connection(connection) = &mut self.side {
            while connection.wants_write() {
                // Writing to memory cannot fail.
                if !matches!(connection.write_tls(&mut out), Ok(1..)) {
                    break;
                }
            }
        }
        out
    }

    /// Goes on with the handshake.
    ///
    /// # Errors
    /// Fails if the peer is refused, refuses, or broke the protocol; and again
    /// from then on.
    pub fn handshake(&mut self) -> Outcome<HandshakeProgress> {
        self.check()?;
        loop {
            match &mut self.side {
                Side::Greeting(acceptor) => {
                    let used = self.fed.give(|fed| acceptor.read_tls(fed));
                    let accepted = acceptor.accept();
                    match accepted {
                        Ok(Some(accepted)) => {
                            let greeting = greeting(&accepted);
                            self.side = Side::Greeted(Box::new(accepted), greeting);
                        }
                        Ok(None) if used == 0 => return self.starve(),
                        Ok(None) => {}
                        Err((error, mut alert)) => {
                            // Writing to memory cannot fail.
                            let _ = alert.write_all(&mut self.out);
                            self.side = Side::None;
                            return Err(self.fail(&error));
                        }
                    }
                }
                Side::Greeted(_, greeting) => {
                    return Ok(HandshakeProgress::Greeted(greeting.clone()));
                }
                Side::Connection(connection) => {
                    if !connection.is_handshaking() {
                        return Ok(HandshakeProgress::Done);
                    }
                    if self.advance()? == 0 {
                        return self.starve();
                    }
                }
                Side::None => return Err(EngineFailure::Truncated),
            }
        }
    }

    /// Ends the sending side.
    pub fn close(&mut self) {
        if let Side::Connection(connection) = &mut self.side {
            connection.send_close_notify();
        }
    }

    /// Returns the number of bytes that can be read without more of the
    /// network's.
    pub fn pending(&mut self) -> usize {
        loop {
            let Side::Connection(connection) = &mut self.side else {
                return 0;
            };
            let Ok(state) = connection.process_new_packets() else {
                return 0;
            };
            let readable = state.plaintext_bytes_to_read();
            if readable > 0 || !matches!(self.advance(), Ok(1..)) {
                return readable;
            }
        }
    }

    fn connection(&self) -> Option<&Connection> {
        match &self.side {
            Side::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    /// Returns the protocol that was agreed on.
    pub fn alpn(&self) -> Option<String> {
        let protocol = self.connection()?.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// Returns the version, such as `TLSv1.3`.
    pub fn version(&self) -> Option<&'static str> {
        match self.connection()?.protocol_version()? {
            ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            _ => None,
        }
    }

    /// Returns the cipher suite: its IANA name, and the bits of its key.
    pub fn cipher(&self) -> Option<(String, u32)> {
        let suite: SupportedCipherSuite = self.connection()?.negotiated_cipher_suite()?;
        // rustls has its own prefix for those of TLS 1.3.
        let name = suite.suite().as_str()?.replace("TLS13_", "TLS_");
        let bits = if name.contains("AES_128") { 128 } else { 256 };
        Some((name, bits))
    }

    /// Returns the peer's certificates in DER, its own first.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let certificates = self.connection().and_then(|it| it.peer_certificates());
        let certificates = certificates.unwrap_or_default();
        certificates.iter().map(|it| it.to_vec()).collect()
    }

    /// True if the handshake resumed an earlier session.
    pub fn resumed(&self) -> bool {
        let kind = self.connection().and_then(|it| it.handshake_kind());
        kind == Some(HandshakeKind::Resumed)
    }

    /// Returns keying material (RFC 5705).
    ///
    /// # Errors
    /// `Invalid`: the handshake is not done, or the length is 0 or too long.
    pub fn export(&self, label: &[u8], context: Option<&[u8]>, length: usize) -> Outcome<Vec<u8>> {
        let connection = self.connection().filter(|it| !it.is_handshaking());
        let connection =
            connection.ok_or_else(|| EngineFailure::Invalid("the handshake is not done".into()))?;
        if !(1..=MOST_EXPORTED).contains(&length) {
            let reason = format!("keying material has 1 to {MOST_EXPORTED} bytes");
            return Err(EngineFailure::Invalid(reason));
        }
        let exported = connection.export_keying_material(vec![0; length], label, context);
        exported.map_err(|error| EngineFailure::Invalid(error.to_string()))
    }

    /// # Errors
    /// Fails as the session has.
    fn check(&self) -> Outcome<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Uses some of what was fed, and returns how much.
    fn advance(&mut self) -> Outcome<usize> {
        let Side::Connection(connection) = &mut self.side else {
            return Ok(0);
        };
        let used = self.fed.give(|fed| connection.read_tls(fed));
        match connection.process_new_packets() {
            Ok(_) => Ok(used),
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// Needs bytes of a network that may have ended.
    fn starve(&self) -> Outcome<HandshakeProgress> {
        match self.ended {
            true => Err(EngineFailure::Truncated),
            false => Ok(HandshakeProgress::WantRead),
        }
    }

    fn fail(&mut self, error: &rustls::Error) -> EngineFailure {
        let failure = EngineFailure::of(error, self.name.as_deref());
        self.failed = Some(failure.clone());
        self.fed.clear();
        failure
    }
}

fn greeting(accepted: &Accepted) -> Greeting {
    let hello = accepted.client_hello();
    let alpn = hello.alpn().into_iter().flatten();
    Greeting {
        server_name: hello.server_name().map(ToOwned::to_owned),
        alpn: alpn
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect(),
    }
}
