//! Requests for files: the responses of the `static` guest and the host. The
//! sending of the bytes is tested in `http_sending.rs`.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{self, LONG_AGO, directory, make_old, same, site, write, write_old};

const WHOLE: &str = "0123456789";

#[test]
fn no_spelling_of_a_path_leads_out_of_the_directory() {
    let scratch = directory();
    let inside = scratch.path().join("inside");
    fs::create_dir_all(inside.join("sub")).expect("directories");
    write(scratch.path(), "secret.txt", "a secret");
    write(&inside, "open.txt", "open");
    let server = site(&inside).start();
    let secret = scratch.path().join("secret.txt");
    let secret = secret.to_str().expect("a path in UTF-8");
    for target in [
        "/../secret.txt",
        "/sub/../../secret.txt",
        "/open.txt/../../secret.txt",
        "/nothing/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2e/secret.txt",
        "/.%2e/secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        // Encoded twice.
        "/%252e%252e/secret.txt",
        "/%252e%252e%252fsecret.txt",
        "/%25252e%25252e/secret.txt",
        // Overlong UTF-8 of a dot and a slash.
        "/%c0%ae%c0%ae/secret.txt",
        "/%c0%ae%c0%ae%c0%afsecret.txt",
        "/%e0%80%ae%e0%80%ae/secret.txt",
        "/%f0%80%80%ae%f0%80%80%ae/secret.txt",
        "/%u002e%u002e/secret.txt",
        // A full-width dot is an ordinary character.
        "/%ef%bc%8e%ef%bc%8e/secret.txt",
        "/..%5csecret.txt",
        "/%5c..%5csecret.txt",
        "/..\\secret.txt",
        "/..%00/secret.txt",
        "/../secret.txt%00.html",
        "/.../secret.txt",
        "/..;/secret.txt",
        "/..?/../secret.txt",
        "//../secret.txt",
        "/./../secret.txt",
        "/.//..//secret.txt",
        "http://localhost/../secret.txt",
        "http://localhost/%2e%2e/secret.txt",
        "../secret.txt",
        secret,
        &format!("/{secret}"),
        &secret.replace('/', "%2f"),
        &format!("/%2f{secret}"),
        &format!("http://localhost/{secret}"),
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
    ] {
        let reply = server.get(target);
        assert!(
            matches!(reply.status, 400 | 403 | 404),
            "{target}: {reply:?}"
        );
        assert!(!reply.text().contains("a secret"), "{target}: {reply:?}");
        assert!(!reply.text().contains("root:"), "{target}: {reply:?}");
    }
    assert_eq!(server.get("/open.txt").text(), "open");
    server.stop();
}

#[test]
fn a_nul_anywhere_in_a_path_is_refused() {
    let scratch = directory();
    write(scratch.path(), "open.txt", "open");
    let server = site(scratch.path()).start();
    for target in ["/open.txt%00", "/%00", "/open.txt%00.png", "/open.txt\0"] {
        let status = server.get(target).status;
        assert!(matches!(status, 400 | 404), "{target:?}: {status}");
    }
}

