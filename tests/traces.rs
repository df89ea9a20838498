//! Traces of HTTP requests: W3C Trace Context, and spans by OTLP (`--otlp`).

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::http2;
use crate::harness::{
    self, CollectedSpan, Collector, Configured, DEADLINE, Http2, Run, SecureUpstream, Server,
    Upstream, admin_of, administered, ask_admin, cert, directory, eventually, guest, message,
    reload, replaced, scrape, text, within,
};

pub(crate) const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const CLIENT: &str = "b7ad6b7169203331";

/// The headers of a client that traces.
pub(crate) fn traced(sampled: bool) -> String {
    let flags = u8::from(sampled);
    format!("traceparent: 00-{TRACE}-{CLIENT}-{flags:02x}")
}

/// Starts a server that answers all with 404. Returns it, and the heads of its
/// requests.
pub(crate) fn refusing() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&heads);
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            kept.lock().expect("no panic").push(head);
            asker.say("HTTP/1.1 404 X\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    (upstream, heads)
}

pub(crate) fn exporting(run: Run, collector: &Collector) -> Run {
    run.args(["--otlp", &collector.url()])
}

pub(crate) fn ask(server: &Server, target: &str, lines: &[&str]) -> String {
    let response = server
        .connect_http()
        .exchange(message("GET", target, lines));
    response.text().to_owned()
}

#[track_caller]
pub(crate) fn has(span: &CollectedSpan, key: &str, value: &str) {
    let found = span.attributes.get(key).map(String::as_str);
    assert_eq!(found, Some(value), "{key} of {span:#?}");
}

#[test]
fn a_request_is_a_span_within_its_clients() {
    let collector = Collector::new();
    let server = exporting(Run::guest("probe").http(), &collector).start();
    let own = traced(true);
    let lines = [own.as_str(), "tracestate: a=b,c=d", "User-Agent: test/1"];
    let seen = ask(&server, "/header?name=traceparent", &lines);
    let state = ask(&server, "/header?name=tracestate", &lines);
    assert_eq!(state, "a=b,c=d 1 a=b,c=d");
    let headers = ask(&server, "/headers", &lines);
    assert_eq!(headers.matches(TRACE).count(), 1, "{headers}");
    assert!(!headers.contains(CLIENT), "{headers}");
    ask(&server, "/trap", &[]);
    let mut client = Http2::connect(server.address("http"));
    let mut request = http2::ask("GET", "/header?name=traceparent");
    let parent = own.split_once(": ").expect("a value").1;
    let value = parent.parse().expect("a value");
    request.headers_mut().insert("traceparent", value);
    let seen_2 = client.exchange(request, b"");

    let spans = collector.wait_for(5);
    let of = |seen: &str| {
        let mut parts = seen.split(['-', ' ']);
        let id = parts.nth(2).expect("a span").to_owned();
        let found = spans.iter().find(|span| span.id == id);
        found
            .unwrap_or_else(|| panic!("{id} in {spans:#?}"))
            .clone()
    };
    let span = of(&seen);
    assert!(
        seen.starts_with(&format!("00-{TRACE}-{}-01 1 ", span.id)),
        "{seen}"
    );
    assert_eq!((&*span.trace, &*span.parent), (TRACE, CLIENT));
    assert_eq!((&*span.service, &*span.state), ("probe", "a=b,c=d"));
    assert_eq!((&*span.name, span.kind, span.failed), ("GET", 2, false));
    let (begun, ended) = span.times;
    assert!(
        begun > 1_600_000_000_000_000_000 && begun < ended,
        "{span:#?}"
    );
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.path", "/header"),
        ("url.query", "name=traceparent"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("user_agent.original", "test/1"),
        ("client.address", "127.0.0.1"),
    ] {
        has(&span, key, value);
    }
    let guest: f64 = span.attributes["netwasm.guest.duration"]
        .parse()
        .expect("a number");
    assert!(guest > 0.0, "{span:#?}");
    let span = of(seen_2.text());
    has(&span, "network.protocol.version", "2");
    assert_eq!((&*span.trace, &*span.parent), (TRACE, CLIENT));
    let trapped: Vec<_> = spans.iter().filter(|span| span.failed).collect();
    assert_eq!(trapped.len(), 1, "{spans:#?}");
    assert!(trapped[0].parent.is_empty() && trapped[0].trace != TRACE);
    has(trapped[0], "error.type", "500");
    server.stop();
}

