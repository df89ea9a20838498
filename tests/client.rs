//! Tests of `netwasm:net/client`: by the guests `fetch` and `resolve`, and by
//! the probe for what these do not use.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Condvar, Mutex};
use std::thread;

use crate::harness::{
    DEADLINE, Dns, DnsReply as Reply, Finished, Run, Server, Strace, TcpPeer, TlsServer, cert,
    directory, echoes, full_backlog, in_own_network, pattern, refusing, refusing_datagrams,
    set_mtu, spliced, text,
};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

const MIB: usize = 1 << 20;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// The end of a server's response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    CloseNotify,
    Truncated,
}

/// Answers one request, and returns it. Fails if the handshake fails.
fn answer(server: &TlsServer, response: &str, end: End) -> std::io::Result<String> {
    let mut peer = server.accept()?;
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        request.push_str(&peer.whole_line());
    }
    peer.send(response.as_bytes());
    if end == End::CloseNotify {
        let stream = peer.get();
        stream.conn.send_close_notify();
        stream.conn.write_tls(&mut stream.sock)?;
    }
    Ok(request)
}

/// Runs `fetch` on a URL of a server that answers with `response`.
fn fetched(server: &TlsServer, host: &str, response: &str, end: End, args: &[&str]) -> Finished {
    let port = server.address.port();
    let fetch = Run::guest("fetch")
        .args(["--allow-connect", &format!("{host}:{port}")])
        .args(args)
        .guest_args(&[&format!("https://{host}:{port}/page?q=1")]);
    thread::scope(|scope| {
        // This fails, too, if the client refuses the handshake.
        scope.spawn(|| answer(server, response, end));
        fetch.output()
    })
}

/// Checks that a fetch failed for these reasons.
fn failed(finished: &Finished, reasons: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let line = finished.stdout.trim_end();
    assert_eq!(line.lines().count(), 1, "{finished:#?}");
    assert!(line.contains(": failed: "), "{line}");
    for reason in reasons {
        assert!(line.contains(reason), "no {reason:?} in {line}");
    }
}

/// Flags that let a guest connect to servers of this machine.
const LOCAL: [&str; 4] = [
    "--allow-connect",
    "localhost:*",
    "--allow-connect",
    "127.0.0.1:*",
];

const CA: [&str; 2] = [
    "--ca",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/ca.pem"),
];

#[test]
fn the_status_of_each_url_is_printed() {
    let server = Run::guest("hello").http().https().start();
    let (http, https) = (server.address("http"), server.address("https"));
    let finished = Run::guest("fetch")
        .args(CA)
        .args(LOCAL)
        .guest_args(&[&format!("https://localhost:{}/", https.port())])
        .guest_args(&[&format!("http://{http}?query")])
        .output();
    assert_eq!(finished.code, Some(1), "a path is needed before a query");
    let finished = Run::guest("fetch")
        .args(CA)
        .args(LOCAL)
        .guest_args(&[&format!("https://localhost:{}/", https.port())])
        .guest_args(&[&format!("http://{http}")])
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let mut lines: Vec<_> = finished.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["127.0.0.1: HTTP/1.1 200 OK", "localhost: HTTP/1.1 200 OK"]
    );
    server.stop();
}

#[test]
fn a_request_is_what_a_server_expects() {
    let server = TlsServer::new("cert.pem", "key.pem", &["http/1.1"]);
    let port = server.address.port();
    let fetch = Run::guest("fetch")
        .args(CA)
        .args(["--allow-connect", &format!("localhost:{port}")])
        .guest_args(&[&format!("https://localhost:{port}/page?q=1#part")]);
    let (finished, request) = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, OK, End::CloseNotify));
        let finished = fetch.output();
        (finished, answering.join().expect("a thread that ends"))
    });
    assert_eq!(finished.stdout, "localhost: HTTP/1.1 200 OK\n");
    let request = request.expect("a request");
    assert!(
        request.starts_with("GET /page?q=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains(&format!("Host: localhost:{port}\r\n")),
        "{request}"
    );
}