#[test]
fn a_link_is_followed_within_the_directory_and_not_out_of_it() {
    let scratch = directory();
    let inside = scratch.path().join("inside");
    fs::create_dir_all(inside.join("sub/deep")).expect("directories");
    fs::create_dir(scratch.path().join("outside")).expect("a directory");
    write(scratch.path(), "outside/secret.txt", "a secret");
    write(&inside, "open.txt", "open");
    write(&inside, "sub/other.txt", "other");
    for (link, to) in [
        ("within", "open.txt"),
        ("twice", "within"),
        ("sub/up", "../open.txt"),
        ("folder", "sub"),
        ("out", "../outside/secret.txt"),
        ("out-folder", "../outside"),
        ("out-twice", "out"),
        ("sub/deep/out", "../../../outside/secret.txt"),
        ("out-and-back", "../inside/open.txt"),
        ("root", "/"),
        ("passwd", "/etc/passwd"),
        ("magic", "/proc/self/environ"),
        ("loop", "loop"),
        ("dangling", "nothing"),
    ] {
        symlink(to, inside.join(link)).expect("a link");
    }
    let absolute = scratch.path().join("outside/secret.txt");
    symlink(absolute, inside.join("out-absolute")).expect("a link");
    let server = site(&inside).start();
    for (target, text) in [
        ("/within", "open"),
        ("/twice", "open"),
        ("/sub/up", "open"),
        ("/folder/other.txt", "other"),
        ("/folder/up", "open"),
    ] {
        let reply = server.get(target);
        assert_eq!((reply.status, reply.text()), (200, text), "{target}");
    }
    for target in [
        "/out",
        "/out-folder/secret.txt",
        "/out-folder/",
        "/out-folder",
        "/out-twice",
        "/out-absolute",
        "/sub/deep/out",
        "/folder/deep/out",
        "/out-and-back",
        "/root/etc/passwd",
        "/passwd",
        "/magic",
        "/loop",
        "/dangling",
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
}

#[test]
fn what_is_no_regular_file_is_not_found_and_does_not_block() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let scratch = directory();
    let path = |name: &str| scratch.path().join(name);
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path("fifo"), FileType::Fifo, mode, 0).expect("a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("a socket");
    fs::create_dir(path("folder")).expect("a directory");
    let targets = [
        "/fifo",
        "/fifo/",
        "/socket",
        "/socket/",
        "/folder/",
        "/nothing",
        "/nothing/",
    ];
    let start = Instant::now();
    // Opening `/dev/tty` could give the server a controlling terminal.
    let devices = ["/zero", "/zero/", "/tty"];
    for (directory, targets) in [
        (scratch.path(), targets.as_slice()),
        (Path::new("/dev"), &devices),
    ] {
        let server = site(directory).start();
        let mut client = server.browse();
        for target in targets {
            assert_eq!(client.get(target, &[]).status, 404, "{target}");
            assert_eq!(client.head(target, &[]).status, 404, "{target}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "it blocked");
}

#[test]
fn what_may_not_be_read_is_a_403() {
    let scratch = directory();
    let lock = |name: &str, mode| {
        let path = scratch.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    write(scratch.path(), "open.txt", "open");
    write(scratch.path(), "locked.txt", "locked");
    lock("locked.txt", 0o000);
    for name in ["closed", "blind"] {
        fs::create_dir(scratch.path().join(name)).expect("a directory");
        write(scratch.path(), &format!("{name}/some.txt"), "some");
    }
    lock("closed", 0o000);
    lock("blind", 0o311);
    let run = site(scratch.path()).guest_args(&["--list"]);
    let server = run.obeys_permissions().start();
    let mut client = server.browse();
    for (target, status) in [
        ("/locked.txt", 403),
        ("/closed/some.txt", 403),
        ("/closed/", 403),
        ("/blind/", 403),
        ("/blind/some.txt", 200),
        ("/open.txt", 200),
        ("/", 200),
    ] {
        assert_eq!(client.get(target, &[]).status, status, "{target}");
    }
    server.log.wait_for(&["locked.txt"]);
    for name in ["locked.txt", "closed", "blind"] {
        lock(name, 0o755);
    }
}

#[test]
fn no_descriptor_left_is_a_503_until_there_is_one_again() {
    let scratch = directory();
    write(scratch.path(), "some.txt", WHOLE);
    write(scratch.path(), "large.bin", vec![b'x'; 100_000]);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    assert_eq!(client.get("/some.txt", &[]).status, 200);
    server.descriptors_at_rest();
    server.take_descriptors_away();
    for target in ["/some.txt", "/large.bin", "/"] {
        let reply = client.get(target, &[]);
        assert_eq!(reply.status, 503, "{target}: {reply:?}");
    }
    assert_eq!(client.head("/some.txt", &[]).status, 503);
    server.log.wait_for(&["descriptor"]);
    server.give_descriptors_back();
    assert_eq!(client.get("/some.txt", &[]).text(), WHOLE);
    assert_eq!(client.get("/large.bin", &[]).body.len(), 100_000);
}

#[test]
fn a_whole_file_comes_with_all_that_describes_it() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let reply = client.get("/some.txt", &[]);
    assert_eq!((reply.status, reply.text()), (200, WHOLE));
    let tag = reply.header("etag").expect("a tag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for (name, value) in [
        ("content-length", "10"),
        ("content-type", "text/plain; charset=utf-8"),
        ("last-modified", LONG_AGO),
        ("accept-ranges", "bytes"),
        ("vary", "Accept-Encoding"),
        ("server", "netwasm"),
    ] {
        assert_eq!(reply.header(name), Some(value), "{name}");
    }
    for absent in ["connection", "transfer-encoding", "content-encoding"] {
        assert_eq!(reply.header(absent), None);
    }
    let date = reply.header("date").expect("a date");
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
}

#[test]
fn head_says_what_get_would_say_and_sends_nothing() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    write_old(scratch.path(), "large.bin", vec![7; 100_000]);
    write_old(scratch.path(), "empty.txt", "");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let without_date = |mut reply: harness::Reply| {
        reply.headers.retain(|line| line.0 != "date");
        reply.body.clear();
        reply
    };
    for target in ["/some.txt", "/large.bin", "/empty.txt", "/nothing", "/"] {
        let get = client.get(target, &[]);
        let head = client.head(target, &[]);
        assert_eq!(without_date(head), without_date(get), "{target}");
    }
    // HEAD ignores ranges (RFC 9110, section 14.2).
    let head = client.head("/some.txt", &[("Range", "bytes=1-2")]);
    assert_eq!((head.status, head.length()), (200, 10));
    let tag = head.header("etag").expect("a tag").to_owned();
    let head = client.head("/some.txt", &[("If-None-Match", &tag)]);
    assert_eq!(head.status, 304);
    // HEAD sent no body that would be taken for the next response.
    assert_eq!(client.get("/some.txt", &[]).text(), WHOLE);
}

#[test]
fn an_empty_file_has_length_zero_and_no_ranges() {
    let scratch = directory();
    write_old(scratch.path(), "empty.txt", "");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let reply = client.get("/empty.txt", &[]);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-length"), Some("0"));
    assert_eq!(reply.header("last-modified"), Some(LONG_AGO));
    for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
        let reply = client.get("/empty.txt", &[("Range", range)]);
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), Some("bytes */0"));
        assert_eq!(reply.header("content-length"), Some("0"));
    }
    assert_eq!(client.get("/empty.txt", &[]).status, 200);
}

