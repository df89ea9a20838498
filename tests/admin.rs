//! The admin interface: metrics, state, connections, and `netwasm reload`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Http2, Peer, Run, Server, administered, ask_admin as ask, directory, eventually, guest,
    install_as, message, ok, reload, scrape, text, unix_address,
};

/// Asks over a Unix socket, and returns the status and the body.
fn ask_unix(socket: &Path, method: &str, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("a connection");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[test]
fn metrics_count_what_was_served() {
    let (server, admin) = administered(Run::guest("probe").http().tcp());
    let before = scrape(admin);
    let requests = |protocol: &str, class: &str| {
        format!(
            "netwasm_http_requests_total{{service=\"probe\",protocol=\"{protocol}\",\
             status=\"{class}\"}}"
        )
    };
    assert_eq!(before[&requests("HTTP/1", "2xx")], 0.0);
    let mut peer = server.connect_http();
    for _ in 0..3 {
        ok(peer.fetch("/count"));
    }
    assert_eq!(server.connect_http().fetch("/trap").status, 500);
    let mut http2 = Http2::connect(server.address("http"));
    assert_eq!(http2.fetch("/count").status, 200);
    let mut echo = server.connect();
    echo.send(b"x");
    let listener = format!(
        "netwasm_listener_accepted_total{{service=\"probe\",listener=\"tcp://{}\"}}",
        server.address("tcp")
    );
    let after = eventually("the numbers", || {
        let values = scrape(admin);
        let of = |name: &str| values[&format!("netwasm_{name}{{service=\"probe\"}}")];
        let gone = of("connections_closed_total") + of("connections_lost_total");
        let is_sum = of("connections_open") == of("connections_accepted_total") - gone;
        // A number that is counted after a response was sent may come later than the response.
        let came = values[&requests("HTTP/1", "2xx")]
            + values[&requests("HTTP/1", "5xx")]
            + values[&requests("HTTP/2", "2xx")]
            + values[&listener]
            + of("requests_handled_total")
            + of("http_request_duration_seconds_count");
        (came >= 16.0 && is_sum).then_some(values)
    });
    let of = |name: &str| after[&format!("netwasm_{name}{{service=\"probe\"}}")];
    assert_eq!(after[&requests("HTTP/1", "2xx")], 3.0);
    assert_eq!(after[&requests("HTTP/1", "5xx")], 1.0);
    assert_eq!(of("requests_handled_total"), 5.0);
    let traps = "netwasm_traps_total{service=\"probe\",cause=\"unreachable\"}";
    assert_eq!(after[traps], 1.0);
    assert_eq!(of("http_request_duration_seconds_count"), 5.0);
    assert!(of("http_request_duration_seconds_sum") > 0.0);
    let all = "netwasm_http_request_duration_seconds_bucket{le=\"+Inf\",service=\"probe\"}";
    assert_eq!(after[all], 5.0, "{after:#?}");
    assert!(of("http_response_body_bytes_total") >= 4.0);
    let open = of("connections_accepted_total")
        - of("connections_closed_total")
        - of("connections_lost_total");
    assert_eq!(of("connections_open"), open);
    assert_eq!(after[&listener], 1.0);
    let open = listener.replace("accepted_total", "open");
    assert_eq!(after[&open], 1.0);
    assert_eq!(after["netwasm_ready"], 1.0);
    for name in [
        "netwasm_process_cpu_seconds_total",
        "netwasm_process_resident_memory_bytes",
        "netwasm_process_open_fds",
    ] {
        assert!(after[name] > 0.0, "{name}");
    }
    drop((peer, http2, echo));
    server.stop();
}

#[test]
fn scrapers_that_do_not_know_openmetrics_get_the_older_text() {
    let (server, admin) = administered(Run::guest("echo").tcp());
    let response = ok(Peer::connect(admin).fetch("/metrics"));
    let media = response.header("Content-Type").expect("a type");
    assert!(media.starts_with("text/plain; version=0.0.4"), "{media}");
    let text = response.text();
    assert!(
        text.contains("# TYPE netwasm_traps_total counter\n"),
        "{text}"
    );
    assert!(!text.contains("# EOF"), "{text}");
    server.stop();
}

#[test]
fn health_readiness_and_settings_are_told() {
    let (server, admin) = administered(Run::guest("echo").tcp().args([
        "--env",
        "TOKEN=hunter2",
        "--shutdown-timeout",
        "20s",
    ]));
    ask(admin, "/healthz").is(200, "alive");
    ask(admin, "/readyz").is(200, "ready");
    // A health check, as of a container.
    let check = || Run::command(&["ready", &admin.to_string()]).output();
    let ready = check();
    assert_eq!((ready.code, &*ready.stdout), (Some(0), "ready\n"));
    let config = ok(ask(admin, "/config"));
    assert!(
        config.text().contains("tcp = [\"127.0.0.1:0\"]"),
        "{config:?}"
    );
    assert!(!config.text().contains("hunter2"), "{config:?}");
    assert_eq!(ask(admin, "/").status, 404);
    let post = Peer::connect(admin).exchange(message("POST", "/metrics", &["Content-Length: 0"]));
    assert_eq!(
        (post.status, post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    // Only reading, over TCP.
    let post = Peer::connect(admin).exchange(message("POST", "/reload", &["Content-Length: 0"]));
    assert_eq!(post.status, 403, "{post:?}");
    // A page of the web, through a browser that was told a wrong address.
    let rebound = Peer::connect(admin).exchange("GET /metrics HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert_eq!(rebound.status, 421, "{rebound:?}");
    // A connection that is open keeps the run draining.
    let mut open = server.connect();
    open.send(b"x");
    assert_eq!(open.take(1), b"x");
    server.signal(Signal::TERM);
    eventually("it drains", || {
        let response = ask(admin, "/readyz");
        (response.status == 503 && response.text() == "not ready: draining").then_some(())
    });
    ask(admin, "/healthz").is(200, "alive");
    let draining = check();
    assert_eq!(draining.code, Some(1), "{draining:?}");
    assert_eq!(draining.stderr, "netwasm: not ready: draining\n");
    drop(open);
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0));
    let nobody = check();
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("cannot reach the run"), "{nobody:?}");
}

#[test]
fn open_connections_are_listed_with_their_stage() {
    let (server, admin) = administered(Run::guest("probe").http().tcp().tls());
    let mut idle = server.connect_http();
    ok(idle.fetch("/count"));
    let mut open = server.connect();
    open.send(b"x");
    let handshake = Peer::connect(server.address("tls"));
    let listed = eventually("all three", || {
        let response = ok(ask(admin, "/connections"));
        let listed: Value = serde_json::from_str(response.text()).expect("it is JSON");
        (listed["total"] == 3).then_some(listed)
    });
    assert_eq!(listed["complete"], true);
    let connections = listed["connections"].as_array().expect("a list");
    let mut stages: Vec<_> = connections
        .iter()
        .map(|it| it["stage"].as_str().expect("a stage"))
        .collect();
    stages.sort_unstable();
    assert_eq!(stages, ["handshake", "idle", "open"]);
    for connection in connections {
        assert_eq!(connection["service"], "probe");
        let peer = connection["peer"].as_str().expect("an address");
        assert!(peer.starts_with("127.0.0.1:"), "{connection}");
        assert!(connection["seconds"].as_f64().is_some_and(|it| it < 100.0));
    }
    drop((idle, open, handshake));
    server.stop();
}

#[test]
fn clients_that_say_nothing_do_not_hold_up_the_interface_for_long() {
    let (server, admin) = administered(Run::guest("echo").tcp());
    // More than it takes at once: they lose their places after ten seconds.
    let silent: Vec<_> = (0..20).map(|_| Peer::connect(admin)).collect();
    ask(admin, "/healthz").is(200, "alive");
    server.serves_echo();
    drop(silent);
    server.stop();
}

/// Waits until new connections get an answer with this text. For a moment after
/// a reload, the old generation may still accept one.
fn answers(server: &Server, words: &str) {
    eventually("the new component", || {
        let response = server.connect_http().fetch("/about");
        response.text().contains(words).then_some(())
    });
}

#[test]
fn netwasm_reload_says_how_it_went() {
    let scratch = directory();
    let (file, socket) = (
        scratch.path().join("n.toml"),
        scratch.path().join("admin.sock"),
    );
    let content = |component: &str| {
        format!(
            "admin = \"unix:{}\"\n[services.site]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n",
            socket.display(),
            text(&guest(component))
        )
    };
    fs::write(&file, content("router")).expect("a file");
    let server = Run::config(&file, 1).start();
    server.log.wait_for(&["the admin interface listens"]);
    let mode = socket.metadata().expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let reload = |of: &[&str]| Run::command(&[&["reload"], of].concat()).output();
    let address = format!("unix:{}", socket.display());

    fs::write(&file, content("hello")).expect("a file");
    let done = reload(&[&address]);
    assert_eq!(
        (done.code, &*done.stdout),
        (Some(0), "reloaded\nreplaced: site\n"),
        "{done:?}"
    );
    answers(&server, "Hello");
    server
        .log
        .wait_for(&["POST /reload: reloaded", "replaced=\"site\""]);
    assert_eq!(server.log.count("SIGHUP"), 0);
    let more = format!(
        "workers = 77\n{}[services.more]\ncomponent = \"hello\"\nhttp = {:?}\n",
        content("hello"),
        unix_address(&scratch.path().join("more"))
    );
    fs::write(&file, more).expect("a file");
    let done = reload(&[&address]);
    for line in [
        "added: more",
        "listening: http+unix:",
        "warning: another number of --workers, 77 instead of",
    ] {
        let has = done.stdout.lines().any(|it| it.starts_with(line));
        assert!(has, "no {line} in {done:?}");
    }
    fs::write(&file, content("hello")).expect("a file");
    let done = reload(&[&address]);
    assert!(
        done.stdout
            .contains("\nremoved: more\nno longer listening: "),
        "{done:?}"
    );
    let done = reload(&[&address]);
    assert_eq!(done.stdout, "reloaded: nothing has changed\n");

    fs::write(&file, content("hello").replace("http", "htpt")).expect("a file");
    let failed = reload(&[&address]);
    failed.refused(
        1,
        &["everything stays as it was", ":4:1: there is no key 'htpt'"],
    );
    answers(&server, "Hello");

    fs::write(&file, content("router")).expect("a file");
    let done = reload(&["--config", text(&file)]);
    assert_eq!(done.code, Some(0), "{done:?}");
    answers(&server, "<h1>About</h1>");

    let (status, metrics) = ask_unix(&socket, "GET", "/metrics");
    assert_eq!(status, 200);
    for line in [
        "netwasm_reloads_total{result=\"done\"} 5",
        "netwasm_reloads_total{result=\"failed\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    server.stop();
    assert!(!socket.exists());
    let gone = reload(&[&address]);
    gone.refused(1, &["cannot reach the run at unix:"]);
}

#[test]
fn counts_go_on_over_reloads() {
    let scratch = directory();
    let place = scratch.path().join("site.wasm");
    fs::copy(guest("router"), &place).expect("a copy");
    let (server, admin) = administered(Run::component(&place).http());
    for round in 1..=3 {
        ok(server.connect_http().fetch("/about"));
        let name =
            "netwasm_http_requests_total{service=\"site\",protocol=\"HTTP/1\",status=\"2xx\"}";
        eventually("the request is counted", || {
            (scrape(admin)[name] == f64::from(round)).then_some(())
        });
        install_as("router", &place, round % 2);
        reload(&server);
    }
    server.stop();
}

#[test]
fn an_admin_interface_for_all_the_world_is_refused() {
    let run = Run::guest("echo").args(["--tcp", "0", "--admin", "0.0.0.0:0"]);
    run.output()
        .refused(2, &["--admin 0.0.0.0:0 is not confined to this machine"]);
}
