//! Tests of sockets at paths.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::process::Signal;

use crate::harness::{START, directory, unix_address};

use super::{LISTENS, probe, says};

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
            ("get c no-delay", "no-protocol-option"),
        ],
    );
    accepting.join().expect("no panic");
    assert!(!own.exists(), "the file goes with the program");
    assert!(other.exists());
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
