//! Addresses where nobody listens, and the kernel's view of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::{eventually, in_own_network};

/// Sets the MTU of loopback in bytes. For use in a test's own network only.
pub(crate) fn set_mtu(mtu: u32) {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "mtu", &mtu.to_string()])
        .status();
    assert!(status.expect("ip(8) of iproute2").success());
}

/// Returns true if a test can go on with IPv6. If this network has none, runs
/// the test again in a network of its own.
#[must_use]
pub(crate) fn with_ipv6(test: &str) -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() || in_own_network(test)
}

/// Returns an address that refuses connections while the socket is kept. The
/// socket is bound but does not listen.
pub(crate) fn refusing() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("its address");
    (address.as_socket().expect("an IP address"), socket)
}

/// Returns an address that refuses datagrams while the socket is kept. The
/// socket is connected to itself, and so receives only its own datagrams.
pub(crate) fn refusing_datagrams() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("its address");
    socket.connect(address).expect("its own address");
    (address, socket)
}

/// Starts a server that sends each datagram back, and returns its address. It
/// serves until the process ends.
pub(crate) fn datagram_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address");
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..count], peer);
        }
    });
    address
}

/// Waits until the other end, a process on this machine, has read everything
/// that was sent on a connection.
pub(crate) fn taken(stream: &TcpStream) {
    let own = stream.local_addr().expect("its address");
    let other = stream.peer_addr().expect("the peer's address");
    eventually("the other end has read everything", || {
        let sent = queues(own, other).is_none_or(|(unsent, _)| unsent == 0);
        let read = queues(other, own).is_none_or(|(_, unread)| unread == 0);
        (sent && read).then_some(())
    });
}

/// Waits until the other end, a process on this machine, cannot send any more:
/// it has unsent bytes, and its queues have not changed for 100 ms.
pub(crate) fn stalled(stream: &TcpStream) {
    let own = stream.local_addr().expect("its address");
    let other = stream.peer_addr().expect("the peer's address");
    let (mut last, mut since) = (None, Instant::now());
    eventually("the other end stalls", || {
        let now = queues(other, own);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        let waits = last.is_some_and(|(unsent, _)| unsent > 0);
        let moment = Duration::from_millis(100);
        (waits && since.elapsed() > moment).then_some(())
    });
}

/// Returns the bytes that one end has sent without an acknowledgement, and the
/// bytes that it has not read. Returns `None` if there is no such end.
fn queues(local: SocketAddr, remote: SocketAddr) -> Option<(u64, u64)> {
    let file = if local.is_ipv4() { "tcp" } else { "tcp6" };
    let table = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("/proc");
    let ends = format!(" {} {} ", in_table(local), in_table(remote));
    let line = table.lines().find(|line| line.contains(&ends))?;
    // proc_pid_net(5): the columns are sl, both addresses, the state, tx:rx.
    let (unsent, unread) = line.split_whitespace().nth(4)?.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(unsent)?, number(unread)?))
}

/// Formats an address like `/proc/net/tcp`: words of four bytes in the
/// machine's byte order.
fn in_table(address: SocketAddr) -> String {
    let bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (words, _) = bytes.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_ne_bytes(*word));
    let ip: String = words.map(|word| format!("{word:08X}")).collect();
    format!("{ip}:{:04X}", address.port())
}
