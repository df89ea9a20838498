//! Connections to names: what is allowed, and which address is tried.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::{echo_at, probe};
use crate::harness::{
    Dns, DnsReply as Reply, Run, free_port, full_backlog_at, took_less, with_ipv6,
};

#[test]
fn no_question_is_sent_for_what_is_not_allowed() {
    let dns = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let server = probe(&dns, &["--allow-resolve", "*.example.org"]);
    let mut peer = server.connect();
    assert_eq!(peer.ask("resolve example.org"), "error: access-denied");
    server.log.wait_for(&[
        "looking example.org up is not allowed; --allow-connect example.org:PORT",
        "--allow-resolve example.org",
    ]);
    assert_eq!(
        peer.ask("connect www.example.org:80 hello"),
        "error: access-denied"
    );
    server.log.wait_for(&["--allow-connect www.example.org:80"]);
    assert_eq!(dns.questions(), []);
    assert_eq!(peer.ask("resolve www.example.org"), "192.0.2.1");
}

#[test]
fn a_public_name_does_not_lead_into_this_machine() {
    let (_echo, port) = echo_at("127.0.0.1");
    let dns = Dns::new(|_, _| Reply::addresses(&["127.0.0.1", "::1", "::ffff:127.0.0.1"]));
    let name = format!("name.example:{port}");
    for pattern in [&name, &format!("*:{port}")] {
        let server = probe(&dns, &["--allow-connect", pattern]);
        let mut peer = server.connect();
        assert_eq!(
            peer.ask(&format!("connect {name} hello")),
            "error: access-denied"
        );
        server.log.wait_for(&[
            &name,
            "127.0.0.1, which is not a public address",
            &format!("--allow-connect 127.0.0.1:{port} would allow it"),
        ]);
        // The address stays denied, now that the name has led there.
        let answer = peer.ask(&format!("connect 127.0.0.1:{port} hello"));
        assert_eq!(answer, "error: access-denied");
    }
    // A rule for the address allows it.
    let address = format!("127.0.0.1:{port}");
    let server = probe(
        &dns,
        &["--allow-connect", &name, "--allow-connect", &address],
    );
    assert_eq!(
        server.connect().ask(&format!("connect {name} hello")),
        "hello"
    );
}

#[test]
fn a_denied_address_is_no_warning_where_another_connects() {
    let (_echo, port) = echo_at("127.0.0.1");
    let dns = Dns::new(|_, _| Reply::addresses(&["::1", "127.0.0.2", "127.0.0.1"]));
    let name = format!("name.example:{port}");
    let address = format!("127.0.0.1:{port}");
    let server = probe(
        &dns,
        &["--allow-connect", &name, "--allow-connect", &address],
    );
    let mut peer = server.connect();
    assert_eq!(peer.ask(&format!("connect {name} hello")), "hello");
    // A connection that is denied altogether is a warning. It must be the
    // first.
    let other = format!("connect other.example:{port} hello");
    assert_eq!(peer.ask(&other), "error: access-denied");
    server.log.wait_for(&["other.example"]);
    assert_eq!(server.log.count("127.0.0.2"), 0, "{:?}", server.log.lines());
}

#[test]
fn a_name_that_becomes_private_later_is_denied_then() {
    let (_echo, port) = echo_at("127.0.0.1");
    let second = std::sync::atomic::AtomicBool::new(false);
    // The name leads elsewhere first, then to this machine: a rebinding attack.
    let dns = Dns::new(move |_, family| match family {
        RecordType::A if second.swap(true, std::sync::atomic::Ordering::Relaxed) => {
            Reply::addresses_for(&["127.0.0.1"], 0)
        }
        RecordType::A => Reply::addresses_for(&["192.0.2.1"], 0),
        _ => Reply::NoData,
    });
    let server = probe(&dns, &["--allow-connect", &format!("*:{port}")]);
    let mut peer = server.connect();
    assert_eq!(peer.ask("resolve name.example"), "192.0.2.1");
    let answer = peer.ask(&format!("connect name.example:{port} hello"));
    assert_eq!(answer, "error: access-denied");
}

