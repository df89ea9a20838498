//! Tests of `netwasm:net/client`: by the guests `fetch` and `resolve`, and by
//! the probe for what these do not use.

mod datagrams;
mod fetching;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Condvar, Mutex};
use std::thread;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::harness::{
    DEADLINE, Dns, DnsReply as Reply, Finished, Run, Server, Strace, TcpPeer, TlsServer, directory,
    echoes, full_backlog, pattern, refusing, spliced,
};

const MIB: usize = 1 << 20;

const CA: [&str; 2] = [
    "--ca",
    concat!(env!("CARGO_MANIFEST_DIR"), "/../certs/ca.pem"),
];

/// Runs `resolve` on names, with a DNS server.
fn resolved(dns: &Dns, names: &[&str]) -> Finished {
    Run::guest("resolve")
        .args(["--dns-server", &dns.address.to_string()])
        .args(["--dns-timeout", "3s", "--allow-resolve", "*"])
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

/// Starts it for servers with the test's certificates, on `localhost` at this port.
fn probe_of(port: u16) -> Server {
    probe(&[
        "--allow-connect",
        &format!("localhost:{port}"),
        CA[0],
        CA[1],
    ])
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
    let server = probe_of(port);
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
    let server = probe_of(port);
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
