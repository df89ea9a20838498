//! Limits and deadlines, and what they may be.

use std::time::Duration;

use crate::descriptors;

use crate::config::error::ConfigError;

/// A page of WebAssembly, bytes: less memory is none.
const PAGE: usize = 64 << 10;

/// The end of 32-bit memory, bytes.
const MAX_MEMORY: usize = 4 << 30;

/// The largest head of a request that may be allowed, bytes: it is kept whole,
/// and looked at again when more of it comes.
const MAX_HEAD: usize = 16 << 20;

/// A time-out that never comes. It is a time like others, so that whoever waits
/// needs no case for it: longer than a process lives, and short enough for all
/// clocks.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The longest time-out but for [`NEVER`]: clocks overflow if they are asked for
/// centuries.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Limits and deadlines. None is zero; a deadline may be [`NEVER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Accepted connections at once; beyond it the backlog waits.
    pub max_connections: usize,
    /// True if that number was asked for: then it is an error if so many do not
    /// fit, and not a reason for fewer.
    pub connections_given: bool,
    /// Outgoing connections at once, in use and kept; beyond it connecting fails.
    pub max_outgoing: usize,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: i32,
    /// Linear memory of an instance, bytes.
    pub max_memory: usize,
    /// How long one event may take in the guest.
    pub event_timeout: Duration,
    /// How long a connection may be without a byte in either direction;
    /// `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may be without a byte in either direction after the
    /// peer has ended its sending side; `None` is for ever.
    pub half_close_timeout: Option<Duration>,
    /// How long a TCP connection may be silent before the kernel asks whether the
    /// peer is still there; `None` is never.
    pub tcp_keepalive: Option<Duration>,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a peer may take nothing of what is queued for it.
    pub write_timeout: Duration,
    /// The high watermark of a connection's queue, bytes.
    pub write_high: usize,
    /// The low watermark, bytes.
    pub write_low: usize,
    /// How much may be queued for a connection at all, bytes.
    pub max_write_buffer: usize,
    /// Handles of each kind that an instance may hold at once, besides its
    /// accepted connections: timers, questions, pending connects, files.
    pub max_handles: usize,
    /// How long an instance that awaits may go on after its last response, or
    /// after the end of its connection.
    pub background_timeout: Duration,
    /// How many instances may do so at once.
    pub max_background: usize,
    /// How long to wait for connections to end at shutdown.
    pub shutdown_timeout: Duration,
    /// The largest component that is read, bytes.
    pub max_component_size: u64,
    /// How long compiling it may take.
    pub compile_timeout: Duration,
    /// What an HTTP client may send, and how slowly.
    pub http: HttpLimits,
}

/// Limits and deadlines of HTTP requests. None is zero; a deadline may be
/// [`NEVER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// The head of a request, bytes.
    pub max_head: usize,
    /// The first line of it, bytes.
    pub max_request_line: usize,
    /// Lines of headers.
    pub max_headers: usize,
    /// The body of a request, bytes.
    pub max_body: usize,
    /// How long a client may take to send a head, from its first byte or, for
    /// a connection's first request, from when the connection was made.
    pub head_timeout: Duration,
    /// How long a client may send nothing of a body.
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How long a guest that awaits may take to begin its response, since it
    /// got what came last of the request, and to tell its trailers once its
    /// body is over.
    pub response_timeout: Duration,
    /// How long it may make nothing of a response that it has begun.
    pub response_body_timeout: Duration,
    /// How many requests an instance answers that awaits, before another one
    /// takes its place.
    pub max_instance_reuse: usize,
    /// How many of them at once.
    pub max_instance_concurrency: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_head: 32 << 10,
            max_request_line: 8 << 10,
            max_headers: 100,
            max_body: 1 << 20,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(60),
            response_body_timeout: Duration::from_secs(600),
            max_instance_reuse: 128,
            max_instance_concurrency: 16,
        }
    }
}

impl Limits {
    /// Checks that none is zero, and what they must have in common.
    ///
    /// # Errors
    /// The first one that is wrong, by its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("--max-connections", self.max_connections),
            ("--max-outgoing", self.max_outgoing),
            ("--max-background", self.max_background),
            ("--backlog", usize::try_from(self.backlog).unwrap_or(0)),
            ("--write-high", self.write_high),
            ("--write-low", self.write_low),
            ("--max-write-buffer", self.max_write_buffer),
            ("--max-handles", self.max_handles),
            ("--max-head", self.http.max_head),
            ("--max-request-line", self.http.max_request_line),
            ("--max-headers", self.http.max_headers),
            ("--max-body", self.http.max_body),
            ("--max-instance-reuse-count", self.http.max_instance_reuse),
            (
                "--max-instance-concurrent-reuse-count",
                self.http.max_instance_concurrency,
            ),
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
            ("--tcp-keepalive", self.tcp_keepalive),
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
        ];
        for (flag, time) in times {
            check_time(flag, time)?;
        }
        if !(PAGE..=MAX_MEMORY).contains(&self.max_memory) {
            return Err(ConfigError::Memory(self.max_memory));
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
            tcp_keepalive: Some(Duration::from_secs(60)),
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            write_high: 64 << 10,
            write_low: 16 << 10,
            max_write_buffer: 16 << 20,
            max_handles: 1024,
            background_timeout: Duration::from_secs(60),
            max_background: 256,
            shutdown_timeout: Duration::from_secs(30),
            max_component_size: 64 << 20,
            compile_timeout: Duration::from_secs(60),
            http: HttpLimits::default(),
        }
    }
}

/// Checks a time-out.
///
/// # Errors
/// It is zero, or centuries.
pub(super) fn check_time(flag: &'static str, time: Option<Duration>) -> Result<(), ConfigError> {
    match time {
        Some(Duration::ZERO) => Err(ConfigError::Zero(flag)),
        Some(time) if time > MAX_TIMEOUT && time != NEVER => Err(ConfigError::TooLong(flag)),
        _ => Ok(()),
    }
}
