//! Pulling a component: from the cache, where it has what is asked for, or from
//! the registry or one of its mirrors.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use netwasm_base::config::RegistryConfig;

use crate::answers::shown;
use crate::cache::{Cache, Unfinished};
use crate::client::{MOST_MANIFEST, Repository, Sink};
use crate::digest::Digest;
use crate::error::Error;
use crate::media::{Content, Descriptor, Manifest, check_config};
use crate::network::{Network, Place};
use crate::reference::Reference;
use crate::runtime::run;
use crate::signature::{self, MOST_STATEMENT, VerifyKey};

/// Largest configuration of a component, in bytes.
const MOST_CONFIG: u64 = 1 << 20;

/// First bytes of WebAssembly in binary form.
const MAGIC: &[u8] = b"\0asm";

/// A component that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// File with the component.
    pub file: PathBuf,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Warning, if it is what was cached earlier.
    pub warning: Option<String>,
}

/// Pulls a component of at most so many bytes. Blocks until it is there, at most
/// for [`RegistryConfig::timeout`]. `is_cached` is false if nothing is to be kept
/// after the process has ended.
///
/// # Errors
/// Fails if it cannot be had, is not a component, or is not signed by the key
/// that is asked for.
pub fn pull(
    reference: &Reference,
    config: &RegistryConfig,
    most: u64,
    is_cached: bool,
) -> Result<Pulled, Error> {
    let keys = signature::keys(&config.verify_keys)?;
    let pull = Pull {
        reference,
        config,
        most,
        cache: Cache::open(is_cached, config.cache_size)?,
        keys,
        network: OnceCell::new(),
    };
    run(pull.pull())
}

struct Pull<'a> {
    reference: &'a Reference,
    config: &'a RegistryConfig,
    /// Largest component in bytes.
    most: u64,
    cache: Cache,
    keys: Vec<VerifyKey>,
    network: OnceCell<Network>,
}

