//! Decisions about one request that HTTP/1.1 and HTTP/2 share: calling the
//! handler, checking its answer, and counting and logging failures. The
//! protocols differ in how they write what is decided here.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, header};
use netwasm_base::trace::Trace;
use netwasm_exchange::answer::{Answer, Body, Interim};
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::{Awaiting, Call, Decision, Handler, NoAnswer, Site};
use netwasm_exchange::head::Refusal;
use netwasm_exchange::reply::{Answered, NoResponse, Reply, Requested};
use netwasm_exchange::request::Request;
use netwasm_net::env::Env;
use netwasm_net::files::File;
use netwasm_net::transport::Transport;

use crate::forward::{Forwarding, hops};
use crate::local::Local;
use crate::response::{self, Checked};
use crate::spans;

/// The body of a request exceeds `--max-body`.
pub(crate) const TOO_LARGE: Refusal = Refusal::over("--max-body", 413, "the body is too large");

/// The body of a request did not continue within `--body-timeout`.
pub(crate) const SLOW_BODY: Refusal =
    Refusal::over("--body-timeout", 408, "the body took too long");

/// An HTTP/2 request is malformed after its head: its length differs from the
/// told one, or its trailers are invalid.
pub(crate) const MALFORMED: Refusal = Refusal::new(400, "malformed body or trailers");

/// A client speaks TLS to a port for plain HTTP.
pub(crate) const NOT_PLAIN: Refusal = Refusal::new(400, "TLS was spoken to a port for plain HTTP");

/// A client speaks plain HTTP to a port for TLS. The words are nginx's, which
/// people search for.
pub(crate) const NOT_TLS: Refusal =
    Refusal::new(400, "The plain HTTP request was sent to HTTPS port");

/// Status in the access log if the client did not wait for the response, as
/// nginx has it.
pub(super) const CLIENT_LEFT: u16 = 499;

/// Handler of a connection. Dropping it cancels its requests.
#[derive(Debug, Default)]
pub(super) struct Own(Option<Box<dyn Handler>>);

impl Own {
    /// Returns the handler, made for the first request.
    fn handler(&mut self, local: &Local, transport: &Rc<Transport>) -> &mut dyn Handler {
        let make = || local.handlers.connection(transport);
        &mut **self.0.get_or_insert_with(make)
    }

    /// Calls the handler with a request that arrived whole, or at its head. If
    /// there is no handler (503) or it fails (500), the host answers instead.
    pub(super) fn handle(
        &mut self,
        local: &Local,
        transport: &Rc<Transport>,
        request: Box<Request>,
    ) -> (Box<Request>, Decision) {
        let site = request.site.clone();
        let counters = &local.account(&site).net.counters;
        if matches!(site, Site::Limited) {
            counters.clients_refused.add();
            tracing::info!(peer = %transport.peer(), "request refused (--max-client-requests)");
            return (request, Decision::Answer(too_many()));
        }
        let sampled = |trace: &&Rc<Trace>| trace.context.sampled;
        let timed = request.trace.as_ref().filter(sampled);
        let timed = timed.map(|_| Instant::now());
        let (request, decision) = self.handler(local, transport).handle(request);
        if let (Some(trace), Some(begun)) = (&request.trace, timed) {
            trace.add_guest(begun.elapsed());
        }
        if !matches!(decision, Ok(Decision::Collect(_))) {
            // A request that is collected comes again.
            counters.requests.add();
        }
        let decision = decision.unwrap_or_else(|missing| {
            Decision::Answer(match missing {
                NoAnswer::Gone => gone(),
                NoAnswer::NoGuest(error) => {
                    counters.instances_failed.add();
                    tracing::error!(peer = %transport.peer(), %error, "no instance for a request");
                    Answer::status(503, "")
                }
            })
        });
        (request, decision)
    }

    /// Gives the handler a request whose body is yet to arrive. A guest gets the
    /// identity of the request's span, so that its own are within it.
    pub(super) fn begin(
        &mut self,
        local: &Local,
        transport: &Rc<Transport>,
        site: Site,
        mut head: http::Request<RequestBody>,
        (secure, trace): (bool, Option<Rc<Trace>>),
    ) -> (Rc<Reply>, Rc<dyn Awaiting>) {
        local.account(&site).net.counters.requests.add();
        if let Some(trace) = &trace
            && let Ok(value) = HeaderValue::from_str(&trace.context.to_string())
        {
            head.headers_mut().insert(spans::PARENT, value);
        }
        let asked = Requested {
            method: head.method().clone(),
            target: head.uri().path_and_query().cloned(),
        };
        let reply = Rc::new(Reply::to(transport.peer().clone(), asked, trace));
        let call = Call {
            site,
            head,
            secure,
            reply: Rc::clone(&reply),
            turn: Rc::clone(&transport.turn),
        };
        (reply, self.handler(local, transport).begin(call))
    }

