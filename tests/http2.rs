//! HTTP/2, negotiated in TLS or by prior knowledge, for guests that get
//! buffered requests and for async guests.

use std::process::Command;

use crate::harness::http2::{self, ask, read, send_all};
use crate::harness::{
    self, Client, Http2, Peer, Run, Server, directory, pattern, post, same, skipped, text,
};
use bytes::Bytes;
use rustix::process::Signal;

const MIB: usize = 1 << 20;

/// Async guests, for `wasi:http` 0.2 and 0.3.
const AWAITING: [&str; 2] = ["proxy-probe", "service-probe"];

fn probe() -> Server {
    Run::guest("probe").http().start()
}

fn awaiting() -> impl Iterator<Item = Server> {
    AWAITING
        .into_iter()
        .map(|guest| Run::guest(guest).http().args(["--workers", "1"]).start())
}

fn site(size: usize) -> (Server, tempfile::TempDir, Vec<u8>) {
    let directory = directory();
    let content = pattern(size);
    std::fs::write(directory.path().join("file.bin"), &content).expect("a file");
    let shared = format!("{}::/", text(directory.path()));
    let server = Run::guest("static").http().https().args(["--dir", &shared]);
    (server.start(), directory, content)
}

#[test]
fn a_client_that_knows_the_server_is_answered_without_tls() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let response = client.fetch("/request?a=b");
    assert_eq!(response.header("server"), Some("netwasm"));
    assert_eq!(response.header("content-length"), Some("36"));
    assert!(
        response
            .header("date")
            .is_some_and(|it| it.ends_with("GMT"))
    );
    assert_eq!(response.header("connection"), None);
    response.is(200, "GET /request?a=b 1.1 http localhost");
    client.fetch("/nowhere").is(404, "there is nothing here");
    drop(client);
    server.stop();
}

#[test]
fn http_2_is_agreed_on_in_tls_where_the_client_offers_it() {
    let server = Run::guest("probe").https().start();
    let mut client = Http2::secure(server.address("https"));
    client
        .fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    let info = client.fetch("/info");
    assert!(info.text().contains("alpn h2"), "{info:?}");
    // A client that offers both gets h2. A client that offers only HTTP/1.1, or
    // nothing, gets HTTP/1.1.
    let both = Client::of("localhost").alpn("http/1.1").alpn("h2");
    let mut peer = both.connect(server.address("https"));
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"h2"[..]));
    let mut peer = Client::of("localhost")
        .alpn("http/1.1")
        .connect(server.address("https"));
    peer.fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    let mut peer = Client::of("localhost").connect(server.address("https"));
    peer.fetch("/request")
        .is(200, "GET /request 1.1 https localhost");
    drop(client);
    drop(peer);
    server.stop();
}

#[test]
fn the_user_may_name_the_protocols_of_https() {
    let server = Run::guest("probe")
        .https()
        .args(["--alpn", "http/1.1"])
        .start();
    let address = server.address("https");
    let both = Client::of("localhost").alpn("h2").alpn("http/1.1");
    let mut peer = both.connect(address);
    assert_eq!(peer.get().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(
        Client::of("localhost")
            .alpn("h2")
            .try_connect(address)
            .is_err()
    );
    drop(peer);
    server.stop();
}

#[test]
fn the_preface_may_come_in_pieces_and_only_at_the_beginning() {
    let server = probe();
    let mut peer = server.connect_http();
    let mut bytes = http2::PREFACE.to_vec();
    bytes.extend(http2::frame(http2::SETTINGS, 0, 0, b""));
    bytes.extend(http2::frame(http2::HEADERS, 5, 1, http2::GET));
    for byte in &bytes {
        peer.send(&[*byte]);
        peer.taken();
    }
    let head = http2::next_of(&mut peer, http2::HEADERS);
    assert_eq!(head.stream, 1);
    let body = http2::next_of(&mut peer, http2::DATA);
    assert_eq!(body.payload, b"GET / 1.1 http localhost\n");

    let mut peer = server.connect_http();
    peer.fetch("/request");
    peer.send(http2::PREFACE);
    assert_eq!(peer.response().status, 505);
    let mut peer = server.connect_http();
    peer.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert_eq!(peer.response().status, 505);
    drop(peer);
    server.stop();
}

#[test]
fn an_upgrade_to_http_2_is_not_taken() {
    let server = probe();
    let mut peer = server.connect_http();
    let lines = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ];
    let response = peer.exchange(harness::message("GET", "/request", &lines));
    response.is(200, "GET /request 1.1 http localhost");
    drop(peer);
    server.stop();
}

