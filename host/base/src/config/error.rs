//! Why a configuration cannot be run.

use std::path::PathBuf;

use crate::listen::{ListenAddress, ListenerConfig};

/// Why a configuration cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to listen on, and the component is no command: that
    /// is known when it was read.
    #[error(
        "nothing to listen on: give --tcp, --tls, --udp, --http or --https with PORT (of \
         localhost), IP:PORT, [IPV6]:PORT or, not for --udp, unix:PATH"
    )]
    NoListener,
    /// An instance for each request, where there are none.
    #[error("--isolation request is for --http and --https: {0} has connections, not requests")]
    NoRequests(&'static str),
    /// The same for a component that is not made for it.
    #[error(
        "--isolation request is for components that export wasi:http/incoming-handler or \
         wasi:http/handler: all others take connection or worker"
    )]
    NotOfRequests,
    /// Datagrams over a Unix socket.
    #[error("--udp cannot use a Unix socket: write --tcp unix:{}", .0.display())]
    UdpOverUnix(PathBuf),
    /// Two listeners have one address.
    #[error("two listeners have the address {0}: give each its own")]
    Twice(ListenAddress),
    /// TLS without a certificate.
    #[error(
        "{} {} needs --cert FILE and --key FILE (for a test: certs/cert.pem and certs/key.pem)",
        .0.kind.flag(), .0.address
    )]
    NoCertificate(ListenerConfig),
    /// An access log where nothing speaks HTTP.
    #[error("--access-log is of HTTP requests, and there is neither --http nor --https")]
    NothingToLog,
    /// A protocol's name has no byte, or more than a length byte can say.
    #[error("--alpn takes a name of 1 to 255 bytes, and this has {0}")]
    Alpn(usize),
    /// Two directories have one path in the guest.
    #[error("two --dir have the path {0} in the guest: give each its own")]
    DirectoryTwice(String),
    /// A limit is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A time is longer than anybody waits.
    #[error("{0} takes at most 365 days, or 0 for no limit")]
    TooLong(&'static str),
    /// More or less memory than there can be.
    #[error("--max-memory takes 64KiB, a page of WebAssembly, to 4GiB, and this is {0} bytes")]
    Memory(usize),
    /// More than a head needs.
    #[error("--max-head takes at most 16MiB, and this is {0} bytes")]
    Head(usize),
    /// The low watermark is above the high one.
    #[error("--write-low ({low} bytes) must not be above --write-high ({high} bytes)")]
    Watermarks {
        /// `--write-low`.
        low: usize,
        /// `--write-high`.
        high: usize,
    },
    /// The high watermark is above what may be queued.
    #[error("--write-high ({high} bytes) must not be above --max-write-buffer ({max} bytes)")]
    WriteBuffer {
        /// `--write-high`.
        high: usize,
        /// `--max-write-buffer`.
        max: usize,
    },
}
