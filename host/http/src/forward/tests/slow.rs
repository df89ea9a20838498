//! Slow clients and slow servers: whose fault a silence is.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use netwasm_base::config::Limits;
use netwasm_net::testing::{in_worker, pass, settle};
use netwasm_net::upstream::Group;
use netwasm_net::worker::Worker;

use super::http2::Backend;
use super::{End, Server, client, forwards, group_of};
use crate::testing::Script;

const SECOND: Duration = Duration::from_secs(1);

fn is_up(group: &Group) -> bool {
    group.servers().iter().all(|server| server.is_up())
}

/// Limits of a host that waits longer for clients than for servers.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.http.response_timeout = 3 * SECOND;
    limits.http.body_timeout = 12 * SECOND;
    limits
}

/// Returns a server that one failure leaves out, its group, and a handler that
/// forwards all to it.
async fn strict_server(worker: &Rc<Worker>, scheme: &str) -> (Server, Arc<Group>, Script) {
    let server = Server::new().await;
    let settings = "max-fails=1;fail-timeout=1h";
    let group = group_of(&format!("{scheme}://127.0.0.1:{};{settings}", server.port));
    let script = forwards(worker, &group);
    (server, group, script)
}

const HALF: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234";

#[test]
fn a_client_that_stops_its_upload_gets_408() {
    in_worker(limits(), async |worker| {
        let (server, group, script) = strict_server(&worker, "http").await;
        let mut client = client(&script, &worker);
        client.send(HALF).await;
        let mut line = server.accept().await;
        line.receive("01234").await;
        pass(&worker, 8 * SECOND).await;
        // The server has still its whole time.
        client.send("5").await;
        line.expect("5").await;
        pass(&worker, 8 * SECOND).await;
        settle().await;
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
        pass(&worker, 8 * SECOND).await;
        client.status(408).await;
        line.ended().await;
        assert!(is_up(&group));
    });
}

#[test]
fn a_client_that_stops_its_upload_to_http2_gets_408() {
    in_worker(limits(), async |worker| {
        let (server, group, script) = strict_server(&worker, "h2c").await;
        let mut client = client(&script, &worker);
        client.send(HALF).await;
        let mut backend = Backend::accept(&server).await;
        let _asked = backend.next().await;
        pass(&worker, 8 * SECOND).await;
        settle().await;
        assert_eq!(worker.env().counters.forwards_failed.get(), 0);
        pass(&worker, 8 * SECOND).await;
        client.status(408).await;
        assert!(is_up(&group));
    });
}

#[test]
fn a_server_that_answers_nothing_once_the_client_has_gone_on_gets_the_blame() {
    in_worker(limits(), async |worker| {
        let (server, group, script) = strict_server(&worker, "http").await;
        let mut client = client(&script, &worker);
        client.send(HALF).await;
        let mut line = server.accept().await;
        line.receive("01234").await;
        pass(&worker, 8 * SECOND).await;
        client.send("56789").await;
        line.receive("56789").await;
        pass(&worker, 6 * SECOND).await;
        client.status(504).await;
        assert!(!is_up(&group));
    });
}

#[test]
fn a_server_that_never_reads_uploads_is_left_out() {
    let mut limits = Limits::default();
    limits.http.max_body = 1 << 30;
    in_worker(limits, async |worker| {
        let (server, group, script) = strict_server(&worker, "http").await;
        let (from, mut to) = script.connect(&worker).into_split();
        let mut client = End {
            stream: tokio::io::join(from, tokio::io::sink()),
            kept: Vec::new(),
        };
        let upload = tokio::task::spawn_local(async move {
            let head = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n";
            to.write_all(head.as_bytes()).await.expect("room");
            let piece = vec![7; 1 << 20];
            // Buffers take some of it, and then there is no room.
            while to.write_all(&piece).await.is_ok() {}
        });
        let _line = server.accept().await;
        let mut head = Box::pin(client.head());
        let mut cx = Context::from_waker(Waker::noop());
        let head = loop {
            settle().await;
            pass(&worker, SECOND).await;
            if let Poll::Ready(head) = head.as_mut().poll(&mut cx) {
                break head;
            }
        };
        assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
        assert!(!is_up(&group));
        upload.abort();
    });
}
