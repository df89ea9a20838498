//! Upstreams with odd responses, and the form of requests to them, over
//! HTTP/1.1 and HTTP/2.

mod lengths;

use std::sync::mpsc;

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::harness::http2::ask;
use crate::harness::{
    self, Http2, Response, Run, SecureUpstream, Secured, Server, Upstream, cert, message, text,
};

/// Guests that send requests as told, for `wasi:http` 0.2 and 0.3.
const PROBES: [&str; 2] = ["outgoing-probe", "client-probe"];

/// Guests that answer requests, for `wasi:http` 0.2 and 0.3.
const HANDLERS: [&str; 2] = ["proxy-probe", "service-probe"];

/// Returns a run with one instance for all. If it ended, it would end all its
/// exchanges.
fn shared(guest: &str) -> Run {
    Run::guest(guest)
        .http()
        .args(["--workers", "1", "--isolation", "worker"])
        .args(["--allow-connect", "127.0.0.1:*"])
        .args(["--allow-connect", "localhost:*"])
        .args(["--ca", text(&cert("ca.pem"))])
}

fn reverse_proxy(upstream: &str) -> Run {
    shared("reverse-proxy").guest_args(&[upstream])
}

fn probes() -> impl Iterator<Item = Server> {
    PROBES.into_iter().map(|guest| shared(guest).start())
}

/// Asks a probe to send a request with this method, and returns what it
/// reports.
#[track_caller]
fn told(server: &Server, method: &str, target: &str) -> String {
    let mut peer = server.connect_http();
    let response = peer.exchange(message(method, target, &[]));
    assert_eq!(response.status, 200, "{response:?}");
    response.text().to_owned()
}

/// Sends a GET over HTTP/1.1 and over HTTP/2.
fn both(server: &Server, target: &str) -> [Response; 2] {
    [
        server.connect_http().fetch(target),
        Http2::connect(server.address("http")).fetch(target),
    ]
}

/// Starts an HTTP/2 upstream that answers every request with these fields and
/// `hello`. The receiver gets the heads of the requests.
fn upstream_h2(fields: &[(&'static str, &str)]) -> (SecureUpstream, mpsc::Receiver<Parts>) {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).expect("a value");
        headers.append(*name, value);
    }
    let (asked, heads) = mpsc::channel();
    let upstream = SecureUpstream::new(&["h2"], move |stream| {
        answer_h2(stream, headers.clone(), asked.clone())
    });
    (upstream, heads)
}

async fn answer_h2(stream: Secured, fields: HeaderMap, asked: mpsc::Sender<Parts>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, _) = request.into_parts();
        let _ = asked.send(head);
        let mut response = http::Response::new(());
        *response.headers_mut() = fields.clone();
        if let Ok(mut body) = respond.send_response(response, false) {
            // The client may have left.
            let _ = body.send_data(Bytes::from_static(b"hello"), true);
        }
    }
}

/// Starts an HTTP/1.1 upstream that answers without content. The receiver gets
/// the heads of the requests.
fn upstream_h1() -> (Upstream, mpsc::Receiver<String>) {
    let (asked, heads) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let _ = asked.send(head);
            asker.say("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    (upstream, heads)
}

/// Starts an HTTP/1.1 server that answers `hello` with these fields.
fn upstream_h1_with(fields: &[(&str, &str)]) -> Upstream {
    let lines: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{lines}\r\nhello");
    Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            asker.say(&answer);
        }
    })
}

#[track_caller]
fn next<T>(heads: &mpsc::Receiver<T>) -> T {
    heads.recv_timeout(harness::DEADLINE).expect("a request")
}

/// Returns the value of a field in a head of HTTP/1.1, in which names are in
/// lower case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| {
        let (other, value) = line.split_once(": ")?;
        (other == name).then_some(value)
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

#[test]
fn a_response_may_have_so_many_headers_and_no_more() {
    let many = |count: usize| vec![("link", "</style.css>; rel=preload"); count];
    // Each response also has a Content-Length, which does not count.
    for (flag, most) in [(None, 200), (Some("300"), 300), (Some("5"), 5)] {
        let most: usize = most;
        let flags = flag.map_or_else(Vec::new, |it| vec!["--max-response-headers", it]);
        for (count, allowed) in [(most, true), (most + 1, false), (most + 200, false)] {
            let h1 = upstream_h1_with(&many(count));
            let fields = [vec![("content-length", "5")], many(count)].concat();
            let (h2, _heads) = upstream_h2(&fields);
            for url in [h1.url(""), h2.url("")] {
                let proxy = reverse_proxy(&url).args(&flags).start();
                for response in both(&proxy, "/") {
                    if allowed {
                        let response = response.is(200, "hello");
                        let links = response.headers.iter();
                        let links = links.filter(|(name, _)| name.eq_ignore_ascii_case("link"));
                        assert_eq!(links.count(), count, "{url}");
                    } else {
                        assert_eq!(response.status, 502, "{url} {count}");
                    }
                }
                if !allowed {
                    let most = most.to_string();
                    proxy.log.wait_for(&["--max-response-headers", &most]);
                }
                proxy.stop();
            }
        }
    }
}

