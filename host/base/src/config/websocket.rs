//! Limits and rules of WebSocket connections.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Limits and rules of WebSocket connections. No limit is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Maximum size of a client's message, in bytes, after decompression.
    pub max_message: usize,
    /// Maximum size of a client's frame, in bytes.
    pub max_frame: usize,
    /// Bytes queued for a client beyond which it is slow.
    pub max_queue: usize,
    /// Fate of messages for a slow client.
    pub slow: SlowClient,
    /// Maximum of messages that a client may send in a second; `None` is no limit.
    pub max_rate: Option<usize>,
    /// Maximum of topics of a client.
    pub max_topics: usize,
    /// Silence of a client after which it is asked whether it is there; `None` is
    /// never.
    pub ping: Option<Duration>,
    /// Time for its answer.
    pub ping_timeout: Duration,
    /// Compression of messages.
    pub compression: MessageCompression,
    /// Origins of pages that may connect, besides those of this host.
    pub origins: Vec<Origin>,
}

impl Default for WebSocketLimits {
    fn default() -> Self {
        Self {
            max_message: 1 << 20,
            max_frame: 1 << 20,
            max_queue: 1 << 20,
            slow: SlowClient::Wait,
            max_rate: None,
            max_topics: 64,
            ping: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(20),
            compression: MessageCompression::Off,
            origins: Vec::new(),
        }
    }
}

/// Fate of messages for a client that is slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowClient {
    /// They are queued, up to `--max-write-buffer`.
    #[default]
    Wait,
    /// They are dropped.
    Drop,
    /// The connection ends.
    Close,
}

/// Compression of messages: RFC 7692.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageCompression {
    /// None.
    #[default]
    Off,
    /// Each message by itself, with the compressors of a thread.
    Shared,
    /// With a window over the messages of a connection, which takes some 300 KiB.
    Dedicated,
}

/// Origins of pages (RFC 6454) that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All.
    Any,
    /// This one, in lower case.
    Exactly(String),
}

/// A word is not one of those that a setting has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WebSocketError(&'static str);

impl FromStr for SlowClient {
    type Err = WebSocketError;

    fn from_str(text: &str) -> Result<Self, WebSocketError> {
        match text {
            "wait" => Ok(Self::Wait),
            "drop" => Ok(Self::Drop),
            "close" => Ok(Self::Close),
            _ => Err(WebSocketError("it is wait, drop or close")),
        }
    }
}

impl FromStr for MessageCompression {
    type Err = WebSocketError;

    fn from_str(text: &str) -> Result<Self, WebSocketError> {
        match text {
            "off" => Ok(Self::Off),
            "shared" => Ok(Self::Shared),
            "dedicated" => Ok(Self::Dedicated),
            _ => Err(WebSocketError("it is off, shared or dedicated")),
        }
    }
}

impl FromStr for Origin {
    type Err = WebSocketError;

    fn from_str(text: &str) -> Result<Self, WebSocketError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let rest = text.split_once("://").map(|(_, rest)| rest);
        match rest {
            Some(rest) if !rest.is_empty() && !rest.contains(['/', ' ', '*']) => {
                Ok(Self::Exactly(text.to_ascii_lowercase()))
            }
            _ => Err(WebSocketError(
                "it is * or an origin, such as https://example.org or http://localhost:3000",
            )),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exactly(origin) => f.write_str(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_no_path() {
        assert_eq!("*".parse(), Ok(Origin::Any));
        let origin = Origin::Exactly("https://example.org:8443".into());
        assert_eq!("https://Example.org:8443".parse(), Ok(origin));
        for wrong in ["", "example.org", "https://", "https://a/", "https://*.a"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
