//! HTTP/1.1 with well-behaved clients: methods, targets, bodies, keep-alive,
//! trailers, the access log, and graceful shutdown.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{
    Peer, Run, Server, TcpPeer, directory, eventually, message, pattern, post, same, skipped,
    slowly, text, unix_address, write,
};
use rustix::process::Signal;

fn probe() -> Run {
    Run::guest("probe").http()
}

/// Returns an HTTP/1.0 request.
fn old(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.0\r\n{lines}\r\n")
}

#[test]
fn a_request_is_answered_by_the_guest() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let response = peer.fetch("/request?a=b%20c");
    let response = response.is(200, "GET /request?a=b%20c 1.1 http localhost");
    assert_eq!(response.header("Server"), Some("netwasm"));
    assert_eq!(response.header("Content-Type"), Some("text/plain"));
    assert_eq!(response.header("Connection"), None);
    peer.fetch("/nowhere").is(404, "there is nothing here");
    peer.finish();
    peer.ends();
    server.stop();
}

#[test]
fn methods_reach_the_guest_as_they_were_sent() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for method in [
        "GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get", "M-SEARCH",
    ] {
        let response = peer.exchange(message(method, "/request", &[]));
        response.is(200, &format!("{method} /request 1.1 http localhost"));
    }
    // The server is no proxy.
    let response = peer.exchange("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!(response.status, 501);
    peer.ends();
}

#[test]
fn headers_reach_the_guest_in_their_order_and_without_regard_to_case() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let lines = ["X-One: 1", "x-two:2", "X-ONE:\t 3 \t", "X-Empty:"];
    let response = peer.exchange(message("GET", "/headers", &lines));
    response.is(
        200,
        "Host: localhost\nX-One: 1\nx-two: 2\nX-ONE: 3\nX-Empty: ",
    );
    let response = peer.exchange(message("GET", "/header?name=x-one", &lines));
    response.is(200, "1 2 3");
    peer.fetch("/header?name=x-one").is(200, "- 0 -");
    // Values need not be UTF-8.
    let mut bytes = b"GET /header?name=x HTTP/1.1\r\nHost: h\r\nX: \xff\xc3\xa4\r\n\r\n".to_vec();
    peer.exchange(&bytes).is(200, "\u{fffd}ä 1 \u{fffd}ä");
    // An empty line before a request is no fault.
    bytes.splice(..0, *b"\r\n");
    assert_eq!(peer.exchange(&bytes).status, 200);
}

#[test]
fn targets_are_paths_urls_or_an_asterisk() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for (method, target, told) in [
        ("GET", "/request", "/request 1.1 http localhost"),
        (
            "GET",
            "http://example.org:81/request?x",
            "/request?x 1.1 http example.org:81",
        ),
        ("GET", "HTTP://example.org", "/ 1.1 http example.org"),
        ("OPTIONS", "*", "* 1.1 http localhost"),
        (
            "GET",
            "http://[::1]:8080/request",
            "/request 1.1 http [::1]:8080",
        ),
    ] {
        let response = peer.exchange(message(method, target, &[]));
        response.is(200, &format!("{method} {told}"));
    }
    for (method, target) in [
        ("GET", "*"),
        ("GET", "request"),
        ("GET", "ftp://example.org/"),
        ("GET", "http://user@example.org/"),
        ("GET", "/#fragment"),
    ] {
        let mut peer = server.connect_http();
        let response = peer.exchange(message(method, target, &[]));
        assert_eq!(response.status, 400, "{target}");
        peer.ends();
    }
}

#[test]
fn a_body_by_length_comes_back_however_it_is_cut() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for length in [0, 1, 1000, 65_536, 1 << 20] {
        let body = pattern(length);
        let response = peer.exchange(post("/body", &body));
        same(&response.body, &body);
    }
    let bytes = post("/body", b"0123456789");
    for cut in 0..bytes.len() {
        let (first, last) = bytes.split_at(cut);
        peer.send(first);
        peer.taken();
        peer.exchange(last).is(200, "0123456789");
    }
    for byte in bytes.chunks(1) {
        peer.send(byte);
    }
    peer.response().is(200, "0123456789");
}

