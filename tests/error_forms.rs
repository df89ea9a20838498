//! The form of an error: the host's own, and of handlers on `netwasm-guest`.

use crate::harness::http2::ask;
use crate::harness::{Http2, Response, Run, Server, message};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const TEXT: &str = "text/plain; charset=utf-8";
const PAGE: &str = "text/html; charset=utf-8";
const PROBLEM: &str = "application/problem+json";

/// Checks the status, the media type and the body of an error.
#[track_caller]
fn tells(response: &Response, status: u16, media_type: &str, body: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(response.header("content-type"), Some(media_type));
    assert_eq!(response.header("vary"), Some("Accept"), "{response:?}");
    assert_eq!(response.text(), body);
}

/// Returns the response to GET over HTTP/1.1, with this `Accept` unless it is empty.
fn get(server: &Server, target: &str, accept: &str) -> Response {
    let line = format!("Accept: {accept}");
    let lines = Vec::from_iter((!accept.is_empty()).then_some(&*line));
    let mut client = server.connect_http();
    client.exchange(message("GET", target, &lines))
}

#[test]
fn a_host_tells_an_error_in_the_form_that_the_client_asks_for() {
    for guest in ["probe", "service-probe", "proxy-probe"] {
        let server = Run::guest(guest).http().start();
        let problem = r#"{"title":"Internal Server Error","status":500}"#;
        let text = "500 Internal Server Error";
        let page = "<h1>500 Internal Server Error</h1>";
        for (accept, media_type, body) in [
            ("", TEXT, text),
            ("*/*", PROBLEM, problem),
            ("application/json", PROBLEM, problem),
            (BROWSER, PAGE, page),
            ("text/plain", TEXT, text),
        ] {
            tells(&get(&server, "/trap", accept), 500, media_type, body);
            let mut head = ask("GET", "/trap");
            if !accept.is_empty() {
                let accept = accept.parse().expect("a value");
                head.headers_mut().insert("accept", accept);
            }
            let mut client = Http2::connect(server.address("http"));
            let response = client.exchange(head, b"");
            tells(&response, 500, media_type, body);
        }
        // Each line counts.
        let mut head = ask("GET", "/trap");
        for accept in ["image/png", "text/html"] {
            let accept = accept.parse().expect("a value");
            head.headers_mut().append("accept", accept);
        }
        let mut client = Http2::connect(server.address("http"));
        tells(&client.exchange(head, b""), 500, PAGE, page);
    }
}

#[test]
fn a_request_that_is_refused_before_a_handler_has_it_is_told_so_too() {
    let server = Run::guest("probe")
        .http()
        .args(["--max-body", "10"])
        .start();
    let post = "POST /echo HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nContent-Length: 11\r\n\r\n";
    let body = r#"{"title":"Payload Too Large","status":413,"detail":"the body is too large"}"#;
    let mut client = server.connect_http();
    tells(&client.exchange(post), 413, PROBLEM, body);
}

#[test]
fn a_client_of_an_api_gets_one_form_from_handler_and_host() {
    let server = Run::guest("library-probe")
        .http()
        .args(["--max-body", "10"])
        .start();
    for (accept, media_type, start) in [
        ("*/*", PROBLEM, '{'),
        (BROWSER, PAGE, '<'),
        ("text/plain", TEXT, '4'),
    ] {
        let accept = format!("Accept: {accept}");
        // The router's, that of an argument, and the host's.
        for (method, target, line, status) in [
            ("GET", "/nowhere", "X-A: b", 404),
            ("DELETE", "/hint", "X-A: b", 405),
            ("POST", "/whole", "Content-Length: 11", 413),
        ] {
            let mut client = server.connect_http();
            let response = client.exchange(message(method, target, &[&accept, line]));
            assert_eq!(response.status, status, "{response:?}");
            assert_eq!(response.header("content-type"), Some(media_type));
            assert_eq!(response.header("vary"), Some("Accept"), "{response:?}");
            assert!(response.text().starts_with(start), "{response:?}");
        }
    }
}
