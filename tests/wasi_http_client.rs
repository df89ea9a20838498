//! HTTP requests that guests send: `wasi:http/outgoing-handler@0.2` and
//! `wasi:http/client@0.3`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::harness::{
    self, Dns, DnsReply, Run, SecureUpstream, Secured, Server, TcpPeer, TlsServer, Upstream, cert,
    eventually, full_backlog, message, refusing, text,
};
use hickory_proto::op::ResponseCode;
use http::uri::Authority;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

const MIB: usize = 1 << 20;

/// Guests that send requests as told, for `wasi:http` 0.2 and 0.3.
const PROBES: [&str; 2] = ["outgoing-probe", "client-probe"];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Report of a probe on `OK`.
const SAID: &str = "200 length 5 hello";

fn probe(guest: &str, allowed: &str) -> Run {
    // Each worker keeps connections of its own.
    let run = Run::guest(guest).http().args(["--workers", "1"]);
    run.args(["--allow-connect", allowed])
}

/// Starts both probes, allowed to connect to all of loopback.
fn probes() -> impl Iterator<Item = Server> {
    PROBES
        .into_iter()
        .map(|guest| probe(guest, "127.0.0.1:*").start())
}

/// Asks a probe to send a request, on a connection and mostly an instance of
/// its own. Returns what it reports.
#[track_caller]
fn ask(server: &Server, path: &str) -> String {
    ask_with(server, path, &[])
}

#[track_caller]
fn ask_with(server: &Server, path: &str, lines: &[&str]) -> String {
    let mut peer = server.connect_http();
    let response = peer.exchange(message("GET", path, lines));
    assert_eq!(response.status, 200, "{response:?}");
    response.text().to_owned()
}

fn service() -> Server {
    Run::guest("service-probe")
        .http()
        .args(["--max-body", "1GiB"])
        .start()
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address("http"))
}

