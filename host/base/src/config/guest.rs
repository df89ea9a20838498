//! A guest: its component, and what it is given: name, arguments, environment
//! and directories.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Source of a component's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComponentSource {
    /// A file: a component in binary or text form, or compiled code.
    File(PathBuf),
    /// A component built into the program.
    BuiltIn {
        /// Name, such as `echo`.
        name: &'static str,
        /// Bytes of the component.
        bytes: &'static [u8],
    },
    /// A component of a registry.
    Registry {
        /// Reference, such as `oci://registry.example/name:1.0`.
        reference: String,
        /// File with its bytes; `None` until it is pulled.
        file: Option<PathBuf>,
    },
}

impl ComponentSource {
    /// Returns the file of the component, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Registry { file, .. } => file.as_deref(),
            Self::BuiltIn { .. } => None,
        }
    }
}

impl fmt::Display for ComponentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::BuiltIn { name, .. } => f.write_str(name),
            Self::Registry { reference, .. } => f.write_str(reference),
        }
    }
}

/// Name, arguments, environment and directories of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestConfig {
    /// Name in the log.
    pub name: String,
    /// First argument: the name of the component's file.
    pub program: String,
    /// Arguments that follow `--`.
    pub args: Vec<String>,
    /// Environment variables: `--env`.
    pub env: Vec<(String, String)>,
    /// Configuration that it reads through `wasi:config`: `--config-var`.
    pub config: Vec<(String, String)>,
    /// Preopens: `--dir`.
    pub dirs: Vec<Directory>,
    /// Folder of a program in Python, among the preopens. `None`: the component
    /// is the program itself.
    pub folder: Option<PathBuf>,
}

/// A preopen: a directory of the host that a guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Path on the host.
    pub host: PathBuf,
    /// Path in the guest.
    pub guest: String,
    /// True if the guest may write there.
    pub writable: bool,
}

/// Parses `HOST` or `HOST::GUEST`, either with `:ro` or `:rw`. Without `GUEST`
/// the guest sees the directory under its path on the host. Without `:rw` it
/// may only read.
impl FromStr for Directory {
    type Err = DirectoryError;

    fn from_str(text: &str) -> Result<Self, DirectoryError> {
        let (paths, writable) = match text.rsplit_once(':') {
            Some((paths, "ro")) if !paths.ends_with(':') => (paths, false),
            Some((paths, "rw")) if !paths.ends_with(':') => (paths, true),
            _ => (text, false),
        };
        let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
        if host.is_empty() {
            return Err(DirectoryError::NoHost);
        }
        if guest.is_empty() {
            return Err(DirectoryError::NoGuest(host.to_owned()));
        }
        if paths.contains("::") && guest.contains(':') {
            return Err(DirectoryError::Access(guest.to_owned()));
        }
        Ok(Self {
            host: PathBuf::from(host),
            guest: guest.to_owned(),
            writable,
        })
    }
}

/// Reason why a text is no `--dir`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// The host's path is missing.
    #[error("no directory of the host: write HOST::GUEST, such as ./public::/")]
    NoHost,
    /// The guest's path is missing.
    #[error("no path for the guest: write {0}::/ to have it there as /")]
    NoGuest(String),
    /// A colon is followed by neither `ro` nor `rw`.
    #[error("'{0}': a path for the guest has no colon, and only :ro or :rw may follow it")]
    Access(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_as_they_are_documented() {
        for (text, host, guest, writable) in [
            (".", ".", ".", false),
            ("./public::/", "./public", "/", false),
            ("./public::/:ro", "./public", "/", false),
            ("./public::/:rw", "./public", "/", true),
            ("/srv/data:rw", "/srv/data", "/srv/data", true),
            ("/srv/a:b", "/srv/a:b", "/srv/a:b", false),
            ("/srv/a:b::/b", "/srv/a:b", "/b", false),
            // A path that ends like an access right.
            ("/srv/x:rw:ro", "/srv/x:rw", "/srv/x:rw", false),
        ] {
            let directory = Directory {
                host: host.into(),
                guest: guest.into(),
                writable,
            };
            assert_eq!(text.parse(), Ok(directory), "{text}");
        }
        for (text, error) in [
            ("", DirectoryError::NoHost),
            ("::/data", DirectoryError::NoHost),
            ("data::", DirectoryError::NoGuest("data".into())),
            ("data::/x:wr", DirectoryError::Access("/x:wr".into())),
            ("a::b::c", DirectoryError::Access("b::c".into())),
        ] {
            assert_eq!(text.parse::<Directory>(), Err(error), "{text}");
        }
    }
}
