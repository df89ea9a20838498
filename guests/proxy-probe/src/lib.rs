//! Answers HTTP requests on any host of `wasi:http@0.2`: for tests, so some
//! answers are wrong.

use std::cell::Cell;

use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

const CHUNK: u64 = 64 << 10;

thread_local! {
    /// Requests that this instance has got.
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

struct Probe;
wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        COUNT.set(COUNT.get() + 1);
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse().unwrap_or(0_u64);
        match path {
            "/hello" => text(out, 200, "hello\n"),
            "/count" => text(out, 200, &COUNT.get().to_string()),
            "/request" | "*" => text(out, 200, &describe(&request)),
            "/echo" => {
                let incoming = request.consume().expect("a body");
                let data = incoming.stream().expect("a stream");
                let body = respond(out, 200, &[]);
                let stream = body.write().expect("a stream");
                while let Some(piece) = read(&data) {
                    write(&stream, &piece);
                }
                drop((stream, data));
                let trailers = trailers_of(incoming);
                OutgoingBody::finish(body, trailers).expect("it is whole");
            }
            "/sum" => {
                let incoming = request.consume().expect("a body");
                let data = incoming.stream().expect("a stream");
                let mut sum = 0;
                while let Some(piece) = read(&data) {
                    sum += piece.len();
                }
                drop(data);
                match trailers_of(incoming) {
                    Some(fields) => text(out, 200, &format!("{sum} {}", listed(&fields))),
                    None => text(out, 200, &format!("{sum}")),
                }
            }
            // Of a length that is told, or not.
            "/bytes" | "/sized" => {
                let length = number.to_string();
                let told = [("content-length", length.as_str())];
                let headers = if path == "/sized" { &told[..] } else { &[] };
                let body = respond(out, 200, headers);
                let stream = body.write().expect("a stream");
                let mut left = number;
                while left > 0 {
                    let length = left.min(CHUNK);
                    if !write(&stream, &vec![b'x'; length as usize]) {
                        println!("the client left");
                        break;
                    }
                    left -= length;
                }
                drop(stream);
                let _ = OutgoingBody::finish(body, None);
            }
            "/trailers" => {
                let body = respond(out, 200, &[]);
                write(&body.write().expect("a stream"), b"body");
                let fields = Fields::from_list(&[("x-sum".into(), b"4".to_vec())]);
                OutgoingBody::finish(body, fields.ok()).expect("it is whole");
            }
            "/short" | "/long" => {
                let length = if path == "/short" { "10" } else { "2" };
                let body = respond(out, 200, &[("content-length", length)]);
                write(&body.write().expect("a stream"), b"body");
                let _ = OutgoingBody::finish(body, None);
            }
            // A second content-length, which the interface refuses.
            "/twice" => {
                let fields = Fields::new();
                let _ = fields.append("content-length", b"0");
                let answer = match fields.append("Content-Length", query.as_bytes()) {
                    Ok(()) => Ok(OutgoingResponse::new(fields)),
                    Err(error) => {
                        println!("twice: {error:?}");
                        Err(ErrorCode::InternalError(None))
                    }
                };
                ResponseOutparam::set(out, answer);
            }
            "/unfinished" => {
                let body = respond(out, 200, &[]);
                write(&body.write().expect("a stream"), b"body");
                std::mem::forget(body);
            }
            "/status" => {
                let body = respond(out, number as u16, &[]);
                let _ = OutgoingBody::finish(body, None);
            }
            "/late" => {
                monotonic_clock::subscribe_duration(number * 1_000_000).block();
                text(out, 200, "late\n");
            }
            "/never" => monotonic_clock::subscribe_duration(u64::MAX).block(),
            "/after" => {
                text(out, 200, "before\n");
                monotonic_clock::subscribe_duration(number * 1_000_000).block();
                println!("done after the response");
            }
            // Exits with success: after so many bytes, after them and with the
            // body still open, without a response.
            "/exit" | "/exit-sized" | "/exit-open" => {
                let length = number.to_string();
                let told = [("content-length", length.as_str())];
                let headers = if path == "/exit-sized" {
                    &told[..]
                } else {
                    &[]
                };
                let body = respond(out, 200, headers);
                let stream = body.write().expect("a stream");
                write(&stream, &vec![b'x'; number as usize]);
                drop(stream);
                if path == "/exit-open" {
                    std::mem::forget(body);
                } else {
                    OutgoingBody::finish(body, None).expect("it is whole");
                }
                std::process::exit(0);
            }
            "/exit-silent" => std::process::exit(0),
            // Computes for so many milliseconds.
            "/busy" => {
                let begun = std::time::Instant::now();
                while begun.elapsed().as_millis() < number.into() {
                    std::hint::black_box(());
                }
                text(out, 200, "done\n");
            }
            "/silent" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::DestinationNotFound)),
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/trap" => panic!("asked to"),
            "/trap-late" => {
                let body = respond(out, 200, &[]);
                write(&body.write().expect("a stream"), b"begin");
                panic!("asked to");
            }
            _ => text(out, 404, "not found\n"),
        }
    }
}

fn text(out: ResponseOutparam, status: u16, text: &str) {
    let length = text.len().to_string();
    let body = respond(out, status, &[("content-length", &length)]);
    write(&body.write().expect("a stream"), text.as_bytes());
    let _ = OutgoingBody::finish(body, None);
}

fn respond(out: ResponseOutparam, status: u16, headers: &[(&str, &str)]) -> OutgoingBody {
    let list: Vec<(String, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let response = OutgoingResponse::new(Fields::from_list(&list).expect("proper headers"));
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// The next piece; none at the end.
fn read(data: &InputStream) -> Option<Vec<u8>> {
    match data.blocking_read(CHUNK) {
        Ok(piece) => Some(piece),
        Err(StreamError::Closed) => None,
        Err(StreamError::LastOperationFailed(error)) => {
            eprintln!("the body failed: {}", error.to_debug_string());
            None
        }
    }
}

/// Writes data. Returns true if it was taken.
fn write(stream: &OutputStream, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        stream.subscribe().block();
        let Ok(room) = stream.check_write() else {
            return false;
        };
        let length = data.len().min(room as usize);
        let (piece, rest) = data.split_at(length);
        if stream.write(piece).is_err() {
            return false;
        }
        data = rest;
    }
    true
}

fn trailers_of(body: IncomingBody) -> Option<Fields> {
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    trailers.get()?.ok()?.ok()?
}

fn describe(request: &IncomingRequest) -> String {
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Other(other) => other,
        _ => "another".to_owned(),
    };
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        _ => "none",
    };
    let authority = request.authority().unwrap_or_default();
    let target = request.path_with_query().unwrap_or_default();
    let headers = listed(&request.headers());
    format!("{method} {scheme}://{authority}{target}\n{headers}")
}

fn listed(fields: &Fields) -> String {
    let lines = fields.entries().into_iter();
    lines
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(&value)))
        .collect()
}