#[test]
fn a_chunked_body_comes_back_however_it_is_cut() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let head = message("POST", "/body", &["Transfer-Encoding: chunked"]);
    let chunks = "5;name=value;other=\"x\"\r\nhello\r\n00A\r\n, chunked \r\n1\r\n!\r\n0\r\n\r\n";
    let bytes = format!("{head}{chunks}").into_bytes();
    for cut in 0..bytes.len() {
        let (first, last) = bytes.split_at(cut);
        peer.send(first);
        peer.taken();
        peer.exchange(last).is(200, "hello, chunked !");
    }
    for byte in bytes.chunks(1) {
        peer.send(byte);
    }
    peer.response().is(200, "hello, chunked !");
    // The next request follows at once.
    let next = message("GET", "/request", &[]);
    peer.send(&[bytes, next.into_bytes()].concat());
    peer.response().is(200, "hello, chunked !");
    peer.response().is(200, "GET /request 1.1 http localhost");
    let response = peer.exchange(format!("{head}0\r\n\r\n"));
    response.is(200, "");

    let body = pattern(1 << 20);
    let mut bytes = head.into_bytes();
    for chunk in body.chunks(70_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    same(&peer.exchange(bytes).body, &body);
}

#[test]
fn trailers_go_both_ways_where_they_may() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let body = "3\r\nabc\r\n0\r\nX-Check: 900150983\r\nX-Sum: 294\r\nContent-Length: 7\r\n\r\n";
    let chunked = "Transfer-Encoding: chunked";
    let with = message("POST", "/trailers", &[chunked, "TE: trailers"]);
    let response = peer.exchange(format!("{with}{body}"));
    // A trailer that would frame the message is dropped.
    let response = response.is(200, "X-Check: 900150983\nX-Sum: 294");
    assert_eq!(response.header("Trailer"), Some("X-Check, X-Sum"));
    let trailers = response.trailers.iter();
    let trailers: Vec<_> = trailers
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(trailers, ["X-Check=900150983", "X-Sum=294"]);
    // A client that does not ask for trailers gets none.
    let without = message("POST", "/trailers", &[chunked]);
    let response = peer.exchange(format!("{without}{body}"));
    let response = response.is(200, "X-Check: 900150983\nX-Sum: 294");
    assert_eq!(response.header("Trailer"), None);
    assert_eq!(response.trailers, []);
    // A response without a body has no trailers.
    for status in ["204", "205", "304"] {
        let target = format!("/answer?status={status}&body=&trailer=X-A:1");
        let response = peer.exchange(message("GET", &target, &["TE: trailers"]));
        assert_eq!(response.header("Transfer-Encoding"), None);
    }
    let target = "/answer?body=b&trailer=X-A:1";
    peer.send(message("HEAD", target, &["TE: trailers"]).as_bytes());
    peer.response_to_head();
    let response = peer.exchange(message("GET", target, &["TE: trailers"]));
    assert_eq!(response.trailers.len(), 1);
}

#[test]
fn head_gets_the_head_of_what_get_gets() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for target in [
        "/big?n=0",
        "/big?n=100",
        "/big?n=1000000",
        "/nowhere",
        "/trap",
    ] {
        let mut get = peer.fetch(target);
        peer.send(message("HEAD", target, &[]).as_bytes());
        let mut head = peer.response_to_head();
        for response in [&mut get, &mut head] {
            response.headers.retain(|(name, _)| name != "Date");
        }
        assert_eq!((head.status, head.headers), (get.status, get.headers));
    }
    // For HEAD, a guest need not make the body.
    let target = "/answer?header=Content-Length:1234";
    peer.send(message("HEAD", target, &[]).as_bytes());
    assert_eq!(
        peer.response_to_head().header("Content-Length"),
        Some("1234")
    );
    // A refusal of HEAD has no body either.
    peer.send(message("HEAD", "/", &["Content-Length: 9999999"]).as_bytes());
    assert_eq!(peer.response_to_head().status, 413);
    peer.ends();
}

#[test]
fn statuses_without_a_body_have_none() {
    let server = probe().start();
    let mut peer = server.connect_http();
    for status in [204, 304] {
        let response = peer.fetch(&format!("/answer?status={status}"));
        assert_eq!(response.status, status);
    }
    let response = peer.fetch("/answer?status=205");
    assert_eq!(response.header("Content-Length"), Some("0"));
    let response = peer.fetch("/answer?status=299&body=odd");
    response.is(299, "odd");
    // A body with these statuses is a fault of the guest.
    for status in [204, 205, 304] {
        let response = peer.fetch(&format!("/answer?status={status}&body=x"));
        response.is(500, "500 Internal Server Error");
    }
}

