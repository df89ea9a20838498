//! Does what the tests of WebSocket connections ask for: `/refuse` is refused,
//! `/protocol` speaks `chat`, `/greet` says hello before anything was received.
//! Of the texts, these are commands; other messages are sent back.
//!
//! - `close CODE REASON` closes the connection.
//! - `trap` traps.
//! - `send COUNT SIZE` sends so many messages of so many bytes, without waiting.
//! - `last` tells how the last connection of the instance has ended.
//! - `dial URL PROTOCOLS` opens a connection to another server, says so, and passes
//!   messages on, both ways, until that one ends. With `hasty` in place of the
//!   protocols, that has little time; with `authority=NAME` or `name=NAME`, options of
//!   TLS; with `drop`, the next message gives it up.
//! - `echo URL` opens a connection, says so, and sends back what comes on it until it
//!   ends.
//!
//! Of requests, a POST to `/publish/TOPIC` publishes the body, as bytes if it is no
//! text, and tells how many subscribers there are. `/events/TOPIC` and
//! `/later/TOPIC` answer with the topic as events, the second one a moment later.
//!
//! Connections of TCP obey lines: `subscribe TOPIC`, `leave TOPIC`, and
//! `publish TOPIC TEXT`, which publishes the text as a line; each is answered with the number
//! of subscribers. `relay` is answered with `relayed`, and then all comes back, or with an
//! error after it.

use std::cell::RefCell;
use std::time::Duration;

use netwasm_guest::http::{Request, Response, TopicEvents};
use netwasm_guest::websocket::{self, Closed, Connect, Message, NotOpened, Opening, WebSocket};
use netwasm_guest::{Connection, Either, Result, TlsOptions, sleep};

netwasm_guest::export!(tcp: line, websocket: open, http: page);

thread_local! {
    static LAST: RefCell<Option<Closed>> = const { RefCell::new(None) };
}

async fn page(request: Request<'_>) -> Response {
    let (what, topic) = match request.path()[1..].split_once('/') {
        Some((what, topic)) => (what, topic.to_owned()),
        None => return Response::text("a page"),
    };
    match what {
        "publish" => {
            let message = match String::from_utf8(request.body()) {
                Ok(text) => Message::Text(text),
                Err(bytes) => Message::Binary(bytes.into_bytes()),
            };
            Response::text(websocket::publish(&topic, message).to_string())
        }
        "later" => {
            sleep(Duration::from_millis(1)).await;
            TopicEvents::of(topic).into()
        }
        _ => TopicEvents::of(topic)
            .named("line")
            .retry(Duration::from_millis(50))
            .into(),
    }
}

async fn line(mut connection: Connection) -> Result<()> {
    while let Some(line) = connection.read_line().await? {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        let count = match *words {
            ["subscribe", topic] => {
                connection.subscribe(topic)?;
                websocket::subscribers(topic)
            }
            ["leave", topic] => {
                connection.unsubscribe(topic);
                websocket::subscribers(topic)
            }
            ["publish", topic, text] => connection.publish(topic, format!("{text}\n")),
            ["relay"] => {
                connection.write_all("relayed\n").await?;
                return connection.relay_back().await;
            }
            _ => 0,
        };
        connection.write_all(format!("{count}\n")).await?;
    }
    Ok(())
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
            ["echo", url] => echo(&mut socket, url).await?,
            ["dial", url] => dial(&mut socket, url, "").await?,
            ["dial", url, "drop"] => {
                let opening = Connect::to(url).open();
                let first = netwasm_guest::select(opening, socket.receive()).await;
                let given_up = matches!(first, Either::Right(_));
                socket
                    .send(if given_up { "given up" } else { "ended" })
                    .await?;
            }
            ["dial", url, protocols] => dial(&mut socket, url, protocols).await?,
            _ => socket.send(message).await?,
        }
    }
    LAST.replace(socket.closed());
    Ok(())
}

/// Opens a connection, and sends back what comes on it.
async fn echo(client: &mut WebSocket, url: &str) -> Result<()> {
    let mut server = match Connect::to(url).compress().open().await {
        Ok(server) => server,
        Err(reason) => return client.send(reason.to_string()).await,
    };
    client.send("opened").await?;
    while let Some(message) = server.receive().await {
        // One that fails is told of as it ends.
        drop(server.send(message).await);
    }
    client.send(told(&server)).await
}

/// Returns how the server has ended a connection.
fn told(server: &WebSocket) -> String {
    let closed = server.closed();
    let closed = closed.map(|it| format!("server closed {} {}", it.code, it.reason));
    closed.unwrap_or_default().trim_end().to_owned()
}

/// Opens a connection, and passes messages on until it ends.
async fn dial(client: &mut WebSocket, url: &str, protocols: &str) -> Result<()> {
    let mut opening = Connect::to(url).header("x-own", "1").compress();
    for word in protocols.split_whitespace() {
        let tls = TlsOptions::new();
        opening = match word.split_once('=') {
            Some(("authority", name)) => opening.tls_with(tls.authority(name)),
            Some(("name", name)) => opening.tls_with(tls.server_name(name)),
            _ if word == "hasty" => opening.timeout(Duration::from_millis(100)),
            _ => opening.protocol(word),
        };
    }
    let mut server = match opening.open().await {
        Ok(server) => server,
        Err(reason) => {
            let location = match &reason {
                NotOpened::Refused(refusal) => refusal.header("location"),
                NotOpened::Failed(_) => None,
            };
            let location = String::from_utf8_lossy(location.unwrap_or_default()).into_owned();
            return client.send(format!("{reason} {location}").trim()).await;
        }
    };
    let protocol = server.protocol().unwrap_or("no protocol");
    client.send(format!("opened with {protocol}")).await?;
    loop {
        match netwasm_guest::select(client.receive(), server.receive()).await {
            Either::Left(None) => return Ok(()),
            // One that fails is told of as it ends.
            Either::Left(Some(message)) => drop(server.send(message).await),
            Either::Right(Some(message)) => client.send(message).await?,
            Either::Right(None) => return client.send(told(&server)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing;

    #[test]
    fn lines_are_published_to_the_others() {
        let (mut one, mut other) = (testing::serve(line), testing::serve(line));
        one.send("subscribe a\n");
        assert_eq!(one.read_line(), "1");
        other.send("subscribe a\npublish a hello\nleave a\n");
        other.expect("2\n2\n1\n");
        assert_eq!(one.read_line(), "hello");
        websocket::publish("a", "to all\n");
        assert_eq!(one.read_line(), "to all");
        other.expect_nothing();
        other.send("relay\nand all comes back");
        other.expect("relayed\nand all comes back");
    }

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

    #[test]
    fn another_server_is_dialled() {
        let mut server = testing::listen_websocket("ws://example.org/");
        let mut client = testing::websocket(open, "/");
        client.send("dial ws://example.org/ chat");
        let mut peer = server.accept();
        assert_eq!(server.offered(), ["chat"]);
        client.expect("opened with no protocol");
        client.send("there");
        peer.expect("there");
        peer.send("back");
        client.expect("back");
        peer.close(4000, "enough");
        client.expect("server closed 4000 enough");
        client.send("echo ws://example.org/");
        let mut peer = server.accept();
        client.expect("opened");
        peer.send("there");
        peer.expect("there");
        peer.close(1000, "");
        client.expect("server closed 1000");
        server.refuse(503);
        client.send("dial ws://example.org/");
        client.expect("the server answers with 503");
    }
}
