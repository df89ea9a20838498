//! Python's asyncio in netwasm's interpreter, against the machine's own Python.

use super::super::{Kind, Rival, Row, Target, Work};
use super::requests;
use crate::peers::Peer;
use crate::site::Resource;

pub(super) fn works() -> Vec<Work> {
    let python = |name, kind, title, target| Work {
        name,
        kind,
        rows: vec![Row {
            title,
            peer: Peer::Script,
            rival: Some(Rival::Python),
            target,
        }],
        peers: vec![Peer::Asyncio, Peer::Uvloop],
    };
    let python_echo = |connections| Kind::Echo {
        connections,
        size: 64,
    };
    vec![
        python(
            "python-echo-1",
            python_echo(1),
            "CPython 3.14, Protocol echo, 64 B, 1 connection",
            Target::Ratio(0.6),
        ),
        python(
            "python-echo-100",
            python_echo(100),
            "CPython 3.14, the same, 100 connections",
            Target::Ratio(0.6),
        ),
        python(
            "python-echo-500",
            python_echo(500),
            "CPython 3.14, the same, 500 connections",
            Target::Ratio(0.6),
        ),
        python(
            "python-among-500",
            Kind::Among { idle: 500 },
            "CPython 3.14, the same, one beside 500 idle",
            Target::Ratio(0.5),
        ),
        python(
            "python-file-10m",
            Kind::Http {
                secure: false,
                connections: 8,
                resource: Resource::Huge,
            },
            "CPython 3.14, loop.sendfile of 10 MiB, per MiB",
            Target::Ratio(1.0),
        ),
        python(
            "python-https",
            requests(true, Resource::Page),
            "CPython 3.14, HTTPS, GET /",
            Target::Ratio(0.5),
        ),
        python(
            "python-start",
            Kind::Start,
            "CPython 3.14, start to `listening`, code cache warm",
            Target::Cost(0.25),
        ),
        python(
            "python-memory",
            Kind::StartMemory,
            "CPython 3.14, most resident memory of a start",
            Target::Cost(45.0 * 1024.0 * 1024.0),
        ),
    ]
}
