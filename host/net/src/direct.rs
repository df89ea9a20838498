//! TCP connections that the host makes for itself: to registries, and to stores of
//! keys and values. The system resolves their names, and no policy is asked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Time after which the next address of a host is tried, too: RFC 8305.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Connects to a host by its name or address, without a time limit.
///
/// # Errors
/// Fails if the name has no address, or as the last of its addresses does.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    connect_to_one(addresses.collect()).await
}

/// Connects to one of a host's addresses, the first that answers: one that is dead
/// does not hold up the next.
async fn connect_to_one(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::other("its name has no address");
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = tokio::select! {
            Some(ended) = attempts.join_next() => ended,
            () = sleep(NEXT_ADDRESS), if addresses.len() > 0 => continue,
            else => return Err(last),
        };
        match ended.map_err(io::Error::other).flatten() {
            Ok(stream) => {
                // It saves a round trip, and nothing depends on it.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use crate::testing::refusing;

    /// Time limit of a connection in these tests.
    const LIMIT: Duration = Duration::from_secs(20);

    /// Returns a listener whose backlog is full, and what fills it.
    async fn full() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("a free port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let mut held = Vec::new();
        while let Ok(stream) =
            timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            held.push(stream.expect("a connection"));
        }
        (listener, held)
    }

    #[tokio::test]
    async fn a_dead_address_does_not_hold_up_a_live_one() {
        let (dead, _held) = full().await;
        let live = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let of = |listener: &TcpListener| listener.local_addr().expect("an address");
        let (dead, live) = (of(&dead), of(&live));
        let (refuses, _bound) = refusing();
        for addresses in [
            vec![dead, live],
            vec![refuses, dead, live],
            vec![live, dead],
        ] {
            let connected = timeout(LIMIT, connect_to_one(addresses)).await;
            let connected = connected.expect("in time").expect("a connection");
            assert_eq!(connected.peer_addr().expect("a peer"), live);
        }
        let refused = connect_to_one(vec![refuses]).await;
        assert_eq!(
            refused.expect_err("nobody is there").kind(),
            io::ErrorKind::ConnectionRefused
        );
        let none = connect_to_one(Vec::new()).await.expect_err("no address");
        assert_eq!(none.to_string(), "its name has no address");
    }
}
