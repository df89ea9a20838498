//! The sending of files to HTTP clients: by sendfile or a copy, fairly, and
//! never with other bytes than the file's. The responses are tested in
//! `http_files.rs`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Client, FileClient, Pace, Peer, Run, Server, Strace, TcpPeer, directory, eventually, pattern,
    request, same, sent_by_sendfile, site, unix_address, write,
};

/// Returns a run of a site over plain and encrypted connections.
fn both(directory: &Path) -> Run {
    site(directory)
        .listen("--https", "127.0.0.1:0")
        .certificate("cert.pem", "key.pem")
}

#[test]
fn the_kernel_sends_large_files_over_tcp_and_unix_sockets() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let socket = scratch.path().join("site.sock");
    let server = site(scratch.path())
        .listen("--http", &unix_address(&socket))
        .start();
    let options = ["-e", "trace=sendfile,pread64,sendto,read"];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    same(&server.get("/some.bin").body, &bytes);
    let mut local = FileClient::connect_unix(&socket);
    same(&local.get("/some.bin", &[]).body, &bytes);
    let part = local.get("/some.bin", &[("Range", "bytes=1000-900999")]);
    same(&part.body, &bytes[1000..901_000]);
    // By now all calls of the connection have returned.
    assert_eq!(local.get("/missing", &[]).status, 404);
    let trace = strace.detach();
    assert_eq!(sent_by_sendfile(&trace), 6_900_000, "{trace:#?}");
    // No part of it was read to memory.
    assert!(!trace.iter().any(|line| line.contains("pread64")));
}

#[test]
fn the_same_bytes_are_sent_where_sendfile_is_refused() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let socket = scratch.path().join("site.sock");
    for error in ["EINVAL", "ENOSYS"] {
        let server = site(scratch.path())
            .listen("--http", &unix_address(&socket))
            .start();
        let inject = format!("inject=sendfile:error={error}");
        let options = ["-e", "trace=sendfile", "-e", &inject];
        let Some(strace) = Strace::attach(&server, &options) else {
            return;
        };
        let mut client = server.browse();
        same(&client.get("/some.bin", &[]).body, &bytes);
        let part = client.get("/some.bin", &[("Range", "bytes=100-999999")]);
        same(&part.body, &bytes[100..1_000_000]);
        let several = [("Range", "bytes=0-99999,200000-1999999")];
        let parts = client.get("/some.bin", &several).parts();
        same(&parts[0].body, &bytes[..100_000]);
        same(&parts[1].body, &bytes[200_000..2_000_000]);
        same(
            &FileClient::connect_unix(&socket).get("/some.bin", &[]).body,
            &bytes,
        );
        strace.wait_for(&["INJECTED"]);
        assert_eq!(sent_by_sendfile(&strace.detach()), 0);
        server.stop();
    }
}

#[test]
fn ten_mebibytes_are_the_same_inside_tls() {
    let scratch = directory();
    let bytes = pattern(10 << 20);
    write(scratch.path(), "some.bin", &bytes);
    let server = both(scratch.path()).start();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Client::of("localhost").version(version);
        let mut client = FileClient::new(client.connect(server.address("https")));
        same(&client.get("/some.bin", &[]).body, &bytes);
        let part = client.get("/some.bin", &[("Range", "bytes=12345-9999999")]);
        same(&part.body, &bytes[12_345..10_000_000]);
    }
    server.stop();
}

/// Number of bytes received before the interruption.
const EARLY: usize = 10_000;

