//! Connections to Redis servers.

use std::pin::Pin;
use std::time::Duration;

use netwasm_base::config::RedisUrl;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use tokio::time::timeout;

use crate::dial::Dial;

/// Time limit of connecting and logging in.
const CONNECT: Duration = Duration::from_secs(2);

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
    dial: &dyn Dial,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
) -> Result<(MultiplexedConnection, Driver), String> {
    let connecting = async {
        let stream = dial.dial(&url.host, url.port, url.secure).await;
        let stream = stream.map_err(|error| error.to_string())?;
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
