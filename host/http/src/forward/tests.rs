//! Tests of forwarding, with a handler, clients and servers in one thread.

mod bodies;
mod cut;
mod failures;
mod hops;
mod http2;
mod later;
mod lines;
mod servers;
mod slow;
mod small_frames;
mod upgrade;

use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use netwasm_base::config::Limits;
use netwasm_exchange::forward::{Edits, Forward, ForwardedHost, Tells};
use netwasm_exchange::handler::Decision;
use netwasm_net::testing::{in_worker, settle, soon};
use netwasm_net::upstream::Group;
use netwasm_net::worker::Worker;

use crate::testing::{Script, get};

/// A server whose side of the protocol the test speaks.
struct Server {
    listener: TcpListener,
    port: u16,
}

/// Either end of a connection.
struct End<S> {
    stream: S,
    kept: Vec<u8>,
}

impl Server {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        Self { listener, port }
    }

    async fn accept(&self) -> End<TcpStream> {
        let accepted = soon("a connection", self.listener.accept()).await;
        End::of(accepted.expect("a connection").0)
    }

    /// True if nobody waits to be accepted.
    async fn is_left_alone(&self) -> bool {
        settle().await;
        let accept = std::pin::pin!(self.listener.accept());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        accept.poll(&mut cx).is_pending()
    }
}

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> End<S> {
    fn of(stream: S) -> Self {
        Self {
            stream,
            kept: Vec::new(),
        }
    }

    async fn send(&mut self, text: &str) {
        let sent = soon("room", self.stream.write_all(text.as_bytes())).await;
        sent.expect("it is sent");
    }

    /// Receives up to the end of this text.
    async fn receive(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.kept, end.as_bytes()) {
                let text = self.kept.drain(..at + end.len()).collect();
                return String::from_utf8(text).expect("text");
            }
            let more = soon(end, self.stream.read_buf(&mut self.kept)).await;
            let text = String::from_utf8_lossy(&self.kept).into_owned();
            assert!(more.expect("no failure") > 0, "no {end:?}: {text:?}");
        }
    }

    /// Receives so many bytes.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.kept.len() < count {
            let more = soon("more", self.stream.read_buf(&mut self.kept)).await;
            assert!(more.expect("no failure") > 0, "the end");
        }
        self.kept.drain(..count).collect()
    }

    /// Receives a head.
    async fn head(&mut self) -> String {
        self.receive("\r\n\r\n").await
    }

    /// Receives the head of a response with this status.
    async fn status(&mut self, status: u16) {
        let head = self.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }

    /// Receives this and nothing else.
    async fn expect(&mut self, text: &str) {
        assert_eq!(self.receive(text).await, text);
    }

    /// Waits for the end of the connection. Nothing more may arrive.
    async fn ended(&mut self) {
        let more = soon("the end", self.stream.read_buf(&mut self.kept)).await;
        assert_eq!((more.unwrap_or(0), self.kept.len()), (0, 0));
    }
}

impl End<TcpStream> {
    /// Answers a request without a body. Returns its head.
    async fn answer(&mut self) -> String {
        let head = self.head().await;
        self.send(OK).await;
        head
    }
}

/// Returns a server, and a handler that forwards all to it.
async fn one_server(worker: &Rc<Worker>) -> (Server, Script) {
    let server = Server::new().await;
    let script = forwards(worker, &group(&[&server], ""));
    (server, script)
}

/// Returns a group of these servers, with settings.
fn group(servers: &[&Server], settings: &str) -> Arc<Group> {
    let servers: Vec<_> = servers
        .iter()
        .map(|it| format!("127.0.0.1:{}", it.port))
        .collect();
    group_of(&format!("{};{settings}", servers.join(",")))
}

/// Returns a group of these servers and settings.
fn group_of(text: &str) -> Arc<Group> {
    let group = format!("g={text}").parse().expect("a group");
    Arc::new(Group::new(&group, &Arc::default()).expect("a group"))
}

fn forward(worker: &Rc<Worker>, group: &Arc<Group>) -> Forward {
    Forward {
        worker: Rc::clone(worker),
        group: Arc::clone(group),
        key: None,
        method: None,
        target: None,
        host: ForwardedHost::Kept,
        request: Edits::default(),
        response: Edits::default(),
        tells: Tells::default(),
        connect_timeout: None,
        response_timeout: None,
        retries: 1,
        judge: None,
        max_body: u64::MAX,
    }
}

