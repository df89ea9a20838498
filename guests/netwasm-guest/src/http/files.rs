//! From the path of a URL to that of a file.

use super::Response;
use super::percent::decode;

/// Finds the file that a request asks for, by what follows the prefix, as it
/// was sent.
///
/// # Errors
/// The response if there can be no such file. Segments `.` and `..` are refused
/// as well: whoever means no harm resolves them before asking (RFC 3986,
/// section 5.2.4).
pub(super) fn locate(directory: &str, rest: &str) -> Result<String, Response> {
    let mut path = String::with_capacity(directory.len() + rest.len() + 1);
    path.push_str(directory);
    for (at, segment) in rest.split('/').enumerate() {
        let name =
            decode(segment).ok_or_else(|| refused("the path is not percent-encoded UTF-8"))?;
        if name.contains(['/', '\\', '\0']) {
            return Err(refused("a name holds a slash, a backslash or a NUL"));
        }
        if matches!(&*name, "." | "..") {
            return Err(refused("the path holds dots to be resolved"));
        }
        // `.git` and `.env` are not for all, but what is there to be found is
        // (RFC 8615).
        let is_well_known = at == 0 && name == ".well-known";
        if name.starts_with('.') && !is_well_known {
            return Err(Response::error(404));
        }
        if !name.is_empty() {
            path.push('/');
            path.push_str(&name);
        }
    }
    if rest.is_empty() || rest.ends_with('/') {
        path.push_str("/index.html");
    }
    Ok(path)
}

fn refused(reason: &str) -> Response {
    Response::error_because(400, reason)
}

#[cfg(test)]
mod tests {
    use super::locate;

    fn found(rest: &str) -> Option<String> {
        locate("/root", rest).ok()
    }

    #[test]
    fn a_path_is_decoded_once() {
        for (sent, wanted) in [
            ("", "/root/index.html"),
            ("a/b.txt", "/root/a/b.txt"),
            ("a%20b+c", "/root/a b+c"),
            ("%C3%A9/%41", "/root/é/A"),
            ("%252e%252E/x%252f", "/root/%2e%2E/x%2f"),
            ("..a/b..", "/root/..a/b.."),
            ("a/", "/root/a/index.html"),
            ("//a////b", "/root/a/b"),
            (".well-known/acme/x", "/root/.well-known/acme/x"),
        ] {
            // Names that begin with a dot are hidden.
            let wanted = (!wanted.contains("/..")).then_some(wanted);
            assert_eq!(found(sent).as_deref(), wanted, "{sent}");
        }
    }

    #[test]
    fn what_could_mean_another_file_is_refused() {
        for sent in [
            "..",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "%2e%2e/x",
            ".%2E/x",
            "a/%2e",
            "..%2fx",
            "a%2Fb",
            "a\\b",
            "a%5cb",
            "%5C%5cevil.example",
            "a%00.html",
            "%",
            "%2",
            "%g0",
            "%2%66",
            "%é",
            "%c0%ae%c0%ae/x",
            "%c0%af",
            "%e0%80%af",
            "%ff",
            "%c3",
        ] {
            assert_eq!(found(sent), None, "{sent}");
        }
    }

    #[test]
    fn hidden_is_what_begins_with_a_dot_anywhere() {
        for sent in [
            ".git/config",
            "a/.env",
            ".a/",
            "a/.well-known/x",
            ".well-known/.x",
            ".well-knownx",
        ] {
            assert_eq!(found(sent), None, "{sent}");
        }
    }
}