#[test]
fn http_1_0_closes_unless_the_client_asks_otherwise() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let response = peer.exchange(old("/request", ""));
    let response = response.is(200, "GET /request 1.0 http -");
    assert!(response.closes());
    peer.ends();

    let mut peer = server.connect_http();
    for _ in 0..3 {
        let response = peer.exchange(old("/request", "Connection: Keep-Alive\r\nHost: h\r\n"));
        let response = response.is(200, "GET /request 1.0 http h");
        assert_eq!(response.header("Connection"), Some("keep-alive"));
    }
    // An HTTP/1.0 client gets neither chunks nor an interim response.
    let lines = "Connection: keep-alive\r\nTE: trailers\r\n";
    let response = peer.exchange(old("/answer?body=b&trailer=X-A:1", lines));
    assert_eq!(response.header("Content-Length"), Some("1"));
    peer.send(b"POST /body HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    peer.is_held();
    peer.exchange("ab").is(200, "ab");
    peer.ends();
}

#[test]
fn a_client_that_says_close_gets_its_answer_and_no_other() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let last = message("GET", "/request", &["Connection: x, CLOSE"]);
    let more = message("GET", "/request?more", &[]);
    let response = peer.exchange(format!("{last}{more}"));
    assert!(response.closes());
    peer.ends();
}

#[test]
fn a_guest_may_have_the_connection_closed() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let response = peer.fetch("/answer?header=Connection:close&body=bye");
    assert!(response.is(200, "bye").closes());
    peer.ends();
}

#[test]
fn a_client_that_waits_is_told_to_go_on() {
    let server = probe().args(["--max-body", "1KiB"]).start();
    let mut peer = server.connect_http();
    let expecting = |length: usize| {
        let length = format!("Content-Length: {length}");
        message("POST", "/body", &["Expect: 100-continue", &length])
    };
    peer.send(expecting(4).as_bytes());
    peer.goes_on();
    peer.exchange("body").is(200, "body");
    let chunked = ["Expect: 100-Continue", "Transfer-Encoding: chunked"];
    peer.send(message("POST", "/body", &chunked).as_bytes());
    peer.goes_on();
    peer.exchange("2\r\nab\r\n0\r\n\r\n").is(200, "ab");
    // No `100 Continue` if the body has already arrived, or is empty.
    peer.exchange(format!("{}body", expecting(4)))
        .is(200, "body");
    peer.exchange(expecting(0)).is(200, "");
    peer.exchange(message("GET", "/request", &["Expect: 100-continue"]));
    // A body that is too large is refused without `100 Continue`.
    let response = peer.exchange(expecting(1025));
    assert!(response.closes());
    assert_eq!(response.status, 413);
    peer.ends();

    let mut peer = server.connect_http();
    let unknown = ["Expect: 200-ok", "Content-Length: 4"];
    assert_eq!(
        peer.exchange(message("POST", "/body", &unknown)).status,
        417
    );
    peer.ends();
}

#[test]
fn a_client_that_half_closes_gets_the_whole_reply() {
    let server = probe().start();
    for size in [10, 3_000_000] {
        let mut peer = server.connect_http();
        peer.send(message("GET", &format!("/big?n={size}"), &[]).as_bytes());
        peer.finish();
        assert_eq!(peer.response().body.len(), size);
        peer.ends();
    }
    let mut peer = server.connect_http();
    let requests = message("GET", "/big?n=100000", &[]).repeat(20);
    peer.send(requests.as_bytes());
    peer.finish();
    for _ in 0..20 {
        assert_eq!(peer.response().body.len(), 100_000);
    }
    peer.ends();
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let requests: String = (0..1000)
        .map(|number| message("GET", &format!("/request?{number}"), &[]))
        .collect();
    let before = server.resident();
    peer.send(requests.as_bytes());
    for number in 0..1000 {
        let response = peer.response();
        response.is(200, &format!("GET /request?{number} 1.1 http localhost"));
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
}

#[test]
fn large_responses_to_pipelined_requests_wait_for_the_client() {
    let server = probe().start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    // 200 responses of 1 MiB each.
    peer.send(message("GET", "/big?n=1048576", &[]).repeat(200).as_bytes());
    peer.take(1);
    let before = server.resident();
    // Meanwhile the server answers others, and this client only as fast as it
    // reads.
    for _ in 0..200 {
        server.serves_http();
    }
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    drop(peer);
    server.serves_http();
}

#[test]
fn ten_thousand_requests_on_one_connection_leave_nothing_behind() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let mut ask = |from: usize, to: usize| {
        for number in from..to {
            let response = peer.fetch(&format!("/request?{number}"));
            response.is(200, &format!("GET /request?{number} 1.1 http localhost"));
        }
    };
    ask(0, 1000);
    let before = server.resident();
    ask(1000, 10_000);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes");
    server.connect_http().fetch("/count").is(200, "1");
}

