//! The user's directory of caches.

use std::path::PathBuf;

/// Returns the directory of a cache: `$XDG_CACHE_HOME/netwasm/NAME` or
/// `~/.cache/netwasm/NAME`; `None` if the environment has neither.
#[must_use]
pub fn directory(name: &str) -> Option<PathBuf> {
    let home = |variable, below: &str| {
        let path = PathBuf::from(std::env::var_os(variable)?);
        path.is_absolute().then(|| path.join(below))
    };
    let directory = home("XDG_CACHE_HOME", "netwasm");
    let directory = directory.or_else(|| home("HOME", ".cache/netwasm"))?;
    Some(directory.join(name))
}
