//! Requests that open a WebSocket connection on their stream: RFC 8441.

use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header;

use netwasm_exchange::request::Request;
use netwasm_exchange::websocket::Accepted;

use crate::exchange;
use crate::h2::line::LogLine;
use crate::h2::link::{self, Link};
use crate::h2::stream::{Outcome, Stream};
use crate::websocket::{self, Tunnel};

impl Link {
    /// Tells the client that its stream has changed to WebSocket. Returns what goes
    /// on.
    pub(super) fn open_websocket(
        self: &Rc<Self>,
        request: Box<Request>,
        mut accepted: Accepted,
        (from, mut outgoing): (RecvStream, SendResponse<Bytes>),
        mut line: LogLine,
    ) -> Option<Stream> {
        let site = request.site.clone();
        let env = self.env(&site);
        let fields = websocket::fields(&request, &mut accepted, env);
        let (mut headers, agreed) = match fields {
            Ok(fields) => fields,
            Err(fault) => {
                accepted.fail();
                let answer = exchange::unopened(env, request.head.target(), &fault);
                let form = request.error_form();
                self.local.put_request(request);
                return self.send_ours(false, form, answer, outgoing, line);
            }
        };
        self.local.put_request(request);
        // RFC 8441, section 5.1.
        headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        self.sign(&mut headers, true, true);
        line.status = 200;
        let response = link::head(200, headers)?;
        // An error means that the client has left.
        let Ok(to) = outgoing.send_response(response, false) else {
            accepted.fail();
            return None;
        };
        let tunnel = Tunnel::new(
            &self.local,
            site,
            accepted,
            agreed,
            (from, to),
            &self.websockets,
        );
        Some(Box::pin(async move {
            let mut line = line;
            line.sent = tunnel.run().await;
            Outcome::Over
        }))
    }
}
