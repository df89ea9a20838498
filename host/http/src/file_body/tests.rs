mod ranges;
mod siblings;

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use netwasm_base::config::Directory;
use netwasm_net::files::Roots;

use super::*;

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A directory with files of 1994, served in 2001.
struct Site {
    directory: tempfile::TempDir,
    roots: Roots,
    now: SystemTime,
}

/// Result of a request.
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
        let response = respond(file, purpose, &asked, given, self.now, &mut headers);
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

    /// Reads all parts, and checks their length.
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
    // A weak tag serves to revalidate, but not for ranges.
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
fn a_file_whose_time_is_a_constant_has_a_tag_and_no_date() {
    let site = Site::new(&[("code.js", "let x;"), ("new", "let y;")]);
    for seconds in [0, 1, 315_532_800] {
        site.date("code.js", seconds);
        let served = site.get("code.js", &[]);
        assert_eq!(served.header("Last-Modified"), None);
        let tag = served.header("ETag").expect("a tag").to_owned();
        let condition = [("if-none-match", &*tag)];
        assert_eq!(site.get("code.js", &condition).status(), 304);
        // A date that a cache got elsewhere has no effect.
        let condition = [("if-modified-since", MODIFIED)];
        assert_eq!(site.get("code.js", &condition).status(), 200);
        site.date("new", seconds);
        let other = site.get("new", &[]);
        assert_ne!(other.header("ETag"), Some(&*tag), "it is another file");
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
