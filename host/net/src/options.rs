//! Options of sockets that a guest may set: socket(7), tcp(7), ip(7), ipv6(7).

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, TcpKeepalive, Type};

use netwasm_base::error::ConnectionError;

/// Maximum of seconds that Linux takes for the times of keep-alive probes.
const MOST_SECONDS: u64 = 32_767;

/// Maximum of keep-alive probes that Linux takes.
const MOST_PROBES: u32 = 127;

/// An option, with the value to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// `TCP_NODELAY`.
    NoDelay(bool),
    /// `SO_KEEPALIVE`; `None` turns it off.
    KeepAlive(Option<KeepAlive>),
    /// `SO_RCVBUF`, in bytes.
    ReceiveBufferSize(u32),
    /// `SO_SNDBUF`, in bytes.
    SendBufferSize(u32),
    /// `IP_TTL` or `IPV6_UNICAST_HOPS`.
    HopLimit(u8),
    /// `IP_TOS` or `IPV6_TCLASS`.
    TrafficClass(u8),
}

/// Times of keep-alive probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `TCP_KEEPIDLE`: silence before the first probe.
    pub idle: Duration,
    /// `TCP_KEEPINTVL`: time between two probes.
    pub interval: Option<Duration>,
    /// `TCP_KEEPCNT`: unanswered probes after which the connection is lost.
    pub count: Option<u32>,
}

/// Sets an option of a socket.
///
/// # Errors
/// - `InvalidArgument`: the value is out of range.
/// - `NotSupported`: this kind of socket has no such option.
pub(crate) fn set(socket: impl AsFd, option: SocketOption) -> Result<(), ConnectionError> {
    let socket = SockRef::from(&socket);
    let domain = socket.domain()?;
    let is_tcp = domain != Domain::UNIX && socket.r#type()? == Type::STREAM;
    let set = match option {
        SocketOption::NoDelay(on) if is_tcp => socket.set_tcp_nodelay(on),
        SocketOption::KeepAlive(None) if is_tcp => socket.set_keepalive(false),
        SocketOption::KeepAlive(Some(probes)) if is_tcp => {
            socket.set_tcp_keepalive(&probes.checked()?)
        }
        SocketOption::ReceiveBufferSize(0)
        | SocketOption::SendBufferSize(0)
        | SocketOption::HopLimit(0) => return Err(ConnectionError::InvalidArgument),
        SocketOption::ReceiveBufferSize(size) => socket.set_recv_buffer_size(buffer(size)),
        SocketOption::SendBufferSize(size) => socket.set_send_buffer_size(buffer(size)),
        SocketOption::HopLimit(limit) => match domain {
            Domain::IPV4 => socket.set_ttl_v4(limit.into()),
            Domain::IPV6 => socket.set_unicast_hops_v6(limit.into()),
            _ => return Err(ConnectionError::NotSupported),
        },
        SocketOption::TrafficClass(class) => match domain {
            Domain::IPV4 => socket.set_tos_v4(class.into()),
            Domain::IPV6 => socket.set_tclass_v6(class.into()),
            _ => return Err(ConnectionError::NotSupported),
        },
        SocketOption::NoDelay(_) | SocketOption::KeepAlive(_) => {
            return Err(ConnectionError::NotSupported);
        }
    };
    set.map_err(refused)
}

/// Limits a size to what the system call can carry. The kernel limits it
/// further.
fn buffer(size: u32) -> usize {
    usize::try_from(size).map_or(i32::MAX as usize, |size| size.min(i32::MAX as usize))
}

fn refused(error: io::Error) -> ConnectionError {
    match Errno::from_io_error(&error) {
        Some(Errno::INVAL | Errno::RANGE) => ConnectionError::InvalidArgument,
        Some(Errno::NOPROTOOPT | Errno::OPNOTSUPP) => ConnectionError::NotSupported,
        _ => error.into(),
    }
}

impl KeepAlive {
    /// # Errors
    /// Fails if a time is 0, or longer than Linux takes, or the count is 0 or
    /// larger.
    fn checked(self) -> Result<TcpKeepalive, ConnectionError> {
        let mut probes = TcpKeepalive::new().with_time(seconds(self.idle)?);
        if let Some(interval) = self.interval {
            probes = probes.with_interval(seconds(interval)?);
        }
        if let Some(count) = self.count {
            if !(1..=MOST_PROBES).contains(&count) {
                return Err(ConnectionError::InvalidArgument);
            }
            probes = probes.with_retries(count);
        }
        Ok(probes)
    }
}

/// Rounds a time up to whole seconds.
fn seconds(time: Duration) -> Result<Duration, ConnectionError> {
    let rest = u64::from(time.subsec_nanos() > 0);
    let rounded = time.as_secs().saturating_add(rest);
    match (1..=MOST_SECONDS).contains(&rounded) {
        true => Ok(Duration::from_secs(rounded)),
        false => Err(ConnectionError::InvalidArgument),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn options_are_set_and_values_out_of_range_are_refused() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let probes = KeepAlive {
            idle: Duration::from_millis(1500),
            interval: Some(Duration::from_secs(3)),
            count: Some(4),
        };
        for option in [
            SocketOption::NoDelay(true),
            SocketOption::KeepAlive(Some(probes)),
            SocketOption::HopLimit(9),
            SocketOption::TrafficClass(0x68),
        ] {
            assert_eq!(set(&tcp, option), Ok(()), "{option:?}");
        }
        let socket = SockRef::from(&tcp);
        assert!(socket.tcp_nodelay().expect("an option"));
        let idle = socket.tcp_keepalive_time().expect("an option");
        assert_eq!(idle, Duration::from_secs(2));
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 4);
        assert_eq!(socket.ttl_v4().expect("an option"), 9);
        assert_eq!(socket.tos_v4().expect("an option"), 0x68);

        let invalid = |probes| SocketOption::KeepAlive(Some(probes));
        for option in [
            invalid(KeepAlive {
                idle: Duration::ZERO,
                ..probes
            }),
            invalid(KeepAlive {
                interval: Some(Duration::MAX),
                ..probes
            }),
            invalid(KeepAlive {
                count: Some(128),
                ..probes
            }),
            SocketOption::ReceiveBufferSize(0),
            SocketOption::HopLimit(0),
        ] {
            assert_eq!(
                set(&tcp, option),
                Err(ConnectionError::InvalidArgument),
                "{option:?}"
            );
        }
    }

    #[test]
    fn a_kind_of_socket_has_only_its_own_options() {
        let udp = UdpSocket::bind("[::1]:0").expect("a socket");
        let (unix, _peer) = UnixStream::pair().expect("sockets");
        let (delay, hops) = (SocketOption::NoDelay(true), SocketOption::HopLimit(9));
        let size = SocketOption::SendBufferSize(8 << 10);
        assert_eq!(set(&udp, delay), Err(ConnectionError::NotSupported));
        assert_eq!(set(&unix, delay), Err(ConnectionError::NotSupported));
        assert_eq!(set(&unix, hops), Err(ConnectionError::NotSupported));
        assert_eq!(set(&udp, hops), Ok(()));
        assert_eq!((set(&udp, size), set(&unix, size)), (Ok(()), Ok(())));
    }
}