#[test]
fn requests_are_sent_and_their_responses_read() {
    let upstream = service();
    for server in probes() {
        let get = |path: &str| ask(&server, &format!("/get?{}", url(&upstream, path)));
        assert_eq!(get("/hello"), "200 length 6 hello");
        assert_eq!(get("/bytes?100000"), "200 stream 100000");
        assert_eq!(get("/nowhere"), "404 length 10 not found");
        assert_eq!(get("/status?204"), "204 stream 0");
        let target = format!("/upload?100000+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert_eq!(said, "200 length 23 100000 x-check: 100000");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn the_body_of_a_get_is_sent_as_any_other() {
    let upstream = service();
    let next = |server: &Server| {
        // If a body were announced but not sent, the next request would be
        // taken for it.
        let said = ask(server, &format!("/get?{}", url(&upstream, "/hello")));
        assert_eq!(said, "200 length 6 hello");
    };
    for server in probes() {
        let target = format!("/get-with?100000+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.contains("100000"), "{said}");
        next(&server);
        server.stop();
    }
    let server = probe("outgoing-probe", "127.0.0.1:*").start();
    for number in ["0", "5", "100000"] {
        let target = format!("/get-sized?{number}+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.ends_with(&format!(" {number}")), "{said}");
        next(&server);
    }
    server.stop();
    let proxy = reverse_proxy(&url(&upstream, ""));
    let mut peer = proxy.connect_http();
    let head = "GET /sum HTTP/1.1\r\nHost: a\r\n";
    for body in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        peer.send(format!("{head}{body}").as_bytes());
        peer.response().is(200, "5");
        peer.fetch("/hello").is(200, "hello");
    }
    proxy.stop();
    upstream.stop();
}

#[test]
fn a_length_beside_a_transfer_coding_says_nothing() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    );
    let proxy = reverse_proxy(&upstream.url(""));
    proxy.connect_http().fetch("/").is(200, "hello");
    proxy.stop();
}

#[test]
fn interim_responses_without_end_leave_others_their_turn() {
    let endless = Upstream::new(move |mut asker, _| {
        asker.head();
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
        while asker.say(&many) {}
    });
    let server = probe("client-probe", "127.0.0.1:*").start();
    let mut flooded = TcpPeer::connect(server.address("http"));
    let target = format!("/get?{}", endless.url("/"));
    flooded.send(message("GET", &target, &[]).as_bytes());
    eventually("the flood has begun", || {
        (endless.connections() > 0).then_some(())
    });
    let begun = Instant::now();
    let mut others = server.connect_http();
    for _ in 0..20 {
        others.fetch("/none");
    }
    // Otherwise each request would wait for seconds.
    assert!(begun.elapsed() < Duration::from_secs(10), "{begun:?}");
    flooded.reset();
    server.stop();
}

#[test]
fn a_client_that_resets_is_noticed_while_its_response_stands_still() {
    let (ended, told) = mpsc::channel();
    let stalling = Upstream::new(move |mut asker, _| {
        asker.head();
        asker.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc");
        asker.rest();
        let _ = ended.send(());
    });
    let proxy = reverse_proxy(&stalling.url(""));
    let mut peer = TcpPeer::connect(proxy.address("http"));
    peer.send(message("GET", "/", &[]).as_bytes());
    while !peer.line().is_empty() {}
    assert_eq!(peer.take(3), b"abc");
    peer.reset();
    told.recv_timeout(harness::DEADLINE)
        .expect("it is given up");
    proxy.stop();
}

#[test]
fn trailers_come_with_a_response() {
    let upstream = service();
    for server in probes() {
        let said = ask(&server, &format!("/get?{}", url(&upstream, "/trailers")));
        assert_eq!(said, "200 stream 4 body x-sum: 4");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn a_large_body_passes_both_ways_in_little_memory() {
    let upstream = service();
    let size = 64 * MIB;
    for guest in PROBES {
        // Much longer than `--event-timeout`: each piece of a body is an event.
        let server = probe(guest, "127.0.0.1:*")
            .args(["--event-timeout", "20ms"])
            .start();
        ask(&server, &format!("/get?{}", url(&upstream, "/hello")));
        let before = server.resident();
        let target = format!("/upload?{size}+{}", url(&upstream, "/sum"));
        let said = ask(&server, &target);
        assert!(said.contains(&format!("{size} x-check: {size}")), "{said}");
        let target = format!("/get?{}", url(&upstream, &format!("/bytes?{size}")));
        assert_eq!(ask(&server, &target), format!("200 stream {size}"));
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 16 * MIB as u64, "it grew by {grown}");
        server.stop();
    }
    upstream.stop();
}

#[test]
fn a_connection_serves_one_instance_after_the_other() {
    let upstream = Upstream::answering(OK);
    for (number, guest) in PROBES.into_iter().enumerate() {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--isolation", "request"])
            .start();
        for _ in 0..20 {
            assert_eq!(ask(&server, &format!("/get?{}", upstream.url("/"))), SAID);
        }
        assert_eq!(upstream.connections(), number + 1);
        server.stop();
    }
}

#[test]
fn a_kept_connection_that_its_peer_closes_costs_no_request_that_may_be_repeated() {
    // The upstream reads the second request, and closes without an answer.
    let upstream = || {
        Upstream::new(|mut asker, _| {
            asker.head();
            asker.say(OK);
            asker.head();
        })
    };
    for server in probes() {
        let closing = upstream();
        let target = format!("/get?{}", closing.url("/"));
        for _ in 0..3 {
            assert_eq!(ask(&server, &target), SAID);
        }
        assert_eq!(closing.connections(), 3);
        let closing = upstream();
        assert_eq!(ask(&server, &format!("/get?{}", closing.url("/"))), SAID);
        let said = ask(&server, &format!("/upload?5+{}", closing.url("/")));
        assert_eq!(said, "error: ErrorCode::ConnectionTerminated");
        assert_eq!(closing.connections(), 1);
        server.stop();
    }
}

#[test]
fn what_is_not_allowed_is_denied_and_the_log_names_the_flag() {
    for guest in PROBES {
        let server = probe(guest, "allowed.example:80").start();
        for (url, error, flag) in [
            (
                "http://127.0.0.1:81/",
                "DestinationIpProhibited",
                "--allow-connect 127.0.0.1:81",
            ),
            (
                "http://other.example/",
                "HttpRequestDenied",
                "--allow-connect other.example:80",
            ),
            (
                "https://allowed.example/",
                "HttpRequestDenied",
                "--allow-connect allowed.example:443",
            ),
        ] {
            let said = ask(&server, &format!("/get?{url}"));
            assert_eq!(said, format!("error: ErrorCode::{error}"), "{url}");
            server.log.wait_for(&[flag]);
        }
        server.stop();
    }
}

#[test]
fn a_program_sends_requests_too() {
    let upstream = Upstream::answering(OK);
    let run = |flags: &[&str]| {
        let program = Run::guest("client-probe").args(flags);
        program.guest_args(&[&upstream.url("/")]).output()
    };
    let finished = run(&["--allow-connect", "127.0.0.1:*"]);
    assert_eq!(finished.stdout.trim_end(), SAID);
    assert_eq!(finished.code, Some(0));
    let finished = run(&[]);
    let denied = "error: ErrorCode::DestinationIpProhibited";
    assert_eq!(finished.stdout.trim_end(), denied);
    assert_eq!(finished.code, Some(1));
}

#[test]
fn a_name_that_leads_to_a_private_address_is_denied() {
    let dns = Dns::new(|_, _| DnsReply::addresses(&["127.0.0.1"]));
    let upstream = Upstream::answering(OK);
    for guest in PROBES {
        let port = upstream.address.port();
        let server = probe(guest, &format!("app.example:{port}"))
            .args(["--dns-server", &dns.address.to_string()])
            .start();
        let said = ask(&server, &format!("/get?http://app.example:{port}/"));
        assert_eq!(said, "error: ErrorCode::DestinationIpProhibited");
        server.log.wait_for(&["--allow-connect", "127.0.0.1"]);
        server.stop();
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_name_is_looked_up_and_its_failures_are_told_apart() {
    let upstream = Upstream::answering(OK);
    let dns = Dns::new(|name, _| match name {
        "there.example." => DnsReply::addresses(&["127.0.0.1"]),
        "empty.example." => DnsReply::NoData,
        "broken.example." => DnsReply::Fails(ResponseCode::ServFail),
        "silent.example." => DnsReply::Silence,
        _ => DnsReply::NoName,
    });
    for guest in PROBES {
        let server = probe(guest, "*:*")
            .args(["--allow-connect", "127.0.0.1:*", "--dns-timeout", "1s"])
            .args(["--dns-server", &dns.address.to_string()])
            .start();
        let port = upstream.address.port();
        let get = |name: &str| ask(&server, &format!("/get?http://{name}.example:{port}/"));
        assert_eq!(get("there"), SAID);
        for (name, code) in [
            ("none", "NXDOMAIN"),
            ("empty", "NOERROR"),
            ("broken", "SERVFAIL"),
        ] {
            let said = get(name);
            assert!(said.starts_with("error: ErrorCode::DnsError"), "{said}");
            assert!(said.contains(code), "{said}");
        }
        assert_eq!(get("silent"), "error: ErrorCode::DnsTimeout");
        server.stop();
    }
}

#[test]
fn what_goes_wrong_has_its_name() {
    let garbage = Upstream::answering("SSH-2.0-OpenSSH_9.6\r\n\r\n");
    let silent = Upstream::new(|mut asker, _| {
        asker.head();
    });
    let upgrade = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    let large = Upstream::new(|mut asker, _| {
        asker.head();
        asker.say("HTTP/1.1 200 OK\r\nX: ");
        while asker.say("x".repeat(4096)) {}
    });
    let many = Upstream::new(|mut asker, _| {
        asker.head();
        asker.say(format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "X: 1\r\n".repeat(1000)
        ));
        asker.rest();
    });
    let (refusing, _bound) = refusing();
    let refusing = format!("http://{refusing}/");
    let plain = Upstream::new(|mut asker, _| {
        asker.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        asker.rest();
    });
    let plain = format!("https://{}/", plain.address);
    for server in probes() {
        for (url, error) in [
            (refusing.as_str(), "ConnectionRefused"),
            (&garbage.url("/"), "HttpProtocolError"),
            (&silent.url("/"), "ConnectionTerminated"),
            (&upgrade.url("/"), "HttpUpgradeFailed"),
            (&large.url("/"), "HttpResponseHeaderSectionSize"),
            (&many.url("/"), "HttpResponseHeaderSectionSize"),
            (&plain, "TlsProtocolError"),
            ("ftp://127.0.0.1/", "HttpProtocolError"),
            ("http://me@127.0.0.1/", "HttpRequestUriInvalid"),
        ] {
            let said = ask(&server, &format!("/get?{url}"));
            let error = format!("error: ErrorCode::{error}");
            assert!(said.starts_with(&error), "{url}: {said}");
        }
        server.stop();
    }
}

#[test]
fn a_server_whose_certificate_is_not_trusted_gets_no_request() {
    for (chain, key, name, error) in [
        ("cert.pem", "key.pem", "localhost", None),
        (
            "cert.pem",
            "key.pem",
            "other.example",
            Some("TlsCertificateError"),
        ),
        (
            "expired.pem",
            "expired.key",
            "localhost",
            Some("TlsCertificateError"),
        ),
        (
            "self.pem",
            "self.key",
            "localhost",
            Some("TlsCertificateError"),
        ),
    ] {
        for guest in PROBES {
            let tls = TlsServer::new(chain, key, &["http/1.1"]);
            let port = tls.address.port();
            let dns = Dns::new(|_, _| DnsReply::addresses(&["127.0.0.1"]));
            let server = probe(guest, "*:*")
                .args([
                    "--allow-connect",
                    "127.0.0.1:*",
                    "--ca",
                    text(&cert("ca.pem")),
                ])
                .args(["--dns-server", &dns.address.to_string()])
                .start();
            let serving = std::thread::spawn(move || {
                let Ok(mut peer) = tls.accept() else {
                    return;
                };
                while !peer.line().is_empty() {}
                peer.send(OK.as_bytes());
            });
            let said = ask(&server, &format!("/get?https://{name}:{port}/"));
            match error {
                None => assert_eq!(said, SAID),
                Some(error) => assert_eq!(said, format!("error: ErrorCode::{error}"), "{chain}"),
            }
            serving.join().expect("the server ends");
            server.stop();
        }
    }
}

#[test]
fn each_time_out_has_its_name() {
    let (full, _kept) = full_backlog("127.0.0.1".parse().expect("an address"));
    let silent = Upstream::new(|mut asker, _| {
        asker.rest();
    });
    let stalls = Upstream::new(|mut asker, _| {
        asker.head();
        asker.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        asker.rest();
    });
    // This upstream stays open, but reads no more, until the test ends.
    let (_test, lives) = mpsc::channel::<()>();
    let lives = Mutex::new(lives);
    let unread = Upstream::new(move |mut asker, _| {
        asker.head();
        let _ = lives.lock().expect("the lock").recv();
    });
    for server in probes() {
        let begun = Instant::now();
        let get = |url: &str, line: &str| ask_with(&server, &format!("/get?{url}"), &[line]);
        let said = get(&format!("http://{full}/"), "X-Connect: 300");
        assert_eq!(said, "error: ErrorCode::ConnectionTimeout");
        let said = get(&silent.url("/"), "X-First: 300");
        assert_eq!(said, "error: ErrorCode::ConnectionReadTimeout");
        let said = get(&stalls.url("/"), "X-Between: 300");
        assert_eq!(said, "200 length 5 error: ErrorCode::ConnectionReadTimeout");
        let target = format!("/upload?{}+{}", 64 * MIB, unread.url("/"));
        let said = ask_with(&server, &target, &["X-First: 500"]);
        assert_eq!(said, "error: ErrorCode::ConnectionWriteTimeout");
        assert!(begun.elapsed() < Duration::from_secs(15), "{begun:?}");
        server.stop();
    }
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    for (head, body) in [
        ("Content-Length: 10", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n8"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let upstream = Upstream::new(move |mut asker, _| {
            asker.head();
            asker.say(&answer);
        });
        for server in probes() {
            let said = ask(&server, &format!("/get?{}", upstream.url("/")));
            assert!(
                said.ends_with("error: ErrorCode::HttpResponseIncomplete"),
                "{said}"
            );
            server.stop();
        }
        let proxy = reverse_proxy(&upstream.url(""));
        let mut peer = proxy.connect_http();
        peer.send(message("GET", "/", &[]).as_bytes());
        let all = peer.lost();
        assert!(
            !all.ends_with(b"0\r\n\r\n"),
            "{}",
            String::from_utf8_lossy(&all)
        );
        proxy.stop();
    }
    let broken = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
    );
    for server in probes() {
        let said = ask(&server, &format!("/get?{}", broken.url("/")));
        let error = "error: ErrorCode::HttpResponseTransferCoding";
        assert!(said.contains(error), "{said}");
        server.stop();
    }
}

#[test]
fn a_guest_that_drops_a_response_ends_the_exchange() {
    for server in probes() {
        let (ended, told) = mpsc::channel();
        let endless = Upstream::new(move |mut asker, _| {
            asker.head();
            asker.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while asker.say(&chunk) {}
            let _ = ended.send(());
        });
        for number in [0, 1000] {
            let said = ask(&server, &format!("/drop?{number}+{}", endless.url("/")));
            assert_eq!(said, "dropped 200");
            told.recv_timeout(harness::DEADLINE).expect("it ends");
        }
        let (ended, told) = mpsc::channel();
        let silent = Upstream::new(move |mut asker, _| {
            asker.rest();
            let _ = ended.send(());
        });
        let said = ask(&server, &format!("/cancel?100+{}", silent.url("/")));
        assert_eq!(said, "cancelled");
        told.recv_timeout(harness::DEADLINE).expect("it ends");
        server.stop();
    }
}

/// Starts an upstream that answers before it reads the request. The receiver
/// gets the number of body bytes that arrived.
fn answering_early(answer: &'static str) -> (Upstream, mpsc::Receiver<usize>) {
    let (ended, told) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            asker.say(answer);
            if answer.contains("close") {
                // More than the host writes before it reads the response.
                asker.take(32 * MIB);
                return;
            }
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let _ = ended.send(match length {
                Some(length) => asker.take(length.parse().expect("a length")),
                None => asker.take_chunks(),
            });
        }
    });
    (upstream, told)
}

