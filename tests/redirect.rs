//! Listeners of HTTP that redirect to HTTPS: `--http-redirect`.

use std::fs;

use crate::config::{component, configured};
use crate::harness::{
    Client, Http2, Peer, Response, Run, Server, cert, directory, eventually, free_port, post,
    reload, text, write,
};

/// Returns a run with an `--https` and an `--http-redirect`.
fn redirecting(guest: &str) -> Run {
    Run::guest(guest)
        .https()
        .listen("--http-redirect", "127.0.0.1:0")
}

/// Sends a GET for a host.
fn fetch_of(server: &Server, host: &str, target: &str) -> Response {
    let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    server.connect_http().exchange(head)
}

fn location(response: &Response) -> &str {
    response.header("Location").expect("a Location")
}

#[test]
fn a_client_is_sent_to_the_same_host_and_path_and_finds_the_guest_there() {
    let server = redirecting("router").start();
    let secure = server.address("https");
    let mut peer = server.connect_http();
    let head = "GET /about?a=%20b HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
    let response = peer.exchange(head);
    assert_eq!(response.status, 301);
    let expected = format!("https://localhost:{}/about?a=%20b", secure.port());
    assert_eq!(location(&response), expected);
    // The connection goes on, and a body is no obstacle.
    let head = "POST /about HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello";
    let response = peer.exchange(head);
    assert_eq!(response.status, 308);
    let expected = format!("https://a.example:{}/about", secure.port());
    assert_eq!(location(&response), expected);
    let mut followed = Client::of("localhost").connect(secure);
    followed.fetch("/about").is(200, "<h1>About</h1>");
    drop((peer, followed));
    server.stop();
}

#[test]
fn http2_clients_are_redirected_too() {
    let server = redirecting("router")
        .args(["--http-redirect-port", "443"])
        .start();
    let mut peer = Http2::connect(server.address("http"));
    let response = peer.fetch("/about?x");
    assert_eq!(response.status, 301);
    let there = location(&response);
    assert!(
        there.starts_with("https://") && there.ends_with("/about?x"),
        "{there}"
    );
    assert_eq!(there.matches(':').count(), 1, "{there}");
    drop(peer);
    server.stop();
}

#[test]
fn a_request_without_a_host_is_refused() {
    let server = redirecting("router").start();
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let response = server.connect_http().exchange(head);
        assert_eq!(response.status, 400, "{head:?}: {response:?}");
        assert_eq!(response.header("Location"), None);
    }
    let absolute = "GET http://b.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let response = server.connect_http().exchange(absolute);
    assert!(location(&response).starts_with("https://b.example:"));
    server.stop();
}

#[test]
fn redirects_are_logged_and_counted_and_reach_no_guest() {
    let scratch = directory();
    let log = scratch.path().join("access.log");
    let server = redirecting("probe")
        .args(["--access-log", text(&log), "--workers", "1"])
        .start();
    for _ in 0..3 {
        // The guest would trap.
        assert_eq!(fetch_of(&server, "a.example", "/trap").status, 301);
    }
    let end = server.log.clone();
    server.stop();
    let logged = fs::read_to_string(&log).expect("the log");
    assert_eq!(logged.lines().count(), 3, "{logged}");
    assert!(logged.contains("\"GET /trap HTTP/1.1\" 301 "), "{logged}");
    let line = end.wait_for(&["ended"]);
    assert!(
        line.contains("requests=3") && !line.contains("traps"),
        "{line}"
    );
}

#[test]
fn a_program_has_no_redirects() {
    let run = Run::guest("tcp-client").args(["--http-redirect", "127.0.0.1:0"]);
    run.output()
        .refused(1, &["--http-redirect", "wasi:cli/run"]);
}

#[test]
fn some_requests_of_a_listener_are_answered_and_others_redirected() {
    let port = free_port();
    let challenges = directory();
    write(challenges.path(), "token", "the answer");
    let secure = format!(
        "https = \"127.0.0.1:{}\"\ncert = {:?}\nkey = {:?}\n",
        free_port(),
        text(&cert("cert.pem")),
        text(&cert("key.pem"))
    );
    let (_scratch, file) = configured(&format!(
        "[services.acme]\ncomponent = {site}\nhttp = \"127.0.0.1:{port}\"\n\
         route = \"/.well-known/acme-challenge\"\n\
         dir = \"{dir}::/.well-known/acme-challenge\"\n\
         [services.site]\ncomponent = {router}\nhttp-redirect = \"127.0.0.1:{port}\"\n{secure}\
         http-redirect-port = 443\n",
        site = component("static"),
        router = component("router"),
        dir = text(challenges.path()),
    ));
    let server = Run::config(&file, 2).start();
    fetch_of(&server, "a.example", "/.well-known/acme-challenge/token").is(200, "the answer");
    let response = fetch_of(&server, "a.example", "/about");
    assert_eq!(
        (response.status, location(&response)),
        (301, "https://a.example/about")
    );
    server.stop();
}

#[test]
fn a_redirect_is_of_its_services_routes() {
    let port = free_port();
    let listener = format!("http-redirect = \"127.0.0.1:{port}\"\n");
    let (_scratch, file) = configured(&format!(
        "[services.a]\ncomponent = {router}\n{listener}route = \"a.example\"\n\
         [services.b]\ncomponent = {router}\n{listener}route = \"b.example\"\n\
         http-redirect-port = 8443\n",
        router = component("router"),
    ));
    let server = Run::config(&file, 1).start();
    for (host, status, expected) in [
        ("a.example", 301, Some("https://a.example/x")),
        ("b.example:80", 301, Some("https://b.example:8443/x")),
        ("c.example", 404, None),
    ] {
        let response = fetch_of(&server, host, "/x");
        let found = response.header("Location");
        assert_eq!((response.status, found), (status, expected), "{host}");
    }
    server.stop();
}

#[test]
fn a_reload_changes_where_clients_are_sent() {
    let scratch = directory();
    let configure = |port: u16| {
        let content = format!(
            "component = {}\nhttp-redirect = \"127.0.0.1:0\"\nhttp-redirect-port = {port}\n",
            component("router")
        );
        write(scratch.path(), "netwasm.toml", content)
    };
    let server = Run::config(&configure(1), 1).start();
    let address = server.address("http");
    assert_eq!(
        location(&fetch_of(&server, "a.example", "/")),
        "https://a.example:1/"
    );
    configure(2);
    reload(&server);
    // For a moment, the old generation may still accept one.
    eventually("the new port", || {
        let head = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let response = Peer::connect(address).exchange(head);
        (location(&response) == "https://a.example:2/").then_some(())
    });
    // Other methods than GET keep theirs.
    let posted = Peer::connect(address).exchange(post("/", b"body"));
    assert_eq!(posted.status, 308);
    server.stop();
}