#[test]
fn isolation_decides_who_shares_an_instance() {
    let server = probe().start();
    let mut first = server.connect_http();
    first.fetch("/count").is(200, "1");
    first.fetch("/count").is(200, "2");
    server.connect_http().fetch("/count").is(200, "1");
    first.fetch("/count").is(200, "3");

    let server = probe()
        .args(["--isolation", "worker", "--workers", "1"])
        .start();
    let mut first = server.connect_http();
    first.fetch("/count").is(200, "1");
    server.connect_http().fetch("/count").is(200, "2");
    first.fetch("/count").is(200, "3");
}

#[test]
fn the_guest_learns_the_addresses() {
    let server = probe().start();
    let mut peer = server.connect_http();
    let own = peer.get().local_addr().expect("an address");
    let info = format!("peer {own} local {}", server.address("http"));
    peer.fetch("/info").is(200, &info);
}

#[test]
fn a_unix_socket_does_as_well() {
    let scratch = directory();
    let path = scratch.path().join("http.sock");
    let server = Run::guest("probe")
        .listen("--http", &unix_address(&path))
        .start();
    assert_eq!(server.listening, [format!("http+unix:{}", path.display())]);
    let mut peer = Peer::connect_unix(&path);
    peer.fetch("/request")
        .is(200, "GET /request 1.1 http localhost");
    let info = peer.fetch("/info");
    assert!(
        info.text()
            .ends_with(&format!("local unix:{}", path.display())),
        "{info:?}"
    );
    peer.finish();
    peer.ends();
    server.stop();
    assert!(!path.exists());
}

#[test]
fn one_component_takes_all_that_it_exports() {
    let server = Run::guest("probe").tcp().http().start();
    assert_eq!(
        server.connect().ask("events"),
        "connection-made data-received"
    );
    server.serves_http();
    server.stop();
}

// Files; more in `tests/http_files.rs`.

#[test]
fn a_file_is_a_body() {
    let scratch = directory();
    write(scratch.path(), "small.txt", "small\n");
    let large = pattern(3_000_000);
    write(scratch.path(), "large.bin", &large);
    let server = probe().args(["--dir", &files(scratch.path())]).start();
    let mut peer = server.connect_http();
    for way in ["/path?file=", "/file?path="] {
        let response = peer.fetch(&format!("{way}/small.txt")).is(200, "small");
        let kind = response.header("Content-Type").expect("a type");
        assert!(kind.starts_with("text/plain"), "{kind}");
        same(&peer.fetch(&format!("{way}/large.bin")).body, &large);
    }
    assert_eq!(peer.fetch("/path?file=/none").status, 404);
    // Pipelined requests.
    let one = message("GET", "/path?file=/large.bin", &[]);
    let other = message("GET", "/path?file=/small.txt", &[]);
    peer.send(format!("{one}{other}{one}").as_bytes());
    same(&peer.response().body, &large);
    peer.response().is(200, "small");
    same(&peer.response().body, &large);
}

/// Returns the value of `--dir` for a directory that the guest sees as `/`.
fn files(path: &Path) -> String {
    format!("{}::/", text(path))
}