#[test]
fn a_range_is_cut_to_what_is_there_or_refused() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (range, expected, body) in [
        ("bytes=0-0", "bytes 0-0/10", "0"),
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=9-9", "bytes 9-9/10", "9"),
        ("bytes=5-", "bytes 5-9/10", "56789"),
        ("bytes=0-", "bytes 0-9/10", WHOLE),
        ("bytes=-3", "bytes 7-9/10", "789"),
        ("bytes=-10", "bytes 0-9/10", WHOLE),
        ("bytes=-11", "bytes 0-9/10", WHOLE),
        ("bytes=8-100", "bytes 8-9/10", "89"),
        ("bytes=8-99999999999999999999999", "bytes 8-9/10", "89"),
        ("bytes=-99999999999999999999999", "bytes 0-9/10", WHOLE),
        ("BYTES=1-1", "bytes 1-1/10", "1"),
        ("bytes= 1-1 ", "bytes 1-1/10", "1"),
        ("bytes=10-,3-3", "bytes 3-3/10", "3"),
    ] {
        let reply = client.get("/some.txt", &[("Range", range)]);
        assert_eq!((reply.status, reply.text()), (206, body), "{range}");
        assert_eq!(reply.header("content-range"), Some(expected), "{range}");
        assert_eq!(
            reply.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(reply.header("etag").is_some(), "{range}");
    }
    for range in [
        "bytes=-0",
        "bytes=10-",
        "bytes=10-20",
        "bytes=99999999999999999999999-",
        "bytes=10-,-0",
    ] {
        let reply = client.get("/some.txt", &[("Range", range)]);
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), Some("bytes */10"));
        assert_eq!(reply.header("content-type"), None);
        assert_eq!(reply.body, b"");
    }
    // A range that cannot be understood is ignored (RFC 9110, section 14.2).
    for range in [
        "bytes",
        "bytes=",
        "bytes=a-b",
        "bytes=4-2",
        "bytes=1",
        "bytes=-",
        "bytes=--1",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1-2-3",
        "bytes 1-2",
        "items=1-2",
        "bytes=1-2,x",
    ] {
        let reply = client.get("/some.txt", &[("Range", range)]);
        assert_eq!((reply.status, reply.text()), (200, WHOLE), "{range}");
    }
}

