//! Options of sessions, and the configurations made of them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{self, Context, SHA256};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};

use super::EngineFailure;
use crate::tls::Tls;
use crate::tls::certificates::BySni;
use crate::trust;
use crate::verifier::{Authorities, ClientVerifier, ServerVerifier};

/// Most configurations that are kept. When there are more, all are dropped, and made as they are wanted.
const MOST_KEPT: usize = 32;

/// Maximum of all certificates and keys of a session, in bytes.
const MOST_OPTIONS: usize = 4 << 20;

/// TLS versions on the wire: RFC 8446, section 4.2.1.
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;

type Outcome<T> = Result<T, EngineFailure>;

/// A certificate chain with its key, in PEM.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The chain, its owner's certificate first.
    pub chain: String,
    /// The private key.
    pub key: String,
    /// The password of a key that is encrypted.
    pub password: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Policy of a server about certificates of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientCertificates {
    /// It asks for none.
    None,
    /// It asks for one, and verifies it if there is one.
    Optional,
    /// It refuses clients that have none.
    Required,
}

/// Checks of a client on a server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verification {
    /// True to check who signed the certificate.
    pub chain: bool,
    /// True to check for whom it is.
    pub name: bool,
}

impl Verification {
    /// The flag that allows to leave it out.
    const FLAG: &'static str = "--tls-insecure";

    fn is_whole(self) -> bool {
        self.chain && self.name
    }
}

/// Options of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EngineOptions {
    /// The certificates to present.
    pub identities: Vec<Identity>,
    /// Authorities to trust, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// True to trust the system's authorities and those of `--ca`, too.
    pub default_authorities: bool,
    /// The lowest and the highest version.
    pub versions: (u16, u16),
    /// The protocols that are spoken, best first.
    pub alpn: Vec<String>,
}

/// The configurations of an instance, by what they were made of: a server parses
/// its certificate once, and clients of one configuration resume sessions.
#[derive(Debug, Default)]
pub struct Configs {
    clients: HashMap<OptionsDigest, Arc<ClientConfig>>,
    servers: HashMap<OptionsDigest, Arc<ServerConfig>>,
}

impl Configs {
    /// Returns a client's configuration. `named` is true if there is a server
    /// name.
    ///
    /// # Errors
    /// - `Denied`: the server is not to be verified, and there is no
    ///   `--tls-insecure`.
    /// - `Invalid`: the options cannot be used.
    pub fn client(
        &mut self,
        tls: &Tls,
        options: &EngineOptions,
        verification: Verification,
        named: bool,
    ) -> Outcome<Arc<ClientConfig>> {
        if !verification.is_whole() && !tls.insecure {
            let flag = Verification::FLAG;
            return Err(EngineFailure::Denied(format!(
                "leaving a server's certificate or its name unverified is not allowed; {flag} \
                 would allow it"
            )));
        }
        options.check()?;
        let key = OptionsDigest::of(&(options, verification, named));
        if let Some(config) = self.clients.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(client_config(tls, options, verification, named)?);
        keep(&mut self.clients, key, &config);
        Ok(config)
    }

    /// Returns a server's configuration.
    ///
    /// # Errors
    /// `Invalid`: the options cannot be used.
    pub fn server(
        &mut self,
        tls: &Tls,
        options: &EngineOptions,
        clients: ClientCertificates,
    ) -> Outcome<Arc<ServerConfig>> {
        options.check()?;
        let key = OptionsDigest::of(&(options, clients));
        if let Some(config) = self.servers.get(&key) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(server_config(tls, options, clients)?);
        keep(&mut self.servers, key, &config);
        Ok(config)
    }
}

/// SHA-256 of the options: with their certificates they may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OptionsDigest([u8; digest::SHA256_OUTPUT_LEN]);

impl OptionsDigest {
    fn of(options: &impl Hash) -> Self {
        let mut hasher = Sha256(Context::new(&SHA256));
        options.hash(&mut hasher);
        let mut key = [0; digest::SHA256_OUTPUT_LEN];
        let digest = hasher.0.finish();
        for (to, from) in key.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(key)
    }
}

/// SHA-256 as a [`Hasher`].
struct Sha256(Context);

impl Hasher for Sha256 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Unused: the digest is longer.
    fn finish(&self) -> u64 {
        0
    }
}

fn keep<V>(kept: &mut HashMap<OptionsDigest, Arc<V>>, key: OptionsDigest, config: &Arc<V>) {
    if kept.len() >= MOST_KEPT {
        kept.clear();
    }
    kept.insert(key, Arc::clone(config));
}