#[test]
fn urls_are_fetched_at_once() {
    let servers = [(); 3].map(|()| TlsServer::new("cert.pem", "key.pem", &["http/1.1"]));
    let urls = servers
        .each_ref()
        .map(|server| format!("https://localhost:{}/", server.address.port()));
    let fetch = Run::guest("fetch")
        .args(CA)
        .args(["--allow-connect", "localhost:*"])
        .guest_args(&urls.each_ref().map(String::as_str));
    let finished = thread::scope(|scope| {
        // No request is answered before all have come.
        scope.spawn(|| {
            let mut peers = servers.each_ref().map(|it| it.accept().expect("a session"));
            for peer in &mut peers {
                peer.whole_line();
            }
            for peer in &mut peers {
                peer.send(OK.as_bytes());
            }
        });
        fetch.output()
    });
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(finished.stdout, "localhost: HTTP/1.1 200 OK\n".repeat(3));
}

#[test]
fn each_bad_certificate_is_refused_in_words_of_its_own() {
    let mut lines = Vec::new();
    for (chain, key, args, reasons) in [
        ("expired.pem", "expired.key", &CA[..], &["expired"][..]),
        ("self.pem", "self.key", &CA, &["self-signed"]),
        ("other.pem", "other.key", &CA, &["not valid for name"]),
        ("cert.pem", "key.pem", &[], &["UnknownIssuer", "--ca FILE"]),
    ] {
        let server = TlsServer::new(chain, key, &[]);
        let finished = fetched(&server, "localhost", OK, End::CloseNotify, args);
        failed(&finished, reasons);
        lines.push(finished.stdout);
    }
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 4, "{lines:#?}");

    let server = TlsServer::new("cert.pem", "key.pem", &["h2"]);
    let finished = fetched(&server, "localhost", OK, End::CloseNotify, &CA);
    failed(&finished, &["no common protocol (ALPN)"]);
}

#[test]
fn an_authority_that_is_added_makes_it_good() {
    let server = TlsServer::new("self.pem", "self.key", &[]);
    let own = ["--ca", text(&cert("self.pem"))].map(str::to_owned);
    let own = own.each_ref().map(String::as_str);
    let finished = fetched(&server, "localhost", OK, End::CloseNotify, &own);
    assert_eq!(
        finished.stdout, "localhost: HTTP/1.1 200 OK\n",
        "{finished:#?}"
    );
    assert_eq!(finished.code, Some(0));
}

#[test]
fn without_verification_anybody_is_talked_to_and_the_log_warns() {
    for (chain, key) in [
        ("self.pem", "self.key"),
        ("expired.pem", "expired.key"),
        ("other.pem", "other.key"),
    ] {
        let server = TlsServer::new(chain, key, &[]);
        let args = ["--tls-insecure"];
        let finished = fetched(&server, "localhost", OK, End::CloseNotify, &args);
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        assert!(finished.stderr.contains("WARN"), "{finished:#?}");
        assert!(finished.stderr.contains("--tls-insecure"), "{finished:#?}");
    }
}

#[test]
fn a_response_that_was_cut_short_is_a_failure() {
    let until_the_end = "HTTP/1.1 200 OK\r\n\r\nhello";
    let longer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
    let server = TlsServer::new("cert.pem", "key.pem", &[]);
    let fetch = |response, end| fetched(&server, "localhost", response, end, &CA);
    failed(
        &fetch(until_the_end, End::Truncated),
        &["200 OK", "close_notify"],
    );
    failed(&fetch(longer, End::Truncated), &["200 OK", "close_notify"]);
    failed(&fetch(longer, End::CloseNotify), &["cut short", "the end"]);
    failed(&fetch("SSH-2.0\r\n", End::CloseNotify), &["something else"]);
    // By its length, the response is complete.
    assert_eq!(fetch(OK, End::Truncated).code, Some(0));
    assert_eq!(fetch(until_the_end, End::CloseNotify).code, Some(0));
}

