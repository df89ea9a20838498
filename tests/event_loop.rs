//! Tests of `netwasm:net/sockets`: a program that brings its own event loop, on
//! sockets as POSIX has them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEADLINE, Finished, Peer, Run, START, directory, eventually, pattern, sent_by_sendfile, text,
    unix_address, write,
};

fn probe(steps: &[&str]) -> Run {
    Run::guest("sockets-probe").guest_args(steps)
}

/// Runs the steps, with these flags of the host, and checks what each says. `…`
/// stands for any text.
#[track_caller]
fn says(flags: &[&str], steps: &[(&str, &str)]) -> Finished {
    let words: Vec<_> = steps.iter().map(|(step, _)| *step).collect();
    let finished = probe(&words).args(flags).output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    for (line, (step, expected)) in lines.iter().zip(steps) {
        let said = line.strip_prefix(step).and_then(|it| it.strip_prefix(": "));
        let said = said.unwrap_or_else(|| panic!("{line:?} is not of {step:?}: {finished:#?}"));
        let fits = fits(said, expected);
        assert!(fits, "{step}: {said:?}, not {expected:?}\n{finished:#?}");
    }
    assert_eq!(lines.len(), steps.len(), "{finished:#?}");
    finished
}

/// True if a text is as expected, where `…` stands for any text.
fn fits(said: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| said.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let found = match parts.peek() {
            Some(_) => rest.find(part),
            None => rest
                .len()
                .checked_sub(part.len())
                .filter(|_| rest.ends_with(part)),
        };
        match found {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.is_empty()
}

/// Flags that let a program listen on loopback.
const LISTENS: [&str; 2] = ["--allow-listen", "127.0.0.1:0"];

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
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nowhere = gone.local_addr().expect("its address").to_string();
    drop(gone);
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
            ("receive-now l 1", "bad-descriptor"),
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

#[test]
fn datagrams_go_both_ways_and_those_of_strangers_are_dropped() {
    let known = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    known.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let at = known.local_addr().expect("its address").to_string();
    let command = probe(&[
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "say-listener u",
        &format!("send-to u hello {at}"),
        "receive-from u 100",
        "receive-from u 3",
        "local u",
    ])
    .args(["--allow-udp", &at])
    .start_command();
    let mut buffer = [0; 16];
    let (count, program) = known.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(buffer.get(..count), Some(&b"hello"[..]));
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger.send_to(b"stranger", program).expect("a datagram");
    known.send_to(b"", program).expect("an empty datagram");
    known.send_to(b"friend", program).expect("a datagram");
    command
        .stdout
        .wait_for(&[&format!("receive-from u 100: \"\" from {at}")]);
    command
        .stdout
        .wait_for(&[&format!("receive-from u 3: \"fri\" from {at} truncated")]);
}

#[test]
fn a_socket_that_listens_answers_whom_it_hears_and_no_other_socket_does() {
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    stranger
        .set_read_timeout(Some(DEADLINE))
        .expect("a time-out");
    let at = stranger.local_addr().expect("its address").to_string();
    let command = probe(&[
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "say-listener u",
        "receive-from u 100",
        &format!("send-to u answer {at}"),
        "other = open inet datagram",
        &format!("send-to other x {at}"),
    ])
    .args(LISTENS)
    .start_command();
    let program = command.own_listener();
    stranger.send_to(b"hello", program).expect("a datagram");
    let mut buffer = [0; 16];
    let (count, from) = stranger.recv_from(&mut buffer).expect("an answer");
    assert_eq!((buffer.get(..count), from), (Some(&b"answer"[..]), program));
    command
        .stdout
        .wait_for(&[&format!("send-to other x {at}: access")]);
    command
        .log
        .wait_for(&["the guest listens on udp://127.0.0.1:"]);
}

#[test]
fn a_program_sends_datagrams_to_itself() {
    says(
        &LISTENS,
        &[
            ("s = open inet datagram", "1000000"),
            ("bind s 127.0.0.1:0", "ok"),
            ("c = open inet datagram", "1000001"),
            ("connect c $s", "ok"),
            ("send c hello", "5"),
            ("receive-from s 100", "\"hello\" from 127.0.0.1:…"),
            ("send-to s answer $c", "6"),
            ("receive c 100", "\"answer\""),
            ("receive-now c 100", "again"),
        ],
    );
}

#[test]
fn a_datagram_that_reaches_nobody_is_told() {
    let gone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let nowhere = gone.local_addr().expect("its address").to_string();
    drop(gone);
    says(
        &["--allow-udp", "localhost:*"],
        &[
            ("u = open inet datagram", "1000000"),
            (&format!("connect u {nowhere}"), "ok"),
            ("send u x", "1"),
            ("receive u 10", "connection-refused"),
        ],
    );
}

#[test]
fn unix_sockets_need_the_flag_with_their_path() {
    let scratch = directory();
    let (own, other) = (scratch.path().join("own"), scratch.path().join("other"));
    let (own_at, other_at) = (unix_address(&own), unix_address(&other));
    // One that a server left behind.
    drop(UnixListener::bind(&own).expect("a socket"));
    let listener = UnixListener::bind(&other).expect("a socket");
    let accepting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"hello").expect("sent");
    });
    says(
        &["--allow-listen", &own_at, "--allow-connect", &other_at],
        &[
            ("s = open unix stream", "1000000"),
            ("listen s 5", "invalid"),
            (&format!("bind s {own_at}"), "ok"),
            ("listen s 5", "ok"),
            ("local s", &own_at),
            ("c = open unix stream", "1000001"),
            // Its own needs no flag.
            ("connect c $s", "ok"),
            ("a = accept s", "1000002 from unix"),
            ("send c hello", "5"),
            ("receive a 10", "\"hello\""),
            ("d = open unix stream", "1000003"),
            (&format!("connect d {other_at}"), "ok"),
            ("receive d 10", "\"hello\""),
            ("open unix datagram", "not-supported"),
            ("get c no-delay", "not-supported"),
        ],
    );
    accepting.join().expect("no panic");
    assert!(!own.exists(), "the file goes with the program");
    assert!(other.exists());
}

