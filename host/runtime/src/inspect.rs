//! `netwasm inspect`: a report on a component.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use bytesize::ByteSize;
use netwasm_base::config::{ComponentSource, Limits};
use netwasm_base::error::Error;
use wasmtime::component::{Component, Linker};

use crate::assembly::{Assembled, assemble};
use crate::concurrent::link;
use crate::fit::{Interface, Need, package, unlinkable};
use crate::kind::Kind;
use crate::loading::compiled_for_report;
use crate::{component, engine, standard};

/// Fewest imports that are told in one line.
const LEAST_FOLDED: usize = 2;

/// Examines a component, composed with `plugs`, without running it. Calls `tell`
/// with a line for the user if compiling it takes long.
///
/// # Errors
/// Fails if the file cannot be read, is no component, or takes too long to
/// compile. A component that this host cannot run is no error: see
/// [`Report::problem`].
pub fn inspect(
    source: &ComponentSource,
    plugs: &[PathBuf],
    limits: &Limits,
    tell: &dyn Fn(&str),
) -> Result<Report, Error> {
    let name = source.to_string();
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
    let component = compiled_for_report(&engine, &name, bytes, limits, tell)?;
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
    /// Imports, with versions, except [`Self::harmless`].
    pub(crate) imports: Vec<String>,
    /// Imports that need no permission, to be told in one line.
    pub(crate) harmless: Vec<String>,
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
        let command = interface.command(kind, &name, &plugs);
        let (needs, denied) = (interface.needs(kind), interface.denied(kind));
        let all = interface.imports.iter().cloned();
        let (harmless, asking): (Vec<_>, Vec<_>) = all.partition(|it| interface.is_harmless(it));
        // If there is a problem, one of them may be it.
        let (imports, harmless) = match harmless.len() {
            LEAST_FOLDED.. if problem.is_none() => (asking, harmless),
            _ => (interface.imports, Vec::new()),
        };
        Self {
            command,
            needs,
            denied,
            name,
            plugs,
            wiring: None,
            size,
            adapted: false,
            exports: interface.exports,
            imports,
            harmless,
            problem,
        }
    }

    /// Lists all imports one by one, those that need no permission, too.
    #[must_use]
    pub fn with_all_imports(mut self) -> Self {
        self.imports.append(&mut self.harmless);
        self.imports.sort_unstable();
        self
    }

    fn write_imports(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.harmless.is_empty() {
            return write_list(f, "imports", &self.imports);
        }
        writeln!(f, "\nimports:")?;
        write_names(f, &self.imports)?;
        let packages: BTreeSet<&str> = self.harmless.iter().map(|it| package(it)).collect();
        writeln!(
            f,
            "  {} that need no permission, of {} (-v lists them)",
            self.harmless.len(),
            Vec::from_iter(packages).join(", ")
        )
    }
}

fn write_list(f: &mut Formatter<'_>, title: &str, names: &[String]) -> fmt::Result {
    writeln!(f, "\n{title}:")?;
    if names.is_empty() {
        writeln!(f, "  nothing")?;
    }
    write_names(f, names)
}

fn write_names(f: &mut Formatter<'_>, names: &[String]) -> fmt::Result {
    names.iter().try_for_each(|name| writeln!(f, "  {name}"))
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
        write_list(f, "exports", &self.exports)?;
        self.write_imports(f)?;
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