#[test]
fn what_fails_does_not_keep_the_others_from_their_answers() {
    let server = Run::guest("hello").http().start();
    let good = format!("http://localhost:{}/", server.address("http").port());
    let finished = Run::guest("fetch")
        .args(["--allow-connect", "localhost:*"])
        .guest_args(&[&good, "https://denied.example/", "gopher://localhost/"])
        .output();
    assert_eq!(finished.code, Some(1));
    for line in [
        "localhost: HTTP/1.1 200 OK",
        "denied.example: failed: the command line does not allow it",
        "gopher://localhost/: failed: it is no http:// or https:// URL",
    ] {
        assert!(
            finished.stdout.lines().any(|it| it == line),
            "{finished:#?}"
        );
    }
    assert!(
        finished
            .stderr
            .contains("--allow-connect denied.example:443"),
        "{finished:#?}"
    );
    server.stop();
}

/// Runs `resolve` on names, with a DNS server.
fn resolved(dns: &Dns, names: &[&str]) -> Finished {
    Run::guest("resolve")
        .args(["--dns-server", &dns.address.to_string()])
        .args(["--dns-timeout", "1s", "--allow-resolve", "*"])
        .guest_args(names)
        .output()
}

#[test]
fn every_address_of_each_name_is_printed() {
    let dns = Dns::new(|name, _| match name {
        "one.example." => Reply::addresses(&["192.0.2.1"]),
        "both.example." => Reply::addresses(&["192.0.2.2", "192.0.2.3", "2001:db8::2"]),
        _ => Reply::Aliases(vec!["c.example."], vec![Ipv4Addr::new(192, 0, 2, 4).into()]),
    });
    let finished = resolved(&dns, &["one.example", "both.example", "alias.example"]);
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let mut lines: Vec<_> = finished.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "alias.example -> 192.0.2.4 (IPv4)",
            "both.example -> 192.0.2.2 (IPv4)",
            "both.example -> 192.0.2.3 (IPv4)",
            "both.example -> 2001:db8::2 (IPv6)",
            "one.example -> 192.0.2.1 (IPv4)",
        ]
    );
}

#[test]
fn each_failure_to_resolve_is_told_in_words_of_its_own() {
    let dns = Dns::new(|name, _| match name {
        "good.example." => Reply::addresses(&["192.0.2.1"]),
        "empty.example." => Reply::NoData,
        "broken.example." => Reply::Fails(ResponseCode::ServFail),
        "silent.example." => Reply::Silence,
        _ => Reply::NoName,
    });
    let names = ["empty", "broken", "silent", "none", "good"].map(|it| format!("{it}.example"));
    let finished = resolved(&dns, &names.each_ref().map(String::as_str));
    assert_eq!(finished.code, Some(1));
    assert_eq!(finished.stdout, "good.example -> 192.0.2.1 (IPv4)\n");
    for line in [
        "none.example: no such name",
        "empty.example: the name has no address",
        "broken.example: the resolver failed",
        "silent.example: the resolver does not answer (--dns-timeout)",
    ] {
        assert!(
            finished.stderr.lines().any(|it| it == line),
            "{finished:#?}"
        );
    }
}

#[test]
fn names_are_asked_for_at_once() {
    let asked = Mutex::new(HashSet::new());
    let all = Condvar::new();
    // No question is answered before all names were asked for.
    let dns = Dns::new(move |name, _| {
        let mut asked = asked.lock().expect("the names");
        asked.insert(name.to_owned());
        all.notify_all();
        let waited = all.wait_timeout_while(asked, DEADLINE, |asked| asked.len() < 20);
        drop(waited.expect("the names"));
        Reply::addresses(&["192.0.2.1"])
    });
    let names: Vec<_> = (0..20).map(|number| format!("n{number}.example")).collect();
    let finished = Run::guest("resolve")
        .args(["--dns-server", &dns.address.to_string()])
        .args(["--dns-timeout", "20s", "--allow-resolve", "*"])
        .guest_args(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert_eq!(finished.stdout.lines().count(), 20);
}

#[test]
fn a_name_that_is_not_allowed_is_not_asked_for() {
    let dns = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let finished = Run::guest("resolve")
        .args(["--dns-server", &dns.address.to_string()])
        .guest_args(&["name.example"])
        .output();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished
            .stderr
            .contains(": the command line does not allow it"),
        "{finished:#?}"
    );
    assert!(
        finished.stderr.contains("--allow-resolve name.example"),
        "{finished:#?}"
    );
    assert!(dns.questions().is_empty());
}