#[test]
fn a_head_of_a_response_that_is_too_large_is_named_in_both_versions() {
    let value = "y".repeat(3000);
    let fields = vec![("link", value.as_str()); 100];
    let (h2, _heads) = upstream_h2(&fields);
    let h1 = upstream_h1_with(&fields);
    for url in [h1.url(""), h2.url("")] {
        let proxy = reverse_proxy(&url).start();
        for response in both(&proxy, "/") {
            assert_eq!(response.status, 502, "{url}");
        }
        proxy.log.wait_for(&["more than 256 KiB"]);
        proxy.stop();
    }
}

#[test]
fn a_large_head_of_a_response_passes_by_both_versions() {
    let value = "y".repeat(800);
    let fields = vec![("link", value.as_str()); 120];
    let (upstream, _heads) = upstream_h2(&fields);
    for server in probes() {
        let said = told(&server, "GET", &format!("/get?{}", upstream.url("/")));
        assert_eq!(said, "200 stream 5 hello");
        server.stop();
    }
}

/// Returns `OPTIONS *` for HTTP/2.
fn asterisk() -> Request<()> {
    let uri = Uri::builder().scheme("http").authority("localhost");
    let uri = uri.path_and_query("*").build().expect("a target");
    let request = Request::builder().method("OPTIONS").uri(uri);
    request.body(()).expect("a request")
}

#[test]
fn a_reverse_proxy_passes_an_asterisk_on() {
    let (h1, lines) = upstream_h1();
    let proxy = reverse_proxy(&h1.url("")).start();
    let mut peer = proxy.connect_http();
    assert_eq!(peer.exchange(message("OPTIONS", "*", &[])).status, 204);
    let head = next(&lines);
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some(&*h1.address.to_string()));
    let mut client = Http2::connect(proxy.address("http"));
    assert_eq!(client.exchange(asterisk(), b"").status, 204);
    let head = next(&lines);
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
    // A path stays a path.
    assert_eq!(peer.exchange(message("OPTIONS", "/a", &[])).status, 204);
    let head = next(&lines);
    assert!(head.starts_with("OPTIONS /a HTTP/1.1\r\n"), "{head}");
    drop((peer, client));
    proxy.stop();

    let (h2, heads) = upstream_h2(&[]);
    let proxy = reverse_proxy(&h2.url("")).start();
    let mut peer = proxy.connect_http();
    peer.exchange(message("OPTIONS", "*", &[])).is(200, "hello");
    let mut client = Http2::connect(proxy.address("http"));
    client.exchange(asterisk(), b"").is(200, "hello");
    for _ in 0..2 {
        let head = next(&heads);
        let target = head.uri.path_and_query().map(PathAndQuery::as_str);
        assert_eq!(target, Some("*"));
        assert_eq!(head.headers.get("content-length"), None);
    }
    drop((peer, client));
    proxy.stop();
}

#[test]
fn an_asterisk_is_a_target_of_options_alone() {
    let (upstream, lines) = upstream_h1();
    for server in probes() {
        let target = format!("/asterisk?{}", upstream.url("/"));
        assert_eq!(told(&server, "OPTIONS", &target), "204 stream 0");
        assert!(next(&lines).starts_with("OPTIONS * HTTP/1.1\r\n"));
        let said = told(&server, "GET", &target);
        assert_eq!(said, "error: ErrorCode::HttpRequestUriInvalid");
        server.stop();
    }
    assert!(lines.try_recv().is_err());
}

#[test]
fn a_reverse_proxy_counts_the_hops_of_trace_and_options() {
    let (h1, lines) = upstream_h1();
    let proxy = reverse_proxy(&h1.url("")).start();
    let mut peer = proxy.connect_http();
    let mut client = Http2::connect(proxy.address("http"));
    let mut both = |method: &str, hops: &str| {
        let line = format!("Max-Forwards: {hops}");
        let secret = "Authorization: Basic YTpi";
        let one = peer.exchange(message(method, "/a?b", &[&line, secret, "X-Own: 1"]));
        let mut request = ask(method, "/a?b");
        for (name, value) in [
            ("max-forwards", hops),
            ("authorization", "Basic YTpi"),
            ("x-own", "1"),
        ] {
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().insert(name, value);
        }
        [one, client.exchange(request, b"")]
    };
    for (method, hops, left) in [
        ("OPTIONS", "3", "2"),
        ("TRACE", "1", "0"),
        ("OPTIONS", "99999999999999999999", "18446744073709551614"),
        // With these methods, the field has no meaning.
        ("GET", "0", "0"),
        ("DELETE", "3", "3"),
        ("GET", "x", "x"),
    ] {
        for response in both(method, hops) {
            assert_eq!(response.status, 204, "{method} {hops}");
            let head = next(&lines);
            assert_eq!(field(&head, "max-forwards"), Some(left), "{head}");
        }
    }
    for response in both("OPTIONS", "0") {
        let response = response.is(200, "");
        assert_eq!(response.header("content-length"), Some("0"));
    }
    for response in both("TRACE", "0") {
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), Some("message/http"));
        let shown = response.text();
        assert!(shown.starts_with("TRACE /a?b HTTP/1.1\r\n"), "{shown}");
        assert!(shown.contains("x-own: 1\r\n"), "{shown}");
        assert!(!shown.contains("YTpi"), "{shown}");
    }
    for hops in ["x", "-1", "1, 1"] {
        for response in both("OPTIONS", hops) {
            assert_eq!(response.status, 400, "{hops}");
        }
    }
    assert!(lines.try_recv().is_err(), "it answered by itself");
    drop((peer, client));
    proxy.stop();
}
