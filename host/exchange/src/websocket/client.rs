//! Connections that guests open: the request for one, and what comes of it. RFC
//! 6455, section 4.1.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use netwasm_base::error::ConnectionError;
use netwasm_net::transport::Transport;

use super::{Socket, WebSocketGuest};
use crate::answer::Fields;
use crate::destination::Destination;

/// Fields of the request that are the host's.
const OURS: [HeaderName; 12] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request for a connection, all of which can be sent.
#[derive(Debug)]
pub struct ClientRequest {
    /// Server that is connected to.
    pub destination: Destination,
    /// Host, with a port that is not the scheme's.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Protocols that are offered, the best first.
    pub protocols: Vec<String>,
    /// More fields.
    pub headers: HeaderMap,
    /// True if compression is offered, where the service has it.
    pub compress: bool,
}

impl ClientRequest {
    /// Returns the request for a URL, with these protocols and fields.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if any of them cannot be sent.
    pub fn new(
        url: &str,
        protocols: Vec<String>,
        fields: &Fields,
        compress: bool,
    ) -> Result<Self, ConnectionError> {
        let wrong = || ConnectionError::InvalidArgument;
        // A fragment must not be there, and a parsed URI has lost it.
        let uri = match url.contains('#') {
            true => return Err(wrong()),
            false => url.parse::<Uri>().map_err(|_| wrong())?,
        };
        let destination = Destination::of_websocket(&uri).map_err(|_| wrong())?;
        let usual = if destination.secure { 443 } else { 80 };
        let name = uri.host().ok_or_else(wrong)?;
        let host = match uri.port_u16().filter(|port| *port != usual) {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        let target = uri.path_and_query().map_or("", |it| it.as_str());
        let target = match target.starts_with('/') {
            true => target.to_owned(),
            false => format!("/{target}"),
        };
        let is_token = |text: &String| HeaderName::from_bytes(text.as_bytes()).is_ok();
        let offered_before = |(place, it): (usize, &String)| {
            let before = protocols.get(..place).unwrap_or_default();
            before.contains(it)
        };
        if !target.bytes().all(|byte| byte.is_ascii_graphic())
            || !protocols.iter().all(is_token)
            || protocols.iter().enumerate().any(offered_before)
        {
            return Err(wrong());
        }
        let mut headers = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_bytes(value).map_err(|_| wrong())?;
            if OURS.contains(&name) {
                return Err(wrong());
            }
            headers.try_append(name, value).map_err(|_| wrong())?;
        }
        Ok(Self {
            destination,
            host,
            target,
            protocols,
            headers,
            compress,
        })
    }
}

/// A connection that the server has accepted. Dropping it closes it.
pub struct Opened {
    /// The protocol that the server has chosen.
    pub protocol: Option<String>,
    /// Fields of its answer.
    pub headers: Fields,
    /// The connection below.
    pub transport: Rc<Transport>,
    /// Begins to drive it.
    pub begin: Begin,
}

/// Begins to drive a connection, for a guest's end of it and the receiver of its
/// events.
pub type Begin = Box<dyn FnOnce(Rc<Socket>, Box<dyn WebSocketGuest>)>;

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Reason why no connection was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// There is no connection, or no answer that could be understood.
    Failed(ConnectionError),
    /// The server has answered with another status than 101.
    Refused {
        /// The status.
        status: u16,
        /// Fields of the answer.
        headers: Fields,
    },
}

impl From<ConnectionError> for NotOpened {
    fn from(reason: ConnectionError) -> Self {
        Self::Failed(reason)
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => reason.fmt(f),
            Self::Refused { status, .. } => write!(f, "the server answers with {status}"),
        }
    }
}

/// Future of a connection that is being opened.
pub type OpeningByClient = Pin<Box<dyn Future<Output = Result<Opened, NotOpened>>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> Result<ClientRequest, ConnectionError> {
        ClientRequest::new(url, Vec::new(), &Vec::new(), false)
    }

    #[test]
    fn a_url_gives_host_and_target() {
        for (url, secure, host, target) in [
            ("ws://example.org", false, "example.org", "/"),
            ("ws://example.org:80/a", false, "example.org", "/a"),
            ("wss://example.org:80/?x=1", true, "example.org:80", "/?x=1"),
            ("wss://Example.org?x", true, "Example.org", "/?x"),
            ("ws://[::1]:8080/a%20b", false, "[::1]:8080", "/a%20b"),
        ] {
            let request = request(url).expect(url);
            let got = (request.destination.secure, &*request.host, &*request.target);
            assert_eq!(got, (secure, host, target), "{url}");
        }
        for wrong in [
            "",
            "/a",
            "http://example.org/",
            "ws://user@example.org/",
            "ws://example.org/#a",
            "ws://example.org:0/",
            "ws://example.org/a b",
            "ws://example.org/a\r\nX: y",
            "ws://example.org/\u{e9}",
            "ws:///a",
        ] {
            let error = request(wrong).err();
            assert_eq!(error, Some(ConnectionError::InvalidArgument), "{wrong}");
        }
    }

    #[test]
    fn protocols_are_tokens_and_fields_of_the_handshake_are_the_hosts() {
        let protocols = |all: &[&str]| {
            let all = all.iter().map(|it| (*it).to_owned()).collect();
            ClientRequest::new("ws://a/", all, &Vec::new(), false).is_ok()
        };
        assert!(protocols(&["chat", "v2.chat"]));
        for wrong in [&["a, b"][..], &[""], &["a b"], &["a", "b", "a"]] {
            assert!(!protocols(wrong), "{wrong:?}");
        }
        let field = |name: &str, value: &str| {
            let fields = vec![(name.to_owned(), value.as_bytes().to_vec())];
            ClientRequest::new("ws://a/", Vec::new(), &fields, false).is_ok()
        };
        assert!(field("Authorization", "Bearer x") && field("Origin", "https://a"));
        for (name, value) in [
            ("Host", "b"),
            ("sec-websocket-KEY", "x"),
            ("Connection", "close"),
            ("X", "a\r\nY: b"),
            ("X Y", "a"),
        ] {
            assert!(!field(name, value), "{name}");
        }
    }
}
