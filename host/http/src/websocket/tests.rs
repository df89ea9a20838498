//! Tests of connections, with a guest and clients in one thread.

mod over_http2;
mod pings;
mod sending;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use netwasm_base::config::Limits;
use netwasm_exchange::handler::{
    Awaiting, Call, Decision, Handler, Handlers, NoAnswer, Nobody, Site, Takes, Wanted,
};
use netwasm_exchange::request::Request;
use netwasm_exchange::topics::TopicsOfThread;
use netwasm_exchange::websocket::{Accepted, MessageKind, Socket, WebSocketGuest};
use netwasm_net::guest::Gone;
use netwasm_net::service::Service as _;
use netwasm_net::testing::{connection, in_worker, pass, peer, settle, soon, until};
use netwasm_net::transport::Transport;
use netwasm_net::worker::Worker;

use crate::Service;
use crate::flow_limit::FlowLimit;
use crate::local::{Account, Env, Local};
use crate::websocket::codec::testing::frame;

const KEY: [u8; 4] = [9, 8, 7, 6];

const SECOND: Duration = Duration::from_secs(1);

/// A guest that takes all connections, sends texts back, and notes its events.
#[derive(Clone, Debug, Default)]
struct Echo(Rc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    sockets: RefCell<Vec<Rc<Socket>>>,
    events: RefCell<Vec<String>>,
    /// True if it is gone at the next message.
    leaves: Cell<bool>,
    protocol: RefCell<Option<String>>,
    /// Times that it sends as much as is taken, once it hears of room.
    refills: Cell<u32>,
    /// Messages that it sends before the connection is open.
    greeting: RefCell<Option<String>>,
    topics: OnceCell<Rc<TopicsOfThread>>,
}

impl Noted {
    fn topics(&self, transport: &Transport) -> Rc<TopicsOfThread> {
        let make = || TopicsOfThread::new(&Arc::default(), transport.thread());
        Rc::clone(self.topics.get_or_init(make))
    }
}

impl Handlers for Echo {
    fn takes<'a>(&self, _: &dyn Fn() -> Wanted<'a>) -> (Site, Takes) {
        (Site::default(), Takes::Whole)
    }

    fn connection(&self, _: &Rc<Transport>) -> Box<dyn Handler> {
        Box::new(self.clone())
    }

    fn opens_websockets(&self) -> bool {
        true
    }
}

impl Handler for Echo {
    fn handle(&mut self, request: Box<Request>) -> (Box<Request>, Result<Decision, NoAnswer>) {
        let transport = request.transport.clone().expect("a connection");
        let socket = Socket::new(&transport, &self.0.topics(&transport));
        if let Some(greeting) = &*self.0.greeting.borrow() {
            socket.send(MessageKind::Text, greeting.as_bytes());
        }
        self.0.sockets.borrow_mut().push(Rc::clone(&socket));
        let accepted = Accepted {
            protocol: self.0.protocol.borrow().clone(),
            headers: vec![("X-Own".into(), b"1".to_vec())],
            guest: Box::new(EchoOf(self.clone(), Rc::clone(&socket))),
            socket,
        };
        (request, Ok(Decision::WebSocket(Box::new(accepted))))
    }

    fn begin(&mut self, _: Call) -> Rc<dyn Awaiting> {
        Rc::new(Nobody)
    }
}

/// A connection of the guest.
#[derive(Debug)]
struct EchoOf(Echo, Rc<Socket>);

impl EchoOf {
    fn note(&self, event: String) {
        self.0.0.events.borrow_mut().push(event);
    }
}

impl WebSocketGuest for EchoOf {
    fn text(&self, text: &str) -> Result<(), Gone> {
        if self.0.0.leaves.get() {
            return Err(Gone);
        }
        self.note(format!("text {text}"));
        self.1.send(MessageKind::Text, text.as_bytes());
        Ok(())
    }

