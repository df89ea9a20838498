//! Certificates of servers, and reading certificate files.

use std::fmt;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use netwasm_base::config::CertificateFiles;
use netwasm_base::error::Error;
use netwasm_base::input::Input;

/// Maximum of a file of certificates or a key, in bytes.
const MOST_PEM: u64 = 16 << 20;

/// The server's certificates. The first is for clients that send no name, or a
/// name of none of them.
#[derive(Debug)]
pub(super) struct BySni(pub(super) Vec<Arc<CertifiedKey>>);

impl BySni {
    /// Reads chains and keys.
    ///
    /// # Errors
    /// Fails with the file and what is wrong with it.
    pub(super) fn load(
        provider: &CryptoProvider,
        certificates: &[CertificateFiles],
    ) -> Result<Self, Error> {
        let flags = Flags {
            chain: "--cert",
            key: "--key",
            verified_by: "clients",
        };
        certificates
            .iter()
            .map(|files| certified_key(provider, files, &flags))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

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

/// Flags that name a chain and its key, and those who verify the chain; for
/// messages.
pub(super) struct Flags {
    pub(super) chain: &'static str,
    pub(super) key: &'static str,
    pub(super) verified_by: &'static str,
}

pub(super) fn certified_key(
    provider: &CryptoProvider,
    files: &CertificateFiles,
    flags: &Flags,
) -> Result<Arc<CertifiedKey>, Error> {
    let chain = read_certificates(&files.chain)?;
    warn_of_dates(files, flags, &chain);
    let key = PrivateKeyDer::from_pem_slice(&read_pem(&files.key)?);
    let key =
        key.map_err(|_| bad_file(flags.key, &files.key, &"it holds no private key in PEM"))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| bad_file(flags.key, &files.key, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(Error::Tls(format!(
            "{} {} does not belong to {} {}",
            flags.key,
            files.key.display(),
            flags.chain,
            files.chain.display()
        ))),
    }
}

/// Says so where peers will refuse a certificate for its dates: of those that
/// are no longer or not yet valid the first. It is no error: a clock may be
/// wrong, and a server with one that has expired is of use to those who renew it.
fn warn_of_dates(files: &CertificateFiles, flags: &Flags, chain: &[CertificateDer<'_>]) {
    let (flag, file, peers) = (flags.chain, files.chain.display(), flags.verified_by);
    for certificate in chain {
        match dates(certificate, UnixTime::now()) {
            Err(webpki::Error::CertExpired { not_after, .. }) => {
                let date = date(not_after);
                return tracing::warn!("{flag} {file} expired on {date}: {peers} will refuse it");
            }
            Err(webpki::Error::CertNotValidYet { not_before, .. }) => {
                let date = date(not_before);
                return tracing::warn!(
                    "{flag} {file} is not valid before {date}: {peers} will refuse it"
                );
            }
            _ => {}
        }
    }
}

/// Checks the dates of a certificate. The library does so first of all, before
/// it looks for an authority, of which there is none here.
pub(crate) fn dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), webpki::Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    let usage = webpki::KeyUsage::server_auth();
    let verified = certificate.verify_for_usage(&[], &[], &[], now, usage, None, None);
    verified.map(drop)
}

fn date(time: UnixTime) -> impl fmt::Display {
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time)
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read_pem(path)?;
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

/// Reads a file of certificates or a key. One without an end, such as a device,
/// must not take all memory: a reload may name it.
fn read_pem(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = Input::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_PEM + 1).read_to_end(&mut bytes);
    match read.map_err(unreadable)? as u64 > MOST_PEM {
        true => Err(unreadable(io::Error::other("it has more than 16 MiB"))),
        false => Ok(bytes),
    }
}

pub(super) fn bad_file(what: &str, path: &Path, error: &dyn fmt::Display) -> Error {
    Error::Tls(format!("{what} {}: {error}", path.display()))
}
