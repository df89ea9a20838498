//! TLS: configurations from PEM files, and the session of one connection.
//!
//! A session works on the connection's own buffers: what arrives is decrypted
//! from the worker's scratch buffer, and what a guest writes is encrypted
//! straight from its memory. It uses rustls itself rather than tokio-rustls,
//! which reads 4 KiB of ciphertext a system call where this reads what there
//! is.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use crate::config::{CertificateFiles, TlsFiles};
use crate::error::{ConnectionError, Error};
use crate::queue::{Chunk, WriteQueue};
use crate::trust::{self, Trust};

/// How much of a file is encrypted at a time, bytes: one record's worth.
const FILE_STEP: usize = 16 << 10;

/// What a run needs for TLS: built at start, shared by all workers.
pub(crate) struct Tls {
    /// Where `--cert` was given; replaced when the files are read anew.
    servers: RwLock<Option<Servers>>,
    trust: Trust,
    client: OnceLock<Result<ClientConfig, String>>,
    /// The same for HTTP.
    http_client: OnceLock<Arc<ClientConfig>>,
}

/// The server's sides of a run.
#[derive(Clone)]
struct Servers {
    tls: Arc<ServerConfig>,
    /// The same for `--https`, with the protocols that are spoken there.
    https: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("servers", &self.servers().is_some())
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates and keys.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, Error> {
        let servers = Servers::load(files, None)?;
        if files.insecure {
            tracing::warn!(
                "--tls-insecure: outgoing TLS connections take any certificate, so whoever answers \
                 can read and change what is sent"
            );
        }
        let mut extra = Vec::new();
        for path in &files.extra_roots {
            extra.extend(read_certificates(path)?);
        }
        Ok(Self {
            servers: RwLock::new(servers),
            trust: match files.insecure {
                true => Trust::Anybody,
                false => Trust::Authorities(extra),
            },
            client: OnceLock::new(),
            http_client: OnceLock::new(),
        })
    }

    /// Reads certificates, keys and the authorities of clients anew, for
    /// handshakes from now on.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; then all stays as it was.
    pub(crate) fn reload(&self, files: &TlsFiles) -> Result<(), Error> {
        let servers = Servers::load(files, self.servers().as_ref())?;
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
        Ok(())
    }

    /// Reads the authorities that outgoing connections trust, on a thread of
    /// its own: there are many, and no handler is to wait for them.
    pub(crate) fn prepare_client(self: &Arc<Self>) {
        let tls = Arc::clone(self);
        let prepare = move || {
            tls.client_config();
        };
        // Without the thread the first connection does it.
        let _ = std::thread::Builder::new()
            .name("roots".into())
            .spawn(prepare);
    }

    /// Waits until those authorities are read.
    pub(crate) async fn client_prepared(self: &Arc<Self>) {
        if self.client.get().is_none() {
            let tls = Arc::clone(self);
            let prepare = move || {
                tls.client_config();
            };
            // Should the thread fail, the caller reads them itself.
            let _ = tokio::task::spawn_blocking(prepare).await;
        }
    }

    /// What all clients begin with; made when first asked for.
    fn client_config(&self) -> &Result<ClientConfig, String> {
        self.client.get_or_init(|| self.trust.client_config())
    }

    /// The client's side of HTTP, whichever version the server prefers.
    ///
    /// # Errors
    /// No authority is known.
    pub(crate) fn http_client(&self) -> Result<Arc<ClientConfig>, ConnectionError> {
        let config = match self.client_config() {
            Ok(config) => config,
            Err(reason) => return Err(ConnectionError::Tls(reason.clone())),
        };
        let with_protocols = || {
            let mut config = config.clone();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(config)
        };
        Ok(Arc::clone(self.http_client.get_or_init(with_protocols)))
    }

