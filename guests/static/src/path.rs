//! From the target of a request to a path, and back.

use std::borrow::Cow;

use netwasm_guest::http;

/// The path that a request asks for, decoded once. It begins with a slash, and
/// no segment is empty but the last.
///
/// # Errors
/// Why it is none. Segments `.` and `..` are refused as well: whoever means no
/// harm resolves them before asking (RFC 3986, section 5.2.4).
pub(crate) fn decode(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if is_plain(path) {
        return Ok(path.into());
    }
    decode_with_care(path)
}

/// True if there is nothing to decode or refuse, as with almost all paths.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.starts_with(b"/")
        && !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | 0))
        && !bytes.windows(2).any(|pair| matches!(pair, b"//" | b"/."))
}

fn decode_with_care(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.starts_with('/') {
        return Err("a path begins with a slash");
    }
    if path.contains("%2f") || path.contains("%2F") {
        return Err("a name holds a slash");
    }
    let path = http::decode(path).ok_or("the path is not percent-encoded UTF-8")?;
    if path.contains(['\0', '\\']) {
        return Err("a name holds a NUL or a backslash");
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("the path holds dots to be resolved");
    }
    Ok(if path.contains("//") {
        without_empty_segments(&path).into()
    } else {
        path
    })
}

/// Joins empty segments, which stand for nothing on Unix. It matters for
/// redirects: `//name` is another host, not a path (RFC 3986, section 4.2).
fn without_empty_segments(path: &str) -> String {
    let mut whole = String::with_capacity(path.len());
    for part in path.split_inclusive('/') {
        if part != "/" || whole.is_empty() {
            whole.push_str(part);
        }
    }
    whole
}

/// True if a name in the path begins with a dot. Such files are not for all
/// (`.git`, `.env`), except the directory that is there to be found (RFC 8615).
pub(crate) fn is_hidden(path: &str) -> bool {
    let names = match path.strip_prefix("/.well-known") {
        Some(names) if names.is_empty() || names.starts_with('/') => names,
        _ => path,
    };
    names.as_bytes().windows(2).any(|pair| pair == b"/.")
}

/// A path as a link, every segment encoded.
pub(crate) fn encode(path: &str) -> String {
    let segments = path.split('/').map(encode_segment);
    segments.collect::<Vec<_>>().join("/")
}

/// A name as a segment of a link.
pub(crate) fn encode_segment(name: &str) -> String {
    http::encode(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (sent, wanted) in [
            ("/", "/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/a%20b+c", "/a b+c"),
            ("/%C3%A9/%41", "/é/A"),
            ("/%252e%252E/x%252f", "/%2e%2E/x%2f"),
            ("/...", "/..."),
            ("/..a/b..", "/..a/b.."),
        ] {
            assert_eq!(decode(sent).as_deref(), Ok(wanted), "{sent}");
        }
    }

    #[test]
    fn a_plain_path_is_not_copied_and_care_would_not_change_it() {
        for path in ["/", "/a/b.txt", "/é/+", "/a.b/c../"] {
            assert!(is_plain(path), "{path}");
            assert!(matches!(decode(path), Ok(Cow::Borrowed(_))), "{path}");
            assert_eq!(decode_with_care(path).as_deref(), Ok(path), "{path}");
        }
    }

    #[test]
    fn empty_segments_are_no_segments() {
        for (sent, wanted) in [
            ("//", "/"),
            ("//evil.example", "/evil.example"),
            ("///a////b//", "/a/b/"),
        ] {
            assert_eq!(decode(sent).as_deref(), Ok(wanted), "{sent}");
        }
    }

    #[test]
    fn what_could_mean_another_file_is_refused() {
        for sent in [
            "",
            "a",
            "*",
            "/..",
            "/../x",
            "/a/../b",
            "/a/..",
            "/.",
            "/./a",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a/%2e",
            "/..%2fx",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/%5C%5cevil.example",
            "/a%00.html",
            "/%",
            "/%2",
            "/%g0",
            "/%2%66",
            "/%é",
            "/%c0%ae%c0%ae/x",
            "/%c0%af",
            "/%e0%80%af",
            "/%ff",
            "/%c3",
        ] {
            assert!(decode(sent).is_err(), "{sent}");
            assert!(decode_with_care(sent).is_err(), "{sent}");
        }
    }

    #[test]
    fn hidden_is_what_begins_with_a_dot_anywhere() {
        for path in [
            "/.git/config",
            "/a/.env",
            "/.a/",
            "/a/.well-known/x",
            "/.well-known/.x",
            "/.well-knownx",
        ] {
            assert!(is_hidden(path), "{path}");
        }
        for path in ["/", "/a.b", "/a./b", "/.well-known", "/.well-known/acme/x"] {
            assert!(!is_hidden(path), "{path}");
        }
    }

    #[test]
    fn a_link_leads_back_to_its_path() {
        let path = "/a b/é?#%2f:;=&\"<'\r\n/~x-y_z.txt/";
        let link = encode(path);
        assert_eq!(
            link,
            "/a%20b/%C3%A9%3F%23%252f%3A%3B%3D%26%22%3C%27%0D%0A/~x-y_z.txt/"
        );
        assert_eq!(decode(&link).as_deref(), Ok(path));
    }
}
