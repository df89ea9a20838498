//! netwasm as it is operated, against netwasm as it is started by hand.

use super::super::{Kind, Rival, Row, Target, Work};
use super::{ROUTER, netwasm, requests};
use crate::operated::Operation;
use crate::peers::Peer;
use crate::site::Resource;

pub(super) fn works() -> Vec<Work> {
    let operated = |title, guest, how, than, target| Row {
        title,
        peer: Peer::Operated { guest, how },
        rival: Some(Rival::Guest(than)),
        target: Target::Ratio(target),
    };
    let by_hosts = Peer::Operated {
        guest: "router",
        how: Operation::Host,
    };
    vec![
        Work {
            name: "operated-echo",
            kind: Kind::Echo {
                connections: 64,
                size: 64,
            },
            rows: vec![
                operated(
                    "echo, 64 B, with metrics against without",
                    "echo",
                    Operation::Metrics,
                    netwasm("echo", "connection"),
                    0.98,
                ),
                operated(
                    "echo, 64 B, by --config against flags",
                    "echo",
                    Operation::Configuration,
                    netwasm("echo", "connection"),
                    1.0,
                ),
            ],
            peers: vec![],
        },
        Work {
            name: "operated-router",
            kind: requests(false, Resource::Page),
            rows: vec![
                operated(
                    "router, with metrics against without",
                    "router",
                    Operation::Metrics,
                    ROUTER,
                    0.98,
                ),
                operated(
                    "router, by --config against flags",
                    "router",
                    Operation::Configuration,
                    ROUTER,
                    1.0,
                ),
                operated(
                    "router, a thousand hosts against one",
                    "router",
                    Operation::Hosts,
                    by_hosts,
                    0.97,
                ),
            ],
            peers: vec![],
        },
        Work {
            name: "operated-reload",
            kind: Kind::Reload,
            rows: vec![Row {
                title: "reload to the first answer of another component, code cache warm",
                peer: Peer::Operated {
                    guest: "router",
                    how: Operation::Configuration,
                },
                rival: None,
                target: Target::Cost(0.050),
            }],
            peers: vec![],
        },
    ]
}
