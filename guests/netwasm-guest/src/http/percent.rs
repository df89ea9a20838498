//! Percent-encoding (RFC 3986, section 2.1), forms, and HTML.

use std::borrow::Cow;

/// Decodes percent-encoded text, once. Returns `None` if a percent sign is not
/// followed by two hexadecimal digits, or if the result is not UTF-8.
///
/// ```
/// # use netwasm_guest::http::decode;
/// assert_eq!(decode("Zo%C3%AB").as_deref(), Some("Zoë"));
/// assert_eq!(decode("a%2Fb+c%2525").as_deref(), Some("a/b+c%25"));
/// assert_eq!(decode("100%"), None);
/// ```
pub fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            digit(rest.next()?)? << 4 | digit(rest.next()?)?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Decodes a name or value of a form: a plus sign is a space, and what cannot
/// be decoded stays, as browsers do it.
fn decode_form(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (byte, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => byte,
        });
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3): for a
/// segment of a path, or a name or value of a query.
pub fn encode(text: &str) -> String {
    encode_except(text, |_| false)
}

/// Percent-encodes all but unreserved characters and those that may stay.
pub(super) fn encode_except(text: &str, stays: impl Fn(u8) -> bool) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_unreserved = matches!(byte, b'-' | b'.' | b'_' | b'~');
        if byte.is_ascii_alphanumeric() || is_unreserved || stays(byte) && byte.is_ascii() {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for nibble in [byte >> 4, byte & 15] {
                encoded.extend(DIGITS.get(usize::from(nibble)));
            }
        }
    }
    encoded
}

/// Escapes text for HTML, in elements and in quoted attributes.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// The names and values of a query or a form, decoded, in the order in which
/// they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Decodes `a=1&b=two+words`.
    pub fn parse(text: &str) -> Self {
        let parts = text.split('&').filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode_form(name), decode_form(value))
        };
        Self(parts.map(pair).collect())
    }

    /// Returns the first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(other, value)| (other == name).then_some(value))
    }

    /// Returns all values of a name.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter_map(move |(other, value)| (other == name).then_some(value))
    }

    /// Returns all names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    #[cfg(feature = "json")]
    pub(super) fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_once_and_strictly() {
        for (text, decoded) in [
            ("", Some("")),
            ("plain", Some("plain")),
            ("%41%e2%82%ac", Some("A€")),
            ("%252e", Some("%2e")),
            ("a+b", Some("a+b")),
            ("%", None),
            ("%4", None),
            ("%g0", None),
            ("%+1", None),
            ("%é", None),
            ("%ff", None),
            ("%c0%af", None),    // overlong
            ("%ed%a0%80", None), // a surrogate
        ] {
            assert_eq!(decode(text).as_deref(), decoded, "{text}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let text = "/a b/é?#%2f:;=&\"<'\r\n/~x-y_z.txt";
        let encoded = encode(text);
        assert_eq!(
            encoded,
            "%2Fa%20b%2F%C3%A9%3F%23%252f%3A%3B%3D%26%22%3C%27%0D%0A%2F~x-y_z.txt"
        );
        assert_eq!(decode(&encoded).as_deref(), Some(text));
    }

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let pairs = Pairs::parse("q=tea+%26+cake&q=no&empty=&flag&%C3%A9=%zz%&&=x&bad=%ff");
        let all: Vec<_> = pairs.iter().collect();
        assert_eq!(
            all,
            [
                ("q", "tea & cake"),
                ("q", "no"),
                ("empty", ""),
                ("flag", ""),
                ("é", "%zz%"),
                ("", "x"),
                ("bad", "\u{fffd}"),
            ]
        );
        assert_eq!(pairs.get("q"), Some("tea & cake"));
        assert_eq!(pairs.get_all("q").count(), 2);
        assert_eq!(pairs.get("Q"), None);
    }

    #[test]
    fn html_is_escaped() {
        assert_eq!(
            escape("<a href=\"'&\">"),
            "&lt;a href=&quot;&#39;&amp;&quot;&gt;"
        );
        assert!(matches!(escape("é"), Cow::Borrowed("é")));
    }
}
