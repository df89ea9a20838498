//! Does what the test-suite tells it, good or bad. It is no example: the other
//! guests are.
//!
//! ```sh
//! netwasm run guests/probe.wasm --tcp 8888 --http 8080
//! printf 'events\n' | nc localhost 8888
//! curl http://localhost:8080/request
//! ```
//!
//! Requests of HTTP get what `http::answer` says of their path.
//!
//! A client sends commands, one a line; see `Client::execute` for what each
//! does and answers. An answer is a line, a failure `error: NAME` with a name
//! of WIT's `error-code` or of [`std::io::ErrorKind`] in kebab case. An
//! argument called TEXT is the rest of the line. With `panic-on-connect` as the
//! first argument of the guest it panics when a client connects; with
//! `ask-at-start` it asks for a timer and a look-up when an instance is made.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:probe;
        world probe {
            include netwasm:net/tcp-server@0.2.0;
            include netwasm:net/connecting@0.2.0;
            include netwasm:net/timing@0.2.0;
            include netwasm:net/resolving@0.2.0;
            include netwasm:net/draining@0.2.0;
            include netwasm:net/http-server@0.2.0;
            include netwasm:net/deferring@0.2.0;
        }
    ",
    world: "netwasm:probe/probe",
    generate_all,
});

mod command;
mod http;
mod metrics;
mod shared;
mod text;
mod timer;
mod transport;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use exports::netwasm::net::{
    connect_handler, lifecycle, resolve_handler, tcp_handler, timer_handler,
};
use netwasm::net::types::{ConnectionId, Error, IpAddress, TlsInfo};
use netwasm::net::{connector, resolver};
use transport::Transport;

thread_local! {
    /// The last token.
    static TOKEN: Cell<u64> = const { Cell::new(0) };
    /// Connections by their tokens.
    static CONNECTIONS: RefCell<HashMap<u64, Rc<Connection>>> = RefCell::default();
    /// All clients that have come.
    static CLIENTS: RefCell<Vec<Weak<Client>>> = RefCell::default();
    /// Client of each look-up.
    static QUESTIONS: RefCell<HashMap<u64, Rc<Client>>> = RefCell::default();
    /// Client of each outgoing connection, and the text to send there.
    static CONNECTS: RefCell<HashMap<u64, (Rc<Client>, String)>> = RefCell::default();
}

/// The token of a look-up whose answer nobody waits for.
const NOBODY: u64 = u64::MAX;

struct Probe;
export!(Probe);

impl tcp_handler::Guest for Probe {
    fn connection_made(connection: ConnectionId) -> u64 {
        let first = std::env::args().nth(1);
        assert_ne!(first.as_deref(), Some("panic-on-connect"), "as it was told");
        let client = Rc::new(Client {
            transport: Transport(connection),
            received: RefCell::default(),
            events: RefCell::new(vec!["connection-made"]),
            half_close: Cell::new(false),
            timer: Cell::default(),
            left: Cell::new(0),
            goaded: Cell::new(0),
        });
        CLIENTS.with_borrow_mut(|clients| clients.push(Rc::downgrade(&client)));
        let token = next_token();
        keep(token, Connection::Client(client));
        token
    }

    fn data_received(token: u64, data: Vec<u8>) {
        connection(token).data_received(&data);
    }

    fn eof_received(token: u64) -> bool {
        connection(token).eof_received()
    }

    fn writable(token: u64) {
        connection(token).writable();
    }

    fn tls_started(token: u64, info: TlsInfo) {
        connection(token).tls_started(&info);
    }

    fn connection_lost(token: u64, reason: Option<Error>) {
        let connection = CONNECTIONS
            .with_borrow_mut(|connections| connections.remove(&token))
            .expect("a connection is lost once");
        connection.lost(reason.as_ref());
    }
}

fn keep(token: u64, connection: Connection) {
    let before = CONNECTIONS.with_borrow_mut(|all| all.insert(token, Rc::new(connection)));
    assert!(before.is_none(), "a connection is made once");
}

