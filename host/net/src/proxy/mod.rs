//! The PROXY protocol, versions 1 and 2: what a proxy tells a server of a connection,
//! in front of what the client sends (HAProxy's proxy-protocol.txt). No I/O.
//!
//! ```text
//!   a proxy before this host --> parse --> the client's address, Proxied
//!   this host, as a proxy --> compose --> a server of an upstream group
//! ```

mod compose;
mod parse;
mod proxied;

pub(crate) use self::compose::compose;
pub(crate) use self::parse::{Header, Wrong, parse, wanted};
pub use self::proxied::{Proxied, ProxiedTls};

/// First bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
