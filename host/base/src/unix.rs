//! Names and rights of Unix domain sockets: unix(7).
//!
//! A name is the path of a file, or `@NAME` in the abstract namespace of Linux,
//! which has neither files nor rights: whoever is in the network namespace may
//! connect. A file whose name begins with `@` is written `./@NAME`.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Rights of the file of a Unix socket. `None` leaves what the system gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixRights {
    /// Mode: `--unix-mode`. Whoever may write may connect.
    pub mode: Option<u32>,
    /// Name or number of the owner: `--unix-owner`.
    pub owner: Option<String>,
    /// Name or number of the group: `--unix-group`.
    pub group: Option<String>,
}

/// Returns the name in the abstract namespace, without its `@`; `None` for a
/// path.
#[must_use]
pub fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

/// Returns a name of the abstract namespace as it is written.
#[must_use]
pub fn written(abstract_name: &[u8]) -> PathBuf {
    let bytes = [b"@", abstract_name].concat();
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Returns the address of a socket with this name.
///
/// # Errors
/// Fails if the name is too long, or has a NUL byte.
pub fn address(path: &Path) -> io::Result<SocketAddr> {
    match abstract_name(path) {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_path_or_begins_with_an_at_sign() {
        let named = address(Path::new("@a/b")).expect("an address");
        assert_eq!(named.as_abstract_name(), Some(&b"a/b"[..]));
        let path = address(Path::new("./@a")).expect("an address");
        assert_eq!(path.as_pathname(), Some(Path::new("./@a")));
        assert!(address(Path::new(&"a".repeat(200))).is_err());
        assert_eq!(written(b"a/b"), Path::new("@a/b"));
        assert_eq!(abstract_name(&written(b"x")), Some(&b"x"[..]));
        assert_eq!(abstract_name(Path::new("/x")), None);
    }
}
