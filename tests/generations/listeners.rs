//! Listeners, places and logs that generations share.

use std::fs;

use rustix::process::Signal;

use super::{busy_thread, echoes, workers};
use crate::harness::{
    Configured, Installed, Peer, Strace, eventually, free_port, guest, install, install_as,
    refused, replaced, text, unix_address, until_closed,
};

#[test]
fn the_backlog_of_a_removed_listener_is_accepted_first() {
    let settings = Configured::new();
    let socket = settings.at("lines.sock");
    let content = |more: &str| {
        let component = guest("echo");
        format!(
            "workers = 2\n[services.lines]\ncomponent = {:?}\nmax-connections = 1\n\
             tcp = [\"127.0.0.1:0\"{more}]\n",
            text(&component)
        )
    };
    let unix = unix_address(&socket);
    let all = content(&format!(", \"127.0.0.2:0\", {unix:?}"));
    let server = settings.start(all, 3);
    let removed = server
        .listening
        .iter()
        .find_map(|url| url.strip_prefix("tcp://127.0.0.2"));
    let removed = format!("127.0.0.2{}", removed.expect("a listener"));
    let removed = removed.parse().expect("an address");
    let mut first = server.connect();
    echoes(&mut first);
    // There is no place for them: they wait in the backlogs.
    let mut waiting: Vec<_> = (0..10).map(|_| Peer::connect(removed)).collect();
    let mut local: Vec<_> = (0..10).map(|_| Peer::connect_unix(&socket)).collect();
    server.log.wait_for(&["--max-connections is reached"]);
    settings.reload(&server, content(""));
    server.log.wait_for(&["no longer listening", "127.0.0.2"]);
    server.log.wait_for(&["no longer listening", "lines.sock"]);
    assert!(!socket.exists());
    echoes(&mut first);
    first.finish_and_wait();
    // One after the other, in whichever order.
    std::thread::scope(|scope| {
        for peer in waiting.drain(..) {
            scope.spawn(move || served(peer));
        }
        for peer in local.drain(..) {
            scope.spawn(move || served(peer));
        }
    });
    until_closed(removed);
    server.serves_echo();
    server.stop();
}

/// Checks that a connection is served, and ends it.
fn served(mut peer: Peer<impl std::io::Read + std::io::Write>) {
    echoes(&mut peer);
}

#[test]
fn generations_share_the_places_of_their_service() {
    let it = Installed::new("echo", "lines.wasm");
    let server = it.run().args(["--max-connections", "2"]).tcp().start();
    let mut before = [server.connect(), server.connect()];
    before.iter_mut().for_each(echoes);
    it.renew(&server, 1);
    let mut after = server.connect();
    after.send(b"line\n");
    server.log.wait_for(&["--max-connections is reached"]);
    after.is_held();
    let [one, mut other] = before;
    one.finish_and_wait();
    assert_eq!(after.take(5), b"line\n");
    echoes(&mut other);
    drop((after, other));
    server.stop();
}

#[test]
fn a_reload_waits_for_room() {
    let it = Installed::new("echo", "lines.wasm");
    // Two generations of that size are all that fits.
    let server = it
        .run()
        .args(["--max-memory", "4GiB", "--max-connections", "8000"])
        .tcp()
        .start();
    let mut first = server.connect();
    echoes(&mut first);
    it.renew(&server, 1);
    let mut second = server.connect();
    echoes(&mut second);
    install_as("echo", &it.place(), 2);
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["waits until a generation that was replaced has ended"]);
    echoes(&mut first);
    server.serves_echo();
    assert_eq!(server.log.count("SIGHUP: reloaded"), 1);
    first.finish_and_wait();
    server.log.wait_for_count("SIGHUP: reloaded", 2);
    echoes(&mut second);
    server.serves_echo();
    drop(second);
    server.stop();
}