    fn binary(&self, data: &[u8]) -> Result<(), Gone> {
        self.note(format!("binary {}", data.len()));
        Ok(())
    }

    fn drained(&self) -> Result<(), Gone> {
        self.note("drained".into());
        if let Some(left) = self.0.0.refills.get().checked_sub(1) {
            self.0.0.refills.set(left);
            sending::fill(&self.1, 0);
        }
        Ok(())
    }

    fn closed(&self, code: u16, reason: &str) -> Result<(), Gone> {
        self.note(format!("closed {code} {reason}"));
        Ok(())
    }
}

impl Echo {
    /// Serves a new connection, and returns the client's end.
    fn connect(&self, worker: &Rc<Worker>) -> UnixStream {
        let env = Arc::new(Env {
            access_log: None,
            tallies: None,
            flow_limit: Arc::new(FlowLimit::new(worker.env().limits.http.max_unread)),
        });
        let account = Account::new(worker.env(), &env);
        let local = Local::new(env, Rc::new(self.clone()), account, Vec::new());
        let (transport, there) = connection(worker);
        Service::new(local).accept(worker, transport);
        peer(there)
    }

    /// Opens a connection with these header lines besides.
    async fn open(&self, worker: &Rc<Worker>, lines: &str) -> (Client, String) {
        let mut client = Client {
            stream: self.connect(worker),
            kept: Vec::new(),
        };
        client.send(request(lines).as_bytes()).await;
        let head = client.head().await;
        (client, head)
    }

    fn events(&self) -> Vec<String> {
        self.0.events.take()
    }

    async fn noted(&self, event: &str) {
        let events = &self.0.events;
        until(event, || events.borrow().iter().any(|it| it == event)).await;
    }

    fn socket(&self) -> Rc<Socket> {
        let sockets = self.0.sockets.borrow();
        Rc::clone(sockets.last().expect("a connection"))
    }
}

fn request(lines: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// A client.
struct Client {
    stream: UnixStream,
    kept: Vec<u8>,
}

impl Client {
    async fn send(&mut self, data: &[u8]) {
        let sent = soon("room for what is sent", self.stream.write_all(data)).await;
        sent.expect("it is sent");
    }

    async fn say(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes(), KEY)).await;
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.kept);
        let count = soon("something for the client", read).await;
        assert!(count.expect("no error") > 0, "the end: {:?}", self.kept);
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = memchr::memmem::find(&self.kept, b"\r\n\r\n") {
                let head = self.kept.drain(..end + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            self.more().await;
        }
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.kept.len() < count {
            self.more().await;
        }
        self.kept.drain(..count).collect()
    }

    /// Receives a frame: its first byte and the payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2).await;
        let length = match head[1] {
            126 => {
                let bytes = self.take(2).await;
                usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
            }
            127 => {
                let bytes = self.take(8).await;
                let bytes = bytes.try_into().expect("8 bytes");
                usize::try_from(u64::from_be_bytes(bytes)).expect("little")
            }
            short => {
                assert!(short < 126, "a server's frame has no mask");
                usize::from(short)
            }
        };
        (head[0], self.take(length).await)
    }

    async fn hears(&mut self, text: &str) {
        let (first, payload) = self.frame().await;
        let payload = String::from_utf8_lossy(&payload).into_owned();
        assert_eq!((first, &*payload), (0x81, text));
    }

    /// Receives a close frame, and returns its code.
    async fn close(&mut self) -> u16 {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    async fn ended(&mut self) {
        let read = self.stream.read_buf(&mut self.kept);
        let count = soon("the end", read).await.expect("an orderly end");
        assert_eq!((count, &self.kept[..]), (0, &[][..]));
    }
}

