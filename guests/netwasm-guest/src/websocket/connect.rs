//! Connections that a handler opens.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::Duration;

use super::{SharedWebSocket, WebSocket};
use crate::cell::with;
use crate::channel::oneshot;
use crate::connect::Cancel;
use crate::host::{self, WebSocketOptions};
use crate::slab::Slab;
use crate::{Error, TlsOptions, executor};

/// Meaning of a token of the host.
enum Place {
    /// An attempt to open a connection, and who waits for it.
    Connecting(oneshot::Sender<Result<WebSocket, NotOpened>>),
    #[cfg_attr(
        not(target_family = "wasm"),
        expect(dead_code, reason = "the host of tests finds connections by itself")
    )]
    Open(Rc<SharedWebSocket>),
}

thread_local! {
    /// The connections and the attempts, by their tokens.
    static TABLE: ManuallyDrop<Cell<Slab<Place>>> =
        const { ManuallyDrop::new(Cell::new(Slab::new())) };
}

fn with_table<R>(work: impl FnOnce(&mut Slab<Place>) -> R) -> R {
    TABLE.with(|table| with(table, work))
}

/// Gives a connection a token.
#[cfg(target_family = "wasm")]
pub(crate) fn register(shared: Rc<SharedWebSocket>) -> u64 {
    with_table(|all| all.insert(Place::Open(shared))) as u64
}

/// Finds a connection by its token.
#[cfg(target_family = "wasm")]
pub(crate) fn find(token: u64) -> Option<Rc<SharedWebSocket>> {
    let token = usize::try_from(token).ok()?;
    with_table(|all| match all.get_mut(token) {
        Some(Place::Open(shared)) => Some(shared.clone()),
        _ => None,
    })
}

/// Takes a connection from the table. Its token is free then.
#[cfg(target_family = "wasm")]
pub(crate) fn release(token: u64) -> Option<Rc<SharedWebSocket>> {
    let token = usize::try_from(token).ok()?;
    match with_table(|all| all.remove(token)) {
        Some(Place::Open(shared)) => Some(shared),
        _ => None,
    }
}

/// Opens a WebSocket connection to `ws://HOST[:PORT]/PATH?QUERY`, or to `wss://`,
/// which is over TLS. Needs `--allow-connect`. Dropping the future cancels it.
///
/// ```
/// use netwasm_guest::{Result, websocket};
///
/// async fn watch() -> Result<()> {
///     let mut socket = websocket::connect("wss://example.org/prices").await?;
///     socket.send("tea").await?;
///     while let Some(message) = socket.receive().await {
///         netwasm_guest::info!("{}", message.as_text().unwrap_or_default());
///     }
///     Ok(())
/// }
/// # netwasm_guest::testing::block_on(async {
/// #     let mut server = netwasm_guest::testing::listen_websocket("wss://example.org/prices");
/// #     let task = netwasm_guest::spawn(watch());
/// #     let mut peer = server.accept();
/// #     peer.expect("tea");
/// #     peer.send("3");
/// #     peer.close(1000, "");
/// #     task.await.expect("it ends").expect("without an error");
/// # });
/// ```
///
/// A component that takes no WebSocket connections itself has `websockets` in its
/// [`export!`](crate::export!): `export!(http: site, websockets)`.
///
/// # Errors
/// - [`NotOpened::Refused`]: the server has answered with another status than 101.
///   Redirects are not followed.
/// - [`NotOpened::Failed`]: `AccessDenied` if no `--allow-connect` allows it;
///   `InvalidArgument` if the URL is not one; `Timeout` if all of it took longer
///   than 30 s; `Other` if the server breaks a rule; those of
///   [`connect`](crate::connect()).
pub async fn connect(url: &str) -> Result<WebSocket, NotOpened> {
    Connect::to(url).open().await
}

/// How to open a WebSocket connection.
///
/// ```no_run
/// # use std::time::Duration;
/// # use netwasm_guest::{Result, websocket};
/// # async fn f() -> Result<()> {
/// let socket = websocket::Connect::to("wss://example.org/chat?room=tea")
///     .protocol("v2.chat")
///     .protocol("chat")
///     .header("authorization", "Bearer x")
///     .compress()
///     .timeout(Duration::from_secs(5))
///     .open()
///     .await?;
/// assert!(socket.protocol().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a connection is opened by `open`"]
pub struct Connect {
    url: String,
    options: WebSocketOptions,
}

