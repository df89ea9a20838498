//! Host names as text.

/// Returns the canonical form of a name, which rules and the resolver use: in
/// lower case, without a final dot, and in its `xn--` form (RFC 5890) if it is
/// not ASCII.
pub fn canonical_name(name: &str) -> String {
    let ascii = match name.is_ascii() {
        true => name.to_ascii_lowercase(),
        // A text without such a form is no name, and only becomes lower-case.
        false => idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase()),
    };
    match ascii.strip_suffix('.') {
        Some(name) => name.to_owned(),
        None => ascii,
    }
}

/// True if a canonical text can be a host name, and is not an address for
/// inet_aton(3), such as `127.1`.
pub fn is_host_name(name: &str) -> bool {
    valid_name(name) && !name.rsplit('.').next().is_some_and(ends_as_number)
}

/// True if a text has the form of a host name: RFC 1123, section 2.1, plus the
/// underscore, which is used in practice.
pub(super) fn valid_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// True if a last label makes inet_aton(3) take the whole name for an address.
pub(super) fn ends_as_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x");
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => label.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for (text, canonical) in [
            ("Example.ORG.", "example.org"),
            ("example.org", "example.org"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("B\u{dc}CHER.example.", "xn--bcher-kva.example"),
            // Full-width digits and dots become the ASCII ones that they look
            // like.
            ("\u{ff11}27\u{3002}0.0.1", "127.0.0.1"),
            (".", ""),
        ] {
            assert_eq!(canonical_name(text), canonical, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_no_host_name() {
        for name in [
            "example.org",
            "a",
            "_x.example",
            "1.2.3.4.example",
            "xn--bcher-kva.de",
        ] {
            assert!(is_host_name(name), "{name}");
        }
        for text in [
            "",
            "a..b",
            "a b",
            "a\\.example.org",
            "127.1",
            "0x7f",
            "1.2.3.4",
            "::1",
            "*.example",
            "a:80",
            "fe80::1%1",
            "-a.example",
        ] {
            assert!(!is_host_name(text), "{text}");
        }
        assert!(!is_host_name(&"a.".repeat(127)));
        assert!(!is_host_name(&"a".repeat(64)));
    }
}
