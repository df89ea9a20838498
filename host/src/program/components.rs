//! Components before they are loaded: projects are built, and references to
//! registries pulled.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use netwasm_base::Error;
use netwasm_base::config::{ComponentSource, Config, Limits, RegistryConfig, RunConfig};
use netwasm_registry::{Pulled, Reference};

use crate::cli::{self, PullOptions, PushOptions};
use crate::project::build::{self, BuildOptions};

/// Builds or pulls a component and those that are composed with it. Tells
/// warnings on standard error.
pub(super) fn ready(
    component: ComponentSource,
    plugs: &mut [PathBuf],
    registry: &RegistryConfig,
    limits: &Limits,
) -> anyhow::Result<ComponentSource> {
    let mut component = built(&component)?.map_or(component, ComponentSource::File);
    build_plugs(plugs)?;
    let fetch = Fetch {
        registry,
        most: limits.max_component_size,
        is_cached: true,
        warn: &tell,
    };
    fetch.component(&mut component)?;
    fetch.plugs(plugs)?;
    Ok(component)
}

/// Builds or pulls the component of a service. Tells warnings on standard error.
pub(super) fn ready_component(service: &mut Config) -> anyhow::Result<()> {
    isolate(service)?;
    if let Some(component) = built(&service.component)? {
        cli::set_component(service, component);
    }
    let (fetch, component, _) = Fetch::of(service, &tell);
    fetch.component(component)
}

/// Like [`ready_component`], for what is composed with it.
pub(super) fn ready_plugs(service: &mut Config) -> anyhow::Result<()> {
    build_plugs(&mut service.plugs)?;
    let (fetch, _, plugs) = Fetch::of(service, &tell);
    fetch.plugs(plugs)
}

/// Pulls the components of a run, and puts their files in their place.
pub(super) fn fetch_all(run: &mut RunConfig) -> anyhow::Result<()> {
    let warn = |warning: &str| tracing::warn!("{warning}");
    let several = run.services.len() > 1;
    for service in &mut run.services {
        let (fetch, component, plugs) = Fetch::of(service, &warn);
        let fetched = fetch.component(component).and_then(|()| fetch.plugs(plugs));
        if several {
            fetched.with_context(|| format!("service {}", service.guest.name))?;
        } else {
            fetched?;
        }
        // They count no more: if nothing else has changed, the service goes on.
        service.registry = RegistryConfig::default();
    }
    Ok(())
}

/// Pulls a component, and writes it to a file if one is named. Returns its
/// reference by the digest.
pub(super) fn pull(options: &PullOptions) -> Result<String, String> {
    let PullOptions {
        reference,
        output,
        registry,
        most,
    } = options;
    let pulled = netwasm_registry::pull(reference, registry, *most, true);
    let Pulled {
        file,
        digest,
        warning,
    } = pulled.map_err(|error| format!("cannot pull {reference}: {error}"))?;
    if let Some(warning) = warning {
        tell(&warning);
    }
    if let Some(output) = output {
        copy(&file, output)
            .map_err(|error| format!("cannot write {}: {error}", output.display()))?;
    }
    Ok(format!("{}\n", reference.pinned(digest)))
}

/// Copies a file, which appears as a whole.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let unfinished = to.with_file_name(name);
    let copied = File::open(from).and_then(|mut from| {
        io::copy(&mut from, &mut File::create(&unfinished)?)?;
        std::fs::rename(&unfinished, to)
    });
    if copied.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    copied
}

/// Pushes a component, and returns its reference by the digest.
pub(super) fn push(options: &PushOptions) -> Result<String, String> {
    let PushOptions {
        file,
        reference,
        annotations,
        registry,
        most,
    } = options;
    let pushed = netwasm_registry::push(file, reference, annotations, registry, *most);
    let digest = pushed.map_err(|error| format!("cannot push to {reference}: {error}"))?;
    Ok(format!("{}\n", reference.pinned(digest)))
}

/// True if a path is a reference to a registry.
pub(super) fn is_reference(path: &Path) -> bool {
    path.to_str().is_some_and(Reference::is_one)
}

/// Tells a warning, or progress, on standard error.
pub(super) fn tell(text: &str) {
    // It fails if nobody reads.
    let _ = writeln!(io::stderr(), "netwasm: {text}");
}

/// Pulls components.
struct Fetch<'a> {
    registry: &'a RegistryConfig,
    /// Largest component in bytes.
    most: u64,
    /// False if nothing is to be kept for the next run.
    is_cached: bool,
    warn: &'a dyn Fn(&str),
}

impl<'a> Fetch<'a> {
    /// Returns what fetches for a service, and its component and plugs.
    fn of(
        service: &'a mut Config,
        warn: &'a dyn Fn(&str),
    ) -> (Self, &'a mut ComponentSource, &'a mut [PathBuf]) {
        let fetch = Self {
            registry: &service.registry,
            most: service.limits.max_component_size,
            is_cached: service.cache,
            warn,
        };
        (fetch, &mut service.component, &mut service.plugs)
    }

