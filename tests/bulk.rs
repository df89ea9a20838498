//! Bulk data through every path of async guests, and connections that end at
//! any point of it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread;

use crate::harness::{
    Client, Peer, Run, Server, TcpPeer, directory, echoes, pattern, same, text, unix_address, write,
};

const MIB: usize = 1 << 20;

/// Size in bytes that fills every buffer on the way many times.
const MUCH: usize = 100 * MIB;

/// Like [`echoes`], over a Unix socket.
fn echoes_unix(stream: UnixStream, bytes: &[u8]) {
    let mut sender = stream.try_clone().expect("a second handle");
    let mut receiver = stream;
    let received = thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(bytes).expect("it takes what is sent");
            sender.shutdown(Shutdown::Write).expect("a half-close");
        });
        let mut received = Vec::with_capacity(bytes.len());
        receiver.read_to_end(&mut received).expect("an orderly end");
        received
    });
    same(&received, bytes);
}

#[test]
fn much_comes_back_over_tcp() {
    let bytes = pattern(MUCH);
    for guest in ["stream-echo", "stream-relay"] {
        let server = Run::guest(guest).tcp().start();
        echoes(server.connect(), &bytes);
        server.stop();
    }
    let (_command, address) = Run::socket_echo();
    echoes(Peer::connect(address), &bytes);
}

#[test]
fn much_comes_back_over_unix_sockets() {
    let bytes = pattern(MUCH);
    for guest in ["stream-echo", "stream-relay"] {
        let scratch = directory();
        let path = scratch.path().join("bulk.sock");
        let server = Run::guest(guest)
            .listen("--tcp", &unix_address(&path))
            .start();
        echoes_unix(Peer::connect_unix(&path).into_inner(), &bytes);
        server.stop();
    }
}

#[test]
fn much_comes_back_inside_tls() {
    let bytes = pattern(MUCH);
    for guest in ["stream-echo", "stream-relay"] {
        let server = Run::guest(guest).tls().start();
        let mut peer = Client::of("localhost").connect(server.address("tls"));
        peer.echoes_by(256 << 10, &bytes);
        peer.finish();
        assert_eq!(peer.rest(), b"");
        server.stop();
    }
}

#[test]
fn a_long_file_goes_to_a_socket_of_either_kind() {
    let scratch = directory();
    let bytes = pattern(MUCH);
    write(scratch.path(), "content", &bytes);
    let dir = format!("{}::/", text(scratch.path()));

    let server = Run::guest("stream-probe")
        .tcp()
        .args(["--dir", &dir])
        .start();
    let mut peer = server.connect();
    peer.say("file content");
    same(&peer.rest(), &bytes);
    server.stop();

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let command = Run::guest("socket-probe")
        .args(["--dir", &dir, "--allow-connect", &address])
        .guest_args(&["send-file", "content", &address])
        .start_command();
    let (stream, _) = listener.accept().expect("a connection");
    same(&TcpPeer::accepted(stream).rest(), &bytes);
    command.stdout.wait_for(&["read Ok(()), sent Ok(())"]);
}

/// Deterministic pseudo-random numbers.
struct Random(u64);

impl Random {
    /// Returns a number below a bound.
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below the bound")
    }
}

/// Sends some bytes, receives some of them, and ends in one of several ways.
fn comes_and_goes(address: SocketAddr, random: &mut Random, bytes: &[u8]) {
    let mut peer = Peer::connect(address);
    let sent = random.below(bytes.len());
    let sent = bytes.get(..sent).unwrap_or_default();
    let received = random.below(sent.len() + 1);
    let mut sender = peer.get().try_clone().expect("a second handle");
    thread::scope(|scope| {
        // The connection may be reset before everything is sent.
        scope.spawn(move || sender.write_all(sent));
        same(
            &peer.take(received),
            sent.get(..received).unwrap_or_default(),
        );
        match random.below(4) {
            0 | 1 => {
                let stream = peer.get();
                let socket = socket2::SockRef::from(&*stream);
                let reset = socket.set_linger(Some(std::time::Duration::ZERO));
                reset.expect("SO_LINGER");
                // This also ends the other handle's side, whose send then
                // fails.
                let _ = stream.shutdown(Shutdown::Both);
            }
            2 => {
                let _ = peer.get().shutdown(Shutdown::Both);
            }
            _ => {}
        }
    });
    if random.below(2) == 0 {
        peer.reset();
    }
}

/// Opens many connections that end at arbitrary points, and checks that nothing
/// is left of them.
fn survives(server: &Server, address: SocketAddr, seed: u64) {
    /// Number of descriptors of the pipes that are kept for later relays.
    const KEPT: usize = 16;
    let bytes = pattern(MIB);
    echoes(Peer::connect(address), &bytes);
    let before = server.descriptors_at_rest();
    thread::scope(|scope| {
        for client in 1..=4 {
            let bytes = &bytes;
            scope.spawn(move || {
                let mut random = Random(seed * client);
                for _ in 0..50 {
                    comes_and_goes(address, &mut random, bytes);
                }
            });
        }
    });
    server.wait_for_descriptors(before + KEPT);
    echoes(Peer::connect(address), &bytes);
}

#[test]
fn connections_that_end_anywhere_leave_nothing() {
    for guest in ["stream-echo", "stream-relay"] {
        for isolation in ["connection", "worker"] {
            let server = Run::guest(guest)
                .tcp()
                .args(["--workers", "2", "--isolation", isolation])
                .start();
            survives(&server, server.address("tcp"), 0x5eed);
            assert_eq!(server.log.count("trapped"), 0);
            server.stop();
        }
    }
    let (command, address) = Run::socket_echo();
    survives(&command, address, 0x5eed);
    assert_eq!(command.log.count("trapped"), 0);
}
