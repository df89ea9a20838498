//! Errors of sent datagrams, and fragmentation of long ones.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use netwasm_base::error::ConnectionError;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, sockopt};
use rustix::io::Errno;

/// Lets the kernel fragment a datagram that is longer than a packet. quinn-udp,
/// made for QUIC, forbids that.
pub(super) fn allow_fragments(socket: &OwnedFd, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() {
        let want = rustix::net::sockopt::Ipv4PathMtuDiscovery::WANT;
        rustix::net::sockopt::set_ip_mtu_discover(socket, want)?;
    } else {
        let want = rustix::net::sockopt::Ipv6PathMtuDiscovery::WANT;
        rustix::net::sockopt::set_ipv6_mtu_discover(socket, want)?;
        nix::sys::socket::setsockopt(socket, sockopt::Ipv6DontFrag, &false)?;
    }
    Ok(())
}

/// Takes the next entry of a socket's error queue: the error, and the peer it
/// concerns (IP_RECVERR, ip(7)).
pub(super) fn next_error(socket: &OwnedFd) -> Option<(ConnectionError, Option<SocketAddr>)> {
    let mut payload = [0; 1];
    let mut slices = [IoSliceMut::new(&mut payload)];
    let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6, [u8; 128]);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = nix::sys::socket::recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        flags,
    )
    .ok()?;
    let peer = message.address.as_ref().and_then(|address| {
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6((*v6).into()))
        })
    });
    let mut error = ConnectionError::Unreachable;
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::Ipv4RecvErr(extended, _)
        | ControlMessageOwned::Ipv6RecvErr(extended, _) = control
            && let Ok(errno) = i32::try_from(extended.ee_errno)
        {
            error = Errno::from_raw_os_error(errno).into();
        }
    }
    Some((error, peer))
}