impl Connect {
    /// Begins with the URL: `ws://` or `wss://`, a host, perhaps a port, path and
    /// query.
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: WebSocketOptions::default(),
        }
    }

    /// Offers a protocol, after those that were offered before.
    /// [`WebSocket::protocol`] tells which one the server has chosen.
    pub fn protocol(mut self, name: impl Into<String>) -> Self {
        self.options.protocols.push(name.into());
        self
    }

    /// Adds a header to the request, `Authorization` or `Origin` for example.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// Offers compression, unless the host's `--websocket-compression` is `off`.
    pub const fn compress(mut self) -> Self {
        self.options.compress = true;
        self
    }

    /// Sets the time that all of it may take: resolving, connecting, the TLS
    /// handshake and the server's answer; 30 s unless set.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Opens the TLS session of a `wss://` URL with these options. Their protocols
    /// are the host's: with [`TlsOptions::alpn`], or for a `ws://` URL, it fails with
    /// `InvalidArgument`.
    pub fn tls_with(mut self, options: impl Into<TlsOptions>) -> Self {
        self.options.tls = Some(options.into());
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// See [`connect`].
    pub async fn open(self) -> Result<WebSocket, NotOpened> {
        let (sender, opened) = oneshot::channel();
        let token = with_table(|all| all.insert(Place::Connecting(sender)));
        let give_up = move || {
            let attempt = with_table(|all| match all.get_mut(token) {
                Some(Place::Connecting(sender)) if sender.is_closed() => all.remove(token),
                _ => None,
            });
            if attempt.is_some() {
                host::cancel_websocket(token as u64);
            }
            drop(attempt);
        };
        // Dropped in this order: the receiver, and then what gives up.
        let _cancel = Cancel(give_up);
        let opened = opened;
        host::connect_websocket(token as u64, &self.url, self.options)?;
        opened.await?
    }
}

/// Handles the end of an attempt to open a connection.
pub(crate) fn connected(token: u64, outcome: Result<Rc<SharedWebSocket>, NotOpened>) {
    let Ok(token) = usize::try_from(token) else {
        return;
    };
    let opened = outcome.as_ref().map(Rc::clone).ok();
    let place = with_table(|all| match opened {
        Some(shared) => {
            let open = Place::Open(shared);
            all.get_mut(token)
                .map(|place| std::mem::replace(place, open))
        }
        None => all.remove(token),
    });
    let outcome = outcome.map(|shared| WebSocket::new(&shared));
    if let Some(Place::Connecting(waiting)) = place {
        // Dropped, and so closed, if nobody waits.
        let _ = waiting.send(outcome);
    }
    executor::run();
}

/// Why a connection was not opened.
#[derive(Clone, Debug)]
pub enum NotOpened {
    /// There is no connection, or the server's answer breaks a rule.
    Failed(Error),
    /// The server has refused.
    Refused(Refusal),
}

/// An answer of a server that opens no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status, such as 401 or 503.
    pub status: u16,
    /// The headers, `Location` for example.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Refusal {
    /// Returns the first value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Refused(refusal) => write!(f, "the server answers with {}", refusal.status),
        }
    }
}

impl std::error::Error for NotOpened {}

impl From<Error> for NotOpened {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<NotOpened> for Error {
    fn from(reason: NotOpened) -> Self {
        match reason {
            NotOpened::Failed(error) => error,
            NotOpened::Refused(_) => Self::other(reason.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use crate::testing::{block_on, listen_websocket};
    use crate::{ErrorKind, spawn, yield_now};

    #[test]
    fn a_connection_reaches_its_server_and_both_talk() {
        block_on(async {
            let mut server = listen_websocket("ws://example.org/a");
            server.choose("chat");
            let task = spawn(async {
                let opening = Connect::to("ws://example.org/a").protocol("chat");
                let mut socket = opening.open().await?;
                assert_eq!(socket.protocol(), Some("chat"));
                socket.send("hello").await?;
                let answer = socket.receive().await;
                let closed = socket.close(1000, "").await?;
                Ok::<_, Error>((answer, closed.code))
            });
            yield_now().await;
            let mut peer = server.accept();
            assert_eq!(server.offered(), ["chat"]);
            peer.expect("hello");
            peer.send("welcome");
            peer.expect_close(1000);
            let ended = task.await.expect("it ends").expect("no error");
            assert_eq!(ended, (Some("welcome".into()), 1000));
        });
    }

    #[test]
    fn a_server_refuses_or_is_not_there() {
        block_on(async {
            let mut server = listen_websocket("wss://example.org/");
            server.refuse(401);
            let refused = connect("wss://example.org/").await.err();
            let Some(NotOpened::Refused(refusal)) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(refusal.status, 401);
            let failed = connect("wss://example.org/other").await.err();
            let error = Error::from(failed.expect("nobody is there"));
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn options_of_tls_are_those_of_a_url_that_has_it() {
        block_on(async {
            let mut server = listen_websocket("wss://example.org/");
            let options = TlsOptions::new().authority("internal").identity("web");
            let opening = Connect::to("wss://example.org/").tls_with(options.clone());
            let task = spawn(opening.open());
            yield_now().await;
            server.accept().close(1000, "");
            task.await.expect("it ends").expect("it is opened");
            let plain = Connect::to("ws://example.org/").tls_with(options);
            let wrong = Connect::to("wss://example.org/").tls_with(TlsOptions::new().alpn(["h2"]));
            for opening in [plain, wrong] {
                let failed = opening.open().await.err().map(Error::from);
                let kind = failed.map(|error| error.kind());
                assert_eq!(kind, Some(ErrorKind::InvalidArgument));
            }
        });
    }

    #[test]
    fn a_connection_that_is_given_up_is_cancelled() {
        block_on(async {
            let mut server = listen_websocket("ws://example.org/");
            let mut attempt = Box::pin(connect("ws://example.org/"));
            let pending = poll_fn(|cx| Poll::Ready(attempt.as_mut().poll(cx).is_pending())).await;
            assert!(pending);
            drop(attempt);
            yield_now().await;
            assert!(server.try_accept().is_none());
        });
    }
}
