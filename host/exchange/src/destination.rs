//! The destination of a request.

use http::Uri;
use http::uri::Scheme;

use netwasm_net::endpoint::Endpoint;

use crate::failure::Failure;

/// The host and port that a request goes to, and whether by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Host and port.
    pub endpoint: Endpoint,
    /// True if the scheme is `https` or `wss`.
    pub secure: bool,
}

impl Destination {
    /// Returns the destination that a URI names.
    ///
    /// # Errors
    /// - `HTTP-protocol-error`: the scheme is neither `http` nor `https`.
    /// - `HTTP-request-URI-invalid`: the authority is not a valid host and
    ///   port.
    pub fn of(uri: &Uri) -> Result<Self, Failure> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(Failure::HttpProtocolError),
        };
        Self::at(uri, secure)
    }

    /// Returns the destination that the URI of a WebSocket connection names: RFC
    /// 6455, section 3.
    ///
    /// # Errors
    /// - `HTTP-protocol-error`: the scheme is neither `ws` nor `wss`.
    /// - `HTTP-request-URI-invalid`: see [`Self::of`].
    pub fn of_websocket(uri: &Uri) -> Result<Self, Failure> {
        match uri.scheme_str() {
            Some("ws") => Self::at(uri, false),
            Some("wss") => Self::at(uri, true),
            _ => Err(Failure::HttpProtocolError),
        }
    }

    fn at(uri: &Uri, secure: bool) -> Result<Self, Failure> {
        let authority = uri.authority().ok_or(Failure::HttpRequestUriInvalid)?;
        let host = authority.host();
        // User information is not allowed here: RFC 9110, section 4.2.4.
        let rest = authority
            .as_str()
            .strip_prefix(host)
            .ok_or(Failure::HttpRequestUriInvalid)?;
        let port = match rest.strip_prefix(':').unwrap_or(rest) {
            "" if secure => 443,
            "" => 80,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| Failure::HttpRequestUriInvalid)?
            }
            _ => return Err(Failure::HttpRequestUriInvalid),
        };
        let literal = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let endpoint = Endpoint::named(literal.unwrap_or(host).to_owned(), port);
        Ok(Self {
            endpoint: endpoint
                .checked()
                .map_err(|_| Failure::HttpRequestUriInvalid)?,
            secure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Result<(String, bool), Failure> {
        let destination = Destination::of(&uri.parse().expect("a URI"))?;
        let endpoint = match destination.endpoint {
            Endpoint::Name { host, port } => format!("{host} {port}"),
            Endpoint::Address(address) => address.to_string(),
            Endpoint::Unix(_) => "a path".to_owned(),
        };
        Ok((endpoint, destination.secure))
    }

    #[test]
    fn the_scheme_gives_the_port_that_the_authority_does_not() {
        for (uri, endpoint, secure) in [
            ("http://example.org/", "example.org 80", false),
            ("https://example.org/", "example.org 443", true),
            ("http://example.org:/", "example.org 80", false),
            ("http://example.org:8080/", "example.org 8080", false),
            ("https://127.0.0.1/", "127.0.0.1:443", true),
            ("http://[::1]/", "[::1]:80", false),
            ("http://[::1]:81/", "[::1]:81", false),
        ] {
            assert_eq!(of(uri).ok(), Some((endpoint.to_owned(), secure)), "{uri}");
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_invalid() {
        for uri in [
            "http://user@example.org/",
            "http://user:secret@example.org/",
            "http://example.org:0/",
            "http://example.org:99999/",
            "http://example.org:+80/",
        ] {
            let Ok(uri) = uri.parse() else {
                continue;
            };
            let error = Destination::of(&uri);
            assert!(
                matches!(error, Err(Failure::HttpRequestUriInvalid)),
                "{uri}: {error:?}"
            );
        }
        let other = of("ftp://example.org/");
        assert!(
            matches!(other, Err(Failure::HttpProtocolError)),
            "{other:?}"
        );
    }
}
