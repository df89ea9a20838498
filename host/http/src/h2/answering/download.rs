//! A response on its way to the client: its head, its body as it is made, and
//! its trailers.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::{HeaderMap, Method, header};
use http_body::{Body, Frame};
use tokio::time::{Instant, timeout, timeout_at};

use netwasm_exchange::chunked::without_dropped;
use netwasm_exchange::content::{BoxContent, Ended};
use netwasm_exchange::failure::Failure;
use netwasm_exchange::head::Refusal;
use netwasm_exchange::reply::{Answered, Reply, Sent};
use netwasm_net::transport::LINGER;

use super::AnsweringStream;
use crate::exchange::{self, SLOW_BODY};
use crate::h2::incoming::IncomingEnd;
use crate::h2::line::LogLine;
use crate::h2::link;
use crate::h2::sending::{Stopped, send_bytes};
use crate::h2::{request, unread};
use crate::response::{self, Plan};

const UNFINISHED: &str = "ends before its end";

pub(super) const SILENT: &str = "does not go on in time (--response-body-timeout)";

/// A response that is being sent.
pub(super) struct StreamDownload {
    pub(super) stream: SendStream<Bytes>,
    /// `None` if the response has no body.
    body: Option<BoxContent>,
    /// Length of the body in bytes, if known.
    length: Option<u64>,
    pub(super) told: Option<Sent>,
    /// Trailers that the guest delivers apart from the body.
    trailers: Option<Ended>,
    /// Trailers of a response without contents.
    only: Option<HeaderMap>,
    /// Outcome of the poll of the body that came before the head.
    first: Option<FirstFrame>,
}

/// The first frame of a body, or `None` at its end.
type FirstFrame = Option<Result<Frame<Bytes>, Failure>>;

/// The part that follows the head of a response without contents.
pub(super) enum Only {
    /// Something: the response has contents, or may have. Holds the outcome of the
    /// first poll of the body, if that was ready.
    Contents(Option<FirstFrame>),
    /// Trailers, or nothing.
    Trailers(Option<HeaderMap>),
}

/// Why a response is incomplete.
pub(super) enum Broken {
    /// The guest did not finish it, for this reason.
    Guest(&'static str),
    Client(Stopped),
    /// The upstream cannot get the rest of the request.
    Refused(Refusal),
}

impl AnsweringStream {
    /// Sends the head of a response. Returns `None` if the client has left.
    ///
    /// # Errors
    /// Fails with the reason if the response cannot be sent.
    pub(super) fn begin_response(
        &mut self,
        answered: Answered,
        only: Only,
        line: &mut LogLine,
    ) -> Result<Option<StreamDownload>, String> {
        let Answered {
            response,
            sent,
            trailers,
        } = answered;
        let (parts, body) = response.into_parts();
        let is_head = self.head.method == Method::HEAD;
        let (only, first, is_empty) = match only {
            Only::Trailers(trailers) => {
                let trailers = trailers.map(without_dropped);
                let trailers = trailers.filter(|it| !it.is_empty());
                let is_empty = trailers.is_none();
                (Some(trailers), None, is_empty)
            }
            Only::Contents(first) => (None, first, false),
        };
        // A frame that was polled is yet to be sent.
        let ended = body.is_end_stream() && first.is_none();
        let plan = Plan::new(&parts, is_head, None, ended);
        let plan = plan.map_err(|fault| fault.to_string())?;
        let mut headers = parts.headers;
        let trailer = headers.remove(header::TRAILER);
        response::drop_framing(&mut headers);
        if let Some(names) = trailer.filter(|_| plan.has_body) {
            headers.insert(header::TRAILER, names);
        }
        let lacks = |name| !headers.contains_key(name);
        let (server, date) = (lacks(header::SERVER), lacks(header::DATE));
        self.link.sign(&mut headers, server, date);
        let given = headers.contains_key(header::CONTENT_LENGTH);
        // The end of the stream tells it.
        let told = plan.told.filter(|_| given || only.is_none());
        match told {
            Some(length) => headers.insert(header::CONTENT_LENGTH, self.link.length(length)),
            // A 204 must not have one (RFC 9110, section 8.6).
            None => headers.remove(header::CONTENT_LENGTH),
        };
        let only = only.flatten();
        let (length, body) = match plan.has_body && !is_empty {
            true => (plan.length, Some(body)),
            false => (Some(0), None),
        };
        let ended = (body.is_none() || ended) && only.is_none();
        let ends = ended && length.is_none_or(|it| it == 0);
        line.status = plan.status;
        self.tells_length = ends || told.is_some();
        let Some(outgoing) = &mut self.outgoing else {
            return Ok(None);
        };
        let response = link::head(plan.status, headers).ok_or("its status is none")?;
        // An error means that the client has left.
        let Ok(stream) = outgoing.send_response(response, ends) else {
            return Ok(None);
        };
        Ok(Some(StreamDownload {
            stream,
            body,
            length: if ends { Some(0) } else { length },
            told: sent,
            trailers,
            only,
            first,
        }))
    }

