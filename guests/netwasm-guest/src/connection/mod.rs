//! Byte-stream connections.

mod shared;
mod unread;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use self::unread::Unread;
use crate::cell::with;
use crate::host::{self, TlsRole};
use crate::{
    Address, Error, File, Info, KeepAlive, Result, SocketOption, TlsInfo, TlsOptions, connect,
    executor,
};

pub(crate) use self::shared::Shared;

/// A byte-stream connection: TCP, TLS over TCP, or a Unix domain socket;
/// asyncio's `StreamReader` and `StreamWriter` in one.
///
/// Dropping it closes the connection in an orderly way: what was written is
/// sent first. See [`abort`](Self::abort) for the other way.
pub struct Connection(Rc<Shared>);

/// The receiving half of a connection. The connection is closed once both
/// halves were dropped.
pub struct Reader(Rc<Shared>);

/// The sending half of a connection. The connection is closed once both halves
/// were dropped.
pub struct Writer(Rc<Shared>);

/// State that the halves of a connection and the whole of it share.
macro_rules! reading {
    () => {
        /// Receives what has arrived, at least one byte. Returns `None` once
        /// the peer has ended its sending side.
        ///
        /// If bytes arrive faster than they are read, the host stops receiving
        /// at 64 KiB.
        ///
        /// # Errors
        /// The connection failed: `ConnectionReset`, `Timeout`, `TlsTruncated`
        /// and so on.
        pub fn read(&mut self) -> impl Future<Output = Result<Option<Vec<u8>>>> {
            let shared = &*self.0;
            std::future::poll_fn(move |cx| shared.poll_read(cx))
        }

        /// Receives exactly `count` bytes.
        ///
        /// # Errors
        /// - `UnexpectedEnd`: the stream ended before. What came stays unread.
        /// - those of `read`.
        pub fn read_exact(&mut self, count: usize) -> impl Future<Output = Result<Vec<u8>>> {
            self.0.read_exact(count)
        }

        /// Receives everything up to a byte, and that byte. Returns `None` if
        /// the stream has ended. Another future may be selected against this:
        /// if this one is dropped, what came stays unread.
        ///
        /// # Errors
        /// - `TooLong`: it is longer than `max` bytes.
        /// - `UnexpectedEnd`: the stream ended in the middle.
        /// - those of `read`.
        pub fn read_until(
            &mut self,
            end: u8,
            max: usize,
        ) -> impl Future<Output = Result<Option<Vec<u8>>>> {
            self.0.read_until(end, max)
        }

        /// Receives a line of at most 8 KiB, and returns it without its end
        /// (`\n` or `\r\n`). Returns `None` if the stream has ended.
        ///
        /// # Errors
        /// - `TooLong`: as in `read_until`. The line stays unread:
        ///   `skip_until(b'\n')` discards it.
        /// - `UnexpectedEnd`: the stream ended within a line, where asyncio's
        ///   `readline` returns what came. That stays unread: `read_to_end`
        ///   takes it.
        /// - `InvalidData`: the line is not UTF-8. It is discarded.
        /// - those of `read`.
        pub fn read_line(&mut self) -> impl Future<Output = Result<Option<String>>> {
            self.0.read_line()
        }

        /// Discards everything up to a byte, and that byte, or up to the end
        /// of the stream.
        ///
        /// # Errors
        /// Those of `read`.
        pub async fn skip_until(&mut self, end: u8) -> Result<()> {
            loop {
                let found = self.0.consume(|unread| unread.skip_until(end));
                if found || !self.0.more(0).await? {
                    return Ok(());
                }
            }
        }

        /// Receives everything until the stream ends.
        ///
        /// # Errors
        /// - `TooLong`: it is longer than `max` bytes.
        /// - those of `read`.
        pub async fn read_to_end(&mut self, max: usize) -> Result<Vec<u8>> {
            loop {
                let unread = with(&self.0.unread, |unread| unread.len());
                if unread > max {
                    return Err(Error::too_long("the stream is longer than allowed"));
                }
                if !self.0.more(unread).await? {
                    return Ok(self.0.consume(Unread::take));
                }
            }
        }

        /// Returns the lines as they come.
        pub fn lines(&mut self) -> Lines<'_> {
            Lines(&self.0)
        }

        /// Lets the host receive nothing until the next call that reads, or a
        /// relay. Without this, up to 64 KiB are received in advance.
        pub fn pause_reading(&mut self) {
            self.0.pause();
        }
    };
}

/// The lines of a connection; made by `lines`.
pub struct Lines<'a>(&'a Shared);

impl Lines<'_> {
    /// Receives the next line, like `read_line`.
    ///
    /// # Errors
    /// Those of `read_line`.
    pub async fn next(&mut self) -> Result<Option<String>> {
        self.0.read_line().await
    }
}

