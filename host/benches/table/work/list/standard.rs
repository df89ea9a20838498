//! HTTP that guests of `wasi:http` answer, in netwasm and in wasmtime's server.

use super::super::{Rival, Row, Target, Work};
use super::{ALWAYS, requests};
use crate::peers::{Peer, Reuse};
use crate::site::Resource;

const ONCE: Reuse = Reuse {
    count: 1,
    at_once: 1,
};

/// Default of `wasmtime serve` for 0.3.
const AS_WASMTIME: Reuse = Reuse {
    count: 128,
    at_once: 16,
};

pub(super) fn works() -> Vec<Work> {
    let served = |title, (guest, isolation, reuse), theirs, target| Row {
        title,
        peer: Peer::Handler {
            guest,
            isolation,
            reuse,
        },
        rival: Some(Rival::Serve(Peer::Serve {
            guest,
            reuse: theirs,
        })),
        target: Target::Ratio(target),
    };
    vec![
        Work {
            name: "wasi-hello",
            kind: requests(false, Resource::Hello),
            rows: vec![
                served(
                    "wasi:http 0.2, an instance for each request",
                    ("proxy-probe", "request", ONCE),
                    ONCE,
                    1.5,
                ),
                served(
                    "wasi:http 0.3, the reuse that wasmtime has by default",
                    ("service-probe", "worker", AS_WASMTIME),
                    AS_WASMTIME,
                    1.5,
                ),
                served(
                    "wasi:http 0.2, the best settings of each",
                    ("proxy-probe", "worker", ALWAYS),
                    ALWAYS,
                    3.0,
                ),
                served(
                    "wasi:http 0.3, the best settings of each",
                    ("service-probe", "worker", ALWAYS),
                    ALWAYS,
                    3.0,
                ),
            ],
            peers: Vec::new(),
        },
        Work {
            name: "wasi-stream",
            kind: requests(false, Resource::Made),
            rows: vec![
                served(
                    "wasi:http 0.2, 1 MiB from the guest",
                    ("proxy-probe", "request", ONCE),
                    ONCE,
                    2.0,
                ),
                served(
                    "wasi:http 0.3, 1 MiB from the guest",
                    ("service-probe", "worker", AS_WASMTIME),
                    AS_WASMTIME,
                    2.0,
                ),
            ],
            peers: Vec::new(),
        },
    ]
}
