//! Request targets (RFC 9112, section 3.2) of HTTP/1.1 and HTTP/2.
//!
//! Many clients send unencoded what a URI must percent-encode: UTF-8, quotes,
//! `<`, `>`, `|`, a backtick. Like nginx, the host accepts all of it. It
//! refuses spaces and control characters, where parsers disagree about the end
//! of a target, and fragments, which a server never gets (CVE-2023-45539).
//!
//! A handler gets a target as it was sent, as far as its types can hold that:
//! see [`text`] and [`for_uri`].

use std::borrow::Cow;
use std::fmt::Write;

use super::{Refusal, bad};

/// Form of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A path, perhaps with a query.
    Path,
    /// The server itself: `*` in `OPTIONS *`.
    Asterisk,
    /// Neither of these; in HTTP/1.1, perhaps a whole URL.
    Other,
}

/// Returns the form of a target.
///
/// # Errors
/// Fails if the target has a byte that no form allows, or is `*` and the method
/// is not `OPTIONS`.
pub fn form(method: &str, target: &[u8]) -> Result<Form, Refusal> {
    if let Some(byte) = target.iter().find(|&&byte| REFUSED[usize::from(byte)]) {
        return Err(match byte {
            b'#' => bad("fragment in the target"),
            _ => bad("space or control character in the target"),
        });
    }
    match target {
        [b'/', ..] => Ok(Form::Path),
        b"*" if method == "OPTIONS" => Ok(Form::Asterisk),
        b"*" => Err(bad("target * of another method than OPTIONS")),
        _ => Ok(Form::Other),
    }
}

/// True if a target is `*`, or a path that any parser of URIs takes as it is.
pub fn is_plain(target: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"#<>`".contains(byte);
    match target {
        [b'/', rest @ ..] => rest.iter().all(plain),
        _ => target == b"*",
    }
}

/// Returns a target as text. Bytes that are not UTF-8 are percent-encoded.
pub fn text(target: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(target) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(target.len() * 2);
    for chunk in target.utf8_chunks() {
        text.push_str(chunk.valid());
        for &byte in chunk.invalid() {
            encode(byte, &mut text);
        }
    }
    Cow::Owned(text)
}

/// Returns a target as the `http` crate and `wasi:http` accept it: `"`, `<`,
/// `>` and the backtick are percent-encoded too.
pub fn for_uri(target: &str) -> Cow<'_, str> {
    if !target.bytes().any(is_encoded) {
        return Cow::Borrowed(target);
    }
    let mut encoded = String::with_capacity(target.len() * 2);
    for character in target.chars() {
        match u8::try_from(character) {
            Ok(byte) if is_encoded(byte) => encode(byte, &mut encoded),
            _ => encoded.push(character),
        }
    }
    Cow::Owned(encoded)
}

/// True if a target is ASCII up to its path. Percent-encoding must not turn a
/// host into another one.
pub(super) fn has_ascii_origin(target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let host = memchr::memmem::find(target, b"://").map_or(0, |at| at + 3);
    let rest = target.get(host..).unwrap_or_default();
    let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    target.get(..host + length).is_some_and(<[u8]>::is_ascii)
}

/// Returns a copy of a head for httparse, which refuses a target that is not
/// UTF-8: the target's non-ASCII bytes are replaced. Returns `None` if the
/// target is UTF-8, or the request line is partial.
pub(super) fn masked(head: &[u8]) -> Option<Vec<u8>> {
    let line = head.get(..memchr::memchr(b'\n', head)?)?;
    let start = memchr::memchr(b' ', line)? + 1;
    let end = start + memchr::memchr(b' ', line.get(start..)?)?;
    if str::from_utf8(line.get(start..end)?).is_ok() {
        return None;
    }
    let mut copy = head.to_vec();
    for byte in copy.get_mut(start..end)? {
        if !byte.is_ascii() {
            *byte = b'x';
        }
    }
    Some(copy)
}

fn encode(byte: u8, text: &mut String) {
    // Writing to memory cannot fail.
    let _ = write!(text, "%{byte:02X}");
}

fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`')
}

/// Spaces, control characters and `#`, which begins a fragment.
const REFUSED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = true;
        byte += 1;
    }
    table[0x7f] = true;
    table[b'#' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_taken_but_spaces_control_characters_and_fragments() {
        for byte in 0..=255_u8 {
            let target = [b'/', b'a', byte, b'b'];
            let refused = byte <= b' ' || byte == 0x7f || byte == b'#';
            assert_eq!(form("GET", &target).is_err(), refused, "{byte:#x}");
            let query = [b'/', b'?', byte];
            assert_eq!(form("GET", &query).is_err(), refused, "{byte:#x}");
        }
        assert_eq!(form("OPTIONS", b"*"), Ok(Form::Asterisk));
        assert!(form("GET", b"*").is_err());
        assert_eq!(form("GET", b"http://a/"), Ok(Form::Other));
    }

    #[test]
    fn what_is_no_utf_8_is_encoded_and_nothing_else() {
        assert_eq!(text("/é|\"%20".as_bytes()), "/é|\"%20");
        assert_eq!(text(b"/\xe9\xc3\xa9\xff?\xc3"), "/%E9é%FF?%C3");
    }

    #[test]
    fn whatever_is_taken_has_a_form_that_a_uri_can_hold() {
        for byte in (b' ' + 1..=255).filter(|byte| !matches!(byte, b'#' | 0x7f)) {
            for target in [[b'/', b'a', byte], [b'/', b'?', byte]] {
                let text = text(&target);
                let encoded = for_uri(&text);
                let held: http::uri::PathAndQuery = encoded.parse().expect("it is held");
                assert_eq!(held.as_str(), encoded);
                let plain = is_plain(&target);
                assert!(!plain || encoded.as_bytes() == target, "{byte:#x}");
                let held = http::uri::PathAndQuery::try_from(target.as_slice());
                assert!(!plain || held.is_ok(), "{byte:#x}");
            }
        }
        assert_eq!(for_uri("/a<b>\"`é|"), "/a%3Cb%3E%22%60é|");
    }
}
