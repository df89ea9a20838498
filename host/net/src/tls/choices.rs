//! Authorities and certificates that guests may choose by name for an outgoing
//! connection: `--tls-authority`, `--tls-identity`.

use std::collections::HashMap;
use std::sync::Arc;

use netwasm_base::config::TlsFiles;
use netwasm_base::error::Error;
use netwasm_base::policy::Denied;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::tls::certificates::{Flags, certified_key, read_certificates};
use crate::trust::{self, Trust};

/// A guest's choice for a connection; `None` is what the run has for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Choice {
    pub(super) authority: Option<String>,
    pub(super) identity: Option<String>,
}

/// All that guests may choose, and the configurations of the choices made so
/// far.
#[derive(Debug, Default)]
pub(super) struct Choices {
    authorities: HashMap<String, Vec<CertificateDer<'static>>>,
    identities: HashMap<String, Arc<CertifiedKey>>,
    made: HashMap<Choice, Result<ClientConfig, String>>,
}

impl Choices {
    /// Reads the files.
    ///
    /// # Errors
    /// Fails with the file and what is wrong with it, or with a name that is
    /// given twice.
    pub(super) fn load(files: &TlsFiles) -> Result<Self, Error> {
        const FLAG: &str = "--tls-identity";
        let twice =
            |flag: &str, name: &str| Error::Tls(format!("{flag} gives the name '{name}' twice"));
        let mut choices = Self::default();
        for (name, path) in &files.authorities {
            let certificates = read_certificates(path)?;
            let before = choices.authorities.insert(name.clone(), certificates);
            if before.is_some() {
                return Err(twice("--tls-authority", name));
            }
        }
        let provider = aws_lc_rs::default_provider();
        let flags = Flags {
            chain: FLAG,
            key: FLAG,
            verified_by: "servers",
        };
        for (name, files) in &files.identities {
            let key = certified_key(&provider, files, &flags)?;
            if choices.identities.insert(name.clone(), key).is_some() {
                return Err(twice(FLAG, name));
            }
        }
        Ok(choices)
    }

    /// Checks that a guest may make a choice.
    ///
    /// # Errors
    /// Fails with the flag that would allow it.
    pub(super) fn check(&self, choice: &Choice) -> Result<(), Denied> {
        if let Some(name) = &choice.authority
            && !self.authorities.contains_key(name)
        {
            return Err(Denied::authority(name));
        }
        if let Some(name) = &choice.identity
            && !self.identities.contains_key(name)
        {
            return Err(Denied::identity(name));
        }
        Ok(())
    }

    /// Returns the configuration of a choice, made on first use. Sessions are
    /// resumed only by connections of the same choice. `common` is the
    /// configuration of connections without a choice.
    ///
    /// # Errors
    /// Fails if no authority is known.
    pub(super) fn config(
        &mut self,
        choice: &Choice,
        trust: &Trust,
        common: impl FnOnce() -> Result<ClientConfig, String>,
    ) -> Result<ClientConfig, String> {
        if let Some(made) = self.made.get(choice) {
            return made.clone();
        }
        let authority = choice.authority.as_ref();
        let authority = authority.and_then(|name| self.authorities.get(name));
        let config = match authority {
            Some(certificates) => trust.client_config_of(certificates),
            None => common(),
        };
        let identity = choice.identity.as_ref();
        let identity = identity.and_then(|name| self.identities.get(name));
        let config = config.map(|mut config| {
            if let Some(key) = identity {
                let presented = SingleCertAndKey::from(Arc::clone(key));
                config.client_auth_cert_resolver = Arc::new(presented);
            }
            config.resumption = trust::resumption();
            config
        });
        self.made.insert(choice.clone(), config.clone());
        config
    }
}
