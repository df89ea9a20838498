//! Topics: limits of streams of events, and the server that joins processes.

use std::str::FromStr;
use std::time::Duration;

use crate::config::keyvalue::{KeyvalueError, RedisUrl, redis};

/// A server that joins the topics of several processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsServer(pub RedisUrl);

/// Parses `redis://[USER:PASSWORD@]HOST[:PORT][?prefix=TEXT]`, and `rediss` for TLS.
impl FromStr for TopicsServer {
    type Err = KeyvalueError;

    fn from_str(text: &str) -> Result<Self, KeyvalueError> {
        match text.split_once(':') {
            Some(("redis", rest)) => Ok(Self(redis(rest, false)?)),
            Some(("rediss", rest)) => Ok(Self(redis(rest, true)?)),
            _ => Err(KeyvalueError::Redis),
        }
    }
}

/// Limits of streams of events (Server-Sent Events). No limit is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Maximum of a topic's messages that are kept for readers that come again.
    pub kept: usize,
    /// Maximum of their bytes.
    pub kept_size: usize,
    /// Time for which they are kept once the topic has no subscribers.
    pub kept_time: Duration,
    /// Silence after which a comment is sent, so that nobody between takes the
    /// connection for dead; `None` is never.
    pub heartbeat: Option<Duration>,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            kept: 256,
            kept_size: 256 << 10,
            kept_time: Duration::from_secs(60),
            heartbeat: Some(Duration::from_secs(15)),
        }
    }
}
