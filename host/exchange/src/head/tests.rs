//! Tests of the heads of requests.

mod framing;
mod limits;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 << 10,
    fields: 100,
    line: 8 << 10,
};

/// Returns the request's head, parsed in one go. Checks that every cut first
/// asks for more, then gives an equal head.
fn accepted(request: &str) -> Head {
    let input = request.as_bytes();
    let mut head = Head::default();
    let length = head.parse(input, &LIMITS).expect("a request");
    let length = length.expect("a whole head");
    for cut in 0..length {
        let mut cut_head = Head::default();
        let part = input.get(..cut).expect("a part");
        assert_eq!(cut_head.parse(part, &LIMITS), Ok(None), "cut at {cut}");
        assert_eq!(cut_head.parse(input, &LIMITS), Ok(Some(length)));
        assert_same(&head, &cut_head);
    }
    let mut slow_head = Head::default();
    for end in 1..length {
        let part = input.get(..end).expect("a part");
        assert_eq!(slow_head.parse(part, &LIMITS), Ok(None));
    }
    assert_eq!(slow_head.parse(input, &LIMITS), Ok(Some(length)));
    assert_same(&head, &slow_head);
    head
}

fn assert_same(one: &Head, other: &Head) {
    assert_eq!(one.method(), other.method());
    assert_eq!(one.target(), other.target());
    assert_eq!(one.request_line(), other.request_line());
    assert_eq!(one.authority(), other.authority());
    assert_eq!(one.minor_version(), other.minor_version());
    assert_eq!(one.framing(), other.framing());
    assert_eq!(one.keep_alive(), other.keep_alive());
    assert_eq!(one.expects_continue(), other.expects_continue());
    assert_eq!(one.accepts_trailers(), other.accepts_trailers());
    assert!(one.fields().eq(other.fields()));
}

/// Returns the status of the refusal, which no cut changes.
fn refused(request: &[u8]) -> u16 {
    refused_within(request, &LIMITS)
}

fn refused_within(request: &[u8], limits: &HeadLimits) -> u16 {
    let refusal = Head::default()
        .parse(request, limits)
        .expect_err("a refusal");
    let mut head = Head::default();
    for end in 1..=request.len() {
        match head.parse(request.get(..end).expect("a part"), limits) {
            Ok(None) => {}
            Ok(Some(length)) => panic!("accepted with {length} bytes"),
            Err(other) => {
                assert_eq!(other, refusal, "at {end}");
                return refusal.status;
            }
        }
    }
    panic!("not refused in pieces");
}

/// Returns a GET with this header line after a `Host`.
fn with(line: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")
}

fn refused_with(line: &str) -> u16 {
    refused(with(line).as_bytes())
}

fn accepted_with(line: &str) -> Head {
    accepted(&with(line))
}

fn refused_host(host: &str) -> u16 {
    refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
}

fn refused_target(target: &str) -> u16 {
    refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

#[test]
fn a_request_of_curl_is_understood() {
    let head = accepted(
        "GET /a%20b?q=1&r HTTP/1.1\r\nHost: example.com:8080\r\n\
         User-Agent: curl/8.14.1\r\nAccept: */*\r\nX: \r\nx:\t1 2 \t\r\n\r\n",
    );
    assert_eq!(head.method(), "GET");
    assert_eq!(head.target(), "/a%20b?q=1&r");
    assert_eq!(head.request_line(), b"GET /a%20b?q=1&r HTTP/1.1");
    assert_eq!(head.authority(), Some("example.com:8080"));
    assert_eq!(head.minor_version(), 1);
    assert_eq!(head.framing(), Framing::None);
    assert!(head.keep_alive());
    assert!(!head.expects_continue());
    assert!(!head.accepts_trailers());
    assert_eq!(head.first("user-agent"), Some(&b"curl/8.14.1"[..]));
    assert_eq!(head.first("cookie"), None);
    assert!(head.all("X").eq([&b""[..], b"1 2"]));
    let fields: Vec<(&str, &[u8])> = head.fields().collect();
    let expected: [(&str, &[u8]); 5] = [
        ("Host", b"example.com:8080"),
        ("User-Agent", b"curl/8.14.1"),
        ("Accept", b"*/*"),
        ("X", b""),
        ("x", b"1 2"),
    ];
    assert_eq!(fields, expected);
}

#[test]
fn pipelined_requests_are_told_apart_and_leave_nothing_behind() {
    let first = "POST http://b?q HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\
                 Expect: 100-continue\r\nTE: trailers\r\n\r\n";
    let second = "GET / HTTP/1.0\r\n\r\n";
    let input = [first, second].concat();
    let mut head = Head::default();
    let length = head.parse(input.as_bytes(), &LIMITS);
    assert_eq!(length, Ok(Some(first.len())));
    let rest = input.as_bytes().get(first.len()..).expect("the second");
    assert_eq!(head.parse(rest, &LIMITS), Ok(Some(second.len())));
    assert_same(&head, &accepted(second));
    assert_eq!(head.authority(), None);
    assert_eq!(head.fields().count(), 0);
}

#[test]
fn any_token_is_a_method() {
    assert_eq!(
        accepted("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.0\r\n\r\n").method(),
        "M-SEARCH!#$%&'*+.^_`|~"
    );
    assert_eq!(accepted("get / HTTP/1.0\r\n\r\n").method(), "get");
    for request in [
        "G\u{e9}T / HTTP/1.0\r\n\r\n",
        "(GET) / HTTP/1.0\r\n\r\n",
        "G\0T / HTTP/1.0\r\n\r\n",
        " / HTTP/1.0\r\n\r\n",
        "/ HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(refused(request.as_bytes()), 400, "{request:?}");
    }
}

#[test]
fn what_is_no_http_is_refused_at_once() {
    let refusal = Head::default().parse(b"\x16\x03\x01\x02\0\x01", &LIMITS);
    assert_eq!(refusal.map_err(|refusal| refusal.status), Err(400));
}

#[test]
fn white_space_in_the_request_line_is_one_space_twice() {
    for request in [
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / a HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(request.as_bytes()), 400, "{request:?}");
    }
}

