//! A file as the body of a response (RFC 9110): what a file server does.
//!
//! Of a file, its name and its metadata, and of the request's headers, this
//! makes a status, headers and the parts of the file to send. It reads no
//! byte of the file.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::rc::Rc;
use std::time::SystemTime;

use netwasm_exchange::request::Request;
use netwasm_net::files::{File, Roots};

use crate::asked::Asked;
use crate::coding::{self, Coding};
use crate::conditional::{EntityTag, FileTag, Modified, Validators, Verdict};
use crate::media::Media;
use crate::range::{Range, Selected};

/// What a file is to be the answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// GET, for which the guest has status 200.
    Get,
    /// HEAD, likewise. It knows no ranges (RFC 9110, section 14.2).
    Head,
    /// Anything else, such as the page of a 404: the whole file with this
    /// status, and nothing by which a client could ask for it again.
    Whole(u16),
}

impl Purpose {
    /// For a request, and the status that the guest answers with.
    pub(crate) fn of(request: &Request, status: u16) -> Self {
        match (status, request.head.method()) {
            (200, "GET") => Self::Get,
            (200, "HEAD") => Self::Head,
            _ => Self::Whole(status),
        }
    }
}

/// A response of which only the headers of the guest and of the connection
/// are missing.
#[derive(Debug)]
pub(crate) struct FileResponse {
    pub(crate) status: u16,
    /// Bytes, for `Content-Length`. A 304 has none, and no such header.
    pub(crate) length: u64,
    /// What to send after the head: nothing to HEAD.
    pub(crate) parts: Parts,
    /// Headers of the guest that do not go with this status, in lower case:
    /// it meant them for the whole file.
    pub(crate) omitted: &'static [&'static str],
}

/// The body, in order.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    first: Option<Part>,
    /// Mostly empty, which takes no memory.
    rest: Vec<Part>,
}

/// A piece of a body. None is empty.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    File {
        file: Rc<File>,
        offset: u64,
        length: u64,
    },
}

