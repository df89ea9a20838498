//! Tests of stream sockets, their options, and names.

use std::io::Read;
use std::net::TcpListener;

use crate::harness::{
    directory, free_port, pattern, refusing, sent_by_sendfile, text, with_ipv6, write,
};

use super::{LISTENS, probe, says};

#[test]
fn a_program_talks_to_itself_over_loopback_without_a_flag_for_connecting() {
    says(
        &LISTENS,
        &[
            ("s = open inet stream", "1000000"),
            ("set s reuse-address 1", "ok"),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "ok"),
            ("get s listens", "1"),
            ("accept-now s", "again"),
            ("c = open inet stream", "1000001"),
            ("connect c $s", "in-progress"),
            ("connected c", "none"),
            ("a = accept s", "1000002 from 127.0.0.1:…"),
            ("receive-now a 10", "again"),
            ("send c hello", "5"),
            ("peek a 3", "\"hel\""),
            ("receive a 100", "\"hello\""),
            ("shutdown c sending", "ok"),
            ("receive a 100", "end"),
            ("send a bye", "3"),
            ("receive c 100", "\"bye\""),
            ("close a", "ok"),
            ("receive c 100", "end"),
            ("close c", "ok"),
            ("close s", "ok"),
            // The lowest number that is free.
            ("u = open inet datagram", "1000000"),
        ],
    );
}

#[test]
fn every_use_of_an_address_needs_its_flag() {
    let denied = says(
        &[],
        &[
            ("s = open inet stream", "1000000"),
            (
                "bind s 127.0.0.1:9991",
                "access (listening on 127.0.0.1:9991 is not allowed; --allow-listen \
                 127.0.0.1:9991 would allow it)",
            ),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "access (…--allow-listen 127.0.0.1:…)"),
            (
                "connect s 127.0.0.1:9991",
                "access (connecting to 127.0.0.1:9991 is not allowed; --allow-connect \
                 127.0.0.1:9991 would allow it)",
            ),
            // Its own socket does not listen.
            ("c = open inet stream", "1000001"),
            ("connect c $s", "access (…--allow-connect…)"),
            (
                "connect c 0.0.0.0:9991",
                "access (…--allow-connect 127.0.0.1:9991…)",
            ),
            ("v = open inet6 stream", "1000002"),
            (
                "connect v [::ffff:127.0.0.1]:9991",
                "access (…--allow-connect 127.0.0.1:9991…)",
            ),
            (
                "connect v [::]:9991",
                "access (…--allow-connect [::1]:9991…)",
            ),
            ("u = open inet datagram", "1000003"),
            (
                "send-to u x 127.0.0.1:9991",
                "access (…--allow-udp 127.0.0.1:9991…)",
            ),
            (
                "connect u 127.0.0.1:9991",
                "access (…--allow-udp 127.0.0.1:9991…)",
            ),
            (
                "send-to u x 255.255.255.255:9991",
                "access (…--allow-udp 255.255.255.255:9991…)",
            ),
            ("l = open unix stream", "1000004"),
            (
                "bind l unix:/run/x",
                "access (…--allow-listen unix:/run/x…)",
            ),
            (
                "connect l unix:/run/x",
                "access (…--allow-connect unix:/run/x…)",
            ),
            (
                "look-up example.org",
                "access (…--allow-resolve example.org…)",
            ),
            ("look-up localhost", "access (…--allow-resolve localhost…)"),
        ],
    );
    for flag in [
        "--allow-listen",
        "--allow-connect",
        "--allow-udp",
        "--allow-resolve",
    ] {
        assert!(
            denied.stderr.contains(flag),
            "the log names {flag}: {denied:#?}"
        );
    }
}

#[test]
fn connecting_ends_as_the_peer_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("its address").to_string();
    let (nowhere, _gone) = refusing();
    says(
        &["--allow-connect", "127.0.0.1:*"],
        &[
            ("c = open inet stream", "1000000"),
            ("peer c", "not-connected"),
            ("send c x", "broken-pipe"),
            (&format!("connect c {there}"), "in-progress"),
            ("connected c", "none"),
            ("peer c", &there),
            // As in Linux, the first call after that says so, and later ones do
            // not.
            (&format!("connect c {there}"), "ok"),
            ("d = open inet stream", "1000001"),
            (&format!("connect d {nowhere}"), "in-progress"),
            ("connected d", "connection-refused"),
            // It can be used again, once it has said that.
            (&format!("connect d {there}"), "connection-aborted"),
            (&format!("connect d {there}"), "in-progress"),
            ("connected d", "none"),
            ("v = open inet6 stream", "1000002"),
            (&format!("connect v {there}"), "invalid"),
        ],
    );
}

