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
    // Every response has its own boundary.
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
    // Without Range, If-Range has no effect.
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
fn a_sibling_that_is_older_is_sent_all_the_same() {
    let site = Site::new(&[("code.js", "let x;"), ("code.js.gz", "gzip")]);
    site.date("code.js.gz", 700_000_000);
    let served = site.get("code.js", &[("accept-encoding", "gzip")]);
    assert_eq!(
        served.header("Last-Modified"),
        Some("Sat, 07 Mar 1992 20:26:40 GMT")
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
