//! Files: what `send-file` sends, and what a guest may open.

mod paths;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{
    self, Client, Log, Peer, Run, Strace, TcpPeer, directory, pattern, same, skipped, text, write,
};

/// Returns a run of the probe with a directory as its `/data`.
fn probe(directory: &Path, mode: &str) -> Run {
    Run::guest("probe")
        .tcp()
        .args(["--dir", &format!("{}::/data{mode}", directory.display())])
}

/// Requests a part of a file, then the end of the connection. Returns the part.
fn fetch(peer: &mut TcpPeer, path: &str, offset: u64, length: &str) -> Vec<u8> {
    peer.say(&format!("sendfile {path} {offset} {length}"));
    peer.say("close .");
    let mut bytes = peer.rest();
    assert!(
        bytes.ends_with(b".\n"),
        "{:?}",
        String::from_utf8_lossy(&bytes)
    );
    bytes.truncate(bytes.len() - 2);
    bytes
}

#[test]
fn a_file_is_sent_whole_or_in_part() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let server = probe(scratch.path(), "").start();
    let parts = [
        (0, "-", 0..3_000_000),
        (1, "2", 1..3),
        (2_999_999, "1", 2_999_999..3_000_000),
    ];
    for (offset, length, range) in parts {
        let sent = fetch(&mut server.connect(), "/data/some.bin", offset, length);
        same(&sent, bytes.get(range).expect("a part"));
    }
    server.stop();
}

#[test]
fn nothing_of_a_file_is_sent_as_nothing() {
    let scratch = directory();
    write(scratch.path(), "empty.bin", b"");
    write(scratch.path(), "some.bin", b"some");
    let server = probe(scratch.path(), "").start();
    assert_eq!(fetch(&mut server.connect(), "/data/empty.bin", 0, "-"), b"");
    assert_eq!(fetch(&mut server.connect(), "/data/some.bin", 4, "-"), b"");
    assert_eq!(fetch(&mut server.connect(), "/data/some.bin", 2, "0"), b"");
}

#[test]
fn a_range_beyond_the_file_is_an_error() {
    let scratch = directory();
    write(scratch.path(), "some.bin", b"some");
    let server = probe(scratch.path(), "").start();
    let mut peer = server.connect();
    for range in [
        "5 -",
        "0 5",
        "4 1",
        "18446744073709551615 1",
        "1 18446744073709551615",
    ] {
        let answer = peer.ask(&format!("sendfile /data/some.bin {range}"));
        assert_eq!(answer, "error: invalid-argument", "{range}");
    }
}

#[test]
fn writes_and_files_keep_their_order() {
    let scratch = directory();
    let bytes = pattern(500_000);
    write(scratch.path(), "some.bin", &bytes);
    let server = probe(scratch.path(), "").start();
    let mut peer = server.connect();
    peer.say("write 100000");
    peer.say("sendfile /data/some.bin 0 -");
    peer.say("write 7");
    peer.say("close .");
    let received = peer.rest();
    let text = |bytes: &[u8]| bytes.iter().all(|byte| b"x\n".contains(byte));
    let start = received
        .windows(64)
        .position(|window| bytes.starts_with(window))
        .expect("the file's beginning");
    assert!(start >= 100_000 && text(&received[..start]));
    same(&received[start..start + bytes.len()], &bytes);
    let end = &received[start + bytes.len()..];
    assert!(end.starts_with(b"xxxxxxx") && end.ends_with(b".\n"));
}

#[test]
fn a_sparse_file_beyond_four_gibibytes_is_sent() {
    let scratch = directory();
    let path = scratch.path().join("sparse.bin");
    let mut file = File::create(&path).expect("a file");
    file.set_len(5 << 30).expect("a sparse file");
    file.seek(SeekFrom::End(0)).expect("its end");
    file.write_all(b"the end").expect("its last bytes");
    let server = probe(scratch.path(), "").start();
    let sent = fetch(
        &mut server.connect(),
        "/data/sparse.bin",
        (5 << 30) - 1_000_000,
        "-",
    );
    assert_eq!(sent.len(), 1_000_007);
    assert!(sent.ends_with(b"\0the end"));
    assert!(sent[..1_000_000].iter().all(|&byte| byte == 0));
}

#[test]
fn a_large_file_takes_no_memory() {
    let scratch = directory();
    let path = scratch.path().join("large.bin");
    File::create(&path)
        .expect("a file")
        .set_len(256 << 20)
        .expect("a sparse file");
    let server = probe(scratch.path(), "").start();
    assert_eq!(server.connect().ask("size"), "0");
    let before = server.resident();
    let mut peer = server.connect();
    peer.say("sendfile /data/large.bin 0 -");
    peer.say("close .");
    let mut most = 0;
    let mut left = (256 << 20) + 2;
    let mut buffer = vec![0; 1 << 20];
    while left > 0 {
        let count = peer.get().read(&mut buffer).expect("bytes of the file");
        assert!(count > 0, "{left} bytes are missing");
        left -= count;
        most = most.max(server.resident());
    }
    assert!(
        most.saturating_sub(before) < 16 << 20,
        "{} bytes",
        most - before
    );
}

