//! Names of hosts as text.

/// The one form of a name that rules and the resolver go by: in lower case,
/// without the dot that may end it, and in its `xn--` form (RFC 5890) where it
/// is not ASCII.
pub fn canonical_name(name: &str) -> String {
    let ascii = match name.is_ascii() {
        true => name.to_ascii_lowercase(),
        // What has no such form is no name, and stays as it is.
        false => idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_lowercase()),
    };
    match ascii.strip_suffix('.') {
        Some(name) => name.to_owned(),
        None => ascii,
    }
}

/// Whether a canonical text can be the name of a host: not what inet_aton(3)
/// takes for an address, such as `127.1`, either.
pub fn is_host_name(name: &str) -> bool {
    valid_name(name) && !name.rsplit('.').next().is_some_and(ends_as_number)
}

/// Whether a text has the form of a host name: RFC 1123, section 2.1, and the
/// underscore that is used in practice.
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

/// Whether a last label makes inet_aton(3) take the whole for an address.
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
            // Full-width digits and dots become what they look like.
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
