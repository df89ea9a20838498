//! Conditional and range requests for files: what the `file-server` guest
//! answers, and the host for the `static` guest, over HTTP/1.1 and HTTP/2.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{
    EARLIER, IN_DASHES, LATER, LONG_AGO, Response, Run, Server, conditions, directory, http2,
    make_old, message, pattern, same, text, write, write_old,
};

const WHOLE: &str = "0123456789";

fn serve(guest: &str, directory: &Path) -> Server {
    Run::guest(guest)
        .http()
        .args(["--workers", "1"])
        .args(["--dir", &format!("{}::/", text(directory))])
        .start()
}

/// Sends a request by HTTP/1.1 and by HTTP/2, and checks that the responses
/// agree.
#[track_caller]
fn ask(server: &Server, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    let lines: Vec<_> = lines.collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let mut peer = server.connect_http();
    peer.send(message(method, target, &lines).as_bytes());
    let one = match method {
        "HEAD" => peer.response_to_head(),
        _ => peer.response(),
    };
    let mut request = http2::ask(method, target);
    for (name, value) in headers {
        let name = name.parse::<http::HeaderName>().expect("a name");
        let value = value.parse().expect("a value");
        request.headers_mut().append(name, value);
    }
    let two = http2::Http2::connect(server.address("http")).exchange(request, b"");
    assert_eq!(one.status, two.status, "{headers:?}");
    for name in [
        "accept-ranges",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "location",
    ] {
        assert_eq!(one.header(name), two.header(name), "{name} for {headers:?}");
    }
    same(&one.body, &two.body);
    one
}

#[track_caller]
fn get(server: &Server, target: &str, headers: &[(&str, &str)]) -> Response {
    ask(server, "GET", target, headers)
}

/// Sets the time of a file, in seconds since 1970.
fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .expect("a time");
}

/// Times that the tools of reproducible builds set.
const CONSTANTS: [(u64, &str); 6] = [
    (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
    (1, "Thu, 01 Jan 1970 00:00:01 GMT"),
    (315_532_800, "Tue, 01 Jan 1980 00:00:00 GMT"),
    (499_162_500, "Sat, 26 Oct 1985 08:15:00 GMT"),
    (946_684_800, "Sat, 01 Jan 2000 00:00:00 GMT"),
    (1_262_304_000, "Fri, 01 Jan 2010 00:00:00 GMT"),
];

#[test]
fn another_build_is_sent_where_all_files_have_one_time() {
    for guest in ["static", "file-server"] {
        let scratch = directory();
        let server = serve(guest, scratch.path());
        for (seconds, date) in CONSTANTS {
            let path = write(scratch.path(), "app.js", "before");
            set_time(&path, seconds);
            let before = get(&server, "/app.js", &[]);
            assert_eq!(before.text(), "before");
            // With a date, caches would keep the file for years.
            assert_eq!(before.header("last-modified"), None, "{guest}");
            let tag = before.header("etag");
            if let Some(tag) = tag {
                let again = get(&server, "/app.js", &[("If-None-Match", tag)]);
                assert_eq!(again.status, 304, "{guest}");
            }
            // The host sees inode and change time; the guest does not.
            assert_eq!(tag.is_some(), guest == "static");

            let path = write(scratch.path(), "new", "after!");
            set_time(&path, seconds);
            fs::rename(path, scratch.path().join("app.js")).expect("a new build");
            let tag = tag.unwrap_or("\"0.0-6\"");
            for lines in [
                &[("If-None-Match", tag)][..],
                &[("If-Modified-Since", date)],
                &[("If-Modified-Since", LATER)],
            ] {
                let after = get(&server, "/app.js", lines);
                assert_eq!((after.status, after.text()), (200, "after!"), "{lines:?}");
            }
            // A part of the new file is not taken for a part of the old one.
            for version in [tag, date] {
                let lines = [("Range", "bytes=3-"), ("If-Range", version)];
                let after = get(&server, "/app.js", &lines);
                assert_eq!((after.status, after.text()), (200, "after!"), "{version}");
            }
            let lines = [("If-Match", tag)];
            assert_eq!(get(&server, "/app.js", &lines).status, 412, "{guest}");
            // A file without a date counts as unmodified.
            let lines = [("If-Unmodified-Since", EARLIER)];
            assert_eq!(get(&server, "/app.js", &lines).status, 200, "{guest}");
        }
        server.stop();
    }
}

#[test]
fn copies_of_a_file_on_two_machines_have_one_tag() {
    for guest in ["static", "file-server"] {
        let copies = [directory(), directory()].map(|machine| {
            write_old(machine.path(), "app.js", "the same");
            let server = serve(guest, machine.path());
            let tag = get(&server, "/app.js", &[]);
            let tag = tag.header("etag").expect("a tag").to_owned();
            server.stop();
            tag
        });
        assert_eq!(copies[0], copies[1], "{guest}");
    }
}

#[test]
fn a_file_of_the_future_was_changed_just_now() {
    for guest in ["static", "file-server"] {
        let scratch = directory();
        let path = write(scratch.path(), "some", "some");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time");
        set_time(&path, now.as_secs() + 100_000);
        let server = serve(guest, scratch.path());
        let reply = server.get("/some");
        let date = |name| {
            let date = reply.header(name).expect("a date");
            httpdate::parse_http_date(date).expect("a date")
        };
        // The clock of `Date` may lag by up to a tick.
        let apart = Duration::from_secs(2);
        assert!(date("last-modified") <= date("date") + apart, "{reply:?}");
        assert!(reply.header("etag").expect("a tag").starts_with("W/"));
        server.stop();
    }
}

#[test]
fn conditions_are_answered_in_the_order_of_the_rfc() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = serve("file-server", scratch.path());
    let whole = get(&server, "/some.txt", &[]);
    let tag = whole.header("etag").expect("a tag");
    let weak = &*format!("W/{tag}");
    let listed = &*format!("\"a\", {tag}, \"b\"");
    let mut cases = conditions(tag, weak, listed);
    cases.extend([
        // The year 2070.
        (
            vec![("If-Modified-Since", "Sunday, 09-Nov-70 08:49:37 GMT")],
            304,
        ),
        (
            vec![("If-None-Match", "\"a\""), ("If-Modified-Since", LATER)],
            200,
        ),
        (
            vec![("If-Unmodified-Since", "Saturday, 05-Nov-94 08:49:37 GMT")],
            412,
        ),
        (
            vec![("If-Unmodified-Since", EARLIER), ("If-None-Match", tag)],
            412,
        ),
    ]);
    for (asked, status) in &cases {
        let reply = get(&server, "/some.txt", asked);
        assert_eq!(reply.status, *status, "{asked:?}");
        match status {
            304 => {
                assert_eq!(reply.header("etag"), Some(tag), "{asked:?}");
                assert_eq!(reply.header("last-modified"), Some(LONG_AGO));
                assert_eq!(reply.header("content-type"), None);
            }
            412 => assert_eq!(reply.text(), "", "{asked:?}"),
            200 => assert_eq!(reply.text(), WHOLE, "{asked:?}"),
            _ => {}
        }
        let head = match status {
            206 => 200,
            status => *status,
        };
        let reply = ask(&server, "HEAD", "/some.txt", asked);
        assert_eq!(reply.status, head, "HEAD {asked:?}");
    }
    server.stop();
}

