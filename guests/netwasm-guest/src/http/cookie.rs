//! Cookies (RFC 6265).

use std::fmt;
use std::time::Duration;

use super::percent::{decode, encode_except};

/// The cookies of a request.
#[derive(Clone, Debug, Default)]
pub struct Cookies(Vec<(String, String)>);

impl Cookies {
    pub(super) fn parse(headers: &[Vec<u8>]) -> Self {
        let mut cookies = Vec::new();
        for header in headers {
            for part in String::from_utf8_lossy(header).split(';') {
                let Some((name, value)) = part.split_once('=') else {
                    continue;
                };
                let value = value.trim();
                let unquoted = value
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'))
                    .unwrap_or(value);
                let value = decode(unquoted).unwrap_or_else(|| unquoted.into());
                cookies.push((name.trim().to_owned(), value.into_owned()));
            }
        }
        Self(cookies)
    }

    /// Returns the first value of a name. It is percent-decoded, as
    /// [`Cookie`] encodes it, or as it was sent if that is not possible.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find_map(|(other, value)| (other == name).then_some(value))
    }

    /// Returns all names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// A cookie to be set by a response.
///
/// It is sent with `HttpOnly`, `SameSite=Lax` and `Path=/` unless told
/// otherwise: a script cannot read it, and other sites' forms do not send it.
///
/// ```
/// # use std::time::Duration;
/// # use netwasm_guest::http::{Cookie, Response};
/// let cookie = Cookie::new("session", "a b").secure().max_age(Duration::from_secs(60));
/// assert_eq!(
///     cookie.to_string(),
///     "session=a%20b; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
/// );
/// let response = Response::text("hello").cookie(cookie);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a cookie is set by `Response::cookie`"]
pub struct Cookie {
    name: String,
    value: String,
    path: String,
    domain: Option<String>,
    max_age: Option<Duration>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
}

/// The requests from other sites that carry a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Links, but no forms.
    Lax,
    /// All. Needs [`Cookie::secure`].
    None,
}

impl Cookie {
    /// Makes a cookie for this browser session. What may not stand in a value
    /// is percent-encoded.
    pub fn new(name: impl Into<String>, value: impl AsRef<str>) -> Self {
        Self {
            name: encode_except(&name.into(), is_token),
            value: encode_except(value.as_ref(), is_cookie_octet),
            path: "/".to_owned(),
            domain: None,
            max_age: None,
            secure: false,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// Makes a cookie that removes the one of this name.
    pub fn removal(name: impl Into<String>) -> Self {
        Self::new(name, "").max_age(Duration::ZERO)
    }

    /// Sets the path below which the cookie is sent back.
    pub fn path(mut self, path: impl AsRef<str>) -> Self {
        self.path = encode_except(path.as_ref(), |byte| {
            byte.is_ascii_graphic() && byte != b';'
        });
        self
    }

    /// Sets the domain with all its subdomains.
    pub fn domain(mut self, domain: impl AsRef<str>) -> Self {
        self.domain = Some(encode_except(domain.as_ref(), |_| false));
        self
    }

    /// Sets how long the cookie is kept.
    pub const fn max_age(mut self, duration: Duration) -> Self {
        self.max_age = Some(duration);
        self
    }

    /// Sends it back over HTTPS only.
    pub const fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Lets scripts of the page read it.
    pub const fn readable_by_scripts(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// Sets which requests from other sites carry it.
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }
}

/// True for what a value may hold, apart from the percent sign (RFC 6265,
/// section 4.1.1).
const fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\' | b'%')
}

/// True for what a name may hold, apart from the percent sign (RFC 9110,
/// section 5.6.2).
const fn is_token(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|'
    )
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}; Path={}", self.name, self.value, self.path)?;
        if let Some(domain) = &self.domain {
            write!(f, "; Domain={domain}")?;
        }
        if let Some(age) = self.max_age {
            write!(f, "; Max-Age={}", age.as_secs())?;
        }
        if self.secure {
            f.write_str("; Secure")?;
        }
        if self.http_only {
            f.write_str("; HttpOnly")?;
        }
        f.write_str(match self.same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read() {
        let sent = [
            b"a=1; b=\"two\";c=x%20y;; odd; a=3".to_vec(),
            b"d=100%".to_vec(),
        ];
        let cookies = Cookies::parse(&sent);
        assert_eq!(cookies.get("a"), Some("1"));
        assert_eq!(cookies.get("b"), Some("two"));
        assert_eq!(cookies.get("c"), Some("x y"));
        assert_eq!(cookies.get("d"), Some("100%"));
        assert_eq!(cookies.get("odd"), None);
        assert_eq!(cookies.iter().count(), 5);
    }

    #[test]
    fn what_was_set_is_what_comes_back() {
        for value in ["", "plain", "a b;c,d\"e\\f", "100%", "é\r\nset-cookie: x=y"] {
            let set = Cookie::new("name", value).to_string();
            assert!(set.is_ascii() && !set.contains('\n'), "{set}");
            let sent = set.split_once(';').expect("attributes").0;
            let cookies = Cookies::parse(&[sent.into()]);
            assert_eq!(cookies.get("name"), Some(value));
        }
    }

    #[test]
    fn attributes_cannot_be_slipped_in() {
        let cookie = Cookie::new("a;b=c", "x; Domain=evil")
            .path("/p; Secure")
            .domain("d;x")
            .same_site(SameSite::Strict)
            .readable_by_scripts();
        assert_eq!(
            cookie.to_string(),
            "a%3Bb%3Dc=x%3B%20Domain=evil; Path=/p%3B%20Secure; Domain=d%3Bx; SameSite=Strict"
        );
        assert_eq!(
            Cookie::removal("a").to_string(),
            "a=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
    }
}