    /// The server's side, where `--cert` was given.
    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.servers().map(|servers| servers.tls)
    }

    /// The server's side of `--https`.
    pub(crate) fn https_server(&self) -> Option<Arc<ServerConfig>> {
        self.servers().map(|servers| servers.https)
    }

    fn servers(&self) -> Option<Servers> {
        let servers = self.servers.read();
        servers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session as a server.
    pub(crate) fn accept(config: Arc<ServerConfig>) -> Result<Session, ConnectionError> {
        let connection = ServerConnection::new(config).map_err(tls_error)?;
        Ok(Session::new(connection.into()))
    }

    /// A session as a client.
    ///
    /// # Errors
    /// No authority is known.
    pub(crate) fn connect(&self, client: &ClientTls) -> Result<Session, ConnectionError> {
        let mut config = match self.client_config() {
            Ok(config) => config.clone(),
            Err(reason) => return Err(ConnectionError::Tls(reason.clone())),
        };
        config.alpn_protocols.clone_from(&client.alpn);
        let name = client.server_name.clone();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(tls_error)?;
        Ok(Session::new(connection.into()))
    }
}

impl Servers {
    /// Reads the files; without certificates there is no server.
    ///
    /// Sessions of the server before can be resumed, unless clients show
    /// certificates: a session is resumed without looking at them again, so
    /// one whose authority is gone would get in.
    fn load(files: &TlsFiles, before: Option<&Self>) -> Result<Option<Self>, Error> {
        if files.certificates.is_empty() {
            return Ok(None);
        }
        let before = before.filter(|_| files.client_ca.is_none());
        let mut config = server_config(files)?;
        match before {
            Some(Self { tls: before, .. }) => {
                config.ticketer = Arc::clone(&before.ticketer);
                config.session_storage = Arc::clone(&before.session_storage);
            }
            // Stateless tickets, so that a session can be resumed at any worker.
            None => {
                config.ticketer =
                    aws_lc_rs::Ticketer::new().map_err(|error| Error::Tls(error.to_string()))?;
            }
        }
        let mut https = config.clone();
        https.alpn_protocols = https_protocols(&files.alpn);
        Ok(Some(Self {
            tls: Arc::new(config),
            https: Arc::new(https),
        }))
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = BySni(certified_keys(&provider, &files.certificates)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| bad_file("--client-ca", path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| bad_file("--client-ca", path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols.clone_from(&files.alpn);
    Ok(config)
}

/// What HTTP listeners agree to, the best first: those of HTTP that the user
/// names, and the order in which that is done; else all that there is.
fn https_protocols(named: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const ALL: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
    let http = named.iter().filter(|name| ALL.contains(&name.as_slice()));
    let http: Vec<_> = http.cloned().collect();
    match http.is_empty() {
        true => ALL.iter().map(|name| name.to_vec()).collect(),
        false => http,
    }
}

/// The server's certificates; the first is for clients that ask for none of
/// their names, or for no name.
#[derive(Debug)]
struct BySni(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let chosen = named.and_then(|name| self.0.iter().find(|key| is_for(key, &name)));
        chosen.or_else(|| self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert().is_ok_and(|certificate| {
        webpki::EndEntityCert::try_from(certificate)
            .is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
    })
}

fn certified_keys(
    provider: &CryptoProvider,
    certificates: &[CertificateFiles],
) -> Result<Vec<Arc<CertifiedKey>>, Error> {
    certificates
        .iter()
        .map(|files| certified_key(provider, files))
        .collect()
}

fn certified_key(
    provider: &CryptoProvider,
    files: &CertificateFiles,
) -> Result<Arc<CertifiedKey>, Error> {
    let chain = read_certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
        rustls::pki_types::pem::Error::Io(source) => Error::Read {
            path: files.key.clone(),
            source,
        },
        _ => bad_file("--key", &files.key, &"it holds no private key in PEM"),
    })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| bad_file("--key", &files.key, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(Error::Tls(format!(
            "--key {} does not belong to --cert {}",
            files.key.display(),
            files.chain.display()
        ))),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| bad_file("certificate file", path, &error))?;
    if certificates.is_empty() {
        return Err(bad_file(
            "certificate file",
            path,
            &"it holds no certificate in PEM",
        ));
    }
    Ok(certificates)
}

fn bad_file(what: &str, path: &Path, error: &dyn fmt::Display) -> Error {
    Error::Tls(format!("{what} {}: {error}", path.display()))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn tls_error(error: rustls::Error) -> ConnectionError {
    ConnectionError::Tls(trust::describe(&error))
}

/// What a client says and expects: `client-tls` of the WIT package, checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientTls {
    server_name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
}

impl ClientTls {
    /// # Errors
    /// `InvalidArgument` where the server name is none, or a protocol's name
    /// is empty or too long.
    pub(crate) fn new(server_name: String, alpn: Vec<String>) -> Result<Self, ConnectionError> {
        // RFC 7301, section 3.1: names of 1 to 255 bytes, in a list whose
        // length two bytes tell.
        let fits = alpn.iter().all(|name| (1..=255).contains(&name.len()))
            && alpn.iter().map(|name| name.len() + 1).sum::<usize>() <= 65_535;
        if !fits {
            return Err(ConnectionError::InvalidArgument);
        }
        Ok(Self {
            server_name: ServerName::try_from(server_name)
                .map_err(|_| ConnectionError::InvalidArgument)?,
            alpn: alpn.into_iter().map(String::into_bytes).collect(),
        })
    }
}

/// The TLS session of one connection.
pub(crate) struct Session {
    connection: Connection,
    /// What was written but may not be encrypted yet: it follows a part of a
    /// file that is still being sent.
    staged: WriteQueue,
    /// Ciphertext that arrived but was not taken yet, since the guest paused.
    incoming: Kept,
    /// Plain bytes that rustls keeps until the handshake is done.
    waiting: u64,
    /// Whether the peer said `close_notify`.
    peer_closed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("staged", &self.staged)
            .finish_non_exhaustive()
    }
}

impl Session {
    fn new(mut connection: Connection) -> Self {
        // The connection's own limit applies instead.
        connection.set_buffer_limit(None);
        Self {
            connection,
            staged: WriteQueue::default(),
            incoming: Kept::default(),
            waiting: 0,
            peer_closed: false,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What is queued as plain text: all, and the part of it that is in
    /// memory; bytes.
    pub(crate) fn staged(&self) -> (u64, u64) {
        (
            self.staged.len() + self.waiting,
            self.staged.in_memory() + self.waiting,
        )
    }

    /// Parts of files among what is queued as plain text.
    pub(crate) fn staged_parts(&self) -> usize {
        self.staged.file_parts()
    }

    /// Whether the sending side can be shut without ending the other:
    /// TLS 1.3 (RFC 8446, section 6.1), not before.
    pub(crate) fn can_half_close(&self) -> bool {
        !self.is_handshaking()
            && self.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// Keeps ciphertext for later, after what is kept already.
    pub(crate) fn keep(&mut self, ciphertext: &[u8]) {
        self.incoming.data.extend_from_slice(ciphertext);
    }

    /// What was kept, if anything.
    pub(crate) fn take_kept(&mut self) -> Option<Kept> {
        (!self.incoming.rest().is_empty()).then(|| std::mem::take(&mut self.incoming))
    }

    /// Keeps what [`Self::take_kept`] gave and was not used.
    pub(crate) fn put_back(&mut self, kept: Kept) {
        if !kept.rest().is_empty() {
            self.incoming = kept;
        }
    }

    /// Takes some ciphertext in, and says how much. Plain text is then to be
    /// taken out by [`Self::read`] before more is given.
    ///
    /// # Errors
    /// The peer broke the protocol, or its certificate is refused. An alert
    /// for it may be waiting to be sent.
    pub(crate) fn feed(&mut self, ciphertext: &[u8]) -> Result<usize, ConnectionError> {
        let mut rest = ciphertext;
        let was_handshaking = self.is_handshaking();
        while !rest.is_empty() && !self.peer_closed {
            // It takes a few KiB at a time, and refuses while its buffer of
            // plain text is full.
            if !matches!(self.connection.read_tls(&mut rest), Ok(1..)) {
                break;
            }
            let state = self.connection.process_new_packets().map_err(tls_error)?;
            self.peer_closed = state.peer_has_closed();
            if state.plaintext_bytes_to_read() > 0 {
                break;
            }
        }
        if was_handshaking && !self.is_handshaking() {
            self.waiting = 0;
        }
        Ok(ciphertext.len() - rest.len())
    }

    /// Takes plain text out: 0 is none at present.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        // `WouldBlock` is none at present, 0 the end; `peer_closed` knows.
        self.connection.reader().read(buffer).unwrap_or(0)
    }

    /// Whether [`Self::read`] would yield some, or may after what was kept is
    /// taken in.
    pub(crate) fn has_plain_text(&mut self) -> bool {
        let chunk = self.connection.reader().into_first_chunk();
        chunk.is_ok_and(|chunk| !chunk.is_empty()) || !self.incoming.rest().is_empty()
    }

    /// Whether the peer ended its stream by `close_notify`.
    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Encrypts into `out`, or stages what has to wait for a file.
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

    /// Stages what [`Self::pump`] is to encrypt when its turn comes.
    pub(crate) fn stage(&mut self) -> &mut WriteQueue {
        &mut self.staged
    }

    /// Encrypts the next of what is staged, once all before it is gone.
    ///
    /// # Errors
    /// The file cannot be read, or became shorter.
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

    /// Says `close_notify`.
    pub(crate) fn close(&mut self, out: &mut dyn Sink) {
        self.connection.send_close_notify();
        self.flush(out);
    }

    /// Whether nothing is under way on it, so that it can be parked.
    pub(crate) fn is_quiet(&mut self) -> bool {
        !self.peer_closed
            && !self.is_handshaking()
            && !self.connection.wants_write()
            && self.staged().0 == 0
            && !self.has_plain_text()
    }

    /// The session without what only a transport has.
    pub(crate) fn park(self) -> ParkedSession {
        ParkedSession(self.connection)
    }

    /// Hands the records that rustls made to `out`: handshake, alerts.
    pub(crate) fn flush(&mut self, out: &mut dyn Sink) {
        let mut adapter = Adapter(out);
        while self.connection.wants_write() {
            // The sink takes all, so neither an error nor a zero ends this
            // early.
            if !matches!(self.connection.write_tls(&mut adapter), Ok(1..)) {
                break;
            }
        }
    }

    fn encrypt(&mut self, data: &[u8], out: &mut dyn Sink) {
        if self.is_handshaking() {
            self.waiting += data.len() as u64;
        }
        // Without a buffer limit this takes all.
        let _ = self.connection.writer().write_all(data);
        self.flush(out);
    }

    /// Whether both ends have agreed on a protocol.
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.connection.alpn_protocol() == Some(protocol)
    }

    /// What is known of the session, once its handshake is done.
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
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: match &self.connection {
                Connection::Server(server) => server.server_name().map(ToOwned::to_owned),
                Connection::Client(_) => None,
            },
            peer_certificate: self
                .connection
                .peer_certificates()
                .and_then(<[_]>::first)
                .map(|certificate| certificate.to_vec()),
        })
    }
}

