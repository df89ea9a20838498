//! Conversion of decisions about requests, and of responses.

use crate::Result;
use crate::bindings::netwasm::net::http;
use crate::host::{Body, RawEdits, RawForward, RawHost, RawResponse, RawVerdict, Upstream};
use crate::http::{HttpVersion, Method};
use crate::time::nanoseconds;

/// Sends an interim response to a deferred request.
pub(crate) fn inform(token: u64, status: u16, headers: &[(String, Vec<u8>)]) -> Result<()> {
    Ok(http::inform(token, status, headers)?)
}

/// A decision about a request.
impl From<RawResponse> for http::Answer {
    fn from(response: RawResponse) -> Self {
        match response.body {
            Body::Forward(forward) => {
                let mut forward = http::Forward::from(*forward);
                forward.response.add.extend(response.headers);
                Self::Forward(forward)
            }
            _ => Self::Respond(response.into()),
        }
    }
}

impl From<RawResponse> for http::Response {
    fn from(response: RawResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: match response.body {
                // A forwarded request has no response of the handler's.
                Body::Empty | Body::Forward(_) => http::Body::Empty,
                Body::Bytes(bytes) => http::Body::Bytes(bytes),
                // It was told before.
                Body::Told(told) => http::Body::Bytes(told.into_reason().into()),
                Body::File(file) => http::Body::File(file.0),
                Body::Path(path) => http::Body::Path(path),
                Body::Stream(maker) => http::Body::Stream(crate::body::start(maker)),
                Body::Events(events) => http::Body::Events(http::TopicEvents {
                    topic: events.topic,
                    event: events.event,
                    retry: events.retry.map(nanoseconds),
                }),
            },
            trailers: response.trailers,
        }
    }
}

impl From<RawForward> for http::Forward {
    fn from(forward: RawForward) -> Self {
        Self {
            to: match forward.to {
                Upstream::Group(name) => http::Upstream::Group(name),
                Upstream::Server(at, tls, version) => http::Upstream::Server(http::Server {
                    at: at.into(),
                    tls: tls.map(Into::into),
                    http: match version {
                        HttpVersion::Http1 => http::HttpVersion::Http1,
                        HttpVersion::Http2 => http::HttpVersion::Http2,
                        HttpVersion::Auto => http::HttpVersion::Auto,
                    },
                }),
            },
            key: forward.key,
            method: forward.method.map(Into::into),
            target: forward.target,
            host: match forward.host {
                RawHost::Keep => http::ForwardedHost::Keep,
                RawHost::Server => http::ForwardedHost::Server,
                RawHost::Other(host) => http::ForwardedHost::Other(host),
            },
            request: forward.request.into(),
            response: forward.response.into(),
            tell: http::ClientFields {
                via: forward.via,
                forwarded: forward.forwarded,
                x_forwarded: forward.x_forwarded,
                believe: forward.believe,
            },
            connect_timeout: forward.connect_timeout.map(nanoseconds),
            response_timeout: forward.response_timeout.map(nanoseconds),
            retries: forward.retries,
            decides: match forward.decides {
                None => http::Judging::Nothing,
                Some((token, false)) => http::Judging::Missing(token),
                Some((token, true)) => http::Judging::All(token),
            },
            max_body: forward.max_body,
        }
    }
}

impl From<RawVerdict> for http::Verdict {
    fn from(verdict: RawVerdict) -> Self {
        match verdict {
            RawVerdict::Pass(edits) => Self::Pass(edits.into()),
            RawVerdict::Instead(response) => match http::Answer::from(response) {
                http::Answer::Forward(forward) => Self::Forward(forward),
                http::Answer::Respond(response) => Self::Respond(response),
                // Nothing else is made of a response.
                _ => Self::Pass(RawEdits::default().into()),
            },
        }
    }
}

impl From<RawEdits> for http::Edits {
    fn from(edits: RawEdits) -> Self {
        Self {
            remove: edits.remove,
            set: edits.set,
            add: edits.add,
        }
    }
}

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::Get,
            Method::Head => Self::Head,
            Method::Post => Self::Post,
            Method::Put => Self::Put,
            Method::Delete => Self::Delete,
            Method::Options => Self::Options,
            Method::Trace => Self::Trace,
            Method::Patch => Self::Patch,
            Method::Other(name) => Self::Other(name),
        }
    }
}
