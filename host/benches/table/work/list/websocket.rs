//! WebSocket: echoes, topics and idle connections.

use super::netwasm;
use crate::native_websocket::Library;
use crate::peers::Peer;
use crate::work::{Kind, Rival, Row, Talk, Target, Work};

/// Number of subscribers of a topic.
const SUBSCRIBERS: usize = 1000;

/// Returns the works of WebSocket.
pub(super) fn works() -> Vec<Work> {
    let row = |title, guest, isolation, rival, target| Row {
        title,
        peer: netwasm(guest, isolation),
        rival: Some(rival),
        target,
    };
    let against_bun = |title, guest, ratio| {
        let target = Target::Ratio(ratio);
        vec![row(title, guest, "connection", Rival::Bun, target)]
    };
    let echo = |name, size, titles: [_; 3]| {
        let row = |title, isolation, rival, ratio| {
            row(title, "ws-echo", isolation, rival, Target::Ratio(ratio))
        };
        Work {
            name,
            kind: Kind::WebSocket(Talk::Echo {
                connections: 64,
                size,
            }),
            rows: vec![
                row(titles[0], "connection", Rival::Native, 0.9),
                row(titles[1], "connection", Rival::Bun, 1.0),
                row(titles[2], "worker", Rival::Native, 0.9),
            ],
            peers: vec![
                Peer::Library(Library::Fastwebsockets),
                Peer::Library(Library::TokioTungstenite),
                Peer::Bun,
            ],
        }
    };
    let publish = |name, lines, title, ratio| Work {
        name,
        kind: Kind::WebSocket(Talk::Publish {
            subscribers: SUBSCRIBERS,
            lines,
        }),
        rows: against_bun(title, "chat-web", ratio),
        peers: vec![Peer::Bun],
    };
    vec![
        echo(
            "websocket-echo-64",
            64,
            [
                "WebSocket echo, 64 B, 64 connections",
                "WebSocket echo, 64 B, against Bun",
                "WebSocket echo, 64 B; isolation worker",
            ],
        ),
        echo(
            "websocket-echo-16k",
            16 << 10,
            [
                "WebSocket echo, 16 KiB, 64 connections",
                "WebSocket echo, 16 KiB, against Bun",
                "WebSocket echo, 16 KiB; isolation worker",
            ],
        ),
        Work {
            name: "websocket-packed",
            kind: Kind::WebSocket(Talk::Packed { connections: 64 }),
            rows: against_bun("WebSocket echo, 1 KiB of JSON, compressed", "ws-echo", 1.0),
            peers: vec![Peer::Bun],
        },
        publish(
            "websocket-publish",
            1,
            "WebSocket topic, 1,000 subscribers, per delivery",
            1.1,
        ),
        publish(
            "websocket-publish-burst",
            16,
            "WebSocket topic, bursts of 16 messages",
            1.5,
        ),
        Work {
            name: "websocket-idle",
            kind: Kind::WebSocket(Talk::Idle {
                connections: 10_000,
            }),
            rows: vec![row(
                "idle WebSocket; isolation worker",
                "ws-echo",
                "worker",
                Rival::Bun,
                Target::Cost(2.0 * 1024.0),
            )],
            peers: vec![Peer::Bun],
        },
    ]
}
