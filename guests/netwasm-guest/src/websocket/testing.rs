//! Clients of WebSocket handlers in memory.

use std::rc::Rc;

use super::{Decided, Message, Opens, SharedWebSocket};
use crate::host::memory::{RawRequest, RequestData, WebSocketHandle, Wire};
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
            let shared = SharedWebSocket::new(WebSocketHandle(wire.clone()));
            (accepted.start)(&shared);
            run();
            Ok(WebSocketClient {
                shared,
                wire,
                protocol: accepted.protocol,
            })
        }
    }
}

/// The client's end of a WebSocket connection.
pub struct WebSocketClient {
    shared: Rc<SharedWebSocket>,
    wire: Rc<Wire>,
    protocol: Option<String>,
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

    /// Returns the protocol that the handler has chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Returns true if the handler receives nothing now: backpressure.
    pub fn is_paused(&self) -> bool {
        run();
        self.wire.paused.get()
    }
}