macro_rules! writing {
    () => {
        /// Sends bytes: a `Vec`, a `String`, a slice or an array.
        ///
        /// Waits first if the peer did not keep up with what was written
        /// before. So a peer that does not read holds up the task, and no more
        /// than some 100 KiB are queued for it.
        ///
        /// # Errors
        /// The connection failed, or is closed.
        pub fn write_all(&mut self, data: impl AsRef<[u8]>) -> impl Future<Output = Result<()>> {
            let shared = &*self.0;
            let mut done = 0;
            std::future::poll_fn(move |cx| shared.poll_write_all(cx, data.as_ref(), &mut done))
        }

        /// Sends several pieces in one system call where possible; asyncio's
        /// `writelines`. Waits like `write_all`.
        ///
        /// # Errors
        /// The connection failed, or is closed.
        pub async fn write_vectored(&mut self, pieces: &[Vec<u8>]) -> Result<()> {
            self.0.ready().await?;
            let room = self.0.transport.writelines(pieces);
            self.0.full.set(room == 0);
            Ok(())
        }

        /// Sends a part of a file, or all that follows `offset`, by sendfile(2)
        /// where the kernel can. Returns the number of bytes that will be sent.
        /// The next write waits until most of it is sent.
        ///
        /// # Errors
        /// - `InvalidArgument`: the range does not lie within the file.
        /// - the connection failed, or is closed.
        pub fn write_file(
            &mut self,
            file: &File,
            offset: u64,
            length: Option<u64>,
        ) -> impl Future<Output = Result<u64>> {
            self.0.write_file(file, offset, length)
        }

        /// Waits until there is room for a write; asyncio's `drain`.
        ///
        /// # Errors
        /// The connection failed, or is closed.
        pub fn ready(&mut self) -> impl Future<Output = Result<()>> {
            self.0.ready()
        }

        /// Waits until other connections had their turn and there is room: for
        /// a task that has much to send.
        ///
        /// # Errors
        /// The connection failed, or is closed.
        pub async fn turn(&mut self) -> Result<()> {
            self.0.ready().await?;
            self.0.full.set(true);
            self.0.transport.want_write();
            self.0.ready().await
        }

        /// Ends the sending side, once everything that was written is sent; the
        /// receiving side stays open. asyncio's `write_eof`.
        ///
        /// # Errors
        /// - `NotSupported`: the connection cannot be half-closed, as under TLS
        ///   1.2.
        /// - `InvalidState`: it is closing, or its sending side has ended.
        pub fn finish(&mut self) -> Result<()> {
            self.0.transport.write_eof()
        }

        /// Sets the numbers of queued bytes at which writes begin to wait, and
        /// at which they go on. They are 64 KiB and 16 KiB unless set here or
        /// on the command line.
        pub fn set_write_buffer_limits(&mut self, high: u64, low: u64) {
            self.0.transport.set_write_buffer_limits(high, low);
        }
    };
}

macro_rules! common {
    () => {
        /// Returns both addresses and the TLS session; asyncio's
        /// `get_extra_info`.
        pub fn info(&self) -> Info {
            self.0.transport.info()
        }

        /// Returns what a proxy has told of the connection; `None` if it did not
        /// come through one that sends a PROXY header (`--proxy-protocol-from`).
        pub fn proxied(&self) -> Option<crate::ProxyInfo> {
            self.0.transport.proxied()
        }

        /// Returns the address of the other end.
        pub fn peer(&self) -> Address {
            self.info().peer
        }

        /// Sets an option of the socket.
        ///
        /// # Errors
        /// - `InvalidArgument`: the value is out of range.
        /// - `InvalidState`: the connection is closing.
        /// - `NotSupported`: this kind of socket has no such option.
        pub fn set_option(&self, option: SocketOption) -> Result<()> {
            self.0.transport.set_option(option)
        }

        /// Sends small pieces at once (`TCP_NODELAY`), as the host does unless
        /// told otherwise.
        ///
        /// # Errors
        /// Those of `set_option`.
        pub fn set_nodelay(&self, on: bool) -> Result<()> {
            self.set_option(SocketOption::NoDelay(on))
        }

        /// Lets the kernel ask a peer that has been silent for so long whether
        /// it is still there (`SO_KEEPALIVE`); `None` does not.
        ///
        /// # Errors
        /// Those of `set_option`.
        pub fn set_keepalive(&self, idle: Option<Duration>) -> Result<()> {
            self.set_option(SocketOption::KeepAlive(idle.map(KeepAlive::after)))
        }

        /// Subscribes to a topic, until the connection ends: the host writes what is
        /// published to it, of all instances and threads, without this handler.
        ///
        /// # Errors
        /// - `InvalidArgument`: the name is empty, or longer than 256 bytes.
        /// - `InvalidState`: the connection is closing, or another one is relayed
        ///   to it.
        /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
        pub fn subscribe(&self, topic: &str) -> Result<()> {
            self.0.transport.subscribe(topic)
        }

        /// Ends a subscription.
        pub fn unsubscribe(&self, topic: &str) {
            self.0.transport.unsubscribe(topic);
        }

        /// Sends bytes to all subscribers of a topic but this connection, as they
        /// are: in a protocol of lines, a whole line. Returns how many subscribers
        /// there are. See [`websocket::publish`](crate::websocket::publish) for all
        /// of them.
        pub fn publish(&self, topic: &str, data: impl AsRef<[u8]>) -> u64 {
            self.0.transport.publish(topic, data.as_ref())
        }

        /// Sets how long nothing may move in either direction. After that, the
        /// connection fails with `Timeout`, and nothing more can be sent: for a
        /// last word, put a `timeout` around the read. `None` returns to the
        /// command line's `--idle-timeout`. The host counts this time: it
        /// costs nothing, unlike a `timeout` around each read.
        pub fn set_idle_timeout(&self, after: Option<Duration>) {
            self.0.transport.set_idle_timeout(after);
        }
    };
}

