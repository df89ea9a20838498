//! Tests of what `/metrics` shows: of the host, and of guests.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConnection, StreamOwned};

use crate::harness::{
    Client, Dns, DnsReply, Peer, Run, TlsServer, Upstream, administered, ask_admin, cert,
    directory, eventually, guest, install_as, message, ok, pattern, reload, scrape, text,
};
use hickory_proto::op::ResponseCode;

/// Returns a metric, once it is there.
fn value(admin: SocketAddr, name: &str) -> Option<f64> {
    scrape(admin).get(name).copied()
}

#[test]
fn guests_count_together_and_over_reloads() {
    let scratch = directory();
    let place = scratch.path().join("hits.wasm");
    fs::copy(guest("probe"), &place).expect("a copy");
    let (server, admin) = administered(Run::component(&place).tcp());
    let mut old = server.connect();
    for (command, peers) in [
        ("metric counter hits 2", 2),
        ("metric counter hits_total 3 b=2 a=1", 1),
        ("metric counter hits 4 a=1 b=2", 1),
        ("metric set level 2.5", 2),
        ("metric change level -4", 1),
        ("metric histogram sizes 1 1,2.5", 2),
        ("metric histogram sizes 2.6 1,2.5", 1),
    ] {
        // Each connection has an instance of its own.
        for _ in 0..peers {
            assert_eq!(server.connect().ask(command), "ok", "{command}");
        }
    }
    let after = scrape(admin);
    let of = |name: &str, labels: &str| {
        let key = format!("netwasm_guest_{name}{{{labels}service=\"hits\"}}");
        *after
            .get(&key)
            .unwrap_or_else(|| panic!("{key} in {after:#?}"))
    };
    assert_eq!(of("hits_total", ""), 4.0);
    let both = "netwasm_guest_hits_total{service=\"hits\",a=\"1\",b=\"2\"}";
    assert_eq!(after[both], 7.0);
    assert_eq!(of("level", ""), -1.5);
    assert_eq!(of("sizes_count", ""), 3.0);
    assert!((of("sizes_sum", "") - 4.6).abs() < 1e-9);
    assert_eq!(of("sizes_bucket", "le=\"1.0\","), 2.0);
    assert_eq!(of("sizes_bucket", "le=\"2.5\","), 2.0);
    assert_eq!(of("sizes_bucket", "le=\"+Inf\","), 3.0);
    let response = ask_admin(admin, "/metrics");
    let text = response.text();
    assert!(
        text.contains("# HELP netwasm_guest_level A 'gauge' of / two lines\n"),
        "{text}"
    );

    install_as("probe", &place, 1);
    reload(&server);
    assert_eq!(server.connect().ask("metric counter hits 1"), "ok");
    let told = old.line();
    assert!(told.starts_with("shutting down"), "{told}");
    assert_eq!(old.ask("metric counter hits 1"), "ok", "the old generation");
    let name = "netwasm_guest_hits_total{service=\"hits\"}";
    assert_eq!(value(admin, name), Some(6.0));
    drop(old);
    server.stop();
}

#[test]
fn metrics_that_cannot_be_shown_are_refused_and_do_no_harm() {
    let run = Run::guest("probe").tcp().args(["--max-metrics", "5"]);
    let (server, admin) = administered(run);
    let mut peer = server.connect();
    for (command, answer) in [
        ("metric counter a-b 1", "error: invalid-argument"),
        ("metric counter 1a 1", "error: invalid-argument"),
        ("metric counter a_sum 1", "error: invalid-argument"),
        ("metric counter a 1 service=x", "error: invalid-argument"),
        ("metric counter a 1 x=1 x=2", "error: invalid-argument"),
        ("metric histogram a 1 2,1", "error: invalid-argument"),
        ("metric histogram a 1 inf", "error: invalid-argument"),
        ("metric counter a 1", "ok"),
        ("metric set a 1", "error: invalid-state"),
        ("metric histogram big 1 1,2,3,4", "error: limit-exceeded"),
        ("metric histogram fits 1 1,2,3", "ok"),
        ("metric counter b 1", "error: limit-exceeded"),
        ("metric counter a 1", "ok"),
        ("metric foreign 0", "ok"),
        ("metric foreign 4294967295", "ok"),
    ] {
        assert_eq!(peer.ask(command), answer, "{command}");
    }
    server
        .log
        .wait_for(&["more than 5 values", "--max-metrics"]);
    assert_eq!(server.log.count("--max-metrics"), 1, "it is said once");
    // Of its own numbers, `foreign` counted with the counter.
    assert_eq!(
        value(admin, "netwasm_guest_a_total{service=\"probe\"}"),
        Some(3.0)
    );
    assert_eq!(
        value(admin, "netwasm_guest_fits_count{service=\"probe\"}"),
        Some(1.0)
    );
    // Another instance does not know these numbers.
    assert_eq!(server.connect().ask("metric foreign 0"), "ok");
    assert_eq!(
        value(admin, "netwasm_guest_a_total{service=\"probe\"}"),
        Some(3.0)
    );
    drop(peer);
    server.stop();
}