fn connection(token: u64) -> Rc<Connection> {
    CONNECTIONS
        .with_borrow(|all| all.get(&token).cloned())
        .expect("a connection that was made and is not lost")
}

impl timer_handler::Guest for Probe {
    fn woken() {
        // That of `ask-at-start` has no client.
        if std::env::args().nth(1).as_deref() == Some("ask-at-start") {
            return;
        }
        for wake in timer::due() {
            match wake {
                Wake::Answer(client) => client.answer("fired"),
                Wake::Respond(token, file) => http::respond(token, file),
                Wake::Forward(token, forward) => http::forward_later(token, &forward),
                Wake::Resume(client) => {
                    client.transport.resume_reading();
                    client.answer("resumed");
                }
            }
        }
    }
}

impl resolve_handler::Guest for Probe {
    fn resolved(token: u64, answer: Result<Vec<IpAddress>, Error>) {
        if token == NOBODY {
            return;
        }
        let client = QUESTIONS
            .with_borrow_mut(|questions| questions.remove(&token))
            .expect("an answer follows a question");
        match answer {
            Ok(addresses) => client.answer(&text::addresses(&addresses)),
            Err(error) => client.refuse(&text::error(&error)),
        }
    }
}

impl connect_handler::Guest for Probe {
    fn connected(token: u64, outcome: Result<ConnectionId, Error>) {
        let (client, text) = CONNECTS
            .with_borrow_mut(|connects| connects.remove(&token))
            .expect("the event of a connection that was asked for, once");
        match outcome {
            Ok(connection) => {
                let transport = Transport(connection);
                transport.write(format!("{text}\n").as_bytes());
                let outgoing = Outgoing {
                    transport,
                    client,
                    reply: RefCell::default(),
                    answered: Cell::new(false),
                };
                keep(token, Connection::Outgoing(outgoing));
            }
            Err(error) => client.refuse(&text::error(&error)),
        }
    }
}

impl lifecycle::Guest for Probe {
    fn shutting_down(deadline: Option<u64>) {
        let text = match deadline {
            Some(deadline) => format!("shutting down in {} ms", deadline / 1_000_000),
            None => "shutting down".to_owned(),
        };
        CLIENTS.with_borrow(|clients| {
            for client in clients.iter().filter_map(Weak::upgrade) {
                client.answer(&text);
            }
        });
    }
}

/// A number that no other pending work has.
fn next_token() -> u64 {
    TOKEN.set(TOKEN.get() + 1);
    TOKEN.get()
}

/// Runs when an instance is made.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    if std::env::args().nth(1).as_deref() == Some("ask-at-start") {
        netwasm::net::timers::wake_at(Some(0));
        let _ = resolver::resolve(NOBODY, "localhost");
    }
}

/// A client that sends commands, or a connection that one of them asked for.
enum Connection {
    Client(Rc<Client>),
    Outgoing(Outgoing),
}

impl Connection {
    fn data_received(&self, data: &[u8]) {
        match self {
            Self::Client(client) => {
                client.saw("data-received");
                client.received.borrow_mut().extend_from_slice(data);
                while let Some(line) = client.next_line() {
                    client.execute(line.trim_end_matches(['\r', '\n']));
                }
            }
            Self::Outgoing(outgoing) => {
                outgoing.reply.borrow_mut().extend_from_slice(data);
                if data.contains(&b'\n') {
                    outgoing.pass_on(None);
                    outgoing.transport.close();
                }
            }
        }
    }

    fn eof_received(&self) -> bool {
        match self {
            Self::Client(client) => {
                client.saw("eof-received");
                client.half_close.get()
            }
            Self::Outgoing(_) => false,
        }
    }

