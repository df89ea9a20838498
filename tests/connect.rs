//! Tests of outgoing connections: the proxy, the addresses that are allowed,
//! names, and TLS as a client.

mod tls;

use std::net::{SocketAddr, TcpListener};

use crate::harness::{
    self, Run, Server, Strace, TcpPeer, directory, echoes, eventually, full_backlog, pattern,
    refusing, unix_address,
};

/// Makes a run of the probe that may connect to `patterns`.
fn probe(patterns: &[&str]) -> Run {
    let run = Run::guest("probe").tcp();
    patterns
        .iter()
        .fold(run, |run, pattern| run.args(["--allow-connect", pattern]))
}

/// Starts a proxy in front of these addresses.
fn proxy(upstreams: &[&str]) -> Server {
    let run = Run::guest("proxy").tcp();
    upstreams
        .iter()
        .fold(run, |run, upstream| run.args(["--allow-connect", upstream]))
        .guest_args(upstreams)
        .start()
}

#[test]
fn a_proxy_without_a_server_does_not_start() {
    for args in [&[][..], &["nonsense"]] {
        let finished = Run::guest("proxy")
            .tcp()
            .args(["--allow-connect", "*:*"])
            .guest_args(args)
            .output();
        assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
        for needle in [
            "no server: name the servers to connect to, as HOST:PORT",
            "netwasm: proxy: it does not start: the guest exited with code 1",
        ] {
            assert!(finished.stderr.contains(needle), "{finished:#?}");
        }
    }
}

#[test]
fn a_proxy_relays_both_ways_and_half_closes() {
    let upstream = Run::guest("echo").tcp().start();
    let proxy = proxy(&[&upstream.address("tcp").to_string()]);
    for size in [0, 1, 100_000, 10 << 20] {
        echoes(proxy.connect(), &pattern(size));
    }
    proxy.stop();
    upstream.stop();
}

#[test]
fn an_outgoing_connection_is_registered_with_epoll_once() {
    let upstream = Run::guest("echo").tcp().start();
    let proxy = proxy(&[&upstream.address("tcp").to_string()]);
    // All threads have begun.
    proxy.idles();
    let Some(strace) = Strace::attach(&proxy, &["-e", "trace=epoll_ctl"]) else {
        return;
    };
    echoes(proxy.connect(), &pattern(1000));
    let trace = strace.detach();
    let added = trace.iter().filter(|line| line.contains("CTL_ADD")).count();
    assert_eq!(added, 2, "of the client and of the upstream: {trace:#?}");
}

#[test]
fn an_idle_proxy_uses_no_processor_and_ends_at_its_time() {
    let upstream = Run::guest("echo").tcp().start();
    let address = upstream.address("tcp").to_string();
    let proxy = Run::guest("proxy")
        .tcp()
        .args(["--allow-connect", &address, "--idle-timeout", "1s"])
        .guest_args(&[&address])
        .start();
    let mut peer = proxy.connect();
    peer.send(b"then nothing");
    assert_eq!(peer.take(12), b"then nothing");
    let (begun, used) = (std::time::Instant::now(), proxy.cpu_seconds());
    peer.lost();
    let (elapsed, used) = (begun.elapsed().as_secs_f64(), proxy.cpu_seconds() - used);
    assert!(used < elapsed / 4.0, "{used} s of {elapsed} s");
}

#[test]
fn a_proxy_takes_its_addresses_in_turn() {
    let upstreams = [Upstream::new(), Upstream::new()];
    let addresses = upstreams
        .each_ref()
        .map(|upstream| upstream.address.to_string());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let proxy = proxy(&addresses);
    // Both are reached, in either order.
    let mut reached = [false; 2];
    let mut peers = Vec::new();
    eventually("a connection to each upstream", || {
        peers.push(proxy.connect());
        for (reached, upstream) in reached.iter_mut().zip(&upstreams) {
            *reached |= upstream.try_accept().is_some();
        }
        (reached == [true; 2]).then_some(())
    });
}

