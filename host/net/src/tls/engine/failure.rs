//! Why a session failed, in the words of OpenSSL where programs expect these.

use std::net::IpAddr;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

use crate::verifier::Untrusted;

/// Reason why a session failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineFailure {
    /// The options cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The peer's certificate was refused: the code of OpenSSL's
    /// `X509_verify_cert_error_string`, and its text.
    #[error("{1}")]
    Certificate(u32, String),
    /// The peer sent an alert: its number (RFC 8446, section 6) and name.
    #[error("{1}")]
    Alert(u8, String),
    /// The peer broke the protocol, or there is no common one.
    #[error("{0}")]
    Protocol(String),
    /// The stream ended without `close_notify`.
    #[error("the TLS stream ended without close_notify")]
    Truncated,
    /// The command line does not allow it.
    #[error("{0}")]
    Denied(String),
}

impl EngineFailure {
    /// Returns the failure for an error of a session whose peer has a name.
    pub(super) fn of(error: &Error, name: Option<&str>) -> Self {
        match error {
            Error::InvalidCertificate(error) => {
                let (code, text) = certificate(error, name.unwrap_or_default());
                Self::Certificate(code, text)
            }
            // The peer asked for none, or refuses to show one.
            Error::NoCertificatesPresented => {
                Self::Protocol("the peer did not return a certificate".into())
            }
            Error::AlertReceived(alert) => Self::Alert(u8::from(*alert), alert_name(*alert)),
            error => Self::Protocol(error.to_string()),
        }
    }
}

/// Returns the code and the text that OpenSSL has for a refused certificate
/// (X509_STORE_CTX_get_error(3)).
fn certificate(error: &CertificateError, name: &str) -> (u32, String) {
    use CertificateError as E;
    let (code, text) = match error {
        E::Expired | E::ExpiredContext { .. } => (10, "certificate has expired"),
        E::NotValidYet | E::NotValidYetContext { .. } => (9, "certificate is not yet valid"),
        E::Revoked => (23, "certificate revoked"),
        E::UnknownIssuer => (20, "unable to get local issuer certificate"),
        E::UnknownRevocationStatus => (3, "unable to get certificate CRL"),
        E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            (12, "CRL has expired")
        }
        E::BadSignature => (7, "certificate signature failure"),
        E::UnhandledCriticalExtension => (34, "unhandled critical extension"),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            (26, "unsuitable certificate purpose")
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            return match name.parse::<IpAddr>() {
                Ok(_) => (
                    64,
                    format!("IP address mismatch, certificate is not valid for '{name}'."),
                ),
                Err(_) => (
                    62,
                    format!("Hostname mismatch, certificate is not valid for '{name}'."),
                ),
            };
        }
        E::Other(OtherError(reason)) => match reason.downcast_ref() {
            Some(Untrusted::SelfSigned) => (18, "self-signed certificate"),
            Some(Untrusted::SelfSignedInChain) => {
                (19, "self-signed certificate in certificate chain")
            }
            None => return (1, reason.to_string()),
        },
        // OpenSSL has no code for it but this.
        other => return (1, other.to_string()),
    };
    (code, text.to_owned())
}

/// Returns the name of an alert as RFC 8446 writes it.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut follows_lower = false;
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && follows_lower {
            name.push('_');
        }
        follows_lower = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_the_names_of_the_standard() {
        for (alert, name) in [
            (AlertDescription::HandshakeFailure, "handshake_failure"),
            (AlertDescription::UnknownCA, "unknown_ca"),
            (
                AlertDescription::NoApplicationProtocol,
                "no_application_protocol",
            ),
            (AlertDescription::CertificateUnknown, "certificate_unknown"),
        ] {
            assert_eq!(alert_name(alert), name);
        }
    }

    #[test]
    fn a_wrong_name_is_named() {
        let failure = |name| {
            let error = Error::InvalidCertificate(CertificateError::NotValidForName);
            EngineFailure::of(&error, Some(name))
        };
        assert_eq!(
            failure("wrong.example"),
            EngineFailure::Certificate(
                62,
                "Hostname mismatch, certificate is not valid for 'wrong.example'.".into()
            )
        );
        assert!(matches!(
            failure("192.0.2.1"),
            EngineFailure::Certificate(64, _)
        ));
    }
}