#[test]
fn the_kernel_sends_the_file() {
    let scratch = directory();
    let bytes = pattern(1_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let server = probe(scratch.path(), "").start();
    let Some(strace) = Strace::attach(&server, &["-e", "trace=sendfile"]) else {
        return;
    };
    same(
        &fetch(&mut server.connect(), "/data/some.bin", 0, "-"),
        &bytes,
    );
    let trace = strace.detach();
    let sent: u64 = trace
        .iter()
        .filter(|line| line.contains("sendfile"))
        .filter_map(|line| line.rsplit_once("= ")?.1.trim().parse::<u64>().ok())
        .sum();
    assert_eq!(sent, 1_000_000, "{trace:#?}");
}

#[test]
fn the_same_bytes_are_sent_where_sendfile_is_refused() {
    let scratch = directory();
    let bytes = pattern(1_000_000);
    write(scratch.path(), "some.bin", &bytes);
    for error in ["EINVAL", "ENOSYS"] {
        let server = probe(scratch.path(), "").start();
        let inject = format!("inject=sendfile:error={error}");
        let options = ["-e", "trace=sendfile", "-e", &inject];
        let Some(strace) = Strace::attach(&server, &options) else {
            return;
        };
        same(
            &fetch(&mut server.connect(), "/data/some.bin", 0, "-"),
            &bytes,
        );
        same(
            &fetch(&mut server.connect(), "/data/some.bin", 10, "20"),
            &bytes[10..30],
        );
        strace.wait_for(&["INJECTED"]);
        strace.detach();
        server.stop();
    }
}

#[test]
fn a_signal_in_the_midst_of_reading_a_file_costs_nothing() {
    let scratch = directory();
    let bytes = pattern(1_000_000);
    write(scratch.path(), "some.bin", &bytes);
    // In TLS the host reads the file; without TLS the kernel sends it.
    let server = probe(scratch.path(), "").tls().start();
    let inject = "inject=pread64,sendfile:error=EINTR:when=1+3";
    let options = ["-e", "trace=pread64,sendfile", "-e", inject];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    same(
        &fetch(&mut server.connect(), "/data/some.bin", 0, "-"),
        &bytes,
    );
    strace.wait_for(&["sendfile", "INJECTED"]);
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.say("sendfile /data/some.bin 0 -");
    same(&peer.take(bytes.len()), &bytes);
    strace.wait_for(&["pread64", "INJECTED"]);
    strace.detach();
}

/// A program that holds a lease on a file until this is dropped, and ignores
/// the kernel's SIGIO.
struct Lease(Child);

impl Lease {
    fn take(path: &Path) -> Option<Self> {
        const PROGRAM: &str = "import fcntl, os, signal, sys\n\
            signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
            file = os.open(sys.argv[1], os.O_RDWR)\n\
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
            print('leased', flush=True)\n\
            sys.stdin.read()\n";
        let child = Command::new("python3")
            .args(["-c", PROGRAM, text(path)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            skipped("there is no python3 here");
            return None;
        };
        let said = Log::follow(child.stdout.take().expect("its output"));
        said.wait_for(&["leased"]);
        Some(Self(child))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The lease ends with the program.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_file_with_a_lease_holds_up_nobody() {
    let scratch = directory();
    let path = write(scratch.path(), "leased.txt", b"leased");
    write(scratch.path(), "free.txt", b"free");
    let server = probe(scratch.path(), ":rw").start();
    let mut peer = server.connect();
    let Some(lease) = Lease::take(&path) else {
        return;
    };
    let start = Instant::now();
    let used = server.cpu_seconds();
    let refused = peer.ask("sendfile /data/leased.txt 0 -");
    assert_eq!(refused, "error: limit-exceeded");
    // Also through the standard library, within an event.
    let refused = peer.ask("read /data/leased.txt");
    assert!(refused.starts_with("error"), "{refused}");
    let refused = peer.ask("write-file /data/leased.txt text");
    assert!(refused.starts_with("error"), "{refused}");
    assert_eq!(peer.ask("read /data/free.txt"), "free");
    // The kernel breaks a lease after 45 seconds.
    assert!(start.elapsed() < Duration::from_secs(40));
    assert!(server.cpu_seconds() - used < 5.0, "it does not spin");
    server
        .log
        .wait_for(&["another program has a lease on the file"]);
    drop(lease);
    assert_eq!(peer.ask("read /data/leased.txt"), "leased");
}

#[test]
fn a_slow_disk_keeps_others_waiting_no_longer_than_an_event() {
    let scratch = directory();
    write(scratch.path(), "some.txt", b"some");
    let server = probe(scratch.path(), "").start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("sync /data/some.txt"), "ok");
    let inject = "inject=fsync:delay_enter=60000000";
    let Some(strace) = Strace::attach(&server, &["-e", "trace=fsync", "-e", inject]) else {
        return;
    };
    let start = Instant::now();
    peer.say("sync /data/some.txt");
    let mut other = server.connect();
    assert_eq!(other.ask("read /data/some.txt"), "some");
    peer.lost();
    server
        .log
        .wait_for(&["the disk takes longer", "--event-timeout"]);
    assert!(start.elapsed() < Duration::from_secs(50));
    drop(strace);
}

#[test]
fn an_error_of_the_disk_ends_the_connection() {
    let scratch = directory();
    write(scratch.path(), "some.bin", pattern(1_000_000));
    let server = probe(scratch.path(), "").start();
    let options = ["-e", "trace=sendfile", "-e", "inject=sendfile:error=EIO"];
    let Some(strace) = Strace::attach(&server, &options) else {
        return;
    };
    let before = server.descriptors_at_rest();
    let mut peer = server.connect();
    peer.say("sendfile /data/some.bin 0 -");
    assert!(peer.cut().len() < 1_000_000);
    strace.wait_for(&["INJECTED"]);
    strace.detach();
    server.wait_for_descriptors(before);
    assert_eq!(server.connect().ask("size"), "0");
}

#[test]
fn the_same_bytes_are_sent_inside_tls() {
    let scratch = directory();
    let bytes = pattern(3_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let server = probe(scratch.path(), "").tls().start();
    let mut peer = Client::of("localhost").connect(server.address("tls"));
    peer.say("sendfile /data/some.bin 0 -");
    peer.say("close .");
    let received = peer.rest();
    assert!(received.ends_with(b".\n"));
    same(&received[..received.len() - 2], &bytes);
}

#[test]
fn a_file_that_is_cut_while_it_is_sent_ends_the_connection() {
    let scratch = directory();
    let path = write(scratch.path(), "cut.bin", pattern(16 << 20));
    let server = probe(scratch.path(), "").start();
    let before = server.descriptors_at_rest();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.say("sendfile /data/cut.bin 0 -");
    peer.take(100_000);
    let file = File::options().write(true).open(&path).expect("the file");
    file.set_len(50_000).expect("a shorter file");
    let received = peer.cut();
    assert!(received.len() < (16 << 20) - 100_000, "it was padded");
    server.wait_for_descriptors(before);
    server.log.wait_for(&["connection lost"]);
}

#[test]
fn a_file_that_is_replaced_is_sent_to_its_end() {
    let scratch = directory();
    let bytes = pattern(16 << 20);
    let path = write(scratch.path(), "old.bin", &bytes);
    let server = probe(scratch.path(), "").start();
    let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
    peer.say("sendfile /data/old.bin 0 -");
    let mut received = peer.take(100_000);
    let new = write(scratch.path(), "new.bin", b"new");
    fs::rename(&new, &path).expect("a replacement");
    received.extend(peer.take(bytes.len() - 100_000));
    same(&received, &bytes);
    assert_eq!(
        fetch(&mut server.connect(), "/data/old.bin", 0, "-"),
        b"new"
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_file_leaves_nothing_behind() {
    let scratch = directory();
    write(scratch.path(), "some.bin", pattern(16 << 20));
    let server = probe(scratch.path(), "").start();
    assert_eq!(server.connect().ask("size"), "0");
    let before = server.descriptors_at_rest();
    for _ in 0..10 {
        let mut peer = TcpPeer::connect_narrow(server.address("tcp"));
        peer.say("sendfile /data/some.bin 0 -");
        peer.take(10_000);
        peer.reset();
    }
    server.wait_for_descriptors(before);
    assert_eq!(server.connect().ask("size"), "0");
}

#[test]
fn no_descriptor_left_for_a_file_is_an_error_to_the_guest() {
    let scratch = directory();
    write(scratch.path(), "some.bin", b"some");
    let server = probe(scratch.path(), "").args(["--workers", "1"]).start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("size"), "0");
    server.descriptors_at_rest();
    server.take_descriptors_away();
    assert_eq!(
        peer.ask("sendfile /data/some.bin 0 -"),
        "error: limit-exceeded"
    );
    server.give_descriptors_back();
    assert_eq!(fetch(&mut peer, "/data/some.bin", 0, "-"), b"some");
}

#[test]
fn a_file_is_sent_over_a_unix_socket() {
    let scratch = directory();
    let bytes = pattern(1_000_000);
    write(scratch.path(), "some.bin", &bytes);
    let path = scratch.path().join("probe.sock");
    let _server = probe(scratch.path(), "")
        .listen("--tcp", &harness::unix_address(&path))
        .start();
    let mut peer = Peer::connect_unix(&path);
    peer.say("sendfile /data/some.bin 0 -");
    same(&peer.take(bytes.len()), &bytes);
}