#[test]
fn a_listener_of_ipv6_alone_does_not_open_the_way_to_ipv4() {
    let native = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = native.local_addr().expect("its address").port();
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
fn a_server_whose_backlog_is_full_does_not_keep_who_binds_to_its_path() {
    let scratch = directory();
    let path = scratch.path().join("busy");
    let listener = UnixListener::bind(&path).expect("a socket");
    rustix::net::listen(&listener, 0).expect("a short backlog");
    let mut waiting = Vec::new();
    loop {
        let socket = socket2::Socket::new(
            socket2::Domain::UNIX,
            socket2::Type::STREAM.nonblocking(),
            None,
        );
        let socket = socket.expect("a socket");
        let address = socket2::SockAddr::unix(&path).expect("an address");
        let connected = socket.connect(&address);
        waiting.push(socket);
        if connected.is_err() {
            break;
        }
    }
    let at = unix_address(&path);
    says(
        &["--allow-listen", &at],
        &[
            ("s = open unix stream", "1000000"),
            (&format!("bind s {at}"), "addr-in-use"),
        ],
    );
    assert!(path.exists());
}

#[test]
fn another_socket_at_the_path_of_its_own_is_not_its_own() {
    let scratch = directory();
    let (own, native) = (scratch.path().join("own"), scratch.path().join("native"));
    let _listener = UnixListener::bind(&native).expect("a socket");
    let at = unix_address(&own);
    let command = probe(&[
        "s = open unix stream",
        &format!("bind s {at}"),
        "listen s 5",
        "u = open inet datagram",
        "bind u 127.0.0.1:0",
        "say-listener u",
        "receive-from u 10",
        "c = open unix stream",
        &format!("connect c {at}"),
    ])
    .args(["--allow-listen", &at])
    .args(LISTENS)
    .start_command();
    let program = command.own_listener();
    std::fs::rename(&native, &own).expect("another file");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.send_to(b"go", program).expect("a datagram");
    command
        .stdout
        .wait_for(&[&format!("connect c {at}: no-entry")]);
}

#[test]
fn an_echo_of_a_program_serves_unix_clients_until_its_end() {
    let scratch = directory();
    let path = scratch.path().join("echo");
    let mut command = probe(&[
        "s = open unix stream",
        &format!("bind s {}", unix_address(&path)),
        "listen s 5",
        "echo s",
    ])
    .args(["--allow-listen", &unix_address(&path)])
    .start_command();
    let listens = "the guest listens on unix:";
    command.log.wait(START, listens, |lines| {
        let mut lines = lines.iter();
        lines.any(|line| line.contains(listens)).then_some(())
    });
    let mut peer = UnixStream::connect(&path).expect("a connection");
    peer.write_all(b"hello").expect("sent");
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"hello");
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(0));
    command.stdout.wait_for(&["echo s: signal 15 after 1"]);
    assert!(!path.exists());
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
            ("set s listens 1", "not-supported"),
            ("get s only-ipv6", "not-supported"),
            ("v = open inet6 stream", "1000001"),
            ("set v only-ipv6 1", "ok"),
            ("get v only-ipv6", "1"),
            ("u = open inet datagram", "1000002"),
            ("set u broadcast 1", "ok"),
            ("get u broadcast", "1"),
            ("get u no-delay", "not-supported"),
        ],
    );
}

