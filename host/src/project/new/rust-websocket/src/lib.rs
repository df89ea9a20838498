//! A room where people talk over WebSocket: what one says, all hear.

use netwasm_guest::Result;
use netwasm_guest::http::{Request, Response};
use netwasm_guest::websocket::{self, WebSocket};

netwasm_guest::export!(websocket: talk, http: page);

/// Each connection has an instance of its own. The topic reaches all of them, on all
/// threads.
async fn talk(mut socket: WebSocket) -> Result<()> {
    socket.subscribe("room")?;
    let count = websocket::subscribers("room");
    socket.send(format!("welcome, {count} are here")).await?;
    while let Some(message) = socket.receive().await {
        websocket::publish("room", message);
    }
    Ok(())
}

/// Other requests get the page that connects.
async fn page(request: Request<'_>) -> Response {
    match request.path() {
        "/" => Response::html(include_str!("page.html")),
        _ => Response::error(404),
    }
}

/// In memory, without a host; tests/ has the same in the real one.
#[cfg(test)]
mod tests {
    use netwasm_guest::testing;

    #[test]
    fn what_one_says_all_hear() {
        let mut ann = testing::websocket(super::talk, "/");
        ann.expect("welcome, 1 are here");
        let mut bob = testing::websocket(super::talk, "/");
        bob.expect("welcome, 2 are here");
        ann.send("hello");
        ann.expect("hello");
        bob.expect("hello");
    }

    #[test]
    fn other_requests_get_the_page() {
        let client = testing::Client::new(super::page);
        assert_eq!(client.get("/").send().status(), 200);
        assert_eq!(client.get("/nowhere").send().status(), 404);
    }
}
