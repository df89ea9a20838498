//! Tests of names: the outcome of each answer of a DNS server, the cache,
//! special names, and that no answer widens what is allowed.

mod connecting;
mod servers;

use std::collections::HashSet;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::harness::{
    DEADLINE, Dns, DnsReply as Reply, Run, Server, SystemFile, aliases, eventually, in_own_network,
};

/// Starts the probe with a DNS server.
fn probe(dns: &Dns, args: &[&str]) -> Server {
    Run::guest("probe")
        .tcp()
        .args(["--workers", "1", "--dns-server", &dns.address.to_string()])
        .args(args)
        .start()
}

/// Returns the time of a look-up that gets this reply: a short one if it passes in vain.
fn time_of(reply: &Reply) -> &'static str {
    if matches!(reply, Reply::Silence) {
        "1s"
    } else {
        "20s"
    }
}

/// Returns the probe's answer if every question gets `reply`.
fn resolved(reply: Reply) -> String {
    let time = time_of(&reply);
    let dns = Dns::new(move |_, _| reply.clone());
    let server = probe(&dns, &["--allow-resolve", "*", "--dns-timeout", time]);
    server.connect().ask("resolve name.example")
}

/// Starts an echo, and returns its port. Nobody listens at other addresses.
fn echo_at(address: &str) -> (Server, u16) {
    let server = Run::guest("echo")
        .listen("--tcp", &format!("{address}:0"))
        .start();
    let port = server.address("tcp").port();
    (server, port)
}

/// Starts the probe with these DNS servers, in this order.
fn probe_of(servers: &[&Dns], args: &[&str]) -> Server {
    let more = servers[1..].iter();
    let more = more.flat_map(|dns| ["--dns-server".to_owned(), dns.address.to_string()]);
    let args = args.iter().map(ToString::to_string);
    let all: Vec<_> = more.chain(args).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    probe(servers[0], &all)
}

#[test]
fn each_outcome_is_an_answer_of_its_own() {
    for (reply, answer) in [
        (Reply::NoName, "error: name-unresolvable"),
        (Reply::NoData, "error: no-address"),
        (
            Reply::Fails(ResponseCode::ServFail),
            "error: resolver-failure",
        ),
        (
            Reply::Fails(ResponseCode::Refused),
            "error: resolver-failure",
        ),
        (
            Reply::Fails(ResponseCode::NotImp),
            "error: resolver-failure",
        ),
        (Reply::Silence, "error: timeout"),
    ] {
        assert_eq!(resolved(reply.clone()), answer, "{reply:?}");
    }
}

#[test]
fn both_families_are_asked_for_at_once() {
    let (asked, both) = (Mutex::new(HashSet::new()), Condvar::new());
    // No question is answered before both have come.
    let dns = Dns::new(move |_, family| {
        let mut asked = asked.lock().expect("the families");
        asked.insert(family);
        both.notify_all();
        let waited = both.wait_timeout_while(asked, DEADLINE, |asked| asked.len() < 2);
        drop(waited.expect("the families"));
        Reply::addresses(&["192.0.2.1", "192.0.2.2", "2001:db8::1"])
    });
    let server = probe(&dns, &["--allow-resolve", "*", "--dns-timeout", "20s"]);
    let answer = server.connect().ask("resolve name.example");
    let mut addresses: Vec<_> = answer.split(' ').collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    let name = || "name.example.".to_owned();
    assert_eq!(
        dns.asked(),
        [(name(), RecordType::A), (name(), RecordType::AAAA)]
    );
}

#[test]
fn one_family_is_enough() {
    for other in [
        Reply::NoData,
        Reply::Fails(ResponseCode::ServFail),
        Reply::NoName,
        Reply::Silence,
    ] {
        let time = time_of(&other);
        let dns = Dns::new(move |_, family| match family {
            RecordType::A => Reply::addresses(&["192.0.2.1"]),
            _ => other.clone(),
        });
        let server = probe(&dns, &["--allow-resolve", "*", "--dns-timeout", time]);
        assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    }
}

#[test]
fn an_answer_that_does_not_fit_comes_by_tcp() {
    let dns = Dns::new(|_, family| match family {
        RecordType::A => Reply::truncated(&["192.0.2.1"]),
        _ => Reply::NoData,
    });
    let server = probe(&dns, &["--allow-resolve", "*"]);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    assert!(dns.questions().iter().any(|question| question.tcp));
}

