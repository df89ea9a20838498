//! Compares the HTTP/1.1 parser with hyper's server on equal bytes: what both
//! accept, what both refuse, and the differences, with their reasons.

#[path = "../host/fuzz/src/compare.rs"]
mod compare;

use std::fs;
use std::path::Path;

use compare::{STRICTER, compare, hypers, ours};

/// Bytes of a connection, and the number of requests that both must see.
const TAKEN_BY_BOTH: &[(&[u8], usize)] = &[
    (b"", 0),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", 0),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    (
        b"get /a?b HTTP/1.1\r\nhost:a:80\r\nX: \xe9\t1\r\nx:\r\n\r\n",
        1,
    ),
    (b"GET / HTTP/1.0\r\n\r\n", 1),
    (
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        2,
    ),
    (b"GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    (b"GET http://b HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    (b"GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET",
        1,
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell",
        0,
    ),
    (b"POST / HTTP/1.0\r\nContent-Length: 0005\r\n\r\nhello", 1),
    (
        b"GET /\xc3\xa9{}|\\^?\xc3\xa9{}|\\^` HTTP/1.1\r\nHost: a\r\n\r\n",
        1,
    ),
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n\
          5;a=\"b\"\r\nhello\r\n00A ;c\r\n0123456789\r\n0\r\nX: 1\r\nContent-Length: 5\r\n\r\n\
          GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        2,
    ),
    // A body is not a request, whatever it looks like.
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\n\
          GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        1,
    ),
    // Bytes after the last request are ignored.
    (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        1,
    ),
    (b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", 1),
    (
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        2,
    ),
];

/// Text after `GET / HTTP/1.1` and a `Host` that makes both refuse the request.
const REFUSED_BY_BOTH: &[&[u8]] = &[
    b"X: 1\r\n 2\r\n\r\n",
    b"X : 1\r\n\r\n",
    b": 1\r\n\r\n",
    b"X\r\n\r\n",
    b"X\xe9: 1\r\n\r\n",
    b"X: \0\r\n\r\n",
    b"X: a\rb\r\n\r\n",
    b"X: \x7f\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 1\r\n\r\n",
    b"Content-Length: 0,0\r\n\r\n",
    b"Content-Length: +0\r\n\r\n",
    b"Content-Length: -1\r\n\r\n",
    b"Content-Length: 0x0\r\n\r\n",
    b"Content-Length: 1_0\r\n\r\n0123456789",
    b"Content-Length:\r\n\r\n",
    b"Content-Length: 18446744073709551616\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0_2e\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhell\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n: 1\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n",
];

/// Whole requests that both refuse.
const REQUESTS_REFUSED_BY_BOTH: &[&[u8]] = &[
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    b"GET / http/1.1\r\nHost: a\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
];

