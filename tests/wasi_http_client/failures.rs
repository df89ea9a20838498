//! Requests that are denied, or that fail: each failure has its name.

use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;

use super::{MIB, OK, PROBES, SAID, ask, ask_with, probe, probes, reverse_proxy};
use crate::harness::{
    Dns, DnsReply, TlsServer, Upstream, cert, full_backlog, message, refusing, text,
};

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

/// As WASI's own suite has it (wasmtime issue 14112, and WASI issue 949).
#[test]
fn a_request_that_was_not_sent_says_so_and_one_without_a_path_is_for_the_root() {
    let upstream = Upstream::answering(OK);
    let allowed = upstream.address.to_string();
    let server = probe("client-probe", &allowed).start();
    let denied = "error: ErrorCode::DestinationIpProhibited";
    assert_eq!(
        ask(&server, "/unsent?http://127.0.0.1:81/"),
        format!(
            "{denied}, sent Err({})",
            denied.trim_start_matches("error: ")
        )
    );
    assert_eq!(
        ask(&server, &format!("/get-pathless?http://{allowed}")),
        SAID
    );
    server.stop();
    assert_eq!(upstream.connections(), 1);
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
            .args(["--allow-connect", "127.0.0.1:*", "--dns-timeout", "3s"])
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
