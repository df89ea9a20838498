//! Paths of files: what leads out, and what is no file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::{fetch, probe};
use crate::harness::{Run, Server, Strace, directory, write};

#[test]
fn no_path_leads_out_of_the_directory() {
    let (_scratch, server) = confined();
    try_to_get_out(&server);
}

#[test]
fn no_path_leads_out_where_a_filter_refuses_openat2() {
    // ENOSYS is what a kernel before 5.6 returns, EPERM an old container
    // runtime.
    for errno in ["ENOSYS", "EPERM"] {
        let (_scratch, server) = confined();
        let refuse = format!("inject=openat2:error={errno}");
        let options = ["-e", "trace=openat2", "-e", &refuse];
        let Some(strace) = Strace::attach(&server, &options) else {
            return;
        };
        try_to_get_out(&server);
        strace.wait_for(&["openat2", "within", "INJECTED"]);
        strace.detach();
    }
}

/// Starts a server for a directory that has a file, a subdirectory, and links,
/// some of which lead to a secret beside the directory.
fn confined() -> (TempDir, Server) {
    let scratch = directory();
    let inside = scratch.path().join("inside");
    fs::create_dir_all(inside.join("below")).expect("directories");
    write(scratch.path(), "secret.txt", b"secret");
    write(&inside, "open.txt", b"open");
    let secret = scratch.path().join("secret.txt");
    symlink("../secret.txt", inside.join("relative")).expect("a link");
    symlink("../../secret.txt", inside.join("below/deeper")).expect("a link");
    symlink(secret, inside.join("absolute")).expect("a link");
    symlink(inside.join("open.txt"), inside.join("rooted")).expect("a link");
    symlink(scratch.path(), inside.join("up")).expect("a link");
    symlink("open.txt", inside.join("within")).expect("a link");
    symlink("../within", inside.join("below/through")).expect("a link");
    symlink("loop", inside.join("loop")).expect("a link");
    let server = probe(&inside, "").start();
    (scratch, server)
}

fn try_to_get_out(server: &Server) {
    let mut peer = server.connect();
    for path in [
        "/data/../secret.txt",
        "/data/./.././secret.txt",
        "/data/nothing/../../secret.txt",
        "/data/below/../../secret.txt",
        "/data/below/deeper",
        "/data/relative",
        "/data/absolute",
        // Absolute links are refused wherever they lead.
        "/data/rooted",
        "/data/up/secret.txt",
        "/data/up/inside/open.txt",
        "/data/loop",
        "/data//../secret.txt",
        "/data/below",
        "/data/",
        "/data",
    ] {
        let answer = peer.ask(&format!("sendfile {path} 0 -"));
        let denied = ["error: not-found", "error: access-denied"].contains(&answer.as_str());
        assert!(denied, "{path}: {answer}");
        let answer = peer.ask(&format!("read {path}"));
        assert!(answer.starts_with("error: "), "{path}: {answer}");
    }
    let answer = peer.ask("sendfile /secret.txt 0 -");
    assert_eq!(answer, "error: access-denied");
    server.log.wait_for(&["--dir"]);
    for path in [
        "/data/open.txt",
        "/data/below/../open.txt",
        "/data/below/through",
        "/data/within",
    ] {
        assert_eq!(
            fetch(&mut server.connect(), path, 0, "-"),
            b"open",
            "{path}"
        );
    }
}

#[test]
fn what_is_no_regular_file_is_not_found_and_does_not_block() {
    let scratch = directory();
    fs::create_dir(scratch.path().join("directory")).expect("a directory");
    let fifo = scratch.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0)
        .expect("a FIFO");
    let _socket =
        std::os::unix::net::UnixListener::bind(scratch.path().join("socket")).expect("a socket");
    let server = probe(scratch.path(), "").start();
    let mut peer = server.connect();
    for name in ["directory", "fifo", "nothing", "socket"] {
        let answer = peer.ask(&format!("sendfile /data/{name} 0 -"));
        assert_eq!(answer, "error: not-found", "{name}");
    }
}

#[test]
fn a_file_that_the_host_may_not_read_is_denied() {
    let scratch = directory();
    let path = write(scratch.path(), "locked.txt", b"locked");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("no permissions");
    let server = probe(scratch.path(), "").obeys_permissions().start();
    let answer = server.connect().ask("sendfile /data/locked.txt 0 -");
    assert_eq!(answer, "error: access-denied");
}

#[test]
fn a_directory_is_read_only_unless_said_otherwise() {
    let scratch = directory();
    write(scratch.path(), "some.txt", b"what it says");
    let server = probe(scratch.path(), "").start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("read /data/some.txt"), "what it says");
    let list = peer.ask("list /data");
    assert!(list.contains("some.txt"), "{list}");
    let answer = peer.ask("write-file /data/new.txt text");
    assert!(answer.starts_with("error: "), "{answer}");
    let answer = peer.ask("write-file /data/some.txt text");
    assert!(answer.starts_with("error: "), "{answer}");
    assert!(!scratch.path().join("new.txt").exists());
    assert_eq!(
        fs::read(scratch.path().join("some.txt")).expect("the file"),
        b"what it says"
    );

    let server = probe(scratch.path(), ":rw").start();
    let answer = server.connect().ask("write-file /data/new.txt text");
    assert!(!answer.starts_with("error: "), "{answer}");
    assert_eq!(
        fs::read(scratch.path().join("new.txt")).expect("the file"),
        b"text"
    );
}

#[test]
fn without_a_directory_there_are_no_files() {
    let server = Run::guest("probe").tcp().start();
    let mut peer = server.connect();
    assert_eq!(peer.ask("sendfile /etc/passwd 0 -"), "error: access-denied");
    for path in ["/etc/passwd", "/", ".", "../../etc/passwd"] {
        let answer = peer.ask(&format!("read {path}"));
        assert!(answer.starts_with("error: "), "{path}: {answer}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_refused_at_start() {
    probe(Path::new("/nowhere/at/all"), "")
        .output()
        .refused(1, &["/nowhere/at/all"]);
}
