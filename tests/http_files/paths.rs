//! Paths, and what they lead to.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::WHOLE;
use crate::harness::{directory, site, write};

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
    // Opening `/dev/tty` could give the server a controlling terminal.
    let devices = ["/zero", "/zero/", "/tty"];
    for (directory, targets) in [
        (scratch.path(), targets.as_slice()),
        (Path::new("/dev"), &devices),
    ] {
        let server = site(directory).start();
        let mut client = server.browse();
        // One that blocks is waited for until the deadline, and no longer.
        for target in targets {
            assert_eq!(client.get(target, &[]).status, 404, "{target}");
            assert_eq!(client.head(target, &[]).status, 404, "{target}");
        }
    }
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