#[test]
fn a_part_of_a_file_is_sent_where_one_is_asked_for() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    write_old(scratch.path(), "empty", "");
    let server = serve("file-server", scratch.path());
    let whole = get(&server, "/some.txt", &[]);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let tag = whole.header("etag").expect("a tag");
    for (range, content, says) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-5", "2345", "bytes 2-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=7-99999999999999999999", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-30", WHOLE, "bytes 0-9/10"),
    ] {
        for condition in [None, Some(tag), Some(LONG_AGO), Some(IN_DASHES)] {
            let condition = condition.map(|version| ("If-Range", version));
            let lines: Vec<_> = [("Range", range)].into_iter().chain(condition).collect();
            let reply = get(&server, "/some.txt", &lines);
            assert_eq!((reply.status, reply.text()), (206, content), "{lines:?}");
            assert_eq!(reply.header("content-range"), Some(says), "{lines:?}");
            assert_eq!(reply.header("etag"), Some(tag));
            assert_eq!(reply.header("content-type"), whole.header("content-type"));
        }
        let head = ask(&server, "HEAD", "/some.txt", &[("Range", range)]);
        assert_eq!(head.status, 200, "HEAD has no ranges");
        let weak = format!("W/{tag}");
        for version in ["\"other\"", &weak, EARLIER, LATER] {
            let lines = [("Range", range), ("If-Range", version)];
            let reply = get(&server, "/some.txt", &lines);
            assert_eq!((reply.status, reply.text()), (200, WHOLE), "{lines:?}");
        }
    }
    // The guest supports only one range, and ignores malformed ones.
    for range in [
        "bytes=0-0,5-6",
        "bytes=5-2",
        "bytes=a-",
        "lines=1-2",
        "bytes=",
    ] {
        let reply = get(&server, "/some.txt", &[("Range", range)]);
        assert_eq!((reply.status, reply.text()), (200, WHOLE), "{range}");
        assert_eq!(reply.header("content-range"), None);
    }
    for (target, range, says) in [
        ("/some.txt", "bytes=10-", "bytes */10"),
        ("/some.txt", "bytes=10-20", "bytes */10"),
        ("/some.txt", "bytes=-0", "bytes */10"),
        ("/empty", "bytes=0-", "bytes */0"),
    ] {
        let reply = get(&server, target, &[("Range", range)]);
        assert_eq!((reply.status, reply.text()), (416, ""), "{range}");
        assert_eq!(reply.header("content-range"), Some(says), "{range}");
    }
    server.stop();
}

#[test]
fn parts_of_a_large_file_are_byte_for_byte_those_of_the_file() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    let path = write(scratch.path(), "large", &bytes);
    make_old(&path);
    let server = serve("file-server", scratch.path());
    for (first, last) in [
        (0, 2_999_998),
        (1, 65_536),
        (999_999, 2_000_000),
        (2_900_000, 2_999_999),
    ] {
        let range = format!("bytes={first}-{last}");
        let reply = get(&server, "/large", &[("Range", &range)]);
        assert_eq!(reply.status, 206, "{range}");
        same(&reply.body, &bytes[first..=last]);
    }
    server.stop();
}

#[test]
fn a_directory_moves_with_its_query() {
    let scratch = directory();
    fs::create_dir(scratch.path().join("a b")).expect("a directory");
    for guest in ["static", "file-server"] {
        let server = serve(guest, scratch.path());
        for (target, location) in [
            ("/a%20b", "/a%20b/"),
            ("/a%20b?x=1&y=%2f", "/a%20b/?x=1&y=%2f"),
            ("/a%20b?", "/a%20b/?"),
            ("/a%20b?a?b", "/a%20b/?a?b"),
        ] {
            let reply = get(&server, target, &[]);
            assert_eq!(reply.status, 301, "{guest} {target}");
            assert_eq!(reply.header("location"), Some(location), "{guest}");
        }
        server.stop();
    }
}