    /// Drops the handler at the end of the connection.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }
}

/// Returns the answer to a client that has sent too many requests: RFC 6585,
/// section 4.
fn too_many() -> Answer {
    let mut answer = Answer::status(429, "too many requests: try again in a second");
    answer.headers.push(("Retry-After".into(), "1".into()));
    answer
}

/// Returns the answer in place of one that would say that a stream has changed to
/// another protocol.
pub(super) fn no_tunnel() -> Answer {
    Answer::status(501, "nobody speaks that protocol here")
}

/// Returns the answer in place of a handler's that is gone.
pub(super) fn gone() -> Answer {
    Answer::status(500, "")
}

/// Checks an answer to a request.
///
/// # Errors
/// Fails with the answer to send instead: the guest's must not be sent, which
/// was counted and logged, or its file could not be opened.
pub(super) fn check<'a>(
    answer: &'a Answer,
    request: &Request,
    env: &Env,
) -> Result<Checked<'a>, Answer> {
    if let Body::Unopened(error) = &answer.body {
        return Err(Answer::unopened(error));
    }
    if request.tunnels && (200..300).contains(&answer.status) {
        return Err(no_tunnel());
    }
    let most = env.limits.max_write_buffer;
    Checked::new(answer, request.is_head(), most).map_err(|fault| {
        env.counters.responses_refused.add();
        tracing::error!(
            guest = %env.guest,
            path = &*shown(request.head.target()),
            "the guest's response cannot be sent: {fault}"
        );
        Answer::status(500, "")
    })
}

/// A response that a guest makes while it is sent.
pub(super) struct Streamed {
    pub(super) answered: Answered,
    /// True if the guest asked to close the connection.
    pub(super) closes: bool,
}

/// Checks an answer whose body is a stream.
///
/// # Errors
/// Fails with the answer if its body is none, and with the answer to send
/// instead if the guest's must not be sent, which was counted and logged.
pub(super) fn streamed(answer: Answer, request: &Request, env: &Env) -> Result<Streamed, Answer> {
    if !matches!(answer.body, Body::Stream(_)) {
        return Err(answer);
    }
    let checked = check(&answer, request, env)?;
    let (closes, told) = (checked.closes, checked.given_length());
    let Answer {
        status,
        headers,
        body: Body::Stream(body),
        ..
    } = answer
    else {
        return Err(gone());
    };
    let mut response = http::Response::new(body.content);
    // A checked status is one of HTTP.
    *response.status_mut() = http::StatusCode::from_u16(status).map_err(|_| gone())?;
    let mut map = HeaderMap::with_capacity(headers.len() + 1);
    response::append_all(headers, &[], &mut map);
    if let Some(length) = body.length.or(told) {
        map.insert(header::CONTENT_LENGTH, length.into());
    }
    *response.headers_mut() = map;
    Ok(Streamed {
        answered: Answered {
            response,
            sent: None,
            trailers: None,
        },
        closes,
    })
}

/// Returns the headers of an interim response; `None` if they must not be sent,
/// which is counted and logged.
pub(super) fn interim(interim: Interim, path: &str, env: &Env) -> Option<HeaderMap> {
    if let Err(fault) = response::check_interim(&interim.headers) {
        env.counters.responses_refused.add();
        tracing::error!(
            guest = %env.guest,
            path = &*shown(path),
            "the guest's interim response cannot be sent: {fault}"
        );
        return None;
    }
    let mut map = HeaderMap::with_capacity(interim.headers.len());
    response::append_all(interim.headers, &[], &mut map);
    Some(map)
}

/// Counts and logs a malformed request, or one over a limit. Returns the
/// answer.
pub(super) fn refused(env: &Env, transport: &Transport, refusal: Refusal) -> Answer {
    let Refusal {
        status,
        reason,
        limit,
    } = refusal;
    env.counters.requests_refused.add();
    tracing::info!(peer = %transport.peer(), status, limit, reason, "request refused");
    Answer::status(status, reason)
}

