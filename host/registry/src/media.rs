//! Manifests and configurations of artifacts: which layer is the component.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Media type of manifests.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of the configuration of a component: CNCF's layout of artifacts.
pub(crate) const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Media type of a component: CNCF's layout.
pub(crate) const COMPONENT: &str = "application/wasm";

/// Media types of manifests and indexes that registries are asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Media types of components: that of CNCF's layout, that of Spin, and that of
/// earlier tools, among them wasmCloud's.
const COMPONENTS: [&str; 3] = [
    COMPONENT,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

/// Configuration of an application of Spin.
const SPIN: &str = "application/vnd.fermyon.spin.application.v1+config";

/// Most layers of a manifest.
const MOST_LAYERS: usize = 1024;

/// A manifest, or an index of manifests.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    media_type: Option<String>,
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    /// Manifests of an index.
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// A blob, as a manifest describes it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// Content of an artifact.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A component.
    Component {
        layer: Descriptor,
        /// Its configuration, if that lists the digests of layers.
        config: Option<Descriptor>,
    },
    /// Another manifest has it.
    Manifest(Descriptor),
}

impl Manifest {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("its manifest cannot be read: {error}"))?;
        match manifest.layers.len().max(manifest.manifests.len()) {
            0..=MOST_LAYERS => Ok(manifest),
            many => Err(format!("its manifest has {many} layers")),
        }
    }

    /// Finds the component.
    ///
    /// # Errors
    /// Says what the artifact is instead.
    pub(crate) fn content(&self) -> Result<Content, String> {
        if !self.manifests.is_empty() {
            return self.of_index();
        }
        let config = self.config.as_ref();
        let config_type = config.map_or("", |config| &*config.media_type);
        let is_component = |layer: &&Descriptor| COMPONENTS.contains(&&*layer.media_type);
        let mut components = self.layers.iter().filter(is_component);
        match (components.next(), components.count()) {
            (Some(layer), 0) => Ok(Content::Component {
                layer: layer.clone(),
                config: config.filter(|it| it.media_type == CONFIG).cloned(),
            }),
            (Some(_), more) if config_type == SPIN => Err(format!(
                "it is an application of Spin with {} components: push the one to run by itself",
                more + 1
            )),
            (Some(_), more) => Err(format!(
                "it has {} components, and one is run: push it by itself",
                more + 1
            )),
            (None, _) => Err(self.described(config_type)),
        }
    }

    /// Finds the only manifest of an index that can have a component.
    fn of_index(&self) -> Result<Content, String> {
        let is_wasm = |it: &&Descriptor| {
            let platform = it.platform.as_ref();
            platform
                .is_some_and(|it| it.architecture.starts_with("wasm") || it.os.starts_with("wasi"))
        };
        let for_wasm: Vec<_> = self.manifests.iter().filter(is_wasm).collect();
        let one = match (&*for_wasm, &*self.manifests) {
            ([one], _) => one,
            ([], [one]) => one,
            ([], all) => {
                return Err(format!(
                    "it is an index of {} images, of which none is for WebAssembly",
                    all.len()
                ));
            }
            (several, _) => {
                return Err(format!(
                    "it is an index with {} for WebAssembly: name one by its digest",
                    several.len()
                ));
            }
        };
        Ok(Content::Manifest((*one).clone()))
    }

    /// Says what an artifact without a component is.
    fn described(&self, config: &str) -> String {
        let types = self.layers.iter().map(|layer| &*layer.media_type);
        let mut types: Vec<_> = types.collect();
        types.sort_unstable();
        types.dedup();
        let has = |needle: &str| types.iter().any(|it| it.contains(needle));
        if has("wasmcloud.provider") || config.contains("wasmcloud.provider") {
            return "it is a provider of wasmCloud, which is a native program".into();
        }
        if config == SPIN {
            return "it is an application of Spin without a component".into();
        }
        if has("image.layer") || has("image.rootfs") {
            return "it is a container image: `netwasm push FILE REF` makes what can be run".into();
        }
        let types: Vec<_> = types.into_iter().take(4).collect();
        let layers = match &*types {
            [] => "no layers".into(),
            types => format!("layers of type {}", types.join(", ")),
        };
        let kind = match (config, &self.media_type) {
            ("", Some(kind)) => kind,
            ("", None) => "unknown",
            (config, _) => config,
        };
        format!("it has {layers}, and a configuration of type {kind}; wanted is {COMPONENT}")
    }
}

/// Configuration of a component: CNCF's layout.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) author: Option<String>,
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) layer_digests: Vec<Digest>,
    #[serde(default)]
    pub(crate) component: Option<Interface>,
}

