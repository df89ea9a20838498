//! Everything that is measured: the rows of the table, their rivals and targets.

use super::{Carried, Kind, Rival, Row, Target, Work};
use crate::operated::Operation;
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

const ALWAYS: Reuse = Reuse {
    count: u32::MAX,
    at_once: 16,
};

/// Returns everything that is measured.
pub(crate) fn all() -> Vec<Work> {
    let netwasm = |guest, isolation| Peer::Netwasm { guest, isolation };
    let row = |title, peer, target| Row {
        title,
        peer,
        rival: Some(Rival::Native),
        target,
    };
    let against_nginx = |row| Row {
        rival: Some(Rival::Nginx),
        ..row
    };
    let against_wasmtime = |row| Row {
        rival: Some(Rival::Wasmtime),
        ..row
    };
    let against_events = |row| Row {
        rival: Some(Rival::Guest(netwasm("echo", "connection"))),
        ..row
    };
    let program = Peer::Program {
        guest: "socket-echo",
    };
    let in_wasmtime = Peer::Wasmtime {
        guest: "socket-echo",
    };
    let with_wasmtime = |mut peers: Vec<Peer>| {
        peers.push(in_wasmtime);
        peers
    };
    let router = netwasm("router", "connection");
    let files = netwasm("static", "connection");
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
    let standard_files = netwasm("file-server", "connection");
    let http = |secure, resource| Kind::Http {
        secure,
        connections: 64,
        resource,
    };
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
    let native = |buffers: &[usize]| {
        let peers = buffers.iter().map(|&buffer| Peer::Native { buffer });
        peers.collect::<Vec<_>>()
    };
    let with_python = |mut peers: Vec<Peer>| {
        peers.extend([Peer::Asyncio, Peer::Uvloop]);
        peers
    };
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
    // The better buffer depends on the work. The comparison is with the better
    // one.
    let any_native = Peer::Native { buffer: 64 << 10 };
    let messages = || native(&[64 << 10, 16 << 10]);
    let bulk = || native(&[64 << 10, 256 << 10]);
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
            kind: http(false, Resource::Page),
            rows: vec![
                operated(
                    "router, with metrics against without",
                    "router",
                    Operation::Metrics,
                    router,
                    0.98,
                ),
                operated(
                    "router, by --config against flags",
                    "router",
                    Operation::Configuration,
                    router,
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
                    "the same; an instance for each worker",
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
                    program,
                    Target::Ratio(1.0),
                ),
                against_wasmtime(row(
                    "socket-echo, 64 B, 64 connections",
                    program,
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
                    program,
                    Target::Ratio(1.5),
                ),
                against_wasmtime(row(
                    "socket-echo, bulk, 4 connections, per MiB",
                    program,
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
        Work {
            name: "http-router",
            kind: http(false, Resource::Page),
            rows: vec![
                row("HTTP router, GET /", router, Target::Ratio(1.1)),
                against_nginx(row("HTTP router, GET /", router, Target::Ratio(0.9))),
            ],
            peers: with_python(vec![any_native, Peer::Nginx]),
        },
        Work {
            name: "http2-router",
            kind: Kind::Http2 {
                connections: 8,
                streams: 32,
            },
            rows: vec![row(
                "HTTP/2 router, GET /, 8 connections of 32 streams",
                router,
                Target::Ratio(0.8),
            )],
            peers: vec![any_native],
        },
        Work {
            name: "http2-single",
            kind: Kind::Http2 {
                connections: 64,
                streams: 1,
            },
            rows: vec![row(
                "the same, 64 connections of one stream",
                router,
                Target::Ratio(0.8),
            )],
            peers: vec![any_native],
        },
        Work {
            name: "http-file-1k",
            kind: http(false, Resource::Small),
            rows: vec![against_nginx(row(
                "HTTP file of 1 KiB",
                files,
                Target::Ratio(1.0),
            ))],
            peers: vec![Peer::Nginx],
        },
        Work {
            name: "http-file-10m",
            kind: http(false, Resource::Huge),
            rows: vec![
                against_nginx(row(
                    "HTTP file of 10 MiB, per MiB: CPU time",
                    files,
                    Target::Ratio(1.0),
                )),
                against_nginx(row(
                    "HTTP file of 10 MiB, per MiB: throughput",
                    files,
                    Target::Rate(1.0),
                )),
                against_nginx(row(
                    "the same by file-server (wasi:http), per MiB: CPU time",
                    standard_files,
                    Target::Ratio(0.9),
                )),
                against_nginx(row(
                    "the same by file-server (wasi:http), per MiB: throughput",
                    standard_files,
                    Target::Rate(0.9),
                )),
            ],
            peers: vec![Peer::Nginx],
        },
        Work {
            name: "https-router",
            kind: http(true, Resource::Page),
            rows: vec![
                against_nginx(row("HTTPS router, GET /", router, Target::Ratio(0.9))),
                row("HTTPS router, GET /", router, Target::Report),
            ],
            peers: vec![any_native, Peer::Nginx],
        },
        Work {
            name: "https-file-1m",
            kind: http(true, Resource::Large),
            rows: vec![against_nginx(row(
                "HTTPS file of 1 MiB",
                files,
                Target::Ratio(0.9),
            ))],
            peers: vec![Peer::Nginx],
        },
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
        Work {
            name: "wasi-hello",
            kind: http(false, Resource::Hello),
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
            kind: http(false, Resource::Made),
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
            peers: vec![any_native],
        },
        Work {
            name: "resume",
            kind: Kind::Resume,
            rows: vec![row(
                "a TLS connection of a guest, the session resumed",
                netwasm("stream-probe", "connection"),
                Target::Report,
            )],
            peers: vec![any_native],
        },
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
                row("socket-echo", program, Target::Report),
            ],
            vec![any_native],
        ),
        beside_bulk(
            "beside-proxy",
            Carried::Proxy,
            vec![row("proxy", netwasm("proxy", "connection"), Target::Report)],
            vec![any_native],
        ),
        beside_bulk(
            "beside-tls",
            Carried::Tls,
            vec![row(
                "TLS echo in the guest",
                netwasm("echo", "connection"),
                Target::Report,
            )],
            vec![any_native],
        ),
        beside_bulk(
            "beside-udp",
            Carried::Datagrams,
            vec![row(
                "UDP echo in the guest",
                netwasm("echo", "connection"),
                Target::Report,
            )],
            vec![any_native],
        ),
        beside_bulk(
            "beside-http",
            Carried::Http { secure: false },
            vec![
                against_nginx(row("HTTP file", files, Target::Report)),
                against_nginx(row(
                    "HTTP file by file-server (wasi:http)",
                    standard_files,
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
            vec![against_nginx(row("HTTPS file", files, Target::Report))],
            vec![Peer::Nginx],
        ),
        beside_bulk(
            "beside-http2",
            Carried::Http2,
            vec![against_nginx(row("HTTP/2 file", files, Target::Report))],
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
            http(true, Resource::Page),
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