/// Starts the guest `stream-probe`, which runs commands.
fn probe(args: &[&str]) -> Server {
    Run::guest("stream-probe")
        .tcp()
        .args(["--workers", "1"])
        .args(args)
        .start()
}

/// Connects to an instance that runs commands on the client interface.
fn session(server: &Server) -> TcpPeer {
    let mut peer = server.connect();
    peer.say("client");
    peer
}

#[test]
fn a_made_and_an_accepted_connection_are_copied_natively_both_ways() {
    let echo = Run::guest("echo").tcp().start();
    let address = echo.address("tcp").to_string();
    let server = probe(&["--allow-connect", &address]);
    let strace = Strace::attach(&server, &["-e", "trace=splice"]);
    let bytes = pattern(10 * MIB);
    let mut peer = server.connect();
    peer.say(&format!("relay tcp:{address}"));
    echoes(peer, &bytes);
    server.log.wait_for(&["relayed: (Ok(()), Ok(()), Ok(()))"]);
    if let Some(strace) = strace {
        let moved = spliced(&strace.detach());
        // Each byte goes in and out of a pipe, in both directions.
        assert!(moved > 3 * bytes.len(), "{moved} bytes by splice(2)");
    }
    server.stop();
}

#[test]
fn a_tls_connection_is_relayed_as_well() {
    let echo = Run::guest("echo").tls().start();
    let port = echo.address("tls").port();
    let allowed = format!("localhost:{port}");
    let server = probe(&["--allow-connect", &allowed, CA[0], CA[1]]);
    let mut peer = server.connect();
    peer.say(&format!("relay tls:{allowed}"));
    echoes(peer, &pattern(MIB));
    server.stop();
}

#[test]
fn a_session_is_resumed_by_the_next_connection() {
    use rustls::HandshakeKind::{Full, Resumed};
    let tls = TlsServer::new("cert.pem", "key.pem", &["a", "b"]);
    let port = tls.address.port();
    let server = probe(&[
        "--allow-connect",
        &format!("localhost:{port}"),
        CA[0],
        CA[1],
    ]);
    let mut kinds = Vec::new();
    for alpn in ["a", "a", "b"] {
        // Each client has its own instance.
        let mut peer = session(&server);
        peer.say(&format!("connect tls:localhost:{port} alpn={alpn}"));
        let mut accepted = tls.accept().expect("a session");
        assert_eq!(peer.line(), "ok");
        assert!(peer.ask("info").ends_with(alpn));
        kinds.extend(accepted.get().conn.handshake_kind());
        accepted.send(b"x");
        assert_eq!(peer.ask("take 1"), "x");
    }
    assert_eq!(kinds, [Full, Resumed, Resumed]);
    server.stop();
}

#[test]
fn a_server_may_be_expected_to_have_another_name() {
    let tls = TlsServer::new("other.pem", "other.key", &[]);
    let port = tls.address.port();
    let server = probe(&[
        "--allow-connect",
        &format!("localhost:{port}"),
        CA[0],
        CA[1],
    ]);
    let mut peer = session(&server);
    peer.say(&format!("connect tls:localhost:{port} name=other.example"));
    tls.accept().expect("a session");
    assert_eq!(peer.line(), "ok");
    let answer = peer.ask(&format!("connect tls:localhost:{port} name=.bad."));
    assert_eq!(answer, "ErrorCode::InvalidArgument");
    drop(peer);
    server.stop();
}