/// Serves a file. `given` has the headers that the guest has set: the first
/// value by the name in lower case. Complete lines of the others are appended
/// to `headers`.
///
/// A precompressed sibling is sent whatever its age: tools that keep the time
/// of the file and tools that do not both exist, and whoever changes a file
/// has to compress it again. nginx has it so, too. Where a sibling cannot be
/// opened, for whatever reason, the file itself is sent.
pub(crate) fn respond<'g>(
    file: Rc<File>,
    roots: &Roots,
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

    // A sibling is another representation: it needs a tag of its own, and the
    // guest's would be on both.
    let negotiates =
        media.compresses() && given("content-encoding").is_none() && given("etag").is_none();
    let (file, coding) = if negotiates {
        negotiate(file, roots, asked)
    } else {
        (file, None)
    };
    let metadata = file.metadata();
    let tag = FileTag::new(metadata, coding.map(Coding::name), now);
    let validators = Validators {
        tag: EntityTag::parse(given("etag").unwrap_or(tag.as_bytes())),
        modified: match given("last-modified") {
            Some(text) => Modified::parse(text, now),
            None => Some(Modified::of(metadata, now)),
        },
    };

    let verdict = validators.evaluate(asked);
    if verdict == Verdict::Failed {
        return FileResponse::empty(412, ERROR_OMITS);
    }
    if negotiates && !given("vary").is_some_and(names_accept_encoding) {
        headers.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
    if given("etag").is_none() {
        push(headers, &[b"ETag: ", tag.as_bytes(), b"\r\n"]);
    }
    if given("last-modified").is_none()
        && let Some(modified) = validators.modified
    {
        // Writing to memory does not fail.
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

/// A 304 is about what the client has (RFC 9110, section 15.4.5).
const NOT_MODIFIED_OMITS: &[&str] = &[
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-range",
];

/// 412 and 416 have no content, and must not be kept in the file's place.
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

/// The type is that of the parts, which say it themselves.
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

/// The file to send in a file's place, with its coding; else the file.
fn negotiate(file: Rc<File>, roots: &Roots, asked: &impl Asked) -> (Rc<File>, Option<Coding>) {
    if asked.first("accept-encoding").is_none() {
        return (file, None);
    }
    for coding in coding::accepted(&asked.all("accept-encoding")) {
        if let Ok(sibling) = roots.open_sibling(&file, coding.suffix()) {
            return (Rc::new(sibling), Some(coding));
        }
    }
    (file, None)
}

/// What of a file of `size` bytes a GET asks for.
fn select(validators: &Validators<'_>, asked: &impl Asked, size: u64) -> Selected {
    if asked.first("range").is_none() || !validators.allow_range(asked) {
        return Selected::Whole;
    }
    // It is no list that may stand in several lines.
    match asked.all("range").as_slice() {
        [value] => Selected::of(value.trim_ascii(), size),
        _ => Selected::Whole,
    }
}

/// Several ranges, each with its own head (RFC 9110, section 14.6).
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
    /// Bytes.
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// 128 bits that nobody can foresee, and so put into a file: the standard
/// library keys its hashes with the system's randomness.
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

/// Whether a value of `Vary` says already what the host would add.
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
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use netwasm_base::config::Directory;

    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    /// A directory with files of 1994, served in 2001.
    struct Site {
        directory: tempfile::TempDir,
        roots: Roots,
        now: SystemTime,
    }

    /// What came of a request.
    struct Served {
        response: FileResponse,
        headers: Vec<String>,
    }

    type Headers<'a> = &'a [(&'a str, &'a str)];

    impl Site {
        fn new(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let roots = Roots::open(&[Directory {
                host: directory.path().to_owned(),
                guest: "/".to_owned(),
                writable: false,
            }])
            .expect("roots");
            let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            let site = Self {
                directory,
                roots,
                now,
            };
            for (name, content) in files {
                fs::write(site.directory.path().join(name), content).expect("a file");
                site.date(name, 784_111_777);
            }
            site
        }

        fn date(&self, name: &str, seconds: u64) {
            let file = fs::File::options()
                .write(true)
                .open(self.directory.path().join(name))
                .expect("open");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
                .expect("a time");
        }

        fn serve(
            &self,
            name: &str,
            purpose: Purpose,
            asked: Headers<'_>,
            given: Headers<'_>,
        ) -> Served {
            let file = Rc::new(self.roots.open_file(name).expect("open"));
            let mut headers = b"Server: netwasm\r\n".to_vec();
            let given = |name: &str| {
                let line = given.iter().find(|line| line.0 == name)?;
                Some(line.1.as_bytes())
            };
            let asked = HeadLines(asked);
            let response = respond(
                file,
                &self.roots,
                purpose,
                &asked,
                given,
                self.now,
                &mut headers,
            );
            let text = String::from_utf8(headers).expect("text");
            assert!(text.ends_with("\r\n"), "{text}");
            let lines = text.split_terminator("\r\n").skip(1);
            Served {
                headers: lines.map(str::to_owned).collect(),
                response,
            }
        }

        fn get(&self, name: &str, asked: Headers<'_>) -> Served {
            self.serve(name, Purpose::Get, asked, &[])
        }
    }

    impl Served {
        fn status(&self) -> u16 {
            self.response.status
        }

        fn header(&self, name: &str) -> Option<&str> {
            self.headers
                .iter()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        }

        fn names(&self) -> Vec<&str> {
            let names = self.headers.iter().map(|line| line.split(':').next());
            names.map(Option::unwrap_or_default).collect()
        }

        /// The parts, read; as long as the response says.
        fn body(self) -> String {
            let length = self.response.length;
            let mut body = Vec::new();
            for part in self.response.parts {
                assert!(part.length() > 0, "an empty part");
                match part {
                    Part::Bytes(bytes) => body.extend(bytes),
                    Part::File {
                        file,
                        offset,
                        length,
                    } => {
                        let mut bytes = vec![0; usize::try_from(length).expect("small")];
                        let count = file.read_at(&mut bytes, offset).expect("read");
                        assert_eq!(count as u64, length);
                        body.extend(bytes);
                    }
                }
            }
            assert_eq!(body.len() as u64, length);
            String::from_utf8(body).expect("text")
        }
    }

    #[test]
    fn a_file_is_served_with_all_its_headers() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        let served = site.get("page.html", &[]);
        assert_eq!(served.status(), 200);
        assert_eq!(
            served.headers,
            [
                "Vary: Accept-Encoding",
                "ETag: \"ae1b981bc490a00-8\"",
                "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
                "Accept-Ranges: bytes",
                "Content-Type: text/html; charset=utf-8",
            ]
        );
        assert_eq!(served.response.omitted, [""; 0]);
        assert_eq!(served.body(), "<p>Hello");
    }

    #[test]
    fn to_head_all_is_the_same_but_the_body() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        let got = site.get("page.html", &[]);
        let asked = [("range", "bytes=0-1")];
        let served = site.serve("page.html", Purpose::Head, &asked, &[]);
        assert_eq!(served.status(), 200);
        assert_eq!(served.headers, got.headers);
        assert_eq!(served.response.length, 8);
        assert_eq!(served.response.parts.into_iter().count(), 0);
    }

    #[test]
    fn an_empty_file_has_length_zero_and_no_range() {
        let site = Site::new(&[("empty.bin", "")]);
        let served = site.get("empty.bin", &[]);
        assert_eq!((served.status(), served.response.length), (200, 0));
        assert_eq!(served.body(), "");
        for range in ["bytes=0-", "bytes=-1", "bytes=0-0"] {
            let served = site.get("empty.bin", &[("range", range)]);
            assert_eq!(served.status(), 416, "{range}");
            assert_eq!(served.header("Content-Range"), Some("bytes */0"));
        }
    }

    #[test]
    fn the_guests_own_headers_are_left_alone() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        let given = [
            ("content-type", "text/plain"),
            ("last-modified", MODIFIED),
            ("etag", "\"mine\""),
            ("accept-ranges", "bytes"),
            ("vary", "Origin"),
        ];
        let served = site.serve("page.html", Purpose::Get, &[], &given);
        assert_eq!(served.headers, [""; 0]);
    }

    #[test]
    fn vary_is_added_to_the_guests_own_where_it_does_not_say_it() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        for (given, added) in [
            ("Origin", true),
            ("Origin, accept-encoding", false),
            ("*", false),
        ] {
            let served = site.serve("page.html", Purpose::Get, &[], &[("vary", given)]);
            assert_eq!(served.header("Vary").is_some(), added, "{given}");
        }
    }

    #[test]
    fn conditions_are_about_the_guests_own_tag_and_date() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        let given = [
            ("etag", "\"mine\""),
            ("last-modified", "Sat, 05 Nov 1994 00:00:00 GMT"),
        ];
        for (asked, status) in [
            (("if-none-match", "\"mine\""), 304),
            (("if-none-match", "\"ae1b981bc490a00-8\""), 200),
            (("if-modified-since", "Sat, 05 Nov 1994 00:00:00 GMT"), 304),
            (("if-modified-since", "Fri, 04 Nov 1994 00:00:00 GMT"), 200),
        ] {
            let served = site.serve("page.html", Purpose::Get, &[asked], &given);
            assert_eq!(served.status(), status, "{asked:?}");
        }
    }

    #[test]
    fn a_304_has_what_a_cache_needs_and_nothing_of_the_content() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        for (name, value) in [
            ("if-none-match", "W/\"ae1b981bc490a00-8\""),
            ("if-modified-since", MODIFIED),
        ] {
            for purpose in [Purpose::Get, Purpose::Head] {
                let asked = [(name, value), ("range", "bytes=0-1")];
                let served = site.serve("page.html", purpose, &asked, &[]);
                assert_eq!(served.status(), 304, "{name}");
                assert_eq!(served.names(), ["Vary", "ETag", "Last-Modified"]);
                assert!(served.response.omitted.contains(&"content-type"));
                assert!(!served.response.omitted.contains(&"cache-control"));
                assert_eq!(served.body(), "");
            }
        }
    }

    #[test]
    fn a_412_has_no_content_and_is_not_to_be_kept() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        let served = site.get("page.html", &[("if-match", "\"0\"")]);
        assert_eq!(served.status(), 412);
        assert_eq!(served.headers, [""; 0]);
        assert!(served.response.omitted.contains(&"cache-control"));
        assert_eq!(served.body(), "");
    }

    #[test]
    fn a_file_that_was_just_changed_has_a_weak_tag() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        site.date("page.html", 999_999_999);
        let served = site.get("page.html", &[]);
        let tag = served.header("ETag").expect("a tag");
        assert!(tag.starts_with("W/\""), "{tag}");
        // It can be asked for anew, but not for a range of it.
        let same = site.get("page.html", &[("if-none-match", tag)]);
        assert_eq!(same.status(), 304);
        let range = [("range", "bytes=0-1"), ("if-range", tag)];
        assert_eq!(site.get("page.html", &range).status(), 200);
    }

    #[test]
    fn a_file_from_the_future_was_modified_now() {
        let site = Site::new(&[("page.html", "<p>Hello")]);
        site.date("page.html", 2_000_000_000);
        let served = site.get("page.html", &[]);
        let now = Some("Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(served.header("Last-Modified"), now);
        assert!(
            served
                .header("ETag")
                .is_some_and(|tag| tag.starts_with("W/"))
        );
    }

    #[test]
    fn a_range_is_sent_alone() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        for (range, expected, body) in [
            ("bytes=2-4", "bytes 2-4/10", "234"),
            ("bytes=-3", "bytes 7-9/10", "789"),
            ("bytes=8-100", "bytes 8-9/10", "89"),
            ("bytes=0-", "bytes 0-9/10", "0123456789"),
            ("bytes=20-,3-3", "bytes 3-3/10", "3"),
        ] {
            let served = site.get("some.bin", &[("range", range)]);
            assert_eq!(served.status(), 206, "{range}");
            assert_eq!(served.header("Content-Range"), Some(expected), "{range}");
            let media = Some("application/octet-stream");
            assert_eq!(served.header("Content-Type"), media);
            assert_eq!(served.header("Last-Modified"), Some(MODIFIED));
            assert_eq!(served.body(), body, "{range}");
        }
    }

    #[test]
    fn a_range_beyond_the_end_is_a_416_with_the_length() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        for range in ["bytes=-0", "bytes=10-", "bytes=10-11,12-"] {
            let served = site.get("some.bin", &[("range", range)]);
            assert_eq!(served.status(), 416, "{range}");
            assert_eq!(served.header("Content-Range"), Some("bytes */10"));
            assert_eq!(served.header("Content-Type"), None);
            assert!(served.response.omitted.contains(&"cache-control"));
            assert_eq!(served.body(), "");
        }
    }

    #[test]
    fn several_ranges_are_parts_in_the_order_that_was_asked_for() {
        let site = Site::new(&[("some.txt", "0123456789")]);
        let asked = [("range", "bytes=7-9, 0-0,4-5")];
        let served = site.get("some.txt", &asked);
        assert_eq!(served.status(), 206);
        assert_eq!(served.header("Content-Range"), None);
        assert!(served.response.omitted.contains(&"content-type"));
        let content_type = served.header("Content-Type").expect("a type");
        let boundary = content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .expect("parts")
            .to_owned();
        assert_eq!(boundary.len(), 32);
        let part = |range, bytes| {
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Range: bytes {range}/10\r\n\r\n{bytes}"
            )
        };
        let parts = [part("7-9", "789"), part("0-0", "0"), part("4-5", "45")];
        let expected = format!("{}\r\n--{boundary}--\r\n", parts.concat());
        assert_eq!(served.body(), expected);
        // Every response has a boundary of its own.
        let again = site.get("some.txt", &asked);
        assert!(
            again
                .header("Content-Type")
                .is_some_and(|other| !other.contains(&boundary))
        );
    }

    #[test]
    fn the_parts_have_the_guests_own_type() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        let asked = [("range", "bytes=0-0,2-2")];
        let served = site.serve(
            "some.bin",
            Purpose::Get,
            &asked,
            &[("content-type", "image/png")],
        );
        assert!(
            served
                .header("Content-Type")
                .is_some_and(|own| own.starts_with("multipart/"))
        );
        let body = served.body();
        assert_eq!(
            body.matches("\r\nContent-Type: image/png\r\n").count(),
            2,
            "{body}"
        );
    }

    #[test]
    fn if_range_that_does_not_match_gives_the_whole_file() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        let tag = site
            .get("some.bin", &[])
            .header("ETag")
            .expect("a tag")
            .to_owned();
        for (value, status) in [
            (&*tag, 206),
            (MODIFIED, 206),
            (&*format!("W/{tag}"), 200),
            ("\"other\"", 200),
            ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ] {
            for range in ["bytes=1-2", "bytes=99-"] {
                let served = site.get("some.bin", &[("range", range), ("if-range", value)]);
                let status = if status == 206 && range == "bytes=99-" {
                    416
                } else {
                    status
                };
                assert_eq!(served.status(), status, "{value} {range}");
            }
        }
        // Without a range it says nothing.
        assert_eq!(
            site.get("some.bin", &[("if-range", "\"other\"")]).status(),
            200
        );
    }

    #[test]
    fn a_range_in_two_lines_is_ignored() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        let served = site.get(
            "some.bin",
            &[("range", "bytes=0-0"), ("range", "bytes=1-1")],
        );
        assert_eq!(served.status(), 200);
    }

    #[test]
    fn a_guest_that_accepts_no_ranges_gets_none() {
        let site = Site::new(&[("some.bin", "0123456789")]);
        let asked = [("range", "bytes=0-0")];
        let served = site.serve(
            "some.bin",
            Purpose::Get,
            &asked,
            &[("accept-ranges", "none")],
        );
        assert_eq!(served.status(), 200);
        assert_eq!(served.header("Accept-Ranges"), None);
    }

    #[test]
    fn ranges_reach_across_four_gibibytes_of_a_sparse_file() {
        let site = Site::new(&[("sparse.bin", "")]);
        let path = site.directory.path().join("sparse.bin");
        let file = fs::File::options().write(true).open(path).expect("open");
        file.set_len(5 << 30).expect("a length");
        let served = site.get("sparse.bin", &[]);
        assert_eq!(served.response.length, 5 << 30);
        let served = site.get("sparse.bin", &[("range", "bytes=4294967290-4294967299")]);
        assert_eq!(
            served.header("Content-Range"),
            Some("bytes 4294967290-4294967299/5368709120")
        );
        assert_eq!(served.body(), "\0".repeat(10));
    }

    #[test]
    fn a_sibling_is_sent_to_who_accepts_its_coding() {
        let site = Site::new(&[
            ("page.html", "<p>Hello"),
            ("page.html.gz", "gzip"),
            ("page.html.br", "brotli"),
        ]);
        let plain = site.get("page.html", &[]);
        for (accepts, coding, body) in [
            ("gzip, deflate, br, zstd", Some("br"), "brotli"),
            ("gzip, zstd", Some("gzip"), "gzip"),
            ("br;q=0.1, gzip;q=0.2", Some("gzip"), "gzip"),
            ("br;q=0, *", Some("gzip"), "gzip"),
            ("zstd", None, "<p>Hello"),
            ("identity", None, "<p>Hello"),
            ("", None, "<p>Hello"),
        ] {
            let served = site.get("page.html", &[("accept-encoding", accepts)]);
            assert_eq!(served.status(), 200);
            assert_eq!(served.header("Content-Encoding"), coding, "{accepts}");
            assert_eq!(served.header("Vary"), Some("Accept-Encoding"));
            assert_eq!(
                served.header("Content-Type"),
                Some("text/html; charset=utf-8")
            );
            let same_tag = served.header("ETag") == plain.header("ETag");
            assert_eq!(same_tag, coding.is_none(), "{accepts}");
            assert_eq!(served.body(), body, "{accepts}");
        }
    }

    #[test]
    fn a_sibling_has_its_own_tag_and_ranges() {
        let site = Site::new(&[("code.js", "let x;"), ("code.js.zst", "0123456789")]);
        let accepts = ("accept-encoding", "zstd");
        let served = site.get("code.js", &[accepts]);
        let tag = served.header("ETag").expect("a tag");
        assert_eq!(tag, "\"ae1b981bc490a00-a-zstd\"");
        let same = site.get("code.js", &[accepts, ("if-none-match", tag)]);
        assert_eq!(same.status(), 304);
        assert_eq!(same.header("ETag"), Some(tag));
        assert_eq!(site.get("code.js", &[("if-none-match", tag)]).status(), 200);
        let part = site.get(
            "code.js",
            &[accepts, ("range", "bytes=1-2"), ("if-range", tag)],
        );
        assert_eq!(part.header("Content-Range"), Some("bytes 1-2/10"));
        assert_eq!(part.header("Content-Encoding"), Some("zstd"));
        assert_eq!(part.body(), "12");
    }

    #[test]
    fn a_sibling_that_is_older_is_sent_all_the_same() {
        let site = Site::new(&[("code.js", "let x;"), ("code.js.gz", "gzip")]);
        site.date("code.js.gz", 1000);
        let served = site.get("code.js", &[("accept-encoding", "gzip")]);
        assert_eq!(
            served.header("Last-Modified"),
            Some("Thu, 01 Jan 1970 00:16:40 GMT")
        );
        assert_eq!(served.body(), "gzip");
    }

    #[test]
    fn what_is_no_regular_file_beneath_the_root_is_no_sibling() {
        let site = Site::new(&[("code.js", "let x;")]);
        let path = |name| site.directory.path().join(name);
        fs::create_dir(path("code.js.br")).expect("a directory");
        let outside = tempfile::NamedTempFile::new().expect("a file");
        std::os::unix::fs::symlink(outside.path(), path("code.js.gz")).expect("a link");
        let served = site.get("code.js", &[("accept-encoding", "br, gzip")]);
        assert_eq!(served.header("Content-Encoding"), None);
        assert_eq!(served.body(), "let x;");
    }

    #[test]
    fn what_does_not_compress_has_no_siblings() {
        let site = Site::new(&[("photo.png", "photo"), ("photo.png.gz", "gzip")]);
        let served = site.get("photo.png", &[("accept-encoding", "gzip")]);
        assert_eq!(served.header("Vary"), None);
        assert_eq!(served.body(), "photo");
    }

    #[test]
    fn a_guest_that_set_the_coding_or_the_tag_gets_no_sibling() {
        let site = Site::new(&[("code.js", "let x;"), ("code.js.gz", "gzip")]);
        for given in [("content-encoding", "br"), ("etag", "\"mine\"")] {
            let asked = [("accept-encoding", "gzip")];
            let served = site.serve("code.js", Purpose::Get, &asked, &[given]);
            assert_eq!(served.header("Content-Encoding"), None);
            assert_eq!(served.header("Vary"), None);
            assert_eq!(served.body(), "let x;");
        }
    }

    #[test]
    fn the_page_of_another_status_is_sent_whole_and_unconditionally() {
        let site = Site::new(&[("404.html", "<p>No"), ("404.html.gz", "gzip")]);
        let asked = [
            ("if-none-match", "*"),
            ("if-match", "\"0\""),
            ("range", "bytes=0-0"),
            ("accept-encoding", "gzip"),
        ];
        let served = site.serve("404.html", Purpose::Whole(404), &asked, &[]);
        assert_eq!(served.status(), 404);
        assert_eq!(served.headers, ["Content-Type: text/html; charset=utf-8"]);
        assert_eq!(served.body(), "<p>No");
    }
}