#[test]
fn a_client_that_takes_long_is_not_idle() {
    // The response takes longer than `--keep-alive-timeout`.
    let server = probe().args(["--keep-alive-timeout", "400ms"]).start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    let large = message("GET", "/big?n=3000000", &[]);
    peer.send(format!("{large}{}", message("GET", "/request?last", &[])).as_bytes());
    let mut received = 0;
    for _ in slowly(Duration::from_millis(40), 0..30) {
        received += peer.take(50_000).len();
    }
    assert!(received < 2_000_000, "{received} bytes");
    loop {
        // The rest of the body, then a whole response.
        if peer.whole_bytes_line().ends_with(b"HTTP/1.1 200 OK\r\n") {
            break;
        }
    }
    while !peer.line().starts_with("GET /request?last") {}
    // Only now is the connection idle.
    peer.fetch("/request")
        .is(200, "GET /request 1.1 http localhost");
    let begun = Instant::now();
    peer.ends();
    assert!(
        begun.elapsed() > Duration::from_millis(350),
        "{:?}",
        begun.elapsed()
    );
}

// The access log.

/// Returns the lines of an access log, once there are at least `count`.
fn logged(path: &Path, count: usize) -> Vec<String> {
    eventually("lines of the access log", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn the_access_log_has_the_combined_format() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe().args(["--access-log", text(&path)]).start();
    let mut peer = server.connect_http();
    peer.exchange(message(
        "GET",
        "/big?n=1234",
        &["User-Agent: a \"quoted\" \\ ä", "Referer: http://r/"],
    ));
    peer.send(message("HEAD", "/big?n=1234", &[]).as_bytes());
    peer.response_to_head();
    peer.fetch("/trap");
    peer.fetch("/answer?header=X:%0d");
    peer.exchange("GET /\"\x07 HTTP/1.1\r\n\r\n");
    peer.ends();
    let lines = logged(&path, 5);
    let lines: Vec<_> = lines
        .iter()
        .map(|line| {
            // 127.0.0.1 - - [25/Nov/2026:03:19:48 +0000] "...
            let (peer, rest) = line.split_once(" - - [").expect("a peer");
            let (time, rest) = rest.split_once("] ").expect("a time");
            assert_eq!((peer, time.len()), ("127.0.0.1", 26), "{line}");
            rest
        })
        .collect();
    assert_eq!(
        lines,
        [
            r#""GET /big?n=1234 HTTP/1.1" 200 1234 "http://r/" "a \x22quoted\x22 \x5C \xC3\xA4""#,
            r#""HEAD /big?n=1234 HTTP/1.1" 200 0 "-" "-""#,
            r#""GET /trap HTTP/1.1" 500 26 "-" "-""#,
            r#""GET /answer?header=X:%0d HTTP/1.1" 500 26 "-" "-""#,
            r#""GET /\x22\x07 HTTP/1.1" 400 40 "-" "-""#,
        ]
    );
    server.stop();
}

#[test]
fn the_access_log_is_json_where_that_is_asked_for() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe()
        .args(["--access-log", text(&path), "--access-log-format", "json"])
        .start();
    let mut peer = server.connect_http();
    peer.exchange(message("GET", "/big?n=10", &["User-Agent: \"\t\\"]));
    let own = peer.get().local_addr().expect("an address").to_string();
    // The last line is written by the time the server has ended.
    peer.fetch("/request");
    drop(peer);
    server.stop();
    let lines = logged(&path, 2);
    assert_eq!(lines.len(), 2);
    let first = lines.first().expect("a line");
    for part in [
        r#""request":"GET /big?n=10 HTTP/1.1""#,
        r#""host":"localhost""#,
        r#""status":200"#,
        r#""bytes":10"#,
        r#""user_agent":"\"\t\\""#,
        r#""referer":null"#,
        &format!(r#""peer":"{own}""#),
    ] {
        assert!(first.contains(part), "no {part} in {first}");
    }
}

#[test]
fn the_access_log_tells_how_much_of_a_response_was_sent() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    write(scratch.path(), "large.bin", pattern(12_000_000));
    let server = probe()
        .args(["--dir", &files(scratch.path()), "--access-log", text(&path)])
        .args(["--event-timeout", "10s"])
        .start();
    for (number, target) in ["/path?file=/large.bin", "/big?n=12000000"]
        .iter()
        .enumerate()
    {
        let mut peer = TcpPeer::connect_narrow(server.address("http"));
        let requests = message("GET", "/request", &[]) + &message("GET", target, &[]);
        peer.send(requests.as_bytes());
        peer.response();
        peer.take(10_000);
        peer.reset();
        let lines = logged(&path, 2 * number + 2);
        let line = lines.last().expect("a line");
        let (_, rest) = line.split_once("\" 200 ").expect("a status");
        let (bytes, _) = rest.split_once(' ').expect("a length");
        let bytes: u64 = bytes.parse().expect("a length");
        assert!((9_000..12_000_000).contains(&bytes), "{line}");
    }
}

