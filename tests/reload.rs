//! Reloads: SIGHUP replaces what has changed, and no client notices.

use std::fs;
use std::net::TcpStream;

use crate::harness::{
    Clients, DEADLINE, Http2, Peer, Run, Server, UdpPeer, directory, eventually, guest, install,
    install_as, refused, reload, text, threads,
};

/// Waits until new connections are answered by `hello`. For a moment after a
/// reload, the old generation may still accept one.
fn greets(server: &Server) {
    eventually("the new component", || {
        let response = server.connect_http().fetch("/about");
        response.text().contains("Hello").then_some(())
    });
}

#[test]
fn a_component_that_has_changed_answers_new_connections() {
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    install("router", &place);
    let server = Run::component(&place).http().start();
    let mut before = server.connect_http();
    before.fetch("/about").is(200, "<h1>About</h1>");
    // A request that has begun is answered by the old one, and says that the
    // connection ends.
    before.send(b"GET /about HT");
    install("hello", &place);
    reload(&server);
    greets(&server);
    before.send(b"TP/1.1\r\nHost: a\r\n\r\n");
    let last = before.response().is(200, "<h1>About</h1>");
    assert!(last.closes(), "{last:?}");
    before.ends();
    server.stop();
}

#[test]
fn an_idle_connection_gets_one_more_answer_and_no_reset() {
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    install("router", &place);
    let server = Run::component(&place).http().start();
    let mut idle = server.connect_http();
    idle.fetch("/about").is(200, "<h1>About</h1>");
    let mut fresh = server.connect_http();
    install("hello", &place);
    reload(&server);
    // Its request may have been on the way.
    let last = idle.fetch("/about").is(200, "<h1>About</h1>");
    assert!(last.closes());
    idle.ends();
    assert_eq!(fresh.fetch("/about").status, 200);
    server.stop();
}

#[test]
fn connections_go_on_with_the_component_that_they_began_with() {
    let scratch = directory();
    let place = scratch.path().join("lines.wasm");
    install("echo", &place);
    let server = Run::component(&place).tcp().udp().start();
    let mut before = server.connect();
    before.send(b"one");
    assert_eq!(before.take(3), b"one");
    let datagrams = UdpPeer::connect(server.address("udp"));
    assert_eq!(datagrams.ask(b"one"), b"one");
    let at_rest = server.settled_descriptors();
    for round in 1..=3 {
        install_as("echo", &place, round % 2);
        reload(&server);
        server.serves_echo();
        before.send(b"two");
        assert_eq!(before.take(3), b"two");
        assert_eq!(datagrams.ask(b"two"), b"two");
    }
    drop(before);
    server.wait_for_descriptors(at_rest);
    server.stop();
}

#[test]
fn listeners_come_and_go_and_those_that_stay_are_not_closed() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let socket = scratch.path().join("s.sock");
    let lines = format!("[services.lines]\ncomponent = {:?}\n", text(&guest("echo")));
    let site = format!(
        "[services.site]\ncomponent = {:?}\n",
        text(&guest("router"))
    );
    let both = format!("{lines}tcp = \"127.0.0.1:0\"\n{site}http = \"127.0.0.1:0\"\n");
    fs::write(&file, &both).expect("a file");
    let server = Run::config(&file, 2).start();
    let http = server.address("http");

    // One more listener and one more service.
    let more = format!(
        "{lines}tcp = [\"127.0.0.1:0\", \"unix:{}\"]\n{site}http = \"127.0.0.1:0\"\n\
         [services.more]\ncomponent = \"hello\"\nhttp = \"127.0.0.1:0\"\n",
        socket.display()
    );
    fs::write(&file, more).expect("a file");
    reload(&server);
    let printed = server.stdout.wait(DEADLINE, "two more lines", |lines| {
        (lines.len() == 4).then(|| lines.to_vec())
    });
    let new = printed
        .iter()
        .rfind(|line| line.contains("http://"))
        .expect("HTTP");
    let new = new.strip_prefix("listening http://").expect("an address");
    let new = new.parse().expect("an address");
    assert_eq!(Peer::connect(new).fetch("/").status, 200);
    server.serves_echo();
    Peer::connect(http)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    let mut unix = Peer::connect_unix(&socket);
    unix.send(b"unix");
    assert_eq!(unix.take(4), b"unix");
    drop(unix);

    // Both are removed again.
    fs::write(&file, &both).expect("a file");
    reload(&server);
    server.log.wait_for(&["no longer listening", text(&socket)]);
    eventually("a closed listener", || {
        TcpStream::connect(new).is_err().then_some(())
    });
    assert!(!socket.exists());
    server.serves_echo();
    Peer::connect(http)
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    server.stop();
}

