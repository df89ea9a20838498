//! Clients that are slow, silent or gone.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use super::{ENHANCE_YOUR_CALM, MIB, WHOLE, kinds, probe, raw, serves};
use crate::harness::http2::{
    DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, SETTINGS, WINDOW_UPDATE, ask, frame,
    literal, next_frame, next_of, read, settings,
};
use crate::harness::{self, Client, Http2, Run, pattern};

#[test]
fn a_body_that_stays_away_is_waited_for_a_while() {
    for (run, path) in kinds() {
        let server = run.args(["--body-timeout", "300ms"]).start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        stream
            .send_data(Bytes::from_static(b"a"), false)
            .expect("sent");
        let response = client.run(read(response)).expect("a response");
        assert_eq!(response.status, 408);
        client.fetch("/nowhere");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_keeps_coming_is_waited_for_however_slow() {
    for (run, path) in kinds() {
        let limits = ["--body-timeout", "1s", "--response-timeout", "1s"];
        let server = run.args(limits).start();
        let mut client = Http2::connect(server.address("http"));
        let (response, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        for number in 0..8 {
            client.rest(Duration::from_millis(200));
            stream
                .send_data(Bytes::from_static(b"a"), number == 7)
                .expect("sent");
        }
        client.run(read(response)).expect("a response").is(200, "8");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_that_is_given_up_costs_its_request_alone() {
    for (run, path) in kinds() {
        let server = run.start();
        let mut client = Http2::connect(server.address("http"));
        let (given_up, mut stream) = client.begin(ask("POST", path), false).expect("begun");
        let (response, mut beside) = client.begin(ask("POST", path), false).expect("begun");
        for stream in [&mut stream, &mut beside] {
            let piece = Bytes::from(pattern(40_000));
            stream.send_data(piece, false).expect("sent");
        }
        client.settle();
        stream.send_reset(Reason::CANCEL);
        client.run(read(given_up)).expect_err("no response");
        client.settle();
        // Long before `--body-timeout`.
        server.log.wait_for(&["the client left within a request"]);
        let rest = harness::http2::send_all(&mut beside, pattern(200_000).into(), true);
        client.run(rest).expect("sent");
        let all = client.run(read(response)).expect("a response");
        all.is(200, "240000");
        drop(client);
        server.stop();
    }
}

#[test]
fn a_body_ends_with_what_a_client_sends() {
    for (run, path) in kinds() {
        let server = run.start();
        let mut peer = raw(&server);
        let path = literal(":path", path);
        let head = [b"\x83\x86", &*path, b"\x01\x09localhost"].concat();
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        peer.send(&frame(DATA, 0, 1, b"abc"));
        peer.taken();
        peer.finish();
        // Long before `--body-timeout`, and without a response to a partial
        // body.
        server.log.wait_for(&["the client left within a request"]);
        next_of(&mut peer, GOAWAY);
        peer.rest();
        let mut peer = raw(&server);
        peer.send(&frame(HEADERS, END_HEADERS, 1, &head));
        let cut = frame(DATA, 0, 1, b"abc");
        peer.send(cut.get(..10).expect("its beginning"));
        peer.finish();
        peer.lost();
        server.stop();
    }
}

#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    for guest in ["proxy-probe", "service-probe"] {
        let server = Run::guest(guest).http().args(["--workers", "1"]).start();
        let at_rest = server.descriptors_at_rest();
        let mut gone = raw(&server);
        let head = b"\x82\x86\x04\x06/never\x01\x09localhost";
        gone.send(&frame(HEADERS, WHOLE, 1, head));
        // The client has read everything, so that closing its socket sends no
        // reset.
        let (mut heard, mut enlarged) = (false, false);
        while !(heard && enlarged) {
            let frame = next_frame(&mut gone);
            heard |= frame.kind == SETTINGS && frame.flags == 1;
            enlarged |= frame.kind == WINDOW_UPDATE;
        }
        gone.taken();
        drop(gone);
        // Long before `--response-timeout`.
        server.wait_for_descriptors(at_rest);
        server.stop();
    }
}

#[test]
fn a_client_that_takes_little_at_a_time_loses_nothing() {
    for (run, path) in [
        (probe(), "/big?n=8000"),
        (Run::guest("proxy-probe").http(), "/bytes?8000"),
        (Run::guest("service-probe").http(), "/bytes?8000"),
    ] {
        let server = run.args(["--write-timeout", "1s"]).start();
        let mut settings = settings();
        settings.initial_window_size(1000);
        let mut client = Http2::with(server.address("http"), &settings);
        let (response, _stream) = client.begin(ask("GET", path), true).expect("begun");
        let mut body = client.run(response).expect("a response").into_body();
        let mut length = 0;
        while let Some(piece) = client.run(body.data()) {
            let piece = piece.expect("no error");
            length += piece.len();
            client.rest(Duration::from_millis(200));
            let taken = body.flow_control().release_capacity(piece.len());
            taken.expect("it was taken");
        }
        assert_eq!(length, 8000);
        drop(client);
        server.stop();
    }
}

#[test]
fn many_large_bodies_at_once_all_arrive() {
    let server = probe().start();
    let mut client = Http2::connect(server.address("http"));
    let begun: Vec<_> = (0..50)
        .map(|_| client.begin(ask("POST", "/length"), false).expect("begun"))
        .collect();
    let body = Bytes::from(pattern(MIB));
    let all = begun.into_iter().map(|(response, mut stream)| {
        let body = body.clone();
        async move {
            let send = harness::http2::send_all(&mut stream, body, true);
            tokio::join!(read(response), send).0
        }
    });
    for response in client.run(futures_util::future::join_all(all)) {
        response.expect("a response").is(200, "1048576");
    }
    drop(client);
    server.stop();
}

#[test]
fn a_client_that_opens_no_window_loses_its_stream() {
    for (run, path) in [
        (probe(), "/big?n=200000"),
        (Run::guest("proxy-probe").http(), "/bytes?200000"),
        (Run::guest("service-probe").http(), "/bytes?200000"),
    ] {
        let server = run.args(["--write-timeout", "300ms"]).start();
        let mut settings = settings();
        settings.initial_window_size(0);
        let mut client = Http2::with(server.address("http"), &settings);
        let (response, _stream) = client.begin(ask("GET", path), true).expect("begun");
        let error = client.run(read(response)).expect_err("no whole response");
        assert_eq!(error.reason(), Some(Reason::CANCEL));
        let head = client.exchange(ask("HEAD", path), b"");
        assert_eq!(head.status, 200, "the connection goes on");
        drop(client);
        server.stop();
    }
}

#[test]
fn what_is_kept_for_clients_that_open_no_window_is_bounded() {
    let server = probe()
        .args(["--write-timeout", "300ms", "--event-timeout", "5s"])
        .start();
    let before = server.resident() as usize;
    let mut settings = settings();
    settings.initial_window_size(0);
    let mut client = Http2::with(server.address("http"), &settings);
    let (open, _streams): (Vec<_>, Vec<_>) = (0..100)
        .map(|_| {
            let begun = client.begin(ask("GET", "/big?n=2000000"), true);
            begun.expect("begun")
        })
        .unzip();
    // Every response begins, because earlier ones make room.
    let responses = client.run(futures_util::future::join_all(open));
    server.idles();
    let grown = (server.resident() as usize).saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes are kept");
    serves(&server);
    drop((responses, client));
    server.stop();
}

#[test]
fn a_client_that_reads_nothing_from_its_socket_loses_its_connection() {
    let server = probe()
        .args(["--write-timeout", "300ms", "--event-timeout", "5s"])
        .start();
    let mut peer = raw(&server);
    let window = 0x7fff_0000_u32.to_be_bytes();
    peer.send(&frame(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &window));
    let head = b"\x82\x86\x04\x0f/big?n=15000000\x01\x09localhost";
    peer.send(&frame(HEADERS, WHOLE, 1, head));
    server.log.wait_for(&["connection lost", "--write-timeout"]);
    server.stop();
}

#[test]
fn an_idle_connection_is_told_and_ended() {
    let server = probe().args(["--keep-alive-timeout", "300ms"]).start();
    let mut client = Http2::connect(server.address("http"));
    client.fetch("/length");
    client.ends().expect("a good end");
    // This client does not answer the server's PING.
    let mut peer = raw(&server);
    assert_eq!(next_of(&mut peer, GOAWAY).code(), 0);
    peer.rest();
    server.stop();
}

#[test]
fn a_client_that_never_begins_is_not_waited_for() {
    let server = Run::guest("probe")
        .http()
        .https()
        .args(["--head-timeout", "300ms"])
        .start();
    let mut peer = Client::of("localhost")
        .alpn("h2")
        .connect(server.address("https"));
    // Only the server's SETTINGS, then the end.
    assert!(peer.rest().len() < 100);
    let mut peer = server.connect_http();
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM");
    peer.rest();
    drop(peer);
    server.stop();
}

#[test]
fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let server = probe().args(["--head-timeout", "300ms"]).start();
    let mut peer = raw(&server);
    peer.send(&frame(HEADERS, END_STREAM, 1, GET));
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    let mut peer = raw(&server);
    let whole = frame(HEADERS, WHOLE, 1, GET);
    peer.send(whole.get(..12).expect("its beginning"));
    assert_eq!(next_of(&mut peer, GOAWAY).code(), ENHANCE_YOUR_CALM);
    server.stop();
}

#[test]
fn nothing_is_left_of_clients_that_leave() {
    for (guest, upload, download) in [
        ("probe", "/length", "/big?n=10000000"),
        ("proxy-probe", "/sum", "/bytes?100000000"),
        ("service-probe", "/sum", "/bytes?100000000"),
    ] {
        let server = Run::guest(guest).http().args(["--workers", "1"]).start();
        let at_rest = server.descriptors_at_rest();
        for number in 0..40 {
            let mut client = Http2::connect(server.address("http"));
            let (_, mut stream) = client.begin(ask("POST", upload), false).expect("begun");
            stream
                .send_data(Bytes::from_static(b"abc"), false)
                .expect("sent");
            let (response, _) = client.begin(ask("GET", download), true).expect("begun");
            if number % 2 == 0 {
                client.run(response).expect("a response");
            }
            if number % 4 == 1 {
                stream.send_reset(Reason::CANCEL);
                client.settle();
            }
        }
        server.wait_for_descriptors(at_rest);
        server.idles();
        server.stop();
    }
}