#[test]
fn aliases_are_followed() {
    let address = || vec!["192.0.2.1".parse().expect("an address")];
    // Aliases come in one answer, or each has to be asked for.
    let dns = Dns::new(move |name, _| match name {
        "whole.example." => Reply::Aliases(vec!["b.example.", "c.example."], address()),
        "parts.example." => Reply::Aliases(vec!["d.example."], Vec::new()),
        "d.example." => Reply::Aliases(vec!["e.example."], Vec::new()),
        "e.example." => Reply::addresses(&["192.0.2.1"]),
        "loop.example." => Reply::Aliases(vec!["loop.example."], Vec::new()),
        "ring.example." => Reply::Aliases(vec!["wheel.example."], Vec::new()),
        "wheel.example." => Reply::Aliases(vec!["ring.example."], Vec::new()),
        "many.example." => Reply::Aliases(aliases("many", 16), address()),
        "back.example." => Reply::Backwards(aliases("back", 3), address()),
        "step16.example." => Reply::addresses(&["192.0.2.1"]),
        step if step.starts_with("step") => {
            let number = step
                .trim_start_matches("step")
                .trim_end_matches(".example.");
            let next = number.parse::<usize>().map_or(0, |number| number + 1);
            Reply::Aliases(vec![&*format!("step{next}.example.").leak()], Vec::new())
        }
        _ => Reply::NoName,
    });
    let server = probe(&dns, &["--allow-resolve", "*"]);
    let mut peer = server.connect();
    assert_eq!(peer.ask("resolve whole.example"), "192.0.2.1");
    assert_eq!(peer.ask("resolve parts.example"), "192.0.2.1");
    for name in ["many", "back", "step1", "step0"] {
        assert_eq!(
            peer.ask(&format!("resolve {name}.example")),
            "192.0.2.1",
            "{name}"
        );
    }
    for name in ["loop", "ring", "step17"] {
        let answer = peer.ask(&format!("resolve {name}.example"));
        assert!(answer.starts_with("error: "), "{name}: {answer}");
    }
}

#[test]
fn an_answer_is_kept_for_as_long_as_it_says() {
    let dns = Dns::new(|name, _| match name {
        "short.example." => Reply::addresses_for(&["192.0.2.1"], 1),
        "none.example." => Reply::NoName,
        _ => Reply::addresses(&["192.0.2.2"]),
    });
    let server = probe(&dns, &["--allow-resolve", "*"]);
    let mut peer = server.connect();
    for (name, answer) in [
        ("long.example", "192.0.2.2"),
        ("none.example", "error: name-unresolvable"),
    ] {
        assert_eq!(peer.ask(&format!("resolve {name}")), answer);
        let asked = dns.questions().len();
        for name in [name.to_owned(), name.to_uppercase(), format!("{name}.")] {
            assert_eq!(server.connect().ask(&format!("resolve {name}")), answer);
        }
        assert_eq!(
            dns.questions().len(),
            asked,
            "{name}: another packet was sent"
        );
    }
    assert_eq!(peer.ask("resolve short.example"), "192.0.2.1");
    let asked = dns.questions().len();
    eventually("another question", || {
        assert_eq!(peer.ask("resolve short.example"), "192.0.2.1");
        (dns.questions().len() > asked).then_some(())
    });
}

#[test]
fn a_server_that_does_not_know_edns_is_asked_without() {
    let dns = Dns::new(|_, family| match family {
        RecordType::A => Reply::Plain(Box::new(Reply::addresses(&["192.0.2.1"]))),
        _ => Reply::Plain(Box::new(Reply::NoData)),
    });
    let other = Dns::new(|_, _| Reply::NoName);
    let server = probe_of(&[&dns, &other], &["--allow-resolve", "*"]);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    assert!(dns.questions().iter().any(|question| question.edns));
    assert_eq!(other.questions(), []);
}

