//! Files that standard components pass on as bodies of their responses.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{
    FileClient, LONG_AGO, Run, Server, Strace, TcpPeer, directory, make_old, message, pattern,
    same, sent_by_sendfile, text, write, write_old,
};

/// Serves a directory by a guest that uses only WASI 0.3.
fn site(directory: &Path) -> Run {
    serving("file-server", directory)
}

fn probe(directory: &Path) -> Run {
    serving("service-probe", directory)
}

fn serving(guest: &str, directory: &Path) -> Run {
    Run::guest(guest)
        .http()
        .args(["--workers", "1"])
        .args(["--dir", &format!("{}::/", text(directory))])
}

fn both(run: Run) -> Run {
    run.listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
}

#[test]
fn a_site_is_served() {
    let scratch = directory();
    fs::create_dir(scratch.path().join("sub")).expect("a directory");
    write_old(scratch.path(), "index.html", "<h1>Hello");
    write_old(scratch.path(), "sub/index.html", "<h1>Sub");
    write_old(scratch.path(), "a b.css", "p {}");
    write_old(scratch.path(), "empty", "");
    write(scratch.path(), ".hidden", "hidden");
    let server = site(scratch.path()).start();
    let mut client = server.browse();

    let page = client.get("/", &[]);
    assert_eq!((page.status, page.text()), (200, "<h1>Hello"));
    let media = Some("text/html; charset=utf-8");
    assert_eq!(page.header("content-type"), media);
    assert_eq!(page.header("last-modified"), Some(LONG_AGO));
    let tag = page.header("etag").expect("a tag");
    for lines in [
        [("If-None-Match", tag)],
        [("If-None-Match", "*")],
        [("If-Modified-Since", LONG_AGO)],
    ] {
        let reply = client.get("/index.html", &lines);
        assert_eq!((reply.status, reply.header("etag")), (304, Some(tag)));
    }
    let changed = [
        ("If-None-Match", "\"other\""),
        ("If-Modified-Since", LONG_AGO),
    ];
    assert_eq!(client.get("/", &changed).status, 200);
    assert_eq!(client.get("/sub/", &[]).text(), "<h1>Sub");
    let moved = client.get("/sub", &[]);
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some("/sub/"))
    );
    let styles = client.get("/a%20b.css?version=1", &[]);
    assert_eq!(styles.text(), "p {}");
    let media = Some("text/css; charset=utf-8");
    assert_eq!(styles.header("content-type"), media);

    let head = client.head("/", &[]);
    assert_eq!((head.status, head.length()), (200, 9));
    let empty = client.get("/empty", &[]);
    assert_eq!((empty.status, empty.length()), (200, 0));
    let refused = client.ask("POST", "/", &[]);
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    for target in [
        "/nowhere",
        "/.hidden",
        "/../x",
        "/%2e%2e/x",
        "/index.html/",
        "/a%00",
    ] {
        assert_eq!(client.get(target, &[]).status, 404, "{target}");
    }
    assert_eq!(client.get("/%ff", &[]).status, 400);
    server.stop();
}

#[test]
fn what_is_no_file_of_the_directory_is_not_sent() {
    let outside = directory();
    let secret = write(outside.path(), "secret", "secret");
    let scratch = directory();
    symlink(&secret, scratch.path().join("out")).expect("a link");
    write(scratch.path(), "some", "some");
    symlink("some", scratch.path().join("in")).expect("a link");
    let pipe = scratch.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    let server = site(scratch.path()).start();
    assert_eq!(server.get("/in").text(), "some");
    for target in ["/out", "/pipe", "/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
    server.stop();
}

#[test]
fn the_kernel_sends_a_file_whose_stream_is_passed_on_unread() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write(scratch.path(), "content", &bytes);
    for run in [site(scratch.path()), probe(scratch.path())] {
        let server = run.start();
        let target = if server.get("/content").status == 200 {
            "/content"
        } else {
            "/file"
        };
        let options = ["-f", "-e", "trace=openat2,sendfile,pread64"];
        let Some(strace) = Strace::attach(&server, &options) else {
            return;
        };
        let mut client = server.browse();
        for _ in 0..2 {
            same(&client.get(target, &[]).body, &bytes);
        }
        let trace = strace.detach();
        assert_eq!(sent_by_sendfile(&trace), 6_000_000, "{trace:#?}");
        // No part of it was read to memory.
        assert!(!trace.iter().any(|line| line.contains("pread64")));
        // No other thread opened it.
        let calls = trace.iter().filter(|line| line.contains('('));
        let threads = calls.filter_map(|line| line.split_whitespace().next());
        assert_eq!(threads.collect::<HashSet<_>>().len(), 1, "{trace:#?}");
        server.stop();
    }
}