#[test]
fn a_peer_that_answers_at_once_gets_the_whole_body_nonetheless() {
    let size = 16 * MIB;
    let (upstream, told) = answering_early(OK);
    for server in probes() {
        let target = format!("/upload?{size}+{}", upstream.url("/"));
        assert_eq!(ask(&server, &target), SAID);
        assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
        server.stop();
    }
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{size}+{}", upstream.url("/"));
    assert_eq!(ask(&server, &target), format!("{SAID}, sent Ok(())"));
    assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    // Even if the guest drops the response.
    let target = format!("/upload-drop?{size}+{}", upstream.url("/"));
    assert_eq!(ask(&server, &target), "200, sent Ok(())");
    assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    server.stop();
}

#[test]
fn a_reverse_proxy_sends_the_rest_of_a_request_that_was_answered_at_once() {
    let size = 16 * MIB;
    let (upstream, told) = answering_early(OK);
    let proxy = Run::guest("reverse-proxy")
        .http()
        .args(["--max-body", "1GiB", "--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&upstream.url("")])
        .start();
    let mut peer = proxy.connect_http();
    for _ in 0..2 {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        peer.send(head.as_bytes());
        peer.response().is(200, "hello");
        for _ in 0..16 {
            peer.send(&harness::pattern(MIB));
        }
        assert_eq!(told.recv_timeout(harness::DEADLINE), Ok(size));
    }
    let mut client = harness::http2::Http2::connect(proxy.address("http"));
    let request = harness::http2::ask("POST", "/");
    let (response, mut body) = client.begin(request, false).expect("a request");
    let response = client.run(harness::http2::read(response));
    response.expect("a response").is(200, "hello");
    let bytes = Bytes::from(vec![b'x'; size]);
    let sent = client.run(harness::http2::send_all(&mut body, bytes, true));
    sent.expect("it is taken");
    // The client's connection makes progress only while its runtime runs.
    let told = move || told.recv_timeout(harness::DEADLINE);
    let told = client.run(async { tokio::task::spawn_blocking(told).await });
    assert_eq!(told.expect("its thread"), Ok(size));
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_peer_that_answers_and_closes_need_not_take_the_whole_body() {
    let (upstream, _) = answering_early(
        "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    for server in probes() {
        let target = format!("/upload?{}+{}", 64 * MIB, upstream.url("/"));
        assert_eq!(ask(&server, &target), "413 length 0");
        server.stop();
    }
    // A body that was not fully sent is never reported as sent.
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{}+{}", 64 * MIB, upstream.url("/"));
    let said = ask(&server, &target);
    assert_eq!(
        said,
        "413 length 0 , sent Err(ErrorCode::ConnectionTerminated)"
    );
    server.stop();
}

#[test]
fn a_peer_that_answers_and_takes_nothing_is_not_waited_for_without_end() {
    let (ended, told) = mpsc::channel();
    let given_up = Arc::new(Barrier::new(2));
    let waiting = Arc::clone(&given_up);
    let upstream = Upstream::new(move |mut asker, _| {
        asker.head();
        asker.say(OK);
        waiting.wait();
        let _ = ended.send(asker.rest());
    });
    let server = probe("client-probe", "127.0.0.1:*").start();
    let target = format!("/upload-told?{}+{}", 64 * MIB, upstream.url("/"));
    let said = ask_with(&server, &target, &["X-Between: 500"]);
    assert_eq!(
        said,
        format!("{SAID}, sent Err(ErrorCode::ConnectionWriteTimeout)")
    );
    given_up.wait();
    told.recv_timeout(harness::DEADLINE).expect("it ends");
    server.stop();
}

#[test]
fn an_instance_that_is_given_up_ends_what_it_sent() {
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--response-timeout", "1s"])
            .start();
        let (ended, told) = mpsc::channel();
        let silent = Upstream::new(move |mut asker, _| {
            asker.rest();
            let _ = ended.send(());
        });
        let mut peer = server.connect_http();
        let target = format!("/get?{}", silent.url("/"));
        assert_eq!(peer.fetch(&target).status, 504);
        told.recv_timeout(harness::DEADLINE).expect("it ends");
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_body_that_its_guest_does_not_end_does_not_look_whole() {
    for server in probes() {
        for path in ["/upload-fails", "/upload-trap"] {
            let (got, told) = mpsc::channel();
            let upstream = Upstream::new(move |mut asker, _| {
                asker.head();
                let _ = got.send(asker.rest());
            });
            let mut peer = server.connect_http();
            let target = format!("{path}?1000+{}", upstream.url("/"));
            peer.send(message("GET", &target, &[]).as_bytes());
            let body = told.recv_timeout(harness::DEADLINE).expect("it ends");
            let body = String::from_utf8_lossy(&body);
            assert!(!body.ends_with("0\r\n\r\n"), "{path}: {body}");
            if path == "/upload-trap" {
                assert_eq!(peer.response().status, 500);
            }
        }
        server.stop();
    }
}

#[test]
fn an_instance_has_so_many_exchanges_at_once_and_no_more() {
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--event-timeout", "5s"])
            .start();
        // The upstream answers only once as many requests have arrived as are
        // allowed.
        let asked = AtomicUsize::new(0);
        let upstream = Upstream::new(move |mut asker, _| {
            while asker.head().is_some() {
                asked.fetch_add(1, Ordering::SeqCst);
                eventually("all requests", || {
                    (asked.load(Ordering::SeqCst) >= 128).then_some(())
                });
                asker.say(OK);
            }
        });
        let said = ask(&server, &format!("/flood?200+{}", upstream.url("/")));
        assert_eq!(said, "128 answered, 72 refused");
        server
            .log
            .wait_for(&["no more than 128 HTTP requests at once"]);
        let said = ask(&server, &format!("/flood?20+{}", upstream.url("/")));
        assert_eq!(said, "20 answered, 0 refused");
        server.stop();
    }
}

#[test]
fn a_drain_lets_an_exchange_be_completed() {
    for mut server in probes() {
        // The upstream answers once the server drains.
        let (asked, is_asked) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel::<()>();
        let may_answer = Mutex::new(may_answer);
        let upstream = Upstream::new(move |mut asker, _| {
            while asker.head().is_some() {
                let _ = asked.send(());
                let _ = may_answer.lock().expect("the lock").recv();
                asker.say(OK);
            }
        });
        let mut peer = server.connect_http();
        peer.send(message("GET", &format!("/get?{}", upstream.url("/")), &[]).as_bytes());
        is_asked.recv_timeout(harness::DEADLINE).expect("a request");
        server.signal(rustix::process::Signal::TERM);
        server.log.wait_for(&["draining"]);
        answer.send(()).expect("the upstream is there");
        peer.response().is(200, SAID);
        assert_eq!(server.wait().code(), Some(0), "drained");
    }
}

#[test]
fn http_2_is_spoken_where_the_server_does() {
    for (protocols, said, trailer, connections) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0", " x-sum: ", 1),
        // In HTTP/1.1, a response with a length has no trailers.
        (&["http/1.1"], "HTTP/1.1", "", 21),
    ] {
        for guest in PROBES {
            let upstream = versions(protocols);
            let server = probe(guest, "127.0.0.1:*")
                .args(["--allow-connect", "localhost:*"])
                .args(["--ca", text(&cert("ca.pem"))])
                .start();
            let url = format!("https://localhost:{}", upstream.address.port());
            let answer = format!("{said} localhost:{} 0", upstream.address.port());
            let zero = if trailer.is_empty() { "" } else { "0" };
            let told = format!("200 length {} {answer}{trailer}{zero}", answer.len());
            assert_eq!(ask(&server, &format!("/get?{url}/")), told);
            // With HTTP/2, one connection serves all of them.
            let many = ask(&server, &format!("/flood?20+{url}/"));
            assert_eq!(many, "20 answered, 0 refused");
            assert!(upstream.connections() <= connections, "{protocols:?}");
            let told = ask(&server, &format!("/upload?{}+{url}/", 4 * MIB));
            assert!(told.ends_with(&format!(" {}", 4 * MIB)), "{told}");
            server.stop();
        }
    }
}

#[test]
fn a_request_that_its_server_did_not_take_is_sent_once_more() {
    let upstream = SecureUpstream::new(&["h2"], refuse);
    for (number, guest) in PROBES.into_iter().enumerate() {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--allow-connect", "localhost:*"])
            .args(["--ca", text(&cert("ca.pem"))])
            .start();
        let url = format!("https://localhost:{}", upstream.address.port());
        assert_eq!(ask(&server, &format!("/get?{url}/")), SAID);
        assert_eq!(ask(&server, &format!("/get?{url}/")), SAID);
        let said = ask(&server, &format!("/get?{url}/never"));
        assert_eq!(said, "error: ErrorCode::ConnectionTerminated");
        assert_eq!(upstream.connections(), number + 1);
        server.stop();
    }
}

#[test]
fn a_large_body_passes_both_ways_by_http_2() {
    let upstream = versions(&["h2"]);
    let size = 64 * MIB;
    for guest in PROBES {
        let server = probe(guest, "127.0.0.1:*")
            .args(["--allow-connect", "localhost:*"])
            .args(["--ca", text(&cert("ca.pem"))])
            .start();
        let url = format!("https://localhost:{}", upstream.address.port());
        ask(&server, &format!("/get?{url}/"));
        let before = server.resident();
        let said = ask(&server, &format!("/upload?{size}+{url}/"));
        assert!(said.ends_with(&format!("x-sum: {size}")), "{said}");
        let said = ask(&server, &format!("/get?{url}/{size}"));
        assert!(said.starts_with(&format!("200 stream {size} ")), "{said}");
        let grown = server.resident().saturating_sub(before);
        assert!(grown < 24 * MIB as u64, "it grew by {grown}");
        server.stop();
    }
}

/// Starts a TLS server that answers with the HTTP version of a request, its
/// authority, and the length of its body. If the path is a number, it sends
/// that many bytes instead.
fn versions(protocols: &[&str]) -> SecureUpstream {
    SecureUpstream::new(protocols, serve_version)
}

/// Refuses every second request of a connection, beginning with the first, and
/// all requests for `/never`.
async fn refuse(stream: Secured) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut refuses = true;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if refuses || request.uri().path() == "/never" {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            let head = Response::builder().header("content-length", 5).body(());
            if let Ok(mut body) = respond.send_response(head.expect("a head"), false) {
                // The client may have left.
                let _ = body.send_data(Bytes::from_static(b"hello"), true);
            }
        }
        refuses = !refuses;
    }
}

