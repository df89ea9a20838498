//! Request targets over both protocols, with handlers of all kinds.

use std::fs;
use std::path::Path;

use crate::harness::http2::{
    self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, frame, next_frame,
};
use crate::harness::{Run, Server, TcpPeer, write};

const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Queries that clients send unencoded: as sent, as text, and as a URI holds
/// them.
const QUERIES: &[(&[u8], &str, &str)] = &[
    (b"a|b{c}[d]\\e^f", "a|b{c}[d]\\e^f", "a|b{c}[d]\\e^f"),
    (
        b"q={\"a\":\"<b>`\"}",
        "q={\"a\":\"<b>`\"}",
        "q={%22a%22:%22%3Cb%3E%60%22}",
    ),
    (b"q=\xc3\xa9\xc2\x9b%20", "q=é\u{9b}%20", "q=é\u{9b}%20"),
    (b"q=\xe9&\xff\xc3", "q=%E9&%FF%C3", "q=%E9&%FF%C3"),
    (b"?'!$&()*+,;=:@/~", "?'!$&()*+,;=:@/~", "?'!$&()*+,;=:@/~"),
];

/// Targets that are refused, and a part of the reason.
const REFUSED: &[(&[u8], &str)] = &[
    (b"/request?a#b", "fragment"),
    (b"/#", "fragment"),
    (b"request", "target that is n"),
    (b"?a", "target that is n"),
    (b"*", "another method than OPTIONS"),
];

/// Targets with bytes that end a request line of HTTP/1.1, or do so for some
/// parsers.
const CONTROL: &[&[u8]] = &[
    b"/a b",
    b"/a\0",
    b"/a\tb",
    b"/\x1b[1m",
    b"/a\x7f",
    b"/a\r\nb",
    b"/?a\nb",
];

/// Returns a server of each kind, and true if its handler gets URIs.
fn kinds() -> impl Iterator<Item = (Server, bool)> {
    let kinds = [
        ("probe", false),
        ("proxy-probe", true),
        ("service-probe", true),
    ];
    kinds
        .into_iter()
        .map(|(guest, uri)| (Run::guest(guest).http().start(), uri))
}

/// A status and a body.
type Answer = (u16, String);

/// Sends a request over HTTP/1.1.
fn over_http_1(server: &Server, method: &str, target: &[u8]) -> Answer {
    let mut peer = server.connect_http();
    let line = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"].concat();
    let response = peer.exchange([&line[..], b"Host: localhost\r\n\r\n"].concat());
    (response.status, response.text().to_owned())
}

/// Returns the head of a request in HPACK.
fn head(method: &str, target: &[u8]) -> Vec<u8> {
    let mut head = http2::literal(":method", method);
    // `:scheme http`, then `:path`, added to the dynamic table, and
    // `:authority`.
    head.extend([0x86, 0x44, u8::try_from(target.len()).expect("a short one")]);
    head.extend(target);
    head.extend(b"\x01\x09localhost");
    head
}

/// Sends a request over HTTP/2 twice, the second time with the path from
/// HPACK's dynamic table.
fn over_http_2(server: &Server, method: &str, target: &[u8]) -> Answer {
    let mut peer = begun(server);
    peer.send(&frame(HEADERS, WHOLE, 1, &head(method, target)));
    let first = answer(&mut peer, 1);
    let again = [
        &http2::literal(":method", method)[..],
        b"\x86\xbe\x01\x09localhost",
    ]
    .concat();
    peer.send(&frame(HEADERS, WHOLE, 3, &again));
    assert_eq!(answer(&mut peer, 3), first);
    first
}

fn begun(server: &Server) -> TcpPeer {
    let mut peer = server.connect_http();
    http2::begin(&mut peer);
    peer
}

/// Returns the next frame of a stream. Fails on a GOAWAY.
fn next_of_stream(peer: &mut TcpPeer, stream: u32) -> Frame {
    loop {
        let frame = next_frame(peer);
        assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        if frame.stream == stream {
            return frame;
        }
    }
}

/// Reads the answer on a stream.
fn answer(peer: &mut TcpPeer, stream: u32) -> Answer {
    let head = next_of_stream(peer, stream);
    assert_eq!(head.kind, HEADERS, "{head:?}");
    // Statuses of HPACK's static table.
    let status = match head.payload.first() {
        Some(0x88) => 200,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        other => panic!("{other:?}"),
    };
    let mut body = Vec::new();
    let mut flags = head.flags;
    while flags & END_STREAM == 0 {
        let frame = next_of_stream(peer, stream);
        flags = frame.flags;
        if frame.kind == DATA {
            body.extend(frame.payload);
        }
    }
    let body = String::from_utf8(body).expect("UTF-8");
    (status, body.trim_end().to_owned())
}

