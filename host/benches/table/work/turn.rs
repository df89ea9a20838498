//! A server's turn: the load that a work asks for, and its measurement.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Beside, Carried, Done, Kind, Outcome, Rival, Sample, Talk, Work};
use crate::dns;
use crate::load::{
    Bulk, Calls, Connections, Datagrams, Echoes, Errands, Http, Http2, Idle, Latency, Load,
    PingPong, Publish, Small, TlsPingPong, Words, beside,
};
use crate::measure::{self, Cores};
use crate::operated;
use crate::peers::{Peer, Peers, Server, Service};
use crate::site::Resource;

/// Size of a message that goes to and fro in TLS, in bytes: no more than the
/// sockets of both ends hold.
const BLOCK: usize = 128 << 10;

/// Numbers of bulk connections, in turn.
pub(crate) const BULK: [usize; 3] = [1, 2, 8];

/// Number of requests of [`CALL`] that are sent ahead.
const CALLS: usize = 200;

/// Time that such a request takes the guest, in milliseconds.
const CALL: u32 = 20;

/// Settings for all works.
pub(crate) struct Plan {
    /// Number of turns of each server.
    pub(crate) rounds: usize,
    /// Measured time of a turn.
    pub(crate) time: Duration,
    pub(crate) cores: Cores,
    pub(crate) peers: Peers,
}