#[test]
fn a_proxy_skips_an_upstream_that_does_not_answer() {
    let upstream = Run::guest("echo").tcp().start();
    let (nobody, others) = (refusing(), refusing());
    let proxy = proxy(&[
        &nobody.0.to_string(),
        &others.0.to_string(),
        &upstream.address("tcp").to_string(),
    ]);
    for _ in 0..8 {
        let mut peer = proxy.connect();
        // The bytes wait in the proxy until an upstream is connected.
        peer.send(b"whoever answers");
        assert_eq!(peer.take(15), b"whoever answers");
    }
}

#[test]
fn a_proxy_gives_up_on_an_upstream_that_stays_silent() {
    let (silent, _kept) = full_backlog([127, 0, 0, 1].into());
    let upstream = Run::guest("echo").tcp().start();
    let proxy = proxy(&[&silent.to_string(), &upstream.address("tcp").to_string()]);
    // At least one of these tries the silent upstream first.
    let mut peers: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for peer in &mut peers {
        peer.send(b"sooner or later");
    }
    for peer in &mut peers {
        assert_eq!(peer.take(15), b"sooner or later");
    }
}

#[test]
fn a_proxy_without_a_living_upstream_ends_the_client() {
    let (nobody, others) = (refusing(), refusing());
    let proxy = proxy(&[&nobody.0.to_string(), &others.0.to_string()]);
    let before = proxy.descriptors_at_rest();
    let mut peer = proxy.connect();
    assert_eq!(peer.lost(), b"");
    proxy.log.wait_for(&["proxy", "no server can be reached"]);
    proxy.wait_for_descriptors(before);
}

#[test]
fn a_proxy_reaches_a_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("upstream.sock");
    let address = unix_address(&path);
    let _upstream = Run::guest("echo").listen("--tcp", &address).start();
    echoes(proxy(&[&address]).connect(), &pattern(300_000));
}

#[test]
fn a_proxy_ends_tls_in_front_of_plain_text() {
    let upstream = Run::guest("echo").tcp().start();
    let address = upstream.address("tcp").to_string();
    let proxy = Run::guest("proxy")
        .tls()
        .args(["--allow-connect", &address])
        .guest_args(&[&address])
        .start();
    let mut peer = harness::Client::of("localhost").connect(proxy.address("tls"));
    let bytes = pattern(1 << 20);
    peer.echoes_by(64 << 10, &bytes);
    peer.finish();
    assert_eq!(peer.rest(), b"");
}

#[test]
fn an_upstream_that_resets_ends_the_client_too() {
    let listener = Upstream::new();
    let proxy = proxy(&[&listener.address.to_string()]);
    let round = || {
        let mut peer = proxy.connect();
        peer.send(b"hello");
        let mut upstream = listener.accept();
        assert_eq!(upstream.take(5), b"hello");
        upstream.reset();
        peer.lost();
    };
    round();
    let descriptors = proxy.settled_descriptors();
    for _ in 0..10 {
        round();
    }
    proxy.wait_for_descriptors(descriptors);
    proxy.log.wait_for(&["reset"]);
}

/// An upstream in this process.
struct Upstream {
    listener: TcpListener,
    address: SocketAddr,
}

impl Upstream {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not wait");
        let address = listener.local_addr().expect("its address");
        Self { listener, address }
    }

    /// Waits for the next connection.
    fn accept(&self) -> TcpPeer {
        eventually("a connection to the upstream", || self.try_accept())
    }

    fn try_accept(&self) -> Option<TcpPeer> {
        self.listener
            .accept()
            .ok()
            .map(|(stream, _)| TcpPeer::accepted(stream))
    }
}