/// A session whose connection nobody uses at present.
pub(crate) struct ParkedSession(Connection);

impl fmt::Debug for ParkedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedSession").finish_non_exhaustive()
    }
}

impl ParkedSession {
    /// Takes ciphertext in, and says whether it was nothing but the session's
    /// own: no plain text, no end, nothing to answer.
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
        Session::new(self.0)
    }
}

/// Ciphertext that was received and not decrypted yet.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    data: Vec<u8>,
    used: usize,
}

impl Kept {
    pub(crate) fn rest(&self) -> &[u8] {
        self.data.get(self.used..).unwrap_or_default()
    }

    /// Counts some as used.
    ///
    /// # Errors
    /// None was: the session is stuck, and must not be asked for ever.
    pub(crate) fn advance(&mut self, count: usize) -> Result<(), ConnectionError> {
        if count == 0 {
            return Err(ConnectionError::Tls("the session takes no more".into()));
        }
        self.used += count;
        Ok(())
    }
}

/// What is known of a session: `tls-info` of the WIT package.
#[derive(Debug)]
pub(crate) struct SessionInfo {
    pub(crate) version: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) server_name: Option<String>,
    pub(crate) peer_certificate: Option<Vec<u8>>,
}

/// Where ciphertext goes: the socket, and the queue for what that does not
/// take. It takes everything.
pub(crate) trait Sink {
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
