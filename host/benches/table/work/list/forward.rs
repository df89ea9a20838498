//! HTTP requests that netwasm forwards to another server.

use super::super::{Kind, Target, Work};
use super::{against_nginx, netwasm, row};
use crate::peers::Peer;
use crate::site::Resource;

pub(super) fn works() -> Vec<Work> {
    let gateway = netwasm("gateway", "connection");
    let gateway_by_worker = netwasm("gateway", "worker");
    let proxies = || vec![Peer::Nginx, Peer::Haproxy];
    let forward = |secure, connections, resource| Kind::Forward {
        secure,
        connections,
        resource,
    };
    let forwarding = netwasm("reverse-proxy", "connection");
    let forwarding_by_worker = netwasm("reverse-proxy", "worker");
    vec![
        Work {
            name: "forward-1k",
            kind: forward(false, 64, Resource::Small),
            rows: vec![
                against_nginx(row("gateway, 1 KiB", gateway, Target::Ratio(1.0))),
                against_nginx(row(
                    "gateway; an instance for each worker",
                    gateway_by_worker,
                    Target::Report,
                )),
                against_nginx(row("reverse-proxy, 1 KiB", forwarding, Target::Ratio(0.3))),
                against_nginx(row(
                    "reverse-proxy; an instance for each worker",
                    forwarding_by_worker,
                    Target::Report,
                )),
            ],
            peers: proxies(),
        },
        Work {
            name: "forward-post",
            kind: forward(false, 64, Resource::Taken),
            rows: vec![against_nginx(row(
                "gateway, POST of 16 KiB",
                gateway,
                Target::Ratio(1.0),
            ))],
            peers: proxies(),
        },
        Work {
            name: "forward-1m",
            kind: forward(false, 16, Resource::Large),
            rows: vec![
                against_nginx(row("gateway, 1 MiB", gateway, Target::Ratio(1.6))),
                against_nginx(row("reverse-proxy, 1 MiB", forwarding, Target::Ratio(0.8))),
            ],
            peers: proxies(),
        },
        Work {
            name: "forward-10m",
            kind: forward(false, 16, Resource::Huge),
            rows: vec![against_nginx(row(
                "gateway, each MiB of 10 MiB",
                gateway,
                Target::Ratio(1.6),
            ))],
            peers: proxies(),
        },
        Work {
            name: "forward-https-1k",
            kind: forward(true, 64, Resource::Small),
            rows: vec![against_nginx(row(
                "gateway, 1 KiB over TLS",
                gateway,
                Target::Ratio(1.0),
            ))],
            peers: proxies(),
        },
        Work {
            name: "forward-http2-1k",
            kind: Kind::ForwardHttp2 {
                connections: 8,
                streams: 8,
            },
            rows: vec![against_nginx(row(
                "gateway, 1 KiB by HTTP/2",
                gateway,
                Target::Ratio(1.0),
            ))],
            peers: proxies(),
        },
        Work {
            name: "forward-idle",
            kind: Kind::IdleForward { connections: 8000 },
            rows: vec![against_nginx(row(
                "gateway, an idle client of 8,000",
                gateway_by_worker,
                Target::Ratio(0.67),
            ))],
            peers: proxies(),
        },
    ]
}
