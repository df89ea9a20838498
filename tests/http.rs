//! HTTP/1.1 with well-behaved clients: methods, targets, bodies, keep-alive,
//! trailers, the access log, and graceful shutdown.

mod access_log;
mod bodies;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Peer, Run, Server, TcpPeer, directory, is_quick, message, pattern, same, skipped, slowly, text,
    took_more, unix_address, write,
};

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
    let server = probe().args(["--keep-alive-timeout", "2s"]).start();
    let mut peer = TcpPeer::connect_narrow(server.address("http"));
    let large = message("GET", "/big?n=3000000", &[]);
    peer.send(format!("{large}{}", message("GET", "/request?last", &[])).as_bytes());
    let mut received = 0;
    for _ in slowly(Duration::from_millis(100), 0..30) {
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
    let begun = Instant::now();
    peer.fetch("/request")
        .is(200, "GET /request 1.1 http localhost");
    peer.ends();
    took_more(begun, Duration::from_millis(1950));
}

// Shutdown.

/// The clients read, and do not close their sides.
#[test]
fn idle_connections_end_at_once_when_the_server_does() {
    for isolation in ["connection", "worker"] {
        is_quick(Duration::from_secs(2), || {
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
            begun.elapsed()
        });
    }
}

#[test]
fn a_request_that_has_come_before_the_signal_is_answered() {
    is_quick(Duration::from_secs(3), || {
        let mut server = probe().start();
        let mut peer = server.connect_http();
        peer.fetch("/request");
        server.signal(Signal::STOP);
        peer.send(message("GET", "/request", &[]).as_bytes());
        let begun = Instant::now();
        server.signal(Signal::TERM);
        server.signal(Signal::CONT);
        assert_eq!(peer.response().status, 200);
        peer.ends();
        // The client does not close its side.
        assert_eq!(server.wait().code(), Some(0));
        begun.elapsed()
    });
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