async fn serve_version(stream: Secured) {
    let by_two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let service = service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let host = head.headers.get("host").and_then(|it| it.to_str().ok());
        let host = head.uri.authority().map(Authority::as_str).or(host);
        let host = host.unwrap_or_default().to_owned();
        let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
        let trailers = async move {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", length.into());
            Some(Ok::<_, Infallible>(trailers))
        };
        let mut response = Response::builder();
        let body = match head.uri.path().trim_start_matches('/').parse::<usize>() {
            Ok(size) => Pieces(size).boxed(),
            Err(_) => {
                let text = format!("{:?} {host} {length}", head.version);
                response = response.header("content-length", text.len());
                Full::from(text).boxed()
            }
        };
        response.body(body.with_trailers(trailers))
    });
    // The client closes the connection.
    let _ = match by_two {
        true => {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(stream, service).await
        }
        false => {
            let server = hyper::server::conn::http1::Builder::new();
            server.serve_connection(stream, service).await
        }
    };
}

/// A body of this many bytes.
struct Pieces(usize);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.0.min(64 << 10);
        self.0 -= length;
        let piece = (length > 0).then(|| Ok(Frame::data(vec![b'x'; length].into())));
        Poll::Ready(piece)
    }
}

#[test]
fn a_reverse_proxy_passes_messages_on_without_what_is_of_a_hop() {
    let (heard, told) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let _ = heard.send(head);
            asker.say(
                "HTTP/1.1 201 Created\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Own: 2\r\n\
                 Keep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello",
            );
        }
    });
    let proxy = reverse_proxy(&upstream.url(""));
    let mut peer = proxy.connect_http();
    let lines = [
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "X-Own: 2",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Upgrade: websocket",
    ];
    let response = peer.exchange(message("DELETE", "/a?b=%20c", &lines));
    let response = response.is(201, "hello");
    assert_eq!(response.header("X-Own"), Some("2"));
    assert_eq!(response.header("X-Hop"), None);
    assert_eq!(response.header("Keep-Alive"), None);
    assert_eq!(response.header("Via"), Some("1.1 reverse-proxy"));
    let head = told.recv_timeout(harness::DEADLINE).expect("a request");
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "DELETE /a?b=%20c HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", upstream.address);
    let expected = [
        "forwarded: host=\"localhost\";proto=http",
        &host,
        "te: trailers",
        "via: 1.1 reverse-proxy",
        "x-own: 2",
    ];
    assert_eq!(lines, expected);
    proxy.stop();
}

