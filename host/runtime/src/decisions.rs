//! Decisions of an event guest about a request, and its responses.

use std::rc::Rc;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::{Answer, Body, Fields};
use netwasm_exchange::forward::Verdict;
use netwasm_exchange::handler::Decision;
use netwasm_exchange::topics::events::{EventsBody, EventsOf, MEDIA_TYPE};

use crate::bindings::netwasm::net::http::{
    Answer as WitAnswer, Body as WitBody, Response, Verdict as WitVerdict,
};
use crate::forwards;
use crate::responses::{Asker, streamed};
use crate::state::{State, reads_body};

/// Converts a guest's decision about the request that it handled.
pub(crate) fn decision(state: &mut State, decided: WitAnswer) -> wasmtime::Result<Decision> {
    let decision = match decided {
        WitAnswer::Respond(given) => response(state, given)?,
        WitAnswer::Defer(token) => match state.defer(token) {
            Ok(deferred) => Decision::Later(deferred),
            Err(error) => {
                wasmtime::bail!("the request cannot be deferred under the token {token}: {error}")
            }
        },
        WitAnswer::Collect(most) if state.request()?.coming.is_some() => Decision::Collect(most),
        WitAnswer::Forward(_) if reads_body(state.request()?) => {
            wasmtime::bail!("it forwards a request whose body it reads")
        }
        WitAnswer::Forward(forward) => {
            match forwards::forward(&state.local, state.judging(), || state.asker(), forward)? {
                Ok(forward) => Decision::Forward(Box::new(forward)),
                // The denial was logged.
                Err(_) => Decision::Answer(Answer::status(502, "")),
            }
        }
        WitAnswer::Collect(_) => {
            wasmtime::bail!("it collects a request that has arrived, or whose body it reads")
        }
    };
    state.interim.clear();
    Ok(decision)
}

/// Converts a response to the request that a guest handled.
pub(crate) fn response(state: &mut State, given: Response) -> wasmtime::Result<Decision> {
    let answer = answer_at_once(state, given, None)?;
    Ok(match answer.body {
        Body::Stream(_) => Decision::Later(state.given(answer)),
        _ => Decision::Answer(answer),
    })
}

/// Converts a guest's decision about the response to a forwarded request of a client.
pub(crate) fn verdict(
    state: &mut State,
    decided: WitVerdict,
    asker: &Asker,
) -> wasmtime::Result<Verdict> {
    Ok(match decided {
        WitVerdict::Pass(edits) => Verdict::Pass(forwards::edits(edits)),
        WitVerdict::Respond(response) => {
            Verdict::Answer(answer_at_once(state, response, Some(asker.clone()))?)
        }
        WitVerdict::Forward(forward) => {
            match forwards::forward(&state.local, state.judging(), || asker.clone(), forward)? {
                Ok(forward) => Verdict::Forward(Box::new(forward)),
                // The denial was logged.
                Err(_) => Verdict::Answer(Answer::status(502, "")),
            }
        }
    })
}

/// Converts a response, for a client as [`answer`] does. One that cannot be begun is
/// a trap.
fn answer_at_once(
    state: &mut State,
    response: Response,
    asker: Option<Asker>,
) -> wasmtime::Result<Answer> {
    if matches!(response.body, WitBody::Stream(_)) && !state.streams {
        wasmtime::bail!("it streams a body and does not export netwasm:net/response-handler");
    }
    let answer = answer(state, response, asker)?;
    answer.map_err(|error| wasmtime::Error::msg(format!("the body cannot be streamed: {error}")))
}

/// Converts a response, and takes its file out of the guest's handles. It is for
/// `asker`, or else for the client of the request being handled.
///
/// # Errors
/// Fails if its streamed body cannot begin. The outer error is a trap.
pub(crate) fn answer(
    state: &mut State,
    response: Response,
    asker: Option<Asker>,
) -> wasmtime::Result<Result<Answer, ConnectionError>> {
    let mut headers = response.headers;
    let asker = |state: &State| asker.unwrap_or_else(|| state.asker());
    let body = match response.body {
        WitBody::Empty => Body::Empty,
        WitBody::Bytes(bytes) => Body::Bytes(bytes),
        WitBody::File(handle) => Body::File(state.remove_file(&handle)?),
        WitBody::Path(path) => match state.open_file(&path) {
            Ok(file) => Body::File(Rc::new(file)),
            Err(error) => Body::Unopened(error),
        },
        WitBody::Stream(body) => {
            let turn = asker(state).turn;
            match state.begin_body(body.token, &turn) {
                Ok(content) => Body::Stream(streamed(content, body.length)),
                Err(error) => return Ok(Err(error)),
            }
        }
        WitBody::Events(of) => {
            let of = EventsOf {
                topic: of.topic,
                event: of.event,
                retry: of.retry.map(Duration::from_nanos),
            };
            let reader = asker(state).reader;
            let comes_again = reader.seen.is_some();
            match EventsBody::new(&state.local.topics, &of, reader) {
                Ok((content, begin)) => {
                    mark_as_events(&mut headers, comes_again.then_some(&*begin));
                    Body::Stream(streamed(content, None))
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    };
    Ok(Ok(Answer {
        status: response.status,
        headers,
        body,
        trailers: response.trailers,
    }))
}

/// Adds the fields of a stream of events that the guest has not set. A client that
/// comes again is told the ID of the message before its first one (`begin`), as by
/// draft-dunglas-mercure, section "Reconnection": another than its own tells of a gap.
fn mark_as_events(headers: &mut Fields, begin: Option<&str>) {
    let fields = [
        ("content-type", Some(MEDIA_TYPE)),
        ("cache-control", Some("no-store")),
        ("last-event-id", begin),
    ];
    for (name, value) in fields {
        let is_given = headers
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name));
        if let Some(value) = value
            && !is_given
        {
            headers.push((name.into(), value.into()));
        }
    }
}