/// Requests a file over plain TCP or TLS, receives some of it, calls `happens`,
/// and returns the part of the body that arrived before the connection ended.
fn interrupted(server: &Server, secure: bool, target: &str, happens: impl FnOnce()) -> Vec<u8> {
    fn receive<S: Read + Write>(
        peer: Peer<S>,
        target: &str,
        happens: impl FnOnce(),
    ) -> (Vec<u8>, bool) {
        let mut client = FileClient::new(peer);
        client.send("GET", target, &[]);
        let reply = client.reply_head();
        assert_eq!(reply.status, 200);
        let mut body = client.peer().take(EARLY);
        happens();
        let orderly = loop {
            let mut buffer = vec![0; 64 << 10];
            match client.peer().read_some(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => body.extend_from_slice(&buffer[..count]),
                Err(error) => {
                    let late = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                    assert!(!late.contains(&error.kind()), "it does not end");
                    break false;
                }
            }
        };
        assert!(body.len() < reply.length(), "the file came whole");
        (body, orderly)
    }
    if secure {
        let address = server.address("https");
        let stream = TcpPeer::connect_narrow(address).into_inner();
        let peer = Client::of("localhost").over(stream).expect("a session");
        let (body, orderly) = receive(peer, target, happens);
        assert!(!orderly, "a close_notify after a part of a file");
        body
    } else {
        let peer = TcpPeer::connect_narrow(server.address("http"));
        let (body, orderly) = receive(peer, target, happens);
        assert!(!orderly, "an orderly end after a part of a file");
        body
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_ends_the_connection_by_a_reset() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    let server = both(scratch.path()).start();
    let before = server.descriptors_after_a_request();
    for (lost, secure) in [(1, false), (2, true)] {
        let path = write(scratch.path(), "cut.bin", &bytes);
        let cpu = server.cpu_seconds();
        let body = interrupted(&server, secure, "/cut.bin", || {
            let file = File::options().write(true).open(&path).expect("the file");
            file.set_len(50_000).expect("a shorter file");
        });
        // All bytes received are the file's. The kernel may only have zeroed
        // bytes that it had already queued, because they lie in the very pages
        // that were cut off. TLS had copied them.
        let zeroed = body.iter().zip(&bytes).skip(EARLY);
        let zeroed = zeroed.filter(|(sent, byte)| sent != byte);
        assert!(zeroed.clone().all(|(sent, _)| *sent == 0), "other bytes");
        assert!(!secure || zeroed.count() == 0, "it was padded");
        same(&body[..EARLY], &bytes[..EARLY]);
        eventually("its line in the log", || {
            (server.log.count("shorter") == lost).then_some(())
        });
        let used = server.cpu_seconds() - cpu;
        assert!(used < 1.0, "{used} s of CPU: it spins");
    }
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_small_file_that_is_cut_before_it_is_read_is_a_500_and_not_padded() {
    let scratch = directory();
    write(scratch.path(), "some.txt", "some text");
    let server = both(scratch.path()).start();
    server.get("/some.txt");
    // As if the file had become empty after its length was sent.
    let options = ["-e", "trace=pread64", "-e", "inject=pread64:retval=0"];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    let mut plain = server.browse();
    let mut secure = server.browse_secure();
    for reply in [plain.get("/some.txt", &[]), secure.get("/some.txt", &[])] {
        assert_eq!(reply.status, 500);
        assert_eq!(reply.header("connection"), Some("close"));
        assert_eq!(reply.text(), "500 Internal Server Error\n");
    }
    assert_eq!(plain.peer().rest(), b"");
    assert_eq!(secure.peer().rest(), b"");
    server.log.wait_for(&["/some.txt", "shorter"]);
    strace.detach();
    assert_eq!(server.get("/some.txt").text(), "some text");
}

#[test]
fn an_error_of_the_disk_half_way_ends_the_connection() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    write(scratch.path(), "some.bin", &bytes);
    write(scratch.path(), "small.txt", "small");
    for (secure, call) in [(false, "sendfile"), (true, "pread64")] {
        let server = both(scratch.path()).start();
        let before = server.descriptors_after_a_request();
        let (trace, inject) = (
            format!("trace={call}"),
            format!("inject={call}:error=EIO:when=3+"),
        );
        let Some(strace) = Strace::attach(&server, &["-e", &trace, "-e", &inject]) else {
            return;
        };
        let body = interrupted(&server, secure, "/some.bin", || {});
        same(&body, &bytes[..body.len()]);
        strace.wait_for(&["INJECTED"]);
        strace.detach();
        server.log.wait_for(&["connection lost", "error"]);
        assert_eq!(server.get("/small.txt").text(), "small");
        server.wait_for_descriptors(before);
        server.stop();
    }
}

#[test]
fn an_error_of_the_disk_before_anything_was_sent_is_a_500() {
    let scratch = directory();
    write(scratch.path(), "small.txt", "small");
    let server = site(scratch.path()).start();
    server.get("/small.txt");
    let options = ["-e", "trace=pread64", "-e", "inject=pread64:error=EIO"];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    let mut client = server.browse();
    let reply = client.get("/small.txt", &[]);
    assert_eq!(
        (reply.status, reply.header("connection")),
        (500, Some("close"))
    );
    assert_eq!(client.peer().rest(), b"");
    strace.detach();
    server
        .log
        .wait_for(&["small.txt", "cannot be read", "error"]);
    assert_eq!(server.get("/small.txt").text(), "small");
}

#[test]
fn a_file_that_is_replaced_while_it_is_sent_is_sent_to_its_end() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    let server = both(scratch.path()).start();
    for secure in [false, true] {
        let path = write(scratch.path(), "some.bin", &bytes);
        let replace = || {
            let new = write(scratch.path(), "new.bin", "new");
            fs::rename(&new, &path).expect("a replacement");
        };
        let received = if secure {
            let mut client = server.browse_secure();
            client.send("GET", "/some.bin", &[]);
            let length = client.reply_head().length();
            replace();
            client.peer().take(length)
        } else {
            let mut client = FileClient::new(TcpPeer::connect_narrow(server.address("http")));
            client.send("GET", "/some.bin", &[]);
            let length = client.reply_head().length();
            replace();
            client.peer().take(length)
        };
        same(&received, &bytes);
        assert_eq!(server.get("/some.bin").text(), "new");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let scratch = directory();
    write(scratch.path(), "some.bin", pattern(16 << 20));
    let server = both(scratch.path()).start();
    let before = server.descriptors_after_a_request();
    for number in 0..20 {
        let mut client = FileClient::new(TcpPeer::connect_narrow(server.address("http")));
        client.send("GET", "/some.bin", &[]);
        assert_eq!(client.reply_head().status, 200);
        let peer = client.into_peer();
        if number % 2 == 0 {
            peer.reset();
        }
    }
    for _ in 0..5 {
        let mut client = server.browse_secure();
        client.send("GET", "/some.bin", &[]);
        assert_eq!(client.reply_head().status, 200);
    }
    server.wait_for_descriptors(before);
    assert_eq!(server.get("/some.bin").body.len(), 16 << 20);
    server.stop();
}

#[test]
fn a_client_that_ends_its_side_after_the_request_gets_the_whole_file() {
    let scratch = directory();
    let bytes = pattern(5_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let server = both(scratch.path()).start();
    let mut client = server.browse();
    client.send("GET", "/some.bin", &[]);
    client.peer().finish();
    assert_eq!(client.reply_head().length(), bytes.len());
    same(&client.peer().rest(), &bytes);
    let mut client = server.browse_secure();
    client.send("GET", "/some.bin", &[]);
    client.peer().finish();
    assert_eq!(client.reply_head().length(), bytes.len());
    same(&client.peer().rest(), &bytes);
}

#[test]
fn pipelined_requests_for_files_of_all_sizes_are_answered_in_order() {
    let scratch = directory();
    // Sizes below and above the limit for a copy behind the head, and an empty
    // file.
    let sizes = [0, 1, 8 << 10, (8 << 10) + 1, 70_000, 1_000_000];
    let files: Vec<_> = sizes.iter().map(|size| pattern(*size)).collect();
    for (size, bytes) in sizes.iter().zip(&files) {
        write(scratch.path(), &format!("{size}.bin"), bytes);
    }
    let server = both(scratch.path()).start();
    let requests: String = (0..60)
        .map(|number| match number % 7 {
            6 => request("GET", "/nothing", &[]),
            number => request("GET", &format!("/{}.bin", sizes[number]), &[]),
        })
        .collect();
    fn check<S: Read + Write>(client: &mut FileClient<S>, files: &[Vec<u8>]) {
        for number in 0..60 {
            let reply = client.reply_head();
            let body = client.peer().take(reply.length());
            match files.get(number % 7) {
                Some(bytes) => same(&body, bytes),
                None => assert_eq!(reply.status, 404),
            }
        }
    }
    let mut client = server.browse();
    client.peer().send(requests.as_bytes());
    check(&mut client, &files);
    let mut client = server.browse_secure();
    client.peer().send(requests.as_bytes());
    check(&mut client, &files);
}

#[test]
fn a_slow_download_holds_up_nobody() {
    let scratch = directory();
    let large = scratch.path().join("large.bin");
    let file = File::create(&large).expect("a file");
    file.set_len(1 << 30).expect("a sparse file");
    write(scratch.path(), "small.txt", "small");
    let server = both(scratch.path()).start();
    server.get("/small.txt");
    let memory = server.resident();
    let done = AtomicBool::new(false);
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        // One client reads slowly, one as fast as it can, one slowly in TLS.
        for kind in 0..3 {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                fn drain<S: Read + Write>(
                    mut client: FileClient<S>,
                    pause: Duration,
                    done: &AtomicBool,
                ) {
                    client.send("GET", "/large.bin", &[]);
                    assert_eq!(client.reply_head().length(), 1 << 30);
                    let mut buffer = vec![0; 64 << 10];
                    let mut left = 1_usize << 30;
                    let mut pace = Pace::new(pause);
                    while left > 0 && !done.load(Ordering::Relaxed) {
                        let count = client.peer().read_some(&mut buffer).expect("bytes");
                        assert!(count > 0, "{left} bytes are missing");
                        left -= count;
                        pace.step();
                    }
                }
                let slow = Duration::from_millis(5);
                match kind {
                    0 => {
                        let narrow = TcpPeer::connect_narrow(server.address("http"));
                        drain(FileClient::new(narrow), slow, done);
                    }
                    1 => drain(server.browse(), Duration::ZERO, done),
                    _ => drain(server.browse_secure(), slow, done),
                }
            });
        }
        let mut client = server.browse();
        for _ in 0..500 {
            let start = Instant::now();
            assert_eq!(client.get("/small.txt", &[]).text(), "small");
            latencies.push(start.elapsed());
        }
        let grown = server.resident().saturating_sub(memory);
        done.store(true, Ordering::Relaxed);
        assert!(grown < 16 << 20, "{grown} bytes of a file in memory");
    });
    latencies.sort();
    let (median, most) = (latencies[250], latencies[499]);
    assert!(median < Duration::from_millis(100), "{median:?} {most:?}");
    assert!(most < Duration::from_secs(10), "{median:?} {most:?}");
}