#[test]
fn what_clients_do_not_encode_is_taken_by_every_protocol_and_handler() {
    for (server, uri) in kinds() {
        for &(sent, text, encoded) in QUERIES {
            let target = [b"/request?", sent].concat();
            let told = format!("/request?{}", if uri { encoded } else { text });
            for ask in [over_http_1, over_http_2] {
                let (status, body) = ask(&server, "GET", &target);
                assert_eq!(status, 200, "{told}");
                let line = body.lines().next().unwrap_or_default();
                let expected = match uri {
                    true => format!("GET http://localhost{told}"),
                    false => format!("GET {told} 1.1 http localhost"),
                };
                assert_eq!(line, expected);
            }
        }
        server.stop();
    }
}

#[test]
fn an_absolute_target_may_have_it_too() {
    for (server, uri) in kinds() {
        let (status, body) = over_http_1(&server, "GET", b"http://a.example/request?<\xe9>");
        assert_eq!(status, 200);
        let told = match uri {
            true => "GET http://a.example/request?%3C%E9%3E",
            false => "GET /request?<%E9> 1.1 http a.example",
        };
        assert!(body.starts_with(told), "{body}");
        server.stop();
    }
}

#[test]
fn files_are_found_by_names_that_clients_do_not_encode() {
    let scratch = tempfile::tempdir().expect("a directory");
    let names = ["é.txt", "a|b^c.txt", "a<b>`\"{}.txt"];
    for name in names {
        write(scratch.path(), name, name);
    }
    let dir = format!("{}::/", scratch.path().display());
    for guest in ["static", "file-server"] {
        let server = Run::guest(guest).http().args(["--dir", &dir]).start();
        for name in names {
            for ask in [over_http_1, over_http_2] {
                let found = ask(&server, "GET", format!("/{name}?<\"").as_bytes());
                assert_eq!(found, (200, name.to_owned()), "{guest}");
            }
        }
        let missing = over_http_1(&server, "GET", b"/\xe9.txt").0;
        assert_eq!(over_http_2(&server, "GET", b"/\xe9.txt").0, missing);
        assert!([400, 404].contains(&missing), "{missing}");
        server.stop();
    }
}

#[test]
fn what_no_target_may_have_is_a_400_and_a_line_in_the_log() {
    for (server, _) in kinds() {
        let mut count = 0;
        for &(target, reason) in REFUSED {
            for ask in [over_http_1, over_http_2] {
                assert_eq!(ask(&server, "GET", target).0, 400, "{reason}");
                server
                    .log
                    .wait_for(&["request refused", "status=400", reason]);
            }
            count += 3;
        }
        for target in CONTROL {
            // In HTTP/1.1 such a byte may end the target, which is refused too.
            assert_eq!(over_http_1(&server, "GET", target).0, 400, "{target:?}");
            assert_eq!(over_http_2(&server, "GET", target).0, 400, "{target:?}");
            count += 3;
        }
        server.log.wait_for(&["space or control character"]);
        server.log.wait_for_count("request refused", count);
        server.stop();
    }
}

#[test]
fn a_refused_target_costs_its_stream_alone() {
    let server = Run::guest("probe").http().start();
    let mut peer = begun(&server);
    let told = |query: &str| (200, format!("GET /request{query} 1.1 http localhost"));
    let refused = (400, "400 Bad Request: fragment in the target".to_owned());
    let targets: [(&[u8], Answer); 4] = [
        (b"/request?<", told("?<")),
        (b"/#", refused),
        (b"/request?\xff", told("?%FF")),
        (b"/request", told("")),
    ];
    for (stream, (target, expected)) in (1..).step_by(2).zip(targets) {
        peer.send(&frame(HEADERS, WHOLE, stream, &head("GET", target)));
        assert_eq!(answer(&mut peer, stream), expected);
    }
    server.stop();
}

#[test]
fn a_target_comes_with_a_body_and_in_pieces() {
    for (server, uri) in kinds() {
        let target: &[u8] = b"/request?<\xe9>";
        let told = if uri { "?%3C%E9%3E" } else { "?<%E9>" };
        let mut peer = begun(&server);
        let mut frames = frame(HEADERS, 0, 1, &head("POST", target)[..20]);
        frames.extend(frame(9, END_HEADERS, 1, &head("POST", target)[20..]));
        frames.extend(frame(DATA, END_STREAM, 1, b"body"));
        for byte in frames {
            peer.send(&[byte]);
        }
        let (status, body) = answer(&mut peer, 1);
        assert_eq!(status, 200);
        assert!(body.contains(told), "{body}");
        server.stop();
    }
}

