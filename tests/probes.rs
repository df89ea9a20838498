//! `--probes`, which orchestrators and scrapers ask, and `--shutdown-delay`, in which
//! they notice that a run ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{
    Http2, Peer, Run, administered, ask_admin as ask, directory, eventually, guest, message,
    probes_of, scrape, text, unix_address,
};
use crate::takeover::Successor;

#[test]
fn probes_tell_anybody_the_health_and_the_metrics_and_nothing_else() {
    let run = Run::guest("router").http();
    let server = run.args(["--probes", "127.0.0.1:0"]).start();
    let probes = probes_of(&server);
    server
        .connect_http()
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    // By a name, as scrapers have it.
    let named = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: netwasm.default.svc:9464\r\n\r\n");
        Peer::connect(probes).exchange(head)
    };
    named("/healthz").is(200, "alive");
    named("/readyz").is(200, "ready");
    let counted = "netwasm_http_requests_total{service=\"router\",protocol=\"HTTP/1\",\
                   status=\"2xx\"}";
    // The client may have its answer before it is counted.
    eventually("the request is counted", || {
        (scrape(probes)[counted] == 1.0).then_some(())
    });
    for path in ["/config", "/connections", "/reload", "/takeover", "/"] {
        assert_eq!(named(path).status, 404, "{path}");
    }
    let post = message("POST", "/readyz", &["Content-Length: 0"]);
    assert_eq!(Peer::connect(probes).exchange(post).status, 405);
    server.stop();
    let unix = Run::guest("router").args(["--http", "0", "--probes", "unix:/x"]);
    unix.output()
        .refused(2, &["--probes unix:/x", "ask --admin unix:/x"]);
}

#[test]
fn a_run_that_is_to_end_serves_on_until_others_have_noticed() {
    let run =
        Run::guest("router")
            .http()
            .args(["--probes", "127.0.0.1:0", "--shutdown-delay", "1h"]);
    let (mut server, admin) = administered(run);
    let probes = probes_of(&server);
    let mut kept = server.connect_http();
    kept.fetch("/about").is(200, "<h1>About</h1>");
    let mut streams = Http2::connect(server.address("http"));
    assert_eq!(streams.fetch("/about").status, 200);
    server.signal(Signal::TERM);
    server.log.wait_for(&["--shutdown-delay", "delay=1h"]);
    let noticed = Instant::now();
    for interface in [probes, admin] {
        ask(interface, "/readyz").is(503, "not ready: it ends soon (--shutdown-delay)");
        ask(interface, "/healthz").is(200, "alive");
    }
    let values = scrape(probes);
    let of = |name: &str| values[&format!("netwasm_{name}")];
    assert_eq!((of("ready"), of("draining")), (0.0, 0.0));
    // Clients are to connect again, and elsewhere once they can.
    let last = kept.fetch("/about").is(200, "<h1>About</h1>");
    assert!(last.closes(), "{last:?}");
    kept.ends();
    let fresh = server
        .connect_http()
        .fetch("/about")
        .is(200, "<h1>About</h1>");
    assert!(fresh.closes(), "{fresh:?}");
    assert_eq!(streams.fetch("/about").status, 200);
    // Nothing else begins.
    server.signal(Signal::HUP);
    server
        .log
        .wait_for(&["SIGHUP: the run is ending, so nothing is reloaded"]);
    // Whoever knows that all have noticed need not wait.
    server.terminate_again(noticed);
    server.log.wait_for(&["draining: no new connections"]);
    streams.ends().expect("a clean end");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_drain_begins_once_the_delay_has_passed() {
    let run = Run::guest("router").http();
    let mut server = run.args(["--shutdown-delay", "50ms"]).start();
    server.signal(Signal::TERM);
    server.log.wait_for(&["draining: no new connections"]);
    assert_eq!(server.wait().code(), Some(0));
    // A program has nobody to be sent elsewhere.
    let any = "127.0.0.1:0";
    let program = Run::guest("socket-echo")
        .args(["--allow-listen", any, "--shutdown-delay", "1h"])
        .guest_args(&[any])
        .start_command();
    program.own_listener();
    program.signal(Signal::TERM);
    program.log.wait_for(&["draining: no new connections"]);
}

#[test]
fn probes_go_on_where_another_process_takes_over() {
    let scratch = directory();
    let file = scratch.path().join("netwasm.toml");
    let content = format!(
        "admin = {:?}\nprobes = \"127.0.0.1:0\"\nshutdown-timeout = 0\n\
         [services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n",
        unix_address(&scratch.path().join("admin")),
        text(&guest("router")),
    );
    fs::write(&file, content).expect("a file");
    let start = || {
        // The one whose sockets were taken has left the file of its admin interface.
        let _ = fs::remove_file(scratch.path().join("admin"));
        let server = Run::config(&file, 1).start();
        let probes = probes_of(&server);
        (server, probes)
    };
    // A probe has two seconds to ask: a slow machine may need several attempts.
    let asked = (0..10).any(|_| {
        let (mut server, probes) = start();
        let mut before = TcpStream::connect(probes).expect("a connection");
        // Those who come later are accepted later.
        ask(probes, "/readyz").is(200, "ready");
        let mut kept = server.connect_http();
        kept.fetch("/about").is(200, "<h1>About</h1>");
        Successor::of(scratch.path()).serves();
        let mut answer = String::new();
        let request = message("GET", "/readyz", &[]);
        let written = before.write_all(request.as_bytes());
        let read = written.and_then(|()| before.read_to_string(&mut answer));
        drop(kept);
        assert_eq!(server.wait().code(), Some(0));
        let answered = read.is_ok() && !answer.is_empty();
        assert!(!answered || answer.ends_with("\r\n\r\nready\n"), "{answer}");
        answered
    });
    assert!(asked, "no attempt was in time");
    let (mut server, probes) = start();
    let next = Run::config(&file, 1).args(["--takeover"]).start();
    next.log
        .wait_for(&["--takeover: the other run no longer accepts"]);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(probes_of(&next), probes);
    ask(probes, "/readyz").is(200, "ready");
    next.stop();
    assert!(TcpStream::connect(probes).is_err());
}
