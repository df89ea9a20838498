//! Serves the files of a directory.
//!
//! ```sh
//! netwasm run guests/static.wasm --http 8080 --dir ./public::/
//! ```
//!
//! A directory is answered by its `index.html`. After `--` it takes
//!
//! - `--list`, to list directories that have no index;
//! - `--fallback PATH`, a file to send where nothing exists, as applications
//!   with routes of their own want it: `--fallback /index.html`.
//!
//! Hidden files, whose names begin with a dot, are neither sent nor listed,
//! except what is in `/.well-known/`. Names must be UTF-8.
//!
//! The guest only says which file it is. Everything else that a file server
//! does, from ranges to compression, the host does: see `body` in
//! `wit/http.wit`.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:static-files;
        world static-files {
            include netwasm:net/http-server@0.2.0;
        }
    ",
    world: "netwasm:static-files/static-files",
    generate_all,
});

mod listing;
mod options;
mod path;

use std::fs;
use std::io::ErrorKind;
use std::sync::LazyLock;

use exports::netwasm::net::http_handler;
use html_escape::encode_text;
use netwasm::net::files::File;
use netwasm::net::http::{Answer, Body, Method, Request, Response};
use netwasm::net::log::{Level, log};
use netwasm::net::types::{Error, ErrorCode};
use options::Options;

/// What the command line asks for; `None`, and a line in the log, where that
/// makes no sense.
static OPTIONS: LazyLock<Option<Options>> =
    LazyLock::new(|| match Options::parse(std::env::args().skip(1)) {
        Ok(options) => Some(options),
        Err(reason) => {
            log(Level::Error, &reason);
            None
        }
    });

struct Static;
export!(Static);

impl http_handler::Guest for Static {
    fn handle(method: Method, target: String, _request: &Request) -> Answer {
        Answer::Respond(respond(&method, &target))
    }
}

fn respond(method: &Method, target: &str) -> Response {
    let Some(options) = &*OPTIONS else {
        return page(500, "Internal Server Error");
    };
    if !matches!(method, Method::Get | Method::Head) {
        let mut refusal = page(405, "Method Not Allowed");
        refusal.headers.push(("allow".into(), "GET, HEAD".into()));
        return refusal;
    }
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path = match path::decode(path) {
        Ok(path) if path::is_hidden(&path) => return not_found(),
        Ok(path) => path,
        Err(reason) => return bad_request(reason),
    };
    let file = if path.ends_with('/') {
        File::open(&[&path, "index.html"].concat())
    } else {
        File::open(&path)
    };
    match file {
        Ok(file) => send(file),
        // The second is a name that is longer than names can be.
        Err(Error {
            code: ErrorCode::NotFound | ErrorCode::InvalidArgument,
            ..
        }) => without_file(&path, query, options),
        Err(error) => failed(&path, &error),
    }
}

/// Answers where there is no file to send. The query has its question mark.
fn without_file(path: &str, query: &str, options: &Options) -> Response {
    match look(path) {
        Found::Directory if !path.ends_with('/') => {
            let location = format!("{}/{query}", path::encode(path));
            response(301, "location", &location, Body::Empty)
        }
        Found::Directory if options.list => list(path),
        Found::Directory | Found::Other => not_found(),
        Found::Nothing => match &options.fallback {
            None => not_found(),
            Some(fallback) => match File::open(fallback) {
                Ok(file) => send(file),
                Err(error) => {
                    log(Level::Warn, &format!("cannot open the --fallback: {error}"));
                    failed(fallback, &error)
                }
            },
        },
    }
}

/// What lies at a path that has no file to send.
enum Found {
    Directory,
    /// A special file, or a link that leads out of the directory.
    Other,
    Nothing,
}

fn look(path: &str) -> Found {
    // With a slash behind it, a file would not be found.
    let path = match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::Other,
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Found::Nothing,
            _ => Found::Other,
        },
    }
}

fn list(path: &str) -> Response {
    match listing::page(path) {
        Ok(listing) => html(200, listing),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => not_found(),
            ErrorKind::PermissionDenied => page(403, "Forbidden"),
            // Where no descriptor is left, WASI says no more than that.
            _ => {
                log(Level::Error, &format!("cannot list {path:?}: {error}"));
                page(503, "Service Unavailable")
            }
        },
    }
}

fn send(file: File) -> Response {
    Response {
        status: 200,
        headers: Vec::new(),
        body: Body::File(file),
        trailers: Vec::new(),
    }
}

/// Answers where a file cannot be opened.
fn failed(path: &str, error: &Error) -> Response {
    match error.code {
        ErrorCode::NotFound => not_found(),
        ErrorCode::AccessDenied => page(403, "Forbidden"),
        ErrorCode::LimitExceeded => page(503, "Service Unavailable"),
        _ => {
            log(
                Level::Error,
                &format!("cannot open {path:?}: {}", error.text),
            );
            page(500, "Internal Server Error")
        }
    }
}

fn not_found() -> Response {
    page(404, "Not Found")
}

fn bad_request(reason: &str) -> Response {
    let reason = encode_text(reason);
    html(400, format!("<h1>400 Bad Request</h1><p>{reason}</p>"))
}

/// What went wrong, as a page.
fn page(status: u16, title: &str) -> Response {
    html(status, format!("<h1>{status} {title}</h1>"))
}

fn html(status: u16, page: String) -> Response {
    let body = Body::Bytes(page.into());
    response(status, "content-type", "text/html; charset=utf-8", body)
}

fn response(status: u16, name: &str, value: &str, body: Body) -> Response {
    Response {
        status,
        headers: vec![(name.into(), value.into())],
        body,
        trailers: Vec::new(),
    }
}