#[test]
fn async_guests_count_too_and_labels_are_escaped() {
    let (server, admin) = administered(Run::guest("stream-probe").tcp());
    for _ in 0..2 {
        assert_eq!(server.connect().ask("metrics"), "ok");
    }
    let name = "netwasm_guest_streams_total{service=\"stream-probe\",\
                kind=\"a \\\"b\\\" \\\\ c\\nd\"}";
    assert_eq!(value(admin, name), Some(2.0), "{:#?}", scrape(admin));
    let level = "netwasm_guest_level{service=\"stream-probe\"}";
    assert_eq!(value(admin, level), Some(1.0));
    server.stop();
}

#[test]
fn the_example_counts_people_and_lines() {
    let run = Run::guest("chat").tcp();
    let (server, admin) = administered(run.args(["--isolation", "worker", "--workers", "1"]));
    let members = "netwasm_guest_members{service=\"chat\"}";
    let mut peers: Vec<_> = (0..2).map(|_| server.connect()).collect();
    eventually("two members", || {
        (value(admin, members) == Some(2.0)).then_some(())
    });
    peers[0].send(b"good morning\n");
    let lines = "netwasm_guest_lines_total{service=\"chat\"}";
    eventually("a line", || {
        (value(admin, lines) == Some(1.0)).then_some(())
    });
    drop(peers);
    eventually("nobody", || {
        (value(admin, members) == Some(0.0)).then_some(())
    });
    let response = ok(Peer::connect(admin).fetch("/metrics"));
    let older = response.text();
    assert!(
        older.contains("# TYPE netwasm_guest_lines_total counter\n"),
        "{older}"
    );
    server.stop();
}

/// Waits until metrics, without their prefix, have these values.
#[track_caller]
fn shows(admin: SocketAddr, wanted: &[(&str, f64)]) {
    let mut last = Vec::new();
    let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the values", || {
            let all = scrape(admin);
            last = wanted
                .iter()
                .map(|(name, _)| (*name, all.get(&format!("netwasm_{name}")).copied()))
                .collect();
            let is_so = |((_, value), (_, wanted)): (&(&str, Option<f64>), &(&str, f64))| {
                *value == Some(*wanted)
            };
            last.iter().zip(wanted).all(is_so).then_some(())
        });
    }));
    assert!(shown.is_ok(), "{last:#?} is not {wanted:#?}");
}

#[test]
fn traps_are_counted_by_their_causes() {
    let run = Run::guest("probe").http();
    let run = run.args(["--event-timeout", "50ms", "--max-memory", "4MiB"]);
    let (server, admin) = administered(run);
    for (path, cause) in [
        ("/trap", "unreachable"),
        ("/loop", "timeout"),
        ("/memory", "memory_limit"),
        ("/stack", "stack"),
    ] {
        assert_eq!(server.connect_http().fetch(path).status, 500, "{path}");
        let name = format!("traps_total{{service=\"probe\",cause=\"{cause}\"}}");
        shows(admin, &[(&name, 1.0)]);
    }
    server.stop();
    let run = Run::guest("stream-probe").tcp();
    let (server, admin) = administered(run);
    server.connect().say("panic");
    let name = "traps_total{service=\"stream-probe\",cause=\"unreachable\"}";
    shows(admin, &[(name, 1.0)]);
    server.stop();
}

#[test]
fn instances_and_their_memory_come_and_go() {
    for guest in ["echo", "stream-echo"] {
        let (server, admin) = administered(Run::guest(guest).tcp());
        let name = |name: &str| format!("{name}{{service=\"{guest}\"}}");
        let [alive, made, memory] =
            ["instances", "instances_made_total", "instance_memory_bytes"].map(name);
        // An event guest was tried at the start.
        let tried = scrape(admin)[&format!("netwasm_{made}")];
        shows(admin, &[(&alive, 0.0), (&memory, 0.0)]);
        let mut peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
        for peer in &mut peers {
            peer.send(b"x");
            assert_eq!(peer.take(1), b"x");
        }
        shows(admin, &[(&alive, 3.0), (&made, tried + 3.0)]);
        let bytes = scrape(admin)[&format!("netwasm_{memory}")];
        assert!(bytes >= 3.0 * 65536.0, "{guest}: {bytes}");
        drop(peers);
        shows(
            admin,
            &[(&alive, 0.0), (&memory, 0.0), (&made, tried + 3.0)],
        );
        server.stop();
    }
}

