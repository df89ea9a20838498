//! Requests to guests that await: the request goes to an instance before its
//! body has come, and the response is sent while it is made.

use std::any::Any;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use http_body::Body as _;
use send_wrapper::SendWrapper;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{Driver, JOIN, Reading, SLOW_BODY, SMALL_FILE};
use crate::error::ConnectionError;
use crate::http::access_log::Entry;
use crate::http::chunked::Chunked;
use crate::http::hand_back::{Ended, FileContent, OpenContent};
use crate::http::head::{Framing, HeadLimits, Refusal};
use crate::http::local::clear;
use crate::http::moving::Moving;
use crate::http::reply::{NoResponse, Reply, Response, Sent};
use crate::http::request::Request;
use crate::http::response::{self, Persistence};
use crate::http::upload::{End, Remaining, RequestBody, Upload};
use crate::queue::FilePart;
use crate::wasm::concurrent::{self, Requests};
use crate::worker::Tick;

/// How many bytes of a body that the guest did not read are read for it, so
/// that the connection can go on.
const DISCARD: u64 = 256 << 10;

/// How often is looked whether a client still waits.
const LOOK: Duration = Duration::from_secs(1);

const UNTRANSLATABLE: Refusal = Refusal {
    status: 400,
    reason: "wasi:http has no such request",
};

/// A request that an instance is at.
#[derive(Debug)]
pub(super) struct Answering {
    /// Its head.
    request: Box<Request>,
    entry: Option<Entry>,
    upload: Option<Rc<Upload>>,
    reply: Rc<Reply>,
    /// The instance that is at it.
    requests: Rc<Requests>,
    /// Until when the response is to begin.
    deadline: Option<Tick>,
    /// When to look whether the client is still there, until it begins: nothing
    /// is received meanwhile.
    look: Tick,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The response has not begun.
    Waiting,
    Sending(Box<Download>),
    /// The response was sent; so many bytes of the request are yet to be read.
    Discarding(u64),
}

/// A response that is being sent.
struct Download {
    content: Content,
    framing: Framed,
    status: u16,
    /// Bytes of the body that were sent.
    sent: u64,
    told: Told,
    persistence: Persistence,
}

/// What is sent.
enum Content {
    Nothing,
    Frames(Moving<WasiBody>),
    /// A file, all of which the transport has; what follows it.
    File(Ended),
}

/// Whom to tell when a response was sent. Dropped, it tells that it was not.
#[derive(Default)]
pub(super) struct Told {
    sent: Option<Sent>,
    /// What goes when a file is no longer read.
    _reading: Option<Box<dyn Any>>,
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").finish_non_exhaustive()
    }
}

/// How the client finds the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    /// By its length, bytes.
    Length(u64),
    Chunked,
    /// By the end of the connection.
    Closed,
}

/// What becomes of the exchange.
enum Next {
    /// The response is complete.
    Complete,
    /// It cannot be completed: what was sent must not look whole.
    Broken,
}