#[test]
fn a_name_that_many_wait_for_is_asked_for_once() {
    let dns = Dns::new(|_, _| {
        Reply::addresses(&["192.0.2.1", "2001:db8::1"]).after(Duration::from_millis(500))
    });
    let server = probe(&dns, &["--allow-resolve", "*"]);
    let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for peer in &mut peers {
        peer.say("resolve name.example");
    }
    eventually("a question", || (!dns.questions().is_empty()).then_some(()));
    // A client that leaves takes nothing from the others.
    peers.remove(0).reset();
    for mut peer in peers {
        let answer = peer.line();
        assert_eq!(answer.split(' ').count(), 2, "{answer}");
    }
    // On a slow machine, one that was not answered in time is sent again.
    let questions = dns.questions();
    assert!((2..10).contains(&questions.len()), "{questions:?}");
}

#[test]
fn a_packet_that_is_lost_is_sent_again() {
    let lost = Mutex::new(HashSet::new());
    let dns = Dns::new(
        move |_, family| match lost.lock().expect("the lost ones").insert(family) {
            true => Reply::Silence,
            false => Reply::addresses(&["192.0.2.1"]),
        },
    );
    let server = probe(&dns, &["--allow-resolve", "*"]);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
}

#[test]
fn a_look_up_ends_at_its_time_and_leaves_nothing() {
    let dns = Dns::new(|_, _| Reply::Silence);
    let server = probe(&dns, &["--allow-resolve", "*", "--dns-timeout", "700ms"]);
    let before = server.descriptors_at_rest();
    let begun = Instant::now();
    assert_eq!(
        server.connect().ask("resolve name.example"),
        "error: timeout"
    );
    let elapsed = begun.elapsed();
    assert!(
        (Duration::from_millis(650)..Duration::from_secs(15)).contains(&elapsed),
        "{elapsed:?}"
    );
    server.wait_for_descriptors(before);
}

#[test]
fn look_ups_go_with_the_client_that_asked() {
    let dns = Dns::new(|_, _| Reply::Silence);
    let server = probe(
        &dns,
        &[
            "--allow-resolve",
            "*",
            "--allow-connect",
            "*:80",
            "--dns-timeout",
            "10m",
        ],
    );
    let before = server.descriptors_at_rest();
    for question in ["resolve one.example", "connect two.example:80 hello"] {
        let asked = dns.questions().len();
        let mut peer = server.connect();
        peer.say(question);
        eventually("a question", || {
            (dns.questions().len() > asked).then_some(())
        });
        peer.reset();
        server.wait_for_descriptors(before);
    }
}

#[test]
fn some_names_need_no_server() {
    let dns = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let server = probe(&dns, &["--allow-resolve", "*"]);
    let mut peer = server.connect();
    for name in ["localhost", "LocalHost.", "app.localhost"] {
        let answer = peer.ask(&format!("resolve {name}"));
        let mut addresses: Vec<_> = answer.split(' ').collect();
        addresses.sort_unstable();
        assert_eq!(addresses, ["127.0.0.1", "::1"], "{name}");
    }
    assert_eq!(peer.ask("resolve 192.0.2.7"), "192.0.2.7");
    assert_eq!(peer.ask("resolve 2001:DB8::0"), "2001:db8::");
    for name in [
        "nothing.invalid",
        "127.1",
        "a..example",
        "a_\\.example",
        "[::1]",
    ] {
        assert_eq!(
            peer.ask(&format!("resolve {name}")),
            "error: name-unresolvable",
            "{name}"
        );
    }
    assert_eq!(dns.questions(), []);
}

#[test]
fn a_name_that_is_not_ascii_is_asked_for_in_its_other_form() {
    let dns = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let server = probe(&dns, &["--allow-resolve", "xn--bcher-kva.example"]);
    assert_eq!(
        server.connect().ask("resolve B\u{fc}cher.example"),
        "192.0.2.1"
    );
    assert!(
        dns.asked()
            .iter()
            .all(|(name, _)| name == "xn--bcher-kva.example.")
    );
}

#[test]
fn the_hosts_file_goes_before_every_server() {
    if !in_own_network("dns::the_hosts_file_goes_before_every_server") {
        return;
    }
    let _hosts = SystemFile::over("/etc/hosts", b"192.0.2.7 alias name.example\n");
    let dns = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let server = probe(&dns, &["--allow-resolve", "*"]);
    let answer = server.connect().ask("resolve name.example");
    assert_eq!(answer, "192.0.2.7");
    assert_eq!(dns.questions(), []);
}