#[test]
fn options_are_the_systems() {
    says(
        &[],
        &[
            ("s = open inet stream", "1000000"),
            ("get s no-delay", "0"),
            ("set s no-delay 1", "ok"),
            ("get s no-delay", "1"),
            ("get s reuse-address", "0"),
            ("set s reuse-port 1", "ok"),
            ("get s reuse-port", "1"),
            ("set s keep-alive 1", "ok"),
            ("set s keep-alive-idle 5", "ok"),
            ("get s keep-alive-idle", "5"),
            ("set s keep-alive-interval 6", "ok"),
            ("get s keep-alive-interval", "6"),
            ("set s keep-alive-count 7", "ok"),
            ("get s keep-alive-count", "7"),
            ("set s keep-alive-count 1000", "invalid"),
            ("set s keep-alive-idle -1", "invalid"),
            ("get s linger", "-1"),
            ("set s linger 5", "ok"),
            ("get s linger", "5"),
            ("set s receive-buffer 10000", "ok"),
            ("get s receive-buffer", "20000"),
            ("set s receive-buffer -1", "invalid"),
            ("set s user-timeout 1500", "ok"),
            ("get s user-timeout", "1500"),
            ("set s hop-limit 9", "ok"),
            ("get s hop-limit", "9"),
            ("set s traffic-class 104", "ok"),
            ("get s traffic-class", "104"),
            ("set s listens 1", "no-protocol-option"),
            ("get s only-ipv6", "no-protocol-option"),
            ("v = open inet6 stream", "1000001"),
            ("set v only-ipv6 1", "ok"),
            ("get v only-ipv6", "1"),
            ("u = open inet datagram", "1000002"),
            ("set u broadcast 1", "ok"),
            ("get u broadcast", "1"),
            ("get u no-delay", "no-protocol-option"),
        ],
    );
}

#[test]
fn a_listener_of_ipv6_alone_does_not_open_the_way_to_ipv4() {
    if !with_ipv6("event_loop::streams::a_listener_of_ipv6_alone_does_not_open_the_way_to_ipv4") {
        return;
    }
    let port = free_port();
    let _native = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    says(
        &["--allow-listen", &format!("[::]:{port}")],
        &[
            ("s = open inet6 stream", "1000000"),
            ("set s only-ipv6 1", "ok"),
            (&format!("bind s [::]:{port}"), "ok"),
            ("listen s 5", "ok"),
            ("c = open inet stream", "1000001"),
            (
                &format!("connect c 127.0.0.1:{port}"),
                "access (…--allow-connect…)",
            ),
            ("v = open inet6 stream", "1000002"),
            (
                &format!("connect v [::ffff:127.0.0.1]:{port}"),
                "access (…--allow-connect…)",
            ),
            (&format!("connect v [::1]:{port}"), "in-progress"),
        ],
    );
}

#[test]
fn a_listener_that_was_shut_down_is_nobodys() {
    says(
        &LISTENS,
        &[
            ("s = open inet stream", "1000000"),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "ok"),
            ("shutdown s receiving", "ok"),
            ("c = open inet stream", "1000001"),
            ("connect c $s", "access (…--allow-connect…)"),
            ("t = open inet stream", "1000002"),
            ("set t reuse-port 1", "ok"),
            ("bind t 127.0.0.1:0", "ok"),
            ("listen t 5", "ok"),
            // Others may listen there, too.
            ("connect c $t", "access (…--allow-connect…)"),
        ],
    );
}

#[test]
fn nonsense_is_an_error_and_no_more() {
    let mut steps = vec![
        ("s = open inet stream", "1000000"),
        ("l = watch-list", "1000001"),
    ];
    for number in ["0", "3", "999999", "1000002", "4294967295"] {
        steps.push((
            Box::leak(format!("receive-now {number} 1").into_boxed_str()),
            "bad-descriptor",
        ));
        steps.push((
            Box::leak(format!("close {number}").into_boxed_str()),
            "bad-descriptor",
        ));
    }
    steps.extend([
        ("receive-now l 1", "not-socket"),
        ("wait s 1 0", "bad-descriptor"),
        ("watch l 5 1", "bad-descriptor"),
        ("found-now s", "bad-descriptor"),
        ("take-signal s", "bad-descriptor"),
        ("duplicate l", "not-socket"),
        ("receive-now s 4294967295", "not-connected"),
        ("accept-now s", "invalid"),
        ("bind s [::1]:0", "…"),
        ("bind s unix:", "invalid"),
        ("bind s unix:/nowhere", "access…"),
        ("shutdown s both", "not-connected"),
        (
            "send-file s /nowhere 0 10",
            "no-entry (no --dir has /nowhere)",
        ),
        ("wait l 4294967295 0", "nothing"),
        ("wait l 0 0", "nothing"),
    ]);
    says(&[], &steps);
}

#[test]
fn numbers_are_bounded_and_so_are_connections() {
    says(
        &["--max-handles", "20", "--max-connections", "10"],
        &[(
            "open-until-full",
            "30, then too-many-files (--max-handles is reached)",
        )],
    );
    let few = probe(&["open-until-full"]).ulimit("-n 64").output();
    let told = "28, then too-many-files (the limit of open files (ulimit -n) is reached)";
    assert!(few.stdout.contains(told), "{few:#?}");
    says(
        &["--max-outgoing", "1", "--allow-listen", "127.0.0.1:0"],
        &[
            ("s = open inet stream", "1000000"),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "ok"),
            ("c = open inet stream", "1000001"),
            ("connect c $s", "in-progress"),
            ("d = open inet stream", "1000002"),
            ("connect d $s", "too-many-files (--max-outgoing is reached)"),
            ("close c", "ok"),
            ("connect d $s", "in-progress"),
        ],
    );
    says(
        &["--max-connections", "1", "--allow-listen", "127.0.0.1:0"],
        &[
            ("s = open inet stream", "1000000"),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "ok"),
            ("c = open inet stream", "1000001"),
            ("connect c $s", "in-progress"),
            ("d = open inet stream", "1000002"),
            ("connect d $s", "in-progress"),
            ("a = accept s", "1000003 from…"),
            ("accept s", "too-many-files (--max-connections is reached)"),
            ("close a", "ok"),
            ("b = accept s", "1000003 from…"),
            ("accept-now s", "again"),
        ],
    );
}