#[test]
fn a_reverse_proxy_streams_both_ways_in_little_memory() {
    let upstream = service();
    let proxy = Run::guest("reverse-proxy")
        .http()
        .args(["--workers", "1", "--max-body", "1GiB"])
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[&url(&upstream, "")])
        .start();
    let mut peer = proxy.connect_http();
    peer.fetch("/hello").is(200, "hello");
    let before = proxy.resident();
    let size = 64 * MIB;
    let head = format!("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
    peer.send(head.as_bytes());
    for _ in 0..64 {
        peer.send(&harness::pattern(MIB));
    }
    peer.response().is(200, &size.to_string());
    assert_eq!(peer.fetch(&format!("/bytes?{size}")).body.len(), size);
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 16 * MIB as u64, "it grew by {grown}");
    let trailers = peer.exchange(message("GET", "/trailers", &["TE: trailers"]));
    let trailers = trailers.is(200, "body").trailers;
    assert_eq!(trailers, [("x-sum".to_owned(), "4".to_owned())]);
    proxy.stop();
    upstream.stop();
}

#[test]
fn a_reverse_proxy_says_that_its_upstream_is_not_there() {
    let (refusing, _bound) = refusing();
    let proxy = reverse_proxy(&format!("http://{refusing}"));
    assert_eq!(proxy.connect_http().fetch("/").status, 502);
    proxy.stop();
}

fn reverse_proxy(upstream: &str) -> Server {
    Run::guest("reverse-proxy")
        .http()
        .args(["--allow-connect", "127.0.0.1:*"])
        .guest_args(&[upstream])
        .start()
}
