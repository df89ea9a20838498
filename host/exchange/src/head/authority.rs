//! Host and port, as a target or the `Host` header gives them.

use std::net::Ipv6Addr;

use memchr::memchr;

use super::meaning::content_length;

/// True if this is a host, perhaps with a port (RFC 3986, section 3.2), without
/// user information.
pub fn is_authority(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"[") {
        let Some((address, port)) = memchr(b']', rest).and_then(|at| rest.split_at_checked(at))
        else {
            return false;
        };
        let address = str::from_utf8(address).map(str::parse::<Ipv6Addr>);
        return matches!(address, Ok(Ok(_))) && is_port(port.get(1..).unwrap_or_default());
    }
    let (name, port) = split_registered_name(text);
    !name.is_empty() && is_port(port)
}

/// True if this is empty, or a colon with a port, which may be empty.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else {
        return text.is_empty();
    };
    digits.is_empty() || content_length(digits).is_some_and(|port| port <= u64::from(u16::MAX))
}

/// Splits off a registered name (RFC 3986, section 3.2.2). An IPv4 address is
/// one too.
fn split_registered_name(text: &[u8]) -> (&[u8], &[u8]) {
    let mut length = 0;
    while let Some(rest) = text.get(length..) {
        length += match rest {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            [first, ..] if NAME_CHARACTERS[usize::from(*first)] => 1,
            _ => break,
        };
    }
    text.split_at_checked(length).unwrap_or((text, b""))
}

/// Unreserved characters and sub-delimiters.
const NAME_CHARACTERS: [bool; 256] = characters(b"-._~!$&'()*+,;=");

/// Returns a table of letters, digits and `others`.
pub(super) const fn characters(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}
