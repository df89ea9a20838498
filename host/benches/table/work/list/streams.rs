//! Traffic of open connections, and of datagrams: small messages and bulk data.

use super::super::{Kind, Target, Work};
use super::{
    PROGRAM, against_events, against_wasmtime, messages, native, netwasm, row, with_python,
};
use crate::peers::Peer;

/// wasmtime's command with the program.
const IN_WASMTIME: Peer = Peer::Wasmtime {
    guest: "socket-echo",
};

pub(super) fn works() -> Vec<Work> {
    let with_wasmtime = |mut peers: Vec<Peer>| {
        peers.push(IN_WASMTIME);
        peers
    };
    let bulk = || native(&[64 << 10, 256 << 10]);
    vec![
        Work {
            name: "echo-64",
            kind: Kind::Echo {
                connections: 64,
                size: 64,
            },
            rows: vec![
                row(
                    "echo in the guest, 64 B, 64 connections",
                    netwasm("echo", "connection"),
                    Target::Ratio(0.95),
                ),
                row(
                    "async-echo, 64 B, 64 connections",
                    netwasm("async-echo", "connection"),
                    Target::Ratio(0.88),
                ),
                against_events(row(
                    "async-echo against echo, 64 B",
                    netwasm("async-echo", "connection"),
                    Target::Ratio(0.95),
                )),
                against_events(row(
                    "async-echo with a time-out for each read against echo, 64 B",
                    netwasm("timed-echo", "connection"),
                    Target::Ratio(0.9),
                )),
                row(
                    "relay-echo, 64 B, 64 connections",
                    netwasm("relay-echo", "connection"),
                    Target::Ratio(1.0),
                ),
                row(
                    "stream-echo through the guest, 64 B, 64 connections",
                    netwasm("stream-echo", "connection"),
                    Target::Ratio(0.6),
                ),
                row(
                    "stream-echo through the guest, 64 B; an instance for each worker",
                    netwasm("stream-echo", "worker"),
                    Target::Ratio(0.6),
                ),
                row(
                    "stream-relay, 64 B, 64 connections",
                    netwasm("stream-relay", "connection"),
                    Target::Ratio(1.0),
                ),
                row(
                    "socket-echo, 64 B, 64 connections",
                    PROGRAM,
                    Target::Ratio(1.0),
                ),
                against_wasmtime(row(
                    "socket-echo, 64 B, 64 connections",
                    PROGRAM,
                    Target::Ratio(1.0),
                )),
            ],
            peers: with_wasmtime(with_python(messages())),
        },
        Work {
            name: "echo-16k",
            kind: Kind::Echo {
                connections: 16,
                size: 16 << 10,
            },
            rows: vec![
                row(
                    "echo in the guest, 16 KiB, 16 connections",
                    netwasm("echo", "connection"),
                    Target::Ratio(0.92),
                ),
                against_events(row(
                    "async-echo against echo, 16 KiB",
                    netwasm("async-echo", "connection"),
                    Target::Ratio(0.95),
                )),
                row(
                    "stream-echo through the guest, 16 KiB, 16 connections",
                    netwasm("stream-echo", "connection"),
                    Target::Ratio(0.75),
                ),
            ],
            peers: with_python(messages()),
        },
        Work {
            name: "bulk",
            kind: Kind::Bulk { connections: 4 },
            rows: vec![
                row(
                    "relay-echo, bulk, 4 connections, per MiB",
                    netwasm("relay-echo", "connection"),
                    Target::Ratio(1.5),
                ),
                row(
                    "stream-relay, bulk, 4 connections, per MiB",
                    netwasm("stream-relay", "connection"),
                    Target::Ratio(1.5),
                ),
                row(
                    "socket-echo, bulk, 4 connections, per MiB",
                    PROGRAM,
                    Target::Ratio(1.5),
                ),
                against_wasmtime(row(
                    "socket-echo, bulk, 4 connections, per MiB",
                    PROGRAM,
                    Target::Ratio(1.0),
                )),
            ],
            peers: with_wasmtime(with_python(bulk())),
        },
        Work {
            name: "proxy",
            kind: Kind::Proxy { connections: 4 },
            rows: vec![row(
                "proxy, bulk, 4 connections, per MiB",
                netwasm("proxy", "connection"),
                Target::Ratio(1.5),
            )],
            peers: bulk(),
        },
        Work {
            name: "tls",
            kind: Kind::Tls {
                connections: 16,
                size: 16 << 10,
            },
            rows: vec![row(
                "TLS echo in the guest, 16 KiB, 16 connections",
                netwasm("echo", "connection"),
                Target::Ratio(0.95),
            )],
            peers: with_python(messages()),
        },
        Work {
            name: "udp",
            kind: Kind::Udp {
                sockets: 4,
                window: 32,
                size: 64,
            },
            rows: vec![row(
                "UDP echo in the guest, 64 B, 4 windows of 32",
                netwasm("echo", "connection"),
                Target::Ratio(1.3),
            )],
            peers: with_python(native(&[64 << 10])),
        },
    ]
}
