//! Pushing a component, in CNCF's layout of artifacts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::timeout;

use netwasm_base::config::RegistryConfig;

use crate::describe::{Described, describe};
use crate::digest::Digest;
use crate::error::Error;
use crate::media::{COMPONENT, CONFIG, Config, Descriptor, MANIFEST, NewManifest};
use crate::network::{Network, Place};
use crate::reference::Reference;
use crate::runtime::run;

/// Annotation with the time of an artifact.
const CREATED: &str = "org.opencontainers.image.created";

/// Pushes the component in a file of at most so many bytes, and returns the
/// digest of its manifest. It has the annotations that the component's own
/// sections say, and these. The time in it is `SOURCE_DATE_EPOCH`, or now.
///
/// # Errors
/// Fails if the file has no component, or the registry does not take it.
pub fn push(
    file: &Path,
    reference: &Reference,
    annotations: &[(String, String)],
    config: &RegistryConfig,
    most: u64,
) -> Result<Digest, Error> {
    if reference.digest.is_some() {
        return Err(Error::Setting(format!(
            "{reference} has a digest, which follows from what is pushed: give a tag"
        )));
    }
    let bytes = read(file, most)?;
    let described = describe(&bytes).map_err(|reason| Error::NotComponent {
        reference: file.display().to_string(),
        reason,
    })?;
    let (config_bytes, manifest) = artifact(&bytes, described, annotations)?;
    let digest = Digest::of(&manifest);
    let network = Network::new(config)?;
    let send = async {
        let repository = network.open(&Place::of(reference)).await?.for_push();
        for blob in [bytes, config_bytes] {
            repository.send_blob(blob).await?;
        }
        repository
            .send_manifest(&reference.target(), MANIFEST, manifest)
            .await?;
        Ok(digest)
    };
    let limit = config.timeout;
    run(async {
        let slow = |_| {
            Err(Error::Slow {
                what: format!("pushing {reference}"),
                limit: limit.into(),
            })
        };
        timeout(limit, send).await.unwrap_or_else(slow)
    })
}

fn read(path: &Path, most: u64) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::file(path))?;
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(Error::file(path))?;
    match bytes.len() as u64 > most {
        true => Err(Error::TooLarge {
            what: path.display().to_string(),
            size: bytes.len() as u64,
            most,
            flag: " (--max-component-size)",
        }),
        false => Ok(bytes.into()),
    }
}

/// Returns the configuration and the manifest of a component.
fn artifact(
    component: &[u8],
    described: Described,
    annotations: &[(String, String)],
) -> Result<(Bytes, Bytes), Error> {
    let layer = Descriptor::new(COMPONENT, component);
    let created = created(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())?;
    let author = described
        .annotations
        .get("org.opencontainers.image.authors");
    let config = json(&Config {
        created: created.clone(),
        author: author.cloned(),
        architecture: "wasm".into(),
        os: described.os.into(),
        layer_digests: vec![layer.digest],
        component: described.interface,
    })?;
    let mut all: BTreeMap<_, _> = described.annotations;
    all.insert(CREATED.into(), created);
    all.extend(annotations.iter().cloned());
    let manifest = json(&NewManifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: Descriptor::new(CONFIG, &config),
        layers: vec![layer],
        annotations: all,
    })?;
    Ok((config, manifest))
}

fn json(value: &impl serde::Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value).map(Bytes::from);
    bytes.map_err(|error| Error::Setting(error.to_string()))
}

/// Returns the time of an artifact, in the form of RFC 3339.
fn created(epoch: Option<&str>) -> Result<String, Error> {
    let time = match epoch.map(str::parse) {
        None => SystemTime::now(),
        // The year 9999 is the last that the form has.
        Some(Ok(seconds @ ..=253_402_300_799)) => {
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        }
        Some(_) => {
            return Err(Error::Setting(
                "the variable SOURCE_DATE_EPOCH is not a number of seconds since 1970".into(),
            ));
        }
    };
    Ok(humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Content, Interface, Manifest, check_config};

    #[test]
    fn an_artifact_is_what_a_pull_expects() {
        let described = Described {
            os: "wasip2",
            interface: Some(Interface::default()),
            annotations: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
        };
        let given = [("a".into(), "other".into())];
        let (config, manifest) = artifact(b"abc", described, &given).expect("an artifact");
        let parsed = Manifest::parse(&manifest).expect("a manifest");
        check_config(&config, &parsed).expect("its configuration");
        let Ok(Content::Component { layer, config }) = parsed.content() else {
            panic!("{parsed:?}");
        };
        assert_eq!(layer, Descriptor::new(COMPONENT, b"abc"));
        assert!(config.is_some());
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        assert_eq!(manifest["schemaVersion"], 2);
        assert_eq!(manifest["annotations"]["a"], "other");
        assert_eq!(manifest["annotations"]["b"], "2");
    }

    #[test]
    fn the_time_is_that_of_the_sources() {
        let time = created(Some("86400")).expect("a time");
        assert_eq!(time, "1970-01-02T00:00:00Z");
        for wrong in ["", "-1", "x", "253402300800"] {
            assert!(created(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(created(None).expect("a time").ends_with('Z'));
    }
}
