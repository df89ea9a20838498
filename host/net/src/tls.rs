//! TLS of a run, built from files. `session` has the session of one connection,
//! `certificates` the certificates of servers, `clients` the verification of
//! clients that present one, `client` the settings of an outgoing session, and
//! `choices` what guests may choose for one. [`engine`] has sessions without
//! input and output.

mod certificates;
mod choices;
mod client;
mod clients;
pub mod engine;
mod session;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use netwasm_base::config::{CIPHER_SUITES, CipherSuite, TlsFiles, TlsVersion};
use netwasm_base::error::{ConnectionError, Error};
use netwasm_base::policy::Denied;

use crate::trust::{self, Trust};
use crate::verifier::{Authorities, ClientVerifier};

pub(crate) use self::certificates::dates;
use self::certificates::{BySni, bad_file, read_certificates};
use self::choices::{Choice, Choices};
pub use self::client::ClientTls;
use self::clients::TlsClients;
pub use self::session::{KeptCiphertext, ParkedSession, Session, SessionInfo, Sink};

/// TLS state of a run: built at start, shared by all workers.
pub struct Tls {
    /// Server configurations, if `--cert` was given; replaced on reload.
    servers: RwLock<Option<ServerConfigs>>,
    trust: Trust,
    /// Trust roots besides the system's.
    extra: Vec<CertificateDer<'static>>,
    /// True if guests may leave servers unverified: `--tls-insecure`.
    insecure: bool,
    /// The system's trust roots and `extra`, for guests that verify by
    /// themselves.
    roots: OnceLock<Result<Arc<RootCertStore>, String>>,
    client: OnceLock<Result<ClientConfig, String>>,
    /// Like `client`, for HTTP.
    http_client: OnceLock<Arc<ClientConfig>>,
    /// Like `client`, without a protocol.
    plain_client: OnceLock<Arc<ClientConfig>>,
    /// Replaced on reload.
    choices: Mutex<Choices>,
}

/// The server configurations of a run.
#[derive(Clone)]
struct ServerConfigs {
    tls: Arc<ServerConfig>,
    /// Like `tls`, for `--https`, with the protocols of HTTP.
    https: Arc<ServerConfig>,
    /// Like `https`, for each listener that services share.
    shared: Arc<[Arc<ServerConfig>]>,
    /// Verification of client certificates: `--client-ca`.
    clients: Option<Arc<TlsClients>>,
}

