//! Sends HTTP requests as the path of the one that it gets says, to the URL
//! that the query is, on any host of `wasi:http@0.2`: for tests.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse,
    Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions, ResponseOutparam,
    Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

const CHUNK: u64 = 64 << 10;

struct Probe;
wasip2::http::proxy::export!(Probe);

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (number, url) = match query.split_once('+') {
            Some((number, url)) => (number.parse().unwrap_or(0), url),
            None => (0_u64, query),
        };
        let said = match path {
            "/get" => {
                let sent = outgoing(&request.method(), url, &[]);
                let body = sent.body().expect("a body");
                let _ = OutgoingBody::finish(body, None);
                said(send(&request, sent).and_then(wait))
            }
            // The body is dropped, and not finished: before the request is sent,
            // or after.
            "/get-unfinished" => {
                let sent = outgoing(&request.method(), url, &[]);
                drop(sent.body().expect("a body"));
                said(send(&request, sent).and_then(wait))
            }
            "/get-unfinished-late" => {
                let sent = outgoing(&request.method(), url, &[]);
                let body = sent.body().expect("a body");
                let response = send(&request, sent);
                drop(body);
                said(response.and_then(wait))
            }
            // No body is taken.
            "/get-bodiless" => {
                let sent = outgoing(&request.method(), url, &[]);
                said(send(&request, sent).and_then(wait))
            }
            // To the server itself.
            "/asterisk" => {
                let sent = outgoing(&request.method(), url, &[]);
                let set = sent.set_path_with_query(Some("*"));
                set.expect("a target");
                said(send(&request, sent).and_then(wait))
            }
            "/upload" | "/upload-fails" | "/upload-trap" | "/get-with" | "/get-sized" => {
                let length = number.to_string();
                let sent = match path {
                    "/get-with" => outgoing(&Method::Get, url, &[]),
                    "/get-sized" => outgoing(&Method::Get, url, &[("content-length", &length)]),
                    _ => outgoing(&Method::Post, url, &[("trailer", "x-check")]),
                };
                let body = sent.body().expect("a body");
                match send(&request, sent) {
                    Err(error) => format!("error: {error:?}"),
                    Ok(response) => {
                        let stream = body.write().expect("a stream");
                        if !write(&stream, number) {
                            println!("nobody takes more");
                        }
                        drop(stream);
                        match path {
                            "/upload-fails" => drop(body),
                            "/get-sized" => drop(OutgoingBody::finish(body, None)),
                            "/upload-trap" => {
                                let pause = 200_000_000;
                                wasip2::clocks::monotonic_clock::subscribe_duration(pause).block();
                                panic!("asked to");
                            }
                            _ => {
                                let check = number.to_string().into_bytes();
                                let fields = Fields::from_list(&[("x-check".into(), check)]);
                                let _ = OutgoingBody::finish(body, fields.ok());
                            }
                        }
                        said(wait(response))
                    }
                }
            }
            // Takes so many bytes of the response, and no more.
            "/drop" => match send(&request, outgoing(&Method::Get, url, &[])).and_then(wait) {
                Ok(response) => {
                    let body = response.consume().expect("a body");
                    if number > 0 {
                        let stream = body.stream().expect("a stream");
                        let _ = stream.blocking_read(number);
                    }
                    drop(body);
                    format!("dropped {}", response.status())
                }
                Err(error) => format!("error: {error:?}"),
            },
            // Waits so many milliseconds for the response, and no longer.
            "/cancel" => match send(&request, outgoing(&Method::Get, url, &[])) {
                Ok(response) => {
                    let pause = number * 1_000_000;
                    wasip2::clocks::monotonic_clock::subscribe_duration(pause).block();
                    drop(response);
                    "cancelled".to_owned()
                }
                Err(error) => format!("error: {error:?}"),
            },
            // So many at once.
            "/flood" => {
                let all = (0..number).map(|_| send(&request, outgoing(&Method::Get, url, &[])));
                let all: Vec<_> = all.collect();
                let all: Vec<_> = all.into_iter().map(|it| it.and_then(wait)).collect();
                let refused = |it: &&Result<IncomingResponse, ErrorCode>| {
                    matches!(it, Err(ErrorCode::ConnectionLimitReached))
                };
                let answered = all.iter().filter(|it| it.is_ok()).count();
                let refused = all.iter().filter(refused).count();
                format!("{answered} answered, {refused} refused")
            }
            _ => "no such path".to_owned(),
        };
        text(out, &said);
    }
}

