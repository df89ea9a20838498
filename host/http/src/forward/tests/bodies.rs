//! Bodies of forwarded requests and of their responses.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, settle, soon, until};

use super::{OK, PASSED, Server, client, forwards_with, group, one_server};
use crate::testing::get;

#[test]
fn a_body_of_known_length_streams() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
            .await;
        let mut line = server.accept().await;
        let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n";
        line.expect(head).await;
        line.expect("01234").await;
        client.send("56789").await;
        line.expect("56789").await;
        line.send(OK).await;
        client.expect(PASSED).await;
        client.send(&get("/2")).await;
        assert!(line.head().await.starts_with("GET /2 "));
    });
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client
            .send(
                "POST / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-Sum\r\n\r\n5;x=y\r\nhello\r\n",
            )
            .await;
        let mut line = server.accept().await;
        let head = "POST / HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTE: trailers\r\n\
                    Connection: TE\r\nTransfer-Encoding: chunked\r\n\r\n";
        line.expect(head).await;
        line.expect("5\r\nhello\r\n").await;
        client.send("0\r\nX-Sum: 1\r\n\r\n").await;
        line.expect("0\r\nx-sum: 1\r\n\r\n").await;
        line.send(
            "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nTrailer: X-End\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        )
        .await;
        client
            .expect(
                "HTTP/1.1 200 OK\r\nserver: s\r\ndate: d\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-End\r\n\r\n",
            )
            .await;
        client.expect("3\r\nabc\r\n").await;
        line.send("0\r\nX-End: 2\r\n\r\n").await;
        client.expect("0\r\nx-end: 2\r\n\r\n").await;
        client.send(&get("/2")).await;
        assert!(line.head().await.starts_with("GET /2 "));
    });
}

#[test]
fn a_body_up_to_the_end_of_the_connection_becomes_chunks() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send(&get("/")).await;
        let mut line = server.accept().await;
        line.head().await;
        line.send("HTTP/1.0 200 OK\r\nServer: s\r\nDate: d\r\n\r\nall")
            .await;
        drop(line);
        client
            .expect(
                "HTTP/1.1 200 OK\r\nserver: s\r\ndate: d\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nall\r\n0\r\n\r\n",
            )
            .await;
    });
}

#[test]
fn the_server_decides_whether_a_body_is_sent() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\
                    Expect: 100-continue\r\n\r\n";
        let mut one = client(&script, &worker);
        one.send(post).await;
        let mut line = server.accept().await;
        assert!(line.head().await.contains("Expect: 100-continue\r\n"));
        line.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        one.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        one.send("body").await;
        line.expect("body").await;
        line.send(OK).await;
        one.expect(PASSED).await;

        let mut other = client(&script, &worker);
        other.send(post).await;
        line.head().await;
        line.send("HTTP/1.1 417 No\r\nServer: s\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
            .await;
        // No 100 comes before it. The next request's place is unknown.
        other
            .expect(
                "HTTP/1.1 417 Expectation Failed\r\nserver: s\r\ndate: d\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n",
            )
            .await;
        line.ended().await;
    });
}

#[test]
fn an_early_answer_passes_while_the_body_is_sent() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf")
            .await;
        let mut line = server.accept().await;
        line.receive("half").await;
        line.send("HTTP/1.1 413 No\r\nServer: s\r\nDate: d\r\nContent-Length: 0\r\n\r\n")
            .await;
        client
            .expect(
                "HTTP/1.1 413 Payload Too Large\r\nserver: s\r\ndate: d\r\nContent-Length: 0\r\n\r\n",
            )
            .await;
        line.ended().await;
        // The rest is dropped, and the connection goes on.
        client.send("other").await;
        client.send(&get("/2")).await;
        let mut line = server.accept().await;
        assert!(line.head().await.starts_with("GET /2 "));
    });
}

#[test]
fn a_body_that_the_handler_finds_too_large_is_refused() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let script = forwards_with(&worker, &group(&[&server], ""), |it| it.max_body = 9);
        let mut one = client(&script, &worker);
        // No server hears of one whose length says so.
        one.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n")
            .await;
        one.status(413).await;
        assert!(server.is_left_alone().await);

        let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut other = client(&script, &worker);
        other.send(chunked).await;
        other.send("5\r\nhello\r\n").await;
        let mut line = server.accept().await;
        line.receive("5\r\nhello\r\n").await;
        other.send("5\r\nworld\r\n").await;
        other.status(413).await;
        line.ended().await;

        // As many as are allowed pass, and the server is not left out.
        let mut last = client(&script, &worker);
        last.send(chunked).await;
        last.send("9\r\n123456789\r\n0\r\n\r\n").await;
        let mut line = server.accept().await;
        line.receive("0\r\n\r\n").await;
        line.send(OK).await;
        last.expect(PASSED).await;
    });
}

#[test]
fn large_bodies_pass_both_ways_with_bounded_queues() {
    const SIZE: usize = 16 << 20;
    let mut limits = Limits::default();
    limits.http.max_body = SIZE;
    in_worker(limits, async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        let body = Rc::new(RefCell::new("x".repeat(SIZE)));
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n");
        let sent = Rc::clone(&body);
        let sending = tokio::task::spawn_local(async move {
            let text = head + sent.borrow().as_str();
            client
                .stream
                .write_all(text.as_bytes())
                .await
                .expect("it is sent");
            client
        });
        let mut line = server.accept().await;
        line.head().await;
        // It takes nothing for a while, so the client waits.
        settle().await;
        assert!(!sending.is_finished());
        let mut received = line.kept.len();
        let mut buffer = vec![0; 64 << 10];
        while received < SIZE {
            received += line.stream.read(&mut buffer).await.expect("some");
        }
        assert_eq!(received, SIZE);
        let mut client = sending.await.expect("it is sent");
        line.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"
        ))
        .await;
        let answer = Rc::clone(&body);
        tokio::task::spawn_local(async move {
            let text = answer.borrow().clone();
            line.stream
                .write_all(text.as_bytes())
                .await
                .expect("it is sent");
            std::future::pending::<()>().await;
        });
        client.head().await;
        let mut received = client.kept.len();
        while received < SIZE {
            received += client.stream.read(&mut buffer).await.expect("some");
        }
        assert_eq!(received, SIZE);
        until("the connection is kept", || {
            worker.open_connections().len() == 1
        })
        .await;
    });
}

#[test]
fn a_large_body_of_a_request_passes_natively_and_stops_at_an_early_answer() {
    let mut limits = Limits::default();
    limits.http.max_body = 8 << 20;
    in_worker(limits, async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        const LENGTH: usize = 3 << 20;
        let body: Vec<u8> = (0..LENGTH).map(|at| (at / 7) as u8).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LENGTH}\r\n\r\n");
        client.send(&head).await;
        let mut line = server.accept().await;
        line.head().await;
        let (pieces, mut come) = (body.chunks(100_000), Vec::new());
        for piece in pieces {
            let sent = soon("room", client.stream.write_all(piece)).await;
            sent.expect("it is sent");
            come.extend(line.bytes(piece.len()).await);
        }
        assert!(come == body, "the body is another one");
        line.send(OK).await;
        client.expect(PASSED).await;
        // The server answers in the middle.
        client.send(&head).await;
        line.head().await;
        for piece in body.chunks(100_000).take(5) {
            let sent = soon("room", client.stream.write_all(piece)).await;
            sent.expect("it is sent");
            line.bytes(piece.len()).await;
        }
        line.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await;
        drop(line);
        client.status(413).await;
    });
}