#[test]
fn connecting_is_denied_without_its_flag_before_anything_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let dns = Dns::new(|_, _| Reply::addresses(&["127.0.0.1"]));
    let server = probe(&[
        "--allow-connect",
        &format!("name.example:{port}"),
        "--dns-server",
        &dns.address.to_string(),
    ]);
    let mut peer = session(&server);
    let mut denied = |command: &str, needles: &[&str]| {
        assert_eq!(peer.ask(command), "ErrorCode::AccessDenied", "{command}");
        server.log.wait_for(needles);
    };
    denied(
        &format!("connect tcp:127.0.0.1:{port}"),
        &[&format!("--allow-connect 127.0.0.1:{port} would")],
    );
    denied(
        &format!("connect tls:127.0.0.1:{port}"),
        &["--allow-connect"],
    );
    denied(
        "connect unix:/run/nothing.sock",
        &["--allow-connect unix:/run/nothing.sock"],
    );
    // A rule for a name does not allow the addresses of this machine.
    denied(
        &format!("connect tcp:name.example:{port}"),
        &["name.example", "which is not a public address"],
    );
    denied(
        &format!("socket 127.0.0.1:{port}"),
        &[&format!("--allow-udp 127.0.0.1:{port}")],
    );
    denied(
        &format!("socket name.example:{port}"),
        &[&format!("--allow-udp name.example:{port}")],
    );
    denied("bind 127.0.0.1:39999", &["--allow-listen 127.0.0.1:39999"]);
    denied("resolve other.example", &["--allow-resolve other.example"]);
    assert_eq!(peer.ask("resolve name.example").matches("Ipv4").count(), 1);
    // The address stays denied, now that the name has led there.
    assert_eq!(
        peer.ask(&format!("connect tcp:127.0.0.1:{port}")),
        "ErrorCode::AccessDenied"
    );
    listener.set_nonblocking(true).expect("a socket");
    assert!(listener.accept().is_err(), "nothing was sent");
    drop(peer);
    server.stop();
}

#[test]
fn what_cannot_be_connected_to_is_told_apart() {
    let (refused, _bound) = refusing();
    let (silent, _kept) = full_backlog(Ipv4Addr::LOCALHOST.into());
    let server = probe(&["--allow-connect", "127.0.0.0/8:*"]);
    let mut peer = session(&server);
    let mut ask = |command: String| peer.ask(&command);
    assert_eq!(
        ask(format!("connect tcp:{refused}")),
        "ErrorCode::ConnectionRefused"
    );
    assert_eq!(
        ask(format!("connect tcp:{silent} timeout=100")),
        "ErrorCode::Timeout"
    );
    assert_eq!(
        ask("connect tcp:127.0.0.1:0".into()),
        "ErrorCode::InvalidArgument"
    );
    // 192.0.2.1 is an example address, not one of this machine.
    assert_eq!(
        ask(format!("connect tcp:{refused} local=192.0.2.1")),
        "ErrorCode::AddressNotBindable"
    );
    drop(peer);
    server.stop();
}

#[test]
fn a_connection_may_come_from_an_address_of_choice() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = probe(&["--allow-connect", &address.to_string()]);
    let mut peer = session(&server);
    assert_eq!(
        peer.ask(&format!("connect tcp:{address} local=127.0.0.9")),
        "ok"
    );
    let (_, from) = listener.accept().expect("a connection");
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 9));
    drop(peer);
    server.stop();
}