#[test]
fn what_a_guest_asks_others_is_within_its_request() {
    for guest in ["outgoing-probe", "client-probe"] {
        let collector = Collector::new();
        let (upstream, heads) = refusing();
        let run = Run::guest(guest).http();
        let run = run.args(["--allow-connect", "127.0.0.1:*"]);
        let server = exporting(run, &collector).start();
        let target = format!("/get?{}", upstream.url("/a"));
        ask(&server, &target, &[&traced(true), "tracestate: a=b"]);
        let spans = collector.wait_for(2);
        let of = |kind| {
            let found = spans.iter().find(|span| span.kind == kind);
            found.unwrap_or_else(|| panic!("{guest}: {spans:#?}"))
        };
        let (own, sent) = (of(2), of(3));
        assert_eq!((&*sent.trace, &sent.parent), (TRACE, &own.id));
        assert_eq!((&*own.parent, &*sent.state), (CLIENT, "a=b"));
        let heads = heads.lock().expect("no panic").clone();
        let parent = format!("\r\ntraceparent: 00-{TRACE}-{}-01\r\n", sent.id);
        assert_eq!(heads.len(), 1, "{heads:?}");
        assert!(heads[0].to_ascii_lowercase().contains(&parent), "{heads:?}");
        assert!(heads[0].contains("\r\ntracestate: a=b\r\n"), "{heads:?}");
        has(sent, "http.response.status_code", "404");
        has(sent, "error.type", "404");
        has(sent, "server.port", &upstream.address.port().to_string());
        let seconds = |key: &str| -> f64 {
            let text = own.attributes.get(key);
            let text = text.unwrap_or_else(|| panic!("{guest}: no {key}: {own:#?}"));
            text.parse().expect("a number")
        };
        let upstream_time = seconds("netwasm.upstream.duration");
        assert!(upstream_time > 0.0, "{own:#?}");
        let guest_time = seconds("netwasm.guest.duration");
        assert!(guest_time > 0.0, "{own:#?}");
        server.stop();
    }
}

#[test]
fn each_attempt_at_a_server_is_within_its_request() {
    let collector = Collector::new();
    let (upstream, heads) = refusing();
    let (dead_address, _dead) = harness::refusing();
    let group = format!("site={dead_address},{}", upstream.address);
    let run = Run::guest("gateway").http().guest_args(&["/=site"]);
    let run = run.args(["--upstream", &group, "--workers", "1"]);
    let server = exporting(run, &collector).start();
    let lines = [&*traced(true), "tracestate: a=b"];
    let response = server
        .connect_http()
        .exchange(message("GET", "/x?y", &lines));
    assert_eq!(response.status, 404);
    let spans = collector.wait_for(3);
    let own = spans.iter().find(|span| span.kind == 2).expect("its own");
    let sent: Vec<_> = spans.iter().filter(|span| span.kind == 3).collect();
    let (failed, answered): (Vec<_>, Vec<_>) = sent
        .into_iter()
        .partition(|span| !span.attributes.contains_key("http.response.status_code"));
    let ([failed], [answered]) = (&*failed, &*answered) else {
        panic!("two attempts: {spans:#?}");
    };
    for span in [failed, answered] {
        assert_eq!((&*span.trace, &span.parent), (TRACE, &own.id));
        assert_eq!((&*span.name, span.failed), ("GET", true));
    }
    has(failed, "error.type", "connect");
    has(failed, "server.port", &dead_address.port().to_string());
    has(answered, "http.response.status_code", "404");
    has(answered, "http.request.resend_count", "1");
    has(answered, "server.address", "127.0.0.1");
    has(answered, "url.full", &upstream.url("/x?y"));
    let heads = heads.lock().expect("no panic").clone();
    let parent = format!("\r\ntraceparent: 00-{TRACE}-{}-01\r\n", answered.id);
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].contains(&parent), "{heads:?}");
    assert_eq!(heads[0].matches("traceparent").count(), 1, "{heads:?}");
    assert!(heads[0].contains("\r\ntracestate: a=b\r\n"), "{heads:?}");
    server.stop();
}

