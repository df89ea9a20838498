//! Several servers, and which of them decides.

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::probe_of;
use crate::harness::{Dns, DnsReply as Reply, Run};

#[test]
fn servers_that_are_of_no_help_leave_it_to_the_next() {
    let next = Dns::new(|_, _| Reply::addresses(&["192.0.2.1", "2001:db8::1"]));
    for reply in [
        Reply::Fails(ResponseCode::ServFail),
        Reply::Fails(ResponseCode::Refused),
        Reply::Fails(ResponseCode::NotImp),
        Reply::Fails(ResponseCode::FormErr),
        Reply::Bare(ResponseCode::ServFail),
        Reply::Bare(ResponseCode::FormErr),
        Reply::Silence,
    ] {
        let first = Dns::new({
            let reply = reply.clone();
            move |_, _| reply.clone()
        });
        let server = probe_of(&[&first, &next], &["--allow-resolve", "*"]);
        let begun = Instant::now();
        let answer = server.connect().ask("resolve name.example");
        assert_eq!(answer.split(' ').count(), 2, "{reply:?}: {answer}");
        assert!(
            begun.elapsed() < Duration::from_secs(4),
            "{reply:?}: {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn nobody_at_the_first_servers_address_is_noticed_at_once() {
    // The socket is connected elsewhere, so the kernel refuses the questions.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    taken.connect("127.0.0.1:9").expect("another peer");
    let next = Dns::new(|_, _| Reply::addresses(&["192.0.2.1"]));
    let address = taken.local_addr().expect("its address").to_string();
    let server = Run::guest("probe")
        .tcp()
        .args(["--workers", "1", "--allow-resolve", "*"])
        .args(["--dns-timeout", "10m", "--dns-server", &address])
        .args(["--dns-server", &next.address.to_string()])
        .start();
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
}

#[test]
fn the_first_server_that_knows_decides() {
    let wrong = Dns::new(|_, _| Reply::addresses(&["192.0.2.66"]));
    let slow = Duration::from_millis(200);
    for (reply, answer) in [
        (Reply::addresses(&["192.0.2.1"]), "192.0.2.1"),
        (Reply::NoName, "error: name-unresolvable"),
        (Reply::NoData, "error: no-address"),
    ] {
        let first = Dns::new(move |_, _| reply.clone().after(slow));
        let server = probe_of(&[&first, &wrong], &["--allow-resolve", "*"]);
        assert_eq!(server.connect().ask("resolve name.example"), answer);
        assert_eq!(wrong.questions(), [], "{answer}");
    }
}

#[test]
fn who_decides_one_family_decides_the_other() {
    let wrong = Dns::new(|_, _| Reply::addresses(&["192.0.2.66", "2001:db8::66"]));
    for other in [Reply::Fails(ResponseCode::ServFail), Reply::Silence] {
        let first = Dns::new(move |_, family| match family {
            RecordType::A => Reply::addresses(&["192.0.2.1"]).after(Duration::from_millis(100)),
            _ => other.clone(),
        });
        let args = ["--allow-resolve", "*", "--dns-timeout", "2s"];
        let server = probe_of(&[&first, &wrong], &args);
        assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
        assert_eq!(wrong.questions(), []);
    }
}

#[test]
fn an_answer_that_comes_late_still_counts() {
    let slow = Dns::new(|_, family| match family {
        RecordType::A => Reply::addresses(&["192.0.2.1"]).after(Duration::from_millis(2500)),
        _ => Reply::NoData.after(Duration::from_millis(2500)),
    });
    let silent = Dns::new(|_, _| Reply::Silence);
    let server = probe_of(&[&slow, &silent], &["--allow-resolve", "*"]);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    assert_ne!(silent.questions(), [], "the next was not asked");
}

#[test]
fn a_server_that_decides_late_is_waited_for_beside_the_next() {
    let after = |reply: Reply, milliseconds| reply.after(Duration::from_millis(milliseconds));
    let slow = Dns::new(move |_, family| match family {
        RecordType::A => after(Reply::addresses(&["192.0.2.1"]), 3500),
        _ => after(Reply::NoData, 2500),
    });
    // The next is asked after 2 s, a quarter of the time-out, and answers after
    // 3 s, between the other's two answers.
    let next = Dns::new(move |_, _| after(Reply::addresses(&["192.0.2.66"]), 1000));
    let args = ["--allow-resolve", "*", "--dns-timeout", "8s"];
    let server = probe_of(&[&slow, &next], &args);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    assert_ne!(next.questions(), [], "the next was not asked");
}
