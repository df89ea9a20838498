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

#[test]
fn a_host_is_needed_once_and_valid() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(refused_with("Host: a"), 400);
    assert_eq!(refused_with("hOST: b"), 400);
    assert_eq!(
        refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        400
    );
    assert_eq!(refused(b"GET / HTTP/1.0\r\nHost:\r\n\r\n"), 400);
    assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").authority(), None);
    for host in [
        "a",
        "example.com",
        "a_b.example:8080",
        "127.0.0.1:1",
        "a:",
        "a:00080",
        "[::1]",
        "[2001:db8::1]:443",
        "[::ffff:192.0.2.1]",
        "%41b",
        "a~!$&'()*+,;=b",
    ] {
        let head = accepted(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(head.authority(), Some(host));
    }
    for host in [
        "",
        " ",
        ":80",
        "a b",
        "a@b",
        "user:password@b",
        "a/b",
        "http://a",
        "a:x",
        "a:-1",
        "a:+80",
        "a:65536",
        "a:80:80",
        "a:99999999999999999999999",
        "::1",
        "[::1",
        "[]",
        "[::1]a",
        "[::1]80",
        "[fe80::1%eth0]",
        "[1.2.3.4]",
        "%4",
        "%4g",
        "a%",
        "\u{e9}",
        "a\"",
        "a<b",
        "a\\b",
        "a?b",
        "a#b",
    ] {
        assert_eq!(refused_host(host), 400, "{host:?}");
    }
}

#[test]
fn a_content_length_is_digits_and_given_once() {
    assert_eq!(
        accepted_with("Content-Length: 5").framing(),
        Framing::Length(5)
    );
    assert_eq!(
        accepted_with("content-length:0").framing(),
        Framing::Length(0)
    );
    assert_eq!(
        accepted_with("CONTENT-LENGTH: 0018446744073709551615").framing(),
        Framing::Length(u64::MAX)
    );
    for length in [
        "5,5",
        "5, 5",
        "+5",
        "-1",
        "0x5",
        "1_0",
        "",
        " ",
        "5 5",
        "5.",
        "five",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{0665}",
    ] {
        assert_eq!(
            refused_with(&format!("Content-Length: {length}")),
            400,
            "{length:?}"
        );
    }
    assert_eq!(refused_with("Content-Length: 5\r\nContent-Length: 6"), 400);
    assert_eq!(refused_with("Content-Length: 5\r\nContent-Length: 5"), 400);
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    for line in ["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED "] {
        assert_eq!(accepted_with(line).framing(), Framing::Chunked);
    }
    for coding in [
        "xchunked",
        "chunkedx",
        ",chunked",
        "chunked,",
        "chunked, gzip",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: gzip",
        "chunked\r\nTransfer-Encoding:",
        "identity",
        "gzip",
        "",
        "\"chunked\"",
        "chunked;q=1",
        "chunked chunked",
        "\u{b}chunked",
    ] {
        let line = format!("Transfer-Encoding: {coding}");
        assert_eq!(refused_with(&line), 400, "{coding:?}");
    }
    assert_eq!(refused_with("Transfer-Encoding: gzip, chunked"), 501);
    assert_eq!(
        refused_with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
        501
    );
}

#[test]
fn transfer_encoding_does_not_go_with_a_length_or_with_http_1_0() {
    assert_eq!(
        refused_with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        400
    );
    assert_eq!(
        refused_with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        400
    );
    assert_eq!(
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
}

#[test]
fn a_connection_is_kept_by_version_and_option() {
    assert!(!accepted_with("Connection: close").keep_alive());
    assert!(!accepted_with("Connection: keep-alive, , Close").keep_alive());
    assert!(!accepted_with("Connection: te\r\nConnection: close").keep_alive());
    assert!(accepted_with("Connection: closed").keep_alive());
    assert!(accepted_with("Connection: upgrade").keep_alive());
    let old = |line: &str| accepted(&format!("GET / HTTP/1.0\r\n{line}\r\n\r\n")).keep_alive();
    assert!(!old("X: 1"));
    assert!(old("Connection: Keep-Alive"));
    assert!(!old("Connection: keep-alive, close"));
}

#[test]
fn an_expectation_is_100_continue_or_fails() {
    assert!(accepted_with("Expect: 100-Continue").expects_continue());
    let old = accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.expects_continue());
    for expectation in ["200-ok", "100-continue, other", ""] {
        assert_eq!(refused_with(&format!("Expect: {expectation}")), 417);
    }
}

#[test]
fn trailers_are_accepted_where_te_says_so() {
    assert!(accepted_with("TE: gzip;q=0.5, Trailers").accepts_trailers());
    assert!(accepted_with("TE: gzip\r\nTE: trailers").accepts_trailers());
    assert!(!accepted_with("TE: trailersx").accepts_trailers());
    assert!(!accepted("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").accepts_trailers());
}