#[test]
fn curl_speaks_it_in_both_ways() {
    let version = Command::new("curl").arg("-V").output();
    if !version.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("HTTP2")) {
        return skipped("no curl that speaks HTTP/2");
    }
    let (server, directory, content) = site(MIB);
    let saved = directory.path().join("saved");
    for (flag, url) in [
        (
            "--http2-prior-knowledge",
            format!("http://{}/file.bin", server.address("http")),
        ),
        (
            "--http2",
            format!("https://{}/file.bin", server.address("https")),
        ),
    ] {
        let told = Command::new("curl")
            .args([
                "-sk",
                flag,
                &url,
                "-o",
                text(&saved),
                "-w",
                "%{http_version} %{http_code}",
            ])
            .output()
            .expect("curl runs");
        assert_eq!(String::from_utf8_lossy(&told.stdout), "2 200");
        same(&std::fs::read(&saved).expect("what it saved"), &content);
    }
    server.stop();
}

#[test]
fn a_request_looks_to_the_guest_as_one_of_http_1_1_does() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let mut request = ask("GET", "/headers");
    for (name, value) in [
        ("x-one", "1"),
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("x-one", "2"),
    ] {
        let value = value.parse().expect("a value");
        request.headers_mut().append(name, value);
    }
    let response = client.exchange(request, b"");
    let lines: Vec<&str> = response.text().lines().collect();
    assert_eq!(
        lines,
        [
            "host: localhost",
            "x-one: 1",
            "x-one: 2",
            "cookie: a=b; c=d"
        ]
    );
    drop(client);
    server.stop();
}

#[test]
fn a_request_without_an_authority_may_have_a_host() {
    let server = probe();
    let mut peer = server.connect_http();
    http2::begin(&mut peer);
    let head = [b"\x82\x86\x84", &*http2::literal("host", "a.example")].concat();
    peer.send(&http2::frame(http2::HEADERS, 5, 1, &head));
    let body = http2::next_of(&mut peer, http2::DATA).payload;
    assert_eq!(body, b"GET / 1.1 http a.example\n");
    drop(peer);
    server.stop();
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    for size in [1, 16_384, 16_385, 300_000, MIB] {
        let data = pattern(size);
        let response = client.exchange(ask("POST", "/body"), &data);
        assert_eq!(response.status, 200);
        same(&response.body, &data);
    }
    let response = exchange_with_trailers(&mut client, "/trailers");
    response.is(200, "x-sum: 3");
    drop(client);
    server.stop();
}

/// Sends a short body and a trailer, and checks that the trailer comes back.
#[track_caller]
fn exchange_with_trailers(client: &mut Http2, target: &str) -> harness::Response {
    let (response, mut stream) = client.begin(ask("POST", target), false).expect("begun");
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "3".parse().expect("a value"));
    stream
        .send_data(Bytes::from_static(b"abc"), false)
        .expect("sent");
    stream.send_trailers(trailers).expect("sent");
    let response = client.run(read(response)).expect("a response");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "3".to_owned())]);
    response
}

