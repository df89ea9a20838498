//! Reasons to end a connection: RFC 6455, section 7.4.

/// The client goes away.
pub(in crate::websocket) const GOING_AWAY: u16 = 1001;

/// The frame breaks a rule.
const PROTOCOL: u16 = 1002;

/// A close frame without a code.
pub(in crate::websocket) const NO_STATUS: u16 = 1005;

/// The data is not what it is said to be.
const INVALID: u16 = 1007;

/// The client breaks a rule of this server.
pub(in crate::websocket) const POLICY: u16 = 1008;

/// The message is too large.
const TOO_BIG: u16 = 1009;

/// The server cannot go on.
pub(in crate::websocket) const INTERNAL: u16 = 1011;

/// The service restarts, and the client may connect again.
pub(in crate::websocket) const RESTART: u16 = 1012;

/// Why the host ends a connection: the code and the reason of its close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub(in crate::websocket) struct Fault {
    pub(in crate::websocket) code: u16,
    pub(in crate::websocket) reason: &'static str,
}

impl Fault {
    pub(in crate::websocket) const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// Returns the fault of a client that breaks a rule of the protocol.
    pub(in crate::websocket) const fn protocol(reason: &'static str) -> Self {
        Self::new(PROTOCOL, reason)
    }

    /// Returns the fault of a client whose data is not what it is said to be.
    pub(in crate::websocket) const fn invalid(reason: &'static str) -> Self {
        Self::new(INVALID, reason)
    }

    /// Returns the fault of a client that sends more than a limit allows.
    pub(in crate::websocket) const fn too_big(reason: &'static str) -> Self {
        Self::new(TOO_BIG, reason)
    }
}