/// Counts and logs that the rest of a request is refused, whose response has begun or
/// was sent whole.
pub(super) fn cut(env: &Env, transport: &Transport, refusal: Refusal) {
    let Refusal { reason, limit, .. } = refusal;
    env.counters.requests_refused.add();
    tracing::info!(
        peer = %transport.peer(), limit, reason,
        "the rest of a request is refused, whose response has begun"
    );
}

/// Logs that a guest takes nothing within `--body-timeout` of a request that it reads
/// after its response.
pub(super) fn untaken(path: &str) {
    tracing::info!(
        path = &*shown(path),
        "the guest takes nothing of a request that it reads (--body-timeout)"
    );
}

/// Begins to forward a request.
///
/// # Errors
/// Fails with the answer to send instead: the request's hops are used up
/// (`Max-Forwards`), or the guest wants what must not be sent, which was counted
/// and logged.
pub(super) fn forward(
    request: &mut Request,
    forward: Box<Forward>,
    coming: Option<RequestBody>,
    expects: bool,
    may_upgrade: bool,
    env: &Env,
) -> Result<Box<Forwarding>, Answer> {
    if let Some(answer) = hops::answer(request) {
        return Err(answer);
    }
    match Forwarding::new(request, forward, coming, expects, may_upgrade) {
        Ok(forwarding) => Ok(Box::new(forwarding)),
        Err(fault) => {
            env.counters.responses_refused.add();
            tracing::error!(
                guest = %env.guest,
                path = &*shown(request.head.target()),
                "the request cannot be forwarded as the guest wants it: {fault}"
            );
            Err(Answer::status(500, ""))
        }
    }
}

/// Counts and logs that a WebSocket connection cannot be opened as its guest wants
/// it. Returns the answer.
pub(super) fn unopened(env: &Env, path: &str, fault: &str) -> Answer {
    env.counters.responses_refused.add();
    tracing::error!(
        guest = %env.guest,
        path = &*shown(path),
        "the WebSocket connection cannot be opened as the guest wants it: {fault}"
    );
    gone()
}

/// Counts and logs that an async guest made no response. Returns the answer.
pub(super) fn missing(env: &Env, path: &str, reason: &NoResponse) -> Answer {
    if let NoResponse::Failed(what) = reason {
        env.counters.responses_refused.add();
        tracing::error!(guest = %env.guest, path = &*shown(path), "the guest has no response: {what}");
    }
    Answer::status(reason.status(), "")
}

/// Logs that a guest made no response within `--response-timeout`.
pub(super) fn late(env: &Env, path: &str) {
    tracing::error!(guest = %env.guest, path = &*shown(path),
        "the guest has no response in time (--response-timeout)");
}

/// Counts and logs why a response that has begun is incomplete.
pub(super) fn broken(env: &Env, path: &str, why: &str) {
    env.counters.responses_refused.add();
    tracing::error!(guest = %env.guest, path = &*shown(path), "the guest's response {why}");
}

/// Counts and logs that the response of an upstream does not go on.
pub(super) fn silent(env: &Env, path: &str) {
    env.counters.forwards_failed.add();
    tracing::warn!(guest = %env.guest, path = &*shown(path),
        "the upstream's response does not go on in time (--response-body-timeout)");
}

/// Logs that a client did not wait for its response.
pub(super) fn left(transport: &Transport) {
    tracing::info!(peer = %transport.peer(), "the client left within a request");
}

/// Counts and logs that a file can no longer be read.
pub(super) fn file_failed(env: &Env, path: &str, error: &std::io::Error) {
    env.counters.files_failed.add();
    tracing::warn!(path = &*shown(path), "the file cannot be read: {error}");
}

/// Escapes control characters, which a target may have as UTF-8 (C1), for the
/// log: JSON permits them, and a terminal would obey them.
fn shown(path: &str) -> Cow<'_, str> {
    match path.contains(char::is_control) {
        true => path.escape_debug().to_string().into(),
        false => path.into(),
    }
}

/// Appends a part of a file.
///
/// # Errors
/// Fails if the file cannot be read or has become shorter.
pub(super) fn read(
    file: &File,
    offset: u64,
    length: u64,
    out: &mut Vec<u8>,
) -> std::io::Result<()> {
    let begin = out.len();
    // Parts read here are small.
    out.resize(begin + usize::try_from(length).unwrap_or_default(), 0);
    file.read_exact_at(out.get_mut(begin..).unwrap_or_default(), offset)
}

#[cfg(test)]
mod tests;
