//! TLS of a run: the authority, the server's files, and the clients' settings.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ring::error::Unspecified;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificate::Certificate;

/// Name in the certificate of every server.
const SERVER: &str = "localhost";

/// The authority of this process, and a server certificate. Their keys are made
/// once per run; nothing outside the run trusts them.
struct Authority {
    authority: Certificate,
    server: Certificate,
}

impl Authority {
    fn of_this_run() -> &'static Self {
        static MADE: OnceLock<Authority> = OnceLock::new();
        MADE.get_or_init(|| Self::new().expect("the system gives random numbers for keys"))
    }

    fn new() -> Result<Self, Unspecified> {
        let authority = Certificate::authority("netwasm-test authority")?;
        let server = authority.of_server(SERVER)?;
        Ok(Self { authority, server })
    }
}

/// The files in PEM that a server needs, and the authority for other clients.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
}

impl Files {
    /// Writes the files into a directory.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(crate) fn write(directory: &Path) -> io::Result<Self> {
        let run = Authority::of_this_run();
        let files = Self {
            certificate: directory.join("cert.pem"),
            key: directory.join("key.pem"),
            authority: directory.join("ca.pem"),
        };
        std::fs::write(&files.certificate, run.server.pem())?;
        std::fs::write(&files.key, run.server.key_pem())?;
        std::fs::write(&files.authority, run.authority.pem())?;
        Ok(files)
    }
}

/// Settings of a client's handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings<'a> {
    /// Protocols to offer by ALPN.
    pub(crate) alpn: &'a [&'a str],
    /// Common name of the client's certificate. `None` has no certificate.
    pub(crate) certificate: Option<&'a str>,
}

impl Settings<'_> {
    /// Returns a session with the server.
    pub(crate) fn session(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::new(self.config()?), server_name()?)
    }

    /// Returns a configuration that trusts the authority of this run, and no
    /// other.
    pub(crate) fn config(&self) -> Result<ClientConfig, rustls::Error> {
        let authority = &Authority::of_this_run().authority;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.der.as_slice()))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let client = authority
                    .of_client(name)
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                let key = PrivatePkcs8KeyDer::from(client.key_der().to_vec());
                let chain = vec![CertificateDer::from(client.der)];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from(key))?
            }
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().into())
            .collect();
        Ok(config)
    }
}

/// Returns the name that the server's certificate has.
pub(crate) fn server_name() -> Result<ServerName<'static>, rustls::Error> {
    ServerName::try_from(SERVER).map_err(|error| rustls::Error::General(error.to_string()))
}
