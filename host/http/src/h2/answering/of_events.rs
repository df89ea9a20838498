//! Requests of event guests that are answered later, or piece by piece.

use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::HeaderMap;
use http::request::Parts;

use netwasm_exchange::answer::Answer;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::reply::Answered;
use netwasm_exchange::request::Request;

use super::AnsweringStream;
use crate::exchange::{self, Streamed};
use crate::h2::incoming::Http2Body;
use crate::h2::line::LogLine;
use crate::h2::link;
use crate::h2::request::AcceptLines;
use crate::h2::stream::{Outcome, Stream};

/// A request of an event guest that is answered later.
pub(in crate::h2) struct Later {
    pub(in crate::h2) request: Box<Request>,
    pub(in crate::h2) deferred: Rc<Deferred>,
    /// The body, unless the guest reads it.
    pub(in crate::h2) unread: Option<RequestBody>,
    pub(in crate::h2) incoming: Rc<Http2Body>,
    pub(in crate::h2) outgoing: SendResponse<Bytes>,
}

/// Waits for an event guest's answer to a request, and sends it. If the future is
/// dropped, even before it was polled, the guest hears that nobody waits.
pub(in crate::h2) fn answer_later(
    later: Later,
    head: Parts,
    line: LogLine,
) -> impl Future<Output = Outcome> {
    let answering = AnsweringStream::of_event(later, head, line);
    answering.run()
}

impl AnsweringStream {
    fn of_event(later: Later, mut head: Parts, line: LogLine) -> Self {
        // The request has its fields.
        head.headers.clear();
        let Later {
            request,
            deferred,
            unread,
            incoming,
            outgoing,
        } = later;
        let (reply, _) = line.link.local.nobody();
        Self {
            link: Rc::clone(&line.link),
            head,
            accept: AcceptLines::default(),
            incoming,
            outgoing: Some(outgoing),
            reply,
            requests: Rc::<Deferred>::clone(&deferred),
            event: Some((request, deferred)),
            unforwarded: unread,
            tunnel: None,
            forwarding: None,
            is_forwarded: false,
            line: Some(line),
            tells_length: true,
            unread: None,
            over: false,
        }
    }

    /// Returns the response of an event guest that streams its body.
    ///
    /// # Errors
    /// Fails with an answer that is whole.
    pub(super) fn streamed(&self, answer: Answer) -> Result<Answered, Answer> {
        let Some((request, _)) = &self.event else {
            return Err(answer);
        };
        let Streamed { answered, closes } =
            exchange::streamed(answer, request, self.link.env(&request.site))?;
        if closes {
            self.link.closes.set(true);
        }
        Ok(answered)
    }

    /// Sends `100 Continue` before the response, if the guest goes on to read.
    pub(super) fn go_on_reading(&mut self) {
        if self.incoming.take_continue_for_reader()
            && let Some(outgoing) = &mut self.outgoing
        {
            let response = link::head(100, HeaderMap::new());
            // An error means that the client has left.
            let _ = response.map(|it| outgoing.send_informational(it));
        }
    }

    /// Sends a whole answer, and waits while the guest still reads the request.
    /// Returns what finds no room.
    pub(super) async fn send_whole(&mut self, answer: Answer) -> Option<Stream> {
        let (request, _) = self.event.take()?;
        let (outgoing, line) = (self.outgoing.take()?, self.line.take()?);
        let sending = self.link.send(&request, answer, outgoing, line);
        self.link.local.put_request(request);
        if !self.incoming.is_read() {
            self.finished();
            return sending;
        }
        if let Some(sending) = sending {
            sending.await;
        }
        self.read_on().await;
        self.tell_refusal();
        self.finished();
        None
    }
}
