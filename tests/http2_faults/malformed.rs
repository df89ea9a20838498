//! Requests that break rules, or that HTTP/2 lets a client make.

use bytes::Bytes;
use http::HeaderValue;

use super::{PROTOCOL_ERROR, WHOLE, kinds, probe, raw};
use crate::harness::http2::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, POST, RST_STREAM, ask, frame, literal, next_of,
    read,
};
use crate::harness::{Http2, Run, Upstream, pattern};

#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let server = probe().start();
    let mut client = Http2::connect(server.address("http"));
    let mut large = ask("GET", "/");
    for number in 0..9 {
        let name = http::HeaderName::try_from(format!("x-{number}")).expect("a name");
        let value = HeaderValue::try_from("v".repeat(4000)).expect("a value");
        large.headers_mut().insert(name, value);
    }
    assert_eq!(client.exchange(large, b"").status, 431);
    let mut many = ask("GET", "/");
    for _ in 0..101 {
        many.headers_mut()
            .append("x", HeaderValue::from_static("y"));
    }
    assert_eq!(client.exchange(many, b"").status, 431);
    let long = format!("/{}", "x".repeat(9000));
    assert_eq!(client.fetch(&long).status, 414);
    client.fetch("/length").is(200, "0");
    drop(client);
    server.stop();
}

#[test]
fn a_malformed_request_costs_its_stream() {
    let server = probe().start();
    let with = |field: Vec<u8>| [GET, field.as_slice()].concat();
    let heads = [
        ("connection", with(literal("connection", "close"))),
        (
            "transfer-encoding",
            with(literal("transfer-encoding", "chunked")),
        ),
        ("upgrade", with(literal("upgrade", "h2c"))),
        ("keep-alive", with(literal("keep-alive", "5"))),
        ("te", with(literal("te", "gzip"))),
        (
            "proxy-connection",
            with(literal("proxy-connection", "close")),
        ),
        ("two lengths", {
            let lengths = ["0", "1"].map(|it| literal("content-length", it));
            with(lengths.concat())
        }),
        ("a signed length", with(literal("content-length", "+0"))),
        ("a length without a body", {
            with(literal("content-length", "1"))
        }),
        ("no method", b"\x86\x84\x01\x09localhost".to_vec()),
        ("an empty path", {
            let path = literal(":path", "");
            [b"\x82\x86", &*path, b"\x01\x09localhost"].concat()
        }),
        ("a malformed authority", {
            [b"\x82\x86\x84", &*literal(":authority", "a b")].concat()
        }),
        ("a path after a field", {
            [b"\x82\x86", &*literal("x", "y"), b"\x84\x01\x09localhost"].concat()
        }),
        ("no path", b"\x82\x86\x01\x09localhost".to_vec()),
        ("no scheme", b"\x82\x84\x01\x09localhost".to_vec()),
        ("two paths", with(b"\x84".to_vec())),
        ("a status", with(b"\x88".to_vec())),
        ("extended CONNECT", {
            let mut head = literal(":method", "CONNECT");
            head.extend(b"\x86\x84\x01\x09localhost");
            head.extend(literal(":protocol", "websocket"));
            head
        }),
    ];
    for (what, head) in heads {
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, WHOLE, 1, &head));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR), "{what}");
        peer.send(&frame(HEADERS, WHOLE, 3, GET));
        let response = next_of(&mut peer, HEADERS);
        assert_eq!(response.stream, 3, "{what}");
    }
    server.stop();
}

