//! Responses whose bodies are made piece by piece.

use std::fmt::Display;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::Response;
use crate::host::{Body, RawEvents};
use crate::log;

#[cfg(not(target_family = "wasm"))]
use self::memory::Outlet;
#[cfg(target_family = "wasm")]
use crate::body::Outlet;

/// Makes a body, and returns true once it is whole.
pub(crate) type Maker = Box<dyn FnOnce(BodyWriter) -> Pin<Box<dyn Future<Output = bool>>>>;

impl Response {
    /// Makes a response whose body is made piece by piece, by an async function
    /// that gets a [`BodyWriter`]. The head is sent at once, and each piece as
    /// soon as the client takes it.
    ///
    /// The body ends when the function returns. If it returns an error, or
    /// panics, the body is cut off, so that the client sees that it is
    /// incomplete. If the client leaves, the function is dropped where it waits.
    ///
    /// ```
    /// use netwasm_guest::http::{BodyWriter, Response};
    ///
    /// async fn squares() -> Response {
    ///     Response::stream("text/plain", async |mut body: BodyWriter| {
    ///         for number in 1..=3 {
    ///             body.write(format!("{}\n", number * number)).await;
    ///         }
    ///     })
    /// }
    /// # let client = netwasm_guest::testing::Client::new(squares);
    /// # assert_eq!(client.get("/").send().text(), "1\n4\n9\n");
    /// ```
    pub fn stream<T: Ended + 'static>(
        media_type: &str,
        make: impl AsyncFnOnce(BodyWriter) -> T + 'static,
    ) -> Self {
        let maker = move |writer| -> Pin<Box<dyn Future<Output = bool>>> {
            Box::pin(async move { make(writer).await.whole() })
        };
        Self::new(200)
            .header("content-type", media_type)
            .body(Body::Stream(Box::new(maker)))
    }

    /// Makes a response of server-sent events, for a browser's `EventSource`.
    /// It is never stored by caches.
    ///
    /// ```
    /// use std::time::Duration;
    /// use netwasm_guest::http::{Events, Response};
    /// use netwasm_guest::sleep;
    ///
    /// async fn ticks() -> Response {
    ///     Response::events(async |mut events: Events| {
    ///         for number in 1..=3 {
    ///             events.send(number.to_string()).await;
    ///             sleep(Duration::from_secs(1)).await;
    ///         }
    ///     })
    /// }
    /// # let client = netwasm_guest::testing::Client::new(ticks);
    /// # let answer = client.get("/").send();
    /// # assert_eq!(answer.text(), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    /// ```
    pub fn events<T: Ended + 'static>(make: impl AsyncFnOnce(Events) -> T + 'static) -> Self {
        let body = async move |writer: BodyWriter| make(Events(writer)).await;
        Self::stream("text/event-stream", body).header("cache-control", "no-store")
    }
}

/// Sends a body piece by piece. See [`Response::stream`].
pub struct BodyWriter(pub(crate) Rc<Outlet>);

impl BodyWriter {
    /// Sends a piece, once there is room for it. What does not fit is queued by
    /// the host, so pieces should not be large.
    pub async fn write(&mut self, piece: impl AsRef<[u8]>) {
        self.0.room().await;
        self.0.send(piece.as_ref());
    }
}

/// Sends events. See [`Response::events`].
pub struct Events(BodyWriter);

impl Events {
    /// Sends an event of the type `message`.
    pub async fn send(&mut self, data: impl AsRef<str>) {
        self.write(None, data.as_ref()).await;
    }

    /// Sends an event of a type, for `addEventListener`.
    pub async fn send_as(&mut self, event: &str, data: impl AsRef<str>) {
        self.write(Some(event), data.as_ref()).await;
    }

    /// Sends a comment, which the client ignores, so that nobody between takes
    /// the connection for dead.
    pub async fn keep_alive(&mut self) {
        self.0.write(":\n\n").await;
    }

    async fn write(&mut self, event: Option<&str>, data: &str) {
        let mut text = String::new();
        if let Some(event) = event {
            line(&mut text, "event: ", event);
        }
        // Each line of the data is a line of its own.
        for part in data.split('\n') {
            line(&mut text, "data: ", part);
        }
        text.push('\n');
        self.0.write(text).await;
    }
}