#[test]
fn empty_lines_before_a_request_are_ignored_up_to_a_few() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = accepted(&["\r\n\r\n\r\n\r\n", request].concat());
    assert_eq!(head.request_line(), b"GET / HTTP/1.1");
    let flood = ["\r\n\r\n\r\n\r\n\r\n", request].concat();
    assert_eq!(refused(flood.as_bytes()), 400);
    assert_eq!(refused(["\n", request].concat().as_bytes()), 400);
    assert_eq!(refused(["\r\n\n", request].concat().as_bytes()), 400);
    assert_eq!(refused(["\r", request].concat().as_bytes()), 400);
}

#[test]
fn another_version_is_not_supported_and_a_malformed_one_is_bad() {
    for version in ["HTTP/9.9", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9"] {
        let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(request.as_bytes()), 505, "{version}");
    }
    assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    for version in [
        "http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/+1.1",
        "HTTP /1.1",
        "HTTPS/1.1",
        "1.1",
        "",
    ] {
        let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(request.as_bytes()), 400, "{version}");
    }
}

#[test]
fn a_line_that_ends_in_a_bare_line_feed_is_refused_wherever_it_is() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n";
    for (at, _) in request.match_indices("\r\n") {
        let (before, after) = request.split_at(at);
        let bare_feed = [before, after.get(1..).expect("a line feed")].concat();
        assert_eq!(refused(bare_feed.as_bytes()), 400, "{bare_feed:?}");
        let return_twice = [before, "\r", after].concat();
        assert_eq!(refused(return_twice.as_bytes()), 400, "{return_twice:?}");
    }
    assert_eq!(refused(b"GET / HTTP/1.1\n\n"), 400);
    assert_eq!(refused(b"GET / HTTP/1.0\r\n\n"), 400);
    assert_eq!(refused(b"GET / HTTP/1.0\n\r\n"), 400);
}