#[test]
fn responses_without_a_body_have_none() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let head = client.exchange(ask("HEAD", "/big?n=100000"), b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("100000"))
    );
    assert!(head.body.is_empty());
    let none = client.fetch("/answer?status=204");
    assert_eq!((none.status, none.header("content-length")), (204, None));
    let empty = client.fetch("/answer?status=205");
    assert_eq!(
        (empty.status, empty.header("content-length")),
        (205, Some("0"))
    );
    drop(client);
    server.stop();
}

#[test]
fn responses_of_guests_that_await_have_none_either() {
    for server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let head = client.exchange(ask("HEAD", "/sized?5000"), b"");
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("5000"))
        );
        assert!(head.body.is_empty());
        for (status, length) in [(204, None), (205, Some("0")), (304, None)] {
            let none = client.fetch(&format!("/status?{status}"));
            assert_eq!(
                (none.status, none.header("content-length")),
                (status, length)
            );
            assert!(none.body.is_empty());
        }
        drop(client);
        server.stop();
    }
}

#[test]
fn a_client_that_sends_nothing_more_still_gets_its_responses() {
    for (guest, slow, large, length) in [
        ("probe", "/busy?ms=50", "/big?n=60000", "/length"),
        ("proxy-probe", "/late?300", "/bytes?60000", "/sum"),
        ("service-probe", "/late?300", "/bytes?60000", "/sum"),
    ] {
        let server = Run::guest(guest).http().start();
        // The end arrives before the response has begun, or after.
        for (path, begun) in [(slow, false), (large, false), (large, true)] {
            let mut peer = server.connect_http();
            http2::begin(&mut peer);
            let head = |method: &[u8], path| {
                let path = http2::literal(":path", path);
                [method, b"\x86", &path, b"\x01\x09localhost"].concat()
            };
            let whole = http2::frame(http2::HEADERS, 5, 1, &head(b"\x82", path));
            // Next to it, a request that never ends.
            let cut = http2::frame(http2::HEADERS, 4, 3, &head(b"\x83", length));
            if begun {
                peer.send(&whole);
                assert_eq!(http2::next_of(&mut peer, http2::HEADERS).stream, 1);
                peer.send(&cut);
                peer.finish();
            } else {
                peer.send(&[whole, cut].concat());
                peer.finish();
                assert_eq!(http2::next_of(&mut peer, http2::HEADERS).stream, 1);
            }
            let mut ended = false;
            while !ended {
                let data = http2::next_of(&mut peer, http2::DATA);
                assert_eq!(data.stream, 1);
                ended = data.flags & http2::END_STREAM != 0;
            }
            assert_eq!(http2::next_of(&mut peer, http2::GOAWAY).code(), 0);
            // If the response was sent first, frames of a graceful shutdown
            // follow, and room for the body of the other request.
            let rest = peer.rest();
            let mut rest = rest.as_slice();
            while let &[high, middle, low, kind, _, ref stream @ ..] = rest {
                assert!(
                    matches!(kind, http2::PING | http2::GOAWAY | http2::WINDOW_UPDATE)
                        && stream.starts_with(&[0; 4]),
                    "{guest} {path:?}: a frame of type {kind} after the end: {rest:?}"
                );
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                rest = rest.get(9 + length..).unwrap_or_default();
            }
        }
        let mut peer = server.connect_http();
        http2::begin(&mut peer);
        peer.finish();
        peer.rest();
        assert_eq!(server.log.count("connection lost"), 0);
        server.stop();
    }
}

#[test]
fn a_client_that_ends_its_session_still_gets_its_responses() {
    let server = Run::guest("service-probe").https().start();
    let mut peer = Client::of("localhost")
        .alpn("h2")
        .connect(server.address("https"));
    http2::begin(&mut peer);
    let path = http2::literal(":path", "/late?300");
    let head = [b"\x82\x86", &*path, b"\x01\x09localhost"].concat();
    peer.send(&http2::frame(http2::HEADERS, 5, 1, &head));
    peer.finish();
    let body = http2::next_of(&mut peer, http2::DATA);
    assert_eq!((body.stream, &*body.payload), (1, &b"late\n"[..]));
    peer.rest();
    server.stop();
}

