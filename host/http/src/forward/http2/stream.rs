//! A request on a connection that others share, and the head of its response.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::Tick;
use netwasm_net::upstream::{Place, Server};

use super::line::StreamPermit;
use crate::forward::outcome::NoResponse;
use crate::forward::reading::Malformed;
use crate::forward::relay::StreamEnd;
use crate::forward::upload::{ForwardedUpload, Unsent};
use crate::response::is_framing;

/// A request to a server. Dropping it before its end resets the stream.
pub(in crate::forward) struct UpstreamStream {
    place: Place,
    permit: StreamPermit,
    sending: SendStream<Bytes>,
    response: ResponseFuture,
    /// True if the connection has had streams before, so that its server may be
    /// closing it just now.
    pub(in crate::forward) is_kept: bool,
    /// True if something of the response has arrived.
    pub(in crate::forward) has_received: bool,
    /// True if the request is an extended CONNECT.
    pub(in crate::forward) connects: bool,
    /// Time since which an answer is waited for.
    waits_since: Tick,
}

/// Head of a response.
pub(in crate::forward) struct StreamHead {
    pub(in crate::forward) status: StatusCode,
    /// Fields, without those of the connection.
    pub(in crate::forward) headers: HeaderMap,
    /// Length of the body in bytes, if told.
    pub(in crate::forward) length: Option<u64>,
    pub(in crate::forward) body: RecvStream,
}

impl UpstreamStream {
    /// Begins a request. `ends` is true if it has no body.
    ///
    /// # Errors
    /// Fails with `Unprocessed` if the connection takes no more streams.
    pub(in crate::forward) fn begin(
        place: Place,
        (permit, mut sender): (StreamPermit, SendRequest<Bytes>),
        request: http::Request<()>,
        ends: bool,
    ) -> Result<Self, NoResponse> {
        let begun = sender.send_request(request, ends);
        let (response, sending) = begun.map_err(|error| {
            tracing::debug!(server = %place.server(), "no stream begins: {error}");
            NoResponse::Unprocessed
        })?;
        Ok(Self {
            is_kept: permit.line.begun() > 1,
            place,
            permit,
            sending,
            response,
            has_received: false,
            connects: false,
            waits_since: 0,
        })
    }

    /// Returns the server.
    pub(in crate::forward) fn server(&self) -> &Server {
        self.place.server()
    }

    /// Returns the stream as the end of a tunnel. `body` is what comes from there.
    pub(in crate::forward) fn into_end(self, body: RecvStream) -> StreamEnd {
        let Self {
            place,
            permit,
            sending,
            ..
        } = self;
        StreamEnd::new(body, sending, Box::new((place, permit)))
    }

    /// Sends what there is of the body. See [`ForwardedUpload::poll_stream`].
    pub(in crate::forward) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut ForwardedUpload,
        moved: &mut bool,
    ) -> Poll<Result<(), Unsent>> {
        upload.poll_stream(cx, &mut self.sending, moved)
    }

    /// Sets the limit of silence from now on; `None` ends it.
    pub(in crate::forward) fn limit_silence(&mut self, limit: Option<Duration>, cx: &Context<'_>) {
        match limit {
            Some(limit) => {
                let thread = std::rc::Rc::clone(self.permit.line.thread());
                self.waits_since = thread.now();
                self.permit.wake_at(thread.tick_after(limit), cx);
            }
            None => self.permit.forget(),
        }
    }

    /// True if the server has been silent for too long. If nothing came for any
    /// other request either, no further one begins on the connection.
    pub(in crate::forward) fn is_late(&self) -> bool {
        let line = &self.permit.line;
        let late = self.permit.is_due(line.thread().now());
        if late && line.wire.heard.get() < self.waits_since {
            line.retire();
        }
        late
    }

    /// Returns the next interim response; `None` if the response follows.
    ///
    /// # Errors
    /// Fails if there will be no response.
    pub(in crate::forward) fn poll_interim(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        drops: &dyn Fn(&str) -> bool,
    ) -> Poll<Result<Option<(StatusCode, HeaderMap)>, NoResponse>> {
        self.response.poll_informational(cx).map(|interim| {
            let Some(interim) = interim else {
                return Ok(None);
            };
            let interim = interim.map_err(|error| self.failed(&error))?;
            self.has_received = true;
            let (mut parts, ()) = interim.into_parts();
            if parts.headers.len() > most {
                return Err(Malformed::TooLarge.into());
            }
            // RFC 9110, section 8.6.
            parts.headers.remove(CONTENT_LENGTH);
            Ok(Some((parts.status, passing(parts.headers, drops))))
        })
    }

    /// Waits for the head of the response. `most` is the maximum of its fields,
    /// and `drops` is true for the names of those that are left out.
    ///
    /// # Errors
    /// Fails if there is no response.
    pub(in crate::forward) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        drops: &dyn Fn(&str) -> bool,
    ) -> Poll<Result<StreamHead, NoResponse>> {
        std::pin::Pin::new(&mut self.response).poll(cx).map(|head| {
            let head = head.map_err(|error| self.failed(&error))?;
            self.has_received = true;
            let (parts, body) = head.into_parts();
            if parts.headers.len() > most {
                return Err(Malformed::TooLarge.into());
            }
            if !(200..600).contains(&parts.status.as_u16()) {
                return Err(Malformed::Status.into());
            }
            let mut headers = parts.headers;
            // `h2` refuses those that differ, and a body that is longer.
            let told = headers.get(CONTENT_LENGTH).cloned();
            let length = told.as_ref().and_then(|it| it.to_str().ok()?.parse().ok());
            if let Some(told) = told {
                headers.insert(CONTENT_LENGTH, told);
            }
            Ok(StreamHead {
                status: parts.status,
                headers: passing(headers, drops),
                length,
                body,
            })
        })
    }

    /// Returns why there is no response.
    fn failed(&self, error: &h2::Error) -> NoResponse {
        let line = &self.permit.line;
        if error.is_reset() && error.is_remote() {
            return match error.reason() {
                Some(Reason::REFUSED_STREAM) => NoResponse::Unprocessed,
                reason => NoResponse::Reset(reason.unwrap_or(Reason::INTERNAL_ERROR)),
            };
        }
        // A stream beyond the last one that the server names was not processed.
        let last = line.wire.frames.borrow().last();
        if last.is_some_and(|last| self.response.stream_id().as_u32() > last) {
            return NoResponse::Unprocessed;
        }
        if error.is_reset() {
            return NoResponse::Malformed(Malformed::Stream);
        }
        match line.lost() {
            Some(reason) => NoResponse::Lost(reason.clone()),
            None if error.is_go_away() => {
                NoResponse::Lost(ConnectionError::Other(error.to_string()))
            }
            None => NoResponse::Ended,
        }
    }
}

/// Returns the fields that pass. Those of a connection stay here.
fn passing(mut headers: HeaderMap, drops: &dyn Fn(&str) -> bool) -> HeaderMap {
    let stays = |name: &str| {
        let framing = is_framing(name) && name != "trailer";
        framing || name == "proxy-authenticate" || drops(name)
    };
    if !headers.keys().any(|name| stays(name.as_str())) {
        return headers;
    }
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names {
        if stays(name.as_str()) {
            headers.remove(name);
        }
    }
    headers
}
