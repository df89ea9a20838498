//! The network side of an operation: made once it is needed.

use std::sync::Arc;

use netwasm_base::config::{RegistryConfig, TlsFiles};
use netwasm_net::tls::Tls;
use rustls::ClientConfig;

use crate::client::Repository;
use crate::connect::Connector;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::login::Logins;
use crate::proxies::Proxies;
use crate::reference::Reference;
use crate::transport::Transport;

/// Transport and logins of an operation.
pub(crate) struct Network {
    transport: Transport,
    logins: Logins,
}

/// A place that has a repository: the registry, or a mirror.
pub(crate) struct Place {
    /// Host of the API, with its port.
    endpoint: String,
    /// Name of the registry in files of credentials.
    registry: String,
    /// Name of the repository there.
    repository: String,
}

impl Network {
    /// Reads authorities and variables.
    ///
    /// # Errors
    /// Fails with the first file or variable that is wrong.
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self, Error> {
        let files = TlsFiles {
            extra_roots: config.authorities.clone(),
            ..TlsFiles::default()
        };
        let wrong = |error: &dyn std::fmt::Display| Error::Setting(error.to_string());
        let tls = Tls::load(&files).map_err(|error| wrong(&error))?;
        let tls = tls.plain_client().map_err(|error| wrong(&error))?;
        let mut tls = ClientConfig::clone(&tls);
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let variable = |name: &str| std::env::var(name).ok();
        Ok(Self {
            transport: Transport::new(Connector {
                tls: Arc::new(tls),
                proxies: Proxies::new(variable)?,
                plain: config.plain.clone(),
            }),
            logins: Logins::new(Credentials::new(variable)),
        })
    }

    /// Opens a repository.
    pub(crate) async fn open(&self, place: &Place) -> Result<Repository<'_>, Error> {
        let Place {
            endpoint,
            registry,
            repository,
        } = place;
        Repository::open(
            &self.transport,
            &self.logins,
            endpoint,
            registry,
            repository,
        )
        .await
    }
}

impl Place {
    /// Returns the registry itself.
    pub(crate) fn of(reference: &Reference) -> Self {
        Self {
            endpoint: reference.endpoint().to_owned(),
            registry: reference.registry.clone(),
            repository: reference.repository.clone(),
        }
    }

    /// Returns the mirrors of the registry, and at last itself.
    pub(crate) fn all(reference: &Reference, config: &RegistryConfig) -> Vec<Self> {
        let mirrors = config.mirrors.iter();
        let mirrors = mirrors.filter(|(registry, _)| *registry == reference.registry);
        let mut places: Vec<_> = mirrors
            .map(|(_, mirror)| {
                let (host, repository) = match mirror.split_once('/') {
                    Some((host, prefix)) => (host, format!("{prefix}/{}", reference.repository)),
                    None => (&**mirror, reference.repository.clone()),
                };
                Self {
                    endpoint: host.to_owned(),
                    registry: host.to_owned(),
                    repository,
                }
            })
            .collect();
        places.push(Self::of(reference));
        places
    }
}
