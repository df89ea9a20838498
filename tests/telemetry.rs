//! Telemetry of guests: `wasi:otel`, to the receiver of `--otlp`.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::harness::http2;
use crate::harness::{
    CollectedSpan, Collector, DEADLINE, Http2, Point, Run, Server, Upstream, administered,
    eventually, guest, scrape, text,
};
use crate::traces::{CLIENT, TRACE, ask, exporting, has, refusing, traced};

/// Number of a span, as the library for Rust writes it, and as it is.
const GIVEN: &str = "f067aa0ba902b8";
const SPAN: &str = "00f067aa0ba902b8";

/// Guests that do what words say, and the beginning of a target with words: of
/// `wasi:http` 0.2 and 0.3, and of events.
const GUESTS: [(&str, &str); 3] = [
    ("std-probe", "/otel/"),
    ("client-probe", "/otel?"),
    ("std-events", "/otel/"),
];

/// Lets the guest `std-probe` do what words say.
fn tell(server: &Server, words: &str) -> String {
    ask(server, &format!("/otel/{words}"), &[])
}

#[track_caller]
fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> &'a CollectedSpan {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

#[test]
fn spans_of_guests_are_within_the_request() {
    for (guest, words) in GUESTS {
        let collector = Collector::new();
        let server = exporting(Run::guest(guest).http(), &collector).start();
        let lines = [&*traced(true), "tracestate: a=b,c=d"];
        let outer = ask(&server, &format!("{words}outer"), &lines);
        let told: Vec<&str> = outer.split(' ').collect();
        let [trace, own, "true", "[a=b,c=d]", innermost] = *told else {
            panic!("{guest}: {outer}");
        };
        assert_eq!((trace, innermost), (TRACE, own), "{guest}");
        let within = ask(&server, &format!("{words}span/{GIVEN}/work"), &lines);
        let (innermost, after) = within.split_once(' ').expect("two spans");
        assert_eq!(innermost, SPAN, "{guest}");

        let spans = collector.wait_for(3);
        for id in [own, after] {
            let request = spans.iter().find(|span| span.id == id);
            let request = request.unwrap_or_else(|| panic!("no {id} in {spans:#?}"));
            assert_eq!((&*request.parent, request.kind), (CLIENT, 2), "{guest}");
        }
        let span = named(&spans, "work");
        assert_eq!((&*span.trace, &*span.id), (TRACE, SPAN));
        assert_eq!((&*span.parent, &*span.state), (after, "a=b,c=d"));
        assert_eq!((&*span.service, span.kind), (guest, 4));
        assert_eq!(span.times, (1_000_000_005, 3_000_000_005));
        assert_eq!(span.scope, "probe-scope 1.2 s=t");
        assert!(span.failed && span.message == "broken", "{span:#?}");
        for (key, value) in [
            ("text", "a\tb"),
            ("truth", "true"),
            ("whole", "-7"),
            ("number", "1.5"),
            ("bytes", "0102"),
            ("list", "[1,b]"),
            ("map", "{k:1}"),
        ] {
            has(span, key, value);
        }
        let [event] = &*span.events else {
            panic!("{span:#?}");
        };
        assert_eq!((&*event.name, event.time), ("happened", 2_000_000_005));
        assert_eq!(event.attributes["n"], "1");
        let link = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(span.links, [(link.0.to_owned(), link.1.to_owned())]);
        assert_eq!(span.dropped, [0; 3]);
        server.stop();
    }
}

