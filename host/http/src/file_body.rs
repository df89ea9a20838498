//! File as the body of a response (RFC 9110), as a file server sends it.
//!
//! From a file's name and metadata, and the request's headers, this module
//! derives the status, headers and parts of the file to send. It reads no byte
//! of the file.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::rc::Rc;
use std::time::SystemTime;

use netwasm_exchange::request::Request;
use netwasm_net::files::File;

use crate::asked::Asked;
use crate::coding::{self, Coding};
use crate::conditional::{EntityTag, Modified, Validators, Verdict};
use crate::media::Media;
use crate::range::{Range, Selected};
use crate::version::FileTag;

/// Kind of response that a file is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To GET, with status 200 from the guest.
    Get,
    /// To HEAD, with status 200 from the guest. HEAD has no ranges (RFC 9110,
    /// section 14.2).
    Head,
    /// Anything else, such as the page of a 404: the whole file with this
    /// status, and without validators by which a client could ask for it again.
    Whole(u16),
}

impl Purpose {
    /// Returns the purpose for a request and the guest's status.
    pub(crate) fn of(request: &Request, status: u16) -> Self {
        match (status, request.head.method()) {
            (200, "GET") => Self::Get,
            (200, "HEAD") => Self::Head,
            _ => Self::Whole(status),
        }
    }
}

/// A response that lacks only the headers of the guest and of the connection.
#[derive(Debug)]
pub(crate) struct FileResponse {
    pub(crate) status: u16,
    /// Content-Length in bytes. A 304 has none, and no such header.
    pub(crate) length: u64,
    /// Parts to send after the head; none to HEAD.
    pub(crate) parts: Parts,
    /// Headers of the guest that do not suit this status, in lower case: they
    /// were meant for the whole file.
    pub(crate) omitted: &'static [&'static str],
}

/// The parts of a body, in order.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    first: Option<Part>,
    /// Usually empty, which takes no memory.
    rest: Vec<Part>,
}

/// A part of a body, never empty.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    File {
        file: Rc<File>,
        offset: u64,
        length: u64,
    },
}

/// Serves a file. `given` returns the first value of a header that the guest
/// has set, by its name in lower case. Lines of the other headers are appended
/// to `headers`.
///
/// A precompressed sibling is sent whatever its age. Some tools keep the file's
/// time and some do not, and whoever changes a file must compress it again.
/// nginx does so, too. If a sibling cannot be opened, for whatever reason, the
/// file itself is sent.
pub(crate) fn respond<'g>(
    file: Rc<File>,
    purpose: Purpose,
    asked: &impl Asked,
    given: impl Fn(&str) -> Option<&'g [u8]>,
    now: SystemTime,
    headers: &mut Vec<u8>,
) -> FileResponse {
    let media = Media::of(file.name());
    if let Purpose::Whole(status) = purpose {
        push_media(media, &given, headers);
        return whole(file, status, false);
    }

    // A sibling is another representation and needs its own tag. The guest's
    // tag would be on both.
    let negotiates =
        media.compresses() && given("content-encoding").is_none() && given("etag").is_none();
    let (file, coding) = if negotiates {
        negotiate(file, asked)
    } else {
        (file, None)
    };
    let metadata = file.metadata();
    let tag = FileTag::new(metadata, coding.map(Coding::name), now);
    let validators = Validators {
        tag: given("etag")
            .or_else(|| tag.as_ref().map(FileTag::as_bytes))
            .and_then(EntityTag::parse),
        modified: match given("last-modified") {
            Some(text) => Modified::parse(text, now),
            None => Modified::of(metadata, now),
        },
        now,
    };

    let verdict = validators.evaluate(asked);
    if verdict == Verdict::Failed {
        return FileResponse::empty(412, ERROR_OMITS);
    }
    if negotiates && !given("vary").is_some_and(names_accept_encoding) {
        headers.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    if given("etag").is_none()
        && let Some(tag) = &tag
    {
        push(headers, &[b"ETag: ", tag.as_bytes(), b"\r\n"]);
    }
    if given("last-modified").is_none()
        && let Some(modified) = validators.modified
    {
        // Writing to memory cannot fail.
        let _ = write!(headers, "Last-Modified: {}\r\n", modified.date());
    }
    if verdict == Verdict::NotModified {
        return FileResponse::empty(304, NOT_MODIFIED_OMITS);
    }
    let ranged = match given("accept-ranges") {
        None => {
            headers.extend_from_slice(b"Accept-Ranges: bytes\r\n");
            true
        }
        Some(units) => !units.trim_ascii().eq_ignore_ascii_case(b"none"),
    };
    let selected = if ranged && purpose == Purpose::Get {
        select(&validators, asked, metadata.length)
    } else {
        Selected::Whole
    };

    if selected == Selected::Unsatisfiable {
        let _ = write!(headers, "Content-Range: bytes */{}\r\n", metadata.length);
        return FileResponse::empty(416, ERROR_OMITS);
    }
    if let Some(coding) = coding {
        push(
            headers,
            &[b"Content-Encoding: ", coding.name().as_bytes(), b"\r\n"],
        );
    }
    match selected {
        Selected::Several(ranges) => {
            multipart(&file, media, given("content-type"), &ranges, headers)
        }
        Selected::One(range) => {
            push_media(media, &given, headers);
            let _ = write!(
                headers,
                "Content-Range: bytes {}-{}/{}\r\n",
                range.first, range.last, metadata.length
            );
            FileResponse {
                status: 206,
                length: range.length(),
                parts: Parts::one(Part::of(file, range)),
                omitted: PART_OMITS,
            }
        }
        Selected::Whole | Selected::Unsatisfiable => {
            push_media(media, &given, headers);
            whole(file, 200, purpose == Purpose::Head)
        }
    }
}

/// Headers that a 304 omits, as it is about the client's copy (RFC 9110,
/// section 15.4.5).
const NOT_MODIFIED_OMITS: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-range",
];

