//! TLS of a run: the authority, the server's files, and the clients' settings.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::error::Unspecified;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificate::Certificate;

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
        let server = authority.of_localhost()?;
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
        let key = run.server.key_pem().map_err(io::Error::other)?;
        std::fs::write(&files.certificate, run.server.pem())?;
        std::fs::write(&files.key, key)?;
        std::fs::write(&files.authority, run.authority.pem())?;
        Ok(files)
    }
}

/// Returns a session with `localhost` that trusts the authority of this run, and
/// offers these protocols by ALPN.
pub(crate) fn session(alpn: &[&str]) -> Result<ClientConnection, rustls::Error> {
    let authority = &Authority::of_this_run().authority;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der.as_slice()))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost")
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    ClientConnection::new(Arc::new(config), name)
}
