//! The flags of WebSocket connections.

use std::time::Duration;

use clap::Args;

use netwasm_base::config::{MessageCompression, Origin, SlowClient, WebSocketLimits};

use super::values::{TimeOrNone, count, size, time, time_or_none};

#[derive(Args, Debug)]
#[command(next_help_heading = "WebSocket")]
pub(super) struct WebSocketFlags {
    /// Let pages of this origin connect, as SCHEME://HOST:PORT, or * for all; repeatable.
    /// Those of the same host always may
    #[arg(long, value_name = "ORIGIN", hide_short_help = true)]
    websocket_origin: Vec<Origin>,
    /// Largest message of a client, decompressed
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    #[arg(hide_short_help = true)]
    max_websocket_message: usize,
    /// Largest frame of a client
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    #[arg(hide_short_help = true)]
    max_websocket_frame: usize,
    /// Messages that a client may send per second [default: no limit]
    #[arg(long, value_name = "N", value_parser = count, hide_short_help = true)]
    max_websocket_rate: Option<usize>,
    /// Topics that a client may be subscribed to
    #[arg(long, value_name = "N", value_parser = count, default_value = "64")]
    #[arg(hide_short_help = true)]
    max_websocket_topics: usize,
    /// Bytes queued for a client beyond which it is slow
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    #[arg(hide_short_help = true)]
    max_websocket_queue: usize,
    /// Let messages for a slow client wait, up to --max-write-buffer, drop them, or close it
    #[arg(long, value_name = "wait|drop|close", default_value = "wait")]
    #[arg(hide_short_help = true)]
    websocket_slow: SlowClient,
    /// Ping clients that are silent for this long
    #[arg(long, value_name = "TIME", value_parser = time_or_none, default_value = "30s")]
    #[arg(hide_short_help = true)]
    websocket_ping: TimeOrNone,
    /// How long their answer may take
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "20s")]
    #[arg(hide_short_help = true)]
    websocket_ping_timeout: Duration,
    /// Compress messages: each by itself, or with a window over those of a connection
    #[arg(long, value_name = "off|shared|dedicated", default_value = "off")]
    #[arg(hide_short_help = true)]
    websocket_compression: MessageCompression,
}

impl WebSocketFlags {
    pub(super) fn into_limits(self) -> WebSocketLimits {
        WebSocketLimits {
            max_message: self.max_websocket_message,
            max_frame: self.max_websocket_frame,
            max_queue: self.max_websocket_queue,
            slow: self.websocket_slow,
            max_rate: self.max_websocket_rate,
            max_topics: self.max_websocket_topics,
            ping: self.websocket_ping.0,
            ping_timeout: self.websocket_ping_timeout,
            compression: self.websocket_compression,
            origins: self.websocket_origin,
        }
    }
}