/// Certificates, and what guests may choose, as read for a reload.
pub struct Renewed {
    servers: Option<ServerConfigs>,
    choices: Choices,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

/// Server configuration of a listener.
pub struct ServerTls {
    config: Arc<ServerConfig>,
    clients: Option<Arc<TlsClients>>,
}

/// Set once AWS-LC has gathered the entropy that its random numbers begin with.
static ENTROPY: OnceLock<()> = OnceLock::new();

/// Lets AWS-LC gather entropy. That takes some 60 ms of CPU time, once in a
/// process, which no handshake on a worker should. The caller's thread must end
/// before the process does: AWS-LC aborts it if its state is taken away meanwhile.
fn gather_entropy() {
    ENTROPY.get_or_init(|| {
        // A failure comes again, and is told, where numbers are drawn.
        let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
    });
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
    /// Fails with the file and what is wrong with it.
    pub fn load(files: &TlsFiles) -> Result<Self, Error> {
        let servers = ServerConfigs::load(files, None)?;
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
                false => Trust::Authorities,
            },
            extra,
            insecure: files.insecure,
            roots: OnceLock::new(),
            client: OnceLock::new(),
            http_client: OnceLock::new(),
            plain_client: OnceLock::new(),
            choices: Mutex::new(Choices::load(files)?),
        })
    }

    /// Reads certificates, keys and client authorities, and what guests may
    /// choose, once more. Nothing changes before [`Self::renew`].
    ///
    /// # Errors
    /// Fails with the file and what is wrong with it.
    pub fn read_again(&self, files: &TlsFiles) -> Result<Renewed, Error> {
        Ok(Renewed {
            servers: ServerConfigs::load(files, self.servers().as_ref())?,
            choices: Choices::load(files)?,
        })
    }

    /// Takes what was read again for future handshakes.
    pub fn renew(&self, renewed: Renewed) {
        let Renewed { servers, choices } = renewed;
        *self.choices() = choices;
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// Reads the trust roots of outgoing connections on a thread of its own:
    /// there are many, and no handler should wait for them.
    pub fn prepare_client(self: &Arc<Self>) {
        let tls = Arc::clone(self);
        let prepare = move || {
            tls.client_config();
        };
        // If the thread cannot start, the first connection reads them.
        let _ = std::thread::Builder::new()
            .name("roots".into())
            .spawn(prepare);
    }

    /// Waits until the trust roots have been read, and the first random number
    /// can be drawn.
    pub async fn client_prepared(self: &Arc<Self>) {
        if self.client.get().is_none() || ENTROPY.get().is_none() {
            let tls = Arc::clone(self);
            let prepare = move || {
                gather_entropy();
                tls.client_config();
            };
            // If the thread fails, the caller reads them itself.
            let _ = tokio::task::spawn_blocking(prepare).await;
        }
    }

    /// Returns the configuration common to all clients, created on first use.
    fn client_config(&self) -> &Result<ClientConfig, String> {
        let authorities = || {
            Ok(Authorities {
                roots: self.default_roots()?,
                named: self.extra.as_slice().into(),
            })
        };
        self.client
            .get_or_init(|| self.trust.client_config(authorities))
    }

    /// Returns the trust roots that a guest verifies servers by, unless it names
    /// its own.
    ///
    /// # Errors
    /// Fails if no trust root is known.
    fn default_roots(&self) -> Result<Arc<RootCertStore>, String> {
        let roots = self
            .roots
            .get_or_init(|| trust::default_roots(&self.extra).map(Arc::new));
        roots.clone()
    }

    /// Returns the client configuration of HTTP, which offers HTTP/2 and
    /// HTTP/1.1.
    ///
    /// # Errors
    /// Fails if no trust root is known.
    pub fn http_client(&self) -> Result<Arc<ClientConfig>, ConnectionError> {
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

    /// Returns the client configuration that offers no protocol.
    ///
    /// # Errors
    /// Fails if no trust root is known.
    pub fn plain_client(&self) -> Result<Arc<ClientConfig>, ConnectionError> {
        let config = match self.client_config() {
            Ok(config) => config,
            Err(reason) => return Err(ConnectionError::Tls(reason.clone())),
        };
        let plain = || Arc::new(config.clone());
        Ok(Arc::clone(self.plain_client.get_or_init(plain)))
    }

    /// Returns the server configuration, if `--cert` was given.
    pub fn server(&self) -> Option<ServerTls> {
        self.servers().map(|servers| ServerTls {
            config: servers.tls,
            clients: servers.clients,
        })
    }

    /// Returns the server configuration of `--https`, if `--cert` was given.
    /// `site` is the number of a listener that services share.
    pub(crate) fn https_server(&self, site: Option<usize>) -> Option<ServerTls> {
        self.servers().map(|servers| ServerTls {
            config: match site.and_then(|site| servers.shared.get(site)) {
                Some(shared) => Arc::clone(shared),
                None => servers.https,
            },
            clients: servers.clients,
        })
    }

    fn servers(&self) -> Option<ServerConfigs> {
        let servers = self.servers.read();
        servers.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn choices(&self) -> MutexGuard<'_, Choices> {
        // No code panics while it holds the lock.
        self.choices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that guests may choose the authority and the identity of these
    /// options.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub fn check(&self, client: &ClientTls) -> Result<(), Denied> {
        match client.choice == Choice::default() {
            true => Ok(()),
            false => self.choices().check(&client.choice),
        }
    }

    /// Begins a session as a server.
    pub fn accept(server: ServerTls) -> Result<Session, ConnectionError> {
        let connection = ServerConnection::new(server.config).map_err(tls_error)?;
        Ok(Session::new(connection.into(), server.clients))
    }

    /// Begins a session as a client.
    ///
    /// # Errors
    /// Fails if no trust root is known.
    pub fn connect(&self, client: &ClientTls) -> Result<Session, ConnectionError> {
        let common = || self.client_config().clone();
        let config = match client.choice == Choice::default() {
            true => common(),
            false => self.choices().config(&client.choice, &self.trust, common),
        };
        let mut config = config.map_err(ConnectionError::Tls)?;
        config.alpn_protocols.clone_from(&client.alpn);
        let name = client.server_name.clone();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(tls_error)?;
        Ok(Session::new(connection.into(), None))
    }
}

impl ServerConfigs {
    /// Reads the files. Without certificates there is no server.
    ///
    /// Sessions from before a reload can be resumed, unless clients present
    /// certificates: clients of a removed authority then need a new handshake.
    fn load(files: &TlsFiles, before: Option<&Self>) -> Result<Option<Self>, Error> {
        if files.certificates.is_empty() {
            return Ok(None);
        }
        let clients = clients(files)?;
        let mut config = server_config(files, clients.as_ref())?;
        // Stateless tickets, so that any worker can resume a session.
        match (&clients, before) {
            (Some(clients), _) => {
                config.ticketer = Arc::clone(&clients.tickets) as _;
                config.session_storage = Arc::new(NoServerSessionStorage {});
            }
            (None, Some(Self { tls: before, .. })) => {
                config.ticketer = Arc::clone(&before.ticketer);
                config.session_storage = Arc::clone(&before.session_storage);
            }
            (None, None) => config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?,
        }
        let mut https = config.clone();
        https.alpn_protocols = https_protocols(&files.alpn);
        let https = Arc::new(https);
        let shared = files.shared.iter().map(|others| {
            if others.is_empty() {
                return Ok(Arc::clone(&https));
            }
            let mut config = ServerConfig::clone(&https);
            let all = files.certificates.iter().chain(others).cloned();
            let all: Vec<_> = all.collect();
            config.cert_resolver = Arc::new(BySni::load(config.crypto_provider(), &all)?);
            Ok(Arc::new(config))
        });
        Ok(Some(Self {
            shared: shared.collect::<Result<_, Error>>()?,
            tls: Arc::new(config),
            https,
            clients: clients.map(Arc::new),
        }))
    }
}

/// Returns the verification of clients, if they present certificates.
fn clients(files: &TlsFiles) -> Result<Option<TlsClients>, Error> {
    let Some(path) = &files.client_ca else {
        return Ok(None);
    };
    let bad = |error: &dyn fmt::Display| bad_file("--client-ca", path, error);
    let certificates = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| bad(&error))?;
    }
    let authorities = Authorities {
        roots: Arc::new(roots),
        named: certificates.into(),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = ClientVerifier::new(provider, authorities, false);
    let verifier = verifier.map_err(|error| bad(&error))?;
    TlsClients::new(Arc::new(verifier))
        .map_err(unusable)
        .map(Some)
}

