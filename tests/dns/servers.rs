//! Several servers, and which of them decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::probe_of;
use crate::harness::{Dns, DnsReply as Reply, Run, eventually};

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
        // The next is asked after a quarter of this, or at once.
        let timeout = if matches!(reply, Reply::Silence) {
            "6s"
        } else {
            "10m"
        };
        let args = ["--allow-resolve", "*", "--dns-timeout", timeout];
        let server = probe_of(&[&first, &next], &args);
        let answer = server.connect().ask("resolve name.example");
        assert_eq!(answer.split(' ').count(), 2, "{reply:?}: {answer}");
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
        let args = ["--allow-resolve", "*", "--dns-timeout", "6s"];
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
    /// Waits until an answer is due, and so long that the one before it is there.
    fn wait(due: &AtomicBool) {
        eventually("its turn", || due.load(Ordering::Relaxed).then_some(()));
        thread::sleep(Duration::from_millis(500));
    }
    // The next is asked after 2 s, a quarter of the time-out, and answers between
    // the other's two answers.
    let [asked, second, third] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let slow = Dns::new({
        let (asked, second, third) = (Arc::clone(&asked), Arc::clone(&second), Arc::clone(&third));
        move |_, family| {
            if family == RecordType::A {
                wait(&third);
                return Reply::addresses(&["192.0.2.1"]);
            }
            wait(&asked);
            second.store(true, Ordering::Relaxed);
            Reply::NoData
        }
    });
    let next = Dns::new(move |_, _| {
        asked.store(true, Ordering::Relaxed);
        wait(&second);
        third.store(true, Ordering::Relaxed);
        Reply::addresses(&["192.0.2.66"])
    });
    let args = ["--allow-resolve", "*", "--dns-timeout", "8s"];
    let server = probe_of(&[&slow, &next], &args);
    assert_eq!(server.connect().ask("resolve name.example"), "192.0.2.1");
    assert_ne!(next.questions(), [], "the next was not asked");
}
