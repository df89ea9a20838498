//! Limits and deadlines, and their ranges.

use std::time::Duration;

use crate::descriptors;

use crate::config::error::ConfigError;
use crate::config::topics::EventLimits;
use crate::config::websocket::WebSocketLimits;

/// Page size of WebAssembly, in bytes: the least memory that is any use.
const PAGE: usize = 64 << 10;

/// Maximum of 32-bit memory, in bytes.
const MAX_MEMORY: usize = 4 << 30;

/// Minimum of `--max-shared`, in bytes: room for a hundred rate limits and as
/// many small values.
const LEAST_SHARED: usize = 64 << 10;

/// Maximum of `--max-head`, in bytes. A head is kept whole, and scanned again
/// whenever more of it arrives.
const MAX_HEAD: usize = 16 << 20;

/// Maximum of `--max-response-headers`: a map of headers has an end, and no head
/// has that many.
const MAX_RESPONSE_HEADERS: usize = 10_000;

/// Time-out that never comes. It is a time like others, so that waiting needs no
/// case for it: longer than a process lives, and short enough for all clocks.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Longest time-out except [`NEVER`]: clocks overflow if they are asked for
/// centuries.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Limits and deadlines. None is zero; a deadline may be [`NEVER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum of accepted connections; beyond it new ones wait in the backlog.
    pub max_connections: usize,
    /// True if that number was given. If so many do not fit, that is then an
    /// error rather than a reason for fewer.
    pub connections_given: bool,
    /// Maximum of outgoing connections, in use and kept; beyond it connecting
    /// fails.
    pub max_outgoing: usize,
    /// Length of the backlog: connections that the kernel keeps until they are
    /// accepted.
    pub backlog: i32,
    /// Maximum of an instance's linear memory, in bytes.
    pub max_memory: usize,
    /// Time that the guest may compute for one event, by the clock of its thread.
    pub event_timeout: Duration,
    /// Maximum time without a byte in either direction; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// Maximum time without a byte in either direction after the peer has ended
    /// its sending side; `None` is for ever.
    pub half_close_timeout: Option<Duration>,
    /// Options of TCP connections, accepted and outgoing.
    pub tcp: TcpOptions,
    /// Time limit of a TLS handshake.
    pub handshake_timeout: Duration,
    /// Maximum time for which a peer may take nothing of its queue.
    pub write_timeout: Duration,
    /// High watermark of a connection's queue, in bytes.
    pub write_high: usize,
    /// Low watermark, in bytes.
    pub write_low: usize,
    /// Maximum of bytes queued for a connection.
    pub max_write_buffer: usize,
    /// Maximum of handles of each kind that an instance may hold, besides its
    /// accepted connections: timers, DNS look-ups, pending connects, files.
    pub max_handles: usize,
    /// Time for which an async instance may go on after its last response, or
    /// after the end of its connection.
    pub background_timeout: Duration,
    /// Maximum of instances that go on like that.
    pub max_background: usize,
    /// Maximum of values of the metrics that a service's guest makes.
    pub max_metrics: usize,
    /// Maximum size of the state that a service's instances share, in bytes.
    pub max_shared: usize,
    /// Maximum size of a service's buckets of keys and values in memory, all
    /// together, in bytes.
    pub max_keyvalue: usize,
    /// Time to wait for connections to end at graceful shutdown.
    pub shutdown_timeout: Duration,
    /// Maximum size of a component, in bytes.
    pub max_component_size: u64,
    /// Time limit of compiling a component.
    pub compile_timeout: Duration,
    /// Limits and deadlines of HTTP requests.
    pub http: HttpLimits,
}

/// Options of TCP connections: tcp(7), socket(7). `None` leaves what the system
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// `SO_KEEPALIVE`: silence before the kernel probes the peer; `None` is
    /// never.
    pub keepalive: Option<Duration>,
    /// `TCP_USER_TIMEOUT`: time for which sent data may stay unacknowledged
    /// before the kernel ends the connection.
    pub user_timeout: Option<Duration>,
    /// `SO_RCVBUF` in bytes.
    pub receive_buffer: Option<usize>,
    /// `SO_SNDBUF` in bytes.
    pub send_buffer: Option<usize>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(60)),
            user_timeout: None,
            receive_buffer: None,
            send_buffer: None,
        }
    }
}

