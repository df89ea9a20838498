//! Faults of standard HTTP components and their clients, and what they must not
//! affect.

use std::time::{Duration, Instant};

use crate::harness::http2::{Http2, ask};
use crate::harness::{
    Run, Server, TcpPeer, directory, eventually, message, pattern, post, slowly, write,
};

const PROBES: [&str; 2] = ["proxy-probe", "service-probe"];

fn probe(guest: &str) -> Run {
    Run::guest(guest).http().args(["--workers", "1"])
}

fn servers() -> impl Iterator<Item = Server> {
    PROBES.into_iter().flat_map(|guest| {
        ["request", "connection", "worker"]
            .map(|isolation| probe(guest).args(["--isolation", isolation]).start())
    })
}

#[test]
fn a_guest_that_fails_costs_its_request_and_nothing_else() {
    for server in servers() {
        let mut peer = server.connect_http();
        for _ in 0..3 {
            assert_eq!(peer.fetch("/trap").status, 500);
            assert_eq!(peer.fetch("/error").status, 500);
            assert_eq!(peer.fetch("/loop").status, 504);
            peer.fetch("/hello").is(200, "hello");
        }
        server.log.wait_for(&["DestinationNotFound"]);
        server.log.wait_for(&["--event-timeout"]);
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_guest_that_never_starts_or_never_ends_a_call_is_ended_with_the_flag_that_says_when() {
    // It computes for ever in its start function, or after it has returned.
    let never = "(loop $on (br $on))";
    let start = format!("(func $start {never}) (start $start)");
    for (start, after, status, told) in [
        (&*start, "", 503, "no instance for a request"),
        ("", never, 504, "the guest trapped"),
    ] {
        let scratch = directory();
        let component = format!(
            r#"(component
                (import "wasi:http/types@0.2.0" (instance $types
                    (export "incoming-request" (type (sub resource)))
                    (export "response-outparam" (type (sub resource)))))
                (alias export $types "incoming-request" (type $request))
                (alias export $types "response-outparam" (type $out))
                (core module $code
                    {start}
                    (func (export "handle") (param i32 i32))
                    (func (export "after") {after}))
                (core instance $code (instantiate $code))
                (type $own-request (own $request))
                (type $own-out (own $out))
                (func $handle (param "request" $own-request) (param "response-out" $own-out)
                    (canon lift (core func $code "handle")
                        (post-return (core func $code "after"))))
                (instance $handler (export "handle" (func $handle)))
                (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
        );
        let file = write(scratch.path(), "never.wat", component);
        let server = Run::component(&file).http().start();
        assert_eq!(server.connect_http().fetch("/").status, status);
        server
            .log
            .wait_for(&[told, "took longer", "--event-timeout"]);
        server.stop();
    }
}

#[test]
fn a_guest_that_never_answers_is_not_waited_for() {
    for guest in PROBES {
        for isolation in ["request", "connection", "worker"] {
            let server = probe(guest)
                .args(["--isolation", isolation, "--response-timeout", "300ms"])
                .start();
            let mut peer = server.connect_http();
            assert_eq!(peer.fetch("/never").status, 504);
            peer.fetch("/hello").is(200, "hello");
            server.log.wait_for(&["--response-timeout"]);
            drop(peer);
            server.stop();
        }
    }
}

#[test]
fn a_client_that_resets_is_not_answered_any_more() {
    for guest in PROBES {
        let server = probe(guest).start();
        let before = server.descriptors_at_rest();
        let mut peer = server.connect_http();
        peer.fetch("/hello").is(200, "hello");
        peer.send(message("GET", "/never", &[]).as_bytes());
        // This client has half-closed, and still waits for an answer.
        let mut waiting = server.connect_http();
        waiting.send(message("GET", "/never", &[]).as_bytes());
        // Both are under way.
        peer.taken();
        waiting.taken();
        waiting.finish();
        peer.reset();
        // Long before `--response-timeout`.
        server.log.wait_for(&["the client left within a request"]);
        server.wait_for_descriptors(before + 1);
        // The half-closed client was only probed, by `100 Continue`.
        waiting.goes_on();
        waiting.reset();
        server.wait_for_descriptors(before);
        server.log.wait_for_count("the client left", 2);
    }
}

#[test]
fn a_body_that_keeps_moving_is_not_cut_short() {
    let size = 128 << 20;
    for guest in PROBES {
        let server = probe(guest)
            .args(["--max-body", "1GiB", "--event-timeout", "50ms"])
            .start();
        let mut peer = server.connect_http();
        let head = format!("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        peer.send(head.as_bytes());
        let piece = pattern(1 << 20);
        for _ in 0..size >> 20 {
            peer.send(&piece);
        }
        peer.response().is(200, &size.to_string());
        let response = peer.fetch(&format!("/bytes?{size}"));
        assert_eq!(response.body.len(), size);
        drop(peer);
        server.stop();
    }
}

#[test]
fn what_found_no_room_is_sent_while_the_guest_waits() {
    let server = probe("service-probe").start();
    // Some of these sizes are slightly more than the kernel takes at once.
    for size in (600_000..4_800_000).step_by(60_000) {
        let mut peer = TcpPeer::connect_narrow(server.address("http"));
        peer.send(message("GET", &format!("/stall?{size}"), &[]).as_bytes());
        peer.stalled();
        let begun = Instant::now();
        peer.take(size);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{size} bytes: {took:?}");
    }
    // Not stopped in order, because its instances still wait.
    drop(server);
}

#[test]
fn a_slow_body_does_not_count_as_a_slow_guest() {
    for guest in PROBES {
        let server = probe(guest).args(["--response-timeout", "1s"]).start();
        let mut peer = server.connect_http();
        peer.send(b"POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
        for _ in slowly(Duration::from_millis(200), 0..8) {
            peer.send(b"a");
        }
        peer.response().is(200, "8");
        assert_eq!(peer.exchange(post("/never", b"whole")).status, 504);
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_guest_of_0_2_that_drops_its_chance_to_answer_is_answered_for() {
    let server = probe("proxy-probe").start();
    let mut peer = server.connect_http();
    assert_eq!(peer.fetch("/silent").status, 500);
    peer.fetch("/hello").is(200, "hello");
    server.log.wait_for(&["never answers"]);
    drop(peer);
    server.stop();
}

#[test]
fn a_response_that_is_cut_short_does_not_look_whole() {
    for server in servers() {
        for target in ["/trap-late", "/short", "/long"] {
            let mut peer = server.connect_http();
            peer.send(message("GET", target, &[]).as_bytes());
            let got = String::from_utf8_lossy(&peer.rest()).into_owned();
            assert!(!got.ends_with("0\r\n\r\n"), "{target}: {got}");
            if target == "/short" && !got.contains(" 500 ") {
                assert!(got.contains("content-length: 10") || got.contains("Content-Length: 10"));
                assert!(!got.ends_with("bodybody"), "{got}");
            }
        }
        server.connect_http().fetch("/hello").is(200, "hello");
        server.stop();
    }
    let server = probe("proxy-probe").start();
    let mut peer = server.connect_http();
    peer.send(message("GET", "/unfinished", &[]).as_bytes());
    let got = String::from_utf8_lossy(&peer.rest()).into_owned();
    assert!(!got.ends_with("0\r\n\r\n"), "{got}");
    drop(peer);
    server.stop();
}

#[test]
fn a_guest_that_exits_with_success_has_its_answer_sent_if_that_is_whole() {
    for server in servers() {
        // A shared instance takes others' requests until it has exited.
        let mut exits = 0;
        let mut exited = || {
            exits += 1;
            server.log.wait_for_count("the guest exited", exits);
        };
        for target in ["/exit", "/exit-sized", "/exit-early"] {
            for size in [5, 3_000_000] {
                let target = format!("{target}?{size}");
                let response = server.connect_http().fetch(&target);
                if response.status == 404 {
                    // Each probe has two of these targets.
                    continue;
                }
                assert_eq!(response.status, 200, "{target}");
                assert_eq!(response.body.len(), size, "{target}");
                exited();
                let response = Http2::connect(server.address("http")).fetch(&target);
                assert_eq!(response.status, 200, "{target}");
                assert_eq!(response.body.len(), size, "{target}");
                exited();
            }
        }
        assert_eq!(server.log.count("trapped"), 0);
        let mut peer = server.connect_http();
        peer.send(message("GET", "/exit-open?5", &[]).as_bytes());
        let got = String::from_utf8_lossy(&peer.rest()).into_owned();
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
        let mut client = Http2::connect(server.address("http"));
        let whole = client.try_exchange(ask("GET", "/exit-open?5"), b"").is_ok();
        assert!(!whole, "a body that was not ended");
        assert_eq!(server.connect_http().fetch("/exit-silent").status, 500);
        server.connect_http().fetch("/hello").is(200, "hello");
        server.log.wait_for(&["the guest exited"]);
        assert_eq!(server.log.count("trapped"), 0);
        drop((peer, client));
        server.stop();
    }
}

#[test]
fn a_guest_that_tells_its_trailers_after_its_body_was_sent_hangs_nobody() {
    let server = probe("service-probe")
        .args(["--response-timeout", "1s", "--background-timeout", "1s"])
        .start();
    let mut peer = server.connect_http();
    let mut client = Http2::connect(server.address("http"));
    for target in ["/sent-first", "/sent-first-sized"] {
        peer.fetch(target).is(200, "body");
        client.fetch(target).is(200, "body");
    }
    let response = peer.exchange(message("GET", "/sent-first", &["TE: trailers"]));
    let response = response.is(200, "body");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    let response = peer.exchange(message("GET", "/empty-trailers", &["TE: trailers"]));
    let response = response.is(200, "");
    assert_eq!(response.trailers, [("x-sum".to_owned(), "4".to_owned())]);
    // The wait for missing trailers is limited.
    peer.fetch("/trailers-never").is(200, "body");
    client.fetch("/trailers-never").is(200, "body");
    client.fetch("/empty-never").is(200, "");
    server.log.wait_for_count("sent Ok(())", 8);
    drop((peer, client));
    server.stop();
}

#[test]
fn a_length_without_contents_is_right_for_head_alone() {
    let server = probe("service-probe").start();
    let mut peer = server.connect_http();
    let mut client = Http2::connect(server.address("http"));
    for length in ["5", "0"] {
        let target = format!("/empty-sized?{length}");
        let head = client.exchange(ask("HEAD", &target), b"");
        assert_eq!(head.header("content-length"), Some(length));
        let (status, said) = match length {
            "0" => (200, ""),
            _ => (500, "500 Internal Server Error"),
        };
        client.fetch(&target).is(status, said);
        peer.fetch(&target).is(status, said);
    }
    peer.fetch("/hello").is(200, "hello");
    drop((peer, client));
    server.stop();
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    for guest in PROBES {
        let server = probe(guest).args(["--max-body", "10"]).start();
        let mut peer = server.connect_http();
        assert_eq!(peer.exchange(post("/sum", &pattern(11))).status, 413);
        peer.ends();
        let mut peer = server.connect_http();
        let chunked = "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n";
        assert_eq!(peer.exchange(chunked).status, 413);
        let mut peer = server.connect_http();
        peer.exchange(post("/sum", &pattern(10))).is(200, "10");
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_body_that_does_not_come_is_a_408_and_a_malformed_one_a_400() {
    for guest in PROBES {
        let server = probe(guest).args(["--body-timeout", "200ms"]).start();
        let mut peer = server.connect_http();
        let head = "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
        assert_eq!(peer.exchange(head).status, 408);
        peer.ends();
        let mut peer = server.connect_http();
        let head = "POST /sum HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
        assert_eq!(peer.exchange(head).status, 400);
        server.connect_http().fetch("/hello").is(200, "hello");
        drop(peer);
        server.stop();
    }
}

#[test]
fn a_client_that_leaves_in_mid_body_takes_nobody_along() {
    for server in servers() {
        for _ in 0..20 {
            let mut peer = server.connect_http();
            peer.send(b"POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nab");
            drop(peer);
            let mut peer = server.connect_http();
            peer.send(message("GET", "/bytes?100000000", &[]).as_bytes());
            peer.take(1000);
            drop(peer);
            let mut peer = server.connect_http();
            peer.send(message("GET", "/late?50", &[]).as_bytes());
            drop(peer);
        }
        server.connect_http().fetch("/hello").is(200, "hello");
        server.stop();
    }
}

#[test]
fn a_status_that_is_no_final_one_is_a_500() {
    for guest in PROBES {
        let server = probe(guest).start();
        let mut peer = server.connect_http();
        assert_eq!(peer.fetch("/status?101").status, 500);
        peer.fetch("/hello").is(200, "hello");
        drop(peer);
        server.stop();
    }
}

#[test]
fn clients_that_leave_do_not_take_those_along_who_share_their_instance() {
    let isolation = ["--isolation", "worker"];
    let server = probe("service-probe").args(isolation).start();
    let mut patient = server.connect_http();
    patient.send(message("GET", "/late?600", &[]).as_bytes());
    let mut leaving = Vec::new();
    for _ in 0..2 {
        let mut peer = server.connect_http();
        peer.send(b"POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nab");
        peer.taken();
        leaving.push(peer);
    }
    patient.taken();
    for (left, peer) in (1..).zip(leaving) {
        drop(peer);
        eventually("it is known to have left", || {
            (server.log.count("the client left within a request") == left).then_some(())
        });
    }
    patient.response().is(200, "late");
    drop(patient);
    server.stop();
}

#[test]
fn an_instance_for_each_request_is_refused_where_there_can_be_none() {
    let isolation = ["--isolation", "request"];
    let finished = Run::guest("router").http().args(isolation).output();
    finished.refused(2, &["--isolation request", "wasi:http/handler"]);
    let finished = Run::guest("echo").tcp().args(isolation).output();
    finished.refused(2, &["--isolation request", "--http"]);
}