#[test]
fn messages_go_to_the_guest_and_come_back_until_the_client_closes() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        guest.0.greeting.replace(Some("welcome".into()));
        let (mut client, head) = guest.open(&worker, "").await;
        assert!(
            head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
            "{head}"
        );
        for line in [
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "x-own: 1",
            "Upgrade: websocket",
            "Connection: Upgrade",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        client.hears("welcome").await;
        client.say("one").await;
        client.hears("one").await;
        let fragments = [
            frame(0x01, b"tw", KEY),
            frame(0x89, b"there?", KEY),
            frame(0x80, b"o", KEY),
        ];
        client.send(&fragments.concat()).await;
        assert_eq!(client.frame().await, (0x8a, b"there?".to_vec()));
        client.hears("two").await;
        client.send(&frame(0x82, &[1; 70_000], KEY)).await;
        guest.noted("binary 70000").await;
        client.send(&frame(0x88, b"\x0f\xa0bye", KEY)).await;
        assert_eq!(client.close().await, 4000);
        client.ended().await;
        let events = ["text one", "text two", "binary 70000", "closed 4000 bye"];
        assert_eq!(guest.events(), events);
        assert_eq!(guest.socket().send(MessageKind::Text, b"late"), u64::MAX);
    });
}

#[test]
fn frames_that_came_with_the_request_are_not_lost() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        let mut client = Client {
            stream: guest.connect(&worker),
            kept: Vec::new(),
        };
        let early = frame(0x81, b"early", KEY);
        let (begin, rest) = early.split_at(4);
        client.send(&[request("").as_bytes(), begin].concat()).await;
        client.head().await;
        client.send(rest).await;
        client.hears("early").await;
    });
}

#[test]
fn a_client_that_breaks_a_rule_is_told_which_by_a_code() {
    let mut limits = Limits::default();
    limits.http.websocket.max_message = 100;
    limits.http.websocket.max_rate = Some(3);
    in_worker(limits, async |worker| {
        let four: Vec<u8> = (0..4).flat_map(|_| frame(0x81, b"x", KEY)).collect();
        for (input, code) in [
            (b"\x81\x01x".to_vec(), 1002),
            (frame(0x91, b"x", KEY), 1002),
            (frame(0x83, b"x", KEY), 1002),
            (frame(0x80, b"x", KEY), 1002),
            (frame(0x88, b"\x03\xed", KEY), 1002),
            (frame(0x81, b"\xff", KEY), 1007),
            (frame(0x82, &[0; 101], KEY), 1009),
            (four, 1008),
        ] {
            let guest = Echo::default();
            let (mut client, _) = guest.open(&worker, "").await;
            client.send(&input).await;
            let told = loop {
                match client.frame().await {
                    (0x88, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                    other => assert_eq!(other, (0x81, b"x".to_vec())),
                }
            };
            assert_eq!(told, code, "{input:?}");
            client.ended().await;
            let last = guest.events().pop().expect("an event");
            assert!(last.starts_with(&format!("closed {code} ")), "{last}");
        }
    });
}

#[test]
fn the_guest_closes_and_hears_how_the_client_answers() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        let socket = guest.socket();
        for code in [1005, 1006, 999, 5000] {
            assert!(socket.close(code, "").is_err(), "{code}");
        }
        assert!(socket.close(1000, &"x".repeat(124)).is_err());
        socket.close(4001, "enough").expect("it is open");
        assert!(socket.is_closing() && socket.close(1000, "").is_err());
        assert_eq!(client.frame().await, (0x88, b"\x0f\xa1enough".to_vec()));
        // Messages under way are dropped.
        client.say("late").await;
        client.send(&frame(0x88, b"\x0f\xa1", KEY)).await;
        client.ended().await;
        assert_eq!(guest.events(), ["closed 4001 "]);
        // A client that does not answer is left in time.
        let (mut client, _) = guest.open(&worker, "").await;
        guest.socket().close(1000, "").expect("it is open");
        assert_eq!(client.close().await, 1000);
        pass(&worker, 6 * SECOND).await;
        guest.noted("closed 1006 ").await;
        client.ended().await;
    });
}

