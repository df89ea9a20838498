//! WebSocket connections, by the bindings.

use crate::bindings::netwasm::net::topics;
use crate::bindings::netwasm::net::websocket_client::{self, WebsocketOptions};
use crate::bindings::netwasm::net::websockets::{self, WebsocketId};
use crate::host::WebSocketOptions;
use crate::time::nanoseconds;
use crate::websocket::Message;
use crate::{Info, Result};

/// A WebSocket connection.
pub(crate) struct WebSocketHandle(WebsocketId);

impl From<WebsocketId> for WebSocketHandle {
    fn from(number: WebsocketId) -> Self {
        Self(number)
    }
}

impl WebSocketHandle {
    pub(crate) fn send(&self, message: &Message) -> u64 {
        match message {
            Message::Text(text) => websockets::send_text(self.0, text),
            Message::Binary(data) => websockets::send_binary(self.0, data),
        }
    }

    pub(crate) fn close(&self, code: u16, reason: &str) -> Result<()> {
        Ok(websockets::close(self.0, code, reason)?)
    }

    pub(crate) fn pause(&self, paused: bool) {
        match paused {
            true => websockets::pause_reading(self.0),
            false => websockets::resume_reading(self.0),
        }
    }

    pub(crate) fn subscribe(&self, topic: &str) -> Result<()> {
        Ok(topics::subscribe(self.0, topic)?)
    }

    pub(crate) fn unsubscribe(&self, topic: &str) {
        topics::unsubscribe(self.0, topic);
    }

    pub(crate) fn buffered(&self) -> u64 {
        websockets::buffered(self.0)
    }

    pub(crate) fn info(&self) -> Info {
        websockets::info(self.0).into()
    }

    pub(crate) fn peer_name(&self) -> String {
        crate::host::name_of(self.info().peer)
    }
}

/// Begins to open a connection.
pub(crate) fn connect_websocket(token: u64, url: &str, options: WebSocketOptions) -> Result<()> {
    let options = WebsocketOptions {
        protocols: options.protocols,
        headers: options.headers,
        tls: options.tls.map(Into::into),
        compress: options.compress,
        timeout: options.timeout.map(nanoseconds),
    };
    Ok(websocket_client::connect(token, url, &options)?)
}

pub(crate) fn cancel_websocket(token: u64) {
    websocket_client::cancel(token);
}

/// Sends a message to all subscribers of a topic but one.
pub(crate) fn publish(topic: &str, message: &Message, except: Option<&WebSocketHandle>) -> u64 {
    let except = except.map(|it| it.0);
    match message {
        Message::Text(text) => topics::publish_text(topic, text, except),
        Message::Binary(data) => topics::publish_binary(topic, data, except),
    }
}

pub(crate) fn subscribers(topic: &str) -> u64 {
    topics::subscribers(topic)
}