#[test]
fn bytes_are_counted_whatever_moves_them() {
    const SIZE: usize = 1 << 20;
    // The kernel moves those of the second.
    for guest in ["echo", "relay-echo", "stream-echo"] {
        let (server, admin) = administered(Run::guest(guest).tcp());
        let mut peer = server.connect();
        peer.echoes_by(64 << 10, &pattern(SIZE));
        let size = SIZE as f64;
        let of = |name: &str| format!("{name}_bytes_total{{service=\"{guest}\"}}");
        shows(admin, &[(&of("received"), size), (&of("sent"), size)]);
        drop(peer);
        server.stop();
    }
}

#[test]
fn datagrams_and_files_count_as_bytes_too() {
    let site = directory();
    fs::write(site.path().join("a.bin"), pattern(300_000)).expect("a file");
    let run = Run::guest("static").http();
    let mount = format!("{}::/", text(site.path()));
    let (server, admin) = administered(run.args(["--dir", &mount]));
    let response = ok(server.connect_http().fetch("/a.bin"));
    assert_eq!(response.body.len(), 300_000);
    let name = "netwasm_sent_bytes_total{service=\"static\"}";
    eventually("the bytes", || {
        value(admin, name).filter(|sent| (300_000.0..302_000.0).contains(sent))
    });
    server.stop();
}

#[test]
fn the_time_in_guests_is_measured() {
    for guest in ["echo", "stream-echo"] {
        let (server, admin) = administered(Run::guest(guest).tcp());
        let mut peer = server.connect();
        for _ in 0..100 {
            peer.send(b"x");
            assert_eq!(peer.take(1), b"x");
        }
        let of = |name: &str| format!("netwasm_{name}_total{{service=\"{guest}\"}}");
        eventually("the turns", || {
            let all = scrape(admin);
            let time = all[&of("instance_time_seconds")];
            assert!((0.0..60.0).contains(&time), "{time}");
            (all[&of("instance_turns")] >= 100.0 && time > 0.0).then_some(())
        });
        drop(peer);
        server.stop();
    }
}

#[test]
fn handshakes_and_resumptions_are_counted_by_role() {
    let run = Run::guest("echo").tls().args(["--workers", "1"]);
    let (server, admin) = administered(run);
    // Sessions of one configuration share their tickets.
    let config = Client::of("localhost").config();
    for _ in 0..2 {
        let name = "localhost".try_into().expect("a name");
        let session = ClientConnection::new(Arc::clone(&config), name).expect("a session");
        let socket = TcpStream::connect(server.address("tls")).expect("a connection");
        let mut stream = StreamOwned::new(session, socket);
        stream.write_all(b"welcome").expect("it is sent");
        stream.read_exact(&mut [0; 7]).expect("an echo");
    }
    let mut plain = Peer::connect(server.address("tls"));
    plain.send(b"GET / HTTP/1.1\r\n\r\n");
    plain.rest();
    let of = |role: &str, result: &str| {
        format!("tls_handshakes_total{{service=\"echo\",role=\"{role}\",result=\"{result}\"}}")
    };
    let resumed = "tls_resumptions_total{service=\"echo\",role=\"server\"}";
    shows(
        admin,
        &[
            (&of("server", "done"), 2.0),
            (&of("server", "failed"), 1.0),
            (&of("client", "done"), 0.0),
            (resumed, 1.0),
        ],
    );
    server.stop();

    let tls = TlsServer::new("cert.pem", "key.pem", &[]);
    let to = format!("localhost:{}", tls.address.port());
    let run = Run::guest("stream-probe").tcp().args(["--workers", "1"]);
    let run = run.args(["--allow-connect", &to, "--ca", text(&cert("ca.pem"))]);
    let (server, admin) = administered(run);
    for _ in 0..2 {
        let mut peer = server.connect();
        peer.say("client");
        peer.say(&format!("connect tls:{to}"));
        let mut accepted = tls.accept().expect("a session");
        assert_eq!(peer.line(), "ok");
        accepted.send(b"x");
        assert_eq!(peer.ask("take 1"), "x");
    }
    let of = |name: &str, more: &str| {
        format!("tls_{name}_total{{service=\"stream-probe\",role=\"client\"{more}}}")
    };
    let done = of("handshakes", ",result=\"done\"");
    shows(admin, &[(&done, 2.0), (&of("resumptions", ""), 1.0)]);
    server.stop();
}

