//! A process takes the listening sockets of a running one: `--takeover`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::harness::{
    Clients, Http2, Peer, Run, Server, UdpPeer, directory, eventually, guest, text, unix_address,
};

/// Returns a configuration with a site and an echo, and an admin interface.
fn configuration(scratch: &Path, more: &str) -> String {
    format!(
        "admin = {:?}\nworkers = 2\nevent-timeout = \"30s\"\nshutdown-timeout = 0\n\
         [services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n\
         [services.lines]\ncomponent = {:?}\nudp = \"127.0.0.1:0\"\n\
         tcp = [\"127.0.0.1:0\", {:?}{more}]\n",
        unix_address(&scratch.join("admin")),
        text(&guest("router")),
        text(&guest("echo")),
        unix_address(&scratch.join("lines")),
    )
}

/// Number of addresses that it listens on.
const LISTENERS: usize = 4;

fn take_over(file: &Path) -> Server {
    let server = Run::config(file, LISTENERS).args(["--takeover"]).start();
    server
        .log
        .wait_for(&["--takeover: the other run no longer accepts"]);
    server
}

#[test]
fn no_client_notices_that_another_process_takes_over() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let unix = scratch.path().join("lines");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let mut server = Run::config(&file, LISTENERS).start();
    let mut listening = server.listening.clone();
    listening.sort();
    let (http, tcp) = (server.address("http"), server.address("tcp"));
    let mut clients = Clients::of_all_kinds(http, tcp);
    let path = unix.clone();
    clients.start(move |goes_on| {
        let mut peer = Peer::connect_unix(&path);
        peer.send(b"line\n");
        assert_eq!(peer.take(5), b"line\n");
        goes_on();
    });
    clients.wait_for(200);
    let mut before = Vec::new();
    for _ in 0..3 {
        let next = take_over(&file);
        server
            .log
            .wait_for(&["another process has taken over: draining"]);
        let mut same = next.listening.clone();
        same.sort();
        assert_eq!(same, listening);
        clients.wait_for(200);
        before.push(std::mem::replace(&mut server, next));
    }
    clients.stop();
    for mut server in before {
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.log.count("panicked"), 0);
    }
    // The files are the last one's.
    assert!(unix.exists());
    let mut peer = Peer::connect_unix(&unix);
    peer.send(b"x");
    assert_eq!(peer.take(1), b"x");
    let datagrams = UdpPeer::connect(server.address("udp"));
    assert_eq!(datagrams.ask(b"one"), b"one");
    let admin = unix_address(&scratch.path().join("admin"));
    let reloaded = Run::command(&["reload", &admin]).output();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    drop(peer);
    server.stop();
    assert!(!unix.exists());
    assert!(!scratch.path().join("admin").exists());
}

#[test]
fn idle_connections_get_one_more_answer_that_says_that_they_end() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let mut server = Run::config(&file, LISTENERS).start();
    let mut idle = server.connect_http();
    idle.fetch("/about").is(200, "<h1>About</h1>");
    let mut streams = Http2::connect(server.address("http"));
    assert_eq!(streams.fetch("/about").status, 200);
    let next = take_over(&file);
    let last = idle.fetch("/about").is(200, "<h1>About</h1>");
    assert!(last.closes(), "{last:?}");
    idle.ends();
    streams.ends().expect("a clean end");
    assert_eq!(server.wait().code(), Some(0));
    next.connect_http()
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    next.stop();
}

#[test]
fn what_cannot_begin_takes_nothing() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let good = configuration(scratch.path(), "");
    fs::write(&file, &good).expect("a file");
    let server = Run::config(&file, LISTENERS).start();
    let used = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = used.local_addr().expect("its address").port();
    for (content, needle) in [
        (good.replace("router.wasm", "none.wasm"), "none.wasm"),
        (
            // The sockets were handed over by then.
            configuration(scratch.path(), &format!(", \"127.0.0.1:{port}\"")),
            "another program uses the address",
        ),
    ] {
        fs::write(&file, content).expect("a file");
        let failed = Run::command(&["run", "--config", text(&file), "--takeover"]).output();
        assert_eq!(failed.code, Some(1), "{failed:?}");
        assert!(failed.stderr.contains(needle), "{failed:?}");
        server.serves_echo();
        server
            .connect_http()
            .fetch("/about")
            .is(200, "<h1>About</h1>");
        let mut peer = Peer::connect_unix(&scratch.path().join("lines"));
        peer.send(b"x");
        assert_eq!(peer.take(1), b"x");
    }
    assert_eq!(server.log.count("has taken over"), 0);
    fs::write(&file, &good).expect("a file");
    let mut server = server;
    let next = take_over(&file);
    assert_eq!(server.wait().code(), Some(0));
    next.serves_echo();
    next.stop();
}

#[test]
fn a_listener_that_is_gone_is_drained_by_the_old_process() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), ", \"127.0.0.2:0\"")).expect("a file");
    let mut server = Run::config(&file, LISTENERS + 1).start();
    let mut urls = server.listening.iter();
    let gone = urls.find_map(|url| url.strip_prefix("tcp://127.0.0.2"));
    let gone = format!("127.0.0.2{}", gone.expect("a listener"));
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let mut open = Peer::connect(gone.parse().expect("an address"));
    let next = take_over(&file);
    open.send(b"x");
    assert_eq!(open.take(1), b"x");
    eventually("a closed listener", || {
        TcpStream::connect(&gone).is_err().then_some(())
    });
    drop(open);
    assert_eq!(server.wait().code(), Some(0));
    next.serves_echo();
    next.stop();
}

#[test]
fn where_nothing_runs_there_is_nothing_to_take_over() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let server = Run::config(&file, LISTENERS).args(["--takeover"]).start();
    server.log.wait_for(&["no run is there to take over from"]);
    server.serves_echo();
    server.stop();
    let run = Run::guest("echo").args(["--tcp", "0", "--takeover"]);
    run.output()
        .refused(2, &["--takeover asks the run at --admin unix:PATH"]);
}

#[test]
fn a_signal_after_a_takeover_ends_no_connection() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let mut server = Run::config(&file, LISTENERS).start();
    let mut peer = server.connect();
    peer.send(b"one");
    assert_eq!(peer.take(3), b"one");
    let next = take_over(&file);
    server
        .log
        .wait_for(&["another process has taken over: draining"]);
    // As scripts and service managers do.
    server.signal(rustix::process::Signal::TERM);
    server.log.wait_for(&["a second signal aborts"]);
    peer.send(b"two");
    assert_eq!(peer.take(3), b"two");
    peer.finish();
    assert_eq!(server.wait().code(), Some(0));
    next.stop();
}