#[test]
fn a_watch_list_tells_what_is_ready_until_it_is_used() {
    says(
        &[],
        &[
            ("l = watch-list", "1000000"),
            ("a b = pair", "1000001 1000002"),
            ("watch l a 1", "ok"),
            ("wait l 10 0", "nothing"),
            ("wait l 10 20", "nothing"),
            ("send b x", "1"),
            ("wait l 10 -", "a 1"),
            ("wait l 10 -", "a 1"),
            ("receive-now a 10", "\"x\""),
            ("wait l 10 0", "nothing"),
            ("watch l a 5", "ok"),
            ("wait l 10 -", "a 4"),
            // Once only.
            ("watch l a 1073741828", "ok"),
            ("wait l 10 -", "a 4"),
            ("wait l 10 0", "nothing"),
            ("watch l a 8193", "ok"),
            ("shutdown b sending", "ok"),
            ("wait l 10 -", "a 8193"),
            ("close b", "ok"),
            ("wait l 10 -", "a 8209"),
            ("forget l a", "ok"),
            ("forget l a", "no-entry"),
            ("wait l 10 0", "nothing"),
            // A watch list in another.
            ("m = watch-list", "1000002"),
            ("watch m l 1", "ok"),
            ("watch l a 4", "ok"),
            ("wait m 10 -", "l 1"),
            ("watch l m 1", "invalid"),
            ("watch l l 1", "invalid"),
            ("watch l a 268435457", "invalid"),
        ],
    );
}

#[test]
fn what_is_closed_is_not_watched_any_more() {
    says(
        &[],
        &[
            ("l = watch-list", "1000000"),
            ("a b = pair", "1000001 1000002"),
            ("d = duplicate a", "1000003"),
            ("watch l a 4", "ok"),
            ("watch l d 4", "ok"),
            ("wait l 10 -", "a 4, d 4"),
            // Its duplicate keeps the socket open.
            ("close a", "ok"),
            ("wait l 10 -", "d 4"),
            ("send d x", "1"),
            ("receive b 10", "\"x\""),
            ("close d", "ok"),
            ("wait l 10 0", "nothing"),
            ("receive b 10", "end"),
            // The number is another socket's now.
            ("n = open inet stream", "1000001"),
            ("wait l 10 0", "nothing"),
            ("close l", "ok"),
            ("wait l 10 0", "bad-descriptor"),
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
        ("receive-now l 1", "bad-descriptor"),
        ("wait s 1 0", "bad-descriptor"),
        ("watch l 5 1", "bad-descriptor"),
        ("found-now s", "bad-descriptor"),
        ("take-signal s", "bad-descriptor"),
        ("duplicate l", "bad-descriptor"),
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
fn signals_are_the_programs_to_act_on() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2)] {
        let mut command = probe(&[
            "s = signals",
            "take-signal s",
            "p = open inet datagram",
            "bind p 127.0.0.1:0",
            "say-listener p",
            "await-signal s",
        ])
        .start_command();
        command.own_listener();
        command.signal(signal);
        assert_eq!(command.wait().code(), Some(0));
        command.stdout.wait_for(&["take-signal s: again"]);
        command
            .stdout
            .wait_for(&[&format!("await-signal s: {number}")]);
    }
}

#[test]
fn a_program_that_ignores_its_signals_is_ended_in_time() {
    let mut command = probe(&[
        "s = signals",
        "p = open inet datagram",
        "bind p 127.0.0.1:0",
        "say-listener p",
        "l = watch-list",
        "wait l 1 -",
    ])
    .args(["--shutdown-timeout", "300ms"])
    .start_command();
    command.own_listener();
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(1));
    command.log.wait_for(&["--shutdown-timeout"]);
}