#[test]
fn a_client_decides_what_is_sampled_and_else_the_ratio() {
    let collector = Collector::new();
    let run = Run::guest("probe").http();
    let run = run.args(["--otlp-sample", "0"]);
    let run = run.args(["--access-log-format", "$uri $trace_id $span_id"]);
    let log = directory();
    let path = log.path().join("access.log");
    let run = run.args(["--access-log", text(&path)]);
    let server = exporting(run, &collector).start();
    ask(&server, "/header?name=traceparent", &[&traced(false)]);
    let own = ask(&server, "/header?name=traceparent", &[]);
    let (own, _) = own.split_once(' ').expect("a value");
    assert!(own.starts_with("00-") && own.ends_with("-00"), "{own}");
    ask(&server, "/count", &[&traced(true)]);
    let span = collector.wait_for(1).remove(0);
    assert_eq!(&*span.trace, TRACE);
    let lines = eventually("the lines", || {
        let lines = fs::read_to_string(&path).ok()?;
        (lines.lines().count() == 3).then_some(lines)
    });
    let ids: Vec<_> = own.split('-').collect();
    assert!(
        lines.contains(&format!("/header {} {}\n", ids[1], ids[2])),
        "{lines}"
    );
    assert!(
        lines.contains(&format!("/count {TRACE} {}\n", span.id)),
        "{lines}"
    );
    server.stop();
    assert_eq!(collector.spans().len(), 1);
}

#[test]
fn a_receiver_that_fails_holds_up_nobody() {
    let collector = Collector::answering(&[503, 400]);
    let run = exporting(Run::guest("probe").http(), &collector);
    let (server, admin) = administered(run);
    // The first is sent again, and refused for good then.
    ask(&server, "/count", &[]);
    server
        .log
        .wait_for(&["traces are lost", "it answers 400", "--otlp"]);
    ask(&server, "/count", &[]);
    collector.wait_for(1);
    server.log.wait_for(&["takes traces again"]);
    let counts = scrape(admin);
    let of = |result: &str| counts[&format!("netwasm_trace_spans_total{{result=\"{result}\"}}")];
    assert_eq!((of("sent"), of("failed"), of("dropped")), (1.0, 1.0, 0.0));
    server.stop();
}