#[test]
fn a_listener_never_leads_to_a_service_that_a_reload_has_undone() {
    let settings = Configured::new();
    let port = free_port();
    let (site, other) = (settings.at("site.wasm"), settings.at("other.wasm"));
    install("router", &site);
    install("hello", &other);
    let server = settings.start(
        format!(
            "workers = 2\n[services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:{port}\"\n\
             [services.other]\ncomponent = {:?}\nhttp = \"127.0.0.1:{port}\"\n\
             route = \"/about\"\n\
             [services.probe]\ncomponent = {:?}\ntcp = \"127.0.0.1:0\"\n\
             event-timeout = \"4s\"\n",
            text(&site),
            text(&other),
            text(&guest("probe"))
        ),
        2,
    );
    let greets = || {
        let response = server.connect_http().fetch("/about");
        assert!(response.text().contains("Hello"), "{response:?}");
    };
    greets();
    // One thread begins late what is asked of it, all in a row. On the other,
    // the first reload fails.
    let (spins, busy) = busy_thread(&server);
    let free = workers(&server).into_iter().find(|(name, _)| *name != busy);
    let (_, free) = free.expect("another thread");
    let fails = ["-e", "inject=epoll_ctl:error=ENOMEM:when=1"];
    let Some(tracer) = Strace::attach_thread(free, &fails) else {
        return;
    };
    // Of these, only the one that opens the listener watches a socket.
    install("router", &other);
    install_as("router", &site, 2);
    refused(&server, &["site: a worker cannot begin to serve"]);
    drop(tracer);
    install("hello", &other);
    install_as("router", &site, 1);
    server.signal(Signal::HUP);
    drop(spins);
    let line = server.log.wait_for(&["SIGHUP: reloaded"]);
    replaced(&line, "site");
    for _ in 0..40 {
        greets();
    }
    server.stop();
}

#[test]
fn a_rotation_reaches_generations_that_retire() {
    let it = Installed::new("router", "site.wasm");
    let at = |name: &str| it.at(name);
    let server = it
        .run()
        .args(["--access-log", text(&at("log"))])
        .http()
        .start();
    let mut before = server.connect_http();
    before.fetch("/about?first").is(200, "<h1>About</h1>");
    before.send(b"GET /about?late HT");
    it.renew(&server, 1);
    fs::rename(at("log"), at("log.1")).expect("it is renamed");
    server.signal(Signal::USR1);
    server.log.wait_for(&["SIGUSR1: reopening the access log"]);
    eventually("the new file", || at("log").exists().then_some(()));
    before.send(b"TP/1.1\r\nHost: a\r\n\r\n");
    before.response().is(200, "<h1>About</h1>");
    server
        .connect_http()
        .fetch("/about?new")
        .is(200, "<h1>About</h1>");
    let lines = |name: &str| fs::read_to_string(at(name)).expect("a log");
    eventually("both lines", || {
        let log = lines("log");
        (log.contains("?late") && log.contains("?new")).then_some(())
    });
    assert!(lines("log.1").contains("?first"), "{}", lines("log.1"));
    server.stop();
}

#[test]
fn a_full_disk_for_the_access_log_is_told_and_serves_on() {
    let settings = Configured::new();
    let content = |more: &str| {
        let component = guest("router");
        let component = text(&component);
        format!("[services.site]\ncomponent = {component:?}\nhttp = \"127.0.0.1:0\"\n{more}")
    };
    let server = settings.start(content(""), 1);
    settings.reload(&server, content("access-log = \"/dev/full\"\n"));
    let fetch = || {
        server
            .connect_http()
            .fetch("/about")
            .is(200, "<h1>About</h1>")
    };
    eventually("the line", || {
        fetch();
        let told = server.log.count("the access log cannot be written");
        (told > 0).then_some(())
    });
    // A log that cannot be opened is a reason to stay.
    settings.write(content("access-log = \"/none/log\"\n"));
    refused(&server, &["/none/log"]);
    fetch();
    assert_eq!(server.log.count("the access log cannot be written"), 1);
    server.stop();
}