#[test]
fn what_is_not_allowed_is_denied_before_any_packet() {
    let upstream = Upstream::new();
    let address = upstream.address.to_string();
    let server = probe(&[]).start();
    let mut peer = server.connect();
    assert_eq!(
        peer.ask(&format!("connect {address} hello")),
        "error: access-denied"
    );
    server.log.wait_for(&["--allow-connect", &address]);
    assert!(upstream.try_accept().is_none(), "somebody has connected");
    assert_eq!(
        peer.ask("connect unix:/run/x.sock hello"),
        "error: access-denied"
    );
    assert_eq!(
        peer.ask("connect localhost:80 hello"),
        "error: access-denied"
    );
    assert_eq!(peer.ask("resolve localhost"), "error: access-denied");
}

#[test]
fn a_rule_for_one_port_is_none_for_another() {
    let upstream = Run::guest("echo").tcp().start();
    let address = upstream.address("tcp").to_string();
    let (other, _kept) = refusing();
    let server = probe(&[&address]).start();
    let mut peer = server.connect();
    assert_eq!(peer.ask(&format!("connect {address} hello")), "hello");
    assert_eq!(
        peer.ask(&format!("connect {other} hello")),
        "error: access-denied"
    );
}

#[test]
fn a_rule_for_every_name_does_not_open_this_machine() {
    let upstream = Run::guest("echo").tcp().start();
    let port = upstream.address("tcp").port();
    let server = probe(&[&format!("*:{port}")]).start();
    let mut peer = server.connect();
    let answer = peer.ask(&format!("connect 127.0.0.1:{port} hello"));
    assert_eq!(answer, "error: access-denied");
    let answer = peer.ask(&format!("connect [::ffff:127.0.0.1]:{port} hello"));
    assert_eq!(answer, "error: access-denied");
}

#[test]
fn a_name_is_connected_to_at_whichever_address_answers() {
    // Nobody listens on ::1 at this port.
    let upstream = Run::guest("echo").tcp().start();
    let port = upstream.address("tcp").port();
    let server = probe(&[&format!("localhost:{port}")]).start();
    assert_eq!(
        server
            .connect()
            .ask(&format!("connect localhost:{port} hello")),
        "hello"
    );
}

#[test]
fn a_refusal_is_told_from_a_denial() {
    let (address, _kept) = refusing();
    let address = address.to_string();
    let server = probe(&[&address]).start();
    let answer = server.connect().ask(&format!("connect {address} hello"));
    assert_eq!(answer, "error: connection-refused");
}

#[test]
fn a_unix_socket_that_is_not_there_is_an_error() {
    let scratch = directory();
    let path = scratch.path().join("nobody.sock");
    let address = unix_address(&path);
    let server = probe(&[&address]).start();
    let answer = server.connect().ask(&format!("connect {address} hello"));
    assert!(answer.starts_with("error: "), "{answer}");
    assert_ne!(answer, "error: access-denied");
}

#[test]
fn localhost_resolves_and_an_address_is_its_own_answer() {
    let server = probe(&["localhost:*", "192.0.2.7:80", "nothing.invalid:*"]).start();
    let mut peer = server.connect();
    let answer = peer.ask("resolve localhost");
    assert!(
        answer.contains("127.0.0.1") || answer.contains("::1"),
        "{answer}"
    );
    let answer = peer.ask("resolve 192.0.2.7");
    assert!(
        answer.contains("192.0.2.7") && !answer.contains("error"),
        "{answer}"
    );
    let answer = peer.ask("resolve nothing.invalid");
    assert_eq!(answer, "error: name-unresolvable");
    let answer = peer.ask("connect nothing.invalid:80 hello");
    assert_eq!(answer, "error: name-unresolvable");
}

#[test]
fn pending_connections_go_with_the_client_that_asked() {
    // The backlog is full: the kernel answers no further SYN.
    let listener = full_backlog([127, 0, 0, 1].into());
    let address = listener.0.to_string();
    let server = probe(&[&address]).start();
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    peer.say(&format!("connect {address} hello"));
    eventually("a pending connection", || {
        (server.descriptors() > before + 1).then_some(())
    });
    peer.reset();
    server.wait_for_descriptors(before);
}
