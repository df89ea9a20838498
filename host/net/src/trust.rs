//! Trust roots of outgoing TLS connections, and error texts of sessions.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme,
};

/// Maximum of servers whose sessions are kept for resumption.
const SESSIONS: usize = 1024;

/// Variables that name the system's trust roots, as in OpenSSL.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Authorities that outgoing connections trust.
#[derive(Debug)]
pub(crate) enum Trust {
    /// The run's trust roots.
    Authorities,
    /// Any certificate: `--tls-insecure`.
    Anybody,
}

impl Trust {
    /// Returns the configuration common to all clients, with the run's trust
    /// roots. They share the sessions that it keeps.
    ///
    /// # Errors
    /// Fails if no trust root is known.
    pub(crate) fn client_config(
        &self,
        roots: impl FnOnce() -> Result<Arc<RootCertStore>, String>,
    ) -> Result<ClientConfig, String> {
        match self {
            Self::Anybody => Self::config(None),
            Self::Authorities => Self::config(Some(roots()?)),
        }
    }

    /// Returns the configuration of clients that trust these authorities and no
    /// others; or anybody, if all clients do.
    ///
    /// # Errors
    /// Fails if none of them can be used.
    pub(crate) fn client_config_of(
        &self,
        authorities: &[CertificateDer<'static>],
    ) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        match self {
            Self::Anybody => Self::config(None),
            Self::Authorities => Self::config(Some(Arc::new(roots))),
        }
    }

    /// Returns a configuration that trusts these roots, or anybody.
    fn config(roots: Option<Arc<RootCertStore>>) -> Result<ClientConfig, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match roots {
            None => Arc::new(NoVerifier(Arc::clone(&provider))),
            Some(roots) => {
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                Arc::new(Verifier(
                    verifier.build().map_err(|error| error.to_string())?,
                ))
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = resumption();
        Ok(config)
    }
}

/// Returns the system's trust roots and these.
///
/// # Errors
/// Fails if there are none.
pub(crate) fn default_roots(extra: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    roots(system(), extra)
}

/// Returns an empty store of sessions to resume.
pub(crate) fn resumption() -> Resumption {
    Resumption::in_memory_sessions(SESSIONS)
}

/// The system's trust roots.
struct System {
    certificates: Vec<CertificateDer<'static>>,
    /// True if a variable names their location; then no others are trusted.
    named: bool,
}

fn system() -> System {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "an authority of the system cannot be read");
    }
    System {
        certificates: found.certs,
        named: VARIABLES
            .iter()
            .any(|name| std::env::var_os(name).is_some()),
    }
}

fn roots(system: System, extra: &[CertificateDer<'static>]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(system.certificates);
    if roots.is_empty() && !system.named {
        tracing::debug!("the system knows no authorities: trusting those that are built in");
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.add_parsable_certificates(extra.iter().cloned());
    if roots.is_empty() {
        let [file, directory] = VARIABLES;
        return Err(format!(
            "no certificate authority is known: {file} or {directory} names none, and --ca FILE \
             adds one"
        ));
    }
    Ok(roots)
}

/// Verifies as usual, but tells self-signed certificates from those of an
/// unknown authority.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| match error {
                Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::Other(_),
                ) if is_self_signed(end_entity) => {
                    CertificateError::Other(OtherError(Arc::new(SelfSigned))).into()
                }
                error => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it is self-signed")]
struct SelfSigned;

/// True if a certificate names itself as its issuer.
pub(crate) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}

/// Accepts any certificate, but verifies that the peer has its key.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Describes a session's error to users.
pub fn describe(error: &Error) -> String {
    let reason = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its issuer is unknown (UnknownIssuer); --ca FILE adds one"
        }
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason)))
            if reason.is::<SelfSigned>() =>
        {
            "it is self-signed, and not trusted; --ca FILE adds it"
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        | Error::NoApplicationProtocol => {
            return format!("no common protocol (ALPN): {error}");
        }
        error => return error.to_string(),
    };
    format!("invalid peer certificate: {reason}")
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn authority() -> Vec<CertificateDer<'static>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../certs/ca.pem");
        vec![CertificateDer::from_pem_file(path).expect("an authority")]
    }

    fn count(certificates: &[CertificateDer<'static>], named: bool, extra: usize) -> Option<usize> {
        let system = System {
            certificates: certificates.to_vec(),
            named,
        };
        let roots = roots(system, authority().get(..extra).expect("at most one"));
        roots.ok().map(|roots| roots.len())
    }

    #[test]
    fn built_in_authorities_stand_in_where_the_system_has_none() {
        let built_in = webpki_roots::TLS_SERVER_ROOTS.len();
        assert_eq!(count(&[], false, 0), Some(built_in));
        assert_eq!(count(&[], false, 1), Some(built_in + 1));
        assert_eq!(count(&authority(), false, 0), Some(1));
    }

    #[test]
    fn authorities_that_a_variable_names_are_the_only_ones() {
        assert_eq!(count(&[], true, 0), None);
        assert_eq!(count(&[], true, 1), Some(1));
        assert_eq!(count(&authority(), true, 0), Some(1));
    }

    #[test]
    fn a_certificate_that_names_itself_as_its_issuer_is_self_signed() {
        assert!(is_self_signed(&authority()[0]));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../certs/cert.pem");
        let signed = CertificateDer::from_pem_file(path).expect("a certificate");
        assert!(!is_self_signed(&signed));
    }
}
