//! A process takes the listening sockets of a running one: `--takeover`.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{
    Clients, DEADLINE, Http2, Peer, Run, Server, UdpPeer, directory, eventually, guest, skipped,
    text, unix_address,
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
    server.signal(Signal::TERM);
    server.log.wait_for(&["a second signal aborts"]);
    peer.send(b"two");
    assert_eq!(peer.take(3), b"two");
    peer.finish();
    assert_eq!(server.wait().code(), Some(0));
    next.stop();
}

/// A process that has the listeners of a run, and does not serve yet.
pub(crate) struct Successor(BufReader<UnixStream>);

impl Successor {
    /// Asks for the listeners, and returns the status of the answer.
    fn ask(scratch: &Path) -> (Self, String) {
        let mut stream = UnixStream::connect(scratch.join("admin")).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream
            .write_all(
                b"POST /takeover HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                  Upgrade: netwasm-takeover\r\nContent-Length: 0\r\n\r\n",
            )
            .expect("it is sent");
        let mut own = Self(BufReader::new(stream));
        let status = own.line();
        while !own.line().is_empty() {}
        let code = status.split(' ').nth(1).expect("a status").to_owned();
        (own, code)
    }

    /// Gets the listeners.
    pub(crate) fn of(scratch: &Path) -> Self {
        let (mut own, status) = Self::ask(scratch);
        assert_eq!(status, "101");
        let description = own.line();
        assert!(description.starts_with('{'), "{description}");
        own
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Says that it serves, and waits until the run no longer accepts.
    pub(crate) fn serves(&mut self) {
        let stream = self.0.get_mut();
        stream.write_all(b"{\"unused\":[]}\n").expect("it is sent");
        let mut rest = Vec::new();
        let read = self.0.read_to_end(&mut rest);
        // The sockets come with a byte for each message.
        assert!(read.is_ok() && rest.ends_with(b"\0ok\n"), "{rest:?}");
    }
}

#[test]
fn the_files_stay_if_a_signal_ends_a_run_whose_listeners_another_has() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let files = [scratch.path().join("admin"), scratch.path().join("lines")];
    let exist = || files.each_ref().map(|file| file.exists());
    // It serves after the end, during the drain, or never.
    for serves in [None, Some(true), Some(false)] {
        fs::write(&file, configuration(scratch.path(), "")).expect("a file");
        let mut server = Run::config(&file, LISTENERS).start();
        let mut open = server.connect();
        open.send(b"one");
        assert_eq!(open.take(3), b"one");
        let mut successor = Successor::of(scratch.path());
        if serves == Some(false) {
            drop(successor);
            server
                .log
                .wait_for(&["another process wanted to take over, and has not"]);
            server.signal(Signal::TERM);
            server.log.wait_for(&["draining: no new connections"]);
        } else {
            server.signal(Signal::TERM);
            server.log.wait_for(&["draining: no new connections"]);
            if serves.is_some() {
                successor.serves();
            }
        }
        open.finish();
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(exist(), [serves != Some(false); 2], "{serves:?}");
        for file in &files {
            let _ = fs::remove_file(file);
        }
    }
}

#[test]
fn one_process_takes_over_at_a_time_and_reloads_wait_for_it() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let mut server = Run::config(&file, LISTENERS).start();
    let first = Successor::of(scratch.path());
    let other = || Run::command(&["run", "--config", text(&file), "--takeover"]).output();
    other().refused(1, &["--takeover", "another process takes over at present"]);
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["SIGHUP: waits for the end of a take-over"]);
    assert_eq!(server.log.count("SIGHUP: reloaded"), 0);
    drop(first);
    server.log.wait_for(&["SIGHUP: reloaded"]);
    server.serves_echo();
    // The one that serves ends what waits.
    let mut second = Successor::of(scratch.path());
    let admin = unix_address(&scratch.path().join("admin"));
    let reload = std::thread::spawn(move || Run::command(&["reload", &admin]).output());
    server
        .log
        .wait_for(&["POST /reload: waits for the end of a take-over"]);
    second.serves();
    let reloaded = reload.join().expect("its end");
    reloaded.refused(1, &["another process has taken over"]);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn nobody_takes_over_during_a_reload() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let content = configuration(scratch.path(), "");
    fs::write(&file, &content).expect("a file");
    let mut server = Run::config(&file, LISTENERS).start();
    // The reload waits for whoever writes the file.
    fs::remove_file(&file).expect("it is removed");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.expect("mkfifo").success());
    server.signal(Signal::HUP);
    let mut writes = fs::File::options()
        .write(true)
        .open(&file)
        .expect("it is read");
    let (mut refused, status) = Successor::ask(scratch.path());
    assert_eq!(status, "409");
    assert_eq!(refused.line(), "a reload is under way: try again");
    writes.write_all(content.as_bytes()).expect("it is written");
    drop(writes);
    server.log.wait_for(&["SIGHUP: reloaded"]);
    Successor::of(scratch.path()).serves();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn another_user_is_told_why_it_may_not_take_over() {
    let own = rustix::process::geteuid().as_raw();
    if own != 0 {
        skipped("only root can be another user");
        return;
    }
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    fs::write(&file, configuration(scratch.path(), "")).expect("a file");
    let server = Run::config(&file, LISTENERS).start();
    let open = |path: &Path| {
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(path, all).expect("permissions");
    };
    open(scratch.path());
    open(&scratch.path().join("admin"));
    let admin = scratch.path().join("admin");
    // A thread may be another user than its process.
    let answer = std::thread::spawn(move || {
        become_another(65534);
        let mut stream = UnixStream::connect(admin).expect("a connection");
        let head = "POST /takeover HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                    Upgrade: netwasm-takeover\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    });
    let answer = answer.join().expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let reason = "the run is user 0's, and only that user may take over (this is user 65534)";
    assert!(answer.contains(reason), "{answer}");
    server.serves_echo();
    server.stop();
}

/// Makes the present thread another user: setresuid(2).
fn become_another(user: u32) {
    let user = rustix::process::Uid::from_raw(user);
    rustix::thread::set_thread_uid(user).expect("another user");
}
