//! The parts of registries' answers that are texts: messages and places.

use http::Uri;

use crate::connect::Origin;

/// Returns the messages of a registry's answer, after a colon.
pub(crate) fn message(bytes: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return String::new();
    };
    let errors = value.get("errors").and_then(|it| it.as_array());
    let messages = errors.into_iter().flatten().filter_map(|error| {
        let message = error.get("message").or_else(|| error.get("code"))?;
        Some(
            message
                .as_str()?
                .escape_debug()
                .take(200)
                .collect::<String>(),
        )
    });
    let messages: Vec<_> = messages.take(3).collect();
    match messages.is_empty() {
        true => String::new(),
        false => format!(": {}", messages.join(", ")),
    }
}

/// Most characters of a text of a registry in an error.
const MOST: usize = 500;

/// Returns a text that a registry may have made, for an error: in one line, and
/// not long.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(MOST) {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Returns the URL that a `Location` means.
pub(crate) fn resolved(base: &Uri, place: &str) -> Option<Uri> {
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = match place {
        _ if place.starts_with("//") => format!("{scheme}:{place}"),
        _ if place.starts_with('/') => format!("{scheme}://{authority}{place}"),
        _ if place.contains("://") => place.to_owned(),
        _ => {
            let (folder, _) = base.path().rsplit_once('/')?;
            format!("{scheme}://{authority}{folder}/{place}")
        }
    };
    let uri: Uri = text.parse().ok()?;
    Origin::of(&uri).map(|_| uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_resolved() {
        let base: Uri = "https://a:5000/v2/x/blobs/y?z".parse().expect("a URL");
        for (place, wanted) in [
            ("https://b/c?d=e", Some("https://b/c?d=e")),
            ("//b/c", Some("https://b/c")),
            ("/c?d", Some("https://a:5000/c?d")),
            ("c", Some("https://a:5000/v2/x/blobs/c")),
            ("ftp://b/c", None),
            ("https://", None),
        ] {
            let uri = resolved(&base, place).map(|it| it.to_string());
            assert_eq!(uri.as_deref(), wanted, "{place}");
        }
    }

    #[test]
    fn texts_of_registries_are_one_short_line() {
        assert_eq!(shown("a\u{e4}\n\x1b[0m"), "a\u{e4}\\n\\u{1b}[0m");
        assert_eq!(shown(&"x".repeat(10_000)).len(), MOST);
    }

    #[test]
    fn messages_of_registries_are_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nsuch"},{"code":"OTHER"}]}"#;
        assert_eq!(message(body), ": no\\nsuch, OTHER");
        assert_eq!(message(b"<html>"), "");
        assert_eq!(message(b"{}"), "");
    }
}