/// Returns a handler that forwards all, at their heads.
fn forwards(worker: &Rc<Worker>, group: &Arc<Group>) -> Script {
    forwards_with(worker, group, |_| {})
}

fn forwards_with(
    worker: &Rc<Worker>,
    group: &Arc<Group>,
    change: impl Fn(&mut Forward) + 'static,
) -> Script {
    let (worker, group) = (Rc::clone(worker), Arc::clone(group));
    Script::at_head(move |_| {
        let mut forward = forward(&worker, &group);
        change(&mut forward);
        Ok(Decision::Forward(Box::new(forward)))
    })
}

fn client(script: &Script, worker: &Rc<Worker>) -> End<UnixStream> {
    End::of(script.connect(worker))
}

const OK: &str = "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nContent-Length: 2\r\n\r\nok";
const PASSED: &str = "HTTP/1.1 200 OK\r\nserver: s\r\ndate: d\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_passes_without_the_fields_of_its_connection() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        let head = "GET /a?b=%20c HTTP/1.1\r\nHost: example.org\r\nConnection: close, X-Hop\r\n\
                    X-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nTE: gzip\r\n\
                    Proxy-Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\n\
                    X-B: 2\r\nx-b: 3\r\nAccept: */*\r\n\r\n";
        client.send(head).await;
        let mut line = server.accept().await;
        let expected = "GET /a?b=%20c HTTP/1.1\r\nHost: example.org\r\nX-B: 2\r\nx-b: 3\r\n\
                        Accept: */*\r\n\r\n";
        assert_eq!(line.head().await, expected);
        line.send(
            "HTTP/1.1 201 Made\r\nServer: s\r\nDate: d\r\nConnection: X-Hop, keep-alive\r\n\
             X-Hop: 1\r\nKeep-Alive: 5\r\nX-C: 1\r\nContent-Length: 2\r\n\r\nok",
        )
        .await;
        client
            .expect(
                "HTTP/1.1 201 Created\r\nserver: s\r\ndate: d\r\nx-c: 1\r\nContent-Length: 2\r\n\
                 Connection: close\r\n\r\nok",
            )
            .await;
        client.ended().await;
    });
}

#[test]
fn a_connection_is_used_again_by_another_client() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut one = client(&script, &worker);
        one.send(&get("/1")).await;
        let mut line = server.accept().await;
        assert!(line.answer().await.starts_with("GET /1 "));
        one.expect(PASSED).await;
        let mut other = client(&script, &worker);
        other.send(&get("/2")).await;
        assert!(line.answer().await.starts_with("GET /2 "));
        other.expect(PASSED).await;
        one.send(&get("/3")).await;
        assert!(line.answer().await.starts_with("GET /3 "));
        one.expect(PASSED).await;
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}

#[test]
fn the_handlers_edits_are_made() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let field = |name: &str, value: &str| (name.to_owned(), value.into());
        let script = forwards_with(&worker, &group(&[&server], ""), move |forward| {
            forward.method = Some("PUT".to_owned());
            forward.target = Some("/x".to_owned());
            forward.host = ForwardedHost::Replaced("inner:8080".to_owned());
            forward.request = Edits {
                remove: vec!["Cookie".to_owned()],
                set: vec![field("X-A", "new")],
                add: vec![field("X-B", "2")],
            };
            forward.response = Edits {
                remove: vec!["X-Powered-By".to_owned()],
                set: vec![field("Server", "mine")],
                add: vec![field("Set-Cookie", "b=2")],
            };
            forward.tells = Tells {
                via: true,
                x_forwarded: true,
                forwarded: true,
                believes: false,
            };
        });
        let mut client = client(&script, &worker);
        client
            .send(
                "GET / HTTP/1.1\r\nHost: out\r\nCookie: c\r\nx-a: old\r\nX-B: 1\r\n\
                 X-Forwarded-Proto: https\r\n\r\n",
            )
            .await;
        let mut line = server.accept().await;
        assert_eq!(
            line.head().await,
            "PUT /x HTTP/1.1\r\nHost: inner:8080\r\nX-B: 1\r\nX-Forwarded-For: unix:\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: out\r\n\
             Forwarded: for=unknown;host=\"out\";proto=http\r\nVia: 1.1 netwasm\r\nX-A: new\r\n\
             X-B: 2\r\nContent-Length: 0\r\n\r\n"
        );
        line.send(
            "HTTP/1.1 200 OK\r\nServer: s\r\nDate: d\r\nX-Powered-By: x\r\nSet-Cookie: a=1\r\n\
             Content-Length: 0\r\n\r\n",
        )
        .await;
        client
            .expect(
                "HTTP/1.1 200 OK\r\ndate: d\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\
                 server: mine\r\nContent-Length: 0\r\n\r\n",
            )
            .await;
    });
}

