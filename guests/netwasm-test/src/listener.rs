//! Kinds of listeners.

/// Kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Tcp,
    Tls,
    Udp,
    Unix,
    Http,
    Https,
}

impl Listener {
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// Returns the beginning of the listener's URL.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Self::Tcp => "tcp://",
            Self::Tls => "tls://",
            Self::Udp => "udp://",
            Self::Unix => "unix:",
            Self::Http => "http://",
            Self::Https => "https://",
        }
    }

    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Tcp | Self::Unix => "--tcp",
            Self::Tls => "--tls",
            Self::Udp => "--udp",
            Self::Http => "--http",
            Self::Https => "--https",
        }
    }

    /// Returns the method that adds the listener.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Tcp => ".tcp()",
            Self::Tls => ".tls()",
            Self::Udp => ".udp()",
            Self::Unix => ".unix()",
            Self::Http => ".http()",
            Self::Https => ".https()",
        }
    }
}
