//! Upstreams with odd responses, and the form of requests to them, over
//! HTTP/1.1 and HTTP/2.

use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri};

use crate::harness::http2::{ask, read};
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
fn equal_lengths_of_an_upstream_are_one() {
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nhello");
        let bodiless = format!("HTTP/1.1 304 Not Modified\r\n{lengths}\r\n\r\n");
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                let body = !head.starts_with("GET /bodiless");
                asker.say(if body { &answer } else { &bodiless });
            }
        });
        for server in probes() {
            let said = told(&server, "GET", &format!("/get?{}", upstream.url("/")));
            assert_eq!(said, "200 length 5 hello", "{lengths}");
            server.stop();
        }
        let proxy = reverse_proxy(&upstream.url("")).start();
        for response in both(&proxy, "/") {
            let response = response.is(200, "hello");
            assert_eq!(response.header("content-length"), Some("5"), "{lengths}");
        }
        for response in both(&proxy, "/bodiless") {
            response.is(304, "");
        }
        proxy.stop();
    }
    let (upstream, _heads) = upstream_h2(&[("content-length", "5"), ("content-length", "5")]);
    let proxy = reverse_proxy(&upstream.url("")).start();
    for response in both(&proxy, "/") {
        let response = response.is(200, "hello");
        assert_eq!(response.header("content-length"), Some("5"));
    }
    proxy.stop();
}

#[test]
fn odd_lengths_of_an_upstream_cost_their_request_alone() {
    for guest in ["outgoing-probe", "client-probe", "reverse-proxy"] {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let (asked, is_asked) = mpsc::channel();
        let upstream = Upstream::new(move |mut asker, _| {
            while let Some(head) = asker.head() {
                if head.starts_with("GET /slow") {
                    let _ = asked.send(());
                    let _ = released.lock().expect("the lock").recv();
                    asker.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
                    continue;
                }
                let status = head.get(5..8).unwrap_or_default();
                let lengths = match head.get(9..10) {
                    Some("2") => "Content-Length: 5\r\nContent-Length: 6",
                    Some("l") => "Content-Length: 5, 6",
                    _ => "Content-Length: five",
                };
                asker.say(format!("HTTP/1.1 {status} X\r\n{lengths}\r\n\r\nhello"));
            }
        });
        let server = shared(guest).guest_args(&[&upstream.url("")]).start();
        let is_proxy = guest == "reverse-proxy";
        let target = |path: &str| match is_proxy {
            true => path.to_owned(),
            false => format!("/get?{}", upstream.url(path)),
        };
        // An instance of `wasi:http` 0.2 handles one request at a time.
        let mut other = (guest != "outgoing-probe").then(|| {
            let mut other = server.connect_http();
            other.send(message("GET", &target("/slow"), &[]).as_bytes());
            next(&is_asked);
            other
        });
        for status in ["200", "204", "304"] {
            for kind in ["2", "l", "x"] {
                for response in both(&server, &target(&format!("/{status}-{kind}"))) {
                    match is_proxy {
                        true => assert_eq!(response.status, 502, "{status}-{kind}"),
                        false => {
                            response.is(200, "error: ErrorCode::HttpProtocolError");
                        }
                    }
                }
            }
        }
        if let Some(other) = &mut other {
            release.send(()).expect("the upstream is there");
            let said = if is_proxy {
                "slow"
            } else {
                "200 length 4 slow"
            };
            other.response().is(200, said);
        }
        assert_eq!(server.log.count("trapped"), 0);
        drop(other);
        server.stop();
    }
    let (upstream, _heads) = upstream_h2(&[("content-length", "5"), ("content-length", "6")]);
    let proxy = reverse_proxy(&upstream.url("")).start();
    for response in both(&proxy, "/") {
        assert_eq!(response.status, 502);
    }
    assert_eq!(proxy.log.count("trapped"), 0);
    proxy.stop();
}

#[test]
fn trailers_of_an_upstream_have_no_place_for_a_length() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTrailer: Content-Length, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\nContent-Length: 4\r\nX-Sum: 4\r\nContent-Length: 5\r\n\r\n",
    );
    for server in probes() {
        let said = told(&server, "GET", &format!("/get?{}", upstream.url("/")));
        assert_eq!(said, "200 stream 4 body x-sum: 4");
        server.stop();
    }
}