#[test]
fn a_guest_that_is_gone_ends_its_connections_with_1011() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        guest.0.leaves.set(true);
        client.say("x").await;
        assert_eq!(client.close().await, 1011);
        client.ended().await;
    });
}

#[test]
fn a_silent_client_is_asked_and_one_that_does_not_answer_is_left() {
    let mut limits = Limits::default();
    limits.http.websocket.ping = Some(10 * SECOND);
    limits.http.websocket.ping_timeout = 5 * SECOND;
    in_worker(limits, async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        pass(&worker, 11 * SECOND).await;
        assert_eq!(client.frame().await, (0x89, Vec::new()));
        client.send(&frame(0x8a, b"", KEY)).await;
        client.say("here").await;
        client.hears("here").await;
        pass(&worker, 6 * SECOND).await;
        assert_eq!(guest.events(), ["text here"]);
        pass(&worker, 5 * SECOND).await;
        assert_eq!(client.frame().await, (0x89, Vec::new()));
        pass(&worker, 6 * SECOND).await;
        guest.noted("closed 1006 ").await;
        assert_eq!(client.close().await, 1011);
        client.ended().await;
    });
}

#[test]
fn a_message_that_is_not_finished_ends_the_connection_whatever_comes_beside_it() {
    let mut limits = Limits::default();
    limits.http.body_timeout = 10 * SECOND;
    in_worker(limits, async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        let (begun, more) = (frame(0x01, b"be", KEY), frame(0x00, b"gi", KEY));
        for part in [begun, more, Vec::new()] {
            client.send(&[part, frame(0x89, b"", KEY)].concat()).await;
            assert_eq!(client.frame().await, (0x8a, Vec::new()));
            pass(&worker, 6 * SECOND).await;
        }
        assert_eq!(client.close().await, 1008);
        client.ended().await;
        let last = guest.events().pop().expect("an event");
        assert!(last.starts_with("closed 1008 "), "{last}");
        // The guest may take its time.
        let (mut client, _) = guest.open(&worker, "").await;
        let (begun, rest) = (frame(0x01, b"be", KEY), frame(0x80, b"gun", KEY));
        client.send(&[begun, frame(0x89, b"", KEY)].concat()).await;
        assert_eq!(client.frame().await, (0x8a, Vec::new()));
        guest.socket().pause(true);
        pass(&worker, 25 * SECOND).await;
        guest.socket().pause(false);
        client.send(&rest).await;
        client.hears("begun").await;
    });
}

#[test]
fn a_client_that_leaves_without_a_word_is_reported_so() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        let (client, _) = guest.open(&worker, "").await;
        drop(client);
        guest.noted("closed 1006 ").await;
        assert_eq!(guest.events().len(), 1);
    });
}

#[test]
fn a_guest_may_hold_a_client_back() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        let (mut client, _) = guest.open(&worker, "").await;
        guest.socket().pause(true);
        client.say("one").await;
        settle().await;
        assert_eq!(guest.events(), [""; 0]);
        guest.socket().pause(false);
        client.hears("one").await;
        // It still hears of the end.
        guest.socket().pause(true);
        guest.socket().close(1000, "").expect("it is open");
        assert_eq!(client.close().await, 1000);
        client.send(&frame(0x88, b"\x03\xe8", KEY)).await;
        guest.noted("closed 1000 ").await;
    });
}

#[test]
fn a_protocol_that_the_client_does_not_offer_is_not_spoken() {
    in_worker(Limits::default(), async |worker| {
        let guest = Echo::default();
        guest.0.protocol.replace(Some("chat".into()));
        let (_client, head) = guest
            .open(&worker, "Sec-WebSocket-Protocol: x, chat\r\n")
            .await;
        assert!(
            head.contains("\r\nsec-websocket-protocol: chat\r\n"),
            "{head}"
        );
        let (_client, head) = guest.open(&worker, "").await;
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        assert_eq!(guest.events(), ["closed 1006 "]);
    });
}
