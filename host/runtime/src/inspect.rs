//! `netwasm inspect`: a report on a component.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use bytesize::ByteSize;
use netwasm_base::config::{ComponentSource, Limits};
use netwasm_base::error::Error;
use wasmtime::component::{Component, Linker};

use crate::assembly::{Assembled, assemble};
use crate::concurrent::link;
use crate::fit::{Interface, Need, unlinkable};
use crate::kind::Kind;
use crate::{cache, component, engine, loading, standard};

/// Examines a component, composed with `plugs`, without running it.
///
/// # Errors
/// Fails if the file cannot be read or is no component. A component that this
/// host cannot run is no error: see [`Report::problem`].
pub fn inspect(
    source: &ComponentSource,
    plugs: &[PathBuf],
    limits: &Limits,
) -> Result<Report, Error> {
    let name = source.to_string();
    let wrong = |reason| Error::Component {
        name: name.clone(),
        reason,
    };
    let read = component::read(source, limits)?;
    let Assembled {
        bytes,
        size,
        adapted,
        wiring,
        ..
    } = assemble(source, read, plugs, limits)?;
    let kind = Kind::of_binary(&bytes, true);
    let engine = engine::engine(kind, limits, None)?;
    let hash = cache::hash(&bytes);
    let (component, _) = loading::compiled(&engine, &bytes, &hash, true, &|| {}).map_err(wrong)?;
    let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
    let plugs: Vec<_> = plugs
        .iter()
        .map(|plug| plug.display().to_string())
        .collect();
    let report = match kind {
        Kind::Events => {
            let mut linker = engine::linker(&engine).map_err(failed)?;
            standard::suit(&mut linker, &component).map_err(failed)?;
            Report::new(name, plugs, size, &component, kind, &linker)
        }
        Kind::Streams | Kind::Proxy | Kind::Service | Kind::Command => {
            let mut linker = link::linker(&engine, kind).map_err(failed)?;
            standard::suit(&mut linker, &component).map_err(failed)?;
            Report::new(name, plugs, size, &component, kind, &linker)
        }
    };
    Ok(Report {
        adapted,
        wiring: wiring.map(|wiring| wiring.to_string()),
        ..report
    })
}

/// A report on a component. Displays as some lines of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// File name, or the name of a built-in component.
    pub(crate) name: String,
    /// File names of the components that are composed with it.
    pub(crate) plugs: Vec<String>,
    /// Lines about which of them calls which other.
    pub(crate) wiring: Option<String>,
    /// Size of the files in bytes.
    pub(crate) size: u64,
    /// True if it is a core module of WASI p1.
    pub(crate) adapted: bool,
    /// Exports, with versions.
    pub(crate) exports: Vec<String>,
    /// Imports, with versions.
    pub(crate) imports: Vec<String>,
    /// Command line that would run the component, with the fewest flags.
    pub(crate) command: String,
    /// Flags that it may need, and why.
    pub(crate) needs: Vec<Need>,
    /// Imported functions that are denied whatever is allowed.
    pub(crate) denied: Vec<String>,
    /// Reason why this host cannot run the component.
    pub problem: Option<String>,
}

impl Report {
    fn new<T: 'static>(
        name: String,
        plugs: Vec<String>,
        size: u64,
        component: &Component,
        kind: Kind,
        linker: &Linker<T>,
    ) -> Self {
        let interface = Interface::of(component, linker.engine());
        let problem = interface.check_world(kind).err().or_else(|| {
            let error = linker.instantiate_pre(component).err()?;
            Some(unlinkable(component, kind, &error))
        });
        Self {
            command: interface.command(kind, &name, &plugs),
            needs: interface.needs(kind),
            denied: interface.denied(kind),
            name,
            plugs,
            wiring: None,
            size,
            adapted: false,
            exports: interface.exports,
            imports: interface.imports,
            problem,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let size = ByteSize::b(self.size).display().iec();
        match self.adapted {
            false if self.plugs.is_empty() => {
                writeln!(f, "{}: a component of {size}", self.name)?;
            }
            false => {
                let plugs = self.plugs.join(", ");
                writeln!(f, "{}, with {plugs}: components of {size}", self.name)?;
            }
            true => writeln!(
                f,
                "{}: a core module of {size} for WASI p1, which wasmtime's adapter makes a \
                 component of",
                self.name
            )?,
        }
        let list = |f: &mut Formatter<'_>, title, names: &[String]| {
            writeln!(f, "\n{title}:")?;
            if names.is_empty() {
                writeln!(f, "  nothing")?;
            }
            names.iter().try_for_each(|name| writeln!(f, "  {name}"))
        };
        list(f, "exports", &self.exports)?;
        list(f, "imports", &self.imports)?;
        if let Some(wiring) = &self.wiring {
            write!(f, "\ncomposed:\n{wiring}")?;
        }
        match &self.problem {
            Some(problem) => writeln!(f, "\nit cannot be run: {problem}"),
            None => {
                writeln!(f, "\nrun it with:\n  {}", self.command)?;
                if !self.needs.is_empty() {
                    let title = "it may need, and is denied unless given (by what it imports)";
                    writeln!(f, "\n{title}:")?;
                    self.needs
                        .iter()
                        .try_for_each(|need| writeln!(f, "  {need}"))?;
                }
                match &*self.denied {
                    [] => Ok(()),
                    denied => writeln!(
                        f,
                        "\ndenied to handlers of events, whatever is given:\n  {}",
                        denied.join(", ")
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