#[test]
fn what_cannot_be_used_leaves_everything_as_it_was() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let place = scratch.path().join("lines.wasm");
    install("echo", &place);
    let good = format!(
        "[services.lines]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n",
        text(&place)
    );
    fs::write(&file, &good).expect("a file");
    let server = Run::config(&file, 1).start();
    let mut before = server.connect();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    for (content, needles) in [
        (
            good.replace("tcp", "tpc"),
            &["2 more", ":3:1: there is no key 'tpc'"][1..],
        ),
        // Half-written.
        (good[..good.len() / 2].to_owned(), &["netwasm.toml:"]),
        (
            good.replace("lines.wasm", "none.wasm"),
            &["netwasm.toml:2:1: service lines: ", "none.wasm"],
        ),
        (
            format!("{good}udp = true\nhttp = 1.5\n"),
            &["and 1 more: see `netwasm check"],
        ),
        (
            good.replace("127.0.0.1:0", &format!("127.0.0.1:{port}")),
            &[
                "netwasm.toml:3:1: service lines: ",
                "another program uses the address",
            ],
        ),
    ] {
        fs::write(&file, content).expect("a file");
        refused(&server, needles);
        server.serves_echo();
    }
    fs::write(&file, &good).expect("a file");
    let bytes = fs::read(&place).expect("the component");
    fs::write(&place, &bytes[..bytes.len() / 2]).expect("half of it");
    refused(&server, &["lines.wasm"]);
    before.send(b"still");
    assert_eq!(before.take(5), b"still");
    server.serves_echo();
    // It recovers.
    install("echo", &place);
    reload(&server);
    server.serves_echo();
    drop(before);
    server.stop();
}

#[test]
fn a_fifo_that_nobody_writes_to_holds_up_no_later_reload() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let content = "component = \"hello\"\nhttp = \"127.0.0.1:0\"\n";
    fs::write(&file, content).expect("a file");
    let server = Run::config(&file, 1).start();
    fs::remove_file(&file).expect("it is removed");
    let made = std::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.expect("mkfifo").success());
    refused(&server, &["cannot read it", "a FIFO, and nobody writes"]);
    fs::remove_file(&file).expect("it is removed");
    fs::write(&file, content).expect("a file");
    reload(&server);
    greets(&server);
    server.stop();
}

#[test]
fn no_request_and_no_connection_is_lost_by_reloads_under_load() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let (site, lines) = (
        scratch.path().join("site.wasm"),
        scratch.path().join("lines.wasm"),
    );
    install("router", &site);
    install("echo", &lines);
    let content = format!(
        // So many clients may keep a slow machine from any guest for long.
        "workers = 2\nevent-timeout = \"30s\"\n[services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n\
         [services.lines]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n",
        text(&site),
        text(&lines)
    );
    fs::write(&file, content).expect("a file");
    let server = Run::config(&file, 2).start();
    let (http, tcp) = (server.address("http"), server.address("tcp"));
    let clients = Clients::of_all_kinds(http, tcp);
    clients.wait_for(200);
    let at_rest = server.descriptors();
    let threads_before = threads(&server);
    for round in 1..=10 {
        install_as("router", &site, round % 2);
        if round % 2 == 0 {
            install_as("echo", &lines, round / 2 % 2);
        }
        reload(&server);
        clients.wait_for(100);
    }
    clients.stop();
    // A retired generation is gone with its last connection.
    server.wait_for_descriptors(at_rest);
    eventually("no thread too many", || {
        (threads(&server) <= threads_before).then_some(())
    });
    server.stop();
}

#[test]
fn http2_clients_are_told_to_leave_and_lose_no_stream() {
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    install("router", &place);
    let server = Run::component(&place).http().start();
    let mut before = Http2::connect(server.address("http"));
    assert_eq!(before.fetch("/about").status, 200);
    install("hello", &place);
    reload(&server);
    eventually("the new component", || {
        let mut after = Http2::connect(server.address("http"));
        after.fetch("/about").text().contains("Hello").then_some(())
    });
    drop(before);
    server.stop();
}
