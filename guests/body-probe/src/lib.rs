//! Streams bodies of HTTP both ways as the test-suite tells it, good or bad. See
//! `handle` for what each path does. A request that has a token can be
//! controlled by others, if all connections share an instance.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:body-probe;
        world body-probe {
            include netwasm:net/http-server@0.2.0;
            include netwasm:net/deferring@0.2.0;
            include netwasm:net/receiving@0.2.0;
            include netwasm:net/timing@0.2.0;
        }
    ",
    world: "netwasm:body-probe/body-probe",
    generate_all,
});

mod download;
mod query;
mod upload;

use std::cell::Cell;

use exports::netwasm::net::{body_handler, http_handler, response_handler, timer_handler};
use netwasm::net::http::{self, Answer, Body, Fields, Method, OutgoingBody, Request, Response};
use netwasm::net::log::{Level, log};
use netwasm::net::types::Error;

use query::Query;

struct Probe;
export!(Probe);

thread_local! {
    /// The last token that no request asked for.
    static TOKEN: Cell<u64> = const { Cell::new(1 << 32) };
}

impl http_handler::Guest for Probe {
    fn handle(_method: Method, target: String, request: &Request) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(query);
        let token = query.number("token").unwrap_or_else(|| {
            TOKEN.set(TOKEN.get() + 1);
            TOKEN.get()
        });
        match path {
            // Streamed bodies: see `download::begin`.
            "/stream" => {
                download::begin(token, &query);
                Answer::Respond(streamed(token, &query))
            }
            // events?count=N&ms=N: so many server-sent events, one after each
            // such time.
            "/events" => {
                download::begin_events(token, &query);
                Answer::Respond(Response {
                    headers: vec![("Content-Type".into(), b"text/event-stream".to_vec())],
                    ..streamed(token, &query)
                })
            }
            // upload?credit=N&more=N: reads the body, gives more credit with
            // each piece, and answers once the body has ended.
            "/upload" => match upload::begin(token, &query, request) {
                true => Answer::Defer(token),
                false => Answer::Respond(said("whole\n")),
            },
            // The body, sent back while it arrives.
            "/echo" => {
                upload::begin_echo(token, request);
                Answer::Respond(streamed(token, &query))
            }
            // early?read: answers at the head, and perhaps reads on.
            "/early" => {
                if query.has("read") {
                    upload::begin(token, &query, request);
                }
                Answer::Respond(said("early\n"))
            }
            // collect?most=N: the whole body, sent back.
            "/collect" if !request.is_whole() => Answer::Collect(query.number("most")),
            "/collect" => Answer::Respond(with_body(Body::Bytes(request.body()))),
            // hint?status=N&header=NAME:VALUE: an interim response, then none.
            "/hint" => {
                let status = query.number("status").unwrap_or(103) as u16;
                let informed = request.inform(status, &query.fields("header"));
                outcome("hint", token, informed);
                Answer::Defer(token)
            }
            "/defer" => Answer::Defer(token),
            "/trap" => panic!("as it was told"),

            // Control of other requests.
            "/send" => {
                let data = query.first("data").unwrap_or_default();
                let room = http::send(token, format!("{data}\n").as_bytes());
                Answer::Respond(said(&format!("{room}\n")))
            }
            "/finish" => told(http::finish(token, &query.fields("trailer"))),
            "/fail" => {
                http::fail(token);
                Answer::Respond(said("done\n"))
            }
            "/inform" => {
                let status = query.number("status").unwrap_or(103) as u16;
                told(http::inform(token, status, &query.fields("header")))
            }
            // respond?text=TEXT, or respond?stream&...: as /stream.
            "/respond" if query.has("stream") => {
                download::begin(token, &query);
                told(http::respond(token, streamed(token, &query)))
            }
            "/respond" => {
                let text = format!("{}\n", query.first("text").unwrap_or_default());
                told(http::respond(token, said(&text)))
            }
            "/give" => {
                http::read_more(token, query.number("credit").unwrap_or_default());
                let known = if upload::known(token) {
                    "done"
                } else {
                    "unknown"
                };
                Answer::Respond(said(&format!("{known}\n")))
            }
            "/stop" => {
                http::stop_reading(token);
                Answer::Respond(said("done\n"))
            }
            // The bytes that have come of a body.
            "/received" => Answer::Respond(said(&format!("{}\n", upload::received(token)))),
            // The calls of `writable` for a body.
            "/writable" => Answer::Respond(said(&format!("{}\n", download::writable(token)))),

            _ => Answer::Respond(said(&format!(
                "{} {}\n",
                request.is_whole(),
                request.body().len()
            ))),
        }
    }
}

impl response_handler::Guest for Probe {
    fn writable(token: u64) {
        download::go_on(token);
        upload::writable(token);
    }

    fn abandoned(token: u64) {
        say(&format!("abandoned {token}"));
        download::forget(token);
    }
}

impl body_handler::Guest for Probe {
    fn body_received(token: u64, data: Vec<u8>) {
        upload::receive(token, &data);
    }

    fn body_ended(token: u64, trailers: Fields) {
        upload::end(token, &trailers);
    }

    fn body_failed(token: u64, error: Error) {
        upload::fail(token, &error);
    }
}

impl timer_handler::Guest for Probe {
    fn woken() {
        download::woken();
    }
}

/// The head of a streamed response: `status`, `header=NAME:VALUE`, `length=N`.
fn streamed(token: u64, query: &Query<'_>) -> Response {
    let body = OutgoingBody {
        token,
        length: query.number("length"),
    };
    Response {
        status: query.number("status").unwrap_or(200) as u16,
        headers: query.fields("header"),
        ..with_body(Body::Stream(body))
    }
}

fn told(outcome: Result<(), Error>) -> Answer {
    Answer::Respond(said(&match outcome {
        Ok(()) => "done\n".to_owned(),
        Err(error) => format!("{:?}\n", error.code),
    }))
}

fn outcome(what: &str, token: u64, outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        say(&format!("{what} {token}: {:?}", error.code));
    }
}

fn said(text: &str) -> Response {
    with_body(Body::Bytes(text.into()))
}

fn with_body(body: Body) -> Response {
    Response {
        status: 200,
        headers: Vec::new(),
        body,
        trailers: Vec::new(),
    }
}

fn say(text: &str) {
    log(Level::Warn, text);
}
