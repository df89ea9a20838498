//! Answers HTTP requests on any host of `wasi:http@0.3`: for tests, so some
//! answers are wrong.

mod rpc;

use std::cell::Cell;

use wasip3::cli::exit::exit;
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers};
use wasip3::{wit_future, wit_stream};
use wit_bindgen::{FutureReader, StreamReader};

const CHUNK: usize = 64 << 10;

thread_local! {
    /// Requests that this instance has got.
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

struct Probe;
wasip3::http::service::export!(Probe);

type Ended = FutureReader<Result<Option<Trailers>, ErrorCode>>;

impl Guest for Probe {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        COUNT.set(COUNT.get() + 1);
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query.parse().unwrap_or(0_u64);
        match path {
            "/hello" => Ok(text(200, "hello\n")),
            "/count" => Ok(text(200, &COUNT.get().to_string())),
            "/request" | "*" => Ok(text(200, &describe(&request))),
            "/echo" => {
                let (_, ok) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, ok);
                Ok(respond(200, &[], Some(body), trailers))
            }
            "/upper" => {
                let (mut out, body) = wit_stream::new();
                let (_, ok) = wit_future::new(|| Ok(()));
                let (mut data, _) = Request::consume_body(request, ok);
                wit_bindgen::spawn_local(async move {
                    loop {
                        let (status, mut piece) = data.read(Vec::with_capacity(CHUNK)).await;
                        piece.make_ascii_uppercase();
                        if !out.write_all(piece).await.is_empty() || is_end(status) {
                            break;
                        }
                    }
                });
                Ok(respond(200, &[], Some(body), no_trailers()))
            }
            "/sum" => {
                let (_, ok) = wit_future::new(|| Ok(()));
                let (mut data, ended) = Request::consume_body(request, ok);
                let mut sum = 0;
                let mut buffer = Vec::with_capacity(CHUNK);
                loop {
                    let (status, piece) = data.read(buffer).await;
                    sum += piece.len();
                    if is_end(status) {
                        break;
                    }
                    buffer = piece;
                    buffer.clear();
                }
                drop(data);
                match ended.await {
                    Ok(Some(fields)) => Ok(text(200, &format!("{sum} {}", listed(&fields)))),
                    Ok(None) => Ok(text(200, &format!("{sum}"))),
                    Err(error) => {
                        eprintln!("the body failed: {error:?}");
                        Ok(text(400, "failed"))
                    }
                }
            }
            // Of a length that is told, or not.
            "/bytes" | "/sized" => {
                let (mut out, body) = wit_stream::new();
                wit_bindgen::spawn_local(async move {
                    let mut left = number;
                    while left > 0 {
                        let length = left.min(CHUNK as u64);
                        if !out.write_all(vec![b'x'; length as usize]).await.is_empty() {
                            println!("the client left");
                            break;
                        }
                        left -= length;
                    }
                });
                let length = number.to_string();
                let told = [("content-length", length.as_str())];
                let headers = if path == "/sized" { &told[..] } else { &[] };
                Ok(respond(200, headers, Some(body), no_trailers()))
            }
            "/trailers" => {
                let (mut out, body) = wit_stream::new();
                let (told, trailers) = wit_future::new(|| Ok(None));
                wit_bindgen::spawn_local(async move {
                    out.write_all(b"body".to_vec()).await;
                    drop(out);
                    let fields = Fields::from_list(&[("x-sum".into(), b"4".to_vec())]);
                    let _ = told.write(Ok(fields.ok())).await;
                });
                Ok(respond(200, &[], Some(body), trailers))
            }
            "/short" | "/long" => {
                let length = if path == "/short" { "10" } else { "2" };
                let (mut out, body) = wit_stream::new();
                wit_bindgen::spawn_local(async move {
                    out.write_all(b"body".to_vec()).await;
                });
                let length = ("content-length", length);
                Ok(respond(200, &[length], Some(body), no_trailers()))
            }
            // A second content-length, which the interface refuses.
            "/twice" => {
                let fields = Fields::new();
                let _ = fields.append("content-length", b"0");
                match fields.append("Content-Length", query.as_bytes()) {
                    Ok(()) => Ok(Response::new(fields, None, no_trailers()).0),
                    Err(error) => {
                        println!("twice: {error:?}");
                        Err(ErrorCode::InternalError(None))
                    }
                }
            }
            // Writes so much, and then nothing for a while.
            "/stall" => {
                let (mut out, body) = wit_stream::new();
                wit_bindgen::spawn_local(async move {
                    out.write_all(vec![b'x'; number as usize]).await;
                    monotonic_clock::wait_for(20_000_000_000).await;
                });
                Ok(respond(200, &[], Some(body), no_trailers()))
            }
            // The file `content`, from an offset on.
            "/file" => Ok(of_file(number, &[], no_trailers()).await),
            "/file-of" => Ok(of_file(0, &[("content-length", query)], no_trailers()).await),
            "/file-trailers" => {
                let (told, trailers) = wit_future::new(|| Ok(None));
                wit_bindgen::spawn_local(async move {
                    let fields = Fields::from_list(&[("x-sum".into(), b"4".to_vec())]);
                    let _ = told.write(Ok(fields.ok())).await;
                });
                Ok(of_file(number, &[], trailers).await)
            }
            "/file-fails" => {
                let (told, trailers) = wit_future::new(|| Ok(None));
                wit_bindgen::spawn_local(async move {
                    let _ = told.write(Err(ErrorCode::InternalError(None))).await;
                });
                Ok(of_file(number, &[], trailers).await)
            }
            // The body of one response as that of another.
            "/file-again" => {
                let response = of_file(number, &[], no_trailers()).await;
                let (_, ok) = wit_future::new(|| Ok(()));
                let (body, trailers) = Response::consume_body(response, ok);
                Ok(respond(200, &[], Some(body), trailers))
            }
            "/status" => Ok(respond(number as u16, &[], None, no_trailers())),
            // No contents, whatever length is told.
            "/empty-sized" => {
                let length = ("content-length", query);
                Ok(respond(200, &[length], None, no_trailers()))
            }
            "/late" => {
                monotonic_clock::wait_for(number * 1_000_000).await;
                Ok(text(200, "late\n"))
            }
            "/never" => {
                monotonic_clock::wait_for(u64::MAX >> 1).await;
                Err(ErrorCode::HttpResponseTimeout)
            }
            "/after" => {
                wit_bindgen::spawn_local(async move {
                    monotonic_clock::wait_for(number * 1_000_000).await;
                    println!("done after the response");
                });
                Ok(text(200, "before\n"))
            }
            // Exits with success: when it was told that so many bytes were sent,
            // before that, with the body still open, without a response.
            "/exit" | "/exit-early" | "/exit-open" => {
                let (mut out, body) = wit_stream::new();
                let fields = Fields::new();
                let (response, sent) = Response::new(fields, Some(body), no_trailers());
                let (early, open) = (path == "/exit-early", path == "/exit-open");
                wit_bindgen::spawn_local(async move {
                    out.write_all(vec![b'x'; number as usize]).await;
                    if open {
                        exit(Ok(()));
                    }
                    drop(out);
                    if !early {
                        println!("sent {:?}", sent.await);
                    }
                    exit(Ok(()));
                });
                Ok(response)
            }
            "/exit-silent" => {
                exit(Ok(()));
                Ok(text(200, "it goes on"))
            }
            // The trailers are told after that the body was sent, or never.
            "/sent-first" | "/sent-first-sized" | "/trailers-never" => {
                let (mut out, body) = wit_stream::new();
                let (told, trailers) = wit_future::new(|| Ok(None));
                let list = match path {
                    "/sent-first-sized" => vec![("content-length".into(), b"4".to_vec())],
                    _ => vec![],
                };
                let fields = Fields::from_list(&list).expect("proper headers");
                let (response, sent) = Response::new(fields, Some(body), trailers);
                let never = path == "/trailers-never";
                wit_bindgen::spawn_local(async move {
                    out.write_all(b"body".to_vec()).await;
                    drop(out);
                    println!("sent {:?}", sent.await);
                    if never {
                        monotonic_clock::wait_for(u64::MAX >> 1).await;
                    }
                    let fields = Fields::from_list(&[("x-sum".into(), b"4".to_vec())]);
                    let _ = told.write(Ok(fields.ok())).await;
                });
                Ok(response)
            }
            // No contents: with trailers that are told after the response was sent, or
            // never, or with an error in their place.
            "/empty-trailers" | "/empty-never" | "/empty-fails" => {
                let (told, trailers) = wit_future::new(|| Ok(None));
                let (response, sent) = Response::new(Fields::new(), None, trailers);
                let (fails, never) = (path == "/empty-fails", path == "/empty-never");
                wit_bindgen::spawn_local(async move {
                    if never {
                        monotonic_clock::wait_for(u64::MAX >> 1).await;
                    }
                    if fails {
                        let _ = told.write(Err(ErrorCode::InternalError(None))).await;
                        return;
                    }
                    println!("sent {:?}", sent.await);
                    let fields = Fields::from_list(&[("x-sum".into(), b"4".to_vec())]);
                    let _ = told.write(Ok(fields.ok())).await;
                });
                Ok(response)
            }
            // Computes for so many milliseconds.
            "/busy" => {
                let begun = std::time::Instant::now();
                while begun.elapsed().as_millis() < number.into() {
                    std::hint::black_box(());
                }
                Ok(text(200, "done\n"))
            }
            "/error" => Err(ErrorCode::DestinationNotFound),
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/trap" => panic!("asked to"),
            "/trap-late" => {
                let (mut out, body) = wit_stream::new();
                wit_bindgen::spawn_local(async move {
                    out.write_all(b"begin".to_vec()).await;
                    panic!("asked to");
                });
                Ok(respond(200, &[], Some(body), no_trailers()))
            }
            _ => match path.strip_prefix("/test.Calls/") {
                Some(method) => Ok(rpc::answer(method.to_owned(), request)),
                None => Ok(text(404, "not found\n")),
            },
        }
    }
}

