//! Requests that open a WebSocket connection.

use std::rc::Rc;

use http::HeaderValue;

use netwasm_exchange::request::Request;
use netwasm_exchange::websocket::Accepted;

use crate::access_log::Entry;
use crate::exchange;
use crate::h1::{Driver, Reading, Stage};
use crate::response;
use crate::websocket::{self, WebSocketConnection};

impl Driver {
    /// Tells the client that its connection has changed to WebSocket.
    pub(super) fn open_websocket(
        &mut self,
        request: Box<Request>,
        mut accepted: Accepted,
        entry: Option<Entry>,
        out: &mut Vec<u8>,
    ) {
        let local = Rc::clone(&self.local);
        let env = &local.account(&request.site).net;
        let site = request.site.clone();
        match websocket::fields(&request, &mut accepted, env) {
            Ok((headers, agreed)) => {
                let protocol = HeaderValue::from_static("websocket");
                response::write_upgrade(&headers, &protocol, out);
                self.log_later(entry, 101, 0, out);
                // Messages of the guest follow it.
                self.write_out(out);
                let connection =
                    WebSocketConnection::new(&local, &self.transport, site, accepted, agreed);
                self.exchange.reading = Reading::WebSocket(Box::new(connection));
            }
            Err(fault) => {
                accepted.fail();
                let answer = exchange::unopened(env, request.head.target(), &fault);
                self.answer_for(&request, &answer, entry, out);
            }
        }
        local.put_request(request);
    }

    /// Goes on with messages.
    pub(super) fn begin_websocket(&mut self, mut connection: Box<WebSocketConnection>) -> Stage {
        self.log_unsent();
        self.exchange.own.close();
        self.transport.idle.set(false);
        connection.keep(std::mem::take(&mut self.exchange.kept));
        Stage::WebSocket(connection)
    }
}
