//! Options of sockets with a number as their value: socket(7), tcp(7), ip(7),
//! ipv6(7).

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::socket::{PosixSocket, SocketFamily, SocketKind};

/// An option; a switch has 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PosixOption {
    /// `SO_REUSEADDR`.
    ReuseAddress,
    /// `SO_REUSEPORT`.
    ReusePort,
    /// `SO_BROADCAST`.
    Broadcast,
    /// `SO_KEEPALIVE`.
    KeepAlive,
    /// `TCP_KEEPIDLE`, in seconds.
    KeepAliveIdle,
    /// `TCP_KEEPINTVL`, in seconds.
    KeepAliveInterval,
    /// `TCP_KEEPCNT`.
    KeepAliveCount,
    /// `SO_LINGER`, in seconds; -1 is off.
    Linger,
    /// `TCP_NODELAY`.
    NoDelay,
    /// `TCP_QUICKACK`.
    QuickAck,
    /// `TCP_USER_TIMEOUT`, in milliseconds.
    UserTimeout,
    /// `SO_RCVBUF`, in bytes.
    ReceiveBuffer,
    /// `SO_SNDBUF`, in bytes.
    SendBuffer,
    /// `IPV6_V6ONLY`.
    OnlyIpv6,
    /// `IP_TTL` or `IPV6_UNICAST_HOPS`.
    HopLimit,
    /// `IP_TOS` or `IPV6_TCLASS`.
    TrafficClass,
    /// `SO_ACCEPTCONN`, to be read.
    Listens,
}

impl PosixOption {
    /// True if such a socket has the option.
    fn is_of(self, family: SocketFamily, kind: SocketKind) -> bool {
        let is_ip = family != SocketFamily::Unix;
        match self {
            Self::KeepAliveIdle
            | Self::KeepAliveInterval
            | Self::KeepAliveCount
            | Self::NoDelay
            | Self::QuickAck
            | Self::UserTimeout => is_ip && kind == SocketKind::Stream,
            Self::OnlyIpv6 => family == SocketFamily::Inet6,
            Self::HopLimit | Self::TrafficClass => is_ip,
            _ => true,
        }
    }
}

impl PosixSocket {
    /// Returns an option.
    ///
    /// # Errors
    /// `NOPROTOOPT`: this kind of socket has no such option.
    pub fn option(&self, option: PosixOption) -> Result<i32, Errno> {
        if !option.is_of(self.family(), self.kind()) {
            return Err(Errno::NOPROTOOPT);
        }
        let fd = self.as_fd();
        let is_ipv6 = self.family() == SocketFamily::Inet6;
        let switch = |on: bool| u32::from(on);
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let value = match option {
            PosixOption::ReuseAddress => switch(sockopt::socket_reuseaddr(fd)?),
            PosixOption::ReusePort => switch(sockopt::socket_reuseport(fd)?),
            PosixOption::Broadcast => switch(sockopt::socket_broadcast(fd)?),
            PosixOption::KeepAlive => switch(sockopt::socket_keepalive(fd)?),
            PosixOption::KeepAliveIdle => seconds(sockopt::tcp_keepidle(fd)?),
            PosixOption::KeepAliveInterval => seconds(sockopt::tcp_keepintvl(fd)?),
            PosixOption::KeepAliveCount => sockopt::tcp_keepcnt(fd)?,
            PosixOption::Linger => return Ok(self.linger()),
            PosixOption::NoDelay => switch(sockopt::tcp_nodelay(fd)?),
            PosixOption::QuickAck => switch(sockopt::tcp_quickack(fd)?),
            PosixOption::UserTimeout => sockopt::tcp_user_timeout(fd)?,
            PosixOption::ReceiveBuffer => size(sockopt::socket_recv_buffer_size(fd)?),
            PosixOption::SendBuffer => size(sockopt::socket_send_buffer_size(fd)?),
            PosixOption::OnlyIpv6 => switch(sockopt::ipv6_v6only(fd)?),
            PosixOption::HopLimit if is_ipv6 => sockopt::ipv6_unicast_hops(fd)?.into(),
            PosixOption::HopLimit => sockopt::ip_ttl(fd)?,
            PosixOption::TrafficClass if is_ipv6 => sockopt::ipv6_tclass(fd)?,
            PosixOption::TrafficClass => sockopt::ip_tos(fd)?.into(),
            PosixOption::Listens => switch(sockopt::socket_acceptconn(fd)?),
        };
        Ok(i32::try_from(value).unwrap_or(i32::MAX))
    }

    /// Sets an option.
    ///
    /// # Errors
    /// - `NOPROTOOPT`: this kind of socket has no such option, or it cannot be
    ///   set.
    /// - `INVAL`: the value is out of range.
    pub fn set_option(&self, option: PosixOption, value: i32) -> Result<(), Errno> {
        if !option.is_of(self.family(), self.kind()) {
            return Err(Errno::NOPROTOOPT);
        }
        if option == PosixOption::Linger {
            return self.set_linger(value);
        }
        let fd = self.as_fd();
        let is_ipv6 = self.family() == SocketFamily::Inet6;
        let on = value != 0;
        let number = || u32::try_from(value).map_err(|_| Errno::INVAL);
        let byte = || u8::try_from(value).map_err(|_| Errno::INVAL);
        let seconds = || number().map(|value| Duration::from_secs(value.into()));
        // The kernel limits sizes by itself.
        let size = || usize::try_from(value).map_err(|_| Errno::INVAL);
        match option {
            PosixOption::ReuseAddress => sockopt::set_socket_reuseaddr(fd, on),
            PosixOption::ReusePort => sockopt::set_socket_reuseport(fd, on),
            PosixOption::Broadcast => sockopt::set_socket_broadcast(fd, on),
            PosixOption::KeepAlive => {
                self.note_keep_alive();
                sockopt::set_socket_keepalive(fd, on)
            }
            PosixOption::KeepAliveIdle => sockopt::set_tcp_keepidle(fd, seconds()?),
            PosixOption::KeepAliveInterval => sockopt::set_tcp_keepintvl(fd, seconds()?),
            PosixOption::KeepAliveCount => sockopt::set_tcp_keepcnt(fd, number()?),
            PosixOption::NoDelay => sockopt::set_tcp_nodelay(fd, on),
            PosixOption::QuickAck => sockopt::set_tcp_quickack(fd, on),
            PosixOption::UserTimeout => sockopt::set_tcp_user_timeout(fd, number()?),
            PosixOption::ReceiveBuffer => sockopt::set_socket_recv_buffer_size(fd, size()?),
            PosixOption::SendBuffer => sockopt::set_socket_send_buffer_size(fd, size()?),
            PosixOption::OnlyIpv6 => sockopt::set_ipv6_v6only(fd, on),
            PosixOption::HopLimit if is_ipv6 => sockopt::set_ipv6_unicast_hops(fd, Some(byte()?)),
            PosixOption::HopLimit => sockopt::set_ip_ttl(fd, number()?),
            PosixOption::TrafficClass if is_ipv6 => sockopt::set_ipv6_tclass(fd, number()?),
            PosixOption::TrafficClass => sockopt::set_ip_tos(fd, byte()?),
            PosixOption::Linger | PosixOption::Listens => Err(Errno::NOPROTOOPT),
        }
    }
}
