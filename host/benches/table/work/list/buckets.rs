//! Rows of buckets of keys and values.

use super::super::{Kind, Row, Target, Work};
use super::netwasm;
use crate::peers::{Peer, Reuse};

/// An instance for all requests of a connection, as handlers of events have it.
const ONE: Reuse = Reuse {
    count: u32::MAX,
    at_once: 1,
};

pub(super) fn works() -> Vec<Work> {
    let work = |name, operation, by_events, by_http| Work {
        name,
        kind: Kind::Bucket { operation },
        rows: vec![
            row(by_events, netwasm("std-events", "connection")),
            row(
                by_http,
                Peer::Handler {
                    guest: "std-probe",
                    isolation: "connection",
                    reuse: ONE,
                },
            ),
        ],
        peers: Vec::new(),
    };
    vec![
        work(
            "keyvalue-get",
            "gets",
            "keyvalue get of 100 B in memory, by a handler of events",
            "keyvalue get of 100 B in memory, by a handler of `wasi:http` 0.2",
        ),
        work(
            "keyvalue-set",
            "sets",
            "keyvalue set of 100 B in memory, by a handler of events",
            "keyvalue set of 100 B in memory, by a handler of `wasi:http` 0.2",
        ),
    ]
}

fn row(title: &'static str, peer: Peer) -> Row {
    Row {
        title,
        peer,
        rival: None,
        target: Target::Report,
    }
}