impl Driver {
    /// Gives a request to an instance, with what has come of its body. Returns
    /// how much of that was used.
    pub(super) fn begin_answering(
        &mut self,
        mut request: Box<Request>,
        limits: &HeadLimits,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> usize {
        let most = self.limits().max_body as u64;
        let worker = Rc::clone(self.worker());
        request.secure = self.exchange.secure;
        let Some(head) = http_request(&request) else {
            self.refuse(request, UNTRANSLATABLE, out);
            return 0;
        };
        worker.shared.counters.requests.add();
        self.exchange.fresh = false;
        let remaining = match request.head.framing() {
            Framing::None => None,
            Framing::Length(length) => Some(Remaining::Length(length)),
            Framing::Chunked => Some(Remaining::Chunked(Chunked::new(most, limits))),
        };
        let used = if remaining.is_some() { input.len() } else { 0 };
        let upload = remaining.map(|remaining| {
            let expects = request.head.expects_continue();
            Upload::new(&self.transport, remaining, input.to_vec(), expects)
        });
        let entry = self.entry(&request.head);
        let reply: Rc<Reply> = Rc::default();
        let body = match &upload {
            Some(upload) => RequestBody::Upload(SendWrapper::new(Rc::clone(upload))),
            None => RequestBody::Empty,
        };
        let deadline = worker.tick_after(self.limits().response_timeout);
        let call = concurrent::Request {
            head: head.map(|()| body),
            secure: request.secure,
            reply: Rc::clone(&reply),
        };
        let requests = concurrent::begin(&worker, &mut self.exchange.requests, call);
        self.exchange.reading = Reading::Answer(Box::new(Answering {
            request,
            entry,
            upload,
            reply,
            requests,
            deadline: Some(deadline),
            look: worker.tick_after(LOOK),
            stage: Stage::Waiting,
        }));
        self.arm();
        used
    }

    /// Sets the alarm for the deadline that comes first.
    fn arm(&self) {
        let Reading::Answer(answering) = &self.exchange.reading else {
            return;
        };
        let body = answering.upload.as_ref().and_then(|it| it.deadline());
        let look = matches!(answering.stage, Stage::Waiting).then_some(answering.look);
        let first = [answering.deadline, body, look].into_iter().flatten().min();
        self.transport.set_alarm_at(first);
    }

    /// Goes on with the request that an instance is at; ready when something
    /// has changed.
    pub(super) fn poll_answering(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Reading::Answer(answering) =
            std::mem::replace(&mut self.exchange.reading, Reading::Head(None))
        else {
            return Poll::Ready(());
        };
        let worker = Rc::clone(self.worker());
        let mut out = worker.http.out();
        let before = self.exchange.written;
        let went = self.go_on(answering, cx, &mut out);
        self.write_out(&mut out);
        drop(out);
        let wrote = self.exchange.written != before;
        match went {
            Some(answering) => {
                self.exchange.reading = Reading::Answer(answering);
                self.arm();
                // What found no room is flushed, now or when there is some.
                match wrote && self.transport.queued() > 0 {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }
            None => Poll::Ready(()),
        }
    }

    /// Returns what is still under way.
    fn go_on(
        &mut self,
        mut answering: Box<Answering>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        if let Some(upload) = &answering.upload {
            if upload.take_continue() && matches!(answering.stage, Stage::Waiting) {
                response::write_continue(out);
            }
            match upload.end() {
                Some(End::Refused(refusal)) => {
                    self.abandon(*answering, Some(refusal), out);
                    return None;
                }
                Some(End::Lost(_)) => {
                    self.client_left(*answering, out);
                    return None;
                }
                Some(End::Whole) | None => {}
            }
        }
        loop {
            match &mut answering.stage {
                Stage::Waiting => match answering.reply.poll_answer(cx) {
                    Poll::Pending => return Some(answering),
                    Poll::Ready(Ok((response, told))) => {
                        answering.deadline = None;
                        let begun = self.begin_response(&mut answering, response, told, out);
                        if let Err(what) = begun {
                            self.refuse_response(*answering, &NoResponse::Failed(what), out);
                            return None;
                        }
                    }
                    Poll::Ready(Err(reason)) => {
                        self.refuse_response(*answering, &reason, out);
                        return None;
                    }
                },
                Stage::Sending(_) => match self.send_body(&mut answering, cx, out) {
                    Poll::Pending => return Some(answering),
                    Poll::Ready(Next::Complete) => {
                        answering = self.complete(answering, out)?;
                    }
                    Poll::Ready(Next::Broken) => {
                        self.break_off(*answering, out);
                        return None;
                    }
                },
                Stage::Discarding(left) => {
                    let Some(upload) = &answering.upload else {
                        return self.next_request(*answering);
                    };
                    match upload.poll_piece(cx) {
                        Poll::Pending => return Some(answering),
                        Poll::Ready(None) if upload.end() == Some(End::Whole) => {
                            return self.next_request(*answering);
                        }
                        Poll::Ready(Some(piece)) if piece.len() as u64 <= *left => {
                            *left -= piece.len() as u64;
                        }
                        Poll::Ready(_) => {
                            self.exchange.last = true;
                            return self.next_request(*answering);
                        }
                    }
                }
            }
        }
    }

    /// Writes the head of a response, and the body where that is a file.
    ///
    /// # Errors
    /// It cannot be sent, and nothing was written of it.
    fn begin_response(
        &mut self,
        answering: &mut Answering,
        response: Response,
        told: Option<Sent>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let (parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        let told_length = response::content_length(&parts.headers)
            .map_err(|_| "its content-length is no number".to_owned())?;
        if !(200..600).contains(&status) {
            return Err(format!("{status} is no status of a response"));
        }
        let request = &answering.request;
        let head = request.is_head();
        let bodiless = response::bodiless(status);
        let file = match bodiless {
            true => None,
            false => body.take_file(&self.worker().http.hand_back),
        };
        let file = file.map(FileContent::open).transpose();
        let file = file.map_err(|error| format!("its file cannot be sent: {error}"))?;
        if let (Some(length), Some(file)) = (told_length, &file)
            && length != file.length
            && !head
        {
            if let Some(told) = told {
                // The guest may not want to know.
                let _ = told.send(Err(Error::HttpResponseBodySize(Some(file.length))));
            }
            let has = file.length;
            return Err(format!(
                "its content-length is {length}, and its file has {has} bytes"
            ));
        }
        let one_zero = request.head.minor_version() == 0;
        let framing = match (told_length, &file) {
            (Some(length), _) => Framed::Length(length),
            (None, Some(_)) if request.head.accepts_trailers() && !one_zero => Framed::Chunked,
            (None, Some(file)) => Framed::Length(file.length),
            (None, None) if bodiless || body.is_end_stream() => Framed::Length(0),
            (None, None) if one_zero => Framed::Closed,
            (None, None) => Framed::Chunked,
        };
        let waits = answering
            .upload
            .as_ref()
            .is_some_and(|it| it.expects_continue());
        let keeps = request.head.keep_alive()
            && framing != Framed::Closed
            && !waits
            && !self.worker().is_draining();
        let persistence = match (keeps, request.head.minor_version()) {
            (false, _) => Persistence::Closed,
            (true, 0) => Persistence::KeptOnRequest,
            (true, _) => Persistence::Kept,
        };
        let begin = out.len();
        response::write_head(status, &parts.headers, &self.worker().http.date(), out);
        let length = match framing {
            _ if matches!(status, 204 | 304) => None,
            Framed::Length(0) if status == 205 => Some(0),
            // To HEAD, nobody knows what the length would be.
            Framed::Length(0) if head && told_length.is_none() && file.is_none() => None,
            Framed::Length(length) => Some(length),
            Framed::Chunked => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                None
            }
            Framed::Closed => None,
        };
        response::finish(length, persistence, out);
        let mut download = Box::new(Download {
            content: Content::Nothing,
            framing,
            status,
            sent: 0,
            told: Told {
                sent: told,
                _reading: None,
            },
            persistence,
        });
        match file {
            _ if head || bodiless => download.framing = Framed::Length(0),
            None => download.content = Content::Frames(body),
            Some(file) => {
                download.sent = file.length;
                if let Err(error) = self.send_file(&file, framing, out) {
                    out.truncate(begin);
                    return Err(format!("its file cannot be read: {error}"));
                }
                download.told._reading = Some(file.reading);
                download.content = Content::File(file.ended);
            }
        }
        answering.stage = Stage::Sending(download);
        Ok(())
    }

    /// Has a file sent.
    ///
    /// # Errors
    /// It cannot be read.
    fn send_file(
        &mut self,
        content: &OpenContent,
        framing: Framed,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let &OpenContent { offset, length, .. } = content;
        if length == 0 {
            return Ok(());
        }
        if framing == Framed::Chunked {
            begin_chunk(length, out);
        }
        if length <= SMALL_FILE {
            super::read(&content.file, offset, length, out)?;
        } else {
            let part = FilePart {
                file: Rc::clone(&content.file),
                offset,
                remaining: length,
            };
            self.exchange.written += out.len() as u64 + length;
            self.transport.write_with_file(out, part);
            clear(out);
            self.exchange.sending = true;
        }
        if framing == Framed::Chunked {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Sends what there is of a body.
    fn send_body(
        &mut self,
        answering: &mut Answering,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Next> {
        let Answering {
            request,
            reply,
            stage: Stage::Sending(download),
            ..
        } = answering
        else {
            return Poll::Ready(Next::Broken);
        };
        loop {
            let body = match &mut download.content {
                Content::Nothing => return Poll::Ready(Next::Complete),
                Content::Frames(body) => body,
                Content::File(ended) => {
                    let trailers = match Pin::new(ended).poll(cx) {
                        Poll::Pending if reply.is_broken() => return Poll::Ready(Next::Broken),
                        Poll::Pending => {
                            reply.watch(cx);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(Err(_))) => return Poll::Ready(Next::Broken),
                        Poll::Ready(Ok(Ok(trailers))) => trailers,
                        // An instance that ends without a word has none.
                        Poll::Ready(Err(_)) => None,
                    };
                    return Poll::Ready(finish_body(request, download, trailers.as_ref(), out));
                }
            };
            if let Framed::Length(length) = download.framing
                && length == download.sent
                && (length == 0 || body.is_end_stream())
            {
                return Poll::Ready(Next::Complete);
            }
            if self.transport.queued() + out.len() as u64
                > self.worker().shared.limits.write_high as u64
            {
                self.write_out(out);
                if self.is_full() {
                    return Poll::Pending;
                }
            }
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    reply.watch(cx);
                    return match reply.is_broken() || reply.has_returned() {
                        true => Poll::Ready(Next::Broken),
                        false => Poll::Pending,
                    };
                }
                Poll::Ready(frame) => frame,
            };
            let trailers = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if !self.exchange_data(download, &data, out) {
                            return Poll::Ready(Next::Broken);
                        }
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Some(Err(_)) => return Poll::Ready(Next::Broken),
                None => None,
            };
            // The end of a body whose instance has failed is none.
            if reply.is_broken() {
                return Poll::Ready(Next::Broken);
            }
            return Poll::Ready(finish_body(request, download, trailers.as_ref(), out));
        }
    }

    /// Sends a piece of a body; false where it is too much.
    fn exchange_data(&mut self, download: &mut Download, data: &Bytes, out: &mut Vec<u8>) -> bool {
        if data.is_empty() {
            return true;
        }
        download.sent += data.len() as u64;
        let mut end = &b""[..];
        match download.framing {
            Framed::Length(length) if download.sent > length => return false,
            Framed::Chunked => {
                begin_chunk(data.len() as u64, out);
                end = b"\r\n";
            }
            Framed::Length(_) | Framed::Closed => {}
        }
        if data.len() <= JOIN {
            out.extend_from_slice(data);
            out.extend_from_slice(end);
        } else {
            self.exchange.written += (out.len() + data.len() + end.len()) as u64;
            self.transport.write_vectored(&[out, data, end]);
            clear(out);
            self.exchange.sending = self.transport.queued() > 0;
        }
        true
    }

    /// The response is complete. Returns what is left to do before the next
    /// request.
    fn complete(&mut self, mut answering: Box<Answering>, out: &[u8]) -> Option<Box<Answering>> {
        let Stage::Sending(download) =
            std::mem::replace(&mut answering.stage, Stage::Discarding(DISCARD))
        else {
            return None;
        };
        let Download {
            told,
            status,
            sent,
            persistence,
            ..
        } = *download;
        let end = self.exchange.written + out.len() as u64;
        self.exchange.untold.push_back((told, end));
        self.log_later(answering.entry.take(), status, sent, out);
        answering.reply.finish();
        let unread = answering
            .upload
            .as_ref()
            .is_some_and(|it| it.end().is_none());
        if persistence == Persistence::Closed {
            self.exchange.last = true;
        }
        if self.exchange.last || !unread {
            return self.next_request(*answering);
        }
        Some(answering)
    }

    /// Tells guests of what was sent.
    pub(super) fn tell_sent(&mut self) {
        let sent = self.sent();
        while let Some((mut told, _)) = self.exchange.untold.pop_front_if(|(_, end)| *end <= sent) {
            if let Some(told) = told.sent.take() {
                // The guest may not want to know.
                let _ = told.send(Ok(()));
            }
        }
    }

    /// Goes on with what follows the request.
    fn next_request(&mut self, answering: Answering) -> Option<Box<Answering>> {
        if let Some(upload) = &answering.upload {
            self.exchange.kept = upload.take_rest();
            // Who still holds it reads no more.
            upload.stop(End::Lost(ConnectionError::Aborted));
        }
        self.exchange.held = !self.exchange.kept.is_empty();
        let limits = self.limits();
        self.transport.set_alarm(Some(limits.keep_alive_timeout));
        self.worker().http.put_request(answering.request);
        None
    }

    /// Answers in the guest's place, as it has no response.
    fn refuse_response(
        &mut self,
        mut answering: Answering,
        reason: &NoResponse,
        out: &mut Vec<u8>,
    ) {
        let status = reason.status();
        let shared = &self.worker().shared;
        if let NoResponse::Failed(what) = reason {
            shared.counters.responses_refused.add();
            let path = answering.request.head.target();
            tracing::error!(guest = %shared.guest.name, path, "the guest has no response: {what}");
        }
        let answer = super::Answer::status(status, "");
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

    /// The response cannot be completed: what was sent must not look whole.
    fn break_off(&mut self, mut answering: Answering, out: &mut Vec<u8>) {
        let shared = &self.worker().shared;
        shared.counters.responses_refused.add();
        tracing::error!(guest = %shared.guest.name, path = answering.request.head.target(),
            "the guest's response ends before its end");
        let mut closed = false;
        if let Stage::Sending(download) = answering.stage {
            closed = download.framing == Framed::Closed;
            self.log_later(answering.entry.take(), download.status, download.sent, out);
        }
        self.write_out(out);
        answering.requests.abandon(&answering.reply);
        if let Some(upload) = answering.upload {
            upload.stop(End::Lost(ConnectionError::Aborted));
        }
        // What is there arrives; length or chunks tell that it is not all.
        self.exchange.last = true;
        if closed {
            self.transport.reset_on_close();
            self.transport.fail(ConnectionError::Aborted);
        }
    }

    fn client_left(&mut self, answering: Answering, out: &mut Vec<u8>) {
        tracing::info!(peer = %self.transport.peer(), "the client left within a request");
        self.exchange.ended = true;
        self.abandon(answering, None, out);
    }

    /// Gives a request up whose client is gone, or is refused.
    fn abandon(&mut self, answering: Answering, refusal: Option<Refusal>, out: &mut Vec<u8>) {
        answering.requests.abandon(&answering.reply);
        match (refusal, answering.stage) {
            (Some(refusal), Stage::Waiting) => self.refuse(answering.request, refusal, out),
            (_, Stage::Sending(download)) => {
                self.log_later(answering.entry, download.status, download.sent, out);
                self.write_out(out);
                self.transport.reset_on_close();
                self.transport.fail(ConnectionError::Aborted);
            }
            (None, Stage::Waiting) => {
                self.log_later(answering.entry, CLIENT_LEFT, 0, out);
                self.exchange.last = true;
            }
            (_, Stage::Discarding(_)) => self.exchange.last = true,
        }
    }

    /// Time has passed for the request that an instance is at.
    pub(super) fn answer_late(&mut self, mut answering: Box<Answering>, out: &mut Vec<u8>) {
        let now = self.worker().now();
        let late = |deadline: Option<Tick>| deadline.is_some_and(|it| now >= it);
        if late(Some(answering.look)) && matches!(answering.stage, Stage::Waiting) {
            if self.transport.is_reset() {
                return self.client_left(*answering, out);
            }
            answering.look = self.worker().tick_after(LOOK);
        }
        if late(answering.deadline) && matches!(answering.stage, Stage::Waiting) {
            // A body that still comes has its own time-out. The time for the
            // response begins with what the guest got of it last.
            let limit = self.limits().response_timeout;
            if let Some(upload) = &answering.upload {
                let since = now.saturating_sub(upload.moved());
                let due = self.worker().tick_after(limit).saturating_sub(since);
                if due > now {
                    answering.deadline = Some(due);
                    self.exchange.reading = Reading::Answer(answering);
                    return self.arm();
                }
            }
            let shared = &self.worker().shared;
            tracing::error!(guest = %shared.guest.name, path = answering.request.head.target(),
                "the guest has no response in time (--response-timeout)");
            answering.requests.abandon(&answering.reply);
            self.exchange.last |= answering
                .upload
                .as_ref()
                .is_some_and(|it| it.end().is_none());
            return self.refuse_response(*answering, &NoResponse::TimedOut, out);
        }
        if let Some(upload) = &answering.upload
            && late(upload.deadline())
        {
            if matches!(answering.stage, Stage::Waiting) {
                upload.stop(End::Refused(SLOW_BODY));
            } else {
                upload.stop(End::Lost(ConnectionError::Timeout(
                    "the body took too long (--body-timeout)",
                )));
            }
        }
        if matches!(answering.stage, Stage::Sending(_)) {
            answering.deadline = None;
        }
        self.exchange.reading = Reading::Answer(answering);
        self.arm();
    }

    /// The connection is lost, and with it the request that an instance is at.
    pub(super) fn lose_answering(&mut self) {
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
                upload.stop(End::Lost(ConnectionError::Aborted));
            }
            let (status, sent) = match &stage {
                Stage::Sending(download) => (download.status, download.sent),
                Stage::Waiting | Stage::Discarding(_) => (CLIENT_LEFT, 0),
            };
            self.log_later(entry, status, sent, &[]);
            requests.abandon(&reply);
        }
        self.tell_sent();
        self.exchange.untold.clear();
        if let Some(requests) = self.exchange.requests.take() {
            requests.close();
        }
    }
}

/// What the access log says of a request that its client did not wait for, as
/// nginx does.
const CLIENT_LEFT: u16 = 499;

/// The head of a request as `wasi:http` has it, which has no place for all that
/// HTTP allows.
fn http_request(request: &Request) -> Option<http::Request<()>> {
    let head = &request.head;
    let mut made = http::Request::new(());
    *made.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
    // An HTTP/1.0 client need not say whom it asks.
    let authority = head.authority().unwrap_or("localhost");
    let uri = Uri::builder()
        .scheme(request.scheme())
        .authority(authority)
        .path_and_query(head.target())
        .build();
    *made.uri_mut() = match uri {
        Ok(uri) => uri,
        // `OPTIONS *` asks for no path.
        Err(_) => head.target().parse().ok()?,
    };
    let mut headers = HeaderMap::with_capacity(8);
    for (name, value) in head.fields() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value).ok()?;
        headers.try_append(name, value).ok()?;
    }
    if made.uri().authority().is_none() && !headers.contains_key(header::HOST) {
        let host = HeaderValue::from_static("localhost");
        headers.try_insert(header::HOST, host).ok()?;
    }
    *made.headers_mut() = headers;
    Some(made)
}

fn begin_chunk(length: u64, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{length:x}\r\n");
}

/// Writes what follows a body.
fn finish_body(
    request: &Request,
    download: &Download,
    trailers: Option<&HeaderMap>,
    out: &mut Vec<u8>,
) -> Next {
    match download.framing {
        Framed::Length(length) if length != download.sent => Next::Broken,
        Framed::Length(_) | Framed::Closed => Next::Complete,
        Framed::Chunked => {
            out.extend_from_slice(b"0\r\n");
            if request.head.accepts_trailers() {
                response::write_trailers(trailers, out);
            }
            out.extend_from_slice(b"\r\n");
            Next::Complete
        }
    }
}