#[test]
fn look_ups_are_counted_by_their_results() {
    let dns = Dns::new(|name, _| match name.trim_end_matches('.') {
        "there.example" => DnsReply::addresses_for(&["192.0.2.1", "2001:db8::1"], 600),
        "empty.example" => DnsReply::NoData,
        "broken.example" => DnsReply::Fails(ResponseCode::ServFail),
        _ => DnsReply::NoName,
    });
    let run = Run::guest("probe").tcp();
    let run = run.args(["--workers", "1", "--allow-resolve", "*"]);
    let run = run.args(["--dns-server", &dns.address.to_string()]);
    let (server, admin) = administered(run);
    let mut peer = server.connect();
    for name in ["there", "there", "empty", "broken", "missing"] {
        peer.ask(&format!("resolve {name}.example"));
    }
    // No look-ups.
    peer.ask("resolve 192.0.2.7");
    peer.ask("resolve localhost");
    let of = |result: &str| format!("lookups_total{{service=\"probe\",result=\"{result}\"}}");
    shows(
        admin,
        &[
            (&of("found"), 2.0),
            (&of("no_address"), 1.0),
            (&of("failed"), 1.0),
            (&of("no_name"), 1.0),
            (&of("timed_out"), 0.0),
            ("lookups_at_hand_total{service=\"probe\"}", 1.0),
        ],
    );
    drop(peer);
    server.stop();
}

#[test]
fn pools_and_upstreams_are_counted() {
    let upstream = Upstream::answering("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello");
    let run = Run::guest("outgoing-probe").http();
    let run = run.args(["--workers", "1", "--isolation", "worker"]);
    let (server, admin) = administered(run.args(["--allow-connect", "127.0.0.1:*"]));
    for target in [
        upstream.url("/"),
        upstream.url("/"),
        "http://127.0.0.1:1/".into(),
    ] {
        let mut peer = server.connect_http();
        ok(peer.exchange(message("GET", &format!("/get?{target}"), &[])));
    }
    let of = |result: &str| {
        format!("upstream_requests_total{{service=\"outgoing-probe\",result=\"{result}\"}}")
    };
    let reused = "upstream_requests_reused_total{service=\"outgoing-probe\"}";
    shows(
        admin,
        &[(&of("answered"), 2.0), (&of("failed"), 1.0), (reused, 1.0)],
    );
    server.stop();

    let echo = Upstream::new(|mut asker, _| drop(asker.rest()));
    let run = Run::guest("stream-probe").tcp();
    let (server, admin) = administered(run.args(["--allow-connect", "127.0.0.1:*"]));
    let mut peer = server.connect();
    peer.say("client");
    assert_eq!(peer.ask(&format!("pool tcp:{} size=2", echo.address)), "ok");
    for _ in 0..2 {
        assert_eq!(peer.ask("get"), "ok");
        assert_eq!(peer.ask("put"), "ok");
    }
    assert_eq!(peer.ask("get"), "ok");
    let of =
        |state: &str| format!("pool_connections{{service=\"stream-probe\",state=\"{state}\"}}");
    let total = |what: &str| format!("pool_connections_{what}_total{{service=\"stream-probe\"}}");
    shows(
        admin,
        &[
            (&of("in_use"), 1.0),
            (&of("idle"), 0.0),
            (&total("opened"), 1.0),
            (&total("reused"), 2.0),
        ],
    );
    drop(peer);
    server.stop();
}

#[test]
fn prometheus_gets_its_protobuf() {
    let (server, admin) = administered(Run::guest("probe").http());
    ok(server.connect_http().fetch("/count"));
    let accept = "Accept: application/vnd.google.protobuf; \
                  proto=io.prometheus.client.MetricFamily; encoding=delimited; q=0.7, \
                  application/openmetrics-text; q=0.5";
    let head = message("GET", "/metrics", &[accept]);
    let response = ok(Peer::connect(admin).exchange(head));
    let media = response.header("Content-Type").expect("a type");
    assert!(
        media.contains("proto=io.prometheus.client.MetricFamily"),
        "{media}"
    );
    // Each message follows its length, and begins with field 1, a name.
    let mut rest = &*response.body;
    let mut names = Vec::new();
    while !rest.is_empty() {
        let length = prost::decode_length_delimiter(&mut rest).expect("a length");
        let (family, after) = rest.split_at(length);
        assert_eq!(family[0], 0x0a);
        let end = 2 + usize::from(family[1]);
        names.push(String::from_utf8_lossy(&family[2..end]).into_owned());
        rest = after;
    }
    for name in [
        "netwasm_http_requests_total",
        "netwasm_http_request_duration_seconds",
        "netwasm_instance_memory_bytes",
    ] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} in {names:?}"
        );
    }
    server.stop();
}
