//! Parts of a file that `Range` asks for (RFC 9110, section 14).

use std::fs;

use super::super::Purpose;
use super::{MODIFIED, Site};

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
