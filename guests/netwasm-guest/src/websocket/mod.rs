//! WebSocket connections: messages, whole, as an async stream.
//!
//! ```
//! use netwasm_guest::Result;
//! use netwasm_guest::websocket::WebSocket;
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(websocket: echo);
//!
//! async fn echo(mut socket: WebSocket) -> Result<()> {
//!     while let Some(message) = socket.receive().await {
//!         socket.send(message).await?;
//!     }
//!     Ok(())
//! }
//! # let mut client = netwasm_guest::testing::websocket(echo, "/");
//! # client.send("hello");
//! # client.expect("hello");
//! ```
//!
//! Or a function that decides about each request, and names the function for those
//! that it takes:
//!
//! ```
//! use netwasm_guest::Result;
//! use netwasm_guest::http::{Request, Response};
//! use netwasm_guest::websocket::{Opening, WebSocket};
//!
//! # #[cfg(not(doctest))]
//! netwasm_guest::export!(websocket: open);
//!
//! fn open(request: &Request<'_>) -> Opening {
//!     match request.path().strip_prefix("/rooms/") {
//!         Some(room) => {
//!             let room = room.to_owned();
//!             Opening::accept(async move |socket| chat(socket, room).await).protocol("chat")
//!         }
//!         None => Opening::refuse(Response::error(404)),
//!     }
//! }
//!
//! async fn chat(mut socket: WebSocket, room: String) -> Result<()> {
//!     socket.send(format!("this is {room}")).await
//! }
//! # let mut client = netwasm_guest::testing::websocket(open, "/rooms/a");
//! # client.expect("this is a");
//! # let refused = netwasm_guest::testing::try_websocket(open, "/");
//! # assert_eq!(refused.err().map(|answer| answer.status()), Some(404));
//! ```
//!
//! `export!(websocket: ..., http: ...)` answers other requests, too: with the page
//! that connects, say. Without `http`, they get a 426.
//!
//! [`connect()`] opens a connection to another server, as a client. Its type is the
//! same.

mod connect;
mod opening;
mod shared;
#[cfg(not(target_family = "wasm"))]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use crate::{Address, Error, Info, Result, executor, host};

pub(crate) use self::connect::connected;
pub use self::connect::{Connect, NotOpened, Refusal, connect};
#[cfg(target_family = "wasm")]
pub(crate) use self::connect::{find, register, release};
pub(crate) use self::opening::Decided;
pub use self::opening::{Opening, Opens};
pub(crate) use self::shared::{Opened, SharedWebSocket};

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }

    /// Returns the text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Message {
    fn from(data: Vec<u8>) -> Self {
        Self::Binary(data)
    }
}

impl From<&[u8]> for Message {
    fn from(data: &[u8]) -> Self {
        Self::Binary(data.to_vec())
    }
}

/// How a connection ended: RFC 6455, section 7.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code: 1000 for a normal end, 1001 if the peer goes away, 1005 if it gave
    /// no code, 1006 if it left without a word.
    pub code: u16,
    /// The reason, mostly empty.
    pub reason: String,
}

/// A WebSocket connection. Dropping it closes it with the code 1000.
pub struct WebSocket(Rc<SharedWebSocket>);

impl WebSocket {
    pub(crate) fn new(shared: &Rc<SharedWebSocket>) -> Self {
        Self(shared.clone())
    }

    /// Receives the next message. Returns `None` once the connection has ended.
    ///
    /// If messages arrive faster than they are received, the host stops receiving
    /// at some 64 KiB.
    pub fn receive(&mut self) -> impl Future<Output = Option<Message>> {
        let shared = &*self.0;
        std::future::poll_fn(move |cx| shared.poll_receive(cx))
    }

    /// Sends a message: a text or bytes.
    ///
    /// Waits first if the client did not keep up with what was sent before.
    ///
    /// # Errors
    /// The connection has ended or is closing.
    pub async fn send(&self, message: impl Into<Message>) -> Result<()> {
        let message = message.into();
        std::future::poll_fn(|cx| self.0.poll_ready(cx)).await?;
        self.0.send(&message);
        Ok(())
    }

