//! Requests to open a WebSocket connection: RFC 6455, section 4.2.1. A request
//! of HTTP/2 (RFC 8441) is given the form of one of HTTP/1.1 before.

use std::fmt;

use netwasm_base::config::{Origin, WebSocketLimits};

use crate::answer::Answer;
use crate::head::{Framing, Head};

/// Why a request cannot open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It wants another version of the protocol than 13.
    Version,
    /// It breaks a rule.
    Malformed(&'static str),
    /// It comes from a page of another origin.
    Origin,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "another version of the protocol than 13",
            Self::Malformed(what) => what,
            Self::Origin => "a page of another origin (--websocket-origin)",
        })
    }
}

/// True if a request wants to open a connection.
pub fn asks(head: &Head) -> bool {
    head.method() == "GET"
        && head.minor_version() > 0
        && has(head, "upgrade", "websocket")
        && has(head, "connection", "upgrade")
}

/// Checks a request that wants to open a connection.
///
/// # Errors
/// Fails if it cannot.
pub fn check(head: &Head, limits: &WebSocketLimits) -> Result<(), Unfit> {
    let mut versions = head.all("sec-websocket-version");
    if versions.next().map(<[u8]>::trim_ascii) != Some(b"13") || versions.next().is_some() {
        return Err(Unfit::Version);
    }
    let mut keys = head.all("sec-websocket-key");
    let key = keys.next().unwrap_or_default();
    if !is_key(key) || keys.next().is_some() {
        return Err(Unfit::Malformed("no Sec-WebSocket-Key of 16 bytes"));
    }
    if !matches!(head.framing(), Framing::None | Framing::Length(0)) {
        return Err(Unfit::Malformed("a body"));
    }
    match may_connect(head, limits) {
        true => Ok(()),
        false => Err(Unfit::Origin),
    }
}

/// True if the page that a request comes from may connect. Programs that are no
/// browsers send no origin.
fn may_connect(head: &Head, limits: &WebSocketLimits) -> bool {
    let mut given = head.all("origin");
    let Some(origin) = given.next() else {
        return true;
    };
    if limits.origins.contains(&Origin::Any) {
        return true;
    }
    let Ok(origin) = std::str::from_utf8(origin) else {
        return false;
    };
    if given.next().is_some() {
        return false;
    }
    let is_named = |it: &Origin| match it {
        Origin::Any => true,
        Origin::Exactly(known) => known.eq_ignore_ascii_case(origin),
    };
    // A proxy before this host may have spoken TLS with the client, so the
    // scheme does not count.
    let host = origin.split_once("://").map(|(_, host)| host);
    let own = match (host, head.authority()) {
        (Some(host), Some(own)) => host.eq_ignore_ascii_case(own),
        _ => false,
    };
    own || limits.origins.iter().any(is_named)
}

/// True if a value is 16 bytes in Base64.
fn is_key(value: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    value
        .strip_suffix(b"==")
        .is_some_and(|key| key.len() == 22 && key.iter().all(letter))
}

/// Returns the host's answer to a request that cannot open a connection.
impl From<Unfit> for Answer {
    fn from(reason: Unfit) -> Self {
        match reason {
            Unfit::Version => upgrade("the version of WebSocket is 13"),
            Unfit::Malformed(what) => Self::status(400, what),
            Unfit::Origin => Self::status(403, "pages of this origin may not connect"),
        }
    }
}

/// Returns the answer to a request that wants no WebSocket connection, of a guest
/// that takes nothing else.
pub fn without() -> Answer {
    upgrade("there are only WebSocket connections here")
}

/// Returns an answer that asks for a connection by the rules: RFC 6455, section
/// 4.4.
fn upgrade(reason: &str) -> Answer {
    let mut answer = Answer::status(426, reason);
    let version = ("Sec-WebSocket-Version".into(), b"13".to_vec());
    answer.headers.push(version);
    answer
}

/// True if a client offers a protocol.
pub fn offers(head: &Head, protocol: &str) -> bool {
    let lists = head.all("sec-websocket-protocol");
    let mut offered = lists.flat_map(|list| list.split(|byte| *byte == b','));
    offered.any(|it| it.trim_ascii() == protocol.as_bytes())
}

/// True if a header's list has a word, in any case.
fn has(head: &Head, name: &str, word: &str) -> bool {
    let mut words = head
        .all(name)
        .flat_map(|list| list.split(|byte| *byte == b','));
    words.any(|it| it.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use netwasm_base::config::HttpLimits;

    use super::*;
    use crate::head::HeadLimits;

    const GOOD: &str = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn head(fields: &str) -> Head {
        let mut head = Head::default();
        let text = format!("GET / HTTP/1.1\r\nHost: Example.org\r\n{fields}\r\n");
        let limits = HeadLimits::from(&HttpLimits::default());
        let parsed = head.parse(text.as_bytes(), &limits);
        assert_eq!(parsed, Ok(Some(text.len())));
        head
    }

    fn checked(fields: &str, origins: &[&str]) -> Result<(), Unfit> {
        let limits = WebSocketLimits {
            origins: origins
                .iter()
                .map(|it| it.parse().expect("an origin"))
                .collect(),
            ..WebSocketLimits::default()
        };
        let head = head(fields);
        assert!(asks(&head), "{fields}");
        check(&head, &limits)
    }

    #[test]
    fn a_request_with_version_and_key_may_open_a_connection() {
        assert_eq!(checked(GOOD, &[]), Ok(()));
        let other = GOOD.replace("13", "8");
        assert_eq!(checked(&other, &[]), Err(Unfit::Version));
        for wrong in [
            GOOD.replace("ZQ==", "ZQ="),
            GOOD.replace("dGhl", "d!hl"),
            GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "eA=="),
            format!("{GOOD}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            format!("{GOOD}Content-Length: 1\r\n"),
        ] {
            let unfit = checked(&wrong, &[]);
            assert!(matches!(unfit, Err(Unfit::Malformed(_))), "{wrong}");
        }
        for other in ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n"] {
            assert!(!asks(&head(other)));
        }
        assert!(!asks(&head("Upgrade: websocket\r\n")));
    }

    #[test]
    fn pages_of_this_host_and_of_named_origins_may_connect() {
        let from = |origin: &str, named: &[&str]| {
            checked(&format!("{GOOD}Origin: {origin}\r\n"), named).is_ok()
        };
        assert!(from("https://example.org", &[]));
        assert!(from("http://example.ORG", &[]));
        for other in ["https://example.org:8443", "https://evil.example", "null"] {
            assert!(!from(other, &[]), "{other}");
            assert!(from(other, &["*"]), "{other}");
        }
        let named = ["https://evil.example", "https://example.org:8443"];
        assert!(from("https://evil.example", &named));
        assert!(!from("http://evil.example", &named));
    }

    #[test]
    fn a_protocol_is_offered_in_a_list() {
        let head = head("Sec-WebSocket-Protocol: a, chat\r\nSec-WebSocket-Protocol: b\r\n");
        assert!(["a", "b", "chat"].iter().all(|it| offers(&head, it)));
        assert!(!offers(&head, "Chat") && !offers(&head, "c"));
    }
}
