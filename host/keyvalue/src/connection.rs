//! Connections to Redis servers.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use netwasm_base::config::RedisUrl;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::secure::{Secure, Stream};

/// Time limit of connecting and logging in.
const CONNECT: Duration = Duration::from_secs(2);

/// Time after which the next address of a host is tried, too: RFC 8305.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Time limit of an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Drives a connection to its end.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Connects to a server, and logs in. Returns the connection, and what drives it to
/// its end.
///
/// # Errors
/// Fails with the reason, without the password.
pub(crate) async fn connect(
    url: &RedisUrl,
    secure: &dyn Secure,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<(MultiplexedConnection, Driver), String> {
    let connecting = async {
        let found = tokio::net::lookup_host((&*url.host, url.port)).await;
        let found = found.map_err(|error| error.to_string())?;
        let stream = connect_to_one(found.collect()).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = match url.secure {
            true => {
                let secured = secure.secure(&url.host, stream).await;
                secured.map_err(|error| format!("TLS fails: {error}"))?
            }
            false => Box::new(stream),
        };
        let mut info = RedisConnectionInfo::default()
            .set_db(url.database.into())
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        if let Some(user) = &url.user {
            info = info.set_username(user);
        }
        if let Some(password) = &url.password {
            info = info.set_password(password);
        }
        let config = config.set_response_timeout(Some(ANSWER));
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| error.to_string())?;
        // Its type seems to borrow `info`, which a box does not.
        let driver: Driver = Box::pin(driver);
        Ok((connection, driver))
    };
    match timeout(CONNECT, connecting).await {
        Ok(made) => made,
        Err(_) => Err("it does not answer".to_owned()),
    }
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
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::net::{TcpListener, TcpSocket};

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
        let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let of = |listener: &TcpListener| listener.local_addr().expect("an address");
        let (dead, live, refuses) = (of(&dead), of(&live), of(&refusing));
        drop(refusing);
        for addresses in [
            vec![dead, live],
            vec![refuses, dead, live],
            vec![live, dead],
        ] {
            let connected = timeout(CONNECT, connect_to_one(addresses)).await;
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
