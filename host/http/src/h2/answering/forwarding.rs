//! Requests that are forwarded.

use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::request::Parts;

use netwasm_exchange::answer::Answer;
use netwasm_exchange::deferred::Deferred;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::Nobody;
use netwasm_exchange::request::Request;

use super::AnsweringStream;
use crate::exchange;
use crate::forward::Forwarding;
use crate::h2::incoming::Incoming;
use crate::h2::line::LogLine;
use crate::h2::stream::Outcome;
use crate::h2::unread;

/// A request that is forwarded.
pub(in crate::h2) struct Forwarded {
    pub(in crate::h2) request: Box<Request>,
    pub(in crate::h2) forwarding: Box<Forwarding>,
    pub(in crate::h2) incoming: Rc<Incoming>,
    pub(in crate::h2) outgoing: SendResponse<Bytes>,
}

/// Forwards a request, and passes its response on. Dropping the future cancels
/// the request.
pub(in crate::h2) fn forward(
    forwarded: Forwarded,
    head: Parts,
    line: LogLine,
) -> impl Future<Output = Outcome> {
    let mut answering = AnsweringStream::of_upstream(forwarded, head, line);
    async move {
        let rest = answering.finish().await;
        let unread = answering.unread.take();
        drop(answering);
        unread::forget_after(rest, unread).await
    }
}

impl AnsweringStream {
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
        self.requests = Rc::new(Nobody);
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
        } = forwarded;
        Self {
            link: Rc::clone(&line.link),
            head,
            incoming,
            outgoing: Some(outgoing),
            reply: Rc::default(),
            requests: Rc::new(Nobody),
            event: Some((request, Deferred::new(|| {}))),
            unforwarded: None,
            forwarding: Some(forwarding),
            is_forwarded: true,
            line: Some(line),
            tells_length: true,
            unread: None,
            over: false,
        }
    }
}
