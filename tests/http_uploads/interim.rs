//! Interim responses.

use std::future::poll_fn;

use crate::harness::http2::{Http2, ask, read};
use crate::harness::{Server, eventually, message};
use crate::http_bodies::{body_probe, http2, tell};

/// Begins `/hint`, and returns its status, `link` and the final response.
fn hint(client: &mut Http2, server: &Server, token: u64) -> (u16, String) {
    let target = format!("/hint?token={token}&header=link:a.css");
    let (mut response, _) = client.begin(ask("GET", &target), true).expect("a stream");
    let interim = client.run(poll_fn(|cx| response.poll_informational(cx)));
    let interim = interim.expect("one").expect("a response");
    let link = interim.headers().get("link").expect("its header");
    let told = (
        interim.status().as_u16(),
        link.to_str().expect("text").to_owned(),
    );
    tell(
        server,
        &format!("/inform?token={token}&status=104&header=link:b.css"),
    );
    let next = client.run(poll_fn(|cx| response.poll_informational(cx)));
    assert_eq!(next.expect("one").expect("a response").status(), 104);
    tell(server, &format!("/respond?token={token}&text=final"));
    client
        .run(read(response))
        .expect("a response")
        .is(200, "final");
    told
}

#[test]
fn interim_responses_reach_those_who_understand_them() {
    for flag in [&[][..], &["--send-informational"]] {
        let server = body_probe(flag);
        let mut client = http2(&server);
        assert_eq!(hint(&mut client, &server, 1), (103, "a.css".to_owned()));
        let mut peer = server.connect_http();
        peer.send(message("GET", "/hint?token=2&header=link:a.css", &[]).as_bytes());
        if !flag.is_empty() {
            assert_eq!(peer.line(), "HTTP/1.1 103 Early Hints");
            assert_eq!(peer.line(), "link: a.css");
            assert_eq!(peer.line(), "");
        }
        eventually("it is deferred", || {
            (tell(&server, "/respond?token=2&text=final") == "done").then_some(())
        });
        peer.response().is(200, "final");
        let mut old = server.connect_http();
        old.send(b"GET /hint?token=3 HTTP/1.0\r\n\r\n");
        eventually("it is deferred", || {
            (tell(&server, "/respond?token=3&text=final") == "done").then_some(())
        });
        let answer = String::from_utf8(old.rest()).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("final\n"));
        drop((peer, client));
        server.stop();
    }
}

#[test]
fn a_wrong_interim_response_is_an_error_or_is_dropped() {
    let server = body_probe(&[]);
    let mut client = http2(&server);
    for (token, status) in [(1, 100), (2, 101), (3, 200)] {
        let target = format!("/hint?token={token}&status={status}");
        let stream = client.begin(ask("GET", &target), true).expect("a stream");
        let line = format!("hint {token}: ErrorCode::InvalidArgument");
        client.settle();
        server.log.wait_for(&[&line]);
        drop(stream);
    }
    let target = "/hint?token=4&header=content-length:5";
    let (response, _) = client.begin(ask("GET", target), true).expect("a stream");
    client.settle();
    server.log.wait_for(&["interim response cannot be sent"]);
    assert_eq!(tell(&server, "/inform?token=5"), "ErrorCode::InvalidState");
    tell(&server, "/respond?token=4&text=final");
    client
        .run(read(response))
        .expect("a response")
        .is(200, "final");
    drop(client);
    server.stop();
}
