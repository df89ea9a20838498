//! Serves the files of a directory on any host of `wasi:http@0.3` and
//! `wasi:filesystem@0.3`.
//!
//! ```sh
//! netwasm run guests/file-server.wasm --http 8080 --dir ./public::/
//! ```
//!
//! A directory is answered by its `index.html`. Hidden files, whose names begin
//! with a dot, are not sent. Clients may ask for a file only if it has changed,
//! and for a part of it (`conditions`, `range`).
//!
//! The body of a response is the stream of the file, which the guest passes on
//! unread: so the host may leave the copying to the kernel, and netwasm does.

mod conditions;
mod range;

use std::sync::LazyLock;

use percent_encoding::percent_decode_str;
use wasip3::clocks::system_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode as FileError, OpenFlags,
    PathFlags,
};
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response};
use wasip3::wit_bindgen::{StreamReader, StreamResult};
use wasip3::{spawn_local, wit_future, wit_stream};

use conditions::{Validators, Verdict};
use range::Selected;

/// How much of a part is copied at once, bytes.
const CHUNK: u64 = 64 << 10;

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
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let Ok(decoded) = percent_decode_str(path).decode_utf8() else {
            return Ok(empty(400, &[]));
        };
        if decoded.split('/').any(|name| name.starts_with('.')) {
            return Ok(empty(404, &[]));
        }
        Ok(match find(&decoded).await {
            Ok(Found::File(file, stat)) => send(&request, head, &decoded, &file, &stat),
            // So that the links of its page lead into it.
            Ok(Found::Directory) => empty(301, &[("location", &format!("{path}/{query}"))]),
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

/// Directories of the host, which do not change while the instance lives.
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

/// Answers with a file, or with what the client's conditions make of that.
fn send(
    request: &Request,
    head: bool,
    path: &str,
    file: &Descriptor,
    stat: &DescriptorStat,
) -> Response {
    let fields = request.get_headers();
    let asked = |name: &str| -> Vec<String> {
        let values = fields.get(name);
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        values.iter().map(text).collect()
    };
    let changed = stat.data_modification_timestamp.as_ref();
    let changed = changed.map(|time| (time.seconds, time.nanoseconds));
    let now = u64::try_from(system_clock::now().seconds).unwrap_or(0);
    let validators = Validators::of(changed, stat.size, now);

    let mut headers = vec![("accept-ranges", "bytes".to_owned())];
    headers.extend(validators.tag.clone().map(|tag| ("etag", tag)));
    let date = validators.modified.map(conditions::format_date);
    headers.extend(date.map(|date| ("last-modified", date)));
    match validators.evaluate(&asked) {
        Verdict::Failed => return empty(412, &[]),
        Verdict::NotModified => return respond(304, headers, None),
        Verdict::Proceed => {}
    }

    let ranges = asked("range");
    let selected = match &*ranges {
        // HEAD has none.
        [range] if !head && validators.allow_range(&asked) => range::select(range, stat.size),
        _ => Selected::Whole,
    };
    let (status, first, length) = match selected {
        Selected::Whole => (200, 0, stat.size),
        Selected::Part { first, length } => (206, first, length),
        Selected::Nothing => {
            return empty(416, &[("content-range", &format!("bytes */{}", stat.size))]);
        }
    };
    if status == 206 {
        let last = first + length - 1;
        let range = format!("bytes {first}-{last}/{}", stat.size);
        headers.push(("content-range", range));
    }
    headers.push(("content-type", content_type(path).to_owned()));
    headers.push(("content-length", length.to_string()));
    let content = (!head).then(|| {
        // Why reading ends early is the client's to see: less comes than was
        // told.
        let (content, _) = file.read_via_stream(first);
        match first + length == stat.size {
            true => content,
            false => front(content, length),
        }
    });
    respond(status, headers, content)
}

/// The first so many bytes of a stream. These the guest copies: a stream that is
/// passed on unread goes to its end.
fn front(mut content: StreamReader<u8>, mut left: u64) -> StreamReader<u8> {
    let (mut writer, front) = wit_stream::new();
    spawn_local(async move {
        while left > 0 {
            let room = Vec::with_capacity(left.min(CHUNK) as usize);
            let (status, piece) = content.read(room).await;
            left -= piece.len() as u64;
            let client_left = !writer.write_all(piece).await.is_empty();
            if client_left || !matches!(status, StreamResult::Complete(_)) {
                break;
            }
        }
    });
    front
}

fn empty(status: u16, headers: &[(&'static str, &str)]) -> Response {
    let headers = headers.iter().copied().chain([("content-length", "0")]);
    let headers = headers.map(|(name, value)| (name, value.to_owned()));
    respond(status, headers.collect(), None)
}

fn respond(
    status: u16,
    headers: Vec<(&'static str, String)>,
    content: Option<StreamReader<u8>>,
) -> Response {
    let headers: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
    let headers = Fields::from_list(&headers).expect("proper headers");
    let (ended, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, content, no_trailers);
    // It is told as this is dropped: at once, now that the host listens.
    drop(ended);
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