#[test]
fn the_same_bytes_come_in_every_size_plain_and_inside_tls() {
    let scratch = directory();
    let sizes = [
        0,
        1,
        8 << 10,
        (8 << 10) + 1,
        65_536,
        65_537,
        1 << 20,
        10 << 20,
    ];
    for size in sizes {
        write(scratch.path(), &format!("{size}.bin"), pattern(size));
    }
    let server = both(site(scratch.path())).start();
    let mut plain = server.browse();
    let mut secure = server.browse_secure();
    for size in sizes {
        let (target, bytes) = (format!("/{size}.bin"), pattern(size));
        let reply = plain.get(&target, &[]);
        assert_eq!(reply.length(), size);
        same(&reply.body, &bytes);
        same(&secure.get(&target, &[]).body, &bytes);
    }
    server.stop();
}

#[test]
fn requests_that_came_together_get_their_files_in_order() {
    let scratch = directory();
    let bytes = pattern(300_000);
    write(scratch.path(), "large", &bytes);
    write(scratch.path(), "small", "small");
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    for _ in 0..20 {
        client.send("GET", "/large", &[]);
        client.send("GET", "/small", &[]);
    }
    for _ in 0..20 {
        for expected in [&*bytes, b"small"] {
            let length = client.reply_head().length();
            same(&client.peer().take(length), expected);
        }
    }
    server.stop();
}

#[test]
fn a_file_beyond_four_gibibytes_is_sent_to_its_end() {
    const SIZE: u64 = (4 << 30) + 12_345;
    let scratch = directory();
    let path = scratch.path().join("sparse");
    let mut file = File::create(&path).expect("a file");
    file.set_len(SIZE).expect("a length");
    file.seek(SeekFrom::Start(SIZE - 3)).expect("a place");
    file.write_all(b"end").expect("the end");
    make_old(&path);
    let server = both(probe(scratch.path())).start();
    fs::rename(&path, scratch.path().join("content")).expect("another name");
    // The end of the file, from an offset that 32 bits cannot hold.
    let tail = format!("/file?{}", SIZE - 100_000);
    for reply in [
        server.browse().get(&tail, &[]),
        server.browse_secure().get(&tail, &[]),
    ] {
        assert_eq!(reply.length(), 100_000);
        assert!(reply.body.ends_with(b"\0\0end"));
    }
    let mut client = server.browse();
    client.send("GET", "/file", &[]);
    let head = client.reply_head();
    assert_eq!(head.header("content-length"), Some(&*SIZE.to_string()));
    client.into_peer().reset();
    server.connect_http().fetch("/hello").is(200, "hello");
    server.stop();
}

#[test]
fn a_length_that_is_not_the_files_is_a_500() {
    let scratch = directory();
    let bytes = pattern(100_000);
    write(scratch.path(), "content", &bytes);
    let server = probe(scratch.path()).start();
    let mut client = server.browse();
    for length in [0, 99_999, 100_001] {
        let reply = client.get(&format!("/file-of?{length}"), &[]);
        assert_eq!(reply.status, 500, "{length}");
        server
            .log
            .wait_for(&["content-length", &length.to_string()]);
    }
    server.log.wait_for(&["sent Err", "HttpResponseBodySize"]);
    let reply = client.get("/file-of?100000", &[]);
    same(&reply.body, &bytes);
    server.stop();
}

#[test]
fn a_file_goes_by_any_framing_and_from_any_offset() {
    let scratch = directory();
    for size in [5_000, 500_000] {
        let bytes = pattern(size);
        write(scratch.path(), "content", &bytes);
        let server = probe(scratch.path()).start();
        let mut client = server.browse();
        for offset in [0, 1, size - 1, size, size + 1] {
            let reply = client.get(&format!("/file?{offset}"), &[]);
            same(&reply.body, bytes.get(offset..).unwrap_or_default());
        }
        assert_eq!(client.head("/file", &[]).length(), size);
        // If trailers may follow, the file is sent as a chunk.
        let mut peer = server.connect_http();
        let response = peer.exchange(message("GET", "/file-trailers", &["TE: trailers"]));
        same(&response.body, &bytes);
        assert_eq!(response.trailers, [("x-sum".to_owned(), "4".to_owned())]);
        same(&peer.fetch("/file-trailers").body, &bytes);
        let response = peer.exchange(message("GET", &format!("/file?{size}"), &["TE: trailers"]));
        response.is(200, "");
        // This guest reads the file itself.
        same(&peer.fetch("/file-again").body, &bytes);
        peer.fetch("/hello").is(200, "hello");

        let mut peer = server.connect_http();
        peer.send(b"GET /file HTTP/1.0\r\n\r\n");
        same(body(&peer.rest()), &bytes);
        drop(peer);
        server.stop();
    }
}

