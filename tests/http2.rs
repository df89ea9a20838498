//! HTTP/2, negotiated in TLS or by prior knowledge, for guests that get
//! buffered requests and for async guests.

mod ending;
mod negotiation;

use bytes::Bytes;

use crate::harness::http2::{self, ask, read, send_all};
use crate::harness::{self, Http2, Peer, Run, Server, directory, pattern, post, same, text};

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
fn cookies_that_a_browser_splits_off_are_one_header_of_max_headers() {
    let server = probe();
    let mut client = Http2::connect(server.address("http"));
    let mut request = ask("GET", "/headers");
    for number in 0..180 {
        let value = format!("c{number}=v").parse().expect("a value");
        request.headers_mut().append("cookie", value);
    }
    let response = client.exchange(request, b"");
    assert_eq!(response.status, 200);
    let cookies = response.text().trim_end().rsplit("cookie: ").next();
    assert_eq!(cookies.map(|it| it.split("; ").count()), Some(180));
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
    // The guest may not have made the body, or tells its length.
    let head = client.exchange(ask("HEAD", "/big?n=0"), b"");
    assert_eq!((head.status, head.header("content-length")), (200, None));
    let head = client.exchange(ask("HEAD", "/answer?header=content-length:1234"), b"");
    assert_eq!(head.header("content-length"), Some("1234"));
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
        // The guest may not have made the body (RFC 9110, section 8.6).
        let head = client.exchange(ask("HEAD", "/status?200"), b"");
        assert_eq!((head.status, head.header("content-length")), (200, None));
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
