//! Ranges, and the conditions of requests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::WHOLE;
use crate::harness::{
    self, LONG_AGO, conditions, directory, eventually, make_old, same, site, write, write_old,
};

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
    let tag = eventually("a weak tag", || {
        write(scratch.path(), "new.txt", WHOLE);
        let new = client.get("/new.txt", &[]);
        let tag = new.header("etag").expect("a tag").to_owned();
        // A slow machine may come too late.
        tag.starts_with("W/").then_some(tag)
    });
    let tag = tag.as_str();
    let asked = [("Range", "bytes=1-2"), ("If-Range", tag)];
    assert_eq!(client.get("/new.txt", &asked).status, 200);
}

#[test]
fn conditions_are_answered_in_the_order_of_the_rfc() {
    let scratch = directory();
    write_old(scratch.path(), "some.txt", WHOLE);
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    let tag = client.get("/some.txt", &[]);
    let tag = tag.header("etag").expect("a tag");
    let weak = &*format!("W/{tag}");
    let listed = &*format!("\"a\", {tag}, \"b\"");
    let mut cases = conditions(tag, weak, listed);
    // The tag takes precedence over the date.
    let both = vec![("If-None-Match", "\"a\""), ("If-Modified-Since", LONG_AGO)];
    cases.push((both, 200));
    for (asked, status) in &cases {
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
