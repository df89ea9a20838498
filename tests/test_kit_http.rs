//! Tests of the HTTP clients of `netwasm-test`.

use std::time::{Duration, Instant};

use netwasm_test::json;

use crate::harness::{START, is_quick, pattern, same};
use crate::test_kit::{built_in, failure, probe};

#[test]
fn requests_over_http_and_https() {
    let server = built_in("router").http().https().start();
    for mut client in [server.http(), server.https()] {
        let response = client.get("/about");
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(response.text(), "<h1>About</h1>");
        assert_eq!(client.get("/nowhere").status, 404);

        assert_eq!(client.post("/echo", "[1]").status, 415);
        let sent = r#"{"a": [1, 2]}"#;
        let response = client
            .request("POST", "/echo")
            .header("Content-Type", "application/json")
            .body(sent)
            .send();
        assert_eq!(response.body, sent.as_bytes());
        assert_eq!(response.json()["a"][1], 2);

        let response = client.request("HEAD", "/").send();
        assert_eq!((response.status, response.body.len()), (200, 0));
        assert_eq!(response.header("content-length"), Some("13"));
        assert_eq!(client.request("OPTIONS", "*").send().status, 204);
    }
    let counts = server.stop();
    // Each client has one connection.
    assert_eq!((counts.accepted, counts.requests), (2, 12));
}

#[test]
fn a_failure_shows_why_a_request_was_refused() {
    let server = built_in("router").http().start();
    let mut client = server.http();
    assert_eq!(client.post_json("/echo", &[1]).json(), json!([1]));
    assert_eq!(client.post("/echo", "[1]").status, 415);
    let message = failure(|| server.http2().get("no slash"));
    let refused = message.split_once("requests that were refused:\n  POST /echo: 415 ");
    let (_, reason) = refused.expect(&message);
    assert!(reason.contains("application/json"), "{message}");
    server.stop();
}

/// The client keeps its side of the connection open.
#[test]
fn a_server_ends_at_once_despite_an_idle_client() {
    is_quick(Duration::from_secs(2), || {
        let server = built_in("router").http().https().start();
        let mut clients = [server.http(), server.https()];
        for client in &mut clients {
            assert_eq!(client.get("/about").status, 200);
        }
        let begun = Instant::now();
        let counts = server.stop();
        let took = begun.elapsed();
        assert_eq!((counts.accepted, counts.aborted), (2, 0));
        drop(clients);
        took
    });
}

#[test]
fn a_large_body_is_whole_either_way() {
    let server = probe().http().flag("--event-timeout=30s").start();
    let response = server.http().get("/big?n=3000000");
    assert!(response.body == vec![b'x'; 3_000_000]);
    let sent = pattern(1 << 20);
    let response = server.http().post("/body", sent.clone());
    same(&response.body, &sent);
    server.stop();
}

#[test]
fn requests_over_http2_with_and_without_tls() {
    let server = probe().http().https().flag("--event-timeout=30s").start();
    for (mut client, scheme) in [(server.http2(), "http"), (server.https2(), "https")] {
        let response = client.get("/request?a=b");
        let port = server.address(scheme).port();
        let expected = format!("GET /request?a=b 1.1 {scheme} localhost:{port}\n");
        assert_eq!(response.text(), expected);
        assert_eq!(response.status, 200);
        assert!(response.header("Content-Length").is_some());
        let response = client
            .request("GET", "/request")
            .header("Host", "a.example");
        assert!(response.send().text().ends_with(" a.example\n"));

        let sent = pattern(1 << 20);
        same(&client.post("/body", sent.clone()).body, &sent);
        let sent = json!({ "a": [1, 2] });
        let request = client.request("POST", "/body").json(&sent);
        assert_eq!(request.send().json(), sent);
        let response = client.get("/big?n=3000000");
        assert!(response.body == vec![b'x'; 3_000_000]);
        let response = client.request("HEAD", "/big?n=7").send();
        assert_eq!((response.status, response.body.len()), (200, 0));
        assert_eq!(client.request("OPTIONS", "*").send().status, 200);
    }
    let counts = server.stop();
    // Each client has one connection.
    assert_eq!((counts.accepted, counts.requests), (2, 14));
    assert_eq!((counts.closed, counts.lost), (2, 0));
}

#[test]
fn requests_of_one_http2_connection_do_not_wait_for_each_other() {
    let server = probe().http().start();
    let mut client = server.http2();
    let slow = client.request("GET", "/defer?ms=never").start();
    let others: Vec<_> = (1..20)
        .map(|n| client.request("GET", &format!("/big?n={n}")).start())
        .collect();
    for (n, other) in (1..).zip(others) {
        assert_eq!(other.response().body.len(), n);
    }
    let later = client.request("GET", "/defer?ms=50").start();
    assert_eq!(client.get("/").status, 200);
    assert!(!slow.is_ready());
    // A request outlives its client.
    drop(client);
    assert_eq!(later.response().text(), "deferred\n");
    // Dropping a request cancels it.
    drop(slow);
    server.log().expect("abandoned");
    let counts = server.stop();
    assert_eq!((counts.accepted, counts.lost), (1, 0));
}

#[test]
fn a_request_over_http2_that_fails_says_why() {
    let server = probe().http().time_limit(START).start();
    let mut client = server.http2();
    let message = failure(|| client.get("no slash"));
    assert!(message.contains("target cannot be sent"), "{message}");
    let message = failure(|| {
        let request = client.request("GET", "/").header("Connection", "close");
        request.send()
    });
    assert!(message.contains("request cannot be sent"), "{message}");
    assert_eq!(client.get("/trap").status, 500);
    assert_eq!(client.get("/").status, 200);
    let mut late = server.http2();
    assert_eq!(server.stop_despite_traps().traps, 1);
    let message = failure(|| late.get("/"));
    assert!(message.contains("cannot connect"), "{message}");
}

#[test]
fn a_response_can_be_read_as_it_comes() {
    let server = probe().http().start();
    let mut client = server.connect_http();
    client.send("GET /big?n=3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_line(), "HTTP/1.1 200 OK");
    while !client.read_line().is_empty() {}
    client.expect("xxx");
    client.send("BAD\r\n\r\n");
    assert_eq!(client.read_line(), "HTTP/1.1 400 Bad Request");
    drop(client);
    server.stop();
}