#[test]
fn several_ranges_come_in_parts_byte_for_byte() {
    let scratch = directory();
    // One file is small enough to be sent with the head, the other is not.
    let (small, large) = (harness::pattern(2000), harness::pattern(3_000_000));
    write_old(scratch.path(), "small.bin", &small);
    write_old(scratch.path(), "large.bin", &large);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (target, file, ranges, expected) in [
        ("/small.bin", &small, "0-0,-1", vec![0..1, 1999..2000]),
        (
            "/small.bin",
            &small,
            "100-199, 50-59 ,1990-5000",
            vec![100..200, 50..60, 1990..2000],
        ),
        (
            "/large.bin",
            &large,
            "0-999999,1000000-1999999,-1000000",
            vec![0..1_000_000, 1_000_000..2_000_000, 2_000_000..3_000_000],
        ),
        (
            "/large.bin",
            &large,
            "2999999-,9999999-,,7-7",
            vec![2_999_999..3_000_000, 7..8],
        ),
    ] {
        let ranges = format!("bytes={ranges}");
        let reply = client.get(target, &[("Range", &ranges)]);
        assert_eq!(reply.status, 206, "{ranges}");
        assert_eq!(reply.header("content-range"), None);
        let parts = reply.parts();
        assert_eq!(parts.len(), expected.len(), "{ranges}");
        for (part, range) in parts.iter().zip(expected) {
            let told = format!("bytes {}-{}/{}", range.start, range.end - 1, file.len());
            assert_eq!(part.header("content-range"), Some(told.as_str()));
            let media = Some("application/octet-stream");
            assert_eq!(part.header("content-type"), media);
            same(&part.body, &file[range]);
        }
    }
    // The framing was right to the last byte.
    same(&client.get("/small.bin", &[]).body, &small);
}

#[test]
fn a_flood_of_ranges_gets_the_whole_file() {
    let scratch = directory();
    let bytes = harness::pattern(100_000);
    write_old(scratch.path(), "some.bin", &bytes);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let flood = |count: usize, range: fn(usize) -> String| {
        let ranges: Vec<_> = (0..count).map(range).collect();
        format!("bytes={}", ranges.join(","))
    };
    for range in [
        flood(1000, |number| format!("{number}-{number}")),
        flood(1000, |_| "0-".to_owned()),
        flood(200, |number| format!("{}-", number * 2)),
        flood(3, |_| "0-".to_owned()),
        "bytes=0-99998,1-".to_owned(),
    ] {
        let reply = client.get("/some.bin", &[("Range", &range)]);
        assert_eq!(reply.status, 200, "{}", &range[..20]);
        same(&reply.body, &bytes);
    }
}

#[test]
fn if_range_that_does_not_match_gets_the_whole_file() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    write(scratch.path(), "new.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let tag = client.get("/some.txt", &[]);
    let tag = tag.header("etag").expect("a tag");
    for (value, status) in [
        (tag, 206),
        (LONG_AGO, 206),
        (&*format!("W/{tag}"), 200),
        ("\"other\"", 200),
        ("\"\"", 200),
        ("*", 200),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 200),
        ("yesterday", 200),
    ] {
        let asked = [("Range", "bytes=1-2"), ("If-Range", value)];
        assert_eq!(client.get("/some.txt", &asked).status, status, "{value}");
        // If the version matches, a range beyond the file is a 416.
        let asked = [("Range", "bytes=99-"), ("If-Range", value)];
        let status = if status == 206 { 416 } else { 200 };
        assert_eq!(client.get("/some.txt", &asked).status, status, "{value}");
    }
    // A file that may change again within the second has a weak tag, which
    // matches no `If-Range`.
    let new = client.get("/new.txt", &[]);
    let tag = new.header("etag").expect("a tag");
    assert!(tag.starts_with("W/"), "{tag}");
    let asked = [("Range", "bytes=1-2"), ("If-Range", tag)];
    assert_eq!(client.get("/new.txt", &asked).status, 200);
}

