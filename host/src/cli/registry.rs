//! Flags about registries, and the commands `pull` and `push`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use netwasm_base::config::RegistryConfig;
use netwasm_registry::Reference;

use super::values::{size, time};
use super::{Command, usage};

/// Settings of pulls.
#[derive(Args, Debug)]
#[command(next_help_heading = "Registries")]
pub(super) struct RegistryFlags {
    /// Pull nothing: run what is cached
    #[arg(long, hide_short_help = true)]
    offline: bool,
    /// Accept only components signed with this key, as cosign signs them; repeatable
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    verify_key: Vec<PathBuf>,
    /// Ask this mirror of a registry first, as 'docker.io=10.0.0.1:5000/hub'; repeatable
    #[arg(long, value_name = "NAME=HOST", value_parser = mirror, hide_short_help = true)]
    registry_mirror: Vec<(String, String)>,
    /// Size of the cache of components; the least recently used go
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GiB")]
    #[arg(hide_short_help = true)]
    registry_cache_size: usize,
    #[command(flatten)]
    access: AccessFlags,
}

/// Settings of pulls and pushes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Registries")]
struct AccessFlags {
    /// Authority to trust for registries, besides the system's; repeatable
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    registry_ca: Vec<PathBuf>,
    /// Speak plain HTTP to this registry, HOST or HOST:PORT; repeatable
    #[arg(long, value_name = "HOST", hide_short_help = true)]
    registry_plain_http: Vec<String>,
    /// How long pulling or pushing a component may take
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5m")]
    #[arg(hide_short_help = true)]
    registry_timeout: Duration,
}

impl RegistryFlags {
    /// Returns the settings. Registries are trusted by these authorities, too.
    pub(super) fn into_config(self, authorities: &[PathBuf]) -> RegistryConfig {
        RegistryConfig {
            mirrors: self.registry_mirror,
            cache_size: self.registry_cache_size as u64,
            offline: self.offline,
            verify_keys: self.verify_key,
            ..self.access.into_config(authorities)
        }
    }
}

impl AccessFlags {
    fn into_config(self, authorities: &[PathBuf]) -> RegistryConfig {
        RegistryConfig {
            authorities: [authorities, &self.registry_ca].concat(),
            plain: self.registry_plain_http,
            timeout: self.registry_timeout,
            ..RegistryConfig::default()
        }
    }
}

/// Parses a registry and its mirror.
fn mirror(text: &str) -> Result<(String, String), String> {
    let form = || "write REGISTRY=HOST[:PORT][/PREFIX], without a scheme".to_owned();
    let (registry, mirror) = text.split_once('=').ok_or_else(form)?;
    // Both are parts of references.
    let is_right = |text: &str| format!("{text}/name").parse::<Reference>().is_ok();
    match is_right(registry) && !registry.contains('/') && is_right(mirror) {
        true => Ok((registry.to_owned(), mirror.to_owned())),
        false => Err(form()),
    }
}

#[derive(Args, Debug)]
pub(super) struct PullFlags {
    /// The component: `oci://HOST[:PORT]/NAME[:TAG][@sha256:DIGEST]`
    #[arg(value_name = "REF")]
    reference: Reference,
    /// Write it to this file, not only to the cache
    #[arg(short, long, value_name = "FILE.wasm")]
    output: Option<PathBuf>,
    /// Largest component
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    #[arg(hide_short_help = true)]
    max_component_size: usize,
    #[command(flatten)]
    registry: RegistryFlags,
}

#[derive(Args, Debug)]
pub(super) struct PushFlags {
    /// The file of the component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Its place: `oci://HOST[:PORT]/NAME[:TAG]`
    #[arg(value_name = "REF")]
    reference: Reference,
    /// Add an annotation, such as org.opencontainers.image.version=1.0; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation)]
    annotation: Vec<(String, String)>,
    /// Largest component
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    #[arg(hide_short_help = true)]
    max_component_size: usize,
    #[command(flatten)]
    access: AccessFlags,
}

/// Options of `netwasm pull`.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// The component.
    pub reference: Reference,
    /// File to write.
    pub output: Option<PathBuf>,
    /// Settings of registries.
    pub registry: RegistryConfig,
    /// Largest component in bytes.
    pub most: u64,
}

/// Options of `netwasm push`.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// File with the component.
    pub file: PathBuf,
    /// Its place.
    pub reference: Reference,
    /// Annotations to add.
    pub annotations: Vec<(String, String)>,
    /// Settings of registries.
    pub registry: RegistryConfig,
    /// Largest component in bytes.
    pub most: u64,
}

impl PullFlags {
    pub(super) fn into_command(self) -> Command {
        Command::Pull(Box::new(PullOptions {
            reference: self.reference,
            output: self.output,
            registry: self.registry.into_config(&[]),
            most: self.max_component_size as u64,
        }))
    }
}

impl PushFlags {
    pub(super) fn into_command(self) -> Command {
        Command::Push(Box::new(PushOptions {
            file: self.file,
            reference: self.reference,
            annotations: self.annotation,
            registry: self.access.into_config(&[]),
            most: self.max_component_size as u64,
        }))
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".into()),
    }
}

/// Returns the reference that a component is, if its text has the scheme of
/// references.
pub(super) fn reference(component: &Path) -> Option<Result<Reference, clap::Error>> {
    let text = component.to_str().filter(|text| Reference::is_one(text))?;
    Some(text.parse().map_err(|error| usage(&error)))
}
