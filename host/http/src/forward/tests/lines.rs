//! Connections that many requests use: how many there are, and who waits for one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use http::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use netwasm_base::config::Limits;
use netwasm_exchange::forward::Forward;
use netwasm_exchange::handler::Decision;
use netwasm_net::testing::{in_worker, pass, settle, soon, until};
use netwasm_net::upstream::Group;

use super::http2::{Backend, answer, http2_server, response};
use super::{OK, PASSED, Server, client, forward, forwards, forwards_with, group, group_of};
use crate::testing::{Script, get};

/// The server's SETTINGS, empty.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A GOAWAY before the first stream.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn requests_wait_in_the_queue_of_a_server_that_takes_few_streams() {
    const LINES: usize = 64;
    const WAITING: usize = 12;
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let port = server.port;
        let (asked, open) = (Rc::<Cell<usize>>::default(), Rc::new(Semaphore::new(0)));
        let (count, gate) = (Rc::clone(&asked), Rc::clone(&open));
        let accepting = tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = server.listener.accept().await.expect("a connection");
                let (count, gate) = (Rc::clone(&count), Rc::clone(&gate));
                tokio::task::spawn_local(async move {
                    let mut builder = server::Builder::new();
                    builder.max_concurrent_streams(1);
                    let handshake = builder.handshake::<_, Bytes>(stream).await;
                    let mut connection = handshake.expect("HTTP/2");
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        count.set(count.get() + 1);
                        let gate = Rc::clone(&gate);
                        tokio::task::spawn_local(async move {
                            let _open = gate.acquire().await.expect("it is open");
                            answer(respond);
                        });
                    }
                });
            }
        });
        let group = format!("g=h2c://127.0.0.1:{port};max-queue={WAITING};queue-timeout=1h");
        let group = group.parse();
        let group = Group::new(&group.expect("a group"), &worker.env().counters);
        let hour = |it: &mut Forward| it.connect_timeout = Some(Duration::from_secs(3600));
        let script = forwards_with(&worker, &Arc::new(group.expect("a group")), hour);
        let mut clients: Vec<_> = (0..=LINES + WAITING)
            .map(|_| client(&script, &worker))
            .collect();
        for client in &mut clients {
            client.send(&get("/")).await;
        }
        let refused = || worker.env().counters.forwards_refused.max_queue.get();
        until("all connections have their stream", || asked.get() == LINES).await;
        until("the queue is full", || refused() == 1).await;
        open.add_permits(LINES);
        let mut statuses = Vec::new();
        for client in &mut clients {
            let head = client.head().await;
            statuses.push(head.split(' ').nth(1).expect("a status").to_owned());
        }
        let count = |status: &str| statuses.iter().filter(|it| *it == status).count();
        assert_eq!((count("200"), count("503")), (LINES + WAITING, 1));
        assert_eq!(worker.env().counters.connections_made.get(), LINES as u64);
        accepting.abort();
    });
}

#[test]
fn a_request_has_its_own_time_limit_on_a_connection_that_another_makes() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let group = group_of(&format!("h2c://127.0.0.1:{}", server.port));
        let handed = Rc::clone(&worker);
        let script = Script::at_head(move |target| {
            let mut forward = forward(&handed, &group);
            forward.retries = 0;
            forward.connect_timeout = Some(match target {
                "/patient" => Duration::from_secs(3600),
                _ => Duration::from_millis(5),
            });
            Ok(Decision::Forward(Box::new(forward)))
        });
        let mut patient = client(&script, &worker);
        patient.send(&get("/patient")).await;
        // No SETTINGS come.
        let mut line = server.accept().await;
        let mut other = client(&script, &worker);
        other.send(&get("/other")).await;
        other.status(504).await;
        let made = || worker.env().counters.connections_made.get() == 1;
        until("the connection is made", made).await;
        assert!(server.is_left_alone().await);
        // Once nobody waits for it, the connection is given up.
        drop(patient);
        pass(&worker, Duration::from_secs(2)).await;
        let mut rest = Vec::new();
        // However it ends.
        let _ = soon("the end", line.stream.read_to_end(&mut rest)).await;
    });
}

#[test]
fn a_server_that_ends_each_connection_at_once_is_passed_over() {
    in_worker(Limits::default(), async |worker| {
        let (leaving, staying) = (Server::new().await, Server::new().await);
        let servers = format!(
            "h2c://127.0.0.1:{},127.0.0.1:{}",
            leaving.port, staying.port
        );
        let script = forwards(&worker, &group_of(&servers));
        let accepted = Rc::<Cell<usize>>::default();
        let count = Rc::clone(&accepted);
        let task = tokio::task::spawn_local(async move {
            let mut all = Vec::new();
            loop {
                let (mut stream, _) = leaving.listener.accept().await.expect("a connection");
                count.set(count.get() + 1);
                let mut preface = [0; 24];
                // It may be gone already.
                let _ = stream.read_exact(&mut preface).await;
                let _ = stream.write_all(&[SETTINGS, GOAWAY].concat()).await;
                all.push(stream);
            }
        });
        let mut client = client(&script, &worker);
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        let mut line = staying.accept().await;
        line.receive("hi").await;
        line.send(OK).await;
        client.expect(PASSED).await;
        assert!((1..=3).contains(&accepted.get()), "{}", accepted.get());
        task.abort();
    });
}

#[test]
fn an_idle_connection_gives_way_to_another_server() {
    let limits = Limits {
        max_outgoing: 1,
        ..Limits::default()
    };
    in_worker(limits, async |worker| {
        let (one, other) = (Server::new().await, Server::new().await);
        let groups = [
            group_of(&format!("h2c://127.0.0.1:{}", one.port)),
            group(&[&other], ""),
        ];
        let handed = Rc::clone(&worker);
        let script = Script::at_head(move |target| {
            let [one, other] = &groups;
            let group = if target == "/1" { one } else { other };
            Ok(Decision::Forward(Box::new(forward(&handed, group))))
        });
        let mut client = client(&script, &worker);
        for _ in 0..2 {
            client.send(&get("/1")).await;
            let mut backend = Backend::accept(&one).await;
            answer(backend.next().await.1);
            client.expect(PASSED).await;
            settle().await;
            client.send(&get("/2")).await;
            let mut line = other.accept().await;
            line.answer().await;
            client.expect(PASSED).await;
            soon("the end", &mut backend.task).await.expect("no panic");
        }
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
    });
}

#[test]
fn a_server_of_http2_tells_of_trailers() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = http2_server(&worker).await;
        let mut client = client(&script, &worker);
        let asks = "GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n";
        client.send(asks).await;
        let mut backend = Backend::accept(&server).await;
        let (_, mut respond) = backend.next().await;
        let mut head = response(200);
        let names = HeaderValue::from_static("x-end");
        head.headers_mut().insert("trailer", names.clone());
        let mut stream = respond.send_response(head, false).expect("open");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-end", HeaderValue::from_static("1"));
        stream.send_data("abc".into(), false).expect("room");
        stream.send_trailers(trailers).expect("room");
        let head = client.head().await;
        let end = "\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n";
        assert!(head.ends_with(end), "{head}");
        client.expect("3\r\nabc\r\n0\r\nx-end: 1\r\n\r\n").await;
        // Without trailers, there is nothing to tell of.
        client
            .send("HEAD / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n")
            .await;
        let (_, mut respond) = backend.next().await;
        let mut head = response(200);
        head.headers_mut().insert("trailer", names);
        respond.send_response(head, true).expect("open");
        let head = client.head().await;
        assert!(!head.to_ascii_lowercase().contains("trailer"), "{head}");
    });
}
