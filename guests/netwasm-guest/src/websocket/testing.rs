//! Clients of WebSocket handlers in memory.

use std::rc::Rc;

use super::{Decided, Message, Opened, Opens, SharedWebSocket};
use crate::host::memory::{self, RawRequest, RequestData, WebSocketHandle, WebSocketServer, Wire};
use crate::http::testing::Answer;
use crate::http::{Method, Request};
use crate::testing::{patience, run, wait_for};

/// Connects to what `export!(websocket: ...)` takes.
///
/// # Panics
/// If it refuses.
#[track_caller]
pub fn websocket<M>(handler: impl Opens<M>, target: &str) -> WebSocketClient {
    match try_websocket(handler, target) {
        Ok(client) => client,
        Err(answer) => panic!("{target} is refused with {}", answer.status()),
    }
}

/// Connects to what `export!(websocket: ...)` takes.
///
/// # Errors
/// Returns its answer if it refuses.
pub fn try_websocket<M>(
    handler: impl Opens<M>,
    target: &str,
) -> Result<WebSocketClient, Box<Answer>> {
    let data = RequestData {
        headers: vec![("host".to_owned(), b"test.example".to_vec())],
        body: Vec::new(),
    };
    let opening = crate::http::within(&data, || {
        let request = Request::new(Method::Get, target, RawRequest(&data), true);
        handler.open(&request)
    });
    match opening.into_decided() {
        Decided::Refuse(response) => Err(Box::new(Answer::of(response))),
        Decided::Accept(accepted) => {
            let wire = Rc::<Wire>::default();
            let opened = Opened {
                protocol: accepted.protocol,
                ..Opened::default()
            };
            let shared = SharedWebSocket::new(WebSocketHandle(wire.clone()), opened);
            (accepted.start)(&shared);
            run();
            Ok(WebSocketClient { shared, wire })
        }
    }
}

/// Lets handlers connect to a URL, by [`websocket::connect`](crate::websocket::connect()).
pub fn listen_websocket(url: &str) -> WebSocketListener {
    WebSocketListener(memory::listen_websocket(url))
}

/// A server that handlers connect to; made by [`listen_websocket`].
pub struct WebSocketListener(Rc<WebSocketServer>);

impl WebSocketListener {
    /// Accepts the next connection of a handler. It is used as a client's is.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn accept(&mut self) -> WebSocketClient {
        let accepted = wait_for(|| !self.0.opened.borrow().is_empty(), patience());
        assert!(accepted, "expected a connection");
        self.try_accept()
            .unwrap_or_else(|| unreachable!("it is there"))
    }

    /// Accepts a connection if there is one now.
    pub fn try_accept(&mut self) -> Option<WebSocketClient> {
        run();
        let (shared, wire) = self.0.opened.borrow_mut().pop_front()?;
        Some(WebSocketClient { shared, wire })
    }

    /// Chooses a protocol for the connections to come.
    pub fn choose(&mut self, protocol: impl Into<String>) {
        *self.0.protocol.borrow_mut() = Some(protocol.into());
    }

    /// Refuses the connections to come with this status.
    pub fn refuse(&mut self, status: u16) {
        self.0.refusal.set(Some(status));
    }

    /// Returns the protocols that the last connection has offered.
    pub fn offered(&self) -> Vec<String> {
        self.0.offered.borrow().clone()
    }
}

/// The other end of a handler's WebSocket connection: a client's, or that of a
/// server that the handler has connected to.
pub struct WebSocketClient {
    shared: Rc<SharedWebSocket>,
    wire: Rc<Wire>,
}

impl WebSocketClient {
    /// Sends a message: a text or bytes.
    pub fn send(&mut self, message: impl Into<Message>) {
        self.shared.received(message.into());
        run();
    }

    /// Receives exactly this message.
    ///
    /// # Panics
    /// If another one comes, or none.
    #[track_caller]
    pub fn expect(&mut self, message: impl Into<Message>) {
        let expected = message.into();
        assert_eq!(self.receive(), Some(expected));
    }

    /// Receives the next message; `None` if none comes.
    pub fn receive(&mut self) -> Option<Message> {
        wait_for(|| !self.wire.sent.borrow().is_empty(), patience());
        let (message, drained) = self.wire.take()?;
        if drained {
            self.shared.drained();
            run();
        }
        Some(message)
    }

    /// Expects that nothing is there to be received now.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        run();
        let sent = self.wire.sent.borrow();
        assert!(sent.is_empty(), "expected nothing, received {sent:?}");
    }

    /// Closes the connection.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.wire.ended.set(true);
        self.shared.ended(code, reason.to_owned());
        run();
    }

    /// Expects that the handler closes the connection with this code, and agrees.
    ///
    /// # Panics
    /// If it does not, or with another code.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        wait_for(|| self.wire.closed.borrow().is_some(), patience());
        let closed = self.wire.closed.borrow().clone();
        assert_eq!(closed.as_ref().map(|(code, _)| *code), Some(code));
        let (code, reason) = closed.unwrap_or_default();
        self.close(code, &reason);
    }

    /// Returns the protocol that was chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.shared.opened.protocol.as_deref()
    }

    /// Returns true if the handler receives nothing now: backpressure.
    pub fn is_paused(&self) -> bool {
        run();
        self.wire.paused.get()
    }
}