fn outgoing(method: &Method, url: &str, headers: &[(&str, &str)]) -> OutgoingRequest {
    let list: Vec<(String, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .chain([("te".to_owned(), b"trailers".to_vec())])
        .collect();
    let request = OutgoingRequest::new(Fields::from_list(&list).expect("proper headers"));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let _ = request.set_method(method);
    let _ = request.set_scheme(Some(&scheme));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(&format!("/{path}")));
    request
}

/// Sends it, with the time-outs that the request at hand says.
fn send(
    asked: &IncomingRequest,
    request: OutgoingRequest,
) -> Result<FutureIncomingResponse, ErrorCode> {
    let fields = asked.headers();
    let milliseconds = |name: &str| {
        let value = fields.get(name).into_iter().next()?;
        let number: u64 = String::from_utf8(value).ok()?.parse().ok()?;
        Some(number * 1_000_000)
    };
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(milliseconds("x-connect"));
    let _ = options.set_first_byte_timeout(milliseconds("x-first"));
    let _ = options.set_between_bytes_timeout(milliseconds("x-between"));
    outgoing_handler::handle(request, Some(options))
}

fn wait(response: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    response.subscribe().block();
    response
        .get()
        .expect("it is there")
        .expect("it was not taken before")
}

fn said(answer: Result<IncomingResponse, ErrorCode>) -> String {
    match answer {
        Ok(response) => told(&response),
        Err(error) => format!("error: {error:?}"),
    }
}

/// Describes a response: status, length, trailers, or why it ended.
fn told(response: &IncomingResponse) -> String {
    let status = response.status();
    let length = response.headers().get("content-length").len();
    let framing = if length > 0 { "length" } else { "stream" };
    let body = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut sum = 0;
    let mut beginning = Vec::new();
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(piece) => {
                sum += piece.len();
                if beginning.len() < 64 {
                    beginning.extend_from_slice(&piece[..piece.len().min(64)]);
                }
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                let error = match wasip2::http::types::http_error_code(&error) {
                    Some(code) => format!("{code:?}"),
                    None => error.to_debug_string(),
                };
                return format!("{status} {framing} {sum} error: {error}");
            }
        }
    }
    drop(stream);
    let beginning = String::from_utf8_lossy(&beginning).into_owned();
    let beginning = if sum <= 64 { beginning.trim_end() } else { "" };
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => {
            format!("{status} {framing} {sum} {beginning} {}", listed(&fields))
        }
        Some(Ok(Err(error))) => format!("{status} {framing} {sum} error: {error:?}"),
        _ => format!("{status} {framing} {sum} {beginning}"),
    }
}

fn listed(fields: &Fields) -> String {
    let lines = fields.entries().into_iter();
    let line =
        |(name, value): (String, Vec<u8>)| format!("{name}: {}", String::from_utf8_lossy(&value));
    lines.map(line).collect::<Vec<_>>().join(", ")
}

/// Writes so many bytes. Returns true if they were taken.
fn write(stream: &OutputStream, number: u64) -> bool {
    let mut left = number;
    while left > 0 {
        stream.subscribe().block();
        let Ok(room) = stream.check_write() else {
            return false;
        };
        let length = left.min(room).min(CHUNK);
        if stream.write(&vec![b'x'; length as usize]).is_err() {
            return false;
        }
        left -= length;
    }
    true
}

fn text(out: ResponseOutparam, text: &str) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a body");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a stream");
    let text = format!("{}\n", text.trim_end());
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
