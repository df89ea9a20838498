//! Tests of Unix domain sockets.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{
    self, Peer, Run, directory, guest, pattern, reload, skipped, text, unix_address,
};

#[test]
fn an_echo_over_a_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let address = unix_address(&path);
    let server = Run::guest("echo").listen("--tcp", &address).start();
    assert_eq!(server.listening, [address]);
    let mut peer = Peer::connect_unix(&path);
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    assert!(peer.rest() == bytes);
    server.stop();
}

#[test]
fn the_file_is_removed_at_the_end() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    assert!(path.metadata().expect("the file").file_type().is_socket());
    server.stop();
    assert!(!path.exists());
}

#[test]
fn a_stale_file_is_replaced() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "the file outlives its listener");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    let mut peer = Peer::connect_unix(&path);
    peer.send(b"fresh");
    assert_eq!(peer.take(5), b"fresh");
    drop(peer);
    server.stop();
}

#[test]
fn the_file_of_a_server_that_lives_is_left_to_it() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .start();
    let second = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .output();
    second.refused(1, &["echo.sock", "another program listens"]);
    let mut peer = Peer::connect_unix(&path);
    peer.send(b"the first");
    assert_eq!(peer.take(9), b"the first");
    drop(peer);
    server.stop();
}

#[test]
fn a_file_that_is_no_socket_is_not_touched() {
    let scratch = directory();
    let path = harness::write(scratch.path(), "precious.txt", "precious");
    Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .output()
        .refused(1, &["precious.txt"]);
    assert_eq!(
        std::fs::read_to_string(&path).expect("the file"),
        "precious"
    );
}

#[test]
fn all_workers_serve_one_unix_socket() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .args(["--workers", "3"])
        .start();
    let mut peers: Vec<_> = (0..24).map(|_| Peer::connect_unix(&path)).collect();
    for peer in &mut peers {
        peer.send(b"whoever");
    }
    for peer in &mut peers {
        assert_eq!(peer.take(7), b"whoever");
    }
    drop(peers);
    server.stop();
}

#[test]
fn a_guest_sees_the_path_it_is_reached_at() {
    let scratch = directory();
    let path = scratch.path().join("probe.sock");
    let _server = Run::guest("probe")
        .listen("--tcp", &unix_address(&path))
        .start();
    let info = Peer::connect_unix(&path).ask("info");
    assert!(info.contains(text(&path)), "{info}");
}

#[test]
fn datagrams_are_not_for_unix_sockets() {
    let finished = Run::guest("echo")
        .listen("--udp", "unix:/tmp/x.sock")
        .output();
    finished.refused(2, &["--udp", "unix"]);
}

/// Returns the mode, the owner and the group of a file.
fn rights(path: &Path) -> (u32, u32, u32) {
    let file = path.metadata().expect("the file");
    (file.mode() & 0o777, file.uid(), file.gid())
}

/// True if the test may give files away.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped("only root gives files to others");
    }
    is_root
}

#[test]
fn the_file_has_the_mode_that_is_asked_for_whatever_the_umask_is() {
    let scratch = directory();
    for (mode, expected) in [("600", 0o600), ("0666", 0o666), ("0o660", 0o660)] {
        let path = scratch.path().join(mode);
        let server = Run::guest("echo")
            .listen("--tcp", &unix_address(&path))
            .args(["--unix-mode", mode])
            .start();
        assert_eq!(rights(&path).0, expected);
        let mut peer = Peer::connect_unix(&path);
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
        drop(peer);
        server.stop();
    }
}

#[test]
fn the_file_has_its_rights_before_the_socket_listens() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let trace = scratch.path().join("trace");
    let run = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .args(["--unix-mode", "600"]);
    let calls = ["-o", text(&trace), "-e", "trace=bind,chmod,fchmodat,listen"];
    let Some(run) = run.traced(&calls) else {
        return;
    };
    let mut server = run.start();
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    let place = |needle: &str| {
        let mut lines = trace.lines();
        let found = lines.position(|line| line.contains(needle));
        found.unwrap_or_else(|| panic!("no {needle} in {trace}"))
    };
    assert!(
        place("bind(") < place("0600") && place("0600") < place("listen("),
        "{trace}"
    );
    // strace is not the server, and would leave it behind.
    let listening = trace.lines().nth(place("listen(")).unwrap_or_default();
    let thread = listening.split_whitespace().next().map(str::parse);
    let main = thread.and_then(Result::ok).expect("the main thread");
    harness::signal(main, Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn root_gives_the_file_to_an_owner_and_a_group() {
    if !is_root() {
        return;
    }
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let server = Run::guest("echo")
        .listen("--tcp", &unix_address(&path))
        .args(["--unix-owner", "12345", "--unix-group", "54321"])
        .args(["--unix-mode", "0640"])
        .start();
    assert_eq!(rights(&path), (0o640, 12345, 54321));
    server.stop();
    assert!(!path.exists());
}

#[test]
fn an_owner_that_does_not_exist_is_named_and_leaves_no_file() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    for (flag, what) in [("--unix-owner", "user"), ("--unix-group", "group")] {
        let run = Run::guest("echo")
            .listen("--tcp", &unix_address(&path))
            .args([flag, "no-such-name"]);
        run.output()
            .refused(1, &[flag, &format!("no {what} 'no-such-name'")]);
        assert!(!path.exists());
    }
}

