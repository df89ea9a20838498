//! Everything that is measured: the rows of the table, their rivals and targets.
//!
//! A module lists the works of one subject. The names that several of them use
//! are here.

mod beside;
mod buckets;
mod forward;
mod http;
mod lives;
mod operated;
mod python;
mod standard;
mod streams;
mod websocket;

use super::{Kind, Rival, Row, Target, Work};
use crate::peers::{Peer, Reuse};
use crate::site::Resource;

const ALWAYS: Reuse = Reuse {
    count: u32::MAX,
    at_once: 16,
};

/// The program that echoes by `wasi:sockets`.
const PROGRAM: Peer = Peer::Program {
    guest: "socket-echo",
};

const ROUTER: Peer = netwasm("router", "connection");
const FILES: Peer = netwasm("static", "connection");
const STANDARD_FILES: Peer = netwasm("file-server", "connection");

/// The tokio program. The better buffer depends on the work. The comparison is
/// with the better one.
const NATIVE: Peer = Peer::Native { buffer: 64 << 10 };

/// Returns everything that is measured, in the order of the table.
pub(crate) fn all() -> Vec<Work> {
    [
        operated::works(),
        streams::works(),
        http::works(),
        forward::works(),
        standard::works(),
        lives::works(),
        beside::works(),
        buckets::works(),
        python::works(),
        websocket::works(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const fn netwasm(guest: &'static str, isolation: &'static str) -> Peer {
    Peer::Netwasm { guest, isolation }
}

/// Returns a row whose rival is the tokio program.
fn row(title: &'static str, peer: Peer, target: Target) -> Row {
    Row {
        title,
        peer,
        rival: Some(Rival::Native),
        target,
    }
}

fn against_nginx(mut row: Row) -> Row {
    row.rival = Some(Rival::Nginx);
    row
}

fn against_wasmtime(mut row: Row) -> Row {
    row.rival = Some(Rival::Wasmtime);
    row
}

/// Sets the guest of events that echoes as the rival.
fn against_events(mut row: Row) -> Row {
    row.rival = Some(Rival::Guest(netwasm("echo", "connection")));
    row
}

/// Returns a resource asked for on 64 connections of HTTP.
fn requests(secure: bool, resource: Resource) -> Kind {
    Kind::Http {
        secure,
        connections: 64,
        resource,
    }
}

/// Returns the tokio program with each of these buffers.
fn native(buffers: &[usize]) -> Vec<Peer> {
    let peers = buffers.iter().map(|&buffer| Peer::Native { buffer });
    peers.collect()
}

/// Returns the tokio program with the buffers that suit small messages.
fn messages() -> Vec<Peer> {
    native(&[64 << 10, 16 << 10])
}

fn with_python(mut peers: Vec<Peer>) -> Vec<Peer> {
    peers.extend([Peer::Asyncio, Peer::Uvloop]);
    peers
}