#[test]
fn a_unix_socket_is_connected_to_and_pooled() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let Some(Ok(())) = buffer.get(..count).map(|it| stream.write_all(it)) else {
                    break;
                };
            }
        }
    });
    let target = format!("unix:{}", path.display());
    let server = probe(&["--allow-connect", &target]);
    let mut peer = session(&server);
    assert_eq!(peer.ask(&format!("connect {target}")), "ok");
    assert_eq!(peer.ask("ask hello"), "hello");
    assert_eq!(peer.ask("drop"), "ok");
    assert_eq!(peer.ask(&format!("pool {target}")), "ok");
    for _ in 0..3 {
        assert_eq!(peer.ask("get"), "ok");
        assert_eq!(peer.ask("ask hello"), "hello");
        assert_eq!(peer.ask("put"), "ok");
    }
    assert!(peer.ask("counts").contains("opened 1 reused 2"));
    let missing = format!("connect unix:{}/none.sock", scratch.path().display());
    assert_eq!(peer.ask(&missing), "ErrorCode::AccessDenied");
    drop(peer);
    server.stop();
}

#[test]
fn datagrams_go_to_and_fro() {
    let echo = Run::guest("echo").udp().start();
    let address = echo.address("udp");
    let allowed = format!("localhost:{}", address.port());
    let server = probe(&["--allow-udp", &allowed, "--allow-udp", &address.to_string()]);
    let mut peer = session(&server);
    // A connected socket, by address: `localhost` leads to an IPv6 address
    // first if there is one, and the echo has none.
    assert_eq!(peer.ask(&format!("socket {address}")), "ok");
    for message in ["one", "two", ""] {
        assert_eq!(peer.ask(&format!("datagram {message}")), "ok");
        let answer = peer.ask("receive");
        assert_eq!(answer.trim_end(), format!("{address} {message}").trim_end());
    }
    // The longest datagram, and one byte more.
    assert_eq!(peer.ask("long-datagram 65507"), "ok");
    assert_eq!(peer.ask("receive"), format!("{address} 65507"));
    assert_eq!(
        peer.ask("long-datagram 65508"),
        "ErrorCode::InvalidArgument"
    );
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:9 x"),
        "ErrorCode::InvalidState"
    );

    // A socket that is not connected.
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    assert_eq!(peer.ask("datagram x"), "ErrorCode::InvalidState");
    assert_eq!(peer.ask(&format!("datagram-to {address} hello")), "ok");
    assert_eq!(peer.ask("receive"), format!("{address} hello"));
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:9 x"),
        "ErrorCode::AccessDenied"
    );
    server.log.wait_for(&["--allow-udp 127.0.0.1:9 would"]);
    assert_eq!(
        peer.ask("datagram-to 127.0.0.1:0 x"),
        "ErrorCode::InvalidArgument"
    );
    drop(peer);
    server.stop();
}

#[test]
fn datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error() {
    if !in_own_network(
        "client::datagrams_larger_than_a_packet_arrive_and_those_too_long_are_an_error",
    ) {
        return;
    }
    set_mtu(1500);
    // `localhost` leads to an IPv6 address first.
    for (any, host, longest) in [
        ("127.0.0.1:0", "127.0.0.1", 65_507),
        ("[::1]:0", "localhost", 65_527),
    ] {
        let echo = Run::guest("echo").listen("--udp", any).start();
        let address = echo.address("udp");
        let target = format!("{host}:{}", address.port());
        let server = probe(&["--allow-udp", &target]);
        let mut peer = session(&server);
        assert_eq!(peer.ask(&format!("socket {target}")), "ok");
        for size in [1453, 9000, longest] {
            assert_eq!(peer.ask(&format!("long-datagram {size}")), "ok");
            let received = peer.ask("receive");
            assert!(received.ends_with(&format!(" {size}")), "{received}");
        }
        let too_long = format!("long-datagram {}", longest + 1);
        assert_eq!(peer.ask(&too_long), "ErrorCode::InvalidArgument");
        drop(peer);
        server.stop();
        echo.stop();
    }
}

