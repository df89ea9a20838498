//! Small requests while other connections carry bulk data or long calls.

use super::super::{Carried, Kind, Row, Target, Work};
use super::{ALWAYS, FILES, NATIVE, PROGRAM, STANDARD_FILES, against_nginx, netwasm, row};
use crate::peers::Peer;

pub(super) fn works() -> Vec<Work> {
    let made = |guest| Peer::Handler {
        guest,
        isolation: "connection",
        reuse: ALWAYS,
    };
    let beside_bulk = |name, carried, rows, peers| Work {
        name,
        kind: Kind::Beside(carried),
        rows,
        peers,
    };
    vec![
        beside_bulk(
            "beside-echo",
            Carried::Echo,
            vec![
                row(
                    "echo in the guest",
                    netwasm("echo", "connection"),
                    Target::Report,
                ),
                row(
                    "relay-echo",
                    netwasm("relay-echo", "connection"),
                    Target::Report,
                ),
                row(
                    "stream-echo",
                    netwasm("stream-echo", "connection"),
                    Target::Report,
                ),
                row("socket-echo", PROGRAM, Target::Report),
            ],
            vec![NATIVE],
        ),
        beside_bulk(
            "beside-proxy",
            Carried::Proxy,
            vec![row("proxy", netwasm("proxy", "connection"), Target::Report)],
            vec![NATIVE],
        ),
        beside_bulk(
            "beside-tls",
            Carried::Tls,
            vec![row(
                "TLS echo in the guest",
                netwasm("echo", "connection"),
                Target::Report,
            )],
            vec![NATIVE],
        ),
        beside_bulk(
            "beside-udp",
            Carried::Datagrams,
            vec![row(
                "UDP echo in the guest",
                netwasm("echo", "connection"),
                Target::Report,
            )],
            vec![NATIVE],
        ),
        beside_bulk(
            "beside-http",
            Carried::Http { secure: false },
            vec![
                against_nginx(row("HTTP file", FILES, Target::Report)),
                against_nginx(row(
                    "HTTP file by file-server (wasi:http)",
                    STANDARD_FILES,
                    Target::Report,
                )),
                against_nginx(row(
                    "body by wasi:http 0.2",
                    made("proxy-probe"),
                    Target::Report,
                )),
                against_nginx(row(
                    "body by wasi:http 0.3",
                    made("service-probe"),
                    Target::Report,
                )),
            ],
            vec![Peer::Nginx],
        ),
        beside_bulk(
            "beside-https",
            Carried::Http { secure: true },
            vec![against_nginx(row("HTTPS file", FILES, Target::Report))],
            vec![Peer::Nginx],
        ),
        beside_bulk(
            "beside-http2",
            Carried::Http2,
            vec![against_nginx(row("HTTP/2 file", FILES, Target::Report))],
            vec![Peer::Nginx],
        ),
        Work {
            name: "beside-calls",
            kind: Kind::BesideCalls,
            rows: ["probe", "proxy-probe", "service-probe"]
                .map(|guest| Row {
                    title: match guest {
                        "probe" => "200 calls of 20 ms, events",
                        "proxy-probe" => "200 calls of 20 ms, wasi:http 0.2",
                        _ => "200 calls of 20 ms, wasi:http 0.3",
                    },
                    peer: match guest {
                        "probe" => netwasm(guest, "connection"),
                        _ => made(guest),
                    },
                    rival: None,
                    target: Target::Report,
                })
                .into(),
            peers: Vec::new(),
        },
    ]
}