fn text(status: u16, text: &str) -> Response {
    let (mut out, body) = wit_stream::new();
    let data = text.as_bytes().to_vec();
    wit_bindgen::spawn_local(async move {
        out.write_all(data).await;
    });
    let length = text.len().to_string();
    respond(
        status,
        &[("content-length", &length)],
        Some(body),
        no_trailers(),
    )
}

fn no_trailers() -> Ended {
    wit_future::new(|| Ok(None)).1
}

fn respond(
    status: u16,
    headers: &[(&str, &str)],
    body: Option<StreamReader<u8>>,
    trailers: Ended,
) -> Response {
    let list: Vec<(String, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let fields = Fields::from_list(&list).expect("proper headers");
    let (response, _sent) = Response::new(fields, body, trailers);
    response.set_status_code(status).expect("a status");
    response
}

async fn of_file(offset: u64, headers: &[(&str, &str)], trailers: Ended) -> Response {
    let roots = get_directories();
    let (root, _) = roots.first().expect("a directory");
    let (path, open, read) = (
        PathFlags::empty(),
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let file = root.open_at(path, "content".into(), open, read).await;
    let (body, read) = file.expect("a file").read_via_stream(offset);
    let list: Vec<(String, Vec<u8>)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let fields = Fields::from_list(&list).expect("proper headers");
    let (response, sent) = Response::new(fields, Some(body), trailers);
    wit_bindgen::spawn_local(async move {
        let (read, sent) = (read.await, sent.await);
        println!("read {read:?}, sent {sent:?}");
    });
    response
}

fn describe(request: &Request) -> String {
    let method = match request.get_method() {
        Method::Get => "GET".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Other(other) => other,
        _ => "another".to_owned(),
    };
    let scheme = match request.get_scheme() {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        _ => "none",
    };
    let authority = request.get_authority().unwrap_or_default();
    let target = request.get_path_with_query().unwrap_or_default();
    let headers = listed(&request.get_headers());
    format!("{method} {scheme}://{authority}{target}\n{headers}")
}

fn listed(fields: &Fields) -> String {
    let lines = fields.copy_all().into_iter();
    lines
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(&value)))
        .collect()
}

fn is_end(status: wit_bindgen::StreamResult) -> bool {
    !matches!(status, wit_bindgen::StreamResult::Complete(_))
}