/// Requests that hyper accepts and we refuse, with our reason. `STRICTER` has
/// the explanations.
const REFUSED_BY_US_ALONE: &[(&str, &[u8])] = &[
    (
        "line feed without a carriage return",
        b"GET / HTTP/1.1\nHost: a\n\n",
    ),
    (
        "line feed without a carriage return",
        b"GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
    ),
    (
        "line feed without a carriage return",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    ),
    (
        "empty lines instead of a request",
        b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "this is not a proxy",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "fragment in the target",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "target * of another method than OPTIONS",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "target that is neither a path nor a URL",
        b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "target of another scheme than http and https",
        b"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "malformed authority in the target",
        b"GET http://user@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "two Host headers",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    ),
    ("malformed Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("malformed Host", b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    ("no Host header", b"GET / HTTP/1.1\r\n\r\n"),
    (
        "two Content-Length headers",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "malformed Content-Length",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n\
          0\r\n\r\n",
    ),
    (
        "Transfer-Encoding with Content-Length",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\n\r\n",
    ),
    (
        "transfer coding after chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "empty transfer coding",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "unknown transfer coding",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "unknown expectation",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: other\r\n\r\n",
    ),
    (
        "malformed chunk size",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    ),
    (
        "malformed chunk size",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;\0\r\n\r\n",
    ),
    (
        "chunk size of too many digits",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
          00000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "line feed without a carriage return in the trailers",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
          0\r\nX: 1\n\r\n\r\n",
    ),
];

/// Requests that we accept and hyper refuses. `compare` has the reasons.
const TAKEN_BY_US_ALONE: &[&[u8]] = &[
    b"GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /?\"a\" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /` HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://b/\xe9?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://%41/ HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn both_see_the_same_requests() {
    for &(input, requests) in TAKEN_BY_BOTH {
        let text = input.escape_ascii();
        assert_eq!(compare(input), Ok(None), "{text}");
        assert_eq!(ours(input).requests.len(), requests, "{text}");
        assert_eq!(hypers(input).requests.len(), requests, "{text}");
    }
}

#[test]
fn both_refuse_what_is_malformed() {
    let after_host = |rest: &&[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", *rest].concat();
    let requests = REFUSED_BY_BOTH.iter().map(after_host);
    let whole = REQUESTS_REFUSED_BY_BOTH
        .iter()
        .map(|request| request.to_vec());
    for input in requests.chain(whole) {
        let text = input.escape_ascii();
        let (ours, hypers) = (ours(&input), hypers(&input));
        assert!(ours.requests.is_empty(), "{text}");
        assert!(ours.refused.is_some(), "{text}");
        assert!(hypers.requests.is_empty(), "{text}");
    }
}

#[test]
fn we_refuse_more_than_hyper_for_a_reason() {
    for &(reason, input) in REFUSED_BY_US_ALONE {
        let text = input.escape_ascii();
        let ours = ours(input);
        assert!(ours.requests.is_empty(), "{text}");
        assert_eq!(
            ours.refused.map(|refusal| refusal.reason),
            Some(reason),
            "{text}"
        );
        assert_eq!(hypers(input).requests.len(), 1, "{text}");
        assert!(matches!(compare(input), Ok(Some(_))), "{text}");
    }
}

#[test]
fn each_reason_has_a_request_that_shows_it() {
    for (reason, _) in STRICTER {
        let shown = REFUSED_BY_US_ALONE.iter().any(|(other, _)| other == reason);
        assert!(shown, "{reason}");
    }
}

#[test]
fn we_take_more_than_hyper_for_a_reason() {
    for &input in TAKEN_BY_US_ALONE {
        let text = input.escape_ascii();
        assert_eq!(ours(input).requests.len(), 1, "{text}");
        assert!(hypers(input).requests.is_empty(), "{text}");
        assert!(matches!(compare(input), Ok(Some(_))), "{text}");
    }
}

#[test]
fn close_goes_before_keep_alive() {
    let request =
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n".repeat(2);
    assert_eq!(ours(&request).requests.len(), 1);
    assert!(compare(&request).is_ok());
}

#[test]
fn the_options_of_a_connection_count_beside_what_is_none() {
    let kept = b"GET / HTTP/1.0\r\nConnection: keep-alive, \xff\r\n\r\n".repeat(2);
    assert_eq!(ours(&kept).requests.len(), 2);
    assert!(matches!(compare(&kept), Ok(Some(_))));
    let closed = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: \xff, close\r\n\r\n".repeat(2);
    assert_eq!(ours(&closed).requests.len(), 1);
    assert!(matches!(compare(&closed), Ok(Some(_))));
}

#[test]
fn what_the_fuzzers_start_from_has_no_unexplained_difference() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/against_hyper");
    let mut seeds = 0;
    for entry in fs::read_dir(corpus).expect("the corpus") {
        let path = entry.expect("a seed").path();
        let input = fs::read(&path).expect("a seed");
        assert!(
            compare(&input).is_ok(),
            "{}: {:?}",
            path.display(),
            compare(&input)
        );
        seeds += 1;
    }
    assert!(seeds > 50);
}