#[test]
fn a_hundred_downloads_at_once_are_all_right() {
    const SIZE: usize = 10 << 20;
    let scratch = directory();
    let bytes = pattern(SIZE);
    write(scratch.path(), "some.bin", &bytes);
    let server = site(scratch.path()).start();
    let before = server.descriptors_after_a_request();
    let mut clients: Vec<_> = (0..100).map(|_| server.browse()).collect();
    for client in &mut clients {
        client.send("GET", "/some.bin", &[]);
    }
    std::thread::scope(|scope| {
        for mut client in clients {
            let bytes = &bytes;
            scope.spawn(move || {
                assert_eq!(client.reply_head().length(), SIZE);
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let piece = client.peer().take(rest.len().min(256 << 10));
                    let (expected, after) = rest.split_at(piece.len());
                    assert!(piece == expected, "other bytes before {}", after.len());
                    rest = after;
                }
            });
        }
    });
    server.wait_for_descriptors(before);
    server.stop();
}

#[test]
fn a_file_is_closed_once_it_is_sent() {
    let scratch = directory();
    write(scratch.path(), "small.txt", "small");
    write(scratch.path(), "large.bin", pattern(1_000_000));
    let server = site(scratch.path()).start();
    let mut client = server.browse();
    client.get("/small.txt", &[]);
    let before = server.descriptors_at_rest();
    for _ in 0..50 {
        client.get("/small.txt", &[]);
        client.get("/large.bin", &[]);
        client.head("/large.bin", &[]);
        client.get("/large.bin", &[("Range", "bytes=0-1,5-6")]);
        client.get("/large.bin", &[("Range", "bytes=-0")]);
    }
    server.wait_for_descriptors(before);
}

#[test]
fn a_drain_lets_a_download_finish() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    write(scratch.path(), "some.bin", &bytes);
    let mut server = site(scratch.path()).start();
    let mut client = FileClient::new(TcpPeer::connect_narrow(server.address("http")));
    client.send("GET", "/some.bin", &[]);
    assert_eq!(client.reply_head().length(), bytes.len());
    server.signal(rustix::process::Signal::TERM);
    server.log.wait_for(&["draining"]);
    same(&client.peer().rest(), &bytes);
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}
