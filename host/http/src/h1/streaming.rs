//! Requests that are answered later. A request to an async guest goes to an
//! instance before its body has arrived, and the response is sent while it is
//! made. An event guest may defer a request, or make its response while it is
//! sent, and read the body while it arrives.

mod awaiting;
mod download;
mod failing;
mod forwarding;

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

pub(super) use self::download::Told;
use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::{Answer, Interim};
use netwasm_exchange::chunked::Chunked;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::deferred::{Deferred, Settled};
use netwasm_exchange::handler::Awaiting;
use netwasm_exchange::head::{Framing, HeadLimits};
use netwasm_exchange::reply::Reply;
use netwasm_exchange::request::Request;
use netwasm_net::thread::Tick;
use netwasm_net::transport::LOOK;

use self::download::{Download, Next};
use super::{Driver, Reading};
use crate::access_log::Entry;
use crate::exchange::{self, Streamed};
use crate::forward::Forwarding;
use crate::response::{self, Persistence};
use crate::upload::{Remaining, Upload, UploadEnd};

/// Maximum of an unread body that is received and dropped to keep the
/// connection alive, in bytes.
const DISCARD: u64 = 256 << 10;

/// Maximum of probes that ask a half-closed client whether it is still there.
/// One is not enough if a proxy is between.
const MOST_PROBES: u8 = 3;

/// Time after a probe until the reset of a closed socket is looked for.
const PROBED: Duration = Duration::from_millis(200);

/// A request that an instance is handling.
#[derive(Debug)]
pub(super) struct Answering {
    /// The request's head.
    request: Box<Request>,
    entry: Option<Entry>,
    upload: Option<Rc<Upload>>,
    /// The unread body of a deferred request, which may be forwarded yet.
    unread: Option<RequestBody>,
    reply: Rc<Reply>,
    /// The instance that is handling the request.
    requests: Rc<dyn Awaiting>,
    /// Deadline for the response to begin, for its next piece or trailers, or
    /// for the guest to read on in the request.
    deadline: Option<Tick>,
    /// Time at which the guest last made some of the response.
    made: Tick,
    /// Number of probes sent to the half-closed client.
    probes: u8,
    /// Time at which the client was found to have half-closed.
    ended: Option<Tick>,
    /// Time of the next check that the client is still there. Nothing is
    /// received until the response is sent.
    look: Tick,
    /// True if the response is an upstream's, not the guest's.
    is_forwarded: bool,
    stage: AnswerStage,
}

impl Answering {
    /// True if the response has begun and is not complete.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.stage, AnswerStage::Sending(_))
    }

    /// True if the response has not begun.
    fn is_waiting(&self) -> bool {
        matches!(
            self.stage,
            AnswerStage::Waiting | AnswerStage::Deferred(_) | AnswerStage::Forwarding(_)
        )
    }
}

#[derive(Debug)]
enum AnswerStage {
    /// The response has not begun.
    Waiting,
    /// Like `Waiting`, for a request of an event guest.
    Deferred(Rc<Deferred>),
    /// Like `Waiting`, for a request that is forwarded.
    Forwarding(Box<Forwarding>),
    Sending(Box<Download>),
    /// The response was sent, and the guest still reads the request, for
    /// example to forward it. If `last`, the connection ends after this
    /// request.
    Reading {
        last: bool,
    },
    /// The response was sent. Up to so many bytes of the request are dropped.
    Discarding(u64),
}

impl Driver {
    /// Returns the body of a request, of up to `most` bytes, with what has
    /// arrived of it; `None` if there is none.
    pub(super) fn upload(
        &self,
        request: &Request,
        most: u64,
        limits: &HeadLimits,
        input: &[u8],
    ) -> Option<Rc<Upload>> {
        let remaining = match request.head.framing() {
            Framing::None => return None,
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunked(Chunked::new(most, limits)),
        };
        let expects = request.head.expects_continue();
        let upload = Upload::new(&self.transport, remaining, input.to_vec(), expects);
        Some(upload)
    }

    /// Waits for the answer of an event guest to a request, whose body may be
    /// arriving: `unread`, unless the guest reads it.
    pub(super) fn defer(
        &mut self,
        request: Box<Request>,
        entry: Option<Entry>,
        upload: Option<Rc<Upload>>,
        unread: Option<RequestBody>,
        deferred: Rc<Deferred>,
    ) {
        let thread = Rc::clone(self.thread());
        let requests: Rc<dyn Awaiting> = Rc::<Deferred>::clone(&deferred);
        let (reply, _) = self.local.nobody();
        self.exchange.reading = Reading::Answer(Box::new(Answering {
            request,
            entry,
            upload,
            unread,
            reply,
            requests,
            deadline: Some(thread.tick_after(self.limits().response_timeout)),
            made: thread.now(),
            probes: 0,
            ended: None,
            look: thread.tick_after(LOOK),
            is_forwarded: false,
            stage: AnswerStage::Deferred(deferred),
        }));
        self.arm();
    }

