//! Hop-by-hop fields: those of the connection, not of the message.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE};
use http::{HeaderMap, HeaderName};

/// Fields that a guest gets although `Connection` names them. Without the first
/// two the message would be a different one, and the third tells whether
/// trailers may be sent.
const KEPT: [HeaderName; 3] = [CONTENT_LENGTH, HOST, TE];

/// Removes the fields that `Connection` names: RFC 9110, section 7.6.1. A guest
/// cannot, since it never sees `Connection`.
pub fn remove_named(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter();
    let names: Vec<HeaderName> = named(values.map(http::HeaderValue::as_bytes))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Returns what the values of `Connection` name: fields, and options such as
/// `close`.
pub fn named<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    let names = values.flat_map(|value| value.split(|&byte| byte == b','));
    names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connection_names_is_removed_but_for_what_makes_the_message() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-One"),
            ("connection", "x-two,, \u{e9}, host"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("host", "a"),
        ] {
            let value = value.parse().expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        remove_named(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["connection", "host", "x-three"]);
    }
}