#[test]
fn a_file_is_sent_by_sendfile_and_never_from_outside_its_directory() {
    let scratch = directory();
    let size = 3 << 20;
    let inside = scratch.path().join("inside");
    std::fs::create_dir(&inside).expect("a directory");
    write(&inside, "page", pattern(size));
    write(scratch.path(), "secret", "outside");
    std::os::unix::fs::symlink("../secret", inside.join("link")).expect("a link");
    let flags = ["--dir", &format!("{}::/data", text(&inside))];
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    let receiving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("all of it");
        all
    });
    let steps = [
        "c = open inet stream",
        &format!("connect c {at}"),
        "connected c",
        "send-file c /data/../secret 0 10",
        "send-file c /data/link 0 10",
        "send-file c /data 0 10",
        "send-file c /secret 0 10",
        "send-file c /data/page 99999999 10",
        "send-file c /data/page 0 0",
        "send-whole-file c /data/page",
        "u = open inet datagram",
        "send-file u /data/page 0 10",
    ];
    let run = probe(&steps)
        .args(flags)
        .args(["--allow-connect", "127.0.0.1:*"]);
    let trace = scratch.path().join("trace");
    let Some(run) = run.traced(&["-e", "trace=sendfile", "-o", text(&trace)]) else {
        return;
    };
    let finished = run.output();
    for line in [
        "send-file c /data/../secret 0 10: no-entry",
        "send-file c /data/link 0 10: no-entry",
        "send-file c /data 0 10: no-entry",
        "send-file c /secret 0 10: no-entry (no --dir has /secret)",
        "send-file c /data/page 99999999 10: 0",
        "send-file c /data/page 0 0: 0",
        &format!("send-whole-file c /data/page: {size} bytes"),
        "send-file u /data/page 0 10: not-supported",
    ] {
        assert!(finished.stdout.contains(line), "{line}: {finished:#?}");
    }
    let received = receiving.join().expect("no panic");
    assert!(received == pattern(size), "{} bytes", received.len());
    let calls = std::fs::read_to_string(&trace).expect("a trace");
    let calls: Vec<_> = calls.lines().map(str::to_owned).collect();
    assert_eq!(sent_by_sendfile(&calls), size);
}

#[test]
fn a_file_that_is_replaced_is_sent_to_its_end() {
    let scratch = directory();
    // More than the sockets of both ends hold.
    let size = 32 << 20;
    let page = write(scratch.path(), "page", vec![b'o'; size]);
    let other = write(scratch.path(), "other", vec![b'n'; size]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    let receiving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut first = [0];
        stream.read_exact(&mut first).expect("a byte");
        std::fs::rename(other, page).expect("it takes the name");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("all of it");
        rest
    });
    let connect = format!("connect c {at}");
    let steps = [
        "c = open inet stream",
        &connect,
        "connected c",
        "send-whole-file c /page",
    ];
    let directory = format!("{}::/", text(scratch.path()));
    let finished = probe(&steps)
        .args(["--dir", &directory, "--allow-connect", "127.0.0.1:*"])
        .output();
    let line = format!("send-whole-file c /page: {size} bytes");
    assert!(finished.stdout.contains(&line), "{finished:#?}");
    let rest = receiving.join().expect("no panic");
    assert_eq!(rest.len(), size - 1);
    assert!(
        rest.iter().all(|&byte| byte == b'o'),
        "another file's bytes"
    );
}

#[test]
fn a_name_is_looked_up_beside_other_work() {
    says(
        &["--allow-resolve", "*"],
        &[
            ("l = look-up localhost", "1000000"),
            ("found l", "…127.0.0.1"),
            ("n = look-up no-such.invalid", "1000001"),
            ("found n", "no-name…"),
            ("a = look-up 192.0.2.7", "1000002"),
            ("found a", "192.0.2.7"),
            ("look-up ", "no-name"),
            ("receive-now l 1", "not-socket"),
            ("close l", "ok"),
            ("found-now l", "bad-descriptor"),
        ],
    );
}

#[test]
fn who_may_listen_on_loopback_knows_its_name() {
    says(
        &["--allow-listen", "localhost:*"],
        &[
            ("l = look-up localhost", "1000000"),
            ("found l", "…127.0.0.1"),
            ("s = open inet stream", "1000001"),
            ("bind s 127.0.0.1:0", "ok"),
            ("listen s 5", "ok"),
        ],
    );
}
