//! Requests that are forwarded.

use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header;
use http::request::Parts;

use netwasm_exchange::answer::Answer;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::request::Request;

use super::AnsweringStream;
use crate::exchange;
use crate::forward::{Forwarding, Upgrade};
use crate::h2::incoming::Http2Body;
use crate::h2::line::LogLine;
use crate::h2::link;
use crate::h2::request::AcceptLines;
use crate::h2::stream::Outcome;
use crate::response;

/// A request that is forwarded.
pub(in crate::h2) struct Forwarded {
    pub(in crate::h2) request: Box<Request>,
    pub(in crate::h2) forwarding: Box<Forwarding>,
    pub(in crate::h2) incoming: Rc<Http2Body>,
    pub(in crate::h2) outgoing: SendResponse<Bytes>,
    /// Stream that follows the request, if that wants another protocol.
    pub(in crate::h2) tunnel: Option<RecvStream>,
}

/// Forwards a request, and passes its response on. Dropping the future cancels
/// the request.
pub(in crate::h2) fn forward(
    forwarded: Forwarded,
    head: Parts,
    line: LogLine,
) -> impl Future<Output = Outcome> {
    let answering = AnsweringStream::of_upstream(forwarded, head, line);
    answering.run()
}

impl AnsweringStream {
    /// Tells the client that its stream has changed to the protocol that it wants,
    /// and relays that.
    pub(super) async fn relay(&mut self, mut upgrade: Upgrade) -> Option<()> {
        let (mut line, mut outgoing) = (self.line.take()?, self.outgoing.take()?);
        let from = self.tunnel.take()?;
        let mut headers = std::mem::take(&mut upgrade.headers);
        response::drop_framing(&mut headers);
        // RFC 8441, section 5.1.
        headers.remove(header::SEC_WEBSOCKET_ACCEPT);
        headers.remove(header::CONTENT_LENGTH);
        line.status = 200;
        let response = link::head(200, headers)?;
        // An error means that the client has left.
        let to = outgoing.send_response(response, false).ok()?;
        line.sent = upgrade.relay(from, to).await;
        self.finished();
        Some(())
    }

    /// Begins to forward a request that was deferred.
    ///
    /// # Errors
    /// Fails with the answer to send instead.
    pub(super) fn forward_deferred(&mut self, forward: Box<Forward>) -> Result<(), Answer> {
        let coming = self.unforwarded.take();
        let expects = self.incoming.expects_continue();
        let Some((request, _)) = &mut self.event else {
            return Err(exchange::gone());
        };
        let site = request.site.clone();
        let env = self.link.env(&site);
        let forwarding = exchange::forward(request, forward, coming, expects, false, env)?;
        (_, self.requests) = self.link.local.nobody();
        self.forwarding = Some(forwarding);
        self.is_forwarded = true;
        Ok(())
    }

    fn of_upstream(forwarded: Forwarded, mut head: Parts, line: LogLine) -> Self {
        // The request was composed of its fields.
        head.headers.clear();
        let Forwarded {
            request,
            forwarding,
            incoming,
            outgoing,
            tunnel,
        } = forwarded;
        let (reply, requests) = line.link.local.nobody();
        Self {
            link: Rc::clone(&line.link),
            head,
            accept: AcceptLines::default(),
            incoming,
            outgoing: Some(outgoing),
            reply,
            requests,
            event: Some((request, Deferred::new(|| {}))),
            unforwarded: None,
            tunnel,
            forwarding: Some(forwarding),
            is_forwarded: true,
            line: Some(line),
            tells_length: true,
            unread: None,
            over: false,
        }
    }
}
