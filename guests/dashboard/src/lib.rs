//! A live page: a timer publishes numbers to a topic, which the page reads as
//! Server-Sent Events.
//!
//! ```sh
//! netwasm run guests/dashboard.wasm --http 8080
//! ```
//!
//! Open `http://localhost:8080` in some windows. The host writes each message to all
//! of them, of all workers, and keeps the last ones: a page that was away gets what
//! it has missed.

use std::cell::Cell;
use std::time::Duration;

use netwasm_guest::http::{Request, Response, TopicEvents};
use netwasm_guest::{shared, sleep, spawn, websocket};

netwasm_guest::export!(http: site);

/// Topic of the numbers.
const TOPIC: &str = "numbers";

/// Time between two messages.
const INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    /// True while this instance has its timer.
    static TICKING: Cell<bool> = const { Cell::new(false) };
}

async fn site(request: Request<'_>) -> Response {
    // If there is no room for it, the page shows the number before.
    let _ = shared::add("requests", 1, None);
    match request.path() {
        "/" => Response::html(include_str!("page.html")),
        "/events" => {
            tick();
            TopicEvents::of(TOPIC).into()
        }
        _ => Response::error(404),
    }
}

/// Publishes the numbers as long as there are readers.
fn tick() {
    if TICKING.replace(true) {
        return;
    }
    spawn(async {
        loop {
            sleep(INTERVAL).await;
            let readers = websocket::subscribers(TOPIC);
            if readers == 0 {
                break;
            }
            // Each reader's instance has a timer. One of them all takes the token.
            if shared::take("tick", 1.0, 1) {
                let requests = shared::add("requests", 0, None).unwrap_or(0);
                let numbers = format!("{{\"readers\":{readers},\"requests\":{requests}}}");
                websocket::publish(TOPIC, numbers);
            }
        }
        TICKING.set(false);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use netwasm_guest::testing::{self, Client};
    use netwasm_guest::{Connection, Result};

    /// Reads the topic as a connection does.
    async fn read(mut connection: Connection) -> Result<()> {
        connection.subscribe(TOPIC)?;
        connection.read().await.map(drop)
    }

    #[test]
    fn the_numbers_are_published_while_there_are_readers() {
        let client = Client::new(site);
        assert!(client.get("/").send().text().contains("EventSource"));
        assert_eq!(client.get("/x").send().status(), 404);
        let mut reader = testing::serve(read);
        for requests in 3..5 {
            assert_eq!(client.get("/events").send().topic(), Some(TOPIC));
            testing::advance(INTERVAL);
            reader.expect(format!("{{\"readers\":1,\"requests\":{requests}}}"));
        }
        reader.finish();
        reader.expect_end();
        testing::advance(INTERVAL);
        assert!(!TICKING.get());
    }
}
