//! Outgoing connections, and names.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::cell::with;
use crate::channel::oneshot;
use crate::connection::{Connection, Shared};
use crate::host::{self, ConnectOptions, Endpoint, Transport};
use crate::slab::Slab;
use crate::{Error, ErrorKind, PoolBuilder, Result, TlsOptions, executor};

/// Meaning of a token of the host.
enum Place {
    /// An attempt to connect, and who waits for it.
    Connecting(oneshot::Sender<Result<Connection>>),
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(dead_code, reason = "the host of tests finds connections by itself")
    )]
    Open(Rc<Shared>),
}

struct Tables {
    /// The connections and the attempts, by their tokens.
    connections: Cell<Slab<Place>>,
    /// Tasks waiting for the addresses of a name.
    lookups: Cell<Slab<oneshot::Sender<Result<Vec<IpAddr>>>>>,
}

thread_local! {
    static TABLES: ManuallyDrop<Tables> = const {
        ManuallyDrop::new(Tables {
            connections: Cell::new(Slab::new()),
            lookups: Cell::new(Slab::new()),
        })
    };
}

/// Gives a connection a token.
#[cfg(target_family = "wasm")]
pub(crate) fn register(shared: Rc<Shared>) -> usize {
    TABLES.with(|tables| with(&tables.connections, |all| all.insert(Place::Open(shared))))
}

/// Finds a connection by its token.
#[cfg(target_family = "wasm")]
pub(crate) fn find(token: u64) -> Option<Rc<Shared>> {
    let token = usize::try_from(token).ok()?;
    TABLES.with(|tables| {
        with(&tables.connections, |all| match all.get_mut(token) {
            Some(Place::Open(shared)) => Some(shared.clone()),
            _ => None,
        })
    })
}

/// Takes a connection from the table. Its token is free then.
#[cfg(target_family = "wasm")]
pub(crate) fn release(token: u64) -> Option<Rc<Shared>> {
    let token = usize::try_from(token).ok()?;
    let place = TABLES.with(|tables| with(&tables.connections, |all| all.remove(token)));
    match place {
        Some(Place::Open(shared)) => Some(shared),
        _ => None,
    }
}

/// Frees the token of a connection of which no event follows.
pub(crate) fn forget(token: usize) {
    drop(TABLES.with(|tables| with(&tables.connections, |all| all.remove(token))));
}

/// Cancels what is pending when it is dropped.
pub(crate) struct Cancel<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for Cancel<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Connects to `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`; asyncio's
/// `open_connection`. Needs `--allow-connect`. `@GROUP` is a server of a group
/// that `--upstream` names, as the host chooses it. Dropping the future cancels
/// it.
///
/// ```no_run
/// # use netwasm_guest::{Result, connect};
/// # async fn f() -> Result<()> {
/// let mut conn = connect("example.org:7").await?;
/// conn.write_all("hello\n").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// - `AccessDenied`: no `--allow-connect` allows it, or no `--upstream` has the
///   name.
/// - `InvalidArgument`: the endpoint is not one.
/// - `LimitExceeded`: the group has enough connections.
/// - `NameUnresolvable`, `NoAddress`, `ResolverFailure`: see [`resolve`].
/// - `Timeout`: it took longer than allowed, 30 s unless set.
/// - `ConnectionRefused`, `RemoteUnreachable` and so on: the error of the last
///   address that was tried.
pub async fn connect(to: &str) -> Result<Connection> {
    Connect::to(to).open().await
}

/// How to connect.
///
/// ```no_run
/// # use std::time::Duration;
/// # use netwasm_guest::{Connect, Result};
/// # async fn f() -> Result<()> {
/// let conn = Connect::to("example.org:443")
///     .tls()
///     .timeout(Duration::from_secs(5))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a connection is made by `open`"]
pub struct Connect {
    to: String,
    options: ConnectOptions,
    client: Option<host::Number>,
}

impl Connect {
    /// Begins with the endpoint: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`. Or
    /// with `@GROUP`, which has no options but the time limit.
    pub fn to(endpoint: impl Into<String>) -> Self {
        Self {
            to: endpoint.into(),
            options: ConnectOptions::default(),
            client: None,
        }
    }

    /// Connects for the peer of a connection: a server of a group with
    /// `proxy-protocol` is told that address, and the one that the peer has
    /// connected to. Other servers are told nothing.
    pub fn on_behalf_of(mut self, client: &Connection) -> Self {
        self.client = Some(client.number());
        self
    }

    /// Opens a TLS session. The server's certificate must carry the name of
    /// the endpoint. [`Self::tls_with`] has options.
    pub fn tls(mut self) -> Self {
        self.options.tls.get_or_insert_default();
        self
    }