/// Exports and imports of a component.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Interface {
    #[serde(default)]
    pub(crate) exports: Vec<String>,
    #[serde(default)]
    pub(crate) imports: Vec<String>,
    #[serde(default)]
    pub(crate) target: Option<String>,
}

/// Checks that a configuration is that of the manifest's layers.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn check_config(bytes: &[u8], manifest: &Manifest) -> Result<(), String> {
    let config: Config = serde_json::from_slice(bytes)
        .map_err(|error| format!("its configuration cannot be read: {error}"))?;
    let layers: Vec<_> = manifest.layers.iter().map(|layer| layer.digest).collect();
    match config.layer_digests == layers {
        true => Ok(()),
        false => Err(format!(
            "its configuration is of other layers than its manifest: {:?} and {layers:?}",
            config.layer_digests
        )),
    }
}

/// A manifest to push.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewManifest {
    pub(crate) schema_version: u8,
    pub(crate) media_type: &'static str,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(kind: &str, content: &str) -> serde_json::Value {
        let digest = Digest::of(content.as_bytes());
        json!({ "mediaType": kind, "digest": digest, "size": content.len() })
    }

    fn content(manifest: &serde_json::Value) -> Result<Content, String> {
        Manifest::parse(manifest.to_string().as_bytes())?.content()
    }

    #[test]
    fn components_of_all_tools_are_found() {
        // netwasm and wkg; wasmCloud; Spin, with a file beside the component.
        for (config, layers, has_config) in [
            (CONFIG, vec![COMPONENT], true),
            (
                "application/vnd.wasmcloud.actor.archive.config",
                vec![COMPONENTS[2]],
                false,
            ),
            (
                SPIN,
                vec![COMPONENTS[1], "application/vnd.wasm.content.layer.v1+data"],
                false,
            ),
            ("application/vnd.oci.empty.v1+json", vec![COMPONENT], false),
        ] {
            let layers: Vec<_> = layers.iter().map(|kind| descriptor(kind, kind)).collect();
            let manifest = json!({
                "schemaVersion": 2, "config": descriptor(config, "{}"), "layers": layers
            });
            let found = content(&manifest);
            let Ok(Content::Component { layer, config }) = found else {
                panic!("{found:?}");
            };
            assert!(COMPONENTS.contains(&&*layer.media_type));
            assert_eq!(config.is_some(), has_config);
        }
    }

    #[test]
    fn other_artifacts_are_called_by_their_names() {
        let with = |config: &str, layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|kind| descriptor(kind, kind)).collect();
            json!({ "config": descriptor(config, "{}"), "layers": layers })
        };
        let platform = |os: &str| {
            let mut it = descriptor(MANIFEST, os);
            it["platform"] = json!({ "architecture": "amd64", "os": os });
            it
        };
        for (manifest, told) in [
            (with(SPIN, &[COMPONENTS[1]; 3]), "of Spin with 3 components"),
            (with(CONFIG, &[COMPONENT; 2]), "has 2 components"),
            (
                with(
                    "x",
                    &["application/vnd.wasmcloud.provider.archive.layer.v1+par"],
                ),
                "a provider of wasmCloud",
            ),
            (
                with("x", &["application/vnd.docker.image.rootfs.diff.tar.gzip"]),
                "a container image",
            ),
            (
                with("x", &["text/plain"]),
                "layers of type text/plain, and a configuration of type x",
            ),
            (
                json!({ "manifests": [platform("linux"), platform("windows")] }),
                "2 images",
            ),
            (
                json!({ "manifests": [platform("wasi"), platform("wasip2")] }),
                "index with 2",
            ),
            (json!({ "layers": 1 }), "cannot be read"),
            (with("x", &vec!["y"; MOST_LAYERS + 1]), "1025 layers"),
        ] {
            let error = content(&manifest).expect_err(told);
            assert!(error.contains(told), "{error}");
        }
        let index = json!({ "manifests": [platform("linux"), platform("wasip2")] });
        assert!(matches!(content(&index), Ok(Content::Manifest(_))));
    }

    #[test]
    fn a_configuration_must_be_of_the_layers() {
        let manifest = Manifest {
            layers: vec![Descriptor::new(COMPONENT, b"abc")],
            ..Manifest::default()
        };
        let config = |layers: &[Digest]| {
            json!({
                "created": "2024-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2",
                "layerDigests": layers
            })
        };
        let check =
            |layers: &[Digest]| check_config(config(layers).to_string().as_bytes(), &manifest);
        assert_eq!(check(&[Digest::of(b"abc")]), Ok(()));
        let error = check(&[Digest::of(b"other")]).expect_err("another layer");
        assert!(error.contains("other layers"), "{error}");
        assert!(check_config(b"{", &manifest).is_err());
    }
}