#[test]
fn what_a_guest_asks_others_is_within_its_own_span() {
    let collector = Collector::new();
    let (upstream, heads) = refusing();
    let run = Run::guest("client-probe").http();
    let run = run.args(["--allow-connect", "127.0.0.1:*"]);
    let server = exporting(run, &collector).start();
    let target = format!("/get-within?{}", upstream.url("/a"));
    ask(&server, &target, &[&traced(true)]);
    let spans = collector.wait_for(3);
    let of = |kind| {
        let found = spans.iter().find(|span| span.kind == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {spans:#?}"))
    };
    let (request, own, sent) = (of(2), named(&spans, "asking"), of(3));
    assert_eq!((&*own.trace, &own.parent), (TRACE, &request.id));
    assert_eq!((&*sent.trace, &sent.parent), (TRACE, &own.id));
    let heads = heads.lock().expect("no panic").clone();
    let parent = format!("\r\ntraceparent: 00-{TRACE}-{}-01\r\n", sent.id);
    assert!(heads[0].to_ascii_lowercase().contains(&parent), "{heads:?}");
    server.stop();
}

#[test]
fn requests_that_an_instance_handles_at_once_have_their_own_spans() {
    let collector = Collector::new();
    let (go_on, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Upstream::new(move |mut asker, _| {
        while asker.head().is_some() {
            let held = held.lock().expect("no panic");
            held.recv_timeout(DEADLINE).expect("to go on");
            asker.say("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    let run = Run::guest("client-probe").http();
    let run = run.args([
        "--allow-connect",
        "127.0.0.1:*",
        "--isolation",
        "connection",
    ]);
    let server = exporting(run, &collector).start();
    let mut client = Http2::connect(server.address("http"));
    let target = format!("/get-within?{}", upstream.url("/a"));
    let begun = client.begin(http2::ask("GET", &target), true);
    let (first, _) = begun.expect("a stream");
    client.settle();
    eventually("the guest's request", || {
        (upstream.connections() > 0).then_some(())
    });
    let outer = client.fetch("/otel?outer");
    let told: Vec<&str> = outer.text().split(' ').collect();
    let [trace, span, "true", "[]", innermost] = *told else {
        panic!("{outer:?}");
    };
    // The span that the other request has begun is not within this one.
    assert_eq!(innermost, span, "{outer:?}");
    go_on.send(()).expect("it waits");
    let answer = client.run(http2::read(first)).expect("an answer");
    assert_eq!(answer.status, 200);
    drop(client);

    let spans = collector.wait_for(4);
    let own = named(&spans, "asking");
    let of = |id: &str| {
        let found = spans.iter().find(|it| it.id == id);
        found.unwrap_or_else(|| panic!("no {id} in {spans:#?}"))
    };
    assert_eq!(of(span).trace, trace);
    let request = of(&own.parent);
    assert_eq!((&*request.trace, request.kind), (&*own.trace, 2));
    assert_ne!(own.trace, trace);
    server.stop();
}

#[test]
fn of_a_request_that_is_not_sampled_there_are_records_and_no_spans() {
    for (guest, words) in GUESTS {
        check_unsampled(guest, words);
    }
}

fn check_unsampled(guest: &str, words: &str) {
    let collector = Collector::new();
    let server = exporting(Run::guest(guest).http(), &collector).start();
    let lines = [&*traced(false)];
    let outer = ask(&server, &format!("{words}outer"), &lines);
    assert!(
        outer.starts_with(TRACE) && outer.contains(" false "),
        "{outer}"
    );
    // The guest says that its span is sampled, and the request is not.
    ask(&server, &format!("{words}span/{GIVEN}/work"), &lines);
    ask(&server, &format!("{words}log/hello"), &lines);
    let record = collector.wait_for_logs(1).remove(0);
    assert_eq!(record.trace, TRACE);
    server.stop();
    assert_eq!(collector.spans().len(), 0, "{guest}");
}

#[test]
fn a_receiver_that_wants_a_pause_of_logs_gets_the_other_kinds() {
    let (come, requests) = mpsc::channel();
    let receiver = Upstream::new(move |mut asker, _| {
        while let Some(head) = asker.head() {
            let lower = head.to_ascii_lowercase();
            let length = lower.split("\r\ncontent-length: ").nth(1);
            let length = length.and_then(|it| it.split("\r\n").next());
            asker.receive(length.and_then(|it| it.parse().ok()).expect("a length"));
            let has_logs = head.starts_with("POST /v1/logs ");
            // Nobody may listen at the end.
            let _ = come.send(has_logs);
            asker.say(match has_logs {
                true => "HTTP/1.1 429 X\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n",
                false => "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n",
            });
        }
    });
    let run = Run::guest("std-probe").http();
    let server = run.args(["--otlp", &receiver.url("/v1/traces")]).start();
    // The pause would be of 30 s.
    let wait = || requests.recv_timeout(Duration::from_secs(20));
    assert_eq!(tell(&server, "log/hello"), "logged");
    while !wait().expect("a request with logs") {}
    tell(&server, "outer");
    while wait().expect("a request with spans") {}
    server.stop();
}

#[test]
fn records_and_metrics_are_the_services_whatever_they_say() {
    let collector = Collector::new();
    let server = exporting(Run::guest("std-probe").http(), &collector).start();
    assert_eq!(ask(&server, "/otel/log/hello", &[&traced(true)]), "logged");
    assert_eq!(tell(&server, "metrics/m"), "Ok(())");
    let record = collector.wait_for_logs(1).remove(0);
    assert_eq!((&*record.service, &*record.body), ("std-probe", "hello"));
    assert_eq!(record.scope, "probe-scope 1.2 s=t");
    assert_eq!(record.severity, (13, "warning".to_owned()));
    assert_eq!((&*record.event, record.times.0), ("event", 1_000_000_005));
    assert!(record.times.1 > 1_600_000_000_000_000_000, "{record:?}");
    assert_eq!(record.attributes["k"], "v");
    // It names no span, and so it is in that of the request.
    let spans = collector.wait_for(2);
    let request = spans.iter().find(|span| span.trace == TRACE);
    assert_eq!(record.trace, TRACE);
    assert_eq!(record.span, request.expect("its span").id);

    let metrics = collector.wait_for_metrics(4);
    for metric in &metrics {
        assert_eq!(metric.service, "std-probe");
        assert_eq!(metric.scope, "probe-scope 1.2 s=t");
        assert_eq!(metric.about, ("about".to_owned(), "By".to_owned()));
        match (&*metric.name, &metric.point) {
            ("m.gauge", Point::Gauge(gauge)) => {
                let point = &gauge.points[0];
                assert_eq!((point.number, point.whole), (Some(1.5), None));
                assert_eq!((point.start, point.time), (0, 3_000_000_005));
            }
            ("m.sum", Point::Sum(sum)) => {
                let point = &sum.points[0];
                assert_eq!((point.number, point.whole), (None, Some(7)));
                assert_eq!((sum.temporality, sum.is_monotonic), (2, true));
                assert_eq!(point.start, 1_000_000_005);
                let exemplar = &point.exemplars[0];
                assert_eq!(exemplar.number, Some(0.5));
                assert_eq!(exemplar.span_id[..3], [0, 0xf0, 0x67]);
            }
            ("m.histogram", Point::Histogram(histogram)) => {
                let point = &histogram.points[0];
                assert_eq!((point.count, point.sum), (3, Some(9.0)));
                assert_eq!(point.counts, [1, 0, 2]);
                assert_eq!(point.bounds, [1.0, 2.0]);
                assert_eq!((point.min, point.max), (Some(-1.0), None));
                assert_eq!(histogram.temporality, 1);
            }
            ("m.exponential", Point::Exponential(histogram)) => {
                let point = &histogram.points[0];
                assert_eq!((point.scale, point.zeros), (-2, 1));
                let positive = point.positive.as_ref().expect("buckets");
                assert_eq!((positive.offset, &*positive.counts), (-3, &[1, 2][..]));
                assert_eq!(point.threshold, 0.25);
            }
            other => panic!("{other:?}"),
        }
    }
    server.stop();
}

#[test]
fn a_report_that_is_too_large_is_cut_or_counted() {
    let collector = Collector::new();
    let run = exporting(Run::guest("std-probe").http(), &collector);
    let (server, admin) = administered(run);
    tell(&server, &format!("many/{GIVEN}/200"));
    let spans = collector.wait_for(2);
    let span = named(&spans, "many");
    assert_eq!((span.attributes.len(), span.events.len()), (128, 128));
    // The guest has dropped some already.
    assert_eq!(span.dropped, [1 + 72, 72, 2]);
    // The first ones use the room up.
    let attributes = |event: usize| span.events[event].attributes.len();
    assert_eq!((attributes(0), attributes(127)), (128, 0));
    tell(&server, &format!("long/{GIVEN}/100000"));
    let spans = collector.wait_for(4);
    let span = spans.iter().find(|span| span.name.starts_with("xx"));
    let span = span.unwrap_or_else(|| panic!("{spans:#?}"));
    assert_eq!((span.name.len(), span.message.len()), (4 << 10, 16 << 10));
    tell(&server, "long-log/100000");
    let record = collector.wait_for_logs(1).remove(0);
    assert!(record.body.bytes().all(|byte| byte == b'x'), "{record:?}");
    assert!(record.body.len() > 60 << 10, "{}", record.body.len());
    let said = tell(&server, "long-metric/600000");
    assert!(said.contains("more than 512 KiB"), "{said}");
    let counts = scrape(admin);
    let dropped = counts["netwasm_trace_spans_total{result=\"dropped\"}"];
    assert_eq!(dropped, 1.0, "the metrics");
    server.stop();
}

#[test]
fn without_a_receiver_calls_are_accepted_and_do_nothing() {
    for (guest, words) in GUESTS {
        let server = Run::guest(guest).http().start();
        let lines = [&*traced(true)];
        let (trace, span) = ("0".repeat(32), "0".repeat(16));
        let outer = ask(&server, &format!("{words}outer"), &lines);
        assert_eq!(outer, format!("{trace} {span} false [] {span}"), "{guest}");
        for (words_of_call, said) in [
            (format!("span/{GIVEN}/work"), format!("{span} {span}")),
            ("log/hello".to_owned(), "logged".to_owned()),
            ("metrics/m".to_owned(), "Ok(())".to_owned()),
        ] {
            let target = format!("{words}{words_of_call}");
            assert_eq!(ask(&server, &target, &lines), said, "{guest}");
        }
        server.stop();
    }
}

#[test]
fn a_program_has_traces_of_its_own() {
    let collector = Collector::new();
    let run = Run::guest("std-probe").guest_args(&["otel", "span", GIVEN, "work"]);
    let finished = exporting(run, &collector).output();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let spans = collector.spans();
    let span = named(&spans, "work");
    assert_eq!(span.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&*span.id, &*span.parent), (SPAN, ""));
}

#[test]
fn a_url_of_traces_alone_takes_no_logs_and_no_metrics() {
    let run = Run::guest("std-probe").http();
    let run = run.args(["--otlp", "http://127.0.0.1:1/traces"]);
    // No span of the host keeps the end waiting.
    let server = run.args(["--otlp-sample", "0"]).start();
    let said = tell(&server, "metrics/m");
    assert!(said.contains("no URL for metrics"), "{said}");
    server
        .log
        .wait_for(&["logs and metrics of guests are lost", "/v1/traces"]);
    server.stop();
}

#[test]
fn a_report_on_a_component_names_the_flag_of_the_receiver() {
    let file = guest("std-probe");
    let finished = Run::command(&["inspect", text(&file)]).output();
    assert!(finished.stdout.contains("--otlp URL"), "{finished:#?}");
}
