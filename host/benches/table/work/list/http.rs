//! HTTP that netwasm answers by guests of events, and files.

use super::super::{Kind, Row, Target, Work};
use super::{
    FILES, NATIVE, ROUTER, STANDARD_FILES, against_nginx, netwasm, requests, row, with_python,
};
use crate::peers::Peer;
use crate::site::Resource;

pub(super) fn works() -> Vec<Work> {
    vec![
        Work {
            name: "http-router",
            kind: requests(false, Resource::Page),
            rows: vec![
                row("HTTP router, GET /", ROUTER, Target::Ratio(1.1)),
                against_nginx(row("HTTP router, GET /", ROUTER, Target::Ratio(0.9))),
            ],
            peers: with_python(vec![NATIVE, Peer::Nginx]),
        },
        Work {
            name: "http2-router",
            kind: Kind::Http2 {
                connections: 8,
                streams: 32,
            },
            rows: vec![row(
                "HTTP/2 router, GET /, 8 connections of 32 streams",
                ROUTER,
                Target::Ratio(0.8),
            )],
            peers: vec![NATIVE],
        },
        Work {
            name: "http2-single",
            kind: Kind::Http2 {
                connections: 64,
                streams: 1,
            },
            rows: vec![row(
                "HTTP/2 router, GET /, 64 connections of one stream",
                ROUTER,
                Target::Ratio(0.8),
            )],
            peers: vec![NATIVE],
        },
        Work {
            name: "http-file-1k",
            kind: requests(false, Resource::Small),
            rows: vec![against_nginx(row(
                "HTTP file of 1 KiB",
                FILES,
                Target::Ratio(1.0),
            ))],
            peers: vec![Peer::Nginx],
        },
        Work {
            name: "http-file-10m",
            kind: requests(false, Resource::Huge),
            rows: vec![
                against_nginx(row(
                    "HTTP file of 10 MiB, per MiB: CPU time",
                    FILES,
                    Target::Ratio(1.0),
                )),
                against_nginx(row(
                    "HTTP file of 10 MiB, per MiB: throughput",
                    FILES,
                    Target::Rate(1.0),
                )),
                against_nginx(row(
                    "HTTP file of 10 MiB by file-server (wasi:http), per MiB: CPU time",
                    STANDARD_FILES,
                    Target::Ratio(0.9),
                )),
                against_nginx(row(
                    "HTTP file of 10 MiB by file-server (wasi:http), per MiB: throughput",
                    STANDARD_FILES,
                    Target::Rate(0.9),
                )),
            ],
            peers: vec![Peer::Nginx],
        },
        Work {
            name: "https-router",
            kind: requests(true, Resource::Page),
            rows: vec![
                against_nginx(row("HTTPS router, GET /", ROUTER, Target::Ratio(0.9))),
                row("HTTPS router, GET /", ROUTER, Target::Report),
            ],
            peers: vec![NATIVE, Peer::Nginx],
        },
        Work {
            name: "https-file-1m",
            kind: requests(true, Resource::Large),
            rows: vec![against_nginx(row(
                "HTTPS file of 1 MiB",
                FILES,
                Target::Ratio(0.9),
            ))],
            peers: vec![Peer::Nginx],
        },
        Work {
            name: "http-latency",
            kind: Kind::Latency { connections: 64 },
            rows: vec![Row {
                title: "HTTP, a tenth times out in the guest: the others at p99",
                peer: netwasm("probe", "connection"),
                rival: None,
                target: Target::Report,
            }],
            peers: Vec::new(),
        },
    ]
}
