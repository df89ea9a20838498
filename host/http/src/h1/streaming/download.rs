//! Response that is sent while it is made, or whose body is a file.

use std::any::Any;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;

use netwasm_exchange::content::{BoxContent, Ended, FileContent, OpenContent};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::reply::{Answered, NoResponse, Sent};
use netwasm_exchange::request::Request;
use netwasm_net::queue::FilePart;

use super::{AnswerStage, Answering};
use crate::exchange::read;
use crate::h1::{Driver, JOIN, SMALL_FILE};
use crate::local::clear;
use crate::response::{self, Persistence, Plan, UnsendableResponse};

/// A response that is being sent.
pub(super) struct Download {
    content: Content,
    pub(super) framing: Framed,
    pub(super) status: u16,
    /// Bytes of the body sent so far.
    pub(super) sent: u64,
    /// Taken once the body was given to the transport.
    pub(super) told: Option<Told>,
    /// Trailers that the guest delivers apart from the body.
    trailers: Option<Ended>,
    pub(super) persistence: Persistence,
}

impl Download {
    /// True if nothing but trailers can be missing.
    pub(super) fn is_whole(&self) -> bool {
        let is_empty = match &self.content {
            Content::Trailers(_) => true,
            // It has no contents.
            Content::Frames(body) => self.sent == 0 && body.size_hint().exact() == Some(0),
            Content::Nothing => false,
        };
        is_empty || self.framing == Framed::Length(self.sent)
    }
}

/// Time that a response of complete length waits for its guest to end it. A
/// guest that is still writing must not fail for what it has sent.
const LEFT_OPEN: Duration = Duration::from_secs(1);

/// Content that is still to send.
enum Content {
    Nothing,
    Frames(BoxContent),
    /// The trailers. All of the body was given to the transport.
    Trailers(Ended),
}

/// Notification of a guest that its response was sent. If dropped, it says that
/// the response was not.
#[derive(Default)]
pub(in crate::h1) struct Told {
    pub(super) sent: Option<Sent>,
    /// Dropped when the file is no longer read.
    reading: Option<Box<dyn Any>>,
}

impl Told {
    /// True if somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.sent.is_some() || self.reading.is_some()
    }
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

/// Framing: the way in which the client finds the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// By its length in bytes.
    Length(u64),
    Chunked,
    /// By the end of the connection.
    Closed,
}

/// Result of sending a body.
pub(super) enum Next {
    /// The response is complete.
    Complete,
    /// The response cannot be completed. What was sent must not look whole.
    Broken,
}

impl Driver {
    /// Begins a response, or refuses one that cannot be sent. `closes` is true if
    /// the guest asked to close the connection. Returns the request unless it is
    /// done with.
    pub(super) fn begin_response(
        &mut self,
        mut answering: Box<Answering>,
        answered: Answered,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Option<Box<Answering>> {
        let limit = self.limits().response_body_timeout;
        answering.deadline = Some(self.thread().tick_after(limit));
        if let Err(what) = self.write_head(&mut answering, answered, closes, out) {
            self.refuse_response(*answering, &NoResponse::Failed(what), out);
            return None;
        }
        Some(answering)
    }

    /// Writes the head of a response, and its body if that is a file. `closes` is
    /// true if the guest asked to close the connection.
    ///
    /// # Errors
    /// Fails if the response cannot be sent. Nothing of it was written then.
    fn write_head(
        &mut self,
        answering: &mut Answering,
        answered: Answered,
        closes: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let Answered {
            response,
            sent: told,
            trailers,
        } = answered;
        let (parts, mut body) = response.into_parts();
        let request = &answering.request;
        let head = request.is_head();
        let file = match response::bodiless(parts.status.as_u16()) {
            true => None,
            false => body.take_file(),
        };
        let file = file.map(FileContent::open).transpose();
        let file = file.map_err(|error| format!("its file cannot be sent: {error}"))?;
        let file_length = file.as_ref().map(|file| file.length);
        let plan = match Plan::new(&parts, head, file_length, body.is_end_stream()) {
            Ok(plan) => plan,
            Err(fault) => {
                if let (UnsendableResponse::File { file, .. }, Some(told)) = (&fault, told) {
                    // The guest may not listen.
                    let _ = told.send(Err(Failure::HttpResponseBodySize(Some(*file))));
                }
                return Err(fault.to_string());
            }
        };
        let status = plan.status;
        let one_zero = request.head.minor_version() == 0;
        let told_length = parts.headers.contains_key(header::CONTENT_LENGTH);
        let framing = match plan.length {
            // A file's trailers need chunks.
            _ if file.is_some() && !told_length && request.head.accepts_trailers() && !one_zero => {
                Framed::Chunked
            }
            Some(length) => Framed::Length(length),
            None if one_zero => Framed::Closed,
            None => Framed::Chunked,
        };
        let waits = answering
            .upload
            .as_ref()
            .is_some_and(|it| it.expects_continue());
        let keeps = request.head.keep_alive()
            && framing != Framed::Closed
            && !waits
            && !closes
            && !self.transport.ends_with_answer();
        let persistence = match (keeps, request.head.minor_version()) {
            (false, _) => Persistence::Closed,
            (true, 0) => Persistence::KeptOnRequest,
            (true, _) => Persistence::Kept,
        };
        let begin = out.len();
        response::write_head(status, &parts.headers, &self.local.date(), out);
        if framing == Framed::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            if request.head.accepts_trailers() && plan.has_body {
                response::write_trailer(&parts.headers, out);
            }
        }
        let length = plan.told.filter(|_| framing != Framed::Chunked);
        response::finish(length, persistence, out);
        let mut download = Box::new(Download {
            content: Content::Nothing,
            framing,
            status,
            sent: 0,
            told: None,
            trailers,
            persistence,
        });
        let mut told = Told {
            sent: told,
            reading: None,
        };
        match file {
            _ if !plan.has_body => download.framing = Framed::Length(0),
            None => download.content = Content::Frames(body),
            Some(file) => {
                download.sent = file.length;
                if let Err(error) = self.send_file(&file, framing, out) {
                    out.truncate(begin);
                    return Err(format!("its file cannot be read: {error}"));
                }
                told.reading = Some(file.reading);
                download.content = Content::Trailers(file.ended);
            }
        }
        download.told = Some(told);
        answering.stage = AnswerStage::Sending(download);
        Ok(())
    }