    /// Sends a message without waiting: it is queued for a client that does not
    /// keep up. Returns false if the client does not.
    ///
    /// # Errors
    /// The connection has ended or is closing.
    pub fn send_now(&self, message: impl Into<Message>) -> Result<bool> {
        match self.0.is_closing() {
            true => Err(Error::closed()),
            false => Ok(self.0.send(&message.into())),
        }
    }

    /// Subscribes to a topic, until the connection ends: the client gets what
    /// [`publish`] sends, without this handler.
    ///
    /// # Errors
    /// - `InvalidArgument`: the name is empty, or longer than 256 bytes.
    /// - `InvalidState`: the connection has ended.
    /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
    pub fn subscribe(&self, topic: &str) -> Result<()> {
        self.0.handle.subscribe(topic)
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, topic: &str) {
        self.0.handle.unsubscribe(topic);
    }

    /// Sends a message to all subscribers of a topic but this connection. Returns
    /// how many subscribers there are.
    pub fn publish(&self, topic: &str, message: impl Into<Message>) -> u64 {
        host::publish(topic, &message.into(), Some(&self.0.handle))
    }

    /// Closes the connection, with a code and a reason of up to 123 bytes, and
    /// waits until the client has agreed or has not for some time.
    ///
    /// # Errors
    /// - `InvalidArgument`: the code is not one that may be sent, or the reason is
    ///   too long. The connection is closed with 1000 then.
    /// - `InvalidState`: it is closing already, or has ended.
    pub async fn close(self, code: u16, reason: &str) -> Result<Closed> {
        self.0.close(code, reason)?;
        Ok(std::future::poll_fn(|cx| self.0.poll_closed(cx)).await)
    }

    /// Returns how the connection ended; `None` if it has not.
    pub fn closed(&self) -> Option<Closed> {
        self.0.closed()
    }

    /// Returns the number of bytes that wait to be sent.
    pub fn buffered(&self) -> u64 {
        self.0.handle.buffered()
    }

    /// Returns the addresses and the TLS session.
    pub fn info(&self) -> Info {
        self.0.handle.info()
    }

    /// Returns the protocol that was chosen of those that the client offers.
    pub fn protocol(&self) -> Option<&str> {
        self.0.opened.protocol.as_deref()
    }

    /// Returns the headers of the server's answer, if this host has opened the
    /// connection.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.0.opened.headers
    }

    /// Returns the address of the peer.
    pub fn peer(&self) -> Address {
        self.info().peer
    }
}

/// Sends a message to all connections that are subscribed to a topic, of all
/// instances and threads. Returns how many there are.
///
/// The host does it: no handler is called for a receiver.
///
/// ```
/// # use netwasm_guest::Result;
/// use netwasm_guest::websocket::{self, WebSocket};
///
/// async fn watch(mut socket: WebSocket) -> Result<()> {
///     socket.subscribe("prices")?;
///     while socket.receive().await.is_some() {}
///     Ok(())
/// }
/// # let mut client = netwasm_guest::testing::websocket(watch, "/");
/// // Anywhere else, in a handler of requests for example:
/// let watching = websocket::publish("prices", "tea: 3");
/// # assert_eq!(watching, 1);
/// # client.expect("tea: 3");
/// ```
pub fn publish(topic: &str, message: impl Into<Message>) -> u64 {
    host::publish(topic, &message.into(), None)
}

/// Returns the number of connections that are subscribed to a topic.
pub fn subscribers(topic: &str) -> u64 {
    host::subscribers(topic)
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        if !self.0.is_closing() {
            // It cannot fail: it is open, and the code is a good one.
            let _ = self.0.close(1000, "");
        }
    }
}

/// Starts the task of an accepted connection.
pub(crate) fn serve<F>(shared: &Rc<SharedWebSocket>, handler: impl FnOnce(WebSocket) -> F)
where
    F: Future + 'static,
    F::Output: executor::Outcome,
{
    let mut handled = Box::pin(handler(WebSocket::new(shared)));
    let shared = shared.clone();
    executor::start(std::future::poll_fn(move |cx| {
        let name = || shared.handle.peer_name();
        let outcome = handled.as_mut().poll(cx);
        outcome.map(|outcome| executor::Outcome::report(outcome, name))
    }));
}