#[test]
fn a_client_may_say_that_it_is_going_and_gets_its_responses() {
    for server in awaiting() {
        let mut peer = server.connect_http();
        http2::begin(&mut peer);
        let path = http2::literal(":path", "/late?300");
        let head = [b"\x82\x86", &*path, b"\x01\x09localhost"].concat();
        peer.send(&http2::frame(http2::HEADERS, 5, 1, &head));
        peer.send(&http2::frame(http2::GOAWAY, 0, 0, &[0; 8]));
        let body = http2::next_of(&mut peer, http2::DATA);
        assert_eq!((body.stream, &*body.payload), (1, &b"late\n"[..]));
        peer.rest();
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_response_that_breaks_a_rule_becomes_a_500() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    for wrong in [
        "status=99",
        "header=Transfer-Encoding:chunked",
        "header=a%0ab:c",
    ] {
        client
            .fetch(&format!("/answer?{wrong}"))
            .is(500, "500 Internal Server Error");
    }
    let response = client.fetch("/answer?header=X-Name:Value&trailer=x-t:1&body=b");
    assert_eq!(response.header("x-name"), Some("Value"));
    assert_eq!(response.trailers, [("x-t".to_owned(), "1".to_owned())]);
    server.log.wait_for(&["cannot be sent"]);
    drop(client);
    server.stop();
}

#[test]
fn a_guest_that_wants_the_connection_to_end_gets_that() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let response = client.fetch("/answer?header=Connection:close&body=b");
    assert_eq!(response.header("connection"), None);
    client.ends().expect("a good end");
    server.stop();
}

#[test]
fn requests_of_one_connection_share_an_instance_and_a_trap_costs_one_of_them() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let counts = client.fetch_at_once("/count", 50);
    let mut counts: Vec<u32> = counts
        .iter()
        .map(|it| it.text().parse().expect("a number"))
        .collect();
    counts.sort_unstable();
    assert!(counts.iter().copied().eq(1..=50), "{counts:?}");
    client.fetch("/trap").is(500, "500 Internal Server Error");
    client.fetch("/count").is(200, "1");
    client.fetch("/loop").is(500, "500 Internal Server Error");
    client.fetch("/count").is(200, "1");
    let mut other = Http2::connect(server.address("http"));
    other.fetch("/count").is(200, "1");
    drop(client);
    drop(other);
    server.stop();
}

#[test]
fn a_thousand_requests_at_once_are_answered_in_waves() {
    for guest in ["router", "hello"] {
        let server = Run::guest(guest).http().start();
        let mut client = Http2::connect(server.address("http"));
        let all = client.fetch_at_once("/", 1000);
        assert!(all.iter().all(|it| it.status == 200), "{guest}");
        drop(client);
        server.stop();
    }
    for server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let all = client.fetch_at_once("/hello", 1000);
        assert!(all.iter().all(|it| it.text() == "hello"));
        drop(client);
        server.stop();
    }
}

#[test]
fn a_file_is_sent_through_small_windows_with_its_conditions_and_ranges() {
    let (server, _directory, content) = site(10 * MIB);
    let mut settings = http2::settings();
    settings
        .initial_window_size(5000)
        .initial_connection_window_size(65_535);
    let mut client = Http2::with(server.address("http"), &settings);
    let whole = client.fetch("/file.bin");
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    same(&whole.body, &content);
    let tag = whole.header("etag").expect("a tag").to_owned();

    let with = |name: &'static str, value: &str| {
        let mut request = ask("GET", "/file.bin");
        let value = value.parse().expect("a value");
        request.headers_mut().insert(name, value);
        request
    };
    let part = client.exchange(with("range", "bytes=100-300099"), b"");
    assert_eq!(part.status, 206);
    let range = content.get(100..300_100).expect("that much");
    same(&part.body, range);
    let several = client.exchange(with("range", "bytes=0-9,100000-299999"), b"");
    assert_eq!(several.status, 206);
    let length = several.header("content-length").map(str::to_owned);
    assert_eq!(length, Some(several.body.len().to_string()));
    let same_as_before = client.exchange(with("if-none-match", &tag), b"");
    assert_eq!((same_as_before.status, same_as_before.body.len()), (304, 0));
    let beyond = client.exchange(with("range", "bytes=99999999-"), b"");
    assert_eq!(beyond.status, 416);
    drop(client);
    server.stop();
}