/// Limits and deadlines of HTTP requests. None is zero; a deadline may be
/// [`NEVER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Maximum size of a request's head, in bytes.
    pub max_head: usize,
    /// Maximum size of its first line, in bytes.
    pub max_request_line: usize,
    /// Maximum number of header lines.
    pub max_headers: usize,
    /// Maximum number of header lines of a response to a guest's own request.
    pub max_response_headers: usize,
    /// Maximum size of a request's body, in bytes.
    pub max_body: usize,
    /// Time limit for a client to send a head, from its first byte. For a
    /// connection's first request, the time starts when the connection is made.
    pub head_timeout: Duration,
    /// Maximum time for which a client may send nothing of a body, or of a WebSocket
    /// message that it began.
    pub body_timeout: Duration,
    /// Maximum idle time between requests of a connection (keep-alive).
    pub keep_alive_timeout: Duration,
    /// Time limit for a guest to begin its response, counted from the
    /// last part of the request that it got. Also for its trailers, once its
    /// body is over.
    pub response_timeout: Duration,
    /// Maximum time for which a guest may produce nothing of a response
    /// that it has begun.
    pub response_body_timeout: Duration,
    /// Number of requests that an async instance answers before another
    /// replaces it.
    pub max_instance_reuse: usize,
    /// Number of requests that an async instance answers at once.
    pub max_instance_concurrency: usize,
    /// Instances of an async component that answer requests of one connection
    /// at once; `None` is a quarter of the connections.
    pub max_connection_instances: Option<usize>,
    /// Bytes of request bodies that clients of HTTP/2 may have sent and no guest
    /// has taken, of all connections.
    pub max_unread: usize,
    /// True if clients of HTTP/1.1 get the guests' interim responses too.
    pub send_informational: bool,
    /// Limits and rules of WebSocket connections.
    pub websocket: WebSocketLimits,
    /// Limits of streams of events.
    pub events: EventLimits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_head: 32 << 10,
            max_request_line: 8 << 10,
            max_headers: 100,
            max_response_headers: 200,
            max_body: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(60),
            response_body_timeout: Duration::from_secs(600),
            max_instance_reuse: 128,
            max_instance_concurrency: 16,
            max_connection_instances: None,
            max_unread: 64 << 20,
            send_informational: false,
            websocket: WebSocketLimits::default(),
            events: EventLimits::default(),
        }
    }
}

impl HttpLimits {
    /// Instances that one connection may have at once, where there may be so
    /// many connections.
    #[must_use]
    pub fn connection_instances(&self, connections: usize) -> usize {
        self.max_connection_instances
            .unwrap_or_else(|| (connections / 4).max(1))
    }
}

