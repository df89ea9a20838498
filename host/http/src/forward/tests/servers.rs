//! Servers whose ways are odd, or of which there are several.

use netwasm_base::config::Limits;
use netwasm_net::testing::in_worker;

use super::{PASSED, Server, client, forwards_with, group, one_server};
use crate::testing::get;

#[test]
fn a_server_that_does_not_close_has_answered_all_the_same() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut line = server.accept().await;
        line.head().await;
        // It says that it closes, and does not.
        let fields = "Server: s\r\nDate: d\r\nConnection: close\r\nContent-Length: 2";
        line.send(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok"))
            .await;
        client.expect(PASSED).await;
        line.ended().await;
        client.send(&get("/2")).await;
        let mut line = server.accept().await;
        line.answer().await;
        client.expect(PASSED).await;
    });
}

#[test]
fn so_many_servers_are_tried_and_no_more() {
    for (retries, status) in [(1, 502), (2, 200)] {
        in_worker(Limits::default(), async move |worker| {
            let (one, other) = (Server::new().await, Server::new().await);
            let alive = Server::new().await;
            let all = group(&[&one, &other, &alive], "");
            drop((one.listener, other.listener));
            let script = forwards_with(&worker, &all, move |it| it.retries = retries);
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            if status == 200 {
                let mut line = alive.accept().await;
                line.answer().await;
            }
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        });
    }
}

#[test]
fn upgrade_stays_with_any_status_but_101() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send(&get("/1")).await;
        let mut line = server.accept().await;
        for status in ["200 OK", "426 Upgrade Required"] {
            line.head().await;
            line.send(&format!(
                "HTTP/1.1 {status}\r\nServer: s\r\nDate: d\r\nUpgrade: websocket\r\n\
                 Connection: upgrade\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            let passed = "\r\nserver: s\r\ndate: d\r\nContent-Length: 0\r\n\r\n";
            assert_eq!(client.head().await, format!("HTTP/1.1 {status}{passed}"));
            client.send(&get("/2")).await;
        }
    });
}
