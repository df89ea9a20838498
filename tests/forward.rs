//! Requests that a guest forwards, to servers in the test's own process.

use std::sync::mpsc;

use bytes::Bytes;

use crate::harness::http2::ask;
use crate::harness::{
    self, Http2, Http2Upstream, Run, Server, Upstream, directory, message, pattern, post, refusing,
    text,
};

/// Starts an upstream that answers each request with the number of bytes of its
/// body. The receiver gets the heads of the requests.
fn upstream() -> (Upstream, mpsc::Receiver<String>) {
    let (asked, heads) = mpsc::channel();
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            let length = length.and_then(|it| it.parse().ok()).unwrap_or(0);
            let taken = match head.contains("Transfer-Encoding: chunked") {
                true => asker.take_chunks(),
                false => asker.take(length),
            };
            let _ = asked.send(head);
            let body = format!("{taken} bytes\n");
            asker.say(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    });
    (upstream, heads)
}

#[track_caller]
fn next(heads: &mpsc::Receiver<String>) -> String {
    heads.recv_timeout(harness::DEADLINE).expect("a request")
}

/// Starts a server of HTTP/2 with prior knowledge. It answers each request with
/// its method, its `:scheme`, its authority, its path and the size of its body,
/// which it echoes to `/echo`, and with a trailer.
fn http2_upstream() -> Http2Upstream {
    let mut settings = h2::server::Builder::new();
    settings.initial_window_size(1 << 20);
    settings.initial_connection_window_size(1 << 22);
    Http2Upstream::at("127.0.0.1:0", settings, |request, respond| async move {
        // A client that has left gets no answer.
        let _ = answer_http2(request, respond).await;
    })
}

async fn answer_http2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Option<()> {
    let (head, mut body) = request.into_parts();
    let te = if head.headers.contains_key("te") {
        "yes"
    } else {
        "no"
    };
    let response = http::Response::builder().header("x-te", te);
    let response = response.body(()).ok()?;
    let mut stream = respond.send_response(response, false).ok()?;
    let mut size = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.ok()?;
        size += piece.len();
        body.flow_control().release_capacity(piece.len()).ok()?;
        if head.uri.path() == "/echo" {
            stream.send_data(piece, false).ok()?;
        }
    }
    let trailers = body.trailers().await.ok()?.unwrap_or_default();
    let said = format!("{} {} {size}\n", head.method, head.uri);
    stream.send_data(said.into(), false).ok()?;
    let mut answered = http::HeaderMap::new();
    let sum = trailers.get("x-sum").cloned();
    answered.insert(
        "x-sum",
        sum.unwrap_or(http::HeaderValue::from_static("none")),
    );
    stream.send_trailers(answered).ok()
}

fn named(name: &str, upstreams: &[&Upstream]) -> String {
    let servers: Vec<_> = upstreams.iter().map(|it| it.address.to_string()).collect();
    format!("{name}={}", servers.join(","))
}

fn gateway(upstreams: &[String], routes: &[&str]) -> Run {
    let upstreams = upstreams.iter().flat_map(|it| ["--upstream", it]);
    Run::guest("gateway")
        .http()
        .args(upstreams)
        .guest_args(routes)
}