    /// Waits for the trailers of a response without contents: if there are none, its
    /// head ends the stream, as the "Trailers-Only" of gRPC must. Trailers that do
    /// not come within `--response-timeout` are none. For contents that may be
    /// empty, it does not wait.
    ///
    /// # Errors
    /// Fails if the guest says that the response is incomplete, or has failed, or if
    /// the client has left.
    pub(super) async fn only_trailers(&mut self, answered: &mut Answered) -> Result<Only, Broken> {
        let body = answered.response.body();
        let empty = body.size_hint().exact() == Some(0) && !body.is_end_stream();
        let bodiless = response::bodiless(answered.response.status().as_u16());
        if bodiless || self.is_forwarded || self.head.method == Method::HEAD {
            return Ok(Only::Contents(None));
        }
        if !empty {
            return self.poll_first(answered).await;
        }
        // The guest may wait for this before it sets its trailers.
        tell_sent(&mut answered.sent);
        let limit = self.link.thread().env.limits.http.response_timeout;
        let body = answered.response.body_mut();
        let outgoing = &mut self.outgoing;
        let told = trailers_within(
            limit,
            &self.reply,
            |cx| {
                Pin::new(&mut *body)
                    .poll_frame(cx)
                    .map(|frame| match frame.transpose() {
                        Ok(frame) => Ok(frame.and_then(|it| it.into_trailers().ok())),
                        Err(_) => Err(Broken::Guest(UNFINISHED)),
                    })
            },
            |cx| {
                let outgoing = outgoing.as_mut();
                outgoing.is_none_or(|it| it.poll_reset(cx).is_ready())
            },
        );
        told.await.map(Only::Trailers)
    }

    /// Polls a body of unknown length once, and its trailers if it has ended: many
    /// guests write nothing to a stream in order to answer without contents.
    ///
    /// # Errors
    /// Fails if the body is empty, and the guest says that it is incomplete or has
    /// failed.
    async fn poll_first(&self, answered: &mut Answered) -> Result<Only, Broken> {
        let body = answered.response.body_mut();
        let trailers = match &mut answered.trailers {
            Some(trailers) if !body.is_end_stream() => trailers,
            // Its length is known, or it has none.
            _ => return Ok(Only::Contents(None)),
        };
        poll_fn(|cx| {
            let first = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => return Poll::Ready(Ok(Only::Contents(None))),
                Poll::Ready(first) => first,
            };
            if first.is_some() {
                return Poll::Ready(Ok(Only::Contents(Some(first))));
            }
            Poll::Ready(match Pin::new(&mut *trailers).poll(cx) {
                Poll::Pending => Ok(Only::Contents(Some(first))),
                Poll::Ready(Ok(Err(_))) => Err(Broken::Guest(UNFINISHED)),
                Poll::Ready(_) if self.reply.is_broken() => Err(Broken::Guest(UNFINISHED)),
                Poll::Ready(Ok(Ok(trailers))) => Ok(Only::Trailers(trailers)),
                // The instance ended without setting trailers.
                Poll::Ready(Err(_)) => Ok(Only::Trailers(None)),
            })
        })
        .await
    }

