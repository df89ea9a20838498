//! Errors of a configuration.

use std::path::PathBuf;

use crate::config::route::Route;
use crate::listen::{ListenAddress, ListenerConfig};

/// Reason why a configuration cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is nothing to listen on, and the component is not a program. That
    /// is known once the component is read. The value is the flags of listeners
    /// that drive it.
    #[error(
        "nothing to listen on: give {0} with PORT (of localhost), IP:PORT, [IPV6]:PORT or unix:PATH"
    )]
    NoListener(String),
    /// `--isolation request` for a listener that has no requests.
    #[error("--isolation request is for --http and --https: {0} has connections, not requests")]
    NoRequests(&'static str),
    /// `--isolation request` for a component that does not support it.
    #[error(
        "--isolation request is for components that export wasi:http/incoming-handler or \
         wasi:http/handler: all others take connection or worker"
    )]
    NotOfRequests,
    /// Datagrams over a Unix socket.
    #[error("--udp cannot use a Unix socket: write --tcp unix:{}", .0.display())]
    UdpOverUnix(PathBuf),
    /// Rights of a socket that has no file.
    #[error(
        "--unix-mode, --unix-owner and --unix-group are for a file, and unix:{} is an abstract name \
         without one: whoever is in its network namespace may connect", .0.display()
    )]
    NoRights(PathBuf),
    /// Two listeners have one address.
    #[error("two listeners have the address {0}: give each its own")]
    Twice(ListenAddress),
    /// Listeners of two services have one address.
    #[error(
        "{} {} is an address of the service '{other}', too: give each its own",
        .listener.kind.flag(), .listener.address
    )]
    OtherServices {
        /// The listener.
        listener: ListenerConfig,
        /// The other service's name.
        other: String,
    },
    /// Services on one listener differ in a setting of its connections.
    #[error(
        "{what} differs from that of the service '{other}' on the same listener: give both the \
         same, or each its own listener"
    )]
    SharedListenerDiffers {
        /// The flag.
        what: &'static str,
        /// The other service's name.
        other: String,
    },
    /// Two services on one listener have one route.
    #[error("the --route {route} is one of the service '{other}', too, on the same listener")]
    RouteTwice {
        /// The route.
        route: Route,
        /// The other service's name.
        other: String,
    },
    /// Routes without an HTTP listener.
    #[error("--route is for HTTP requests, and there is neither --http nor --https")]
    NothingToRoute,
    /// The admin interface would be reachable from other machines.
    #[error(
        "--admin {0} is not confined to this machine: write PORT, an address of loopback, or \
         unix:PATH"
    )]
    AdminInPublic(ListenAddress),
    /// Probes over a socket that is its owner's alone.
    #[error(
        "--probes {0} would be this user's alone, and others are to ask there: write PORT, \
         IP:PORT or [IPV6]:PORT, or ask --admin {0}"
    )]
    ProbesOverUnix(ListenAddress),
    /// TLS without a certificate.
    #[error(
        "{} {} needs --cert FILE and --key FILE (for a test: certs/cert.pem and certs/key.pem)",
        .0.kind.flag(), .0.address
    )]
    NoCertificate(ListenerConfig),
    /// An access log without an HTTP listener.
    #[error("--access-log is for HTTP requests, and there is neither --http nor --https")]
    NothingToLog,
    /// A protocol's name is empty, or longer than a length byte can express.
    #[error("--alpn takes a name of 1 to 255 bytes, and this has {0}")]
    Alpn(usize),
    /// All cipher suites belong to a version that is off.
    #[error("--tls-ciphers has only suites of TLS 1.2, which --tls-min-version 1.3 turns off")]
    CiphersOff,
    /// Two directories have one path in the guest.
    #[error("two --dir have the path {0} in the guest: give each its own")]
    DirectoryTwice(String),
    /// Two containers have one name.
    #[error("two --blobstore have the name {0}: give each its own")]
    ContainerTwice(String),
    /// Two groups have one name.
    #[error("two --upstream have the name {0}: give each its own, and the servers to one")]
    UpstreamTwice(String),
    /// Two buckets have one name.
    #[error("two --keyvalue have the name {0}: give each its own")]
    BucketTwice(String),
    /// A limit is zero.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// A time-out is too long.
    #[error("{0} takes at most 365 days, or 0 for no limit")]
    TooLong(&'static str),
    /// The memory limit is less than a page, or more than 32-bit memory can
    /// have.
    #[error("--max-memory takes 64KiB, a page of WebAssembly, to 4GiB, and this is {0} bytes")]
    Memory(usize),
    /// Too little for state that instances share.
    #[error("--max-shared takes at least 64KiB, and this is {0} bytes")]
    Shared(usize),
    /// The limit of a head is more than a head needs.
    #[error("--max-head takes at most 16MiB, and this is {0} bytes")]
    Head(usize),
    /// More than a head has.
    #[error("--max-response-headers takes at most 10000, and this is {0}")]
    ResponseHeaders(usize),
    /// The low watermark is above the high one.
    #[error("--write-low ({low} bytes) must not be above --write-high ({high} bytes)")]
    Watermarks {
        /// `--write-low`.
        low: usize,
        /// `--write-high`.
        high: usize,
    },
    /// The high watermark is above the maximum of the queue.
    #[error("--write-high ({high} bytes) must not be above --max-write-buffer ({max} bytes)")]
    WriteBuffer {
        /// `--write-high`.
        high: usize,
        /// `--max-write-buffer`.
        max: usize,
    },
}