/// Returns the body of a response.
fn body(response: &[u8]) -> &[u8] {
    let end = response.windows(4).position(|four| four == b"\r\n\r\n");
    &response[end.expect("the end of a head") + 4..]
}

#[test]
fn a_guest_that_calls_its_body_failed_is_not_taken_for_one_that_is_done() {
    let scratch = directory();
    write(scratch.path(), "content", pattern(100_000));
    let server = probe(scratch.path()).start();
    let mut peer = server.connect_http();
    peer.send(message("GET", "/file-fails", &["TE: trailers"]).as_bytes());
    let came = peer.lost();
    assert!(!came.ends_with(b"0\r\n\r\n"), "it looks whole");
    server.connect_http().fetch("/hello").is(200, "hello");
    drop(peer);
    server.stop();
}

#[test]
fn the_guest_is_told_when_its_file_was_sent_and_when_it_was_not() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    write(scratch.path(), "content", &bytes);
    let server = probe(scratch.path()).start();
    let begin = || {
        let mut client = FileClient::new(TcpPeer::connect_narrow(server.address("http")));
        client.send("GET", "/file", &[]);
        assert_eq!(client.reply_head().length(), bytes.len());
        client
    };
    let mut client = begin();
    same(&client.peer().take(10_000), &bytes[..10_000]);
    assert_eq!(server.log.count("sent "), 0);
    same(&client.peer().take(bytes.len() - 10_000), &bytes[10_000..]);
    server.log.wait_for(&["read Ok(()), sent Ok(())"]);
    begin().into_peer().reset();
    server.log.wait_for(&["sent Err", "ConnectionTerminated"]);
    server.stop();
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_ends_the_connection_by_a_reset() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    let server = both(site(scratch.path())).start();
    write(scratch.path(), "index.html", "home");
    let before = server.descriptors_after_a_request();
    for secure in [false, true] {
        let path = write(scratch.path(), "cut.bin", &bytes);
        let cut = || {
            let file = File::options().write(true).open(&path).expect("the file");
            file.set_len(50_000).expect("a shorter file");
        };
        let came = match secure {
            false => received(server.browse_narrowly(), cut),
            true => received(server.browse_secure(), cut),
        };
        assert!(came < bytes.len(), "it came whole");
        server.log.wait_for(&["connection lost", "shorter"]);
    }
    server.wait_for_descriptors(before);
    server.stop();
}

/// Requests a file, calls `happens` after its first bytes, and returns the
/// number of bytes that arrived before the connection was cut.
fn received<S: Read + Write>(mut client: FileClient<S>, happens: impl FnOnce()) -> usize {
    client.send("GET", "/cut.bin", &[]);
    let length = client.reply_head().length();
    let mut came = client.peer().take(10_000).len();
    happens();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match client.peer().read_some(&mut buffer) {
            Ok(0) => panic!("an orderly end after {came} of {length} bytes"),
            Ok(count) => came += count,
            Err(_) => return came,
        }
    }
}

#[test]
fn a_file_that_grows_or_is_replaced_while_it_is_sent_is_sent_as_it_was() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    let path = write(scratch.path(), "content", &bytes);
    let server = probe(scratch.path()).start();
    let mut client = server.browse_narrowly();
    client.send("GET", "/file", &[]);
    let length = client.reply_head().length();
    let mut file = File::options().append(true).open(&path).expect("the file");
    file.write_all(b"more").expect("more of it");
    let new = write(scratch.path(), "new", "new");
    fs::rename(new, &path).expect("a replacement");
    same(&client.peer().take(length), &bytes);
    assert_eq!(client.get("/file", &[]).text(), "new");
    server.stop();
}

impl Server {
    /// Connects with a small receive buffer.
    fn browse_narrowly(&self) -> FileClient<std::net::TcpStream> {
        FileClient::new(TcpPeer::connect_narrow(self.address("http")))
    }
}