    /// Waits while the guest still reads the request, for example to forward
    /// it.
    pub(super) async fn read_on(&self) {
        if self.is_forwarded {
            // The server has answered, and takes no more of it.
            return;
        }
        loop {
            let due = self.incoming.given_up_at();
            let read = poll_fn(|cx| {
                self.reply.watch(cx);
                self.incoming.watch(cx);
                if !self.incoming.is_read() || self.reply.has_returned() {
                    return Poll::Ready(true);
                }
                // Since it waits for the client, it is given up sooner.
                match self.incoming.given_up_at() < due {
                    true => Poll::Ready(false),
                    false => Poll::Pending,
                }
            });
            match timeout_at(due, read).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(_elapsed) if self.incoming.given_up_at() <= Instant::now() => {
                    return self.tell_given_up();
                }
                Err(_elapsed) => {}
            }
        }
    }

    /// Logs why the rest of a request is given up, unless it has ended meanwhile.
    fn tell_given_up(&self) {
        let env = self.link.env(request::site(&self.head));
        match self.incoming.is_awaited() {
            Some(true) if env.limits.http.body_timeout <= LINGER => {
                exchange::cut(env, &self.link.transport, SLOW_BODY);
            }
            Some(true) => tracing::info!(
                peer = %self.link.transport.peer(),
                "the client sends no more of a request that has its response"
            ),
            Some(false) => exchange::untaken(request::target(&self.head)),
            None => {}
        }
    }

    /// Waits for the rest of a request before the response ends.
    ///
    /// If only the end of the stream ends the response, some clients overlook
    /// an end that comes while they send (see [`unread`]). This waits only if
    /// the request tells its length.
    async fn settle(&self) {
        if self.tells_length || !self.incoming.is_coming() {
            return;
        }
        self.read_on().await;
        if let Some(body) = self.incoming.stop() {
            unread::forget(body).await;
        }
    }

    /// Waits for the trailers that follow a body. If they do not come within
    /// `--response-timeout`, there are none.
    async fn trailers(
        &self,
        stream: &mut SendStream<Bytes>,
        mut ended: Ended,
    ) -> Result<Option<HeaderMap>, Broken> {
        let limit = self.link.thread().env.limits.http.response_timeout;
        let told = trailers_within(
            limit,
            &self.reply,
            |cx| {
                Pin::new(&mut ended).poll(cx).map(|told| match told {
                    Ok(Ok(trailers)) => Ok(trailers),
                    Ok(Err(_)) => Err(Broken::Guest(UNFINISHED)),
                    // The instance ended without setting trailers.
                    Err(_) => Ok(None),
                })
            },
            |cx| stream.poll_reset(cx).is_ready(),
        );
        told.await
    }

    /// Waits for the next frame of a body, which is `first` if that is there.
    ///
    /// # Errors
    /// Fails if the client resets the stream, if the guest exits, or if the rest of a
    /// forwarded request is refused.
    async fn next_frame(
        &self,
        stream: &mut SendStream<Bytes>,
        body: &mut BoxContent,
        first: &mut Option<FirstFrame>,
    ) -> Result<FirstFrame, Broken> {
        let next = poll_fn(|cx| {
            // An upstream would wait for the rest. A guest is told.
            if self.is_forwarded
                && let Poll::Ready(IncomingEnd::Refused(refusal)) = self.incoming.poll_end(cx)
            {
                return Poll::Ready(Err(Broken::Refused(refusal)));
            }
            if let Some(frame) = first.take() {
                return Poll::Ready(Ok(frame));
            }
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Broken::Client(Stopped::Left)));
            }
            self.reply.watch(cx);
            match self.reply.is_broken() || self.reply.has_returned() {
                true => Poll::Ready(Err(Broken::Guest(UNFINISHED))),
                false => Poll::Pending,
            }
        });
        next.await
    }

    /// Sends a body while it is made.
    pub(super) async fn send_body(
        &self,
        download: &mut StreamDownload,
        line: &mut LogLine,
    ) -> Result<(), Broken> {
        let StreamDownload {
            stream,
            body: Some(body),
            length,
            told,
            trailers,
            only,
            first,
        } = download
        else {
            return Ok(());
        };
        if let Some(trailers) = only.take() {
            self.settle().await;
            let sent = stream.send_trailers(trailers);
            return sent.map_err(|_| Broken::Client(Stopped::Left));
        }
        if body.is_end_stream() && *length == Some(0) {
            return Ok(());
        }
        let limits = &self.link.thread().env.limits.http;
        loop {
            let all = *length == Some(line.sent);
            let limit = match all {
                true => limits.response_timeout,
                false => limits.response_body_timeout,
            };
            if all {
                // The guest may wait for this before it sets its trailers.
                tell_sent(told);
            }
            let next = self.next_frame(stream, body, first);
            let next = timeout(limit, next).await.unwrap_or(match all {
                // The trailers did not come in time, so there are none.
                true => Ok(None),
                false => Err(Broken::Guest(SILENT)),
            });
            let last = match next? {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let after = line.sent + data.len() as u64;
                        if length.is_some_and(|length| after > length) {
                            return Err(Broken::Guest(UNFINISHED));
                        }
                        let ends = body.is_end_stream() && !self.reply.is_broken();
                        let ends = ends && length.is_none_or(|length| after == length);
                        if ends && !self.tells_length {
                            if !data.is_empty() {
                                send(stream, data, false, line, body).await?;
                            }
                            self.settle().await;
                            return send(stream, Bytes::new(), true, line, body).await;
                        }
                        if data.is_empty() && !ends {
                            continue;
                        }
                        send(stream, data, ends, line, body).await?;
                        match ends {
                            true => return Ok(()),
                            false => continue,
                        }
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Some(Err(_)) => return Err(Broken::Guest(UNFINISHED)),
                None => match trailers.take() {
                    Some(ended) => {
                        tell_sent(told);
                        self.trailers(stream, ended).await?
                    }
                    None => None,
                },
            };
            // If the instance has failed, the end of its body is not genuine.
            if self.reply.is_broken() || length.is_some_and(|length| length != line.sent) {
                return Err(Broken::Guest(UNFINISHED));
            }
            self.settle().await;
            let trailers = last.map(without_dropped).filter(|it| !it.is_empty());
            let sent = match trailers {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            };
            return sent.map_err(|_| Broken::Client(Stopped::Left));
        }
    }
}

