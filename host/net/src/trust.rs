//! Trust roots of outgoing TLS connections, and error texts of sessions.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, OtherError, RootCertStore};

use crate::verifier::{Authorities, ServerVerifier, Untrusted};

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
        authorities: impl FnOnce() -> Result<Authorities, String>,
    ) -> Result<ClientConfig, String> {
        match self {
            Self::Anybody => Self::config(None),
            Self::Authorities => Self::config(Some(authorities()?)),
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
        self.client_config(|| Ok(Authorities::named(authorities)))
    }

    /// Returns a configuration that trusts these authorities, or anybody.
    fn config(authorities: Option<Authorities>) -> Result<ClientConfig, String> {
        if authorities.as_ref().is_some_and(|it| it.roots.is_empty()) {
            return Err("none of the authorities can be used".into());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = ServerVerifier {
            provider: Arc::clone(&provider),
            authorities,
            checks_name: true,
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
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

/// Authorities that the system has.
#[derive(Clone, Debug, Default)]
pub struct SystemAuthorities {
    /// Number of those that can be used.
    pub count: usize,
    /// True if a variable names their location; then no others are trusted.
    pub named: bool,
    /// Reasons why some cannot be read.
    pub errors: Vec<String>,
}

/// Looks for the system's authorities.
#[must_use]
pub fn system_authorities() -> SystemAuthorities {
    let found = system();
    let mut roots = RootCertStore::empty();
    SystemAuthorities {
        count: roots.add_parsable_certificates(found.certificates).0,
        named: found.named,
        errors: found.errors,
    }
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
    errors: Vec<String>,
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
        errors: found.errors.iter().map(ToString::to_string).collect(),
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

/// Describes a session's error to users.
pub fn describe(error: &Error) -> String {
    const UNKNOWN: &str = "its issuer is unknown (UnknownIssuer); --ca FILE adds one";
    let reason = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => UNKNOWN,
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            match reason.downcast_ref() {
                Some(Untrusted::SelfSigned) => {
                    "it is self-signed, and not trusted; --ca FILE adds it"
                }
                Some(Untrusted::SelfSignedInChain) => UNKNOWN,
                None => return error.to_string(),
            }
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
            errors: Vec::new(),
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
}