#[test]
fn a_turn_costs_what_is_ready_and_not_what_is_watched() {
    let cost = |watched: u32| {
        let finished = probe(&[&format!("turns {watched} 3000")])
            .args(["--max-handles", "10000"])
            .output();
        let (_, said) = finished.stdout.trim().rsplit_once(": ").expect("a line");
        let nanoseconds = said.strip_suffix(" ns").map(str::parse::<u64>);
        nanoseconds
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("{finished:#?}"))
    };
    let (few, many) = (cost(1), cost(400));
    // A scan of 400 sockets takes some 100 µs.
    assert!(many < few * 2 + 20_000, "{few} ns and {many} ns");
}

#[test]
fn a_loop_that_never_waits_does_not_keep_the_worker() {
    let mut command = probe(&[
        "p = open inet datagram",
        "bind p 127.0.0.1:0",
        "say-listener p",
        "spin 4294967295",
    ])
    .args(["--shutdown-timeout", "100ms"])
    .start_command();
    command.own_listener();
    command.signal(Signal::TERM);
    // The worker sees the end.
    assert_eq!(command.wait().code(), Some(1));
}

#[test]
fn many_clients_are_served_by_one_loop_and_a_signal_ends_it() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 500",
        "say-listener s",
        "echo s",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    command
        .log
        .wait_for(&[&format!("the guest listens on tcp://{address}")]);
    let mut peers: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(address).expect("a connection"))
        .collect();
    for round in 0..3 {
        for (number, peer) in peers.iter_mut().enumerate() {
            let message = format!("{round} {number}");
            peer.write_all(message.as_bytes()).expect("sent");
            let mut answer = vec![0; message.len()];
            peer.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, message.as_bytes());
        }
    }
    let open = command.descriptors();
    drop(peers);
    eventually("closed connections", || {
        (command.descriptors() + 100 <= open).then_some(())
    });
    command.signal(Signal::INT);
    assert_eq!(command.wait().code(), Some(0));
    command.stdout.wait_for(&["echo s: signal 2 after 100"]);
}

#[test]
fn a_bulk_echo_loses_nothing() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 5",
        "say-listener s",
        "a = accept s",
        "receive-all a",
        "flood a 1000000 1",
        "close a",
        "b = accept s",
        "flood b 100000 1048576",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    let mut peer = TcpStream::connect(address).expect("a connection");
    peer.write_all(&pattern(5 << 20)).expect("sent");
    peer.shutdown(std::net::Shutdown::Write).expect("an end");
    command
        .stdout
        .wait_for(&[&format!("receive-all a: {} bytes", 5 << 20)]);
    let mut received = Vec::new();
    peer.read_to_end(&mut received).expect("an end");
    let line = command.stdout.wait_for(&["flood a 1000000 1: "]);
    assert!(
        line.contains(&format!("{} bytes", received.len())),
        "{line}"
    );
    let reader = TcpStream::connect(address).expect("a connection");
    // It does not read: there is no room at some time.
    let line = command.stdout.wait_for(&["flood b"]);
    assert!(line.ends_with("then again"), "{line}");
    drop(reader);
    assert_eq!(command.wait().code(), Some(0));
}

#[test]
fn connections_of_a_program_that_traps_are_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("its address").to_string();
    let accepting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time-out");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map_err(|error| error.kind())
    });
    let finished = probe(&[
        "c = open inet stream",
        &format!("connect c {at}"),
        "connected c",
        "send c some",
        "panic",
    ])
    .args(["--allow-connect", &at])
    .output();
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let read = accepting.join().expect("no panic");
    assert_eq!(read, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn another_limit_of_memory_does_not_compile_a_program_anew() {
    let scratch = directory();
    let cached = |limit: &str| {
        let finished = probe(&["open inet stream"])
            .env("XDG_CACHE_HOME", text(scratch.path()))
            .args(["--max-memory", limit])
            .output();
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        let code = scratch.path().join("netwasm/code");
        std::fs::read_dir(code).expect("the cache").count()
    };
    assert_eq!([cached("64MiB"), cached("2GiB"), cached("4MiB")], [1, 1, 1]);
}

#[test]
fn peers_that_only_connect_do_no_harm() {
    let mut command = probe(&[
        "s = open inet stream",
        "bind s 127.0.0.1:0",
        "listen s 5",
        "say-listener s",
        "echo s",
    ])
    .args(LISTENS)
    .start_command();
    let address = command.own_listener();
    for _ in 0..20 {
        let mut peer = Peer::connect(address);
        peer.send(b"x");
        peer.reset();
    }
    let mut peer = Peer::connect(address);
    peer.send(b"still there?");
    assert_eq!(peer.take(12), b"still there?");
    command.signal(Signal::TERM);
    assert_eq!(command.wait().code(), Some(0));
}
