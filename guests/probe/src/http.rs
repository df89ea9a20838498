//! Responses to HTTP requests: see `answer` for the paths.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::exports::netwasm::net::{http_handler::Guest, response_handler};
use super::netwasm::net::files::File;
use super::netwasm::net::http::{
    self, Answer, Body, ClientFields, Edits, Fields, Forward, ForwardedHost, HttpVersion, Judging,
    Method, Request, Response, Server, Upstream,
};
use super::netwasm::net::log::{Level, log};
use super::netwasm::net::types::Endpoint;
use super::{Probe, Wake, command, next_token, text, timer};

thread_local! {
    /// Requests that this instance has had.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

impl Guest for Probe {
    fn handle(method: Method, target: String, request: &Request) -> Answer {
        COUNT.set(COUNT.get() + 1);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(query);
        match path {
            "/defer" => return defer(&query),
            "/forward" => return forwarded(&query),
            _ => {}
        }
        Answer::Respond(answer(&method, path, &query, &target, request))
    }
}

/// `defer?ms=N&token=N`: `deferred`, and the file `file=PATH` if that is given,
/// after so long; never for `ms=never`. The token is a new one by default.
fn defer(query: &Query<'_>) -> Answer {
    let token = match query.first("token") {
        Some(_) => query.number("token") as u64,
        None => next_token(),
    };
    let file = query.first("file");
    if query.first("ms").as_deref() != Some("never") {
        let delay = query.number("ms") as u64 * 1_000_000;
        timer::start(delay, Wake::Respond(token, file));
    }
    Answer::Defer(token)
}

/// `forward?to=GROUP` or `forward?host=HOST&port=PORT`: what the server says to
/// `target=TARGET`, or to this target; with `ms=N`, it is asked after so long.
/// `http=2` and `http=auto` are versions of the protocol.
fn forwarded(query: &Query<'_>) -> Answer {
    if query.first("ms").is_none() {
        return Answer::Forward(forward(query));
    }
    let token = next_token();
    let delay = query.number("ms") as u64 * 1_000_000;
    timer::start(delay, Wake::Forward(token, Box::new(forward(query))));
    Answer::Defer(token)
}

fn forward(query: &Query<'_>) -> Forward {
    let port = query.first("port").and_then(|port| port.parse().ok());
    let edits = || Edits {
        remove: Vec::new(),
        set: Vec::new(),
        add: Vec::new(),
    };
    Forward {
        to: match (query.first("to"), query.first("host")) {
            (Some(group), _) => Upstream::Group(group),
            (None, host) => Upstream::Server(Server {
                at: Endpoint::Name((host.unwrap_or_default(), port.unwrap_or_default())),
                tls: None,
                http: match query.first("http").as_deref() {
                    Some("2") => HttpVersion::Http2,
                    Some("auto") => HttpVersion::Auto,
                    _ => HttpVersion::Http1,
                },
            }),
        },
        key: query.first("key").map(String::into_bytes),
        method: None,
        target: query.first("target"),
        host: ForwardedHost::Keep,
        request: edits(),
        response: edits(),
        tell: ClientFields {
            via: false,
            forwarded: false,
            x_forwarded: false,
            believe: false,
        },
        connect_timeout: None,
        response_timeout: None,
        retries: 0,
        decides: Judging::Nothing,
        max_body: None,
    }
}

/// Forwards a deferred request.
pub(super) fn forward_later(token: u64, forward: &Forward) {
    if let Err(error) = http::forward_deferred(token, forward) {
        let text = format!("forward {token}: {}", text::error(&error));
        log(Level::Warn, &text);
    }
}

/// Answers a deferred request.
pub(super) fn respond(token: u64, file: Option<String>) {
    let response = match file {
        Some(path) => with_body(Body::Path(path)),
        None => said("deferred\n"),
    };
    if let Err(error) = http::respond(token, response) {
        let text = format!("respond {token}: {}", text::error(&error));
        log(Level::Warn, &text);
    }
}

impl response_handler::Guest for Probe {
    fn writable(_token: u64) {}

    fn abandoned(token: u64) {
        log(Level::Warn, &format!("abandoned {token}"));
    }
}

fn answer(
    method: &Method,
    path: &str,
    query: &Query<'_>,
    target: &str,
    request: &Request,
) -> Response {
    match path {
        // METHOD TARGET VERSION SCHEME AUTHORITY.
        "/request" | "/" | "*" => {
            let authority = request.authority().unwrap_or_else(|| "-".into());
            let (version, scheme) = (request.minor_version(), request.scheme());
            let method = name(method);
            said(&format!(
                "{method} {target} 1.{version} {scheme} {authority}\n"
            ))
        }
        // All headers, a line each.
        "/headers" => said(&lines(&request.headers())),
        // header?name=NAME: the first value, how many there are, and the last.
        "/header" => {
            let name = query.first("name").unwrap_or_default();
            let values = request.header_values(&name);
            let word = |value: Option<&Vec<u8>>| {
                value.map_or_else(
                    || "-".into(),
                    |value| String::from_utf8_lossy(value).into_owned(),
                )
            };
            let first = word(request.header(&name).as_ref());
            said(&format!(
                "{first} {} {}\n",
                values.len(),
                word(values.last())
            ))
        }
        // The body, sent back.
        "/body" => bytes(request.body()),
        // The body's length.
        "/length" => said(&format!("{}\n", request.body().len())),
        // The trailers, a line each; and sent back as trailers.
        "/trailers" => {
            let trailers = request.trailers();
            Response {
                trailers: trailers.clone(),
                ..said(&lines(&trailers))
            }
        }
        // Both addresses and the TLS session.
        "/info" => said(&format!("{}\n", text::info(&request.info()))),
        "/proxied" => said(&format!("{}\n", text::proxied(request.proxied()))),
        // How many requests this instance has had.
        "/count" => said(&format!("{}\n", COUNT.get())),
        // big?n=N: so many bytes of `x`.
        "/big" => bytes(vec![b'x'; query.number("n")]),
        // path?file=PATH, file?path=PATH: a file by its path, or opened.
        "/path" => with_body(Body::Path(query.first("file").unwrap_or_default())),
        "/file" => match File::open(&query.first("path").unwrap_or_default()) {
            Ok(file) => with_body(Body::File(file)),
            Err(error) => said(&format!("error: {}\n", text::error(&error))),
        },
        // answer?status=N&header=NAME:VALUE&body=TEXT&trailer=NAME:VALUE: just
        // that, right or wrong.
        "/answer" => Response {
            status: query
                .first("status")
                .map_or(200, |code| code.parse().expect("a status")),
            headers: query.fields("header"),
            body: match query.first("body") {
                Some(text) => Body::Bytes(text.into_bytes()),
                None => Body::Empty,
            },
            trailers: query.fields("trailer"),
        },
        // log?text=TEXT: to standard error, as a word of the guest's.
        "/log" => {
            eprintln!("{}", query.first("text").unwrap_or_default());
            said("logged\n")
        }
        // busy?ms=N: after so long.
        "/busy" => {
            let time = Duration::from_millis(query.number("ms") as u64);
            let begun = Instant::now();
            while begun.elapsed() < time {
                black_box(());
            }
            said("done\n")
        }

        // From here on: bad manners.
        "/trap" => panic!("as it was told"),
        "/loop" => loop {
            black_box(());
        },
        "/flood" => loop {
            black_box(request.minor_version());
        },
        "/memory" => {
            let mut kept = Vec::new();
            loop {
                kept.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "/stack" => said(&command::overflow(black_box(0)).to_string()),
        // leak?path=PATH: opens files and keeps them until the host refuses.
        "/leak" => {
            let path = query.first("path").unwrap_or_default();
            let mut given = 0;
            loop {
                match File::open(&path) {
                    Ok(file) => std::mem::forget(file),
                    Err(error) => {
                        return said(&format!("{} after {given}\n", text::error(&error)));
                    }
                }
                given += 1;
            }
        }

        _ => Response {
            status: 404,
            ..said("there is nothing here\n")
        },
    }
}

fn said(text: &str) -> Response {
    Response {
        headers: vec![("Content-Type".into(), b"text/plain".to_vec())],
        ..bytes(text.into())
    }
}

fn bytes(bytes: Vec<u8>) -> Response {
    with_body(Body::Bytes(bytes))
}

fn with_body(body: Body) -> Response {
    Response {
        status: 200,
        headers: Vec::new(),
        body,
        trailers: Vec::new(),
    }
}

fn lines(fields: &Fields) -> String {
    let line =
        |(name, value): &(String, Vec<u8>)| format!("{name}: {}\n", String::from_utf8_lossy(value));
    fields.iter().map(line).collect()
}

fn name(method: &Method) -> String {
    match method {
        Method::Other(name) => name.clone(),
        known => format!("{known:?}")
            .trim_start_matches("Method::")
            .to_uppercase(),
    }
}

/// Query of a target: the text after the question mark.
struct Query<'a>(&'a str);

impl Query<'_> {
    fn all(&self, name: &str) -> impl Iterator<Item = String> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| decode(value))
    }

    fn first(&self, name: &str) -> Option<String> {
        self.all(name).next()
    }

    fn number(&self, name: &str) -> usize {
        let text = self.first(name).unwrap_or_default();
        text.parse().expect("a number")
    }

    fn fields(&self, name: &str) -> Fields {
        self.all(name)
            .map(|field| {
                let (name, value) = field.split_once(':').expect("NAME:VALUE");
                (name.to_owned(), value.into())
            })
            .collect()
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| str::from_utf8(two).ok());
        match digits.map(|two| u8::from_str_radix(two, 16)) {
            Some(Ok(byte)) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
