//! Forwards each connection to one of the servers named on the command line,
//! the next one each time, and skips those that cannot be reached. The bytes
//! are relayed by the host: the guest sees none of them.
//!
//! ```sh
//! netwasm run guests/proxy.wasm --tcp 8080 \
//!     --allow-connect '127.0.0.1:*' -- 127.0.0.1:9001 127.0.0.1:9002
//! ```
//!
//! A server is `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`.
//!
//! To take turns, every instance starts at a random server and counts on from
//! there. So it works where an instance sees many clients
//! (`--isolation worker`), and, on average, where it sees only one.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package netwasm:proxy;
        world proxy {
            include netwasm:net/tcp-server@0.2.0;
            include netwasm:net/connecting@0.2.0;
        }
    ",
    world: "netwasm:proxy/proxy",
    generate_all,
});

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use exports::netwasm::net::{connect_handler, tcp_handler};
use netwasm::net::connector;
use netwasm::net::log::{Level, log};
use netwasm::net::transports::Transport;
use netwasm::net::types::{ConnectOptions, Endpoint, Error, TlsInfo};

/// How long a server may take to answer before the next one is tried, in
/// nanoseconds.
const CONNECT_TIMEOUT: u64 = 5_000_000_000;

thread_local! {
    /// The servers, in the order of the command line.
    static SERVERS: Vec<Server> = servers(std::env::args().skip(1));
    /// Whose turn it is.
    static TURN: Cell<usize> = Cell::new(random());
    /// The clients whose servers are being connected to.
    /// The token of the last attempt.
    static LAST: Cell<u64> = const { Cell::new(0) };
    static PENDING: RefCell<HashMap<u64, Rc<Client>>> = RefCell::default();
}

struct Proxy;
export!(Proxy);

/// What components call when an instance is made. The host makes one before it
/// listens: so it does not begin to listen where there is no server.
#[cfg(target_family = "wasm")]
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    if SERVERS.with(Vec::is_empty) {
        let wanted = "name the servers to connect to, as HOST:PORT, [IPV6]:PORT or unix:PATH";
        log(Level::Error, &format!("no server: {wanted}, after --"));
        std::process::exit(1);
    }
}

impl tcp_handler::Guest for Proxy {
    type Connection = Connection;
}

/// Both kinds of connections there are.
enum Connection {
    Client(Rc<Client>),
    Server {
        /// Kept, since dropping a transport closes it.
        _transport: Transport,
    },
}

impl tcp_handler::GuestConnection for Connection {
    /// A client came.
    fn new(transport: Transport) -> Self {
        // What it sends waits in its socket until there is a server.
        transport.pause_reading();
        let client = Rc::new(Client {
            transport,
            pending: Cell::new(0),
            first: TURN.replace(TURN.get().wrapping_add(1)),
            tried: Cell::new(0),
        });
        client.connect();
        Self::Client(client)
    }

    /// Whoever is left is closed by the host; a server that is still being
    /// connected to is not wanted any more.
    fn connection_lost(&self, _reason: Option<Error>) {
        if let Self::Client(client) = self {
            client.give_up();
        }
    }

    // Everything else happens in the host, by relay.
    fn data_received(&self, _data: Vec<u8>) {}
    fn eof_received(&self) -> bool {
        false
    }
    fn writable(&self) {}
    fn tls_started(&self, _info: TlsInfo) {}
}

impl connect_handler::Guest for Proxy {
    fn connected(token: u64, outcome: Result<Transport, Error>) -> Option<tcp_handler::Connection> {
        let client = PENDING.with_borrow_mut(|pending| pending.remove(&token))?;
        match outcome {
            Ok(server) => {
                client.join(&server);
                let server = Connection::Server { _transport: server };
                Some(tcp_handler::Connection::new(server))
            }
            Err(error) => {
                client.failed(&error);
                client.connect();
                None
            }
        }
    }
}

/// A client and the search for its server.
struct Client {
    transport: Transport,
    /// The attempt that is under way; 0 where none is.
    pending: Cell<u64>,
    /// Where the search began, counted on without end.
    first: usize,
    /// How many servers were tried.
    tried: Cell<usize>,
}

impl Client {
    /// Begins to connect to the next server; closes the client when all were
    /// tried.
    fn connect(self: &Rc<Self>) {
        SERVERS.with(|servers| {
            while self.tried.get() < servers.len() {
                let server = &servers[self.first.wrapping_add(self.tried.get()) % servers.len()];
                self.tried.set(self.tried.get() + 1);
                let options = ConnectOptions {
                    tls: None,
                    timeout: Some(CONNECT_TIMEOUT),
                    local_address: None,
                };
                let token = LAST.get() + 1;
                LAST.set(token);
                match connector::connect(token, &server.endpoint(), &options) {
                    Ok(()) => {
                        self.pending.set(token);
                        PENDING.with_borrow_mut(|pending| pending.insert(token, self.clone()));
                        return;
                    }
                    Err(error) => self.failed(&error),
                }
            }
            log(Level::Error, "no server can be reached");
            self.transport.close();
        });
    }

    /// The server that was tried last cannot be had.
    fn failed(&self, error: &Error) {
        self.pending.set(0);
        let index = self.first.wrapping_add(self.tried.get() - 1);
        SERVERS.with(|servers| {
            let server = &servers[index % servers.len()];
            log(Level::Warn, &format!("{server}: {}", error.text));
        });
    }

    /// Has the host copy both ways from now on.
    fn join(&self, server: &Transport) {
        self.pending.set(0);
        let joined = self
            .transport
            .relay(server)
            .and_then(|()| server.relay(&self.transport));
        if joined.is_err() {
            // The client has just gone.
            self.transport.close();
            server.close();
        }
        self.transport.resume_reading();
    }

    fn give_up(&self) {
        let id = self.pending.take();
        if id != 0 {
            connector::cancel(id);
            PENDING.with_borrow_mut(|pending| pending.remove(&id));
        }
    }
}

/// A server of the command line.
enum Server {
    Tcp(String, u16),
    Unix(String),
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(path.to_owned()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let in_brackets = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = in_brackets.unwrap_or(host);
        if host.is_empty() || (in_brackets.is_none() && host.contains(':')) {
            return None;
        }
        Some(Self::Tcp(host.to_owned(), port.parse().ok()?))
    }

    fn endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(host, port) => Endpoint::Name((host.clone(), *port)),
            Self::Unix(path) => Endpoint::Unix(path.clone()),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// The servers that arguments name; one that makes no sense is told and left
/// out.
fn servers(arguments: impl Iterator<Item = String>) -> Vec<Server> {
    arguments
        .filter_map(|argument| {
            let server = Server::parse(&argument);
            if server.is_none() {
                let wanted = "HOST:PORT, [IPV6]:PORT or unix:PATH";
                log(
                    Level::Error,
                    &format!("{argument:?} is no server: it takes {wanted}"),
                );
            }
            server
        })
        .collect()
}

/// A random number, by way of what the standard library seeds its maps with.
fn random() -> usize {
    RandomState::new().hash_one(()) as usize
}

#[cfg(test)]
mod tests {
    use super::Server;

    #[test]
    fn servers_are_read_as_people_write_them() {
        let read = |text: &str| Server::parse(text).map(|server| server.to_string());
        for text in [
            "localhost:80",
            "127.0.0.1:8080",
            "[::1]:443",
            "unix:/run/app.sock",
        ] {
            assert_eq!(read(text).as_deref(), Some(text));
        }
        for text in [
            "",
            "80",
            "localhost",
            "::1:80",
            ":80",
            "[]:80",
            "a:",
            "a:99999",
            "unix:",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
