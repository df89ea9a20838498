//! Sends HTTP requests as the path of the one that it gets says, to the URL
//! that the query is, on any host of `wasi:http@0.3`: for tests.

use futures_util::future::{Either, join_all, select};
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme, Trailers,
};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

#[path = "../../std-probe/src/otel.rs"]
mod otel;

const CHUNK: usize = 64 << 10;

struct Probe;
wasip3::http::service::export!(Probe);
wasip3::cli::command::export!(Probe);

type Ended = FutureReader<Result<Option<Trailers>, ErrorCode>>;

impl Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (number, url) = match query.split_once('+') {
            Some((number, url)) => (number.parse().unwrap_or(0), url),
            None => (0_u64, query),
        };
        let message = |method, body| outgoing(&request, method, url, body);
        let said = match path {
            "/get" => match client::send(message(request.get_method(), None)).await {
                Ok(response) => told(response).await,
                Err(error) => format!("error: {error:?}"),
            },
            // Within a span of the guest's own.
            "/get-within" => {
                let span = otel::begin("00f067aa0ba902b7", "asking");
                let response = client::send(message(Method::Get, None)).await;
                otel::end(&span);
                match response {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            // These words mean what they do for `std-probe`.
            "/otel" => otel::run(&query.split('/').collect::<Vec<_>>()),
            // To the server itself.
            "/asterisk" => {
                let sent = message(request.get_method(), None);
                let set = sent.set_path_with_query(Some("*"));
                set.expect("a target");
                match client::send(sent).await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            "/upload" | "/get-with" => {
                let method = match path {
                    "/upload" => Method::Post,
                    _ => Method::Get,
                };
                let body = bytes(number, End::Trailers);
                match client::send(message(method, Some(body))).await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            // Tells how the sending of the request ended, too; the second lets
            // go of the response.
            "/upload-told" | "/upload-drop" => {
                let (message, sent) = sending(
                    &request,
                    Method::Post,
                    url,
                    Some(bytes(number, End::Trailers)),
                );
                match client::send(message).await {
                    Ok(response) if path == "/upload-drop" => {
                        let status = response.get_status_code();
                        drop(response);
                        format!("{status}, sent {:?}", sent.await)
                    }
                    Ok(response) => {
                        let told = told(response).await;
                        format!("{told}, sent {:?}", sent.await)
                    }
                    Err(error) => format!("error: {error:?}"),
                }
            }
            // Tells what the sending of a request that fails says of itself.
            "/unsent" => {
                let (message, sent) = sending(&request, Method::Get, url, None);
                match client::send(message).await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}, sent {:?}", sent.await),
                }
            }
            "/get-pathless" => {
                let sent = message(Method::Get, None);
                let set = sent.set_path_with_query(None);
                set.expect("no path");
                match client::send(sent).await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            // It says that its body was not whole.
            "/upload-fails" => {
                let body = bytes(number, End::Error);
                match client::send(message(Method::Post, Some(body))).await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            "/upload-trap" => {
                let sent = message(Method::Post, Some(bytes(number, End::Never)));
                let sending = client::send(sent);
                wit_bindgen::spawn_local(async move {
                    monotonic_clock::wait_for(200_000_000).await;
                    panic!("asked to");
                });
                match sending.await {
                    Ok(response) => told(response).await,
                    Err(error) => format!("error: {error:?}"),
                }
            }
            // Takes so many bytes of the response, and no more.
            "/drop" => match client::send(message(Method::Get, None)).await {
                Ok(response) => {
                    let status = response.get_status_code();
                    let (_, consumed) = wit_future::new(|| Ok(()));
                    let (mut data, _) = Response::consume_body(response, consumed);
                    if number > 0 {
                        data.read(Vec::with_capacity(number as usize)).await;
                    }
                    drop(data);
                    format!("dropped {status}")
                }
                Err(error) => format!("error: {error:?}"),
            },
            // Waits so many milliseconds for the response, and no longer.
            "/cancel" => {
                let sending = Box::pin(client::send(message(Method::Get, None)));
                let late = Box::pin(monotonic_clock::wait_for(number * 1_000_000));
                match select(sending, late).await {
                    Either::Left((Ok(response), _)) => told(response).await,
                    Either::Left((Err(error), _)) => format!("error: {error:?}"),
                    Either::Right(_) => "cancelled".to_owned(),
                }
            }
            // So many at once.
            "/flood" => {
                let all = (0..number).map(|_| client::send(message(Method::Get, None)));
                let all = join_all(all.collect::<Vec<_>>()).await;
                let refused = |it: &&Result<Response, ErrorCode>| {
                    matches!(it, Err(ErrorCode::ConnectionLimitReached))
                };
                let answered = all.iter().filter(|it| it.is_ok()).count();
                let refused = all.iter().filter(refused).count();
                format!("{answered} answered, {refused} refused")
            }
            _ => "no such path".to_owned(),
        };
        Ok(text(&said))
    }
}

/// As a program it sends one request, to the URL that its argument is.
impl wasip3::exports::cli::run::Guest for Probe {
    async fn run() -> Result<(), ()> {
        let url = std::env::args().nth(1).ok_or(())?;
        let (_, no_trailers) = wit_future::new(|| Ok(None));
        let (nothing, _) = Request::new(Fields::new(), None, no_trailers, None);
        match client::send(outgoing(&nothing, Method::Get, &url, None)).await {
            Ok(response) => println!("{}", told(response).await),
            Err(error) => {
                println!("error: {error:?}");
                return Err(());
            }
        }
        Ok(())
    }
}

/// A request to a URL, with the time-outs that the one at hand says.
fn outgoing(
    asked: &Request,
    method: Method,
    url: &str,
    body: Option<(StreamReader<u8>, Ended)>,
) -> Request {
    sending(asked, method, url, body).0
}

/// A request like `outgoing`'s, and the future that tells how its sending
/// ended.
fn sending(
    asked: &Request,
    method: Method,
    url: &str,
    body: Option<(StreamReader<u8>, Ended)>,
) -> (Request, FutureReader<Result<(), ErrorCode>>) {
    let fields = asked.get_headers();
    let milliseconds = |name: &str| {
        let value = fields.get(name).into_iter().next()?;
        let number: u64 = String::from_utf8(value).ok()?.parse().ok()?;
        Some(number * 1_000_000)
    };
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(milliseconds("x-connect"));
    let _ = options.set_first_byte_timeout(milliseconds("x-first"));
    let _ = options.set_between_bytes_timeout(milliseconds("x-between"));
    let list: Vec<(String, Vec<u8>)> = match &body {
        Some(_) => vec![("trailer".into(), b"x-check".to_vec())],
        None => vec![("te".into(), b"trailers".to_vec())],
    };
    let (body, trailers) = match body {
        Some((body, trailers)) => (Some(body), trailers),
        None => (None, wit_future::new(|| Ok(None)).1),
    };
    let fields = Fields::from_list(&list).expect("proper headers");
    let (request, sent) = Request::new(fields, body, trailers, Some(options));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let _ = request.set_method(&method);
    let _ = request.set_scheme(Some(&scheme));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(&format!("/{path}")));
    (request, sent)
}

enum End {
    Trailers,
    Error,
    /// More is to come, but does not.
    Never,
}

/// A body of so many bytes.
fn bytes(number: u64, end: End) -> (StreamReader<u8>, Ended) {
    let (mut out, body) = wit_stream::new();
    let (ended, trailers) = wit_future::new(|| Ok(None));
    wit_bindgen::spawn_local(async move {
        let mut left = number;
        while left > 0 {
            let length = left.min(CHUNK as u64);
            if !out.write_all(vec![b'x'; length as usize]).await.is_empty() {
                println!("nobody takes more");
                break;
            }
            left -= length;
        }
        let end = match end {
            End::Trailers => {
                let check = number.to_string().into_bytes();
                Ok(Fields::from_list(&[("x-check".into(), check)]).ok())
            }
            End::Error => Err(ErrorCode::InternalError(None)),
            End::Never => std::future::pending().await,
        };
        drop(out);
        let _ = ended.write(end).await;
    });
    (body, trailers)
}

/// A response so far: status, length, trailers, or why it ended.
async fn told(response: Response) -> String {
    let status = response.get_status_code();
    let length = response.get_headers().get("content-length").len();
    let framing = if length > 0 { "length" } else { "stream" };
    let (_, consumed) = wit_future::new(|| Ok(()));
    let (mut data, ended) = Response::consume_body(response, consumed);
    let mut sum = 0;
    let mut buffer = Vec::with_capacity(CHUNK);
    let mut beginning = Vec::new();
    loop {
        let (status, piece) = data.read(buffer).await;
        sum += piece.len();
        if beginning.len() < 64 {
            beginning.extend_from_slice(&piece[..piece.len().min(64)]);
        }
        if !matches!(status, wit_bindgen::StreamResult::Complete(_)) {
            break;
        }
        buffer = piece;
        buffer.clear();
    }
    drop(data);
    let beginning = String::from_utf8_lossy(&beginning).into_owned();
    let beginning = if sum <= 64 { beginning.trim_end() } else { "" };
    match ended.await {
        Ok(Some(fields)) => format!("{status} {framing} {sum} {beginning} {}", listed(&fields)),
        Ok(None) => format!("{status} {framing} {sum} {beginning}"),
        Err(error) => format!("{status} {framing} {sum} error: {error:?}"),
    }
}

fn listed(fields: &Fields) -> String {
    let lines = fields.copy_all().into_iter();
    let line =
        |(name, value): (String, Vec<u8>)| format!("{name}: {}", String::from_utf8_lossy(&value));
    lines.map(line).collect::<Vec<_>>().join(", ")
}

fn text(text: &str) -> Response {
    let (mut out, body) = wit_stream::new();
    let data = format!("{}\n", text.trim_end()).into_bytes();
    wit_bindgen::spawn_local(async move {
        out.write_all(data).await;
    });
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    Response::new(Fields::new(), Some(body), no_trailers).0
}
