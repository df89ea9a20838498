//! Servers that fail, and clients that leave.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, pass, settle, soon};

use super::{PASSED, Server, client, forwards, forwards_with, group, one_server};
use crate::testing::get;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_server_that_cannot_be_reached_is_passed_over_and_left_out() {
    in_worker(Limits::default(), async |worker| {
        let (dead, alive) = (Server::new().await, Server::new().await);
        let both = group(&[&dead, &alive], "max-fails=1;fail-timeout=1h");
        drop(dead.listener);
        let script = forwards(&worker, &both);
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut line = alive.accept().await;
        assert!(line.answer().await.starts_with("GET /1 "));
        client.expect(PASSED).await;
        for _ in 0..3 {
            client.send(&get("/2")).await;
            line.answer().await;
            client.expect(PASSED).await;
        }
        assert_eq!(worker.env().counters.connections_made.get(), 1);
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
    });
}

#[test]
fn without_a_server_the_client_gets_502() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        drop(server.listener);
        let mut client = client(&script, &worker);
        for _ in 0..2 {
            client.send(&get("/1")).await;
            client.status(502).await;
            client.receive("502 Bad Gateway\n").await;
        }
        assert_eq!(worker.env().counters.forwards_failed.get(), 2);
    });
}

#[test]
fn a_connection_that_went_stale_costs_no_request() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        for number in 1..4 {
            client.send(&get(&format!("/{number}"))).await;
            let mut line = server.accept().await;
            line.answer().await;
            client.expect(PASSED).await;
            if number == 1 {
                // It closes once it has got the next request.
                client.send(&get("/2")).await;
                assert!(line.head().await.starts_with("GET /2 "));
                drop(line);
                let mut line = server.accept().await;
                assert!(line.answer().await.starts_with("GET /2 "));
                client.expect(PASSED).await;
            }
        }
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
    });
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_sent_again() {
    in_worker(Limits::default(), async |worker| {
        let servers = [Server::new().await, Server::new().await];
        let script = forwards(&worker, &group(&[&servers[0], &servers[1]], ""));
        let mut client = client(&script, &worker);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        let mut line = servers[0].accept().await;
        line.receive("hi").await;
        drop(line);
        client.status(502).await;
        assert!(servers[1].is_left_alone().await);
    });
}

#[test]
fn a_silent_server_is_given_up() {
    let limits = Limits::default();
    let limit = limits.http.response_timeout;
    in_worker(limits, async move |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send(&get("/")).await;
        let mut line = server.accept().await;
        line.head().await;
        pass(&worker, limit - 3 * SECOND).await;
        settle().await;
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
        pass(&worker, 6 * SECOND).await;
        client.status(504).await;
        line.ended().await;
    });
}

#[test]
fn broken_framing_is_answered_by_502() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "nonsense\r\n\r\n",
        "",
    ] {
        in_worker(Limits::default(), async move |worker| {
            let server = Server::new().await;
            let script = forwards_with(&worker, &group(&[&server], ""), |it| it.retries = 0);
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut line = server.accept().await;
            line.head().await;
            line.send(head).await;
            if head.is_empty() {
                drop(line);
            } else {
                line.ended().await;
            }
            let told = client.head().await;
            assert!(told.starts_with("HTTP/1.1 502 "), "{head}: {told}");
        });
    }
}

#[test]
fn a_body_that_is_cut_does_not_look_whole() {
    for (framing, body, rest) in [
        ("Content-Length: 9", "half", ""),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n", ""),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n", "x\r\n"),
    ] {
        in_worker(Limits::default(), async move |worker| {
            let (server, script) = one_server(&worker).await;
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut line = server.accept().await;
            line.head().await;
            line.send(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"))
                .await;
            client.head().await;
            client.receive("half").await;
            line.send(rest).await;
            drop(line);
            let mut rest = Vec::new();
            let read = soon("the end", client.stream.read_to_end(&mut rest)).await;
            assert!(read.is_err() || rest.len() < 4, "{rest:?}");
            assert_eq!(worker.env().counters.forwards_failed.get(), 1);
        });
    }
}

#[test]
fn a_client_that_leaves_ends_the_request_to_the_server() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        for begins in [false, true] {
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut line = server.accept().await;
            line.head().await;
            if begins {
                line.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                    .await;
                client.receive("half").await;
            }
            drop(client);
            pass(&worker, 2 * SECOND).await;
            line.ended().await;
        }
    });
}