    /// Sets the alarm for the first deadline.
    fn arm(&self) {
        let Reading::Answer(answering) = &self.exchange.reading else {
            return;
        };
        let body = answering.upload.as_ref().and_then(|it| it.deadline());
        let unsaid = !matches!(answering.stage, AnswerStage::Discarding(_));
        let look = unsaid.then_some(answering.look);
        let first = [answering.deadline, body, look].into_iter().flatten().min();
        self.transport.set_alarm_at(first);
    }

    /// Continues the request that an instance is handling. Ready once something
    /// has changed.
    pub(super) fn poll_answering(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Reading::Answer(answering) =
            std::mem::replace(&mut self.exchange.reading, Reading::Head(None))
        else {
            return Poll::Ready(());
        };
        let local = Rc::clone(&self.local);
        let mut out = local.out();
        let before = self.exchange.written;
        let went = self.go_on(answering, cx, &mut out);
        self.write_out(&mut out);
        drop(out);
        self.tell_sent();
        let wrote = self.exchange.written != before;
        match went {
            Some(answering) => {
                self.exchange.reading = Reading::Answer(answering);
                self.arm();
                // Queued output is flushed, now or later.
                match wrote && self.transport.queued() > 0 {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }
            None => Poll::Ready(()),
        }
    }

    /// Returns the request unless it is done with.
    fn go_on(
        &mut self,
        mut answering: Box<Answering>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        if let Some(upload) = &answering.upload {
            if upload.take_continue() && answering.is_waiting() {
                response::write_continue(out);
            }
            match upload.end() {
                Some(UploadEnd::Refused(refusal)) => {
                    self.abandon(*answering, Some(refusal), out);
                    return None;
                }
                Some(UploadEnd::Lost(_)) => {
                    self.client_left(*answering, out);
                    return None;
                }
                Some(UploadEnd::Whole) | None => {}
            }
        }
        loop {
            match &mut answering.stage {
                AnswerStage::Waiting => {
                    let informed = answering.reply.take_interim();
                    self.send_interim(&answering.request, informed, out);
                    match answering.reply.poll_answer(cx) {
                        Poll::Pending => return Some(answering),
                        Poll::Ready(Ok(answered)) => {
                            answering = self.begin_response(answering, answered, false, out)?;
                        }
                        Poll::Ready(Err(reason)) => {
                            self.refuse_response(*answering, &reason, out);
                            return None;
                        }
                    }
                }
                AnswerStage::Deferred(deferred) => {
                    let deferred = Rc::clone(deferred);
                    self.send_interim(&answering.request, deferred.take_interim(), out);
                    match deferred.poll(cx) {
                        Poll::Pending => return Some(answering),
                        Poll::Ready(Some(Settled::Forward(forward))) => {
                            answering = self.forward_deferred(answering, forward, out)?;
                        }
                        Poll::Ready(settled) => {
                            let answer = match settled {
                                Some(Settled::Answer(answer)) => answer,
                                _ => exchange::gone(),
                            };
                            // Nobody reads it any more.
                            answering.unread = None;
                            answering = self.begin_answer(answering, answer, out)?;
                        }
                    }
                }
                AnswerStage::Forwarding(_) => {
                    answering = self.go_on_forwarding(answering, cx, out)?;
                    if answering.is_waiting() {
                        return Some(answering);
                    }
                }
                AnswerStage::Sending(download) => {
                    let before = download.sent;
                    let polled = self.send_body(&mut answering, cx, out);
                    if let AnswerStage::Sending(download) = &answering.stage
                        && download.sent != before
                    {
                        answering.made = self.thread().now();
                    }
                    match polled {
                        Poll::Pending => return Some(answering),
                        Poll::Ready(Next::Complete) => {
                            answering = self.complete(answering, out)?;
                        }
                        Poll::Ready(Next::Broken) => {
                            self.break_off(*answering, "ends before its end", out);
                            return None;
                        }
                    }
                }
                AnswerStage::Reading { .. } => {
                    if answering.upload.as_ref().is_some_and(Upload::is_read)
                        && !answering.reply.has_returned()
                    {
                        answering.reply.watch(cx);
                        return Some(answering);
                    }
                    answering = self.stop_reading(answering)?;
                }
                AnswerStage::Discarding(left) => {
                    let Some(upload) = &answering.upload else {
                        return self.next_request(*answering);
                    };
                    match upload.poll_piece(cx) {
                        Poll::Pending => return Some(answering),
                        Poll::Ready(None) if upload.end() == Some(UploadEnd::Whole) => {
                            return self.next_request(*answering);
                        }
                        Poll::Ready(Some(piece)) if piece.len() as u64 <= *left => {
                            *left -= piece.len() as u64;
                        }
                        Poll::Ready(_) => {
                            if let Some(UploadEnd::Refused(refusal)) = upload.end() {
                                self.cut(&answering.request, refusal);
                            }
                            self.exchange.last = true;
                            return self.next_request(*answering);
                        }
                    }
                }
            }
        }
    }

    /// Begins an event guest's response, or sends it if it is whole. Returns what
    /// is left to do.
    fn begin_answer(
        &mut self,
        mut answering: Box<Answering>,
        answer: Answer,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        let local = Rc::clone(&self.local);
        let env = &local.account(&answering.request.site).net;
        match exchange::streamed(answer, &answering.request, env) {
            Ok(Streamed { answered, closes }) => {
                let upload = answering.upload.as_ref();
                if upload.is_some_and(Upload::take_continue_for_reader) {
                    response::write_continue(out);
                }
                self.begin_response(answering, answered, closes, out)
            }
            Err(answer) => {
                let entry = answering.entry.take();
                // A client that waits for `100 Continue` may send its body or
                // not. Where the next request begins is unknown then.
                let upload = answering.upload.as_ref();
                self.exchange.last = upload.is_some_and(|it| it.expects_continue());
                self.send(&answering.request, &answer, entry, out);
                let last = std::mem::take(&mut self.exchange.last);
                answering.stage = AnswerStage::Reading { last };
                answering.deadline = Some(self.thread().tick_after(self.limits().body_timeout));
                Some(answering)
            }
        }
    }

    /// Sends the interim responses that a guest has made. Some clients of
    /// HTTP/1.1 would take one for the answer.
    fn send_interim(&self, request: &Request, informed: Vec<Interim>, out: &mut Vec<u8>) {
        for interim in informed {
            let status = interim.status;
            let env = &self.local.account(&request.site).net;
            if self.limits().send_informational
                && request.head.minor_version() > 0
                && let Some(headers) = exchange::interim(interim, request.head.target(), env)
            {
                response::write_interim(status, &headers, out);
            }
        }
    }

    /// Ends the response. Returns what is left to do before the next request.
    fn complete(&mut self, mut answering: Box<Answering>, out: &[u8]) -> Option<Box<Answering>> {
        let AnswerStage::Sending(download) = &mut answering.stage else {
            return None;
        };
        let (status, sent) = (download.status, download.sent);
        let last = download.persistence == Persistence::Closed;
        self.tell_when_sent(&mut download.told, out);
        self.log_later(answering.entry.take(), status, sent, out);
        answering.stage = AnswerStage::Reading { last };
        answering.deadline = Some(self.thread().tick_after(self.limits().body_timeout));
        Some(answering)
    }

    /// Ends the guest's reading of the request. Returns what is left to do
    /// before the next request.
    fn stop_reading(&mut self, mut answering: Box<Answering>) -> Option<Box<Answering>> {
        answering.reply.finish();
        answering.deadline = None;
        let stage = std::mem::replace(&mut answering.stage, AnswerStage::Discarding(DISCARD));
        self.exchange.last |= matches!(stage, AnswerStage::Reading { last: true });
        let unread = match &answering.upload {
            Some(upload) => {
                upload.close();
                upload.end().is_none()
            }
            None => false,
        };
        self.exchange.whole = self.exchange.last && !unread;
        if self.exchange.last || !unread {
            return self.next_request(*answering);
        }
        Some(answering)
    }

    /// Tells a guest once all that was written so far is sent. Returns false if
    /// the guest was registered before.
    fn tell_when_sent(&mut self, told: &mut Option<Told>, out: &[u8]) -> bool {
        let Some(told) = told.take() else {
            return false;
        };
        if told.is_awaited() {
            let end = self.exchange.written + out.len() as u64;
            let owed = self.exchange.owed.get_or_insert_default();
            owed.untold.push_back((told, end));
        }
        true
    }

    /// Tells guests whose responses have been sent.
    pub(super) fn tell_sent(&mut self) {
        let sent = self.sent();
        let Some(owed) = &mut self.exchange.owed else {
            return;
        };
        while let Some((mut told, _)) = owed.untold.pop_front_if(|(_, end)| *end <= sent) {
            if let Some(told) = told.sent.take() {
                // The guest may not listen.
                let _ = told.send(Ok(()));
            }
        }
        self.forget_owed();
    }

    /// Continues with what follows the request.
    fn next_request(&mut self, answering: Answering) -> Option<Box<Answering>> {
        if let Some(upload) = &answering.upload {
            self.exchange.kept = upload.take_rest();
            // A guest that still holds the body reads no more.
            upload.stop(UploadEnd::Lost(ConnectionError::Aborted));
        }
        // Of a deferred request, the body was not read here, and what follows
        // it is kept already.
        self.exchange.held = !self.exchange.kept.is_empty();
        let limits = self.limits();
        self.transport.set_alarm(Some(limits.keep_alive_timeout));
        self.local.put_request(answering.request);
        None
    }
}