    /// Sends a file, or queues it.
    ///
    /// # Errors
    /// Fails if the file cannot be read.
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
            read(&content.file, offset, length, out)?;
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
    pub(super) fn send_body(
        &mut self,
        answering: &mut Answering,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Next> {
        let now = self.thread().now();
        let Answering {
            request,
            reply,
            deadline,
            stage: AnswerStage::Sending(download),
            ..
        } = answering
        else {
            return Poll::Ready(Next::Broken);
        };
        let limit = match download.framing {
            Framed::Length(_) => LEFT_OPEN,
            Framed::Chunked | Framed::Closed => self.limits().response_timeout,
        };
        let due = self.thread().tick_after(limit);
        let before = download.sent;
        loop {
            let body = match &mut download.content {
                Content::Nothing => return Poll::Ready(Next::Complete),
                Content::Frames(body) => body,
                Content::Trailers(ended) => {
                    // The guest may wait for this before it sets its trailers.
                    if self.tell_when_sent(&mut download.told, out) {
                        *deadline = Some(due);
                    }
                    let late = deadline.is_some_and(|it| now >= it);
                    let trailers = match Pin::new(ended).poll(cx) {
                        Poll::Pending if reply.is_broken() => return Poll::Ready(Next::Broken),
                        // They did not come in time, or the guest has exited.
                        Poll::Pending if late || reply.has_returned() => None,
                        Poll::Pending => {
                            reply.watch(cx);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(Err(_))) => return Poll::Ready(Next::Broken),
                        Poll::Ready(Ok(Ok(trailers))) => trailers,
                        // The instance ended without setting trailers.
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
                > self.thread().env.limits.write_high as u64
            {
                self.write_out(out);
                if self.is_full() {
                    body.poll_beside(cx);
                    return Poll::Pending;
                }
            }
            let sent = usize::try_from(download.sent - before).unwrap_or(usize::MAX);
            if sent > JOIN && self.transport.turn.is_over(sent) {
                self.transport.turn.give_way(cx);
                return Poll::Pending;
            }
            if matches!(download.framing, Framed::Length(_))
                && body.may_move()
                && self.transport.is_plain()
            {
                self.write_out(out);
                if self.transport.queued() > 0 {
                    return Poll::Pending;
                }
                match ready!(body.poll_move(cx, &self.transport)) {
                    Ok(0) => {}
                    Ok(count) => {
                        download.sent += count;
                        self.exchange.written += count;
                        continue;
                    }
                    Err(_) => return Poll::Ready(Next::Broken),
                }
            }
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Pending => {
                    reply.watch(cx);
                    let is_whole = download.is_whole();
                    if reply.is_broken() || (reply.has_returned() && !is_whole) {
                        return Poll::Ready(Next::Broken);
                    }
                    if reply.has_returned() {
                        // The guest has exited without trailers.
                        return Poll::Ready(finish_body(request, download, None, out));
                    }
                    if !is_whole {
                        return Poll::Pending;
                    }
                    // Only trailers are missing, and the guest may wait for this
                    // before it sets them.
                    if self.tell_when_sent(&mut download.told, out) {
                        *deadline = Some(due);
                    }
                    return match deadline.is_some_and(|it| now >= it) {
                        true => Poll::Ready(finish_body(request, download, None, out)),
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
            // If the instance has failed, the end of its body is not genuine.
            if reply.is_broken() {
                return Poll::Ready(Next::Broken);
            }
            if trailers.is_none()
                && let Some(ended) = download.trailers.take()
            {
                download.content = Content::Trailers(ended);
                continue;
            }
            return Poll::Ready(finish_body(request, download, trailers.as_ref(), out));
        }
    }

    /// Sends a piece of a body. Returns false if the body is longer than told.
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