#[test]
fn whoever_sent_a_datagram_may_be_answered() {
    let server = probe(&["--allow-listen", "127.0.0.1:0"]);
    let mut peer = session(&server);
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let local = socket.local_addr().expect("an address");
    let answer = format!("datagram-to {local} answer");
    assert_eq!(peer.ask(&answer), "ErrorCode::AccessDenied");
    let address = peer.ask("socket-address");
    socket.send_to(b"question", &*address).expect("it is sent");
    assert_eq!(peer.ask("receive"), format!("{local} question"));
    assert_eq!(peer.ask(&answer), "ok");
    let mut buffer = [0; 64];
    let (count, _) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(buffer.get(..count), Some(&b"answer"[..]));
    drop(peer);
    server.stop();
}

#[test]
fn strangers_are_not_heard_where_nobody_listens() {
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let friend = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let allowed = friend.local_addr().expect("an address").to_string();
    let server = probe(&["--allow-udp", &allowed, "--allow-listen", "127.0.0.2:0"]);
    let mut peer = session(&server);
    // The first socket may listen. The second may not.
    assert_eq!(peer.ask("bind 127.0.0.2:0"), "ok");
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    let address = peer.ask("socket-address");
    for (socket, message) in [(&stranger, "strange"), (&friend, "known")] {
        socket
            .send_to(message.as_bytes(), &*address)
            .expect("it is sent");
    }
    assert_eq!(peer.ask("receive"), format!("{allowed} known"));
    drop(peer);
    server.stop();
}

#[test]
fn a_datagram_that_reaches_nobody_is_told_and_the_socket_stays() {
    let (address, socket) = refusing_datagrams();
    let server = probe(&["--allow-udp", &address.to_string()]);
    let mut peer = session(&server);
    assert_eq!(peer.ask(&format!("socket {address}")), "ok");
    assert_eq!(peer.ask("datagram x"), "ok");
    assert_eq!(peer.ask("receive"), "ErrorCode::ConnectionRefused");
    // Now the address takes datagrams from the program.
    let program = peer.ask("socket-address");
    socket.connect(&*program).expect("another peer");
    assert_eq!(peer.ask("datagram x"), "ok");
    let mut buffer = [0; 2];
    assert_eq!(socket.recv(&mut buffer).expect("a datagram"), 1);
    drop(peer);
    server.stop();
}

#[test]
fn giving_up_leaves_nothing() {
    let (silent, _kept) = full_backlog(Ipv4Addr::LOCALHOST.into());
    let dns = Dns::new(|_, family| match family {
        RecordType::A => Reply::Silence,
        _ => Reply::NoData,
    });
    let server = probe(&[
        "--allow-connect",
        "127.0.0.0/8:*",
        "--allow-connect",
        "silent.example:*",
        "--allow-listen",
        "127.0.0.1:0",
        "--dns-server",
        &dns.address.to_string(),
    ]);
    let before = server.descriptors_at_rest();
    let mut peer = session(&server);
    for what in [
        format!("connect tcp:{silent}"),
        format!("connect tls:{silent}"),
        "connect tcp:silent.example:80".into(),
        "resolve silent.example".into(),
    ] {
        assert_eq!(peer.ask(&format!("give-up {what}")), "given up", "{what}");
    }
    assert_eq!(peer.ask("bind 127.0.0.1:0"), "ok");
    assert_eq!(peer.ask("give-up receive"), "given up");
    // The socket itself was not given up, and works.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = peer.ask("socket-address");
    socket.send_to(b"hello", &*address).expect("it is sent");
    assert!(peer.ask("receive").ends_with("hello"));
    drop(peer);
    server.wait_for_descriptors(before);

    // A client leaves while its connection is pending.
    let mut peer = session(&server);
    peer.say(&format!("connect tcp:{silent} timeout=300"));
    peer.reset();
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_tls_handshake_that_does_not_end_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = probe(&["--allow-connect", &address.to_string(), CA[0], CA[1]]);
    let before = server.descriptors_at_rest();
    let mut peer = session(&server);
    let answer = peer.ask(&format!("connect tls:{address} timeout=200"));
    assert_eq!(answer, "ErrorCode::Timeout");
    drop(peer);
    server.wait_for_descriptors(before);
    server.stop();
}