#[test]
fn a_receiver_that_is_not_there_costs_no_request_and_no_end() {
    let (address, _gone) = harness::refusing();
    let run = Run::guest("probe").http();
    let mut server = run
        .args(["--otlp", &format!("http://{address}/v1/traces")])
        .start();
    for _ in 0..10 {
        assert_eq!(server.connect_http().fetch("/count").status, 200);
    }
    server.signal(Signal::TERM);
    within(Duration::from_secs(20), "the end", || {
        server.has_ended().then_some(())
    });
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn spans_that_a_receiver_rejects_are_told_and_counted() {
    let rejecting = Upstream::new(|mut asker, _| {
        while let Some(head) = asker.head() {
            let head = head.to_ascii_lowercase();
            let length = head.split("\r\ncontent-length: ").nth(1);
            let length = length.and_then(|it| it.split("\r\n").next());
            let length = length.and_then(|it| it.parse().ok());
            asker.receive(length.expect("a length"));
            // One is rejected: `ExportTracePartialSuccess` of OTLP.
            asker.say("HTTP/1.1 200 X\r\nContent-Length: 13\r\n\r\n");
            asker.say("\u{a}\u{b}\u{8}\u{1}\u{12}\u{7}no room");
        }
    });
    let run = Run::guest("probe").http();
    let run = run.args(["--otlp", &rejecting.url("/v1/traces")]);
    let (server, admin) = administered(run);
    ask(&server, "/count", &[]);
    server.log.wait_for(&["some traces are lost", "no room"]);
    let counts = scrape(admin);
    let of = |result: &str| counts[&format!("netwasm_trace_spans_total{{result=\"{result}\"}}")];
    assert_eq!((of("sent"), of("failed"), of("dropped")), (0.0, 1.0, 0.0));
    server.stop();
}

/// Starts a receiver that first answers with this head, and then with 200. It tells of
/// each request when it has come.
fn pausing(head: &'static str) -> (Upstream, mpsc::Receiver<Instant>) {
    let (come, requests) = mpsc::channel();
    let is_first = AtomicBool::new(true);
    let upstream = Upstream::new(move |mut asker, _| {
        while let Some(asked) = asker.head() {
            let asked = asked.to_ascii_lowercase();
            let length = asked.split("\r\ncontent-length: ").nth(1);
            let length = length.and_then(|it| it.split("\r\n").next());
            asker.receive(length.and_then(|it| it.parse().ok()).expect("a length"));
            // Nobody may listen at the end.
            let _ = come.send(Instant::now());
            asker.say(match is_first.swap(false, Ordering::Relaxed) {
                true => head,
                false => "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n",
            });
        }
    });
    (upstream, requests)
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it() {
    let (receiver, requests) =
        pausing("HTTP/1.1 429 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n");
    let run = Run::guest("probe").http();
    let run = run.args(["--otlp", &receiver.url("/v1/traces")]);
    let (server, admin) = administered(run);
    ask(&server, "/count", &[]);
    let next = || requests.recv_timeout(DEADLINE).expect("a request");
    let (first, second) = (next(), next());
    // Without the field, it would be half a second.
    let pause = second - first;
    assert!(pause >= Duration::from_millis(1900), "{pause:?}");
    let counts = eventually("it is taken", || {
        let counts = scrape(admin);
        let sent = counts["netwasm_trace_spans_total{result=\"sent\"}"];
        (sent > 0.0).then_some(counts)
    });
    assert!(counts["netwasm_trace_spans_total{result=\"failed\"}"] < 1.0);
    server.stop();
}

#[test]
fn a_pause_that_a_receiver_asks_for_does_not_delay_the_end() {
    let (receiver, requests) =
        pausing("HTTP/1.1 503 X\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n");
    let run = Run::guest("probe").http();
    let run = run.args(["--otlp", &receiver.url("/v1/traces")]);
    let server = run.start();
    ask(&server, "/count", &[]);
    let next = || requests.recv_timeout(DEADLINE).expect("a request");
    next();
    server.stop();
    // The last attempt, for which the end waits.
    next();
}

#[test]
fn spans_that_find_no_room_are_told_of() {
    // It takes a request, and never answers.
    let silent = Upstream::new(|mut asker, _| {
        asker.head();
        loop {
            std::thread::park();
        }
    });
    let run = Run::guest("probe").http();
    let run = run.args(["--otlp", &silent.url("/v1/traces")]);
    let (server, admin) = administered(run);
    let mut peer = server.connect_http();
    for _ in 0..6 {
        peer.send(message("GET", "/count", &[]).repeat(1000).as_bytes());
        for _ in 0..1000 {
            assert_eq!(peer.response().status, 200);
        }
    }
    server.log.wait_for(&["more of it than its receiver takes"]);
    let counts = scrape(admin);
    assert!(counts["netwasm_trace_spans_total{result=\"dropped\"}"] > 0.0);
    drop(peer);
    server.stop();
}

#[test]
fn spans_that_wait_are_sent_at_the_end() {
    let collector = Collector::new();
    let server = exporting(Run::guest("probe").http(), &collector).start();
    let mut peer = server.connect_http();
    for _ in 0..100 {
        assert_eq!(peer.fetch("/count").status, 200);
    }
    drop(peer);
    server.stop();
    assert_eq!(collector.spans().len(), 100);
}

#[test]
fn a_receiver_by_https_is_verified_with_the_authorities_of_ca() {
    let asked = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let kept = Arc::clone(&asked);
    let upstream = SecureUpstream::new(&["http/1.1"], move |mut stream| {
        let kept = Arc::clone(&kept);
        async move {
            let mut buffer = vec![0; 64 << 10];
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            buffer.truncate(count);
            kept.lock().expect("no panic").push(buffer);
            let answer = b"HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let url = upstream.url("");
    let run = Run::guest("probe").http().args(["--otlp", &url]);
    let server = run.args(["--ca", text(&cert("ca.pem"))]).start();
    assert_eq!(server.connect_http().fetch("/count").status, 200);
    eventually("a batch", || {
        let asked = asked.lock().expect("no panic");
        let first = asked.first()?;
        assert!(first.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
        Some(())
    });
    server.stop();
    let server = Run::guest("probe").http().args(["--otlp", &url]).start();
    assert_eq!(server.connect_http().fetch("/count").status, 200);
    server.log.wait_for(&["traces are lost"]);
    server.stop();
}

#[test]
fn without_a_receiver_a_traceparent_passes_through() {
    let server = Run::guest("probe").http().start();
    let own = traced(true);
    let (_, value) = own.split_once(": ").expect("a value");
    let seen = ask(&server, "/header?name=traceparent", &[&own]);
    assert_eq!(seen, format!("{value} 1 {value}"));
    assert_eq!(ask(&server, "/header?name=traceparent", &[]), "- 0 -");
    server.stop();
}

#[test]
fn flags_of_traces_are_checked() {
    for (flag, value, told) in [
        ("--otlp", "localhost:4318", "http://localhost:4318"),
        ("--otlp", "ftp://a", "http://localhost:4318"),
        ("--otlp", "http://a:b@c", "without a user"),
        ("--otlp-sample", "2", "from 0 to 1"),
        ("--otlp-sample", "x", "from 0 to 1"),
    ] {
        let run = Run::guest("echo").args(["--tcp", "0", flag, value]);
        run.output().refused(2, &[flag, told]);
    }
}

#[test]
fn headers_go_to_the_receiver_and_nowhere_else() {
    let collector = Collector::new();
    let settings = Configured::new();
    fs::write(settings.at("key"), "hunter2\n").expect("a file");
    let content = format!(
        "admin = \"127.0.0.1:0\"\notlp = {:?}\n\
         otlp-header = {{ Authorization = {{ file = {:?} }}, X-Tenant = \"one two\" }}\n\
         [services.probe]\ncomponent = {:?}\nhttp = \"127.0.0.1:0\"\n",
        collector.url(),
        settings.at("key"),
        guest("probe"),
    );
    let server = settings.start(content, 1);
    ask(&server, "/count", &[]);
    collector.wait_for(1);
    let head = collector.heads().remove(0).to_ascii_lowercase();
    assert!(head.contains("\r\nauthorization: hunter2\r\n"), "{head}");
    assert!(head.contains("\r\nx-tenant: one two\r\n"), "{head}");
    let shown = ask_admin(admin_of(&server), "/config");
    assert!(shown.text().contains("otlp-header = "), "{shown:?}");
    assert!(!shown.text().contains("one two"), "{shown:?}");
    // A reload reads them again.
    fs::write(settings.at("key"), "hunter23\n").expect("a file");
    replaced(&reload(&server), "");
    ask(&server, "/count", &[]);
    collector.wait_for(2);
    let head = collector.heads().pop().expect("a head");
    assert!(head.contains(": hunter23\r\n"), "{head}");
    assert_eq!(server.log.count("needs a restart"), 0);
    let log = server.log.clone();
    server.stop();
    assert_eq!(log.count("hunter2") + log.count("one two"), 0);
}