impl Plan {
    /// Gives all servers their turns. A server that fails gets no further ones.
    ///
    /// # Errors
    /// Fails if the upstream of a proxy or a client cannot be started.
    pub(crate) fn run<'a>(&self, work: &'a Work) -> anyhow::Result<Done<'a>> {
        let peers = work
            .rows
            .iter()
            .flat_map(|row| match row.rival {
                Some(Rival::Serve(peer) | Rival::Guest(peer)) => vec![row.peer, peer],
                _ => vec![row.peer],
            })
            .chain(work.peers.iter().copied());
        let mut outcomes: Vec<Outcome> = Vec::new();
        for peer in peers.filter(|&peer| self.peers.has(peer)) {
            // Rows of one server differ in the rival.
            if outcomes.iter().all(|outcome| outcome.peer != peer) {
                outcomes.push(Outcome {
                    peer,
                    samples: Vec::new(),
                    failure: None,
                });
            }
        }
        // These are short, so there can be more of them.
        let rounds = match work.kind {
            Kind::Start | Kind::Reload => 2 * self.rounds,
            _ => self.rounds,
        };
        eprintln!("{}: {} servers, {rounds} rounds", work.name, outcomes.len());
        let server = match work.kind {
            Kind::Proxy { .. } | Kind::Beside(Carried::Proxy) => Some(self.upstream(Service::Tcp)?),
            Kind::Resume => Some(self.upstream(Service::Tls)?),
            Kind::Forward { .. } | Kind::ForwardHttp2 { .. } | Kind::IdleForward { .. } => {
                Some(self.http_upstream()?)
            }
            _ => None,
        };
        let upstream = match work.kind {
            Kind::Resolve => Some(dns::serve().context("a DNS server")?),
            _ => server.as_ref().map(|server| server.address),
        };
        for _ in 0..rounds {
            for outcome in outcomes
                .iter_mut()
                .filter(|outcome| outcome.failure.is_none())
            {
                match self.turn(work, outcome.peer, upstream) {
                    Ok(sample) => outcome.samples.push(sample),
                    Err(error) => {
                        eprintln!("{}: {}: {error:#}", work.name, outcome.peer);
                        outcome.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        Ok(Done { work, outcomes })
    }

    /// Starts an echo server for proxies and clients, on the load generator's
    /// core.
    fn upstream(&self, service: Service) -> anyhow::Result<Server> {
        let cores = Cores {
            server: self.cores.load,
            ..self.cores
        };
        self.peers
            .start(Peer::Native { buffer: 64 << 10 }, service, None, cores)
    }

    /// Starts a file server for servers that forward requests, on the load
    /// generator's core.
    fn http_upstream(&self) -> anyhow::Result<Server> {
        let cores = Cores {
            server: self.cores.load,
            ..self.cores
        };
        let files = match self.peers.has(Peer::Nginx) {
            true => Peer::Nginx,
            false => Peer::Netwasm {
                guest: "static",
                isolation: "connection",
            },
        };
        self.peers.start(files, Service::Http, None, cores)
    }

    fn turn(
        &self,
        work: &Work,
        peer: Peer,
        upstream: Option<SocketAddr>,
    ) -> anyhow::Result<Sample> {
        let start = || {
            self.peers
                .start(peer, work.service(peer), upstream, self.cores)
        };
        if let Kind::Start | Kind::StartMemory = work.kind {
            // The first start fills the caches of compiled code and of files.
            drop(start()?);
        }
        let server = start()?;
        let address = server.address;
        // Kept open while the load is driven.
        let _idle = match work.kind {
            Kind::Among { idle } => Some(Idle::new(address, idle)?),
            _ => None,
        };
        let mut load: Box<dyn Load> = match work.kind {
            Kind::Start => {
                return Ok(Sample::of_cost(server.start_up.as_secs_f64()));
            }
            Kind::Reload => {
                let time = operated::reloaded(&server)?;
                return Ok(Sample::of_cost(time.as_secs_f64()));
            }
            Kind::StartMemory => {
                let most = measure::most_memory(server.pid())?;
                return Ok(Sample::of_cost(most as f64));
            }
            Kind::Idle { connections } => return idle(&server, connections, Idle::new),
            Kind::IdleForward { connections } => return idle(&server, connections, Idle::http),
            Kind::WebSocket(Talk::Idle { connections }) => {
                return idle(&server, connections, Idle::websocket);
            }
            Kind::WebSocket(Talk::Echo { connections, size }) => {
                Box::new(Echoes::new(address, connections, size)?)
            }
            Kind::WebSocket(Talk::Packed { connections }) => {
                Box::new(Echoes::packed(address, connections)?)
            }
            Kind::WebSocket(Talk::Publish { subscribers, lines }) => {
                Box::new(Publish::new(address, subscribers, lines)?)
            }
            Kind::Latency { connections } => return latency(&server, connections, self.time),
            Kind::Beside(carried) => {
                return BULK
                    .into_iter()
                    .map(|connections| {
                        let mut bulk = carried.bulk(peer, address, connections)?;
                        let mut small = carried.small(peer, address)?;
                        self.beside(bulk.as_mut(), &mut small, connections)
                    })
                    .collect::<anyhow::Result<_>>()
                    .map(Sample::of_beside);
            }
            Kind::BesideCalls => {
                let (path, page) = match peer {
                    Peer::Handler { .. } => (format!("/busy?{CALL}"), Resource::Hello),
                    _ => (format!("/busy?ms={CALL}"), Resource::Done),
                };
                let mut calls = Calls::new(address, &path, CALLS)?;
                let mut small = Small::http(address, false, page)?;
                return self
                    .beside(&mut calls, &mut small, 1)
                    .map(|it| Sample::of_beside(vec![it]));
            }
            Kind::Echo { connections, size } => {
                Box::new(PingPong::new(address, connections, size)?)
            }
            Kind::Among { .. } => Box::new(PingPong::new(address, 1, 64)?),
            Kind::Bulk { connections } | Kind::Proxy { connections } => {
                Box::new(Bulk::new(address, connections)?)
            }
            Kind::Tls { connections, size } => {
                Box::new(TlsPingPong::new(address, connections, size)?)
            }
            Kind::Udp {
                sockets,
                window,
                size,
            } => Box::new(Datagrams::new(address, sockets, window, size)?),
            Kind::Http {
                secure,
                connections,
                resource,
            } => Box::new(Http::new(address, secure, connections, resource)?),
            Kind::Bucket { operation } => {
                let is_http = work.service(peer) == Service::Http;
                Box::new(Words::new(address, is_http, operation)?)
            }
            Kind::Resolve => {
                let errand = format!("resolve {}", dns::NAME);
                Box::new(Errands::new(address, &errand, "192")?)
            }
            Kind::Resume => {
                let server = upstream.context("a server to connect to")?;
                let errand = format!("connect tls:{server} name=localhost; ask x");
                Box::new(Errands::new(address, &errand, "x")?)
            }
            Kind::Forward {
                secure,
                connections,
                resource,
            } => Box::new(Http::new(address, secure, connections, resource)?),
            Kind::ForwardHttp2 {
                connections,
                streams,
            } => Box::new(Http2::new(address, connections, streams, Resource::Small)?),
            Kind::Http2 {
                connections,
                streams,
            } => Box::new(Http2::new(address, connections, streams, Resource::Page)?),
            Kind::Connections { at_once, size } => {
                Box::new(Connections::new(address, at_once, size)?)
            }
        };
        self.drive(&server, load.as_mut())
    }

    /// Warms the server up, then measures it.
    fn drive(&self, server: &Server, load: &mut dyn Load) -> anyhow::Result<Sample> {
        load.drive(Instant::now() + self.time / 4)?;
        let (cpu, waited) = usage(server)?;
        let start = Instant::now();
        let operations = load.drive(start + self.time)?;
        let time = start.elapsed().as_secs_f64();
        let (cpu_after, waited_after) = usage(server)?;
        anyhow::ensure!(operations > 0, "not one operation in {time} s");
        Ok(Sample {
            rate: Some(operations as f64 / time),
            cost: (cpu_after - cpu).as_secs_f64() / operations as f64,
            waited: Some(waited_after.saturating_sub(waited).as_secs_f64() / time),
            beside: Vec::new(),
        })
    }

    /// Warms the server up, then makes small requests beside bulk connections.
    fn beside(
        &self,
        bulk: &mut dyn Load,
        small: &mut Small,
        connections: usize,
    ) -> anyhow::Result<Beside> {
        beside(bulk, small, self.time / 4)?;
        let mut seen = beside(bulk, small, self.time)?;
        seen.latencies.sort_unstable();
        let at = |part: usize| {
            let index = (seen.latencies.len() * part / 100).min(seen.latencies.len() - 1);
            seen.latencies[index].as_secs_f64()
        };
        anyhow::ensure!(
            !seen.latencies.is_empty(),
            "not one small request was answered"
        );
        Ok(Beside {
            connections,
            rate: seen.operations as f64 / seen.time.as_secs_f64(),
            p50: at(50),
            p99: at(99),
            most: at(100),
        })
    }
}

impl Carried {
    /// Opens the bulk connections. An operation is a MiB, a datagram, or a
    /// round trip of [`BLOCK`] bytes.
    fn bulk(self, peer: Peer, server: SocketAddr, connections: usize) -> io::Result<Box<dyn Load>> {
        let file = match peer {
            Peer::Handler { .. } => Resource::Made,
            _ => Resource::Huge,
        };
        Ok(match self {
            Self::Echo | Self::Proxy => Box::new(Bulk::new(server, connections)?),
            Self::Tls => Box::new(TlsPingPong::new(server, connections, BLOCK)?),
            Self::Datagrams => Box::new(Datagrams::new(server, connections, 8, 1200)?),
            Self::Http { secure } => Box::new(Http::new(server, secure, connections, file)?),
            Self::Http2 => Box::new(Http2::new(server, connections, 1, file)?),
        })
    }

    fn small(self, peer: Peer, server: SocketAddr) -> io::Result<Small> {
        let page = match peer {
            Peer::Handler { .. } => Resource::Hello,
            _ => Resource::Small,
        };
        match self {
            Self::Echo | Self::Proxy => Small::tcp(server),
            Self::Tls => Small::tls(server),
            Self::Datagrams => Small::udp(server),
            Self::Http { secure } => Small::http(server, secure, page),
            Self::Http2 => Small::http2(server, page),
        }
    }
}

fn usage(server: &Server) -> anyhow::Result<(Duration, Duration)> {
    Ok((
        measure::cpu_time(server.pid())?,
        measure::waiting_time(server.pid())?,
    ))
}

/// Measures the 99th percentile of the latency.
fn latency(server: &Server, connections: usize, time: Duration) -> anyhow::Result<Sample> {
    let mut load = Latency::new(server.address, connections, "/", "/loop")?;
    load.drive(time / 4)?;
    let mut latencies = load.drive(time)?;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100);
    let p99 = p99.context("not one request was answered")?;
    Ok(Sample {
        rate: Some(latencies.len() as f64 / time.as_secs_f64()),
        cost: p99.as_secs_f64(),
        waited: None,
        beside: Vec::new(),
    })
}

/// Measures how much a server grows by an idle connection.
fn idle(
    server: &Server,
    connections: usize,
    open: fn(SocketAddr, usize) -> io::Result<Idle>,
) -> anyhow::Result<Sample> {
    // The first connections set up what all share.
    drop(open(server.address, 16)?);
    let before = measure::pss(server.pid())?;
    let idle = open(server.address, connections)?;
    let growth = measure::pss(server.pid())?.saturating_sub(before);
    drop(idle);
    Ok(Sample::of_cost(growth as f64 / connections as f64))
}