#[test]
fn conditions_are_answered_in_the_order_of_the_rfc() {
    const EARLIER: &str = "Sat, 05 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Mon, 07 Nov 1994 08:49:37 GMT";
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let tag = client.get("/some.txt", &[]);
    let tag = tag.header("etag").expect("a tag");
    let weak = &*format!("W/{tag}");
    let listed = &*format!("\"a\", {tag}, \"b\"");
    let dashes = "Sunday, 06-Nov-94 08:49:37 GMT";
    let spaces = "Sun Nov  6 08:49:37 1994";
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[("If-None-Match", tag)], 304),
        (&[("If-None-Match", weak)], 304),
        (&[("If-None-Match", listed)], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", "\"a\""), ("If-None-Match", tag)], 304),
        (&[("If-None-Match", "\"a\", W/\"b\"")], 200),
        (&[("If-None-Match", "nonsense")], 200),
        (&[("If-Modified-Since", LONG_AGO)], 304),
        (&[("If-Modified-Since", LATER)], 304),
        (&[("If-Modified-Since", dashes)], 304),
        (&[("If-Modified-Since", spaces)], 304),
        (&[("If-Modified-Since", EARLIER)], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
        // The tag takes precedence over the date.
        (
            &[("If-None-Match", "\"a\""), ("If-Modified-Since", LONG_AGO)],
            200,
        ),
        (
            &[("If-None-Match", tag), ("If-Modified-Since", EARLIER)],
            304,
        ),
        (&[("If-Match", tag)], 200),
        (&[("If-Match", listed)], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", weak)], 412),
        (&[("If-Match", "\"a\"")], 412),
        (&[("If-Unmodified-Since", LONG_AGO)], 200),
        (&[("If-Unmodified-Since", LATER)], 200),
        (&[("If-Unmodified-Since", EARLIER)], 412),
        (&[("If-Unmodified-Since", "yesterday")], 200),
        (&[("If-Match", tag), ("If-Unmodified-Since", EARLIER)], 200),
        (&[("If-Match", "\"a\""), ("If-None-Match", tag)], 412),
        (&[("If-Match", tag), ("If-None-Match", tag)], 304),
        (&[("If-None-Match", tag), ("Range", "bytes=99-")], 304),
        (&[("If-Match", "\"a\""), ("Range", "bytes=0-0")], 412),
        (&[("If-Match", tag), ("Range", "bytes=0-0")], 206),
    ];
    for (asked, status) in cases {
        let reply = client.get("/some.txt", asked);
        assert_eq!(reply.status, *status, "{asked:?}");
        match status {
            304 => {
                assert_eq!(reply.header("etag"), Some(tag), "{asked:?}");
                assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
                for absent in ["content-type", "content-length", "content-range"] {
                    assert_eq!(reply.header(absent), None, "{asked:?}");
                }
            }
            412 => assert_eq!(reply.header("content-length"), Some("0"), "{asked:?}"),
            200 => assert_eq!(reply.text(), WHOLE),
            _ => {}
        }
    }
}

#[test]
fn a_file_that_changes_has_another_tag_and_its_new_bytes() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", "before");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let before = client.get("/some.txt", &[]);
    let tag = before.header("etag").expect("a tag").to_owned();
    // The new content has the old length.
    write(scratch.path(), "some.txt", "after!");
    let after = client.get("/some.txt", &[("If-None-Match", &tag)]);
    assert_eq!((after.status, after.text()), (200, "after!"));
    assert_ne!(after.header("etag"), Some(&*tag));
    fs::remove_file(scratch.path().join("some.txt")).expect("removed");
    assert_eq!(client.get("/some.txt", &[]).status, 404);
}

