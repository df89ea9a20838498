//! The beginning of a response, and the handler's decision about it.

use std::task::Context;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, StatusCode};

use netwasm_exchange::answer::Answer;
use netwasm_exchange::content::BoxContent;
use netwasm_exchange::forward::Verdict;
use netwasm_exchange::reply::Answered;
use netwasm_exchange::request::Request;
use netwasm_net::upstream::Server;

use super::{AttemptStage, Forwarding};
use crate::forward::body::ForwardedBody;
use crate::forward::compose::{self, check};
use crate::forward::edits::{add, remaining};
use crate::forward::http2::{StreamHead, StreamedResponse, UpstreamStream};
use crate::forward::outcome::{NoResponse, Passed, ServerEnd, Upgrade};
use crate::forward::reading::{Malformed, Received};
use crate::forward::upload::{ForwardedUpload, Source};
use crate::forward::{affinity, websocket};

/// Fate of a response.
enum Judged {
    /// It passes, with this header.
    Passes(HeaderMap),
    /// The client gets something else.
    Replaced(Passed),
    /// The request is forwarded once more.
    Again,
}

impl Forwarding {
    /// Notes that a response has begun.
    fn has_answered(&mut self, server: Option<&Server>, status: StatusCode, headers: &HeaderMap) {
        if let Some(server) = server {
            server.has_succeeded();
            affinity::heed(server, status, headers);
        }
        if let Some((trace, begun)) = &self.traced {
            trace.add_upstream(begun.elapsed());
        }
        if let Some(attempt) = self.attempt.take() {
            attempt.answered(status.as_u16());
        }
    }

    /// Changes to the protocol that the client wanted.
    pub(super) fn upgrade(
        &mut self,
        read: Received,
        request: &Request,
    ) -> Result<Passed, NoResponse> {
        let protocol = read.upgrade.filter(|_| self.composed.upgrades);
        let protocol = protocol.ok_or(Malformed::Upgrade)?;
        let stage = std::mem::replace(&mut self.stage, AttemptStage::Over);
        let AttemptStage::Waiting(line) = stage else {
            return Err(NoResponse::Ended);
        };
        line.limit_silence(None);
        self.has_answered(line.server(), read.status, &read.headers);
        let mut headers = read.headers;
        add(&self.forward.response, &mut headers);
        self.add_cookie(line.server(), request, &mut headers);
        Ok(Passed::Upgrade(Upgrade {
            headers,
            protocol,
            end: ServerEnd::Line(line),
        }))
    }

    /// Changes to the protocol that the client wanted, on a stream (RFC 8441).
    fn upgrade_stream(
        &mut self,
        stream: UpstreamStream,
        head: StreamHead,
        request: &Request,
    ) -> Result<Passed, NoResponse> {
        let protocol = compose::upgrade(request);
        let protocol = protocol.and_then(|it| HeaderValue::from_bytes(it).ok());
        let protocol = protocol.ok_or(Malformed::Upgrade)?;
        let mut headers = head.headers;
        headers.remove(CONTENT_LENGTH);
        if let Some(key) = request.head.first("sec-websocket-key") {
            websocket::accept(key, &mut headers);
        }
        add(&self.forward.response, &mut headers);
        self.add_cookie(Some(stream.server()), request, &mut headers);
        Ok(Passed::Upgrade(Upgrade {
            headers,
            protocol,
            end: ServerEnd::Stream(stream.into_end(head.body)),
        }))
    }

    /// Begins to pass a response on, unless the handler decides otherwise.
    /// Returns `None` if the request is forwarded once more.
    pub(super) fn pass_on(
        &mut self,
        read: Received,
        request: &Request,
    ) -> Result<Option<Passed>, NoResponse> {
        let stage = std::mem::replace(&mut self.stage, AttemptStage::Over);
        let AttemptStage::Waiting(line) = stage else {
            return Err(NoResponse::Ended);
        };
        line.limit_silence(None);
        self.has_answered(line.server(), read.status, &read.headers);
        Ok(match self.judge(read.status, read.headers, request)? {
            Judged::Again => None,
            Judged::Replaced(passed) => Some(passed),
            Judged::Passes(mut headers) => {
                self.add_cookie(line.server(), request, &mut headers);
                let upload = self.take_upload();
                let (framing, keeps) = (read.framing, read.keeps);
                let body = ForwardedBody::new(line, upload, framing, keeps, &self.forward);
                Some(passed(read.status, headers, Box::new(body)))
            }
        })
    }

    /// Like [`Self::pass_on`], for a response on a stream.
    pub(super) fn pass_stream(
        &mut self,
        head: StreamHead,
        cx: &Context<'_>,
        request: &Request,
    ) -> Result<Option<Passed>, NoResponse> {
        let stage = std::mem::replace(&mut self.stage, AttemptStage::Over);
        let AttemptStage::Streaming(mut stream) = stage else {
            return Err(NoResponse::Ended);
        };
        stream.limit_silence(None, cx);
        self.has_answered(Some(stream.server()), head.status, &head.headers);
        if stream.connects && head.status.is_success() {
            return self.upgrade_stream(stream, head, request).map(Some);
        }
        Ok(match self.judge(head.status, head.headers, request)? {
            Judged::Again => None,
            Judged::Replaced(passed) => Some(passed),
            Judged::Passes(mut headers) => {
                self.add_cookie(Some(stream.server()), request, &mut headers);
                let upload = self.take_upload();
                let (body, length) = (head.body, head.length);
                let body = StreamedResponse::new(stream, body, upload, length, &self.forward);
                Some(passed(head.status, headers, Box::new(body)))
            }
        })
    }

    /// Adds the cookie that keeps the client with its server.
    fn add_cookie(&self, server: Option<&Server>, request: &Request, headers: &mut HeaderMap) {
        if let Some(server) = server {
            affinity::add_cookie(&self.forward.group, server, request, headers);
        }
    }

    fn take_upload(&mut self) -> ForwardedUpload {
        std::mem::replace(
            &mut self.upload,
            ForwardedUpload::new(Source::Nothing, false),
        )
    }

    /// Edits the header of a response, and lets the handler decide about it, if
    /// it wants to.
    fn judge(
        &mut self,
        status: StatusCode,
        mut headers: HeaderMap,
        request: &Request,
    ) -> Result<Judged, NoResponse> {
        if self.composed.hides_length {
            headers.remove(CONTENT_LENGTH);
        }
        add(&self.forward.response, &mut headers);
        let judge = self.forward.judge.as_ref();
        let Some(judge) = judge.filter(|judge| judge.sees_responses()) else {
            return Ok(Judged::Passes(headers));
        };
        match judge.responded(status.as_u16(), &headers) {
            Verdict::Pass(edits) => {
                check(&edits)?;
                headers = remaining(&edits, headers);
                add(&edits, &mut headers);
            }
            Verdict::Answer(answer) => return Ok(Judged::Replaced(Passed::Answer(answer))),
            Verdict::Gone => return Ok(Judged::Replaced(gone())),
            Verdict::Forward(next) => {
                if self.begins_again(next, request)? {
                    return Ok(Judged::Again);
                }
            }
        }
        Ok(Judged::Passes(headers))
    }
}

fn passed(status: StatusCode, headers: HeaderMap, content: BoxContent) -> Passed {
    let mut response = http::Response::new(content);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Passed::Response(Answered {
        response,
        sent: None,
        trailers: None,
    })
}

/// Returns the answer in place of a handler's that is gone.
pub(super) fn gone() -> Passed {
    Passed::Answer(Answer::status(500, ""))
}
