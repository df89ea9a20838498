//! Forwards each connection to one of the servers named on the command line,
//! the next one each time, and skips those that cannot be reached. The bytes
//! are relayed by the host: the guest sees none of them.
//!
//! ```sh
//! netwasm run guests/proxy.wasm --tcp 8080 \
//!     --allow-connect '127.0.0.1:*' -- 127.0.0.1:9001 127.0.0.1:9002
//! ```
//!
//! A server is `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`, or `@NAME`: one of the
//! group that `--upstream NAME=SERVERS` names. The host chooses it, by the
//! group's health, weights and limits:
//!
//! ```sh
//! netwasm run guests/proxy.wasm --tcp 8080 \
//!     --upstream 'db=10.0.0.1:5432,10.0.0.2:5432;check=connect;max-connections=100' -- @db
//! ```
//!
//! With `proxy-protocol=v2` there, the servers are told whose connection each is.
//!
//! To take turns, every instance starts at a random server and counts on from
//! there. So it works where an instance sees many clients
//! (`--isolation worker`), and, on average, where it sees only one.
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use netwasm_guest::{
    Connect, Connection, Either, Error, Result, check_endpoint, error, select, warn,
};

netwasm_guest::export!(start: check, tcp: forward);

/// How long a server may take to answer before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// The servers, in the order of the command line.
    static SERVERS: Vec<String> = servers(std::env::args().skip(1));
    /// Whose turn it is.
    static TURN: Cell<usize> = Cell::new(random());
}

/// The host does not listen if this fails.
fn check() -> Result<()> {
    if SERVERS.with(Vec::is_empty) {
        let wanted =
            "name the servers to connect to, as HOST:PORT, [IPV6]:PORT, unix:PATH or @GROUP";
        return Err(Error::other(format!("no server: {wanted}, after --")));
    }
    Ok(())
}

async fn forward(mut client: Connection) -> Result<()> {
    // The client's data waits in its socket until there is a server.
    client.pause_reading();
    let turn = TURN.replace(TURN.get().wrapping_add(1));
    let mut servers = SERVERS.with(Vec::clone);
    let first = turn % servers.len().max(1);
    servers.rotate_left(first);
    let attempts = servers.iter().map(|server| {
        let attempt = Connect::to(server).timeout(CONNECT_TIMEOUT);
        attempt.on_behalf_of(&client)
    });
    let attempts: Vec<_> = attempts.collect();
    // A server that is being connected to is not wanted if the client leaves.
    match select(client.closed(), any_of(&servers, attempts)).await {
        Either::Left(lost) => lost,
        Either::Right(None) => {
            error!("no server can be reached");
            Ok(())
        }
        Either::Right(Some(server)) => client.relay(server).await,
    }
}

/// Connects to the first server that answers.
async fn any_of(servers: &[String], attempts: Vec<Connect>) -> Option<Connection> {
    for (server, attempt) in servers.iter().zip(attempts) {
        match attempt.open().await {
            Ok(connection) => return Some(connection),
            Err(error) => warn!("{server}: {}", error.text()),
        }
    }
    None
}

/// The servers that arguments name; one that makes no sense is told and left
/// out.
fn servers(arguments: impl Iterator<Item = String>) -> Vec<String> {
    arguments
        .filter(|argument| match check_endpoint(argument) {
            Ok(()) => true,
            Err(error) => {
                error!("{argument:?} is not a server: {error}");
                false
            }
        })
        .collect()
}

/// A random number, by way of what the standard library seeds its maps with.
fn random() -> usize {
    RandomState::new().hash_one(()) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::{spawn, testing};

    #[test]
    fn servers_that_make_no_sense_are_left_out() {
        let named = [
            "localhost:80",
            "80",
            "[::1]:443",
            "::1:80",
            "unix:/run/app.sock",
            "@db",
            "@",
        ];
        let servers = servers(named.into_iter().map(str::to_owned));
        assert_eq!(
            servers,
            ["localhost:80", "[::1]:443", "unix:/run/app.sock", "@db"]
        );
    }

    #[test]
    fn the_first_server_that_answers_gets_the_client() {
        let mut silent = testing::listen("silent:1");
        silent.set_delay(Duration::from_secs(60));
        let mut upstream = testing::listen("upstream:1");
        let servers = ["refusing:1", "silent:1", "upstream:1"].map(str::to_owned);
        let attempts = servers.iter();
        let attempts = attempts.map(|server| Connect::to(server).timeout(CONNECT_TIMEOUT));
        let attempts = attempts.collect();
        let task = spawn(async move { any_of(&servers, attempts).await.is_some() });
        let _peer = upstream.accept();
        assert_eq!(testing::block_on(task), Some(true));
        let warnings: Vec<_> = testing::take_log()
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(
            warnings,
            ["refusing:1: connection refused", "silent:1: timed out"]
        );
    }
}
