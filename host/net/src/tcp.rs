//! Options of the host's own TCP sockets: tcp(7), socket(7).

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use netwasm_base::config::TcpOptions;

/// Longest `TCP_USER_TIMEOUT` that Linux takes: 24 days.
pub(crate) const MOST: Duration = Duration::from_millis(i32::MAX as u64);

/// Sets the options of a listener. Accepted sockets inherit them. A size that
/// was set before stays if there is none now: the system has no way back.
///
/// # Errors
/// Fails as setsockopt(2) does.
pub(crate) fn set_listening(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    if options.keepalive.is_none() {
        socket.set_keepalive(false)?;
    }
    if options.user_timeout.is_none() {
        socket.set_tcp_user_timeout(None)?;
    }
    set(socket, options)
}

/// Sets the options of a socket that is to connect. The size of its receive
/// buffer decides about window scaling, and so is set before.
///
/// # Errors
/// Fails as setsockopt(2) does.
pub(crate) fn set(socket: &Socket, options: &TcpOptions) -> io::Result<()> {
    let TcpOptions {
        keepalive: silence,
        user_timeout,
        receive_buffer,
        send_buffer,
    } = *options;
    if let Some(silence) = silence {
        socket.set_tcp_keepalive(&keepalive(silence))?;
    }
    if let Some(time) = user_timeout {
        socket.set_tcp_user_timeout(Some(time.min(MOST)))?;
    }
    // The kernel limits sizes further.
    let size = |bytes: usize| bytes.min(i32::MAX as usize);
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(size(bytes))?;
    }
    if let Some(bytes) = send_buffer {
        socket.set_send_buffer_size(size(bytes))?;
    }
    Ok(())
}

/// Returns the keep-alive settings of a TCP connection. If the peer of a silent
/// connection is gone, the kernel ends it within twice the time.
pub(crate) fn keepalive(silence: Duration) -> TcpKeepalive {
    const PROBES: u32 = 4;
    TcpKeepalive::new()
        .with_time(silence.max(Duration::from_secs(1)))
        .with_interval((silence / PROBES).max(Duration::from_secs(1)))
        .with_retries(PROBES)
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn options_are_set_and_those_that_have_a_way_back_are_reset() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let options = TcpOptions {
            keepalive: Some(Duration::from_secs(40)),
            user_timeout: Some(Duration::from_secs(365 * 24 * 60 * 60)),
            receive_buffer: Some(32 << 10),
            send_buffer: Some(48 << 10),
        };
        set_listening(&socket, &options).expect("options");
        let timeout = |socket: &Socket| socket.tcp_user_timeout().expect("an option");
        assert_eq!(timeout(&socket), Some(MOST));
        assert!(socket.keepalive().expect("an option"));
        // The kernel doubles what is asked for.
        let sizes = |socket: &Socket| (socket.recv_buffer_size(), socket.send_buffer_size());
        let (receive, send) = sizes(&socket);
        assert_eq!(receive.expect("a size"), 64 << 10);
        assert_eq!(send.expect("a size"), 96 << 10);
        let none = TcpOptions {
            keepalive: None,
            user_timeout: None,
            receive_buffer: None,
            send_buffer: None,
        };
        set_listening(&socket, &none).expect("options");
        assert_eq!(timeout(&socket), None);
        assert!(!socket.keepalive().expect("an option"));
    }
}
