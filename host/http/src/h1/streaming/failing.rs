//! Requests that get no response, or an incomplete one: by the guest's fault,
//! by the client's, or for lack of time.
//!
//! A client that ends its sending side has closed its socket, or half-closed
//! and waits for its response. To TCP both are a FIN. It is noticed within a
//! second, without reading. From then on:
//!
//! - The client is probed by a byte that changes nothing: `100 Continue` before
//!   the response, a leading zero of the next chunk's size within it. A closed
//!   socket answers by a reset, and the guest is told.
//! - If HTTP has no such byte (HTTP/1.0, a body of known length), or if the
//!   client is there, it waits as long as bytes come. `--half-close-timeout`
//!   bounds the silence between two. The kernel of a closed socket acknowledges
//!   TCP keepalive probes for 60 s, so these cannot tell sooner.
//!
//! Each stage of a response has its limit of silence, whatever the client does:
//! `--response-timeout` until it begins, `--response-body-timeout` until its
//! next piece, `--response-timeout` again until its trailers, and
//! `--write-timeout` for the client to take it.

use netwasm_base::error::ConnectionError;
use netwasm_exchange::head::Refusal;
use netwasm_exchange::reply::NoResponse;
use netwasm_exchange::request::Request;
use netwasm_net::thread::Tick;
use netwasm_net::transport::Presence;

use super::download::Framed;
use super::{AnswerStage, Answering, LOOK, MOST_PROBES, PROBED};
use crate::exchange::{self, CLIENT_LEFT, SLOW_BODY};
use crate::h1::{Driver, Reading};
use crate::response;
use crate::upload::UploadEnd;

impl Driver {
    /// Answers in the guest's place, which has no response.
    pub(super) fn refuse_response(
        &mut self,
        mut answering: Answering,
        reason: &NoResponse,
        out: &mut Vec<u8>,
    ) {
        let path = answering.request.head.target();
        let env = &self.local.account(&answering.request.site).net;
        let answer = exchange::missing(env, path, reason);
        let unread = answering
            .upload
            .as_ref()
            .is_some_and(|it| it.end().is_none());
        let entry = answering.entry.take();
        if unread {
            self.exchange.last = true;
        }
        self.answer_for(&answering.request, &answer, entry, out);
        answering.reply.finish();
        self.next_request(answering);
    }

    /// Ends a response that cannot be completed. What was sent must not look
    /// whole.
    pub(super) fn break_off(&mut self, mut answering: Answering, why: &str, out: &mut Vec<u8>) {
        let request = &answering.request;
        if !answering.is_forwarded {
            exchange::broken(
                &self.local.account(&request.site).net,
                request.head.target(),
                why,
            );
        }
        let mut closed = false;
        if let AnswerStage::Sending(download) = answering.stage {
            closed = download.framing == Framed::Closed;
            self.log_later(answering.entry.take(), download.status, download.sent, out);
        }
        self.write_out(out);
        answering.requests.clone().abandon(&answering.reply);
        if let Some(upload) = answering.upload {
            upload.stop(UploadEnd::Lost(ConnectionError::Aborted));
        }
        // The sent part arrives. Length or chunks show that it is incomplete.
        self.exchange.last = true;
        if closed {
            self.transport.reset_on_close();
            self.transport.fail(ConnectionError::Aborted);
        }
    }

    pub(super) fn client_left(&mut self, answering: Answering, out: &mut Vec<u8>) {
        exchange::left(&self.transport);
        self.exchange.ended = true;
        self.abandon(answering, None, out);
    }

    /// Cancels a request whose client is gone, or that is refused.
    pub(super) fn abandon(
        &mut self,
        answering: Answering,
        refusal: Option<Refusal>,
        out: &mut Vec<u8>,
    ) {
        answering.requests.clone().abandon(&answering.reply);
        if let Some(upload) = &answering.upload {
            upload.stop(UploadEnd::Lost(ConnectionError::Reset));
        }
        match (refusal, answering.stage) {
            (
                Some(refusal),
                AnswerStage::Waiting | AnswerStage::Deferred(_) | AnswerStage::Forwarding(_),
            ) => {
                self.refuse(answering.request, refusal, out);
            }
            (refusal, AnswerStage::Sending(download)) => {
                if let Some(refusal) = refusal {
                    self.cut(&answering.request, refusal);
                }
                self.log_later(answering.entry, download.status, download.sent, out);
                self.write_out(out);
                self.transport.reset_on_close();
                self.transport.fail(ConnectionError::Aborted);
            }
            (
                None,
                AnswerStage::Waiting | AnswerStage::Deferred(_) | AnswerStage::Forwarding(_),
            ) => {
                self.log_later(answering.entry, CLIENT_LEFT, 0, out);
                self.exchange.last = true;
            }
            (refusal, AnswerStage::Reading { .. } | AnswerStage::Discarding(_)) => {
                if let Some(refusal) = refusal {
                    self.cut(&answering.request, refusal);
                }
                self.exchange.last = true;
                // The client may still be sending.
                self.exchange.whole = false;
            }
        }
    }

    /// Counts and logs that the rest of a request is refused, whose response has begun.
    pub(super) fn cut(&self, request: &Request, refusal: Refusal) {
        let env = &self.local.account(&request.site).net;
        exchange::cut(env, &self.transport, refusal);
    }

