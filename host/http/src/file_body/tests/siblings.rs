//! Compressed siblings of a file, such as `page.html.gz`.

use std::fs;

use super::super::Purpose;
use super::Site;

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