#[test]
fn the_access_log_has_targets_as_they_were_sent_and_escapes_them() {
    let scratch = tempfile::tempdir().expect("a directory");
    for format in ["combined", "json"] {
        let log = scratch.path().join(format);
        let file = log.to_str().expect("UTF-8");
        let server = Run::guest("probe")
            .http()
            .args(["--access-log", file, "--access-log-format", format])
            .start();
        let target: &[u8] = b"/request?\"<\\\xc3\xa9\xff";
        for ask in [over_http_1, over_http_2] {
            assert_eq!(ask(&server, "GET", target).0, 200);
        }
        assert_eq!(over_http_2(&server, "GET", b"/\x1b[1m\n\"#").0, 400);
        server.stop();
        let expected = match format {
            "combined" => [
                "\"GET /request?\\x22<\\x5C\\xC3\\xA9\\xFF HTTP/1.1\" 200 ",
                "\"GET /request?\\x22<\\x5C\\xC3\\xA9\\xFF HTTP/2.0\" 200 ",
                "\"GET /\\x1B[1m\\x0A\\x22# HTTP/2.0\" 400 ",
            ],
            _ => [
                "\"GET /request?\\\"<\\\\é\u{fffd} HTTP/1.1\"",
                "\"GET /request?\\\"<\\\\é\u{fffd} HTTP/2.0\"",
                "\"GET /\\u001b[1m\\n\\\"# HTTP/2.0\"",
            ],
        };
        has_lines(&log, 5, &expected);
    }
}

#[track_caller]
fn has_lines(log: &Path, count: usize, parts: &[&str]) {
    let lines = fs::read_to_string(log).expect("the log");
    assert_eq!(lines.lines().count(), count, "{lines}");
    for part in parts {
        assert!(lines.contains(part), "no {part} in {lines}");
    }
}

#[test]
fn options_of_the_server_itself_reach_every_handler() {
    for (server, uri) in kinds() {
        for ask in [over_http_1, over_http_2] {
            let (status, body) = ask(&server, "OPTIONS", b"*");
            assert_eq!(status, 200);
            let told = match uri {
                true => "OPTIONS http://localhost*",
                false => "OPTIONS * 1.1 http localhost",
            };
            assert!(body.starts_with(told), "{body}");
            // OPTIONS of a path reaches every handler, too.
            let (status, body) = ask(&server, "OPTIONS", b"/request");
            assert_eq!(status, 200);
            assert!(body.starts_with("OPTIONS "), "{body}");
        }
        server.stop();
    }
}

#[test]
fn max_forwards_reaches_handlers_of_all_kinds() {
    for (server, uri) in kinds() {
        let path: &[u8] = if uri { b"*" } else { b"/headers" };
        let line = [
            b"OPTIONS ",
            path,
            b" HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n",
        ]
        .concat();
        let response = server.connect_http().exchange(line);
        let text = response.text().to_ascii_lowercase();
        assert!(text.contains("max-forwards: 0"), "{text}");
        let mut peer = begun(&server);
        let fields = [head("OPTIONS", path), http2::literal("max-forwards", "0")].concat();
        peer.send(&frame(HEADERS, WHOLE, 1, &fields));
        let (_, text) = answer(&mut peer, 1);
        assert!(text.contains("max-forwards: 0"), "{text}");
        server.stop();
    }
}

#[test]
fn two_lengths_are_refused_even_if_they_are_equal() {
    for (guest, path) in [
        ("probe", "/length"),
        ("proxy-probe", "/sum"),
        ("service-probe", "/sum"),
    ] {
        let server = Run::guest(guest).http().start();
        for second in ["4", "04", "5"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n");
            let request = format!("{head}Content-Length: {second}\r\n\r\nbody");
            assert_eq!(server.connect_http().exchange(request).status, 400);
        }
        let fields = |second| {
            let lengths = ["4", second].map(|it| http2::literal("content-length", it));
            [head("POST", path.as_bytes()), lengths.concat()].concat()
        };
        let mut peer = begun(&server);
        for (stream, second) in [(1, "4"), (3, "04")] {
            peer.send(&frame(HEADERS, END_HEADERS, stream, &fields(second)));
            peer.send(&frame(DATA, END_STREAM, stream, b"body"));
            assert_eq!(answer(&mut peer, stream).0, 400);
        }
        // Different lengths make the request malformed: RFC 9113, section
        // 8.1.1.
        peer.send(&frame(HEADERS, END_HEADERS, 5, &fields("5")));
        assert_eq!(next_of_stream(&mut peer, 5).kind, RST_STREAM);
        server.stop();
    }
}
