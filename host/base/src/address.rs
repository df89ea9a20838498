//! Addresses of a connection's ends.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix domain socket by its path, or as `@NAME`; `None` if it has no name.
    Unix(Option<PathBuf>),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix"),
        }
    }
}

impl From<rustix::net::SocketAddrAny> for Address {
    fn from(address: rustix::net::SocketAddrAny) -> Self {
        if let Ok(ip) = SocketAddr::try_from(address.clone()) {
            return Self::Ip(ip);
        }
        let path = rustix::net::SocketAddrUnix::try_from(address)
            .ok()
            .and_then(|unix| {
                use std::os::unix::ffi::OsStrExt;
                // An empty one is that of a socket without a name.
                if let Some(name) = unix.abstract_name().filter(|it| !it.is_empty()) {
                    return Some(crate::unix::written(name));
                }
                unix.path_bytes()
                    .map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
            });
        Self::Unix(path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};

    use super::*;

    #[test]
    fn a_socket_has_a_path_an_abstract_name_or_none() {
        let shown = |socket: &UnixDatagram| {
            let address = rustix::net::getsockname(socket).expect("an address");
            Address::from(address).to_string()
        };
        let unbound = UnixDatagram::unbound().expect("a socket");
        assert_eq!(shown(&unbound), "unix");
        let name = format!("netwasm-address-{}", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("a name");
        let named = UnixDatagram::bind_addr(&address).expect("a socket");
        assert_eq!(shown(&named), format!("unix:@{name}"));
    }
}
