//! TLS clients and servers with blocking sockets.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::DerefMut;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, SideData, StreamOwned, SupportedProtocolVersion,
};

use super::peer::connect;
use super::{DEADLINE, Peer, cert};

/// A TLS client.
pub(crate) type TlsPeer = Peer<StreamOwned<ClientConnection, TcpStream>>;

/// Settings of a client's session.
#[derive(Clone)]
pub(crate) struct Client {
    name: &'static str,
    alpn: Vec<Vec<u8>>,
    certificate: Option<(&'static str, &'static str)>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Client {
    /// Makes settings for a server of this name, with trust in the test
    /// authority.
    pub(crate) fn of(name: &'static str) -> Self {
        Self {
            name,
            alpn: Vec::new(),
            certificate: None,
            versions: rustls::ALL_VERSIONS.to_vec(),
        }
    }

    /// Offers a protocol by ALPN.
    pub(crate) fn alpn(mut self, protocol: &str) -> Self {
        self.alpn.push(protocol.into());
        self
    }

    /// Presents a client certificate of `certs/`.
    pub(crate) fn certificate(mut self, chain: &'static str, key: &'static str) -> Self {
        self.certificate = Some((chain, key));
        self
    }

    /// Speaks only this version of TLS.
    pub(crate) fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Returns a session whose handshake has not begun.
    pub(crate) fn session(&self) -> ClientConnection {
        let name = ServerName::try_from(self.name).expect("a name");
        ClientConnection::new(self.config(), name).expect("a session")
    }

    /// Returns the configuration of the sessions.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&cert("ca.pem")) {
            roots.add(authority).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .expect("versions that the provider has")
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(
                    certificates(&cert(chain)),
                    PrivateKeyDer::from_pem_file(cert(key)).expect("a key"),
                )
                .expect("a certificate with its key"),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// Connects, and completes the handshake.
    pub(crate) fn connect(&self, address: SocketAddr) -> TlsPeer {
        self.try_connect(address).expect("a TLS session")
    }

    /// Like [`Self::connect`], but returns an error if the handshake fails.
    pub(crate) fn try_connect(&self, address: SocketAddr) -> std::io::Result<TlsPeer> {
        self.over(connect(address))
    }

    /// Completes the handshake over an open connection.
    pub(crate) fn over(&self, mut socket: TcpStream) -> std::io::Result<TlsPeer> {
        let mut session = self.session();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Peer::new(StreamOwned::new(session, socket)))
    }
}

impl<C, D> Peer<StreamOwned<C, TcpStream>>
where
    C: DerefMut<Target = ConnectionCommon<D>>,
    D: SideData,
{
    /// Half-closes the session: sends close_notify, and leaves TCP open.
    pub(crate) fn finish(&mut self) {
        let stream = self.get();
        stream.conn.send_close_notify();
        stream
            .conn
            .write_tls(&mut stream.sock)
            .expect("close_notify is sent");
    }
}

/// Certificates of servers, and their keys, that clients do not trust: one of its own
/// authority, one that has expired, and one of another name.
pub(crate) const UNTRUSTED: [(&str, &str); 3] = [
    ("self.pem", "self.key"),
    ("expired.pem", "expired.key"),
    ("other.pem", "other.key"),
];

/// A server in the test's own process, so that it can misbehave.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl TlsServer {
    /// Binds a server that presents this certificate, and negotiates one of
    /// these protocols by ALPN.
    pub(crate) fn new(chain: &str, key: &str, alpn: &[&str]) -> Self {
        let config = server_config(chain, key, alpn);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self {
            address: listener.local_addr().expect("its address"),
            listener,
            config: Arc::new(config),
        }
    }

    /// Accepts a client, and completes the handshake.
    pub(crate) fn accept(&self) -> std::io::Result<Peer<StreamOwned<ServerConnection, TcpStream>>> {
        let (mut socket, _) = self.listener.accept()?;
        socket.set_read_timeout(Some(DEADLINE))?;
        let mut session = ServerConnection::new(Arc::clone(&self.config)).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Peer::new(StreamOwned::new(session, socket)))
    }
}

/// Returns the configuration of a server that presents this certificate, and
/// negotiates one of these protocols by ALPN.
pub(crate) fn server_config(chain: &str, key: &str, alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_file(cert(key)).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that the provider has")
        .with_no_client_auth()
        .with_single_cert(certificates(&cert(chain)), key)
        .expect("a certificate with its key");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Returns the configuration of a server that wants a certificate of the test's
/// authority from its clients.
pub(crate) fn mutual_config(alpn: &[&str]) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates(&cert("ca.pem")) {
        roots.add(authority).expect("an authority");
    }
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(cert("key.pem")).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that the provider has")
        .with_client_cert_verifier(clients.build().expect("an authority"))
        .with_single_cert(certificates(&cert("cert.pem")), key)
        .expect("a certificate with its key");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Returns the certificates in a PEM file.
pub(crate) fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .expect("a PEM file")
        .collect::<Result<_, _>>()
        .expect("certificates")
}