#[test]
fn what_must_not_be_sent_is_a_fault_of_the_handler() {
    type Change = fn(&mut Forward);
    let wrong: [Change; 8] = [
        |it| it.target = Some("x".to_owned()),
        |it| it.target = Some("/a b".to_owned()),
        |it| it.target = Some("/a\r\nX: y".to_owned()),
        |it| it.method = Some("GET /x".to_owned()),
        |it| it.method = Some("CONNECT".to_owned()),
        |it| it.host = ForwardedHost::Replaced("a\r\nX: y".to_owned()),
        |it| it.request.set = vec![("Content-Length".to_owned(), b"1".to_vec())],
        |it| it.response.add = vec![("X".to_owned(), b"a\r\nY: b".to_vec())],
    ];
    for change in wrong {
        in_worker(Limits::default(), async move |worker| {
            let server = Server::new().await;
            let script = forwards_with(&worker, &group(&[&server], ""), change);
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            client.status(500).await;
            assert_eq!(worker.env().counters.responses_refused.get(), 1);
            assert!(server.is_left_alone().await);
        });
    }
}

#[test]
fn responses_without_a_body_end_with_their_heads() {
    in_worker(Limits::default(), async |worker| {
        let (server, script) = one_server(&worker).await;
        let mut client = client(&script, &worker);
        client.send("HEAD /1 HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let mut line = server.accept().await;
        for (number, status, fields, expected) in [
            (
                1,
                "200 OK",
                "Content-Length: 1234\r\n",
                "Content-Length: 1234\r\n",
            ),
            (2, "204 No Content", "", ""),
            (
                3,
                "304 Not Modified",
                "ETag: x\r\nContent-Length: 9\r\n",
                "etag: x\r\n",
            ),
            (
                4,
                "200 OK",
                "Content-Length: 0\r\n",
                "Content-Length: 0\r\n",
            ),
        ] {
            let head = line.head().await;
            assert!(head.contains(&format!(" /{number} ")), "{head}");
            line.send(&format!(
                "HTTP/1.1 {status}\r\nServer: s\r\nDate: d\r\n{fields}\r\n"
            ))
            .await;
            let passed = format!("HTTP/1.1 {status}\r\nserver: s\r\ndate: d\r\n{expected}\r\n");
            assert_eq!(client.head().await, passed);
            client.send(&get(&format!("/{}", number + 1))).await;
        }
        assert_eq!(worker.env().counters.connections_made.get(), 1);
    });
}

#[test]
fn interim_responses_are_not_taken_for_the_answer() {
    for send_informational in [false, true] {
        let mut limits = Limits::default();
        limits.http.send_informational = send_informational;
        in_worker(limits, async move |worker| {
            let (server, script) = one_server(&worker).await;
            let mut client = client(&script, &worker);
            client.send(&get("/")).await;
            let mut line = server.accept().await;
            line.head().await;
            line.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                .await;
            line.send("HTTP/1.1 102 Processing\r\n\r\n").await;
            line.send(OK).await;
            if send_informational {
                client
                    .expect("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
                    .await;
                client.expect("HTTP/1.1 102 Processing\r\n\r\n").await;
            }
            client.expect(PASSED).await;
        });
    }
}

#[test]
fn a_request_waits_for_a_place_at_its_server() {
    in_worker(Limits::default(), async |worker| {
        let server = Server::new().await;
        let settings = "max-connections=1;max-queue=1";
        let script = forwards(&worker, &group(&[&server], settings));
        let (mut one, mut two, mut three) = (
            client(&script, &worker),
            client(&script, &worker),
            client(&script, &worker),
        );
        one.send(&get("/1")).await;
        let mut line = server.accept().await;
        line.head().await;
        two.send(&get("/2")).await;
        script.asked_for("/2", 1).await;
        settle().await;
        three.send(&get("/3")).await;
        three.status(503).await;
        line.send(OK).await;
        one.expect(PASSED).await;
        assert!(line.answer().await.starts_with("GET /2 "));
        two.expect(PASSED).await;
    });
}