#[test]
fn a_reload_changes_the_rights_of_a_file_that_stays() {
    let scratch = directory();
    let path = scratch.path().join("echo.sock");
    let file = scratch.path().join("netwasm.toml");
    let configure = |mode: &str| {
        let (component, address) = (guest("echo"), unix_address(&path));
        let content = format!(
            "component = {:?}\ntcp = {address:?}\nunix-mode = {mode}\n",
            text(&component)
        );
        std::fs::write(&file, content).expect("a file");
    };
    configure("600");
    let server = Run::config(&file, 1).start();
    let before = path.metadata().expect("the file").ino();
    assert_eq!(rights(&path).0, 0o600);
    configure("0o660");
    reload(&server);
    assert_eq!(rights(&path).0, 0o660);
    assert_eq!(path.metadata().expect("the file").ino(), before);
    server.stop();
}

/// Returns a name of the abstract namespace that no other test has.
fn abstract_name(what: &str) -> PathBuf {
    format!("@netwasm-test-{what}-{}", std::process::id()).into()
}

#[test]
fn an_abstract_name_has_no_file_and_one_server() {
    let name = abstract_name("echo");
    let address = unix_address(&name);
    let server = Run::guest("echo").listen("--tcp", &address).start();
    assert_eq!(server.listening, std::slice::from_ref(&address));
    assert!(!name.exists());
    let second = Run::guest("echo").listen("--tcp", &address).output();
    second.refused(1, &[&address, "another program listens"]);
    let mut peer = Peer::connect_unix(&name);
    let bytes = pattern(100_000);
    peer.send(&bytes);
    peer.finish();
    assert!(peer.rest() == bytes);
    server.stop();
    let probe = Run::guest("probe").listen("--tcp", &address).start();
    let info = Peer::connect_unix(&name).ask("info");
    assert!(info.contains(text(&name)), "{info}");
    probe.stop();
}

#[test]
fn a_guest_connects_to_an_abstract_name_if_it_may() {
    let name = abstract_name("dialed");
    let address = unix_address(&name);
    let server = Run::guest("echo").listen("--tcp", &address).start();
    let proxy = |allowed: &str| {
        Run::guest("proxy")
            .tcp()
            .args(["--allow-connect", allowed])
            .guest_args(&[&address])
            .start()
    };
    let allowed = proxy(&address);
    let mut peer = allowed.connect();
    peer.send(b"through");
    assert_eq!(peer.take(7), b"through");
    drop(peer);
    allowed.stop();
    let denied = proxy("unix:@another");
    denied.connect().lost();
    denied
        .log
        .wait_for(&[&format!("--allow-connect {address} would allow it")]);
    server.stop();
}

#[test]
fn an_admin_interface_at_an_abstract_name_is_its_owners() {
    let (scratch, name) = (directory(), abstract_name("admin"));
    let file = scratch.path().join("netwasm.toml");
    let (admin, lines) = (unix_address(&name), unix_address(&abstract_name("lines")));
    let content = format!(
        "admin = {admin:?}\ncomponent = {:?}\ntcp = {lines:?}\n",
        text(&guest("echo"))
    );
    std::fs::write(&file, content).expect("a file");
    let mut server = Run::config(&file, 1).start();
    let reloaded = Run::command(&["reload", &admin]).output();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    if is_root() {
        let other = Run::command(&["reload", &admin]).user(12345).output();
        assert_eq!(other.code, Some(1), "{other:?}");
        server.log.wait_for(&["a client is turned away"]);
    }
    let next = Run::config(&file, 1).args(["--takeover"]).start();
    assert_eq!(server.wait().code(), Some(0));
    let mut peer = Peer::connect_unix(&abstract_name("lines"));
    peer.send(b"x");
    assert_eq!(peer.take(1), b"x");
    drop(peer);
    next.stop();
}