    /// Handles the alarm while an instance is handling a request.
    pub(in crate::h1) fn answer_late(&mut self, mut answering: Box<Answering>, out: &mut Vec<u8>) {
        let now = self.thread().now();
        let late = |deadline: Option<Tick>| deadline.is_some_and(|it| now >= it);
        if late(Some(answering.look)) && !matches!(answering.stage, AnswerStage::Discarding(_)) {
            let mut next = LOOK;
            match self.transport.presence() {
                Presence::Gone => return self.client_left(*answering, out),
                Presence::Ended => {
                    let ended = *answering.ended.get_or_insert(now);
                    if self.waited_too_long(ended) {
                        tracing::info!(peer = %self.transport.peer(),
                            "nothing was sent since the client ended its side \
                             (--half-close-timeout)");
                        return self.client_left(*answering, out);
                    }
                    if self.probe(&mut answering, out) {
                        next = PROBED;
                    }
                }
                Presence::There => {}
            }
            answering.look = self.thread().tick_after(next);
        }
        if late(answering.deadline) && answering.is_waiting() {
            // An arriving body has its own time-out. The time for the response
            // begins when the guest last got some of it.
            let limit = self.limits().response_timeout;
            if let Some(upload) = &answering.upload {
                let since = now.saturating_sub(upload.moved());
                let due = self.thread().tick_after(limit).saturating_sub(since);
                if due > now {
                    answering.deadline = Some(due);
                    self.exchange.reading = Reading::Answer(answering);
                    return self.arm();
                }
            }
            let request = &answering.request;
            exchange::late(
                &self.local.account(&request.site).net,
                request.head.target(),
            );
            answering.requests.clone().abandon(&answering.reply);
            self.exchange.last |= answering
                .upload
                .as_ref()
                .is_some_and(|it| it.end().is_none());
            return self.refuse_response(*answering, &NoResponse::TimedOut, out);
        }
        if let Some(upload) = &answering.upload
            && late(upload.deadline())
        {
            upload.stop(UploadEnd::Refused(SLOW_BODY));
        }
        match &answering.stage {
            AnswerStage::Sending(download) if late(answering.deadline) && !download.is_whole() => {
                let limit = self.limits().response_body_timeout;
                if self.transport.queued() > 0 {
                    // The client must first take what is queued.
                    answering.made = now;
                }
                if !self.thread().passed(answering.made, limit) {
                    let due = self.thread().tick_after(limit) - (now - answering.made);
                    answering.deadline = Some(due);
                } else {
                    if answering.is_forwarded {
                        let request = &answering.request;
                        let env = &self.local.account(&request.site).net;
                        exchange::silent(env, request.head.target());
                    }
                    let why = "does not go on in time (--response-body-timeout)";
                    return self.break_off(*answering, why, out);
                }
            }
            AnswerStage::Reading { .. } if late(answering.deadline) => {
                let moved = answering.upload.as_ref().map_or(now, |it| it.moved());
                let limit = self.thread().tick_after(self.limits().body_timeout);
                let due = limit.saturating_sub(now.saturating_sub(moved));
                if due > now {
                    answering.deadline = Some(due);
                } else {
                    exchange::untaken(answering.request.head.target());
                    match self.stop_reading(answering) {
                        Some(left) => answering = left,
                        None => return,
                    }
                }
            }
            _ => {}
        }
        self.exchange.reading = Reading::Answer(answering);
        self.arm();
    }

    /// True if a half-closed client got nothing for too long.
    fn waited_too_long(&self, ended: Tick) -> bool {
        let thread = self.thread();
        let since = ended.max(self.transport.moved());
        let limit = thread.env.limits.half_close_timeout;
        limit.is_some_and(|limit| thread.passed(since, limit))
    }

    /// Probes whether a half-closed client is still there, if HTTP/1.1 has
    /// bytes that change nothing. A client that has closed its socket answers
    /// any byte by a reset. A client that waits for the rest of its response
    /// skips them. Returns true if a probe was sent.
    fn probe(&self, answering: &mut Answering, out: &mut Vec<u8>) -> bool {
        if answering.probes >= MOST_PROBES || self.transport.queued() > 0 {
            return false;
        }
        match &answering.stage {
            // Also to a client that does not expect it (RFC 9110, section
            // 15.2).
            AnswerStage::Waiting | AnswerStage::Deferred(_) | AnswerStage::Forwarding(_)
                if answering.request.head.minor_version() > 0 =>
            {
                response::write_continue(out);
            }
            // A leading zero of the next chunk's size.
            AnswerStage::Sending(download) if download.framing == Framed::Chunked => out.push(b'0'),
            _ => return false,
        }
        answering.probes += 1;
        true
    }

    /// Ends the request that an instance is handling, as the connection is
    /// lost.
    pub(in crate::h1) fn lose_answering(&mut self) {
        if let Reading::Answer(answering) =
            std::mem::replace(&mut self.exchange.reading, Reading::Head(None))
        {
            let Answering {
                entry,
                upload,
                reply,
                requests,
                stage,
                ..
            } = *answering;
            if let Some(upload) = upload {
                upload.stop(UploadEnd::Lost(ConnectionError::Aborted));
            }
            let (status, sent) = match &stage {
                AnswerStage::Sending(download) => (download.status, download.sent),
                AnswerStage::Waiting
                | AnswerStage::Deferred(_)
                | AnswerStage::Forwarding(_)
                | AnswerStage::Reading { .. }
                | AnswerStage::Discarding(_) => (CLIENT_LEFT, 0),
            };
            self.log_later(entry, status, sent, &[]);
            requests.abandon(&reply);
        }
        self.tell_sent();
        if let Some(owed) = &mut self.exchange.owed {
            owed.untold.clear();
        }
        self.exchange.own.close();
    }
}
