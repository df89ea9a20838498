//! Serves the files of a directory on any host of `wasi:http@0.3` and
//! `wasi:filesystem@0.3`.
//!
//! ```sh
//! netwasm run guests/file-server.wasm --http 8080 --dir ./public::/
//! ```
//!
//! A directory is answered by its `index.html`. Hidden files, whose names begin
//! with a dot, are not sent.
//!
//! The body of a response is the stream of the file, which the guest passes on
//! unread: so the host may leave the copying to the kernel, and netwasm does.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::percent_decode_str;
use wasip3::exports::http::handler::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode as FileError, OpenFlags,
    PathFlags,
};
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_future;

struct FileServer;
wasip3::http::service::export!(FileServer);

impl Guest for FileServer {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let head = match request.get_method() {
            Method::Get => false,
            Method::Head => true,
            _ => return Ok(empty(405, &[("allow", "GET, HEAD")])),
        };
        let target = request.get_path_with_query().unwrap_or_default();
        let path = target.split_once('?').map_or(&*target, |(path, _)| path);
        let Ok(decoded) = percent_decode_str(path).decode_utf8() else {
            return Ok(empty(400, &[]));
        };
        if decoded.split('/').any(|name| name.starts_with('.')) {
            return Ok(empty(404, &[]));
        }
        Ok(match find(&decoded).await {
            Ok(Found::File(file, stat)) => send(&request, head, &decoded, &file, &stat),
            // So that the links of its page lead into it.
            Ok(Found::Directory) => empty(301, &[("location", &format!("{path}/"))]),
            Err(FileError::Access) => empty(403, &[]),
            Err(FileError::Other(reason)) => {
                eprintln!("cannot open {decoded:?}: {reason:?}");
                empty(500, &[])
            }
            // A link that leads out of the directory is `NotPermitted`.
            Err(_) => empty(404, &[]),
        })
    }
}

/// What the host gives, which does not change while the instance lives.
static DIRECTORIES: LazyLock<Vec<(Descriptor, String)>> = LazyLock::new(get_directories);

enum Found {
    File(Descriptor, DescriptorStat),
    /// One that was asked for without a slash at the end.
    Directory,
}

/// Opens what a path leads to, as the directories that the host gives have it.
async fn find(path: &str) -> Result<Found, FileError> {
    let (directory, mut path) = DIRECTORIES
        .iter()
        .filter_map(|(directory, root)| {
            let rest = path.strip_prefix(root.trim_end_matches('/'))?;
            Some((directory, rest.strip_prefix('/')?.to_owned()))
        })
        .min_by_key(|(_, rest)| rest.len())
        .ok_or(FileError::NoEntry)?;
    if path.is_empty() || path.ends_with('/') {
        path.push_str("index.html");
    }
    let follow = PathFlags::SYMLINK_FOLLOW;
    // Opening anything else might wait, as that of a pipe does for its writer.
    match directory.stat_at(follow, path.clone()).await?.type_ {
        DescriptorType::RegularFile => {}
        DescriptorType::Directory => return Ok(Found::Directory),
        _ => return Err(FileError::NoEntry),
    }
    let (open, read) = (OpenFlags::empty(), DescriptorFlags::READ);
    let file = directory.open_at(follow, path, open, read).await?;
    let stat = file.stat().await?;
    Ok(Found::File(file, stat))
}

fn send(
    request: &Request,
    head: bool,
    path: &str,
    file: &Descriptor,
    stat: &DescriptorStat,
) -> Response {
    let modified = stat.data_modification_timestamp.as_ref();
    let (seconds, nanoseconds) = modified.map_or((0, 0), |time| (time.seconds, time.nanoseconds));
    let tag = format!("\"{seconds:x}.{nanoseconds:x}-{:x}\"", stat.size);
    let time = UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let date = httpdate::fmt_http_date(time);
    let validators = [("etag", &*tag), ("last-modified", &*date)];

    let asked = request.get_headers();
    let tags = asked.get("if-none-match");
    let unchanged = match tags.is_empty() {
        // A client sends back the date that it got.
        true => asked.get("if-modified-since") == [date.as_bytes()],
        false => tags.iter().any(|tags| names(tags, &tag)),
    };
    if unchanged {
        return respond(304, &validators, None);
    }
    let size = stat.size.to_string();
    let content = [
        ("content-type", content_type(path)),
        ("content-length", &*size),
    ];
    let body = (!head).then_some(file);
    respond(200, &[content, validators].concat(), body)
}

/// Whether the value of an `If-None-Match` names a tag.
fn names(value: &[u8], tag: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    let mut names = text.split(',').map(str::trim);
    names.any(|name| name == "*" || name.strip_prefix("W/").unwrap_or(name) == tag)
}

fn empty(status: u16, headers: &[(&str, &str)]) -> Response {
    respond(
        status,
        &[headers, &[("content-length", "0")]].concat(),
        None,
    )
}

/// A response, the body of which is a file.
fn respond(status: u16, headers: &[(&str, &str)], body: Option<&Descriptor>) -> Response {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
        .collect();
    let headers = Fields::from_list(&headers).expect("proper headers");
    // Why reading ends early is the client's to see: less comes than was told.
    let contents = body.map(|file| file.read_via_stream(0).0);
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, contents, no_trailers);
    response.set_status_code(status).expect("a status");
    response
}

fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let extension = match name.rsplit_once('.') {
        Some((_, extension)) => extension.to_ascii_lowercase(),
        // The page of a directory.
        None if name.is_empty() => "html".to_owned(),
        None => String::new(),
    };
    match &*extension {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}