#[test]
fn a_dead_address_does_not_hold_up_a_living_one() {
    if !with_ipv6("dns::connecting::a_dead_address_does_not_hold_up_a_living_one") {
        return;
    }
    // The dead address is of IPv6, which is tried first.
    let port = free_port();
    let (_, _kept) = full_backlog_at((Ipv6Addr::LOCALHOST, port).into());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let _echo = Run::guest("echo")
        .listen("--tcp", &address.to_string())
        .start();
    let dns = Dns::new(|_, _| Reply::addresses(&["::1", "127.0.0.1"]));
    let server = probe(
        &dns,
        &[
            "--allow-connect",
            &format!("name.example:{port}"),
            "--allow-connect",
            &format!("127.0.0.1:{port}"),
            "--allow-connect",
            &format!("[::1]:{port}"),
        ],
    );
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    let begun = Instant::now();
    assert_eq!(
        peer.ask(&format!("connect name.example:{port} hello")),
        "hello"
    );
    let elapsed = begun.elapsed();
    assert!(
        (Duration::from_millis(200)..Duration::from_secs(10)).contains(&elapsed),
        "{elapsed:?}"
    );
    peer.finish_and_wait();
    server.wait_for_descriptors(before);
}

#[test]
fn a_family_that_is_answered_for_late_is_not_waited_for() {
    let (_echo, port) = echo_at("127.0.0.1");
    for late in [
        Reply::Silence,
        Reply::addresses(&["::1"]).after(Duration::from_secs(20)),
        Reply::Fails(ResponseCode::ServFail),
    ] {
        let dns = Dns::new(move |_, family| match family {
            RecordType::A => Reply::addresses(&["127.0.0.1"]),
            _ => late.clone(),
        });
        let server = probe(
            &dns,
            &[
                "--allow-connect",
                &format!("name.example:{port}"),
                "--allow-connect",
                &format!("127.0.0.1:{port}"),
                "--dns-timeout",
                "1m",
            ],
        );
        let begun = Instant::now();
        let answer = server
            .connect()
            .ask(&format!("connect name.example:{port} hello"));
        assert_eq!(answer, "hello");
        took_less(begun, Duration::from_secs(15));
    }
}

#[test]
fn a_late_family_is_used_where_the_first_does_not_answer() {
    let (_echo, port) = echo_at("127.0.0.1");
    let dead_port = free_port();
    let (_, _kept) = full_backlog_at(([127, 0, 0, 2], dead_port).into());
    // The first family's address refuses at the one port, and is silent at the
    // other.
    for port in [port, dead_port] {
        let _second = (port == dead_port).then(|| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            Run::guest("echo")
                .listen("--tcp", &address.to_string())
                .start()
        });
        let dns = Dns::new(move |_, family| match family {
            RecordType::AAAA => Reply::addresses(&["::ffff:127.0.0.2"]),
            _ => Reply::addresses(&["127.0.0.1"]).after(Duration::from_millis(600)),
        });
        let server = probe(
            &dns,
            &[
                "--allow-connect",
                &format!("name.example:{port}"),
                "--allow-connect",
                &format!("127.0.0.0/8:{port}"),
            ],
        );
        let answer = server
            .connect()
            .ask(&format!("connect name.example:{port} hello"));
        assert_eq!(answer, "hello");
    }
}

#[test]
fn a_rule_for_a_name_holds_for_the_address_that_it_led_to() {
    // Loopback stands for public addresses: a rule for the name allows its
    // address only once the name has led there.
    let (_echo, port) = echo_at("127.0.0.1");
    let dns = Dns::new(|_, _| Reply::NoName);
    let server = probe(&dns, &["--allow-connect", &format!("localhost:{port}")]);
    let mut peer = server.connect();
    let connect = format!("connect 127.0.0.1:{port} hello");
    assert_eq!(peer.ask(&connect), "error: access-denied");
    peer.ask("resolve localhost");
    assert_eq!(peer.ask(&connect), "hello");
    let other = format!("connect 127.0.0.2:{port} hello");
    assert_eq!(peer.ask(&other), "error: access-denied");
}

#[test]
fn an_error_of_the_resolver_is_that_of_the_connection() {
    for (reply, timeout, answer) in [
        (Reply::NoName, "20s", "error: name-unresolvable"),
        (Reply::NoData, "20s", "error: no-address"),
        (
            Reply::Fails(ResponseCode::ServFail),
            "20s",
            "error: resolver-failure",
        ),
        (Reply::Silence, "500ms", "error: timeout"),
    ] {
        let dns = Dns::new(move |_, _| reply.clone());
        let server = probe(&dns, &["--allow-connect", "*:80", "--dns-timeout", timeout]);
        assert_eq!(
            server.connect().ask("connect name.example:80 hello"),
            answer
        );
    }
}