#[test]
fn the_gateway_sends_requests_where_its_routes_say() {
    let (site, of_site) = upstream();
    let (api, of_api) = upstream();
    let groups = [named("site", &[&site]), named("api", &[&api])];
    let routes = ["/=site", "/api=api", "/in=site,token"];
    let server = gateway(&groups, &routes)
        .args(["--env", "TOKEN=secret"])
        .start();
    let mut peer = server.connect_http();
    peer.fetch("/x?y=%20").is(200, "0 bytes");
    let head = next(&of_site);
    assert!(
        head.starts_with("GET /x?y=%20 HTTP/1.1\r\nHost: localhost\r\n"),
        "{head}"
    );
    assert!(head.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{head}");
    assert!(head.contains("Via: 1.1 netwasm\r\n"), "{head}");
    let answer = peer.exchange(post("/api/1", b"hello")).is(200, "5 bytes");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(next(&of_api).starts_with("POST /api/1 "));
    assert_eq!(peer.fetch("/in").status, 401);
    let with = message("GET", "/in", &["Authorization: Bearer secret"]);
    peer.exchange(with).is(200, "0 bytes");
    assert_eq!(peer.fetch("/api/%2e%2e/in").status, 400);
    assert_eq!((site.connections(), api.connections()), (1, 1));
    drop(peer);
    server.stop();
}

#[test]
fn a_route_limits_the_bodies_of_requests() {
    let (site, of_site) = upstream();
    let routes = ["/=site,max-body:5", "/all=site"];
    let server = gateway(&[named("site", &[&site])], &routes).start();
    let mut peer = server.connect_http();
    peer.exchange(post("/", b"12345")).is(200, "5 bytes");
    peer.exchange(post("/all", b"123456")).is(200, "6 bytes");
    assert_eq!(of_site.try_iter().count(), 2);
    assert_eq!(
        server.connect_http().exchange(post("/", b"123456")).status,
        413
    );
    assert_eq!(of_site.try_iter().count(), 0);
    drop(peer);
    server.stop();
}

#[test]
fn both_protocols_forward_bodies_as_they_arrive() {
    let (upstream, heads) = upstream();
    let server = gateway(&[named("site", &[&upstream])], &["/=site"])
        .args(["--max-body", "64MiB", "--workers", "1"])
        .start();
    let body = pattern(20 << 20);
    let mut peer = server.connect_http();
    peer.exchange(post("/", &body)).is(200, "20971520 bytes");
    assert!(next(&heads).contains("Content-Length: 20971520\r\n"));
    let chunks = [
        message("POST", "/", &["Transfer-Encoding: chunked"]).into_bytes(),
        b"5\r\nhello\r\n0\r\n\r\n".to_vec(),
    ];
    peer.exchange(chunks.concat()).is(200, "5 bytes");
    assert!(next(&heads).contains("Transfer-Encoding: chunked\r\n"));
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/2").is(200, "0 bytes");
    let head = next(&heads);
    assert!(
        head.starts_with("GET /2 HTTP/1.1\r\nHost: localhost"),
        "{head}"
    );
    // Bodies do not enter memory.
    let (resident, most) = (server.resident(), 200 << 20);
    assert!(resident < most, "{resident}");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_guest_reaches_only_upstreams_that_it_is_given() {
    let (upstream, heads) = upstream();
    let start = |options: &[&str]| Run::guest("probe").http().args(options).start();
    let asks = |server: &Server, target: &str| server.connect_http().fetch(target);
    let port = upstream.address.port();
    let direct = format!("/forward?host=127.0.0.1&port={port}&target=/x");

    let server = start(&[]);
    assert_eq!(asks(&server, "/forward?to=api").status, 502);
    server
        .log
        .wait_for(&["'api' is not allowed; --upstream api=HOST:PORT would allow it"]);
    assert_eq!(asks(&server, &direct).status, 502);
    let flag = format!("--allow-connect 127.0.0.1:{port} would allow it");
    server.log.wait_for(&[&flag]);
    server.stop();

    let server = start(&["--upstream", &named("api", &[&upstream])]);
    asks(&server, "/forward?to=api&target=/y").is(200, "0 bytes");
    assert!(next(&heads).starts_with("GET /y "));
    // The group's servers are no destination of their own.
    assert_eq!(asks(&server, &direct).status, 502);
    server.stop();

    let server = start(&["--allow-connect", &format!("127.0.0.1:{port}")]);
    asks(&server, &direct).is(200, "0 bytes");
    assert!(next(&heads).starts_with("GET /x "));
    server.stop();
}

#[test]
fn requests_go_round_and_past_a_server_that_is_down() {
    let (one, of_one) = upstream();
    let (other, of_other) = upstream();
    let (dead_address, _dead) = refusing();
    let group = format!(
        "{},{dead_address};max-fails=1",
        named("site", &[&one, &other])
    );
    let server = gateway(&[group], &["/=site"]).start();
    let mut peer = server.connect_http();
    for _ in 0..20 {
        peer.fetch("/").is(200, "0 bytes");
    }
    let counts = (of_one.try_iter().count(), of_other.try_iter().count());
    assert!(counts.0 >= 9 && counts.1 >= 9, "{counts:?}");
    server
        .log
        .wait_for(&["gets no requests", &dead_address.to_string()]);
    drop(peer);
    server.stop();
}

#[test]
fn a_connection_that_changes_its_protocol_is_relayed() {
    let upstream = Upstream::new(|mut asker, _| {
        let head = asker.head().expect("a request");
        assert!(
            head.contains("Upgrade: echo\r\nConnection: Upgrade\r\n"),
            "{head}"
        );
        asker.say("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-A: 1\r\n\r\nhi");
        let taken = asker.take(5);
        asker.say(format!("{taken}"));
        assert_eq!(asker.rest(), b"end");
        asker.say("over");
    });
    let server = gateway(&[named("site", &[&upstream])], &["/=site"]).start();
    let mut peer = server.connect_http();
    let request = message("GET", "/", &["Connection: Upgrade", "Upgrade: echo"]);
    peer.send(request.as_bytes());
    assert_eq!(peer.whole_line(), "HTTP/1.1 101 Switching Protocols\r\n");
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        lines += &peer.whole_line();
    }
    assert!(lines.contains("Upgrade: echo\r\n"), "{lines}");
    assert!(lines.contains("x-a: 1\r\n"), "{lines}");
    assert_eq!(peer.take(2), b"hi");
    peer.send(b"hello");
    assert_eq!(peer.take(1), b"5");
    peer.send(b"end");
    peer.finish();
    assert_eq!(peer.rest(), b"over");
    drop(peer);
    server.stop();
}

#[test]
fn a_group_is_named_in_a_configuration() {
    let (upstream, heads) = upstream();
    let scratch = directory();
    let text = format!(
        "component = {:?}\nhttp = \"127.0.0.1:0\"\nargs = [\"/=site\"]\n\
         upstream = {{ site = {:?} }}\n",
        text(&harness::guest("gateway")),
        upstream.address.to_string()
    );
    let file = harness::write(scratch.path(), "netwasm.toml", text);
    let server = Run::config(&file, 1).start();
    server.connect_http().fetch("/c").is(200, "0 bytes");
    assert!(next(&heads).starts_with("GET /c "));
    server.stop();
}

#[test]
fn a_large_response_passes_with_a_slow_client() {
    const SIZE: usize = 30 << 20;
    let upstream = Upstream::new(|mut asker, _| {
        while asker.head().is_some() {
            asker.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
            asker.say(pattern(SIZE));
        }
    });
    let server = gateway(&[named("site", &[&upstream])], &["/=site"]).start();
    let mut peer = server.connect_http();
    for _ in 0..2 {
        let answer = peer.fetch("/");
        harness::same(&answer.body, &pattern(SIZE));
    }
    let mut client = Http2::connect(server.address("http"));
    let mut slow = client.begin(ask("GET", "/"), true).expect("a stream");
    slow.1.send_reset(h2::Reason::CANCEL);
    let answer = client.fetch("/");
    harness::same(&answer.body, &pattern(SIZE));
    assert!(server.resident() < 200 << 20, "{}", server.resident());
    drop((peer, client));
    server.stop();
}

#[test]
fn clients_of_both_versions_share_a_connection_to_a_server_of_http2() {
    let upstream = http2_upstream();
    let group = format!("site=h2c://{}", upstream.address);
    let server = gateway(&[group], &["/=site"])
        .args(["--max-body", "64MiB", "--workers", "1"])
        .start();
    let mut peer = server.connect_http();
    let expected = "GET http://localhost/x?y=%20 0";
    peer.fetch("/x?y=%20").is(200, expected);
    let body = pattern(20 << 20);
    let expected = "POST http://localhost/ 20971520";
    peer.exchange(post("/", &body)).is(200, expected);
    let echoed = peer.exchange(post("/echo", &body)).body;
    let rest = echoed.strip_prefix(&*body).expect("the body");
    assert_eq!(rest, b"POST http://localhost/echo 20971520\n");
    let chunks = [
        message(
            "POST",
            "/",
            &[
                "TE: trailers",
                "Connection: TE",
                "Transfer-Encoding: chunked",
            ],
        )
        .into_bytes(),
        b"5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n".to_vec(),
    ];
    let answer = peer.exchange(chunks.concat());
    assert_eq!(answer.header("x-te"), Some("yes"));
    answer.is(200, "POST http://localhost/ 5");
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/2").is(200, "GET http://localhost/2 0");
    assert!(server.resident() < 200 << 20, "{}", server.resident());
    assert_eq!(upstream.connections(), 1);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_handler_that_has_waited_forwards() {
    let (upstream, heads) = upstream();
    let address = http2_upstream().address;
    let groups = [named("api", &[&upstream]), format!("new=h2c://{address}")];
    let server = Run::guest("probe")
        .http()
        .args(groups.iter().flat_map(|it| ["--upstream", it]))
        .start();
    let mut peer = server.connect_http();
    peer.exchange(post("/forward?to=api&target=/y&ms=1", b"hello"))
        .is(200, "5 bytes");
    assert!(next(&heads).starts_with("POST /y "));
    let expected = "POST http://localhost/z 5";
    peer.exchange(post("/forward?to=new&target=/z&ms=1", b"hello"))
        .is(200, expected);
    assert_eq!(peer.fetch("/forward?to=nowhere&ms=1").status, 502);
    server
        .log
        .wait_for(&["'nowhere' is not allowed; --upstream nowhere=HOST:PORT would allow it"]);
    let port = address.port();
    drop(peer);
    server.stop();
    let server = Run::guest("probe")
        .http()
        .args(["--allow-connect", &format!("127.0.0.1:{port}")])
        .start();
    let target = format!("/forward?host=127.0.0.1&port={port}&http=2&target=/w");
    let expected = "GET http://localhost/w 0";
    server.connect_http().fetch(&target).is(200, expected);
    server.stop();
}