impl Pull<'_> {
    async fn pull(&self) -> Result<Pulled, Error> {
        let name = self.reference.to_string();
        let tagged = match self.reference.digest {
            Some(_) => None,
            None => self.cache.tag(&name),
        };
        let known = self
            .reference
            .digest
            .or_else(|| tagged.map(|(digest, _)| digest));
        let cached = known.map(|digest| self.cached(&digest).map(|file| Some((digest, file?))));
        let cached = match cached.unwrap_or(Ok(None)) {
            Err(error) if self.config.offline => return Err(error),
            // The registry may have another one now.
            cached => cached.unwrap_or_default(),
        };
        let is_current = self.reference.digest.is_some() || self.config.offline;
        if let Some((digest, file)) = cached.clone().filter(|_| is_current) {
            match self.verify_cached(&digest) {
                Err(error) if self.config.offline => return Err(error),
                Err(_) => {}
                Ok(()) => {
                    return Ok(Pulled {
                        file,
                        digest,
                        warning: None,
                    });
                }
            }
        }
        if self.config.offline {
            return Err(Error::Offline(name));
        }
        let limit = self.config.timeout;
        let fresh = timeout(limit, self.fresh(cached.as_ref())).await;
        let fresh = fresh.unwrap_or_else(|_| {
            Err(Error::Slow {
                what: format!("pulling {name}"),
                limit: limit.into(),
            })
        });
        match (fresh, cached, tagged) {
            (Err(error), Some((digest, file)), Some((_, age))) if error.is_away() => {
                if self.verify_cached(&digest).is_err() {
                    return Err(error);
                }
                Ok(Pulled {
                    file,
                    digest,
                    warning: Some(format!(
                        "{name}: {error}; going on with {digest}, which it was {} ago",
                        humantime::format_duration(Duration::from_secs(age.as_secs()))
                    )),
                })
            }
            (fresh, ..) => {
                let (digest, file) = fresh?;
                Ok(Pulled {
                    file,
                    digest,
                    warning: None,
                })
            }
        }
    }

    /// Returns the file of a manifest's component, if both are cached.
    ///
    /// # Errors
    /// Fails if it is larger than allowed.
    fn cached(&self, digest: &Digest) -> Result<Option<PathBuf>, Error> {
        let mut digest = *digest;
        // An index names a manifest, and that a component.
        for _ in 0..2 {
            let content = self.cache.small(&digest, MOST_MANIFEST).and_then(|bytes| {
                let manifest = Manifest::parse(&bytes).ok()?;
                manifest.content().ok()
            });
            match content {
                Some(Content::Manifest(next)) => digest = next.digest,
                Some(Content::Component { layer, .. }) => {
                    self.check_size(&layer)?;
                    return Ok(self.cache.file(&layer.digest, layer.size));
                }
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn network(&self) -> Result<&Network, Error> {
        if self.network.get().is_none() {
            let network = Network::new(self.config)?;
            // Nobody else sets it.
            let _ = self.network.set(network);
        }
        let none = || Error::Setting("no network".into());
        self.network.get().ok_or_else(none)
    }

    /// Asks the mirrors and the registry, in this order.
    async fn fresh(&self, cached: Option<&(Digest, PathBuf)>) -> Result<(Digest, PathBuf), Error> {
        let network = self.network()?;
        let mut places = Place::all(self.reference, self.config).into_iter();
        let mirrors = u32::try_from(places.len() - 1).unwrap_or(u32::MAX);
        // The registry itself has the other half of the time.
        let of_mirror = self.config.timeout / 2 / mirrors.max(1);
        loop {
            let Some(place) = places.next() else {
                return Err(Error::Setting("no registry".into()));
            };
            let is_last = places.len() == 0;
            let pull = async {
                let repository = network.open(&place).await?;
                let repository = match cached.is_some() || !is_last {
                    true => repository.at_once(),
                    false => repository,
                };
                self.from(&repository, cached).await
            };
            if is_last {
                return pull.await;
            }
            let pulled = timeout(of_mirror, pull).await.unwrap_or_else(|_| {
                Err(Error::Slow {
                    what: format!("a mirror of {}", self.reference),
                    limit: of_mirror.into(),
                })
            });
            match pulled {
                Ok(pulled) => return Ok(pulled),
                Err(error @ (Error::Digest { .. } | Error::Signature { .. })) => {
                    tracing::warn!(%error, "a mirror is not to be trusted");
                }
                Err(error) => tracing::info!(%error, "a mirror does not have {}", self.reference),
            }
        }
    }

    async fn from(
        &self,
        repository: &Repository<'_>,
        cached: Option<&(Digest, PathBuf)>,
    ) -> Result<(Digest, PathBuf), Error> {
        let name = self.reference.to_string();
        let mut target = self.reference.target();
        if self.reference.digest.is_none() {
            let digest = repository.digest_of(&target).await?;
            if let (Some(digest), Some((known, file))) = (digest, cached)
                && digest == *known
            {
                self.verify(repository, known).await?;
                self.cache.set_tag(&name, digest)?;
                return Ok((digest, file.clone()));
            }
            target = digest.map_or(target, |digest| digest.to_string());
        }
        let (digest, bytes) = repository.manifest(&target).await?;
        self.verify(repository, &digest).await?;
        let mut manifest = self.parsed(&bytes)?;
        let content = match self.content(&manifest)? {
            Content::Manifest(next) => {
                let (next, bytes) = repository.manifest(&next.digest.to_string()).await?;
                self.cache.store(&next, &bytes)?;
                manifest = self.parsed(&bytes)?;
                self.content(&manifest)?
            }
            content => content,
        };
        let Content::Component { layer, config } = content else {
            return Err(self.not_one("it is an index of an index"));
        };
        self.check_size(&layer)?;
        if let Some(config) = config {
            let mut bytes = Vec::new();
            self.check(&config, "the configuration", MOST_CONFIG, "")?;
            repository
                .blob(config.digest, config.size, &mut bytes)
                .await?;
            check_config(&bytes, &manifest).map_err(|reason| self.not_one(&reason))?;
        }
        let file = match self.cache.file(&layer.digest, layer.size) {
            // Another manifest has the same component.
            Some(file) => file,
            None => self.layer(repository, &layer).await?,
        };
        self.cache.store(&digest, &bytes)?;
        if self.reference.digest.is_none() {
            self.cache.set_tag(&name, digest)?;
        }
        Ok((digest, file))
    }

    async fn layer(
        &self,
        repository: &Repository<'_>,
        layer: &Descriptor,
    ) -> Result<PathBuf, Error> {
        tracing::info!(bytes = layer.size, "pulling {}", self.reference);
        let mut beginning = Beginning {
            file: self.cache.begin(&layer.digest)?,
            bytes: Vec::new(),
        };
        repository
            .blob(layer.digest, layer.size, &mut beginning)
            .await?;
        match &*beginning.bytes {
            MAGIC => self.cache.finish(beginning.file),
            [] => Err(self.not_one("it is empty")),
            [0x1f, 0x8b, ..] => Err(self.not_one("it is compressed by gzip")),
            _ => Err(self.not_one("its layer is not WebAssembly in binary form")),
        }
    }

    /// Checks that a trusted key has signed a manifest, by the cache or, if that
    /// does not say so, by the registry.
    async fn verify(&self, repository: &Repository<'_>, digest: &Digest) -> Result<(), Error> {
        if self.verify_cached(digest).is_ok() {
            return Ok(());
        }
        let tag = signature::tag(digest);
        let (manifest, bytes) = match repository.manifest(&tag).await {
            Ok(found) => found,
            Err(Error::Missing { .. }) => {
                return Err(self.unsigned(digest, &format!(
                    "{} has no signature under the tag {tag}, where `cosign sign --key` puts it",
                    repository.host()
                )));
            }
            Err(error) => return Err(error),
        };
        let statements = signature::statements(&bytes);
        let statements = statements.map_err(|reason| self.unsigned(digest, &reason))?;
        let mut wrong = format!("the manifest {tag} has no signature of cosign");
        for statement in statements {
            let mut payload = Vec::new();
            let blob = &statement.blob;
            let received = repository.blob(blob.digest, blob.size, &mut payload).await;
            match received {
                Err(error) if error.is_away() => return Err(error),
                Err(error) => {
                    wrong = error.to_string();
                    continue;
                }
                Ok(()) => {}
            }
            match statement.verify(&payload, &self.keys, digest) {
                Ok(()) => {
                    self.cache.store(&blob.digest, &payload)?;
                    self.cache.store(&manifest, &bytes)?;
                    return self.cache.set_tag(&self.signature_of(digest), manifest);
                }
                Err(reason) => wrong = format!("{reason} (looked at {tag})"),
            }
        }
        Err(self.unsigned(digest, &wrong))
    }

    /// Checks by the cache that a trusted key has signed a manifest. No key is
    /// asked for if there is none.
    fn verify_cached(&self, digest: &Digest) -> Result<(), Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let statements = || {
            let (manifest, _) = self.cache.tag(&self.signature_of(digest))?;
            let bytes = self.cache.small(&manifest, MOST_MANIFEST)?;
            signature::statements(&bytes).ok()
        };
        let statements = statements().unwrap_or_default();
        let is_signed = statements.iter().any(|statement| {
            let payload = self.cache.small(&statement.blob.digest, MOST_STATEMENT);
            payload.is_some_and(|it| statement.verify(&it, &self.keys, digest).is_ok())
        });
        match is_signed {
            true => Ok(()),
            false => Err(self.unsigned(digest, "the cache has no signature by it")),
        }
    }

    fn signature_of(&self, digest: &Digest) -> String {
        let reference = Reference {
            tag: Some(signature::tag(digest)),
            digest: None,
            ..self.reference.clone()
        };
        reference.to_string()
    }

    fn unsigned(&self, digest: &Digest, reason: &str) -> Error {
        Error::Signature {
            reference: self.reference.to_string(),
            digest: *digest,
            reason: shown(reason),
        }
    }

    fn parsed(&self, bytes: &[u8]) -> Result<Manifest, Error> {
        Manifest::parse(bytes).map_err(|reason| self.not_one(&reason))
    }

    fn content(&self, manifest: &Manifest) -> Result<Content, Error> {
        manifest.content().map_err(|reason| self.not_one(&reason))
    }

    fn not_one(&self, reason: &str) -> Error {
        Error::NotComponent {
            reference: self.reference.to_string(),
            reason: shown(reason),
        }
    }

    fn check_size(&self, layer: &Descriptor) -> Result<(), Error> {
        self.check(layer, "the component", self.most, " (--max-component-size)")
    }

    fn check(
        &self,
        blob: &Descriptor,
        what: &str,
        most: u64,
        flag: &'static str,
    ) -> Result<(), Error> {
        match blob.size > most {
            true => Err(Error::TooLarge {
                what: format!("{what} of {}", self.reference),
                size: blob.size,
                most,
                flag,
            }),
            false => Ok(()),
        }
    }
}

/// A file of which the first bytes are looked at.
struct Beginning {
    file: Unfinished,
    bytes: Vec<u8>,
}

impl Sink for Beginning {
    fn begin(&mut self) -> Result<(), Error> {
        self.bytes.clear();
        self.file.begin()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let wanted = MAGIC.len().saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(wanted));
        self.file.write(bytes)
    }
}