#[test]
fn a_request_line_over_the_limit_is_414_before_it_ends() {
    let limits = HeadLimits { line: 20, ..LIMITS };
    let line = "GET /12345 HTTP/1.0";
    let exact = HeadLimits {
        line: line.len(),
        ..LIMITS
    };
    let request = format!("{line}\r\n\r\n");
    let parse = |limits| Head::default().parse(request.as_bytes(), limits);
    assert_eq!(parse(&exact), Ok(Some(request.len())));
    let request = b"GET /1234567890 HTTP/1.0\r\n\r\n";
    assert_eq!(refused_within(request, &limits), 414);
    assert_eq!(
        refused_within(b"GET /123456789012345", &HeadLimits { line: 19, ..LIMITS }),
        414
    );
    let endless = [b"GET /".as_slice(), &[b'a'; 8 << 10]].concat();
    assert_eq!(refused(&endless), 414);
    assert_eq!(
        refused_within(
            &endless,
            &HeadLimits {
                bytes: 100,
                ..LIMITS
            }
        ),
        414
    );
}

#[test]
fn a_head_over_the_limit_is_431_before_it_ends() {
    let request = "GET / HTTP/1.0\r\nX: 1\r\n\r\n";
    let limits = HeadLimits {
        bytes: request.len(),
        ..LIMITS
    };
    let length = Head::default().parse(request.as_bytes(), &limits);
    assert_eq!(length, Ok(Some(request.len())));
    let limits = HeadLimits {
        bytes: request.len() - 1,
        ..LIMITS
    };
    assert_eq!(refused_within(request.as_bytes(), &limits), 431);
    let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 32 << 10]].concat();
    assert_eq!(refused(&endless), 431);
}

#[test]
fn too_many_header_lines_are_431_before_they_end() {
    let lines = |count| format!("GET / HTTP/1.0\r\n{}", "X: 1\r\n".repeat(count));
    let head = accepted(&format!("{}\r\n", lines(100)));
    assert_eq!(head.fields().count(), 100);
    assert_eq!(refused(format!("{}\r\n", lines(101)).as_bytes()), 431);
    assert_eq!(refused(format!("{}X", lines(100)).as_bytes()), 431);
    let limits = HeadLimits {
        fields: 0,
        ..LIMITS
    };
    assert_eq!(refused_within(lines(1).as_bytes(), &limits), 431);
}

#[test]
fn more_header_lines_than_fit_the_stack_are_taken_where_allowed() {
    let limits = HeadLimits {
        fields: 1000,
        ..LIMITS
    };
    let request = format!("GET / HTTP/1.0\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    let mut head = Head::default();
    let length = head.parse(request.as_bytes(), &limits);
    assert_eq!(length, Ok(Some(request.len())));
    assert_eq!(head.fields().count(), 1000);
}

#[test]
fn the_request_line_is_known_for_the_log() {
    let mut head = Head::default();
    let line = |head: &Head| String::from_utf8_lossy(head.request_line()).into_owned();
    assert!(head.parse(b"GET /a HTTP/1.1\r\n\r\n", &LIMITS).is_err());
    assert_eq!(line(&head), "GET /a HTTP/1.1");
    assert!(
        head.parse(b"\r\nGET /b HTTP/1.1\r\nX : 1\r\n", &LIMITS)
            .is_err()
    );
    assert_eq!(line(&head), "GET /b HTTP/1.1");
    assert_eq!(head.parse(b"GET /c", &LIMITS), Ok(None));
    assert_eq!(line(&head), "");
    assert_eq!(head.parse(b"GET /c HTTP/1.1\r\n", &LIMITS), Ok(None));
    assert_eq!(line(&head), "GET /c HTTP/1.1");
    assert_eq!(head.method(), "");
    head.clear();
    assert!(head.parse(b"GET /d\xff HTTP/3\r\n", &LIMITS).is_err());
    assert_eq!(line(&head), "GET /d\u{fffd} HTTP/3");
    let limits = HeadLimits { line: 6, ..LIMITS };
    assert!(head.parse(b"GET /long", &limits).is_err());
    assert_eq!(line(&head), "GET /l");
}

#[test]
fn a_head_that_comes_byte_by_byte_is_searched_once() {
    let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
    let mut head = Head::default();
    for _ in 0..1000 {
        request.push(b'x');
        assert_eq!(head.parse(&request, &LIMITS), Ok(None));
        assert_eq!(head.scan.searched, request.len());
        assert_eq!(head.scan.line, 25);
    }
}

#[test]
fn nothing_is_allocated_for_a_second_request() {
    let request = with("X: 1");
    let mut head = Head::default();
    head.parse(request.as_bytes(), &LIMITS).expect("a request");
    let buffers = |head: &Head| (head.text.as_ptr(), head.fields.as_ptr());
    let before = buffers(&head);
    head.parse(request.as_bytes(), &LIMITS).expect("a request");
    assert_eq!(buffers(&head), before);
}
