//! Tests of fields that decide how a message ends, and for whom it is.

use super::*;

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
