//! The body of a response, sent as it is made.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

use netwasm_exchange::request::Request;
use netwasm_net::thread::Tick;

use super::{Content, Download, Framed, Next, begin_chunk};
use crate::h1::streaming::{AnswerStage, Answering};
use crate::h1::{Driver, JOIN};
use crate::local::clear;
use crate::response;

/// Time that a response of complete length waits for its guest to end it. A
/// guest that is still writing must not fail for what it has sent.
const LEFT_OPEN: Duration = Duration::from_secs(1);

impl Driver {
    /// Sends what there is of a body.
    pub(in crate::h1::streaming) fn send_body(
        &mut self,
        answering: &mut Answering,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Next> {
        let Answering {
            request,
            reply,
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
                Content::Trailers(_) => return self.send_trailers(answering, due, cx, out),
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
                Poll::Pending => return self.wait_for_frame(answering, due, cx, out),
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

    /// Waits for the trailers of a body all of which was given to the transport.
    /// `due` is a deadline for them.
    fn send_trailers(
        &mut self,
        answering: &mut Answering,
        due: Tick,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Next> {
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
        let late = self.trailers_are_late(download, deadline, due, out);
        let Content::Trailers(ended) = &mut download.content else {
            return Poll::Ready(Next::Broken);
        };
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
        Poll::Ready(finish_body(request, download, trailers.as_ref(), out))
    }

    /// Tells the guest that all but the trailers was sent, once that is so: it may wait
    /// for that before it sets them, and then they have until `due`. Returns true if
    /// they did not come in time.
    fn trailers_are_late(
        &mut self,
        download: &mut Download,
        deadline: &mut Option<Tick>,
        due: Tick,
        out: &[u8],
    ) -> bool {
        if self.tell_when_sent(&mut download.told, out) {
            *deadline = Some(due);
        }
        deadline.is_some_and(|it| self.thread().now() >= it)
    }

    /// Waits for the next frame of a body, of which none has come. `due` is a
    /// deadline for its trailers.
    fn wait_for_frame(
        &mut self,
        answering: &mut Answering,
        due: Tick,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Next> {
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
        match self.trailers_are_late(download, deadline, due, out) {
            true => Poll::Ready(finish_body(request, download, None, out)),
            false => Poll::Pending,
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