impl Limits {
    /// Checks that no limit is zero, and that they go together.
    ///
    /// # Errors
    /// Fails with the first wrong limit, by its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        let websocket = &self.http.websocket;
        let counts = [
            ("--max-connections", self.max_connections),
            ("--max-outgoing", self.max_outgoing),
            ("--max-background", self.max_background),
            ("--max-metrics", self.max_metrics),
            ("--max-shared", self.max_shared),
            ("--max-keyvalue", self.max_keyvalue),
            ("--backlog", usize::try_from(self.backlog).unwrap_or(0)),
            ("--write-high", self.write_high),
            ("--write-low", self.write_low),
            ("--max-write-buffer", self.max_write_buffer),
            ("--max-handles", self.max_handles),
            ("--max-head", self.http.max_head),
            ("--max-request-line", self.http.max_request_line),
            ("--max-headers", self.http.max_headers),
            ("--max-response-headers", self.http.max_response_headers),
            ("--max-body", self.http.max_body),
            ("--max-instance-reuse-count", self.http.max_instance_reuse),
            (
                "--max-instance-concurrent-reuse-count",
                self.http.max_instance_concurrency,
            ),
            (
                "--max-connection-instances",
                self.http.max_connection_instances.unwrap_or(1),
            ),
            ("--max-unread", self.http.max_unread),
            ("--max-websocket-message", websocket.max_message),
            ("--max-websocket-frame", websocket.max_frame),
            ("--max-websocket-queue", websocket.max_queue),
            ("--max-websocket-topics", websocket.max_topics),
            ("--max-websocket-rate", websocket.max_rate.unwrap_or(1)),
            ("--events-kept", self.http.events.kept),
            ("--events-kept-size", self.http.events.kept_size),
            (
                "--max-component-size",
                usize::try_from(self.max_component_size).unwrap_or(usize::MAX),
            ),
        ];
        if let Some((flag, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero(flag));
        }
        let times = [
            ("--event-timeout", Some(self.event_timeout)),
            ("--idle-timeout", self.idle_timeout),
            ("--half-close-timeout", self.half_close_timeout),
            ("--tcp-keepalive", self.tcp.keepalive),
            ("--tcp-user-timeout", self.tcp.user_timeout),
            ("--background-timeout", Some(self.background_timeout)),
            ("--handshake-timeout", Some(self.handshake_timeout)),
            ("--write-timeout", Some(self.write_timeout)),
            ("--shutdown-timeout", Some(self.shutdown_timeout)),
            ("--compile-timeout", Some(self.compile_timeout)),
            ("--head-timeout", Some(self.http.head_timeout)),
            ("--body-timeout", Some(self.http.body_timeout)),
            ("--keep-alive-timeout", Some(self.http.keep_alive_timeout)),
            ("--response-timeout", Some(self.http.response_timeout)),
            (
                "--response-body-timeout",
                Some(self.http.response_body_timeout),
            ),
            ("--websocket-ping", websocket.ping),
            ("--websocket-ping-timeout", Some(websocket.ping_timeout)),
            ("--events-kept-time", Some(self.http.events.kept_time)),
            ("--events-heartbeat", self.http.events.heartbeat),
        ];
        for (flag, time) in times {
            check_time(flag, time)?;
        }
        if !(PAGE..=MAX_MEMORY).contains(&self.max_memory) {
            return Err(ConfigError::Memory(self.max_memory));
        }
        if self.max_shared < LEAST_SHARED {
            return Err(ConfigError::Shared(self.max_shared));
        }
        if self.write_low > self.write_high {
            return Err(ConfigError::Watermarks {
                low: self.write_low,
                high: self.write_high,
            });
        }
        if self.write_high > self.max_write_buffer {
            let (high, max) = (self.write_high, self.max_write_buffer);
            return Err(ConfigError::WriteBuffer { high, max });
        }
        if self.http.max_head > MAX_HEAD {
            return Err(ConfigError::Head(self.http.max_head));
        }
        if self.http.max_response_headers > MAX_RESPONSE_HEADERS {
            let given = self.http.max_response_headers;
            return Err(ConfigError::ResponseHeaders(given));
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: descriptors::MAX_CONNECTIONS,
            max_outgoing: descriptors::MAX_CONNECTIONS,
            connections_given: false,
            backlog: 1024,
            max_memory: 64 << 20,
            event_timeout: Duration::from_millis(100),
            idle_timeout: None,
            half_close_timeout: Some(Duration::from_secs(60)),
            tcp: TcpOptions::default(),
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            write_high: 64 << 10,
            write_low: 16 << 10,
            max_write_buffer: 16 << 20,
            max_handles: 1024,
            background_timeout: Duration::from_secs(60),
            max_background: 256,
            max_metrics: 1000,
            max_shared: 64 << 20,
            max_keyvalue: 64 << 20,
            shutdown_timeout: Duration::from_secs(30),
            max_component_size: 64 << 20,
            compile_timeout: NEVER,
            http: HttpLimits::default(),
        }
    }
}

/// Checks a time-out.
///
/// # Errors
/// Fails if the time is zero or too long.
pub(super) fn check_time(flag: &'static str, time: Option<Duration>) -> Result<(), ConfigError> {
    match time {
        Some(Duration::ZERO) => Err(ConfigError::Zero(flag)),
        Some(time) if time > MAX_TIMEOUT && time != NEVER => Err(ConfigError::TooLong(flag)),
        _ => Ok(()),
    }
}