#[test]
fn a_precompressed_sibling_is_sent_to_who_accepts_it() {
    let scratch = directory();
    for (name, contents) in [
        ("page.html", "<p>as it is</p>"),
        ("page.html.gz", "in gzip"),
        ("page.html.br", "in brotli"),
        ("page.html.zst", "in zstandard"),
        ("code.js", "let it = 'be';"),
        ("code.js.gz", "code in gzip"),
        ("photo.png", "a photo"),
        ("photo.png.gz", "nobody wants this"),
    ] {
        write_old(scratch.path(), name, contents);
    }
    let server = site(scratch.path())
        .listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
        .start();
    let mut plain = server.browse();
    let mut secure = server.browse_secure();
    for (target, accepts, coding, body) in [
        ("/page.html", "gzip, deflate, br, zstd", "br", "in brotli"),
        ("/page.html", "gzip", "gzip", "in gzip"),
        ("/page.html", "zstd", "zstd", "in zstandard"),
        ("/page.html", "gzip;q=1.0, br;q=0.1", "gzip", "in gzip"),
        ("/page.html", "*", "br", "in brotli"),
        ("/page.html", "br;q=0", "", "<p>as it is</p>"),
        ("/page.html", "identity", "", "<p>as it is</p>"),
        ("/page.html", "", "", "<p>as it is</p>"),
        ("/code.js", "br, zstd, gzip", "gzip", "code in gzip"),
        ("/code.js", "br, zstd", "", "let it = 'be';"),
        ("/photo.png", "gzip", "", "a photo"),
        ("/page.html.gz", "gzip", "", "in gzip"),
    ] {
        let asked = [("Accept-Encoding", accepts)];
        for reply in [plain.get(target, &asked), secure.get(target, &asked)] {
            assert_eq!((reply.status, reply.text()), (200, body), "{accepts}");
            let told = reply.header("content-encoding").unwrap_or_default();
            assert_eq!(told, coding, "{target} {accepts}");
            let varies = target.ends_with(".html") || target.ends_with(".js");
            let vary = varies.then_some("Accept-Encoding");
            assert_eq!(reply.header("vary"), vary, "{target}");
        }
    }
    let asked = [("Accept-Encoding", "gzip")];
    let compressed = plain.get("/page.html", &asked);
    let media = Some("text/html; charset=utf-8");
    assert_eq!(compressed.header("content-type"), media);
    let tag = compressed.header("etag").expect("a tag");
    // A tag is valid only for its own coding.
    assert_eq!(
        plain.get("/page.html", &[("If-None-Match", tag)]).status,
        200
    );
    let again = [("Accept-Encoding", "gzip"), ("If-None-Match", tag)];
    assert_eq!(plain.get("/page.html", &again).status, 304);
    // Ranges apply to the compressed bytes.
    let part = [("Accept-Encoding", "gzip"), ("Range", "bytes=3-6")];
    let part = secure.get("/page.html", &part);
    assert_eq!((part.status, part.text()), (206, "gzip"));
    assert_eq!(part.header("content-range"), Some("bytes 3-6/7"));
    assert_eq!(part.header("content-encoding"), Some("gzip"));
}