#[test]
fn the_access_log_grows_while_a_client_takes_little_by_little() {
    let scratch = directory();
    let path = scratch.path().join("access.log");
    let server = probe().args(["--access-log", text(&path)]).start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    // Output is always queued for this client.
    peer.send(message("GET", "/big?n=60000", &[]).repeat(400).as_bytes());
    peer.take(12_000_000);
    assert!(logged(&path, 100).len() < 400);
    drop(peer);
    logged(&path, 110);
}

#[test]
fn an_access_log_that_cannot_be_written_is_an_error_at_the_start() {
    let finished = probe()
        .args(["--access-log", "/nowhere/access.log"])
        .output();
    finished.refused(1, &["/nowhere/access.log"]);
    let finished = Run::guest("echo")
        .tcp()
        .args(["--access-log", "-"])
        .output();
    finished.refused(2, &["--access-log", "--http"]);
}

// Shutdown.

#[test]
fn idle_connections_end_at_once_when_the_server_does() {
    for isolation in ["connection", "worker"] {
        let mut server = probe()
            .args(["--isolation", isolation, "--workers", "1"])
            .start();
        let mut used = server.connect_http();
        used.fetch("/request");
        let mut fresh = server.connect_http();
        server.serves_http();
        let begun = Instant::now();
        server.signal(Signal::TERM);
        used.ends();
        fresh.ends();
        assert_eq!(server.wait().code(), Some(0));
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn a_request_that_is_under_way_is_answered_before_the_end() {
    let mut server = probe().args(["--event-timeout", "10s"]).start();
    let mut sending = server.connect_http();
    sending.send(message("POST", "/body", &["Content-Length: 10"]).as_bytes());
    sending.send(b"12345");
    let mut taking = TcpPeer::connect_narrow(server.address("http"));
    let pipelined = message("GET", "/big?n=5000000", &[]).repeat(2);
    taking.send(pipelined.as_bytes());
    taking.take(1);
    server.signal(Signal::TERM);
    server.refuses_http();
    let response = sending.exchange("67890");
    assert!(response.is(200, "1234567890").closes());
    sending.ends();
    // The first response was under way. The second is the last that is
    // answered.
    let rest = taking.rest();
    assert!(rest.len() > 5_000_000);
    assert_eq!(server.wait().code(), Some(0));
}

// curl.

fn curl(server: &Server, args: &[&str]) -> Option<String> {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20"])
        .args(args)
        .env_remove("http_proxy")
        .output()
        .ok()?;
    assert!(
        output.status.success(),
        "{output:?} {:?}",
        server.log.lines()
    );
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn curl_is_served() {
    let server = probe().start();
    let url = |path: &str| format!("http://{}{path}", server.address("http"));
    let Some(answer) = curl(&server, &["-d", "some data", &url("/body")]) else {
        return skipped("there is no curl here");
    };
    assert_eq!(answer, "some data");
    let count = [&*url("/count"), &url("/count"), &url("/count")];
    // One connection serves all three.
    assert_eq!(curl(&server, &count).as_deref(), Some("1\n2\n3\n"));
    let scratch = directory();
    let file = write(scratch.path(), "upload", pattern(1 << 20));
    let data = format!("@{}", text(&file));
    // curl waits for `100 Continue`.
    let upload = ["--data-binary", &data, &url("/length")];
    assert_eq!(curl(&server, &upload).as_deref(), Some("1048576\n"));
    let chunked = ["-H", "Transfer-Encoding: chunked"];
    let upload = [&chunked[..], &upload].concat();
    assert_eq!(curl(&server, &upload).as_deref(), Some("1048576\n"));
    let head = curl(&server, &["-I", &url("/big?n=77")]).expect("curl");
    assert!(head.contains("Content-Length: 77\r\n"), "{head}");
    let old = curl(&server, &["-0", &url("/request")]).expect("curl");
    assert!(old.starts_with("GET /request 1.0 http"), "{old}");
}
