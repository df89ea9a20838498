//! The place that the settings of a run come from.

use std::fmt;
use std::path::Path;

use netwasm_base::config::RunConfig;

use crate::logging::LogOptions;

/// Place that the settings of a run come from.
pub struct Origin {
    /// Reads the settings again, for a reload. The error is one line.
    pub reread: Box<dyn Fn() -> Result<(RunConfig, LogOptions), String> + Send + Sync>,
    /// Pulls the components of a run that are in registries, for its start. The
    /// error is one line.
    pub fetch: Box<Fetch>,
    /// Says where the settings have a fault: prefixes the fault's text with the
    /// place in the file. Takes the number of the service, and the keys that the
    /// fault is about, the most important first.
    pub locate: Box<Locate>,
}

/// Pulls components: the type of [`Origin`]'s field `fetch`.
pub type Fetch = dyn Fn(&mut RunConfig) -> Result<(), String> + Send + Sync;

/// Says where a fault is: the type of [`Origin`]'s field `locate`.
pub type Locate = dyn Fn(&Path, usize, &[&str], &str) -> String + Send + Sync;

impl Origin {
    /// Returns a fault of a service as a line with its place and the service's
    /// name.
    pub(super) fn locate(
        &self,
        run: &RunConfig,
        number: usize,
        keys: &[&str],
        fault: &str,
    ) -> String {
        let name = run.services.get(number).map(|it| &*it.guest.name);
        let fault = match name {
            Some(name) if !fault.starts_with(name) => format!("service {name}: {fault}"),
            _ => fault.to_owned(),
        };
        match &run.file {
            Some(file) => (self.locate)(file, number, keys, &fault),
            None => fault,
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").finish_non_exhaustive()
    }
}