#[test]
fn a_length_that_a_guest_tells_twice_costs_its_response_alone() {
    for guest in HANDLERS {
        let server = shared(guest).start();
        for target in ["/twice?0", "/twice?5"] {
            for response in both(&server, target) {
                assert_eq!(response.status, 500, "{guest} {target}");
            }
        }
        server.log.wait_for_count("twice: ", 4);
        server.connect_http().fetch("/hello").is(200, "hello");
        assert_eq!(server.log.count("trapped"), 0);
        server.stop();
    }
    let server = shared("probe").start();
    for other in ["4", "5"] {
        let target =
            format!("/answer?header=Content-Length:4&header=content-length:{other}&body=four");
        for response in both(&server, &target) {
            assert_eq!(response.status, 500, "{target}");
        }
    }
    server.log.wait_for_count("cannot be sent", 4);
    server.connect_http().fetch("/count").is(200, "5");
    server.stop();
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

/// Methods, with true if a request without a body has `Content-Length: 0`.
const METHODS: [(&str, bool); 7] = [
    ("POST", true),
    ("PUT", true),
    ("PATCH", true),
    ("GET", false),
    ("DELETE", false),
    ("OPTIONS", false),
    ("PURGE", false),
];

#[test]
fn a_request_without_a_body_says_so_where_one_is_expected() {
    let (h1, lines) = upstream_h1();
    let (h2, heads) = upstream_h2(&[]);
    for (guest, paths) in [
        ("outgoing-probe", &["/get", "/get-bodiless"][..]),
        ("client-probe", &["/get"]),
    ] {
        let server = shared(guest).start();
        for (method, tells) in METHODS {
            let length = tells.then_some("0");
            for path in paths {
                let said = told(&server, method, &format!("{path}?{}", h1.url("/")));
                assert_eq!(said, "204 stream 0", "{guest} {method}");
                let head = next(&lines);
                assert_eq!(field(&head, "content-length"), length, "{guest} {head}");
                assert_eq!(field(&head, "transfer-encoding"), None, "{guest} {head}");
                let said = told(&server, method, &format!("{path}?{}", h2.url("/")));
                assert_eq!(said, "200 stream 5 hello", "{guest} {method}");
                let head = next(&heads);
                let got = head.headers.get("content-length");
                let got = got.and_then(|it| it.to_str().ok());
                assert_eq!(got, length, "{guest} {head:?}");
            }
        }
        server.stop();
    }
    // With a Content-Length of the client and without.
    let proxy = reverse_proxy(&h1.url("")).start();
    let mut peer = proxy.connect_http();
    for lines_of in [&[][..], &["Content-Length: 0"]] {
        assert_eq!(peer.exchange(message("POST", "/", lines_of)).status, 204);
        assert_eq!(field(&next(&lines), "content-length"), Some("0"));
    }
    let mut client = Http2::connect(proxy.address("http"));
    assert_eq!(client.exchange(ask("POST", "/"), b"").status, 204);
    assert_eq!(field(&next(&lines), "content-length"), Some("0"));
    peer.send(message("HEAD", "/", &[]).as_bytes());
    assert_eq!(peer.response_to_head().status, 204);
    assert_eq!(field(&next(&lines), "content-length"), None);
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_body_that_comes_late_is_sent_as_any_other() {
    let (got, bodies) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            let _ = got.send(0);
            let _ = got.send(asker.take_chunks());
            asker.say("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let proxy = reverse_proxy(&upstream.url("")).start();
    let mut peer = proxy.connect_http();
    peer.send(message("POST", "/", &["Transfer-Encoding: chunked"]).as_bytes());
    // The head does not wait for the body.
    assert_eq!(next(&bodies), 0);
    peer.send(b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!(peer.response().status, 204);
    assert_eq!(next(&bodies), 5);
    let mut client = Http2::connect(proxy.address("http"));
    let (response, mut body) = client.begin(ask("POST", "/"), false).expect("a request");
    client.settle();
    assert_eq!(next(&bodies), 0);
    let bytes = Bytes::from_static(b"hello");
    let sent = client.run(harness::http2::send_all(&mut body, bytes, true));
    sent.expect("it is taken");
    let response = client.run(read(response)).expect("a response");
    assert_eq!(response.status, 204);
    assert_eq!(next(&bodies), 5);
    drop((peer, client));
    proxy.stop();
}

#[test]
fn a_request_whose_body_its_guest_does_not_finish_is_not_sent_and_the_log_says_why() {
    let (h1, lines) = upstream_h1();
    let (h2, heads) = upstream_h2(&[]);
    let server = shared("outgoing-probe").start();
    let mut refused = 0;
    for url in [h1.url("/"), h2.url("/")] {
        for path in ["/get-unfinished", "/get-unfinished-late"] {
            for method in ["GET", "POST", "DELETE"] {
                let said = told(&server, method, &format!("{path}?{url}"));
                assert_eq!(said, "error: ErrorCode::HttpProtocolError", "{method}");
                refused += 1;
                let told = "dropped without outgoing-body.finish";
                server.log.wait_for_count(told, refused);
            }
        }
    }
    assert_eq!((h1.connections(), h2.connections()), (0, 0));
    let said = told(&server, "GET", &format!("/get?{}", h1.url("/")));
    assert_eq!(said, "204 stream 0");
    next(&lines);
    assert!(lines.try_recv().is_err() && heads.try_recv().is_err());
    server.stop();
}