/// The texts that are published to a topic, as server-sent events.
///
/// The host sends them, to any number of clients, without calling a handler. A
/// client that connects again gets what it has missed. In place of messages that it
/// cannot get, it gets an event of type `gap`, whose data is their number or `unknown`.
///
/// ```
/// use netwasm_guest::http::{Path, Response, Router, TopicEvents};
/// use netwasm_guest::websocket;
///
/// fn scores() -> Router {
///     Router::new()
///         .get("/scores", async || TopicEvents::of("scores"))
///         .post("/scores/{score}", goal)
/// }
///
/// async fn goal(Path(score): Path<String>) -> Response {
///     websocket::publish("scores", score);
///     Response::new(204)
/// }
/// # let client = netwasm_guest::testing::Client::new(scores);
/// # assert_eq!(client.get("/scores").send().topic(), Some("scores"));
/// # assert_eq!(client.post("/scores/1:0", "").send().status(), 204);
/// ```
pub struct TopicEvents(RawEvents);

impl TopicEvents {
    /// Makes events of the messages of a topic, which has a name of 1 to 256 bytes.
    pub fn of(topic: impl Into<String>) -> Self {
        Self(RawEvents {
            topic: topic.into(),
            event: None,
            retry: None,
        })
    }

    /// Sets the type of the events, for `addEventListener`; `message` unless set.
    pub fn named(mut self, event: &str) -> Self {
        let mut name = event.to_owned();
        name.retain(|letter| !matches!(letter, '\r' | '\n'));
        self.0.event = Some(name);
        self
    }

    /// Sets the time after which a client connects again.
    pub const fn retry(mut self, after: Duration) -> Self {
        self.0.retry = Some(after);
        self
    }
}

impl From<TopicEvents> for Response {
    fn from(events: TopicEvents) -> Self {
        Self::new(200).body(Body::Events(events.0))
    }
}

/// Writes a line, without line ends in it.
fn line(text: &mut String, name: &str, value: &str) {
    text.push_str(name);
    text.extend(value.chars().filter(|c| !matches!(c, '\r' | '\n')));
    text.push('\n');
}

/// Return value of a function that makes a body: nothing, or a result whose
/// error is logged.
pub trait Ended {
    #[doc(hidden)]
    fn whole(self) -> bool;
}

impl Ended for () {
    fn whole(self) -> bool {
        true
    }
}

impl<E: Display> Ended for Result<(), E> {
    fn whole(self) -> bool {
        if let Err(error) = &self {
            log::write(log::Level::Error, &error.to_string());
        }
        self.is_ok()
    }
}

/// Bodies natively, in memory.
#[cfg(not(target_family = "wasm"))]
pub(crate) mod memory {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::{BodyWriter, Maker};

    #[derive(Default)]
    pub(crate) struct Outlet(RefCell<Vec<u8>>);

    impl Outlet {
        pub(super) async fn room(&self) {}

        pub(super) fn send(&self, piece: &[u8]) {
            self.0.borrow_mut().extend_from_slice(piece);
        }
    }

    /// Makes a body, and returns what there is of it, and true if it is whole.
    pub(crate) fn make(maker: Maker) -> (Vec<u8>, bool) {
        let outlet = Rc::new(Outlet::default());
        let whole = crate::testing::block_on(maker(BodyWriter(outlet.clone())));
        (outlet.0.take(), whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Client;

    #[test]
    fn an_event_has_a_line_for_each_of_its_lines_and_cannot_be_forged() {
        async fn events() -> Response {
            Response::events(async |mut events: Events| {
                events.send("one\r\ntwo").await;
                events.send_as("x\ndata: forged", "three").await;
                events.keep_alive().await;
            })
        }
        let answer = Client::new(events).get("/").send();
        assert_eq!(
            answer.header("content-type").as_deref(),
            Some("text/event-stream")
        );
        assert_eq!(
            answer.text(),
            "data: one\ndata: two\n\nevent: xdata: forged\ndata: three\n\n:\n\n"
        );
    }

    #[test]
    fn a_body_that_fails_is_not_whole() {
        async fn fails() -> Response {
            Response::stream("text/plain", async |mut body: BodyWriter| {
                body.write("half").await;
                Err("no more")
            })
        }
        let answer = Client::new(fails).get("/").send();
        assert_eq!((&*answer.text(), answer.is_whole()), ("half", false));
    }
}