impl Connection {
    pub(crate) fn new(shared: &Rc<Shared>) -> Self {
        Self(shared.own())
    }

    /// Puts the connection back into its pool, if nothing is left of its last
    /// use. Otherwise it is closed.
    pub(crate) fn put_back(self, token: usize) {
        if self.0.is_clean() {
            connect::forget(token);
            // There are no events any more, and nothing is left to be closed.
            self.0.forget();
            host::put(&self.0.transport);
        }
    }

    reading!();
    writing!();
    common!();

    /// Returns both halves, for two tasks.
    pub fn split(self) -> (Reader, Writer) {
        (Reader(self.0.own()), Writer(self.0.own()))
    }

    /// Copies in both directions between this connection and another one,
    /// until both have ended. The host does it: by splice(2) where it can, and
    /// without this guest. What was received already goes first.
    ///
    /// # Errors
    /// - `InvalidState`: one of them is subscribed to topics, whose messages could
    ///   come anywhere in what is copied.
    /// - Either connection failed.
    pub async fn relay(self, other: Self) -> Result<()> {
        self.0.relay_to(&other.0)?;
        other.0.relay_to(&self.0)?;
        let (here, there) = crate::join(self.0.lost(), other.0.lost()).await;
        here.and(there)
    }

    /// Sends back everything that arrives, until it ends. The host does it.
    ///
    /// # Errors
    /// - `InvalidState`: it is subscribed to topics.
    /// - The connection failed.
    pub async fn relay_back(self) -> Result<()> {
        self.0.relay_to(&self.0)?;
        self.0.lost().await
    }

    /// Continues in TLS as a server, with the certificate of `--cert` and
    /// `--key`, and waits for the handshake.
    ///
    /// Received bytes that were not read are taken for the beginning of the
    /// handshake: nobody can slip plain text into the session.
    ///
    /// # Errors
    /// - `NotSupported`: no certificate was given.
    /// - `Tls`: the handshake failed.
    /// - the connection failed.
    pub async fn start_tls_server(&mut self) -> Result<TlsInfo> {
        self.0.start_tls(TlsRole::Server).await
    }

    /// Continues in TLS as a client, and waits for the handshake. The server's
    /// certificate must carry the name; [`TlsOptions`] has more.
    ///
    /// # Errors
    /// - `InvalidArgument`: the options have no name, as there is no endpoint.
    /// - `Tls`: the handshake failed: a bad certificate, say.
    /// - `AccessDenied`: the command line has no authority or identity of that
    ///   name.
    /// - the connection failed.
    pub async fn start_tls_client(&mut self, options: impl Into<TlsOptions>) -> Result<TlsInfo> {
        self.0.start_tls(TlsRole::Client(options.into())).await
    }

    /// Closes the connection, and waits until everything is sent.
    ///
    /// # Errors
    /// The connection failed before all was sent.
    pub async fn close(self) -> Result<()> {
        self.0.transport.close();
        self.0.lost().await
    }

    pub(crate) fn number(&self) -> host::Number {
        self.0.transport.number()
    }

    /// Waits until the connection is lost: closed in an orderly way, or
    /// failed.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn closed(&mut self) -> Result<()> {
        self.0.lost().await
    }

    /// Ends the connection at once by a reset, so that what the peer has does
    /// not look whole. What is queued is not sent.
    pub fn abort(self) {
        self.0.transport.abort();
    }
}

impl Reader {
    reading!();
    common!();

    #[cfg(feature = "futures")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Writer {
    writing!();
    common!();

    /// Ends the connection at once by a reset; see [`Connection::abort`].
    pub fn abort(self) {
        self.0.transport.abort();
    }

    #[cfg(feature = "futures")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

#[cfg(feature = "futures")]
impl Connection {
    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.disown();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.disown();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.disown();
    }
}

/// Starts the task of an accepted connection.
pub(crate) fn serve<F>(shared: &Rc<Shared>, handler: impl FnOnce(Connection) -> F)
where
    F: Future + 'static,
    F::Output: executor::Outcome,
{
    let mut handled = Box::pin(handler(Connection::new(shared)));
    let shared = shared.clone();
    // Not an async block, whose panics would have texts that each instance
    // pays for.
    executor::start(std::future::poll_fn(move |cx| {
        let name = || host::peer_name(&shared.transport);
        let outcome = handled.as_mut().poll(cx);
        outcome.map(|outcome| executor::Outcome::report(outcome, name))
    }));
}