#[test]
fn files_of_one_connection_are_sent_side_by_side() {
    let (server, _directory, content) = site(4 * MIB);
    let mut client = Http2::secure(server.address("https"));
    let all = client.fetch_at_once("/file.bin", 8);
    for response in all {
        same(&response.body, &content);
    }
    drop(client);
    server.stop();
}

#[test]
fn a_client_is_told_to_go_on_where_it_waits_for_that() {
    let mut servers: Vec<_> = awaiting().map(|server| (server, "/sum")).collect();
    servers.push((probe(), "/length"));
    for (server, path) in servers {
        let mut client = Http2::connect(server.address("http"));
        let mut request = ask("POST", path);
        let value = "100-continue".parse().expect("a value");
        request.headers_mut().insert("expect", value);
        let (mut response, mut stream) = client.begin(request, false).expect("begun");
        let told = std::future::poll_fn(|cx| response.poll_informational(cx));
        let told = client.run(told).expect("an interim response").expect("one");
        assert_eq!(told.status(), 100);
        stream
            .send_data(Bytes::from_static(b"body"), true)
            .expect("sent");
        client.run(read(response)).expect("a response").is(200, "4");
        drop(client);
        server.stop();
    }
}

#[test]
fn guests_that_await_answer_as_over_http_1_1() {
    for server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let response = client.fetch("/hello").is(200, "hello");
        assert_eq!(response.header("server"), Some("netwasm"));
        assert_eq!(response.header("content-length"), Some("6"));
        let mut request = ask("PROPFIND", "/request?a=b%20c");
        // Split cookies, as browsers send them.
        for (name, value) in [("x-one", "1"), ("cookie", "a=b"), ("cookie", "c=d")] {
            let value = value.parse().expect("a value");
            request.headers_mut().append(name, value);
        }
        let seen = "PROPFIND http://localhost/request?a=b%20c\nx-one: 1\ncookie: a=b; c=d";
        client.exchange(request, b"").is(200, seen);
        for size in [1, 65_536, 900_000] {
            let data = pattern(size);
            let response = client.exchange(ask("POST", "/echo"), &data);
            same(&response.body, &data);
        }
        let large = client.fetch("/bytes?3000000");
        assert_eq!(large.body.len(), 3_000_000);
        let trailers = client.fetch("/trailers").is(200, "body").trailers;
        assert_eq!(trailers, [("x-sum".to_owned(), "4".to_owned())]);
        let response = exchange_with_trailers(&mut client, "/echo");
        response.is(200, "abc");
        client.fetch("/trap").is(500, "500 Internal Server Error");
        client.fetch("/error").is(500, "500 Internal Server Error");
        client.fetch("/hello").is(200, "hello");
        drop(client);
        server.stop();
    }
}

