//! The works that servers are given: what each measures, and of whom.

mod list;
mod sample;
mod turn;

use std::fmt;

use crate::peers::{Peer, Service};
use crate::site::Resource;

pub(crate) use self::list::all;
pub(crate) use self::sample::{Beside, Done, Outcome, Sample};
pub(crate) use self::turn::{BULK, Plan};

/// A work that netwasm and its peers can both do.
pub(crate) struct Work {
    /// Name that `--filter` matches.
    pub(crate) name: &'static str,
    kind: Kind,
    /// Ways in which netwasm does the work: a row of the table each.
    pub(crate) rows: Vec<Row>,
    /// Servers that netwasm is compared with.
    peers: Vec<Peer>,
}

/// A row of the table.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) peer: Peer,
    /// `None` if no other server does this work.
    pub(crate) rival: Option<Rival>,
    pub(crate) target: Target,
}

/// The server that netwasm is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    /// The variant of the tokio program with the least cost, or that of a crate.
    Native,
    /// wasmtime's own command with the same program.
    Wasmtime,
    /// wasmtime's own server, with this reuse and the same component.
    Serve(Peer),
    /// Another guest in netwasm.
    Guest(Peer),
    Nginx,
    Bun,
    /// That script in the machine's own Python.
    Python,
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Wasmtime | Self::Serve(_) => "wasmtime",
            Self::Guest(_) => "netwasm",
            Self::Nginx => "nginx",
            Self::Bun => "Bun",
            Self::Python => "CPython",
        })
    }
}

/// The aim for a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// A ratio of costs of at least this: the rival's by ours.
    Ratio(f64),
    /// A ratio of rates of at least this: ours by the rival's.
    Rate(f64),
    /// A cost of at most this.
    Cost(f64),
    /// No aim.
    Report,
}

/// Kind of a work, which decides what is measured.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Echo {
        connections: usize,
        size: usize,
    },
    /// One connection that sends small messages beside idle ones.
    Among {
        idle: usize,
    },
    Bulk {
        connections: usize,
    },
    Proxy {
        connections: usize,
    },
    Tls {
        connections: usize,
        size: usize,
    },
    Udp {
        sockets: usize,
        window: usize,
        size: usize,
    },
    Http {
        secure: bool,
        connections: usize,
        resource: Resource,
    },
    /// HTTP requests that the server forwards to another server.
    Forward {
        secure: bool,
        connections: usize,
        resource: Resource,
    },
    /// HTTP/2 requests that the server forwards to another server, in HTTP/1.1.
    ForwardHttp2 {
        connections: usize,
        streams: usize,
    },
    /// Connections of HTTP that do nothing after a request that was forwarded.
    IdleForward {
        connections: usize,
    },
    /// The page in HTTP/2.
    Http2 {
        connections: usize,
        streams: usize,
    },
    /// WebSocket connections.
    WebSocket(Talk),
    /// Fast requests beside a tenth that times out.
    Latency {
        connections: usize,
    },
    Connections {
        at_once: usize,
        size: usize,
    },
    /// Small requests beside bulk connections, for each number of [`BULK`].
    Beside(Carried),
    /// Small requests beside a connection whose requests each take the guest
    /// [`turn::CALL`] milliseconds.
    BesideCalls,
    /// An operation on a bucket of keys and values, again and again.
    Bucket {
        operation: &'static str,
    },
    /// Lookups of one name, again and again.
    Resolve,
    /// Connections to one TLS server, again and again.
    Resume,
    Idle {
        connections: usize,
    },
    Start,
    /// A reload with another component, of which the code is cached.
    Reload,
    /// Resident memory at most, after a start.
    StartMemory,
}

/// The traffic of the connections.
#[derive(Clone, Copy, Debug)]
enum Talk {
    Echo {
        connections: usize,
        size: usize,
    },
    /// Texts of JSON that both sides compress.
    Packed {
        connections: usize,
    },
    /// Bursts of lines that all get.
    Publish {
        subscribers: usize,
        lines: usize,
    },
    /// Nothing.
    Idle {
        connections: usize,
    },
}

impl Talk {
    fn service(self) -> Service {
        match self {
            Self::Echo { .. } | Self::Idle { .. } => Service::WebSocket,
            Self::Packed { .. } => Service::PackedWebSocket,
            Self::Publish { .. } => Service::Topics,
        }
    }
}

/// Traffic of bulk connections while small requests are made.
#[derive(Clone, Copy, Debug)]
enum Carried {
    /// Data that is sent to the server and comes back.
    Echo,
    Proxy,
    Tls,
    Datagrams,
    Http {
        secure: bool,
    },
    Http2,
}

/// Unit of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds of CPU time per operation.
    CpuTime,
    /// Seconds.
    Time,
    /// Bytes per connection.
    Memory,
    /// See [`Beside`].
    Beside,
}

impl Work {
    /// Returns the unit of a sample's cost.
    pub(crate) fn unit(&self) -> Unit {
        match self.kind {
            Kind::Idle { .. }
            | Kind::IdleForward { .. }
            | Kind::WebSocket(Talk::Idle { .. })
            | Kind::StartMemory => Unit::Memory,
            Kind::Beside(_) | Kind::BesideCalls => Unit::Beside,
            Kind::Start | Kind::Reload | Kind::Latency { .. } => Unit::Time,
            _ => Unit::CpuTime,
        }
    }

    fn service(&self, peer: Peer) -> Service {
        match self.kind {
            Kind::Bucket { .. } if matches!(peer, Peer::Handler { .. }) => Service::Http,
            Kind::Proxy { .. } | Kind::Beside(Carried::Proxy) => Service::Proxy,
            Kind::Beside(Carried::Tls) => Service::Tls,
            Kind::Beside(Carried::Datagrams) => Service::Udp,
            Kind::Beside(Carried::Http { secure: false }) | Kind::BesideCalls => Service::Http,
            Kind::Beside(Carried::Http { secure: true }) => Service::Https,
            Kind::Beside(Carried::Http2) => Service::Http2,
            Kind::Forward { secure: false, .. } | Kind::IdleForward { .. } => Service::Forward,
            Kind::Forward { secure: true, .. } => Service::ForwardHttps,
            Kind::ForwardHttp2 { .. } => Service::ForwardHttp2,
            Kind::Tls { .. } => Service::Tls,
            Kind::Udp { .. } => Service::Udp,
            Kind::Http { secure: false, .. } | Kind::Latency { .. } | Kind::Reload => Service::Http,
            Kind::Http { secure: true, .. } => Service::Https,
            Kind::Resolve => Service::Resolver,
            Kind::Resume => Service::TlsClient,
            Kind::Http2 { .. } => Service::Http2,
            Kind::WebSocket(talk) => talk.service(),
            _ => Service::Tcp,
        }
    }
}
