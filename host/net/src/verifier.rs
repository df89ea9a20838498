//! Verification of the peers of TLS sessions.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::tls::dates;

/// A certificate that is refused for a reason that rustls does not tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("self-signed certificate")]
    SelfSigned,
    #[error("self-signed certificate in certificate chain")]
    SelfSignedInChain,
}

impl From<Untrusted> for Error {
    fn from(untrusted: Untrusted) -> Self {
        CertificateError::Other(OtherError(Arc::new(untrusted))).into()
    }
}

/// Authorities to verify certificates by.
#[derive(Clone, Debug)]
pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    /// Certificates that are trusted as they are, besides what they sign: those
    /// that were named. A peer's own self-signed one is mostly among them, and
    /// may be an authority's, which a chain cannot end in.
    pub(crate) named: Arc<[CertificateDer<'static>]>,
}

impl Authorities {
    /// Returns authorities of which all were named.
    pub(crate) fn named(certificates: &[CertificateDer<'static>]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        Self {
            roots: Arc::new(roots),
            named: certificates.into(),
        }
    }

    /// Checks a certificate that was named, by its dates alone: there is no
    /// authority to find, as it is its own. Returns `None` for any other.
    fn check_named(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        let is_it = |named: &CertificateDer<'_>| named.as_ref() == certificate.as_ref();
        self.named
            .iter()
            .any(is_it)
            .then(|| match dates(certificate, now) {
                Err(webpki::Error::CertExpired { .. }) => Err(CertificateError::Expired.into()),
                Err(webpki::Error::CertNotValidYet { .. }) => {
                    Err(CertificateError::NotValidYet.into())
                }
                _ => Ok(()),
            })
    }
}

/// Verifies servers by authorities, by name, or not at all. That the server has
/// the certificate's key is always verified.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) provider: Arc<CryptoProvider>,
    /// Authorities that may have signed the certificate; `None` leaves all of
    /// it unverified.
    pub(crate) authorities: Option<Authorities>,
    /// True to verify its name.
    pub(crate) checks_name: bool,
}

impl ServerVerifier {
    fn verify_chain(
        &self,
        authorities: &Authorities,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if let Some(checked) = authorities.check_named(end_entity, now) {
            return checked;
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = &authorities.roots;
        let verified = verify_server_cert_signed_by_trust_anchor(
            parsed,
            roots,
            intermediates,
            now,
            algorithms,
        );
        verified.map_err(|error| match error {
            // A certificate of an authority fails for what it is, first.
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::Other(_),
            ) if is_self_signed(end_entity) => Untrusted::SelfSigned.into(),
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
                if intermediates.iter().any(is_self_signed) =>
            {
                Untrusted::SelfSignedInChain.into()
            }
            error => error,
        })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(authorities, end_entity, &parsed, intermediates, now)?;
            if self.checks_name {
                verify_server_name(&parsed, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Verifies clients as rustls does, and takes certificates that were named as
/// they are.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    usual: Arc<dyn ClientCertVerifier>,
    authorities: Authorities,
}

impl ClientVerifier {
    /// Verifies clients by these authorities. A client that has no certificate
    /// is refused, unless it is `optional`.
    ///
    /// # Errors
    /// Says why the authorities cannot be used.
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        authorities: Authorities,
        optional: bool,
    ) -> Result<Self, String> {
        let roots = Arc::clone(&authorities.roots);
        let usual = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let usual = match optional {
            true => usual.allow_unauthenticated(),
            false => usual,
        };
        Ok(Self {
            usual: usual.build().map_err(|error| error.to_string())?,
            authorities,
        })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.usual.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.usual.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.usual.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.authorities.check_named(end_entity, now) {
            Some(checked) => checked.map(|()| ClientCertVerified::assertion()),
            None => self
                .usual
                .verify_client_cert(end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// True if a certificate names itself as its issuer.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn certificate(name: &str) -> CertificateDer<'static> {
        let path = format!("{}/../../certs/{name}", env!("CARGO_MANIFEST_DIR"));
        CertificateDer::from_pem_file(path).expect("a certificate")
    }

    #[test]
    fn a_certificate_that_names_itself_as_its_issuer_is_self_signed() {
        assert!(is_self_signed(&certificate("ca.pem")));
        assert!(!is_self_signed(&certificate("cert.pem")));
    }

    #[test]
    fn an_authority_that_was_named_is_taken_of_a_client_and_of_a_server() {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let authority = certificate("ca.pem");
        let named = Authorities::named(std::slice::from_ref(&authority));
        let unnamed = Authorities {
            named: Arc::from([]),
            ..named.clone()
        };
        let now = UnixTime::now();
        let long_ago = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1));
        for (authorities, time, taken) in [
            (&named, now, true),
            (&named, long_ago, false),
            (&unnamed, now, false),
        ] {
            let server = ServerVerifier {
                provider: Arc::clone(&provider),
                authorities: Some(authorities.clone()),
                checks_name: false,
            };
            let name = ServerName::try_from("localhost").expect("a name");
            let verified = server.verify_server_cert(&authority, &[], &name, &[], time);
            assert_eq!(verified.is_ok(), taken, "{verified:?}");
            let client = ClientVerifier::new(Arc::clone(&provider), authorities.clone(), false);
            let client = client.expect("it can be used");
            let verified = client.verify_client_cert(&authority, &[], time);
            assert_eq!(verified.is_ok(), taken, "{verified:?}");
        }
    }
}
