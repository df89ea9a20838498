//! References to artifacts: `oci://HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// Scheme of references.
pub const SCHEME: &str = "oci://";

/// Tag of a reference that has neither tag nor digest.
const LATEST: &str = "latest";

/// The registry that has its API elsewhere, and images without a namespace.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// An artifact of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host, with its port unless that is of the scheme.
    pub registry: String,
    /// Name of the repository.
    pub repository: String,
    /// Tag. If there is a digest, it is not looked up.
    pub tag: Option<String>,
    /// Digest that the manifest must have.
    pub digest: Option<Digest>,
}

/// Reason why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no name after the registry.
    #[error("'{0}' has no name after the registry: write oci://HOST/NAME:TAG")]
    NoName(String),
    /// The registry is not a host with a port.
    #[error("'{0}' is not a registry: write HOST or HOST:PORT")]
    Registry(String),
    /// The name has characters that names do not have.
    #[error(
        "'{0}' is not a repository name: it has lower-case letters, digits, and '.', '_' or \
         '-' between them, with '/' between its parts"
    )]
    Name(String),
    /// The tag has characters that tags do not have.
    #[error("'{0}' is not a tag: it has at most 128 letters, digits, '.', '_' and '-'")]
    Tag(String),
    /// The digest is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// True if a text has the scheme of references.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// Returns the host and port of the registry's API.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match DOCKER_HUB.contains(&&*self.registry) {
            true => "registry-1.docker.io",
            false => &self.registry,
        }
    }

    /// Returns the tag that is looked up, if there is no digest.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(LATEST)
    }

    /// Returns this reference, pinned to a digest.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns the last part of the name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        let name = &*self.repository;
        name.rsplit_once('/').map_or(name, |(_, last)| last)
    }

    /// Returns what follows `/v2/NAME/manifests/`: the digest, or else the tag.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag().to_owned(),
        }
    }
}

/// Parses a reference, with or without its scheme.
impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let no_name = || ReferenceError::NoName(text.to_owned());
        let (registry, name) = rest.split_once('/').ok_or_else(no_name)?;
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag.to_owned())),
            None => (name, None),
        };
        if name.is_empty() {
            return Err(no_name());
        }
        if !is_registry(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        if name.len() > 255 || !name.split('/').all(is_part) {
            return Err(ReferenceError::Name(name.to_owned()));
        }
        if let Some(tag) = tag.as_ref().filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.clone()));
        }
        let repository = match DOCKER_HUB.contains(&registry) && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (Some(tag), None) => write!(f, ":{tag}"),
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
            (None, None) => write!(f, ":{LATEST}"),
        }
    }
}

/// True if a text is `HOST` or `HOST:PORT`, where the host may be an IPv6
/// address in brackets.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_name = |host: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
    };
    let inner = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_name(host),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_part(part: &str) -> bool {
    let is_end = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = part.as_bytes();
    let allowed = |byte: &u8| is_end(Some(byte)) || matches!(byte, b'.' | b'_' | b'-');
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(allowed)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    bytes.next().is_some_and(word)
        && tag.len() <= 128
        && bytes.all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn references_are_read_and_written() {
        for (text, registry, repository, target, shown) in [
            (
                "oci://a.example/b",
                "a.example",
                "b",
                "latest",
                "oci://a.example/b:latest",
            ),
            ("a.example/b/c-d:1.0+", "", "", "", ""),
            (
                "a.example:5000/b/c-d:1.0",
                "a.example:5000",
                "b/c-d",
                "1.0",
                "",
            ),
            (
                "oci://[::1]:5000/b",
                "[::1]:5000",
                "b",
                "latest",
                "oci://[::1]:5000/b:latest",
            ),
            (
                "docker.io/b",
                "docker.io",
                "library/b",
                "latest",
                "oci://docker.io/library/b:latest",
            ),
        ] {
            let Ok(reference) = text.parse::<Reference>() else {
                assert!(registry.is_empty(), "{text}");
                continue;
            };
            assert_eq!(reference.registry, registry);
            assert_eq!(reference.repository, repository);
            assert_eq!(reference.target(), target);
            let shown = if shown.is_empty() {
                &format!("oci://{text}")
            } else {
                shown
            };
            assert_eq!(reference.to_string(), shown);
            assert_eq!(
                shown.parse(),
                Ok(reference.clone()).map(|mut it: Reference| {
                    it.tag.get_or_insert_with(|| LATEST.into());
                    it
                })
            );
        }
        let both: Reference = format!("oci://h/n:1@{DIGEST}")
            .parse()
            .expect("a reference");
        assert_eq!(both.target(), DIGEST);
        assert_eq!(both.to_string(), format!("oci://h/n:1@{DIGEST}"));
        let pinned = both.pinned(Digest::of(b"abc"));
        assert_eq!(pinned.to_string(), format!("oci://h/n@{DIGEST}"));
    }

    #[test]
    fn mistakes_in_references_are_told() {
        for (text, told) in [
            ("oci://host", "has no name"),
            ("oci://host/", "has no name"),
            ("oci:///name", "is not a registry"),
            ("oci://host:port/name", "is not a registry"),
            ("oci://user@host/name", "is not a"),
            ("oci://host/Name", "lower-case"),
            ("oci://host/a//b", "lower-case"),
            ("oci://host/a/../b", "lower-case"),
            ("oci://host/a-", "lower-case"),
            ("oci://host/a:-b", "is not a tag"),
            ("oci://host/a:", "is not a tag"),
            ("oci://host/a@sha256:12", "64 hexadecimal"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
    }
}