    /// Opens a TLS session with these options.
    ///
    /// ```no_run
    /// # use netwasm_guest::{Connect, Result, TlsOptions};
    /// # async fn f() -> Result<()> {
    /// let tls = TlsOptions::new().authority("internal").identity("web");
    /// let db = Connect::to("db.example.org:5433").tls_with(tls).open().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls_with(mut self, options: impl Into<TlsOptions>) -> Self {
        self.options.tls = Some(options.into());
        self
    }

    /// Sets the time that resolving, connecting and the TLS handshake may take
    /// together; 30 s unless set.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Sets the local address to connect from.
    pub const fn local_address(mut self, address: IpAddr) -> Self {
        self.options.local_address = Some(address);
        self
    }

    /// Begins a pool of such connections, with at most so many at once.
    pub fn pool(self, size: u32) -> PoolBuilder {
        PoolBuilder::new(self.to, self.options, size)
    }

    /// Connects.
    ///
    /// # Errors
    /// See [`connect`].
    pub async fn open(self) -> Result<Connection> {
        let options = self.options;
        let (connection, _) = match group_of(&self.to) {
            Some(_) if options.tls.is_some() || options.local_address.is_some() => {
                let text = "the options of a group of servers are those of --upstream";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            Some(group) => {
                let limit = options.timeout;
                open(|token| match self.client {
                    Some(client) => host::connect_upstream_for(token, group, client, limit),
                    None => host::connect_upstream(token, group, limit),
                })
                .await?
            }
            None => {
                let endpoint = parse(&self.to)?;
                open(|token| host::connect(token, endpoint, options)).await?
            }
        };
        Ok(connection)
    }
}

/// Waits for a connection that is requested from the host under a token.
/// Returns it with this token.
pub(crate) async fn open(request: impl FnOnce(u64) -> Result<()>) -> Result<(Connection, usize)> {
    let (sender, connection) = oneshot::channel();
    let token = TABLES.with(|tables| {
        with(&tables.connections, |all| {
            all.insert(Place::Connecting(sender))
        })
    });
    let give_up = move || {
        let attempt = TABLES.with(|tables| {
            with(&tables.connections, |all| match all.get_mut(token) {
                Some(Place::Connecting(sender)) if sender.is_closed() => all.remove(token),
                _ => None,
            })
        });
        if attempt.is_some() {
            host::cancel_connect(token as u64);
        }
        drop(attempt);
    };
    // Dropped in this order: the receiver, and then what gives up.
    let _cancel = Cancel(give_up);
    let connection = connection;
    request(token as u64)?;
    Ok((connection.await??, token))
}

/// Resolves a host name to its addresses, in the order in which they should be
/// tried; asyncio's `getaddrinfo`. Needs `--allow-resolve` or
/// `--allow-connect`.
///
/// # Errors
/// - `AccessDenied`: no rule of the command line names this host.
/// - `NameUnresolvable`: there is no such name.
/// - `NoAddress`: the name exists, but has no address.
/// - `ResolverFailure`: the resolver failed or refused.
/// - `Timeout`: the resolver did not answer.
pub async fn resolve(name: &str) -> Result<Vec<IpAddr>> {
    let (sender, addresses) = oneshot::channel();
    let token = TABLES.with(|tables| with(&tables.lookups, |all| all.insert(sender)));
    let give_up = move || {
        let lookup = TABLES.with(|tables| {
            with(&tables.lookups, |all| match all.get_mut(token) {
                Some(sender) if sender.is_closed() => all.remove(token),
                _ => None,
            })
        });
        if lookup.is_some() {
            host::cancel_resolve(token as u64);
        }
        drop(lookup);
    };
    let _cancel = Cancel(give_up);
    let addresses = addresses;
    host::resolve(token as u64, name)?;
    addresses.await?
}

/// Returns the name of a group of servers that an endpoint is.
pub(crate) fn group_of(endpoint: &str) -> Option<&str> {
    endpoint.strip_prefix('@').filter(|name| !name.is_empty())
}

pub(crate) fn parse(endpoint: &str) -> Result<Endpoint> {
    let wanted = || {
        let text = "an endpoint is HOST:PORT, [IPV6]:PORT or unix:PATH";
        Error::new(ErrorKind::InvalidArgument, text)
    };
    if let Some(path) = endpoint.strip_prefix("unix:") {
        return if path.is_empty() {
            Err(wanted())
        } else {
            Ok(Endpoint::Unix(path.to_owned()))
        };
    }
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(wanted)?;
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let name = in_brackets.unwrap_or(host);
    if name.is_empty() || (in_brackets.is_none() && name.contains(':')) {
        return Err(wanted());
    }
    let port = port.parse().map_err(|_| wanted())?;
    Ok(Endpoint::Name(name.to_owned(), port))
}

/// Returns the endpoint in words if it is one: `HOST:PORT`, `[IPV6]:PORT`,
/// `unix:PATH` or `@GROUP`.
///
/// # Errors
/// `InvalidArgument`: it is not one; the text says what it takes.
pub fn check_endpoint(endpoint: &str) -> Result<()> {
    match group_of(endpoint) {
        Some(_) => Ok(()),
        None => parse(endpoint).map(|_| ()),
    }
}