fn server_config(files: &TlsFiles, clients: Option<&TlsClients>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(provider(&files.ciphers));
    let certificates = BySni::load(&provider, &files.certificates)?;
    let versions: &[_] = match files.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols.clone_from(&files.alpn);
    // An order that was given counts.
    config.ignore_client_order = !files.ciphers.is_empty();
    Ok(config)
}

/// Returns the provider with these cipher suites, in this order. A version
/// without one among them keeps all of its own.
fn provider(ciphers: &[CipherSuite]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let all = std::mem::take(&mut provider.cipher_suites);
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        let mut wanted = ciphers
            .iter()
            .filter(|it| it.version() == version)
            .peekable();
        if wanted.peek().is_none() {
            let own = CIPHER_SUITES.iter().filter(|it| it.version() == version);
            provider
                .cipher_suites
                .extend(own.filter_map(|it| find(&all, it)));
        }
        provider
            .cipher_suites
            .extend(wanted.filter_map(|it| find(&all, it)));
    }
    provider
}

fn find(all: &[SupportedCipherSuite], suite: &CipherSuite) -> Option<SupportedCipherSuite> {
    let number = |it: &&SupportedCipherSuite| u16::from(it.suite()) == suite.number;
    all.iter().find(number).copied()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn unusable(error: rustls::Error) -> Error {
    Error::Tls(error.to_string())
}

/// Returns the protocols that HTTP listeners accept, the best first: the HTTP
/// ones that the user names, in that order, or else all.
fn https_protocols(named: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const ALL: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
    let http = named.iter().filter(|name| ALL.contains(&name.as_slice()));
    let http: Vec<_> = http.cloned().collect();
    match http.is_empty() {
        true => ALL.iter().map(|name| name.to_vec()).collect(),
        false => http,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function in map_err"
)]
fn tls_error(error: rustls::Error) -> ConnectionError {
    ConnectionError::Tls(trust::describe(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_suites_of_the_library_can_be_named_and_have_its_order() {
        let all = aws_lc_rs::default_provider().cipher_suites;
        let numbers: Vec<_> = all.iter().map(|it| u16::from(it.suite())).collect();
        assert_eq!(CIPHER_SUITES.map(|it| it.number).to_vec(), numbers);
        assert_eq!(provider(&[]).cipher_suites, all);
    }

    #[test]
    fn a_version_keeps_all_of_its_suites_unless_one_is_named() {
        let numbers = |wanted: &[CipherSuite]| -> Vec<u16> {
            let suites = provider(wanted).cipher_suites;
            suites.iter().map(|it| u16::from(it.suite())).collect()
        };
        let [aes256, aes128, _, .., last] = CIPHER_SUITES;
        assert_eq!(
            numbers(&[last]),
            [0x1302, 0x1301, 0x1303, last.number].to_vec()
        );
        let some = numbers(&[aes128, last, aes256]);
        assert_eq!(some, [aes128.number, aes256.number, last.number]);
    }
}
