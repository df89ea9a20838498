//! Connections that come, that go out, and that stay idle, and starts.

use super::super::{Kind, Target, Work};
use super::{NATIVE, messages, native, netwasm, row, with_python};

pub(super) fn works() -> Vec<Work> {
    vec![
        Work {
            name: "connections",
            kind: Kind::Connections {
                at_once: 64,
                size: 64,
            },
            rows: vec![
                row(
                    "connect, 64 B, close; isolation connection",
                    netwasm("echo", "connection"),
                    Target::Ratio(0.6),
                ),
                row(
                    "connect, 64 B, close; isolation worker",
                    netwasm("echo", "worker"),
                    Target::Ratio(0.9),
                ),
            ],
            peers: with_python(messages()),
        },
        Work {
            name: "resolve",
            kind: Kind::Resolve,
            rows: vec![row(
                "a name that is cached, looked up by a guest",
                netwasm("stream-probe", "connection"),
                Target::Report,
            )],
            peers: vec![NATIVE],
        },
        Work {
            name: "resume",
            kind: Kind::Resume,
            rows: vec![row(
                "a TLS connection of a guest, the session resumed",
                netwasm("stream-probe", "connection"),
                Target::Report,
            )],
            peers: vec![NATIVE],
        },
        Work {
            name: "idle",
            kind: Kind::Idle { connections: 5000 },
            rows: vec![
                row(
                    "idle connection; isolation connection",
                    netwasm("echo", "connection"),
                    Target::Cost(24.0 * 1024.0),
                ),
                row(
                    "idle connection of async-echo; isolation connection",
                    netwasm("async-echo", "connection"),
                    Target::Cost(26.0 * 1024.0),
                ),
                row(
                    "idle connection; isolation worker",
                    netwasm("echo", "worker"),
                    Target::Cost(2.0 * 1024.0),
                ),
            ],
            peers: with_python(messages()),
        },
        Work {
            name: "start",
            kind: Kind::Start,
            rows: vec![row(
                "start to `listening`, code cache warm",
                netwasm("echo", "connection"),
                Target::Cost(0.030),
            )],
            peers: with_python(native(&[64 << 10])),
        },
    ]
}