/// Handles the end of an attempt to connect. Returns the state of the
/// connection.
pub(crate) fn connected(token: u64, outcome: Result<Transport>) -> Option<Rc<Shared>> {
    let token = usize::try_from(token).ok()?;
    let (shared, outcome) = match outcome {
        Ok(transport) => {
            let shared = Shared::new(transport);
            let connection = Connection::new(&shared);
            (Some(shared), Ok(connection))
        }
        Err(error) => (None, Err(error)),
    };
    let place = TABLES.with(|tables| {
        with(&tables.connections, |all| match &shared {
            Some(shared) => {
                let open = Place::Open(shared.clone());
                all.get_mut(token)
                    .map(|place| std::mem::replace(place, open))
            }
            None => all.remove(token),
        })
    });
    if let Some(Place::Connecting(waiting)) = place {
        // Dropped, and so closed, if nobody waits.
        let _ = waiting.send(outcome);
    }
    executor::run();
    shared
}

/// Handles an answer of the resolver.
pub(crate) fn resolved(token: u64, answer: Result<Vec<IpAddr>>) {
    let lookup = usize::try_from(token)
        .ok()
        .and_then(|token| TABLES.with(|tables| with(&tables.lookups, |all| all.remove(token))));
    if let Some(waiting) = lookup {
        let _ = waiting.send(answer);
    }
    executor::run();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, block_on};
    use crate::{spawn, timeout, yield_now};

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        let name = |name: &str, port| Some(Endpoint::Name(name.to_owned(), port));
        for (text, endpoint) in [
            ("localhost:80", name("localhost", 80)),
            ("127.0.0.1:8080", name("127.0.0.1", 8080)),
            ("[::1]:443", name("::1", 443)),
            (
                "unix:/run/a.sock",
                Some(Endpoint::Unix("/run/a.sock".to_owned())),
            ),
        ] {
            assert_eq!(parse(text).ok(), endpoint, "{text}");
        }
        for text in [
            "", "80", "a", "::1:80", ":80", "[]:80", "a:", "a:99999", "unix:",
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }

    #[test]
    fn a_connection_reaches_who_listens() {
        block_on(async {
            let mut server = testing::listen("example.org:7");
            let task = spawn(async {
                let mut conn = connect("example.org:7").await?;
                conn.write_all("hello").await?;
                conn.read().await
            });
            yield_now().await;
            let mut peer = server.accept();
            peer.expect("hello");
            peer.send("welcome");
            let read = task.await.expect("it ends").expect("it is read");
            assert_eq!(read.as_deref(), Some(&b"welcome"[..]));
        });
    }

    #[test]
    fn a_session_has_the_name_of_the_endpoint_or_that_of_its_options() {
        block_on(async {
            let _server = testing::listen("example.org:7");
            let to = || Connect::to("example.org:7");
            for (connect, name, alpn) in [
                (to().tls(), "example.org", None),
                (to().tls_with("db.example.org"), "db.example.org", None),
                (
                    to().tls_with(TlsOptions::new().alpn(["line", "http/1.1"])),
                    "example.org",
                    Some("line"),
                ),
                // It does not undo them.
                (
                    to().tls_with("db.example.org").tls(),
                    "db.example.org",
                    None,
                ),
            ] {
                let connection = connect.open().await.expect("it is opened");
                let session = connection.info().tls.expect("it is in TLS");
                assert_eq!(session.server_name.as_deref(), Some(name));
                assert_eq!(session.alpn.as_deref(), alpn);
            }
            let plain = to().open().await.expect("it is opened");
            assert!(plain.info().tls.is_none());
        });
    }

    #[test]
    fn nobody_listens_and_the_error_says_so() {
        block_on(async {
            let error = connect("example.org:7")
                .await
                .err()
                .expect("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            assert_eq!(error.to_string(), "connecting failed: connection refused");
        });
    }

    #[test]
    fn a_connection_that_is_given_up_is_cancelled() {
        block_on(async {
            let mut server = testing::listen("example.org:7");
            server.set_delay(Duration::from_secs(60));
            let attempt = connect("example.org:7");
            let error = timeout(Duration::from_secs(5), attempt).await.err();
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Timeout));
            crate::sleep(Duration::from_secs(100)).await;
            assert!(server.try_accept().is_none());
        });
    }

    #[test]
    fn names_are_resolved() {
        block_on(async {
            testing::set_addresses("example.org", &[IpAddr::from([192, 0, 2, 1])]);
            let addresses = resolve("example.org").await.expect("there is one");
            assert_eq!(addresses, [IpAddr::from([192, 0, 2, 1])]);
            let error = resolve("example.net").await.expect_err("there is none");
            assert_eq!(
                error.to_string(),
                "looking up the name failed: no such name"
            );
        });
    }
}