    fn writable(&self) {
        let Self::Client(client) = self else { return };
        match client.goaded.get() {
            0 => {
                client.saw("writable");
                client.stream_on();
            }
            left => {
                client.goaded.set(left - 1);
                client.transport.write(b"x");
                if left > 1 {
                    client.transport.want_write();
                }
            }
        }
    }

    fn tls_started(&self, info: &TlsInfo) {
        if let Self::Client(client) = self {
            client.saw("tls-started");
            client.answer(&format!("{} {}", info.version, info.cipher));
        }
    }

    fn lost(&self, reason: Option<&Error>) {
        match self {
            Self::Client(client) => client.forget(),
            Self::Outgoing(outgoing) => outgoing.pass_on(reason),
        }
    }
}

/// A client that sends commands.
struct Client {
    transport: Transport,
    /// Received bytes that are not a whole command yet.
    received: RefCell<Vec<u8>>,
    /// The events so far; `data-received` once for any number in a row.
    events: RefCell<Vec<&'static str>>,
    /// Return value of `eof-received`.
    half_close: Cell<bool>,
    /// The timer that `cancel-timer` is about.
    timer: Cell<(u64, u64)>,
    /// Bytes that `stream` has yet to write.
    left: Cell<u64>,
    /// Times that `goad` has yet to ask for `writable`.
    goaded: Cell<u64>,
}

/// Purpose of a timer.
enum Wake {
    Answer(Rc<Client>),
    Resume(Rc<Client>),
    /// Answers a deferred request, perhaps by a file.
    Respond(u64, Option<String>),
    /// Forwards a deferred request.
    Forward(u64, Box<netwasm::net::http::Forward>),
}

impl Client {
    fn saw(&self, event: &'static str) {
        let mut events = self.events.borrow_mut();
        if event != "data-received" || events.last() != Some(&event) {
            events.push(event);
        }
    }

    /// Takes the next line, with its end, from what was received.
    fn next_line(&self) -> Option<String> {
        let mut received = self.received.borrow_mut();
        let end = received.iter().position(|&byte| byte == b'\n')?;
        let line: Vec<u8> = received.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }

    fn answer(&self, line: &str) {
        self.transport.write(format!("{line}\n").as_bytes());
    }

    fn refuse(&self, error: &str) {
        self.answer(&format!("error: {error}"));
    }

    /// Drops what still refers to a client that is gone, so that its transport
    /// is dropped with it.
    fn forget(self: &Rc<Self>) {
        fn remove<T>(
            pending: &RefCell<HashMap<u64, T>>,
            mine: impl Fn(&T) -> bool,
            cancel: impl Fn(u64),
        ) {
            pending.borrow_mut().retain(|&id, entry| {
                let keep = !mine(entry);
                if !keep {
                    cancel(id);
                }
                keep
            });
        }
        let is_self = |other: &Rc<Self>| Rc::ptr_eq(other, self);
        timer::forget(|wake| match wake {
            Wake::Answer(client) | Wake::Resume(client) => is_self(client),
            Wake::Respond(..) | Wake::Forward(..) => false,
        });
        QUESTIONS.with(|all| remove(all, is_self, resolver::cancel));
        CONNECTS.with(|all| remove(all, |(client, _)| is_self(client), connector::cancel));
    }
}

/// A connection that a client asked for.
struct Outgoing {
    transport: Transport,
    client: Rc<Client>,
    /// Bytes that have come back.
    reply: RefCell<Vec<u8>>,
    answered: Cell<bool>,
}

impl Outgoing {
    /// Answers the client with the first line that came back, or with what
    /// there is of it, or with why there is none.
    fn pass_on(&self, reason: Option<&Error>) {
        if self.answered.replace(true) {
            return;
        }
        let reply = self.reply.borrow();
        let reply = String::from_utf8_lossy(&reply);
        match (reply.lines().next(), reason) {
            (Some(line), _) => self.client.answer(line),
            (None, Some(error)) => self.client.refuse(&text::error(error)),
            (None, None) => self.client.refuse("closed"),
        }
    }
}
