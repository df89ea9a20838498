//! Verification of servers as a guest wants it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::failure::Untrusted;
use crate::tls::certificates::dates;
use crate::trust::is_self_signed;

/// Verifies servers by authorities, by name, or not at all. That the server has
/// the certificate's key is always verified.
#[derive(Debug)]
pub(super) struct ChosenVerifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) roots: Arc<RootCertStore>,
    /// Certificates that are trusted as they are, besides what they sign: those
    /// that were named. A server's own self-signed one is mostly among them.
    pub(super) named: Arc<[CertificateDer<'static>]>,
    /// True to verify who signed the certificate.
    pub(super) verifies: bool,
    /// True to verify its name.
    pub(super) checks_name: bool,
}

impl ChosenVerifier {
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self
            .named
            .iter()
            .any(|named| named.as_ref() == end_entity.as_ref())
        {
            return match dates(end_entity, now) {
                Err(webpki::Error::CertExpired { .. }) => Err(CertificateError::Expired.into()),
                Err(webpki::Error::CertNotValidYet { .. }) => {
                    Err(CertificateError::NotValidYet.into())
                }
                // There is no authority to find: it is its own.
                _ => Ok(()),
            };
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verified = verify_server_cert_signed_by_trust_anchor(
            parsed,
            &self.roots,
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

impl ServerCertVerifier for ChosenVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verifies {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(end_entity, &parsed, intermediates, now)?;
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