    fn component(&self, source: &mut ComponentSource) -> anyhow::Result<()> {
        if let ComponentSource::Registry { reference, file } = source {
            *file = Some(self.fetch(reference)?);
        }
        Ok(())
    }

    fn plugs(&self, plugs: &mut [PathBuf]) -> anyhow::Result<()> {
        for plug in plugs {
            if let Some(reference) = plug.to_str().filter(|it| Reference::is_one(it)) {
                *plug = self.fetch(reference)?;
            }
        }
        Ok(())
    }

    fn fetch(&self, reference: &str) -> anyhow::Result<PathBuf> {
        let reference: Reference = reference.parse()?;
        let pulled = netwasm_registry::pull(&reference, self.registry, self.most, self.is_cached);
        let pulled = pulled.with_context(|| format!("cannot pull {reference}"))?;
        if let Some(warning) = &pulled.warning {
            (self.warn)(warning);
        }
        tracing::info!(digest = %pulled.digest, "{reference}");
        Ok(pulled.file)
    }
}

/// Builds the component of a project; `None` if it is a component already.
fn built(source: &ComponentSource) -> anyhow::Result<Option<PathBuf>> {
    match source {
        ComponentSource::File(path) if path.is_dir() => {
            Ok(Some(build::build(path, &BuildOptions::default())?))
        }
        _ => Ok(None),
    }
}

/// Builds the components to compose that are projects, and puts them in their
/// place.
fn build_plugs(plugs: &mut [PathBuf]) -> anyhow::Result<()> {
    for plug in plugs.iter_mut().filter(|plug| plug.is_dir()) {
        *plug = build::build(plug, &BuildOptions::default())?;
    }
    Ok(())
}

/// Checks that what runs programs in Python is there.
pub(super) fn find_interpreters(run: &RunConfig) -> anyhow::Result<()> {
    for service in &run.services {
        if let ComponentSource::File(interpreter) = &service.component
            && service.guest.folder.is_some()
            && !interpreter.is_file()
        {
            anyhow::bail!(
                "there is no Python interpreter {}: `guests/componentize python`, of netwasm's \
                 sources or in share/netwasm of a release, makes it, and --python FILE names \
                 another",
                interpreter.display()
            );
        }
    }
    Ok(())
}

/// Checks that the component that a command line names is there, and is no
/// source.
pub(super) fn find_component(run: &RunConfig) -> anyhow::Result<()> {
    let (None, Some(service)) = (&run.file, run.services.first()) else {
        return Ok(());
    };
    let ComponentSource::File(path) = &service.component else {
        return Ok(());
    };
    if service.guest.folder.is_some() {
        return Ok(());
    }
    let shown = path.display();
    if let Err(error) = path.metadata() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let cure = match cli::is_built_in(&stem) {
            true => format!("`netwasm run {stem}` runs the one that is built in"),
            false => "`netwasm new` makes a project, `netwasm build` its component".to_owned(),
        };
        return Err(match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!("cannot read {shown}: {error}; {cure}"),
            _ => Error::Read {
                path: path.clone(),
                source: error,
            }
            .into(),
        });
    }
    let end = path.extension().and_then(|end| end.to_str());
    let is_source = matches!(end, Some("rs" | "go" | "c" | "js" | "ts"));
    if !is_source || path.is_dir() {
        return Ok(());
    }
    let is_project = |directory: &&Path| {
        let manifests = ["Cargo.toml", "netwasm.toml"];
        manifests.iter().any(|it| directory.join(it).is_file())
    };
    let project = path.ancestors().skip(1).find(is_project);
    let directory = project.map_or_else(|| "DIRECTORY".to_owned(), build::shown);
    anyhow::bail!(
        "{shown} is a source, not a component: run its project's directory, `netwasm run {directory}`"
    );
}

/// Says which built-in components serve files and have none to serve.
pub(super) fn warn_of_no_files(run: &RunConfig) {
    for service in &run.services {
        if let ComponentSource::BuiltIn { name, .. } = &service.component
            && ["static", "file-server"].contains(name)
            && service.guest.dirs.is_empty()
        {
            let guest = &service.guest.name;
            tracing::warn!(
                guest,
                "{name} has no directory to serve files from, and refuses all requests: give it \
                 one, as with --dir .::/"
            );
        }
    }
}

/// Gives a service the isolation that its project asks for.
fn isolate(service: &mut Config) -> anyhow::Result<()> {
    let ComponentSource::File(path) = &service.component else {
        return Ok(());
    };
    if !path.is_dir() {
        return Ok(());
    }
    if let Some(wanted) = build::isolation(path)? {
        let path = path.display().to_string();
        cli::set_isolation(service, &wanted)
            .map_err(|told| anyhow::anyhow!("the isolation of {path} is '{wanted}': {told}"))?;
        service.check().map_err(Error::Config)?;
    }
    Ok(())
}

/// Builds the components of projects, and puts them in their place.
pub(super) fn build_all(run: &mut RunConfig) -> anyhow::Result<()> {
    for service in &mut run.services {
        isolate(service)?;
        if let Some(component) = built(&service.component)? {
            cli::set_component(service, component);
        }
        build_plugs(&mut service.plugs)?;
    }
    Ok(())
}
