//! Does what the tests of WebSocket connections ask for: `/refuse` is refused,
//! `/protocol` speaks `chat`, `/greet` says hello before anything was received.
//! Of the texts, these are commands; other messages are sent back.
//!
//! - `close CODE REASON` closes the connection.
//! - `trap` traps.
//! - `send COUNT SIZE` sends so many messages of so many bytes, without waiting.
//! - `last` tells how the last connection of the instance has ended.

use std::cell::RefCell;

use netwasm_guest::Result;
use netwasm_guest::http::{Request, Response};
use netwasm_guest::websocket::{Closed, Message, Opening, WebSocket};

netwasm_guest::export!(websocket: open, http: page);

thread_local! {
    static LAST: RefCell<Option<Closed>> = const { RefCell::new(None) };
}

async fn page() -> &'static str {
    "a page"
}

fn open(request: &Request<'_>) -> Opening {
    match request.path() {
        "/refuse" => Opening::refuse(Response::error(403)),
        "/protocol" => Opening::accept(obey).protocol("chat").header("x-own", "1"),
        "/header" => Opening::accept(obey).header("sec-websocket-accept", "mine"),
        "/greet" => Opening::accept(async |socket: WebSocket| {
            socket.send("hello").await?;
            obey(socket).await
        }),
        _ => Opening::accept(obey),
    }
}

async fn obey(mut socket: WebSocket) -> Result<()> {
    while let Some(message) = socket.receive().await {
        let words: Vec<&str> = match &message {
            Message::Text(text) => text.splitn(3, ' ').collect(),
            Message::Binary(_) => Vec::new(),
        };
        match *words {
            ["close", code, reason] => {
                let closed = socket.close(code.parse().unwrap_or(0), reason).await?;
                LAST.replace(Some(closed));
                return Ok(());
            }
            ["trap"] => panic!("as asked"),
            ["send", count, size] => {
                let message = vec![b'x'; size.parse().unwrap_or(0)];
                for _ in 0..count.parse().unwrap_or(0) {
                    if socket.send_now(&*message).is_err() {
                        break;
                    }
                }
            }
            ["last"] => {
                let last = LAST.with_borrow(|last| last.clone());
                let last = last.map(|it| format!("{} {}", it.code, it.reason));
                socket.send(last.unwrap_or_default()).await?;
            }
            _ => socket.send(message).await?,
        }
    }
    LAST.replace(socket.closed());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing;

    #[test]
    fn commands_are_obeyed() {
        let mut client = testing::websocket(open, "/greet");
        client.expect("hello");
        client.send("send 2 3");
        client.expect(&b"xxx"[..]);
        client.expect(&b"xxx"[..]);
        client.send("close 4000 bye");
        client.expect_close(4000);
        let mut client = testing::websocket(open, "/protocol");
        assert_eq!(client.protocol(), Some("chat"));
        client.send("last");
        client.expect("4000 bye");
    }
}