/// Tells the guest that its response was sent.
pub(super) fn tell_sent(told: &mut Option<Sent>) {
    if let Some(told) = told.take() {
        // The guest may not listen.
        let _ = told.send(Ok(()));
    }
}

/// Sends a piece of a body, which goes on meanwhile with what is beside it.
async fn send(
    stream: &mut SendStream<Bytes>,
    data: Bytes,
    ends: bool,
    line: &mut LogLine,
    body: &mut BoxContent,
) -> Result<(), Broken> {
    if data.is_empty() {
        let sent = stream.send_data(data, ends);
        return sent.map_err(|_| Broken::Client(Stopped::Left));
    }
    let mut sending = pin!(send_bytes(stream, data, ends, line));
    let sent = poll_fn(|cx| {
        let sent = sending.as_mut().poll(cx);
        if sent.is_pending() {
            body.poll_beside(cx);
        }
        sent
    });
    sent.await.map_err(Broken::Client)
}

/// Waits for trailers while the guest may still tell them, and the client is there.
/// Those that do not come within the time limit are none.
async fn trailers_within(
    limit: Duration,
    reply: &Reply,
    mut poll_told: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<HeaderMap>, Broken>>,
    mut has_left: impl FnMut(&mut Context<'_>) -> bool,
) -> Result<Option<HeaderMap>, Broken> {
    let told = poll_fn(|cx| {
        if let Poll::Ready(told) = poll_told(cx) {
            return Poll::Ready(told);
        }
        if has_left(cx) {
            return Poll::Ready(Err(Broken::Client(Stopped::Left)));
        }
        reply.watch(cx);
        match (reply.is_broken(), reply.has_returned()) {
            (true, _) => Poll::Ready(Err(Broken::Guest(UNFINISHED))),
            (false, true) => Poll::Ready(Ok(None)),
            (false, false) => Poll::Pending,
        }
    });
    timeout(limit, told).await.unwrap_or(Ok(None))
}