#[test]
fn malformed_trailers_cost_their_stream() {
    let server = probe().start();
    for (flags, trailers) in [
        (WHOLE, literal("connection", "close")),
        (END_HEADERS, literal("x-sum", "3")),
        // Pseudo-header fields are not allowed in trailers: RFC 9113, section
        // 8.1.
        (WHOLE, b"\x84".to_vec()),
        (
            WHOLE,
            [literal(":path", "/"), literal("x-sum", "3")].concat(),
        ),
        (WHOLE, literal(":status", "200")),
    ] {
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, END_HEADERS, 1, POST));
        peer.send(&frame(HEADERS, flags, 1, &trailers));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR));
        peer.send(&frame(HEADERS, WHOLE, 3, GET));
        assert_eq!(next_of(&mut peer, HEADERS).stream, 3);
    }
    server
        .log
        .wait_for(&["request refused", "malformed body or trailers"]);
    server.stop();
}

#[test]
fn what_http_2_lets_a_client_say_is_answered() {
    let server = probe().start();
    for field in [("te", "trailers"), ("x-empty", ""), ("content-length", "0")] {
        let mut peer = raw(&server);
        let head = [GET, &literal(field.0, field.1)].concat();
        peer.send(&frame(HEADERS, WHOLE, 1, &head));
        let response = next_of(&mut peer, HEADERS).payload;
        // `:status 200`, in HPACK.
        assert_eq!(response.first(), Some(&0x88), "{field:?}");
    }
    server.stop();
}

#[test]
fn a_body_of_another_length_than_was_told_costs_its_stream() {
    let server = probe().start();
    for (length, body) in [("3", "abcd"), ("5", "abcd")] {
        let mut peer = raw(&server);
        let head = [POST, &literal("content-length", length)].concat();
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        peer.send(&frame(DATA, END_STREAM, 1, body.as_bytes()));
        let told = next_of(&mut peer, RST_STREAM);
        assert_eq!((told.stream, told.code()), (1, PROTOCOL_ERROR));
    }
    server.stop();
}

#[test]
fn what_http_1_1_would_not_answer_is_refused() {
    for run in [probe(), Run::guest("service-probe").http()] {
        let server = run.start();
        let mut client = Http2::connect(server.address("http"));
        let mut other = ask("GET", "/");
        let host = HeaderValue::from_static("other.example");
        other.headers_mut().insert("host", host);
        assert_eq!(client.exchange(other, b"").status, 400);
        let mut expects = ask("POST", "/");
        let more = HeaderValue::from_static("more");
        expects.headers_mut().insert("expect", more);
        assert_eq!(client.exchange(expects, b"").status, 417);
        let mut padded = ask("GET", "/");
        let value = HeaderValue::from_static("value ");
        padded.headers_mut().insert("x-name", value);
        assert_eq!(client.exchange(padded, b"").status, 400);
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, WHOLE, 1, b"\x82\x86\x84"));
        let refused = next_of(&mut peer, HEADERS).payload;
        // `:status 400`, in HPACK.
        assert_eq!(refused.first(), Some(&0x8c), "nobody is asked");
        assert_eq!(client.exchange(ask("CONNECT", ""), b"").status, 501);
        server
            .log
            .wait_for(&["request refused", "this is not a proxy"]);
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_or_while_it_comes() {
    for (run, path) in kinds() {
        let server = run.args(["--max-body", "100kB"]).start();
        let mut client = Http2::connect(server.address("http"));
        let mut told = ask("POST", path);
        let length = HeaderValue::from_static("200000");
        told.headers_mut().insert("content-length", length);
        let (response, stream) = client.begin(told, false).expect("begun");
        assert_eq!(client.run(read(response)).expect("a response").status, 413);
        drop(stream);
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        stream
            .send_data(Bytes::from(pattern(120_000)), false)
            .expect("sent");
        assert_eq!(client.run(read(response)).expect("a response").status, 413);
        let all = client.exchange(ask("POST", path), &pattern(90_000));
        all.is(200, "90000");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_response_without_content_tells_no_length() {
    let upstream = Upstream::answering("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
    let server = Run::guest("reverse-proxy")
        .http()
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&upstream.url("")])
        .start();
    let response = Http2::connect(server.address("http")).fetch("/");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("content-length"), None);
    server.stop();
}