fn client_config(
    tls: &Tls,
    options: &EngineOptions,
    verification: Verification,
    named: bool,
) -> Outcome<ClientConfig> {
    if verification.chain && verification.name && !named {
        return Err(invalid(
            "a server's name is to be checked, and there is none",
        ));
    }
    let provider = Arc::new(provider::default_provider());
    let authorities = match verification.chain {
        true => Some(options.authorities(tls)?),
        false => None,
    };
    let verifier = ServerVerifier {
        provider: Arc::clone(&provider),
        authorities,
        checks_name: verification.name,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&options.protocol_versions()?)
        .map_err(|error| invalid(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    if let Some(identity) = options.identities.first() {
        let key = identity.certified_key(&provider)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    }
    config.alpn_protocols = options.protocols()?;
    config.enable_sni = named;
    config.resumption = match named {
        true => trust::resumption(),
        // Sessions are kept by the name, and there is none.
        false => Resumption::disabled(),
    };
    Ok(config)
}

fn server_config(
    tls: &Tls,
    options: &EngineOptions,
    clients: ClientCertificates,
) -> Outcome<ServerConfig> {
    let provider = Arc::new(provider::default_provider());
    if options.identities.is_empty() {
        return Err(invalid(
            "a server has to present a certificate, and there is none",
        ));
    }
    let identities = options.identities.iter();
    let identities = identities.map(|identity| identity.certified_key(&provider));
    let certificates = BySni(identities.collect::<Outcome<_>>()?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&options.protocol_versions()?)
        .map_err(|error| invalid(error.to_string()))?;
    let builder = match clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Optional | ClientCertificates::Required => {
            let optional = clients == ClientCertificates::Optional;
            let verifier = ClientVerifier::new(provider, options.authorities(tls)?, optional);
            let verifier = Arc::new(verifier.map_err(invalid)?);
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = options.protocols()?;
    match clients {
        ClientCertificates::None => {
            let tickets = provider::Ticketer::new();
            config.ticketer = tickets.map_err(|error| invalid(error.to_string()))?;
        }
        // A session that is resumed would not verify the certificate again.
        ClientCertificates::Optional | ClientCertificates::Required => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(config)
}

impl EngineOptions {
    /// # Errors
    /// `Invalid`: certificates and keys are too long.
    fn check(&self) -> Outcome<()> {
        let authorities = self.authorities.iter().map(Vec::len);
        let identities = self.identities.iter();
        let identities = identities.map(|it| it.chain.len() + it.key.len());
        match authorities.chain(identities).sum::<usize>() > MOST_OPTIONS {
            true => Err(invalid(format!(
                "certificates and keys have more than {} MiB",
                MOST_OPTIONS >> 20
            ))),
            false => Ok(()),
        }
    }

    /// Returns the authorities that were named.
    fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        let authorities = self.authorities.iter();
        authorities.map(|der| CertificateDer::from(der.clone()))
    }

    /// Returns the authorities to verify the peer by.
    fn authorities(&self, tls: &Tls) -> Outcome<Authorities> {
        Ok(Authorities {
            roots: self.roots(tls)?,
            named: self.certificates().collect(),
        })
    }

    fn roots(&self, tls: &Tls) -> Outcome<Arc<RootCertStore>> {
        if self.authorities.is_empty() && self.default_authorities {
            return tls.default_roots().map_err(EngineFailure::Invalid);
        }
        let mut roots = RootCertStore::empty();
        if self.default_authorities
            && let Ok(known) = tls.default_roots()
        {
            roots.extend(known.roots.iter().cloned());
        }
        roots.add_parsable_certificates(self.certificates());
        Ok(Arc::new(roots))
    }

    fn protocol_versions(&self) -> Outcome<Vec<&'static SupportedProtocolVersion>> {
        let (lowest, highest) = self.versions;
        let known = [(TLS13, &version::TLS13), (TLS12, &version::TLS12)];
        let within = known
            .into_iter()
            .filter(|(number, _)| (lowest..=highest).contains(number));
        let versions: Vec<_> = within.map(|(_, version)| version).collect();
        match versions.is_empty() {
            true => Err(invalid("only TLS 1.2 and 1.3 are spoken")),
            false => Ok(versions),
        }
    }

    fn protocols(&self) -> Outcome<Vec<Vec<u8>>> {
        // RFC 7301, section 3.1: names have 1 to 255 bytes, and two bytes hold
        // the length of their list.
        let fits = self.alpn.iter().all(|name| (1..=255).contains(&name.len()))
            && self.alpn.iter().map(|name| name.len() + 1).sum::<usize>() <= 65_535;
        match fits {
            true => Ok(self
                .alpn
                .iter()
                .map(|name| name.clone().into_bytes())
                .collect()),
            false => Err(invalid("a protocol's name has 1 to 255 bytes")),
        }
    }
}

impl Identity {
    fn certified_key(&self, provider: &CryptoProvider) -> Outcome<Arc<CertifiedKey>> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| invalid(format!("the certificate chain: {error}")))?;
        if chain.is_empty() {
            return Err(invalid("the certificate chain holds no certificate in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes());
        let key = key.map_err(|_| {
            invalid(match self.is_encrypted() {
                true => {
                    "the private key is encrypted, which is not supported: decrypt it with \
                     `openssl pkey -in KEY -out PLAIN`"
                }
                false => "there is no private key in PEM",
            })
        })?;
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|error| invalid(format!("the private key: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(rustls::Error::InvalidCertificate(_)) => {
                Err(invalid("the certificate cannot be parsed"))
            }
            Err(_) => Err(invalid(
                "the private key does not belong to the certificate",
            )),
        }
    }

    fn is_encrypted(&self) -> bool {
        // PKCS #8 (RFC 7468, section 11), and the older form of OpenSSL.
        ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| self.key.contains(mark))
    }
}

fn invalid(reason: impl Into<String>) -> EngineFailure {
    EngineFailure::Invalid(reason.into())
}
