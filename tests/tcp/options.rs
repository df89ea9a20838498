//! Options of TCP sockets.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::Socket;

use crate::harness::{Run, Server, TcpPeer, directory, guest, reload, text, write};

/// Returns the options of a socket of TCP: keep-alive, user timeout, and the
/// sizes of its buffers, which the kernel doubles.
fn options(socket: &Socket) -> (Option<Duration>, Option<Duration>, usize, usize) {
    let probes = socket.keepalive().expect("an option");
    let silence = socket.tcp_keepalive_time().expect("an option");
    (
        probes.then_some(silence),
        socket.tcp_user_timeout().expect("an option"),
        socket.recv_buffer_size().expect("an option") / 2,
        socket.send_buffer_size().expect("an option") / 2,
    )
}

/// Returns the options of the server's connection with a peer.
fn options_with(
    server: &Server,
    peer: SocketAddr,
) -> Option<(Option<Duration>, Option<Duration>, usize, usize)> {
    let sockets = server.sockets()?;
    let connection = sockets.iter().find(|socket| {
        let address = socket.peer_addr().ok();
        address.and_then(|it| it.as_socket()) == Some(peer)
    });
    Some(options(connection.expect("the connection")))
}

fn own_address(peer: &mut TcpPeer) -> SocketAddr {
    peer.get().local_addr().expect("its address")
}

#[test]
fn accepted_and_outgoing_connections_have_the_options_that_are_asked_for() {
    let seconds = Duration::from_secs;
    let upstream = Run::guest("echo").tcp().start();
    let port = upstream.address("tcp").port();
    for host in ["127.0.0.1", "localhost"] {
        let to = format!("{host}:{port}");
        let server = Run::guest("proxy")
            .tcp()
            .args(["--allow-connect", &to, "--tcp-keepalive", "30s"])
            .args(["--tcp-user-timeout", "20s", "--tcp-receive-buffer", "64KiB"])
            .args(["--tcp-send-buffer", "96KiB"])
            .guest_args(&[&to])
            .start();
        let mut peer = server.connect();
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        let expected = (Some(seconds(30)), Some(seconds(20)), 64 << 10, 96 << 10);
        for other in [own_address(&mut peer), upstream.address("tcp")] {
            let Some(found) = options_with(&server, other) else {
                return;
            };
            assert_eq!(found, expected, "{host}: {other}");
        }
        drop(peer);
        server.stop();
    }
    // Without flags, only keep-alive is on.
    let mut peer = upstream.connect();
    peer.send(b"x");
    assert_eq!(peer.take(1), b"x");
    if let Some(found) = options_with(&upstream, own_address(&mut peer)) {
        assert_eq!((found.0, found.1), (Some(seconds(60)), None));
    }
    drop(peer);
    upstream.stop();
}

#[test]
fn a_reload_changes_the_options_of_a_listener_that_stays() {
    let scratch = directory();
    let configure = |more: &str| {
        let content = format!(
            "component = {:?}\ntcp = \"127.0.0.1:0\"\n{more}\n",
            text(&guest("echo"))
        );
        write(scratch.path(), "netwasm.toml", content)
    };
    let file = configure("tcp-user-timeout = \"20s\"");
    let server = Run::config(&file, 1).start();
    let timeout = || {
        let mut peer = server.connect();
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        let found = options_with(&server, own_address(&mut peer))?;
        Some(found.1)
    };
    let Some(first) = timeout() else { return };
    assert_eq!(first, Some(Duration::from_secs(20)));
    for (more, expected) in [
        ("tcp-user-timeout = \"7s\"", Some(Duration::from_secs(7))),
        ("tcp-user-timeout = 0", None),
    ] {
        configure(more);
        reload(&server);
        assert_eq!(timeout(), Some(expected), "{more}");
    }
    server.stop();
}