/// Headers that 412 and 416 omit, as these have no content and must not be
/// cached in the file's place.
const ERROR_OMITS: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-range",
    "content-disposition",
    "cache-control",
    "expires",
];

const PART_OMITS: &[&str] = &["content-length", "content-range"];

/// Headers that a multipart response omits. Its parts state their own type.
const MULTIPART_OMITS: &[&str] = &["content-type", "content-length", "content-range"];

impl FileResponse {
    fn empty(status: u16, omitted: &'static [&'static str]) -> Self {
        Self {
            status,
            length: 0,
            parts: Parts::default(),
            omitted,
        }
    }
}

impl Parts {
    fn one(part: Part) -> Self {
        Self {
            first: Some(part),
            rest: Vec::new(),
        }
    }
}

impl IntoIterator for Parts {
    type Item = Part;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Part>, std::vec::IntoIter<Part>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl Part {
    fn of(file: Rc<File>, range: Range) -> Self {
        Self::File {
            file,
            offset: range.first,
            length: range.length(),
        }
    }
}

fn whole(file: Rc<File>, status: u16, is_head: bool) -> FileResponse {
    let length = file.metadata().length;
    let part = (length > 0 && !is_head).then_some(Part::File {
        file,
        offset: 0,
        length,
    });
    FileResponse {
        status,
        length,
        parts: part.map(Parts::one).unwrap_or_default(),
        omitted: &[],
    }
}

/// Returns the accepted sibling of a file with its coding, or else the file.
fn negotiate(file: Rc<File>, asked: &impl Asked) -> (Rc<File>, Option<Coding>) {
    if asked.first("accept-encoding").is_none() {
        return (file, None);
    }
    for coding in coding::accepted(&asked.all("accept-encoding")) {
        if let Ok(sibling) = file.open_sibling(coding.suffix()) {
            return (Rc::new(sibling), Some(coding));
        }
    }
    (file, None)
}

/// Returns the part of a file of `size` bytes that a GET asks for.
fn select(validators: &Validators<'_>, asked: &impl Asked, size: u64) -> Selected {
    if asked.first("range").is_none() || !validators.allow_range(asked) {
        return Selected::Whole;
    }
    // Range is not a list, so it must not stand in several lines.
    match asked.all("range").as_slice() {
        [value] => Selected::of(value.trim_ascii(), size),
        _ => Selected::Whole,
    }
}

/// Returns several ranges, each with its own head (RFC 9110, section 14.6).
fn multipart(
    file: &Rc<File>,
    media: Media,
    given: Option<&[u8]>,
    ranges: &[Range],
    headers: &mut Vec<u8>,
) -> FileResponse {
    let boundary = boundary();
    let _ = write!(
        headers,
        "Content-Type: multipart/byteranges; boundary={boundary}\r\n"
    );
    let size = file.metadata().length;
    let mut rest = Vec::with_capacity(2 * ranges.len() + 1);
    for range in ranges {
        let mut head = Vec::with_capacity(160);
        let _ = write!(head, "\r\n--{boundary}\r\nContent-Type: ");
        match given {
            Some(given) => head.extend_from_slice(given),
            None => push(
                &mut head,
                &[media.name().as_bytes(), media.parameter().as_bytes()],
            ),
        }
        let (first, last) = (range.first, range.last);
        let _ = write!(
            head,
            "\r\nContent-Range: bytes {first}-{last}/{size}\r\n\r\n"
        );
        rest.push(Part::Bytes(head));
        rest.push(Part::of(Rc::clone(file), *range));
    }
    rest.push(Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    FileResponse {
        status: 206,
        length: rest.iter().map(Part::length).sum(),
        parts: Parts { first: None, rest },
        omitted: MULTIPART_OMITS,
    }
}

impl Part {
    /// Returns the length in bytes.
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// Returns 128 random bits, which nobody can predict and put into a file: the
/// standard library keys its hashes with the system's randomness.
fn boundary() -> String {
    let random = RandomState::new();
    format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
}

fn push_media<'g>(media: Media, given: &impl Fn(&str) -> Option<&'g [u8]>, headers: &mut Vec<u8>) {
    if given("content-type").is_none() {
        let (name, parameter) = (media.name().as_bytes(), media.parameter().as_bytes());
        push(headers, &[b"Content-Type: ", name, parameter, b"\r\n"]);
    }
}

fn push(bytes: &mut Vec<u8>, pieces: &[&[u8]]) {
    for piece in pieces {
        bytes.extend_from_slice(piece);
    }
}

/// True if a value of `Vary` already says what the host would add.
fn names_accept_encoding(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|name| {
        let name = name.trim_ascii();
        name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")
    })
}

/// Headers of a request, for tests.
#[cfg(test)]
pub(crate) struct HeadLines<'a>(pub(crate) &'a [(&'a str, &'a str)]);

#[cfg(test)]
impl Asked for HeadLines<'_> {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.all(name).first().copied()
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.0.iter().filter(|line| line.0 == name);
        named.map(|line| line.1.as_bytes()).collect()
    }
}

#[cfg(test)]
mod tests;
