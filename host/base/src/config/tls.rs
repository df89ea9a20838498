//! Files of TLS, and the versions and cipher suites that listeners speak.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The files that the flags of TLS name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificates; the first one is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Certificates of other services, for each listener of HTTP that the service
    /// opens; none if no listener needs any.
    pub shared: Vec<Vec<CertificateFiles>>,
    /// Authorities of which one must have signed a client's certificate.
    pub client_ca: Option<PathBuf>,
    /// ALPN protocols of `--tls`, the best first.
    pub alpn: Vec<Vec<u8>>,
    /// Lowest version that listeners speak.
    pub min_version: TlsVersion,
    /// Cipher suites that listeners accept, the best first. A version without one
    /// among them keeps all of its own.
    pub ciphers: Vec<CipherSuite>,
    /// Trust roots of outgoing connections besides the system's.
    pub extra_roots: Vec<PathBuf>,
    /// True if outgoing connections accept any certificate. Whoever answers can
    /// then read and change everything that is sent.
    pub insecure: bool,
    /// Authorities that guests may choose for a connection, by name.
    pub authorities: Vec<(String, PathBuf)>,
    /// Certificates that guests may choose to present to a server, by name.
    pub identities: Vec<(String, CertificateFiles)>,
}

/// A certificate chain and its private key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl FromStr for TlsVersion {
    type Err = TlsVersionError;

    fn from_str(text: &str) -> Result<Self, TlsVersionError> {
        let number = text
            .strip_prefix("TLSv")
            .or_else(|| text.strip_prefix("tlsv"));
        match number.unwrap_or(text) {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(TlsVersionError(text.to_owned())),
        }
    }
}

/// Reason why a text is no version of TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a version that this host speaks: write 1.2 or 1.3")]
pub struct TlsVersionError(String);

/// A cipher suite that this host has, by the registry of IANA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CipherSuite {
    /// Number in the registry.
    pub number: u16,
    /// Name in the registry.
    pub name: &'static str,
    /// Name by OpenSSL.
    openssl: &'static str,
}

/// All suites, the best first.
pub const CIPHER_SUITES: [CipherSuite; 9] = [
    suite(0x1302, "TLS_AES_256_GCM_SHA384", ""),
    suite(0x1301, "TLS_AES_128_GCM_SHA256", ""),
    suite(0x1303, "TLS_CHACHA20_POLY1305_SHA256", ""),
    suite(
        0xc02c,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    suite(
        0xc02b,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    suite(
        0xcca9,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    suite(
        0xc030,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    suite(
        0xc02f,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    suite(
        0xcca8,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];

const fn suite(number: u16, name: &'static str, openssl: &'static str) -> CipherSuite {
    CipherSuite {
        number,
        name,
        openssl,
    }
}

impl CipherSuite {
    /// Returns the version of TLS that has it.
    #[must_use]
    pub fn version(&self) -> TlsVersion {
        // RFC 8446, appendix B.4.
        match self.number >> 8 {
            0x13 => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        }
    }

    /// Returns the suite of a name: IANA's, OpenSSL's, or that of rustls.
    fn named(name: &str) -> Option<Self> {
        let plain = match name.strip_prefix("TLS13_") {
            Some(rest) => format!("TLS_{rest}"),
            None => name.to_owned(),
        };
        let is_it = |it: &Self| {
            it.name.eq_ignore_ascii_case(&plain)
                || !it.openssl.is_empty() && it.openssl.eq_ignore_ascii_case(name)
        };
        CIPHER_SUITES.into_iter().find(is_it)
    }
}

/// The argument of a `--tls-ciphers`: names of suites, with colons or commas
/// between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherSuites(pub Vec<CipherSuite>);

impl FromStr for CipherSuites {
    type Err = CipherSuiteError;

    fn from_str(text: &str) -> Result<Self, CipherSuiteError> {
        let names = text.split([':', ',']).map(str::trim);
        let suites = names.map(|name| {
            let unknown = || CipherSuiteError(name.to_owned());
            CipherSuite::named(name).ok_or_else(unknown)
        });
        suites.collect::<Result<_, _>>().map(Self)
    }
}

/// Reason why a text is no cipher suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CipherSuiteError(String);

impl fmt::Display for CipherSuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = CIPHER_SUITES.map(|suite| suite.name).join(", ");
        write!(
            f,
            "'{}' is not a cipher suite of this host: there are {names}",
            self.0
        )
    }
}

impl std::error::Error for CipherSuiteError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_the_names_that_people_know_it_by() {
        let one = |text: &str| match text.parse::<CipherSuites>() {
            Ok(CipherSuites(suites)) => suites.iter().map(|it| it.number).collect(),
            Err(error) => panic!("{error}"),
        };
        for (text, numbers) in [
            ("TLS_AES_128_GCM_SHA256", vec![0x1301]),
            ("TLS13_AES_128_GCM_SHA256", vec![0x1301]),
            ("ECDHE-RSA-AES128-GCM-SHA256", vec![0xc02f]),
            (
                "ECDHE-ECDSA-CHACHA20-POLY1305:tls_ecdhe_rsa_with_aes_256_gcm_sha384",
                vec![0xcca9, 0xc030],
            ),
            (
                "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256",
                vec![0x1302, 0x1303],
            ),
        ] {
            let found: Vec<u16> = one(text);
            assert_eq!(found, numbers, "{text}");
        }
        for text in ["", "AES128-SHA", "TLS_AES_128_GCM_SHA256:", "HIGH:!aNULL"] {
            let error = text.parse::<CipherSuites>().expect_err("no suite");
            let message = error.to_string();
            assert!(message.contains("is not a cipher suite of this host: there are TLS_AES_256"));
        }
    }

    #[test]
    fn versions_are_numbers() {
        assert_eq!("1.2".parse(), Ok(TlsVersion::Tls12));
        assert_eq!("TLSv1.3".parse(), Ok(TlsVersion::Tls13));
        for text in ["", "1.1", "TLSv", "3"] {
            assert!(text.parse::<TlsVersion>().is_err(), "{text}");
        }
        let count = |version| {
            CIPHER_SUITES
                .iter()
                .filter(move |it| it.version() == version)
        };
        assert_eq!(count(TlsVersion::Tls13).count(), 3);
    }
}
