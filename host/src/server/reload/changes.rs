//! Changes that a reload has made.

use std::fmt;

use super::By;

/// Changes that a reload has made, for the log and for whoever asked.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Names of services that new generations replace.
    pub(super) replaced: Vec<String>,
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    /// URLs of listeners.
    pub(super) opened: Vec<String>,
    pub(super) closed: Vec<String>,
    /// Number of certificates that are in use.
    pub(super) certificates: usize,
    /// Settings that were not taken.
    pub(super) warnings: Vec<String>,
}

impl Changes {
    /// Logs the line about a reload.
    pub(super) fn log(&self, by: By) {
        let some = |names: &[String]| Some(names.join(" ")).filter(|names| !names.is_empty());
        tracing::info!(
            certificates = self.certificates,
            replaced = self.replaced.join(" "),
            added = some(&self.added),
            removed = some(&self.removed),
            "{by}: reloaded"
        );
    }
}

/// Formats the changes as lines, for `netwasm reload`.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("replaced", &self.replaced),
            ("added", &self.added),
            ("removed", &self.removed),
            ("listening", &self.opened),
            ("no longer listening", &self.closed),
        ];
        match all.iter().all(|(_, names)| names.is_empty()) {
            true => f.write_str("reloaded: nothing has changed")?,
            false => f.write_str("reloaded")?,
        }
        if self.certificates > 0 {
            f.write_str("\ncertificates: reloaded")?;
        }
        for (what, names) in all.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "\n{what}: {}", names.join(", "))?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}