#[test]
fn header_lines_are_not_folded() {
    assert_eq!(refused_with("X: 1\r\n 2"), 400);
    assert_eq!(refused_with("X: 1\r\n\t2"), 400);
    assert_eq!(refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
    assert_eq!(refused_with(" "), 400);
}

#[test]
fn a_header_name_is_a_token_right_before_a_colon() {
    for line in [
        "X : 1",
        "X\t: 1",
        ": 1",
        "X",
        "X 1",
        "X(: 1",
        "\u{e9}: 1",
        "X\u{fe}: 1",
        "X\0: 1",
        "X\r: 1",
        "\0",
    ] {
        assert_eq!(refused_with(line), 400, "{line:?}");
    }
    accepted_with("!#$%&'*+-.^_`|~09Az: 1");
}

#[test]
fn a_header_value_has_no_control_characters() {
    for line in [
        "X: a\0b",
        "X: a\rb",
        "X: a\nb",
        "X: \x7f",
        "X: \x1b[0m",
        "X:\0",
    ] {
        assert_eq!(refused_with(line), 400, "{line:?}");
    }
    let head = accepted_with("X: a\tb \u{e9} c");
    assert_eq!(head.first("x"), Some("a\tb \u{e9} c".as_bytes()));
    assert_eq!(accepted_with("X: :").first("x"), Some(&b":"[..]));
    assert_eq!(accepted_with("X: \t ").first("x"), Some(&b""[..]));
}

#[test]
fn a_target_is_a_path_without_spaces_control_characters_and_a_fragment() {
    for target in [
        "/",
        "/a/../b",
        "//a",
        "/%00",
        "/a|{}\"<>\\^`",
        "/\u{e9}?\u{e9}",
        "/?",
        "/??/",
    ] {
        let request = format!("GET {target} HTTP/1.0\r\n\r\n");
        assert_eq!(accepted(&request).target(), target);
    }
    for target in [
        "a", "?a", "a/b", "/a\0", "/a\x7f", "/a\x1f", "/#a", "/??/#", "#", "*a", "**", "a:80",
        "\u{e9}",
    ] {
        assert_eq!(refused_target(target), 400, "{target:?}");
    }
}

#[test]
fn bytes_of_a_target_that_are_no_utf_8_are_percent_encoded() {
    let request =
        b"GET http://a:80/\xff\xc3\xa9?\xe9%20 HTTP/1.1\r\nHost: b\r\nX: \xff\r\n\r\nrest";
    let whole = request.len() - "rest".len();
    for first in 0..=whole {
        let mut head = Head::default();
        let early = head.parse(&request[..first], &LIMITS);
        if early == Ok(None) {
            let length = head.parse(request, &LIMITS);
            assert_eq!(length, Ok(Some(whole)), "after {first} bytes");
        }
        assert_eq!(head.target(), "/%FF\u{e9}?%E9%20", "after {first} bytes");
        assert_eq!(head.authority(), Some("a:80"));
        let line = b"GET http://a:80/\xff\xc3\xa9?\xe9%20 HTTP/1.1";
        assert_eq!(head.request_line(), line);
        let fields: Vec<_> = head.fields().collect();
        assert_eq!(fields, [("Host", &b"b"[..]), ("X", b"\xff")]);
    }
    for request in [
        &b"GET \xff HTTP/1.1\r\nHost: b\r\n\r\n"[..],
        b"GET /\xff HTTP/1.1\xff\r\nHost: b\r\n\r\n",
        b"G\xffT /\xff HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET /\xff# HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET http://a\xff/ HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: b\xff\r\n\r\n",
    ] {
        assert_eq!(refused(request), 400, "{}", request.escape_ascii());
    }
    // The limit applies to the bytes as sent, not to their encoding.
    let limits = HeadLimits { line: 16, ..LIMITS };
    let parsed = Head::default().parse(b"GET /\xff\xff HTTP/1.0\r\n\r\n", &limits);
    assert_eq!(parsed, Ok(Some(20)));
}

#[test]
fn the_asterisk_is_a_target_of_options_alone() {
    let head = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.target(), "*");
    assert_eq!(refused_target("*"), 400);
}

#[test]
fn an_absolute_target_goes_before_host() {
    for (target, authority, path) in [
        ("http://b/c?d", "b", "/c?d"),
        ("HTTPS://b:443", "b:443", "/"),
        ("http://b?c=/d", "b", "/?c=/d"),
        ("http://[::1]:80/", "[::1]:80", "/"),
        ("http://b//", "b", "//"),
    ] {
        let head = accepted(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"));
        assert_eq!(head.authority(), Some(authority));
        assert_eq!(head.target(), path);
        assert_eq!(head.first("host"), Some(&b"a"[..]));
        assert_eq!(
            head.request_line(),
            format!("GET {target} HTTP/1.1").as_bytes()
        );
        let head = accepted(&format!("GET {target} HTTP/1.0\r\n\r\n"));
        assert_eq!(head.authority(), Some(authority));
    }
    for target in [
        "ftp://b/",
        "://b/",
        "http:/b",
        "http:///c",
        "http://",
        "http://?c",
        "http://:80/",
        "http://user@b/",
        "http://user:password@b/",
        "http://b:x/",
        "http://b/#c",
        "http://[::1/",
        "http://b\\c/",
    ] {
        assert_eq!(refused_target(target), 400, "{target}");
    }
    assert_eq!(refused(b"GET http://b/ HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused(b"GET http://b/ HTTP/1.1\r\nHost: c@d\r\n\r\n"), 400);
}

#[test]
fn this_is_no_proxy() {
    assert_eq!(refused(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), 501);
}
