//! A chat in the browser: a page, and a WebSocket for each of its readers.
//!
//! ```sh
//! netwasm run guests/chat-web.wasm --http 8080
//! ```
//!
//! Open `http://localhost:8080` in two windows; `?name=Ann` sets the name, and
//! `/rooms/NAME` is a room of its own. The lines go through topics of the host, so
//! that all workers serve one chat, and no instance is shared.

use netwasm_guest::Result;
use netwasm_guest::http::{Request, Response};
use netwasm_guest::metrics::Counter;
use netwasm_guest::websocket::{self, Message, Opening, WebSocket};

netwasm_guest::export!(websocket: open, http: page);

/// The longest line, in characters.
const MAX_LINE: usize = 1000;

/// The longest name, in characters.
const MAX_NAME: usize = 20;

/// Shown by `--admin` in `/metrics`.
static LINES: Counter = Counter::new("lines", "Lines that were said");

/// Returns the room of a path.
fn room(path: &str) -> Option<&str> {
    match path {
        "/" => Some("lobby"),
        path => path
            .strip_prefix("/rooms/")
            .filter(|room| !room.is_empty() && room.len() <= 64 && !room.contains('/')),
    }
}

async fn page(request: Request<'_>) -> Response {
    match room(request.path()) {
        Some(_) => Response::html(include_str!("page.html")),
        None => Response::error(404),
    }
}

fn open(request: &Request<'_>) -> Opening {
    let Some(room) = room(request.path()) else {
        return Opening::refuse(Response::error(404));
    };
    let room = format!("room {room}");
    let name = request.pairs().get("name").map(plain);
    let name = name.filter(|it| !it.is_empty() && it.chars().count() <= MAX_NAME);
    let name = name.unwrap_or_else(|| "somebody".into());
    Opening::accept(async move |socket| chat(socket, &room, &name).await)
}

/// Returns a line of a client without what is not to be shown.
fn plain(text: &str) -> String {
    let text = text.trim().chars().filter(|letter| !letter.is_control());
    text.take(MAX_LINE).collect()
}

async fn chat(mut socket: WebSocket, room: &str, name: &str) -> Result<()> {
    socket.subscribe(room)?;
    let count = websocket::subscribers(room);
    socket
        .send(format!("* you are {name}, of {count} here"))
        .await?;
    socket.publish(room, format!("* {name} came"));
    while let Some(message) = socket.receive().await {
        let Message::Text(text) = message else {
            return socket.close(1003, "only texts").await.map(drop);
        };
        let line = plain(&text);
        if !line.is_empty() {
            LINES.add(1);
            websocket::publish(room, format!("{name}: {line}"));
        }
    }
    websocket::publish(room, format!("* {name} left"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::{self, Client};

    #[test]
    fn lines_go_to_all_in_the_room() {
        let mut ann = testing::websocket(open, "/?name=Ann");
        ann.expect("* you are Ann, of 1 here");
        let mut bob = testing::websocket(open, "/?name=Bob%0A");
        bob.expect("* you are Bob, of 2 here");
        ann.expect("* Bob came");
        let mut other = testing::websocket(open, "/rooms/other");
        other.expect("* you are somebody, of 1 here");
        ann.send(" hello\u{1b}[2J ");
        ann.expect("Ann: hello[2J");
        bob.expect("Ann: hello[2J");
        bob.send(vec![1]);
        bob.expect_close(1003);
        ann.send("");
        ann.close(1001, "");
        other.expect_nothing();
        assert_eq!(testing::metric("lines", &[]), Some(1.0));
    }

    #[test]
    fn each_room_has_the_page() {
        let client = Client::new(page);
        for (path, status) in [("/", 200), ("/rooms/a", 200), ("/rooms/", 404), ("/x", 404)] {
            assert_eq!(client.get(path).send().status(), status, "{path}");
        }
        let refused = testing::try_websocket(open, "/x").err();
        assert_eq!(refused.map(|answer| answer.status()), Some(404));
    }
}