#[test]
fn what_a_guest_leaves_unfinished_is_no_response() {
    let server = Run::guest("proxy-probe").http().start();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/silent").is(500, "500 Internal Server Error");
    let cut = client.try_exchange(ask("GET", "/unfinished"), b"");
    let error = cut.expect_err("no whole response");
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    drop(client);
    server.stop();
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    for server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        for path in ["/trap-late", "/short", "/long"] {
            let cut = client.try_exchange(ask("GET", path), b"");
            let error = cut.expect_err(path);
            assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{path}");
        }
        client.fetch("/hello").is(200, "hello");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_is_read_while_the_response_is_sent() {
    for server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", "/echo"), false).expect("begun");
        let (head, mut body) = client.run(response).expect("a response").into_parts();
        assert_eq!(head.status, 200);
        for piece in ["one", "two", "three"] {
            client
                .run(send_all(&mut stream, piece.into(), false))
                .expect("sent");
            let back = client.run(body.data()).expect("data").expect("no error");
            assert_eq!(back, piece);
            body.flow_control()
                .release_capacity(back.len())
                .expect("it was taken");
        }
        stream.send_data(Bytes::new(), true).expect("sent");
        while let Some(rest) = client.run(body.data()) {
            assert!(rest.expect("no error").is_empty());
        }
        drop(client);
        server.stop();
    }
}

#[test]
fn each_request_has_its_line_in_the_access_log() {
    let directory = directory();
    let log = directory.path().join("access.log");
    let server = Run::guest("probe")
        .http()
        .args(["--access-log", text(&log)])
        .start();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/length");
    client.exchange(ask("POST", "/big?n=70000"), b"x");
    client.exchange(ask("HEAD", "/length"), b"");
    drop(client);
    server.stop();
    let lines = std::fs::read_to_string(&log).expect("the log");
    for part in [
        "\"GET /length HTTP/2.0\" 200 2 ",
        "\"POST /big?n=70000 HTTP/2.0\" 200 70000 ",
        "\"HEAD /length HTTP/2.0\" 200 ",
    ] {
        assert!(lines.contains(part), "no {part} in {lines}");
    }
}

#[test]
fn a_server_that_is_to_end_finishes_what_is_under_way() {
    for mut server in awaiting() {
        let mut client = Http2::connect(server.address("http"));
        let (late, _) = client.begin(ask("GET", "/late?700"), true).expect("begun");
        client.settle();
        server.signal(Signal::TERM);
        client.run(read(late)).expect("a response").is(200, "late");
        client.ends().expect("a good end");
        assert!(server.wait().success());
    }
}

#[test]
fn a_server_that_is_to_end_takes_the_rest_of_a_body() {
    for (guest, path) in [
        ("probe", "/length"),
        ("proxy-probe", "/sum"),
        ("service-probe", "/sum"),
    ] {
        let mut server = Run::guest(guest).http().start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        let mut send = |piece: &'static [u8], ends| {
            stream
                .send_data(Bytes::from_static(piece), ends)
                .expect("sent");
        };
        send(b"abc", false);
        client.settle();
        server.signal(Signal::TERM);
        server.log.wait_for(&["draining"]);
        send(b"def", false);
        client.settle();
        // After this piece, the server may end, and answers nothing more.
        send(b"ghi", true);
        client.run(read(response)).expect("a response").is(200, "9");
        client.ends().expect("a good end");
        assert!(server.wait().success());
    }
}

#[test]
fn what_takes_too_long_at_the_end_is_cut_off() {
    let server = Run::guest("proxy-probe")
        .http()
        .args(["--shutdown-timeout", "300ms"])
        .start();
    let mut client = Http2::connect(server.address("http"));
    let (never, _) = client.begin(ask("GET", "/never"), true).expect("begun");
    client.settle();
    server.signal(Signal::TERM);
    client.run(read(never)).expect_err("no response");
}

#[test]
fn idle_connections_end_with_the_server() {
    let mut server = probe();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/request");
    server.signal(Signal::TERM);
    client.ends().expect("a good end");
    assert!(server.wait().success());
}

#[test]
fn http_1_1_goes_on_beside_it() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let mut peer = Peer::connect(server.address("http"));
    for _ in 0..3 {
        client.fetch("/length").is(200, "0");
        peer.exchange(post("/length", b"abc")).is(200, "3");
    }
    drop(client);
    drop(peer);
    server.stop();
}
