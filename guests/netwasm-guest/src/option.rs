//! Options of sockets.

use std::time::Duration;

/// An option of a connection's or a datagram socket, to be set by
/// `set_option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// Sends small pieces at once, without waiting for the acknowledgement of
    /// earlier ones (`TCP_NODELAY`). The host turns it on for all connections.
    NoDelay(bool),
    /// Probes a silent peer (`SO_KEEPALIVE`); `None` does not. The host begins
    /// with `--tcp-keepalive`.
    KeepAlive(Option<KeepAlive>),
    /// The size of the kernel's receive buffer in bytes (`SO_RCVBUF`).
    ReceiveBufferSize(u32),
    /// The size of the kernel's send buffer in bytes (`SO_SNDBUF`).
    SendBufferSize(u32),
    /// The number of routers that a packet may pass, at least 1 (`IP_TTL`,
    /// `IPV6_UNICAST_HOPS`).
    HopLimit(u8),
    /// The traffic class of packets, DSCP in its upper six bits (`IP_TOS`,
    /// `IPV6_TCLASS`; RFC 2474).
    TrafficClass(u8),
}

/// When the kernel asks a silent peer whether it is still there (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe, rounded up to seconds (`TCP_KEEPIDLE`).
    pub idle: Duration,
    /// Time between two probes (`TCP_KEEPINTVL`). `None` leaves it as it is.
    pub interval: Option<Duration>,
    /// Unanswered probes after which the connection is lost (`TCP_KEEPCNT`).
    /// `None` leaves it as it is.
    pub count: Option<u32>,
}

impl KeepAlive {
    /// Probes after this silence. The rest is left as it is.
    pub const fn after(idle: Duration) -> Self {
        Self {
            idle,
            interval: None,
            count: None,
        }
    }
}