#[test]
fn the_type_is_told_by_the_extension() {
    let scratch = directory();
    let types = [
        ("page.html", "text/html; charset=utf-8"),
        ("PAGE.HTM", "text/html; charset=utf-8"),
        ("some.txt", "text/plain; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("code.js", "text/javascript; charset=utf-8"),
        ("code.mjs", "text/javascript; charset=utf-8"),
        ("data.json", "application/json"),
        ("image.svg", "image/svg+xml"),
        ("image.png", "image/png"),
        ("image.jpeg", "image/jpeg"),
        ("image.webp", "image/webp"),
        ("image.avif", "image/avif"),
        ("font.woff2", "font/woff2"),
        ("film.mp4", "video/mp4"),
        ("film.webm", "video/webm"),
        ("code.wasm", "application/wasm"),
        ("paper.pdf", "application/pdf"),
        ("archive.tar.gz", "application/gzip"),
        ("feed.xml", "text/xml"),
        ("what.unheard-of", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ];
    for (name, _) in types {
        write(scratch.path(), name, "x");
    }
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (name, media) in types {
        let reply = client.get(&format!("/{name}"), &[]);
        assert_eq!(reply.header("content-type"), Some(media), "{name}");
    }
}

#[test]
fn a_directory_is_its_index_behind_a_slash() {
    let scratch = directory();
    for name in ["sub", "a dir", "empty"] {
        fs::create_dir(scratch.path().join(name)).expect("a directory");
    }
    write(scratch.path(), "index.html", "the first page");
    write(scratch.path(), "sub/index.html", "the second page");
    write(scratch.path(), "a dir/index.html", "the third page");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for (target, text) in [
        ("/", "the first page"),
        ("/index.html", "the first page"),
        ("/?query=/sub", "the first page"),
        ("/sub/", "the second page"),
        ("/sub/index.html", "the second page"),
        ("/a%20dir/", "the third page"),
        ("http://localhost", "the first page"),
        ("http://localhost/sub/", "the second page"),
    ] {
        let reply = client.get(target, &[]);
        assert_eq!((reply.status, reply.text()), (200, text), "{target}");
        let media = Some("text/html; charset=utf-8");
        assert_eq!(reply.header("content-type"), media);
    }
    for (target, location) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c=%2f", "/sub/?a=b&c=%2f"),
        ("/a%20dir", "/a%20dir/"),
        // The location never names another host.
        ("//sub", "/sub/"),
        ("//localhost/..", ""),
    ] {
        let reply = client.get(target, &[]);
        if location.is_empty() {
            assert!(matches!(reply.status, 400 | 404), "{target}");
        } else {
            assert_eq!(reply.status, 301, "{target}");
            assert_eq!(reply.header("location"), Some(location));
        }
    }
    // A directory without an index, a file with a trailing slash, a path below
    // a file.
    for target in ["/empty/", "/index.html/", "/sub/index.html/x"] {
        assert_eq!(client.get(target, &[]).status, 404, "{target}");
    }
}

#[test]
fn a_directory_is_listed_only_where_that_is_asked_for() {
    let scratch = directory();
    fs::create_dir_all(scratch.path().join("files/deeper")).expect("directories");
    for name in ["b & c.txt", "<i>.html", ".hidden", "ü.txt"] {
        write(scratch.path(), &format!("files/{name}"), "some");
    }
    symlink("/etc/passwd", scratch.path().join("files/out")).expect("a link");
    let server = site(scratch.path()).start();
    assert_eq!(server.get("/files/").status, 404);
    let server = site(scratch.path()).guest_args(&["--list"]).start();
    let mut client = server.browse();
    let reply = client.get("/files/", &[]);
    let media = Some("text/html; charset=utf-8");
    assert_eq!((reply.status, reply.header("content-type")), (200, media));
    let page = reply.text();
    for shown in [
        "<a href=\"../\">",
        "<a href=\"deeper/\">deeper/</a>",
        "<a href=\"b%20%26%20c.txt\">b &amp; c.txt</a>",
        "<a href=\"%3Ci%3E.html\">&lt;i&gt;.html</a>",
        "<a href=\"%C3%BC.txt\">ü.txt</a>",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
    assert!(!page.contains("hidden") && !page.contains("out"), "{page}");
    // Every link works.
    for link in page.split("href=\"").skip(1) {
        let link = link.split('"').next().expect("its end");
        let status = client.get(&format!("/files/{link}"), &[]).status;
        let expected = if link == "../" { 400 } else { 200 };
        assert_eq!(status, expected, "{link}");
    }
    assert_eq!(client.get("/files/.hidden", &[]).status, 404);
}

#[test]
fn a_fallback_answers_where_nothing_exists() {
    let scratch = directory();
    fs::create_dir(scratch.path().join("folder")).expect("a directory");
    write_old(scratch.path(), "app.html", "the application");
    write_old(scratch.path(), "app.js", "its code");
    let server = site(scratch.path())
        .guest_args(&["--fallback", "/app.html"])
        .start();
    let mut client = server.browse();
    for target in ["/", "/users/5", "/users/5?tab=1", "/a/b/c.html"] {
        let reply = client.get(target, &[]);
        let expected = (200, "the application");
        if target == "/" {
            // The directory exists but has no index.
            assert_eq!(reply.status, 404);
            continue;
        }
        assert_eq!((reply.status, reply.text()), expected, "{target}");
    }
    assert_eq!(client.get("/app.js", &[]).text(), "its code");
    let tag = client.head("/users/5", &[]);
    let tag = tag.header("etag").expect("a tag");
    let asked = [("If-None-Match", tag)];
    assert_eq!(client.get("/users/6", &asked).status, 304);
    // The fallback does not apply to refused paths.
    assert_eq!(client.get("/%2e%2e/x", &[]).status, 400);
    assert_eq!(client.get("/.git/config", &[]).status, 404);
}

#[test]
fn other_methods_are_refused_with_those_that_are_allowed() {
    let scratch = directory();
    write(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for method in ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "get"] {
        for target in ["/some.txt", "/nothing"] {
            let asked = [("Content-Length", "0")];
            let reply = client.ask(method, target, &asked);
            assert_eq!(reply.status, 405, "{method}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD"), "{method}");
        }
    }
    // The connection goes on.
    assert_eq!(client.get("/some.txt", &[]).text(), WHOLE);
}

/// Makes a sparse file of 5 GiB, with bytes to find around 4 GiB and at its
/// end.
fn sparse(path: &Path) {
    let file = File::create(path).expect("a file");
    file.set_len(5 << 30).expect("a sparse file");
    file.write_all_at(b"before and after", (4 << 30) - 8)
        .expect("bytes around 4 GiB");
    file.write_all_at(b"the end", (5 << 30) - 7)
        .expect("the last bytes");
    drop(file);
    make_old(path);
}

#[test]
fn lengths_and_ranges_reach_beyond_four_gibibytes() {
    let scratch = directory();
    sparse(&scratch.path().join("sparse.bin"));
    let server = site(scratch.path())
        .listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
        .start();
    let head = server.browse().head("/sparse.bin", &[]);
    assert_eq!(head.header("content-length"), Some("5368709120"));
    let mut plain = server.browse();
    let mut secure = server.browse_secure();
    for (range, expected, body) in [
        (
            "bytes=4294967288-4294967303",
            "bytes 4294967288-4294967303/5368709120",
            "before and after",
        ),
        (
            "bytes=4294967296-4294967303",
            "bytes 4294967296-4294967303/5368709120",
            "nd after",
        ),
        (
            "bytes=-7",
            "bytes 5368709113-5368709119/5368709120",
            "the end",
        ),
        (
            "bytes=5368709113-9999999999",
            "bytes 5368709113-5368709119/5368709120",
            "the end",
        ),
    ] {
        let asked = [("Range", range)];
        for part in [
            plain.get("/sparse.bin", &asked),
            secure.get("/sparse.bin", &asked),
        ] {
            assert_eq!((part.status, part.text()), (206, body), "{range}");
            assert_eq!(part.header("content-range"), Some(expected));
        }
    }
    // A range across 4 GiB that is too long for a single send.
    let asked = [("Range", "bytes=4294000000-4296000000")];
    let mut expected = vec![0; 2_000_001];
    let at = (4_usize << 30) - 8 - 4_294_000_000;
    expected[at..at + 16].copy_from_slice(b"before and after");
    same(&plain.get("/sparse.bin", &asked).body, &expected);
    same(&secure.get("/sparse.bin", &asked).body, &expected);
    let asked = [("Range", "bytes=5368709120-")];
    let reply = plain.get("/sparse.bin", &asked);
    assert_eq!(reply.status, 416);
    assert_eq!(reply.header("content-range"), Some("bytes */5368709120"));
}
