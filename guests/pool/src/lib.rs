//! Sends messages, all at once, over a pool of connections to an echo server,
//! and prints the replies and how many connections that took:
//! `-- HOST PORT [SIZE] [MESSAGES]`, 3 and 10 unless given.
wit_bindgen::generate!({ path: "../../wit", world: "netwasm:net/stream-client", generate_all });

use std::str::FromStr;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use netwasm::net::client::Pool;
use netwasm::net::types::{ConnectOptions, Endpoint, Error, ErrorCode, Operation, PoolOptions};
use wasip3::cli::environment;
use wasip3::exports::cli::run::Guest;

/// How often a message is tried: a server may close a kept connection just
/// when it is used again.
const TRIES: usize = 3;

struct Pooled;
wasip3::cli::command::export!(Pooled);

impl Guest for Pooled {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments().split_off(1);
        let Some((pool, messages)) = open(&arguments) else {
            eprintln!("usage: pool HOST PORT [SIZE] [MESSAGES]");
            return Err(());
        };
        let pool = match pool {
            Ok(pool) => pool,
            Err(error) => {
                eprintln!("no pool: {}", error.text);
                return Err(());
            }
        };
        let mut replies: FuturesUnordered<_> = (1..=messages)
            .map(|number| ask(&pool, format!("message {number}")))
            .collect();
        let mut failed = false;
        while let Some(reply) = replies.next().await {
            match reply {
                Ok(reply) => println!("{reply}"),
                Err(error) => {
                    eprintln!("failed: {}", error.text);
                    failed = true;
                }
            }
        }
        println!("{messages} messages, {} connections", pool.counts().opened);
        if failed { Err(()) } else { Ok(()) }
    }
}

/// The pool that the arguments ask for, and the number of messages.
fn open(arguments: &[String]) -> Option<(Result<Pool, Error>, u32)> {
    let (host, port, rest) = match arguments {
        [host, port, rest @ ..] if rest.len() <= 2 => (host, port.parse().ok()?, rest),
        _ => return None,
    };
    let number = |place: usize, default| match rest.get(place) {
        Some(text) => u32::from_str(text).ok(),
        None => Some(default),
    };
    let options = PoolOptions {
        size: number(0, 3)?,
        connect: ConnectOptions {
            tls: None,
            timeout: None,
            local_address: None,
        },
        idle_timeout: None,
        max_age: None,
    };
    let messages = number(1, 10)?;
    Some((
        Pool::open(&Endpoint::Name((host.clone(), port)), &options),
        messages,
    ))
}

async fn ask(pool: &Pool, message: String) -> Result<String, Error> {
    for _ in 1..TRIES {
        match exchange(pool, &message).await {
            // The server closed it at that very moment.
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::ConnectionReset | ErrorCode::ConnectionBroken
                ) => {}
            result => return result,
        }
    }
    exchange(pool, &message).await
}

/// Sends a message, and waits for as much to come back.
async fn exchange(pool: &Pool, message: &str) -> Result<String, Error> {
    let connection = pool.get(None).await?;
    let (mut writer, data) = wit_stream::new();
    let _sent = connection.send(data);
    let (mut reader, received) = connection.receive();
    writer.write_all(message.as_bytes().to_vec()).await;

    let mut reply = Vec::with_capacity(message.len());
    while reply.len() < message.len() {
        let before = reply.len();
        (_, reply) = reader.read(reply).await;
        if reply.len() == before {
            received.await?;
            return Err(Error {
                code: ErrorCode::ConnectionReset,
                during: Operation::Receive,
                text: "the server ended it".into(),
            });
        }
    }
    // Before the writer is dropped, which would end the sending side.
    pool.put(connection);
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
