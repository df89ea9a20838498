//! The wait for a response, and the interim ones before it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use http::StatusCode;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::request::Request;

use super::{AttemptStage, Forwarding};
use crate::forward::outcome::{NoResponse, Passed};
use crate::forward::reading::{self, Malformed};

/// Maximum of interim responses to a request.
const MOST_INTERIM: u32 = 100;

impl Forwarding {
    /// Sends the request by HTTP/1.1, and waits for the response.
    pub(super) fn poll_waiting(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        let Self {
            stage: AttemptStage::Waiting(line),
            upload,
            composed,
            forward,
            head,
            interim,
            interims,
            may_upgrade,
            ..
        } = self
        else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        // A client of HTTP/2 has a table that keeps values for long.
        let shares = *may_upgrade;
        let env = forward.worker.env();
        let transport = Rc::clone(&line.transport);
        let _driven = transport.drive(cx);
        let mut moved = false;
        let high = env.limits.write_high as u64;
        let waited = upload.waits_for_client();
        let sent = upload.poll(cx, &transport, head, high, &mut moved);
        if let Poll::Ready(Err(unsent)) = sent {
            return Poll::Ready(Err(unsent.into()));
        }
        if moved || waited != upload.waits_for_client() {
            let limit = forward.response_timeout;
            let limit = limit.unwrap_or(env.limits.http.response_timeout);
            // A server need not answer before the client has gone on, which has a
            // limit of its own.
            line.limit_silence(Some(limit).filter(|_| !upload.waits_for_client()));
        }
        loop {
            let received = match line.poll_receive(cx) {
                Poll::Ready(Ok(count)) => count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoResponse::Lost(error))),
                Poll::Pending => {
                    return match transport.failure() {
                        Some(ConnectionError::Timeout(_)) => Poll::Ready(Err(NoResponse::Silent)),
                        Some(error) => Poll::Ready(Err(NoResponse::Lost(error))),
                        None if transport.alarm_rang() => Poll::Ready(Err(NoResponse::Silent)),
                        None => Poll::Pending,
                    };
                }
            };
            if received == 0 {
                return Poll::Ready(Err(NoResponse::Ended));
            }
            if !reading::may_be_whole(&line.input, received) {
                continue;
            }
            let most = env.limits.http.max_response_headers;
            let drops = |name: &str| forward.response.drops(name);
            while let Some(read) =
                reading::read_values(&line.input, composed.is_head, most, &drops, shares)?
            {
                line.input.advance(read.size);
                if read.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(self.upgrade(read, request).map(Some));
                }
                if !read.status.is_informational() {
                    return Poll::Ready(self.pass_on(read, request));
                }
                *interims += 1;
                if *interims > MOST_INTERIM {
                    return Poll::Ready(Err(NoResponse::Interims));
                }
                if read.status == StatusCode::CONTINUE {
                    upload.goes_on();
                    let sent = upload.poll(cx, &transport, &[], high, &mut moved);
                    if let Poll::Ready(Err(unsent)) = sent {
                        return Poll::Ready(Err(unsent.into()));
                    }
                } else {
                    interim.push((read.status, read.headers));
                }
            }
        }
    }

    /// Sends the request by HTTP/2, and waits for the response.
    pub(super) fn poll_streaming(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request,
    ) -> Poll<Result<Option<Passed>, NoResponse>> {
        let Self {
            stage: AttemptStage::Streaming(stream),
            upload,
            forward,
            interim,
            interims,
            ..
        } = self
        else {
            return Poll::Ready(Err(NoResponse::Ended));
        };
        let limits = &forward.worker.env().limits.http;
        let drops = |name: &str| forward.response.drops(name);
        loop {
            let mut moved = false;
            let waited = upload.waits_for_client();
            let sent = stream.poll_upload(cx, upload, &mut moved);
            if let Poll::Ready(Err(unsent)) = sent {
                return Poll::Ready(Err(unsent.into()));
            }
            if moved || waited != upload.waits_for_client() {
                let limit = forward.response_timeout.unwrap_or(limits.response_timeout);
                let limit = Some(limit).filter(|_| !upload.waits_for_client());
                stream.limit_silence(limit, cx);
            }
            let most = limits.max_response_headers;
            let Poll::Ready(next) = stream.poll_interim(cx, most, &drops) else {
                return match stream.is_late() {
                    true => Poll::Ready(Err(NoResponse::Silent)),
                    false => Poll::Pending,
                };
            };
            let Some((status, headers)) = next? else {
                break;
            };
            *interims += 1;
            if *interims > MOST_INTERIM {
                return Poll::Ready(Err(NoResponse::Interims));
            }
            match status {
                StatusCode::CONTINUE => upload.goes_on(),
                // RFC 9113, section 8.6.
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(Err(Malformed::Upgrade.into()));
                }
                status => interim.push((status, headers)),
            }
        }
        let most = limits.max_response_headers;
        let head = ready!(stream.poll_response(cx, most, &drops))?;
        Poll::Ready(self.pass_stream(head, cx, request))
    }
}
