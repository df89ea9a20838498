//! Byte-stream connections.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::cell::with;
use crate::host::{self, TlsOptions, TlsRole, Transport};
use crate::wait::Waiter;
use crate::{Address, Error, File, Info, Result, TlsInfo, executor};

/// Unread bytes at which the host is asked to stop receiving.
const READ_HIGH: usize = 64 << 10;

/// Unread bytes at which it is asked to go on.
const READ_LOW: usize = 16 << 10;

/// The most that is given to the host at once.
const WRITE_PIECE: usize = 256 << 10;

/// The longest line that `read_line` takes, in bytes.
const MAX_LINE: usize = 8 << 10;

/// State that the events of a connection share with the task that handles it.
pub(crate) struct Shared {
    transport: Transport,
    /// Received bytes that were not read.
    unread: Cell<Unread>,
    /// True once the peer has ended its sending side.
    ended: Cell<bool>,
    /// True while the host was asked not to receive.
    paused: Cell<bool>,
    /// True while `writable` is awaited.
    full: Cell<bool>,
    /// True once the connection is lost.
    lost: Cell<bool>,
    /// Why it was lost; `None` if in an orderly way.
    reason: Cell<Option<Box<Error>>>,
    /// The session, between `tls-started` and the task that waits for it.
    session: Cell<Option<Box<TlsInfo>>>,
    /// Task waiting for data, for the end, or for the TLS session.
    reader: Waiter,
    /// Task waiting for room.
    writer: Waiter,
    /// How many of `Connection`, `Reader` and `Writer` there are.
    owners: Cell<u8>,
}

/// Bytes in order, of which the first were read.
#[derive(Default)]
struct Unread {
    data: Vec<u8>,
    start: usize,
}

impl Unread {
    fn len(&self) -> usize {
        self.data.len().saturating_sub(self.start)
    }

    fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }

    fn push(&mut self, data: Vec<u8>) {
        if self.len() == 0 {
            self.data = data;
            self.start = 0;
            return;
        }
        // Reading moves the start; what lies before it goes before the vector
        // grows.
        if self.start > self.data.len() / 2 {
            self.data = self.bytes().to_vec();
            self.start = 0;
        }
        self.data.extend_from_slice(&data);
    }

    /// Takes everything, without a copy if nothing of it was read.
    fn take(&mut self) -> Vec<u8> {
        if self.start > 0 {
            let rest = self.bytes().to_vec();
            self.data = Vec::new();
            self.start = 0;
            return rest;
        }
        std::mem::take(&mut self.data)
    }

    /// Drops everything up to a byte, and that byte. Returns true if it was
    /// found.
    fn skip_until(&mut self, end: u8) -> bool {
        let found = self.bytes().iter().position(|&byte| byte == end);
        match found {
            Some(at) => self.start += at + 1,
            None => self.start = self.data.len(),
        }
        if self.len() == 0 {
            self.data.clear();
            self.start = 0;
        }
        found.is_some()
    }

    fn take_first(&mut self, count: usize) -> Vec<u8> {
        if count >= self.len() {
            return self.take();
        }
        let first = self.bytes().get(..count).unwrap_or_default().to_vec();
        self.start += count;
        first
    }
}

impl Shared {
    pub(crate) fn new(transport: Transport) -> Rc<Self> {
        Rc::new(Self {
            transport,
            unread: Cell::default(),
            ended: Cell::new(false),
            paused: Cell::new(false),
            full: Cell::new(false),
            lost: Cell::new(false),
            reason: Cell::new(None),
            session: Cell::new(None),
            reader: Waiter::default(),
            writer: Waiter::default(),
            owners: Cell::new(0),
        })
    }

    // Events.

    pub(crate) fn data_received(&self, data: Vec<u8>) {
        let unread = with(&self.unread, |unread| {
            unread.push(data);
            unread.len()
        });
        if unread > READ_HIGH {
            self.pause();
        }
        self.reader.wake();
    }

    pub(crate) fn eof_received(&self) {
        self.ended.set(true);
        self.reader.wake();
    }

    pub(crate) fn writable(&self) {
        self.full.set(false);
        self.writer.wake();
    }

    pub(crate) fn tls_started(&self, session: TlsInfo) {
        self.session.set(Some(Box::new(session)));
        self.reader.wake();
    }

    pub(crate) fn connection_lost(&self, reason: Option<Error>) {
        self.lost.set(true);
        self.reason.set(reason.map(Box::new));
        self.reader.wake();
        self.writer.wake();
    }

    // Reading.

    fn pause(&self) {
        if !self.paused.replace(true) {
            self.transport.pause_reading();
        }
    }

    fn resume(&self) {
        if self.paused.replace(false) {
            self.transport.resume_reading();
        }
    }

    /// Takes from what is unread, and lets the host receive again.
    fn consume<T>(&self, take: impl FnOnce(&mut Unread) -> T) -> T {
        let (taken, left) = with(&self.unread, |unread| {
            let taken = take(unread);
            (taken, unread.len())
        });
        if left <= READ_LOW && self.paused.get() {
            self.resume();
        }
        taken
    }

    /// Waits for more than `count` unread bytes. Returns false if no more come.
    fn poll_more(&self, cx: &Context<'_>, count: usize) -> Poll<Result<bool>> {
        if with(&self.unread, |unread| unread.len()) > count {
            return Poll::Ready(Ok(true));
        }
        if self.ended.get() {
            return Poll::Ready(Ok(false));
        }
        if self.lost.get() {
            return Poll::Ready(self.outcome().map(|()| false));
        }
        // The waiting task may want more than the mark.
        self.resume();
        self.reader.register(cx);
        Poll::Pending
    }

    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<Result<Option<Vec<u8>>>> {
        self.poll_more(cx, 0)
            .map_ok(|any| any.then(|| self.consume(Unread::take)))
    }

    /// Takes up to `max` bytes.
    #[cfg(feature = "futures")]
    pub(crate) fn poll_read_some(
        &self,
        cx: &Context<'_>,
        max: usize,
    ) -> Poll<Result<Option<Vec<u8>>>> {
        self.poll_more(cx, 0)
            .map_ok(|any| any.then(|| self.consume(|unread| unread.take_first(max))))
    }

    async fn more(&self, count: usize) -> Result<bool> {
        std::future::poll_fn(|cx| self.poll_more(cx, count)).await
    }

    async fn read_exact(&self, count: usize) -> Result<Vec<u8>> {
        while with(&self.unread, |unread| unread.len()) < count {
            if !self.more(with(&self.unread, |unread| unread.len())).await? {
                return Err(Error::unexpected_end());
            }
        }
        Ok(self.consume(|unread| unread.take_first(count)))
    }

    async fn read_until(&self, end: u8, max: usize) -> Result<Option<Vec<u8>>> {
        let mut seen = 0;
        loop {
            let (found, unread) = with(&self.unread, |unread| {
                let bytes = unread.bytes();
                let new = bytes.get(seen..).unwrap_or_default();
                let found = new.iter().position(|&byte| byte == end);
                (found.map(|at| seen + at + 1), bytes.len())
            });
            if found.unwrap_or(unread) > max {
                return Err(Error::too_long("the record is longer than allowed"));
            }
            if let Some(length) = found {
                return Ok(Some(self.consume(|unread| unread.take_first(length))));
            }
            seen = unread;
            if !self.more(seen).await? {
                return if seen == 0 {
                    Ok(None)
                } else {
                    Err(Error::unexpected_end())
                };
            }
        }
    }

    async fn read_line(&self) -> Result<Option<String>> {
        let Some(mut line) = self.read_until(b'\n', MAX_LINE).await? else {
            return Ok(None);
        };
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8(line)?))
    }

    // Writing.

    /// Waits for room.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        if self.lost.get() {
            return Poll::Ready(self.outcome().and(Err(Error::closed())));
        }
        if self.full.get() {
            self.writer.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives bytes to the host, whether or not there is room.
    pub(crate) fn write(&self, data: &[u8]) {
        let room = self.transport.write(data);
        self.full.set(room == 0);
    }

    /// Writes what follows the first `done` bytes.
    fn poll_write_all(&self, cx: &Context<'_>, data: &[u8], done: &mut usize) -> Poll<Result<()>> {
        loop {
            let rest = data.get(*done..).unwrap_or_default();
            if rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let piece = rest.get(..WRITE_PIECE).unwrap_or(rest);
            self.write(piece);
            *done += piece.len();
        }
    }

    async fn ready(&self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    async fn write_file(&self, file: &File, offset: u64, length: Option<u64>) -> Result<u64> {
        self.ready().await?;
        let length = self.transport.send_file(file.raw(), offset, length)?;
        self.full.set(self.transport.room() == 0);
        Ok(length)
    }

    // The connection as a whole.

    /// Returns why the connection was lost.
    fn outcome(&self) -> Result<()> {
        let reason = self.reason.take();
        let outcome = match &reason {
            Some(error) => Err(Error::clone(error)),
            None => Ok(()),
        };
        self.reason.set(reason);
        outcome
    }

    /// Waits until the connection is lost.
    async fn lost(&self) -> Result<()> {
        std::future::poll_fn(|cx| {
            if self.lost.get() {
                return Poll::Ready(self.outcome());
            }
            self.reader.register(cx);
            Poll::Pending
        })
        .await
    }

    async fn start_tls(&self, role: TlsRole) -> Result<TlsInfo> {
        let received = self.consume(Unread::take);
        self.transport.start_tls(role, &received)?;
        std::future::poll_fn(|cx| {
            if let Some(session) = self.session.take() {
                return Poll::Ready(Ok(*session));
            }
            if self.lost.get() {
                return Poll::Ready(self.outcome().and(Err(Error::unexpected_end())));
            }
            self.resume();
            self.reader.register(cx);
            Poll::Pending
        })
        .await
    }

    /// Lets the host copy all that arrives here to another connection, after
    /// what arrived already.
    fn relay_to(&self, other: &Self) -> Result<()> {
        let received = self.consume(Unread::take);
        if !received.is_empty() {
            other.write(&received);
        }
        self.transport.relay(&other.transport)?;
        self.resume();
        Ok(())
    }

    fn own(self: &Rc<Self>) -> Rc<Self> {
        self.owners.set(self.owners.get() + 1);
        self.clone()
    }

    /// Ends the connection when the last owner is dropped.
    fn disown(&self) {
        let owners = self.owners.get() - 1;
        self.owners.set(owners);
        if owners == 0 && !self.lost.get() {
            self.transport.close();
        }
    }
}

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
        /// - `TooLong`, `UnexpectedEnd`: see `read_until`.
        /// - `InvalidData`: the line is not UTF-8.
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

        /// Returns the address of the other end.
        pub fn peer(&self) -> Address {
            self.info().peer
        }

        /// Sets how long nothing may move in either direction. After that, the
        /// connection fails with `Timeout`. `None` returns to the command
        /// line's `--idle-timeout`. The host counts this time: it costs
        /// nothing, unlike a `timeout` around each read.
        pub fn set_idle_timeout(&self, after: Option<Duration>) {
            self.0.transport.set_idle_timeout(after);
        }
    };
}

impl Connection {
    pub(crate) fn new(shared: &Rc<Shared>) -> Self {
        Self(shared.own())
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
    /// Either connection failed.
    pub async fn relay(self, other: Self) -> Result<()> {
        self.0.relay_to(&other.0)?;
        other.0.relay_to(&self.0)?;
        let (here, there) = crate::join(self.0.lost(), other.0.lost()).await;
        here.and(there)
    }

    /// Sends back everything that arrives, until it ends. The host does it.
    ///
    /// # Errors
    /// The connection failed.
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
    /// certificate must carry the name. `alpn` are the protocols to offer,
    /// best first; mostly none.
    ///
    /// # Errors
    /// - `Tls`: the handshake failed: a bad certificate, say.
    /// - the connection failed.
    pub async fn start_tls_client(&mut self, server_name: &str, alpn: &[&str]) -> Result<TlsInfo> {
        let options = TlsOptions {
            server_name: Some(server_name.to_owned()),
            alpn: alpn.iter().map(|&name| name.to_owned()).collect(),
        };
        self.0.start_tls(TlsRole::Client(options)).await
    }

    /// Closes the connection, and waits until everything is sent.
    ///
    /// # Errors
    /// The connection failed before all was sent.
    pub async fn close(self) -> Result<()> {
        self.0.transport.close();
        self.0.lost().await
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
    let handled = handler(Connection::new(shared));
    let shared = shared.clone();
    executor::start(async move {
        let outcome = handled.await;
        executor::Outcome::report(outcome, || host::peer_name(&shared.transport));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, block_on, pair, run};
    use crate::{Either, ErrorKind, join, select, sleep, spawn, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    async fn echo(mut conn: Connection) -> Result<()> {
        while let Some(data) = conn.read().await? {
            conn.write_all(data).await?;
        }
        Ok(())
    }

    #[test]
    fn an_echo_in_five_lines() {
        let mut peer = testing::serve(echo);
        for piece in ["a", "hello", ""] {
            peer.send(piece);
            peer.expect(piece);
        }
        peer.expect_nothing();
        peer.send("last");
        peer.finish();
        peer.expect("last");
        peer.expect_end();
    }

    #[test]
    fn what_is_read_at_once_is_not_copied() {
        let (mut conn, _peer) = pair();
        let data = vec![7; 100];
        let address = data.as_ptr();
        conn.0.data_received(data);
        block_on(async {
            let read = conn.read().await.expect("it is read").expect("data");
            assert_eq!(read.as_ptr(), address);
        });
    }

    /// Cuts a text at the ones of a number's bits.
    fn cut(text: &str, at: u32) -> Vec<&[u8]> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in 1..=text.len() {
            if end == text.len() || at >> (end - 1) & 1 == 1 {
                pieces.extend(text.as_bytes().get(start..end));
                start = end;
            }
        }
        pieces
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let text = "one\r\ntwo\n\n\r\nfive\n";
        for at in 0..1 << (text.len() - 1) {
            let (mut conn, mut peer) = pair();
            let lines = spawn(async move {
                let mut all = Vec::new();
                let mut lines = conn.lines();
                while let Some(line) = lines.next().await.expect("a line") {
                    all.push(line);
                }
                all
            });
            for piece in cut(text, at) {
                peer.send(piece);
            }
            peer.finish();
            let lines = block_on(lines).expect("it ends");
            assert_eq!(lines, ["one", "two", "", "", "five"], "{at:b}");
            testing::reset();
        }
    }

    #[test]
    fn records_are_exact_however_they_arrive() {
        let text = "abcdefghijk";
        for at in 0..1 << (text.len() - 1) {
            let (mut conn, mut peer) = pair();
            let parts = spawn(async move {
                let mut parts = Vec::new();
                parts.push(conn.read_exact(3).await);
                parts.push(conn.read_exact(0).await);
                parts.push(
                    conn.read_until(b'f', 3)
                        .await
                        .map(Option::unwrap_or_default),
                );
                parts.push(conn.read_exact(4).await);
                parts.push(conn.read_exact(2).await);
                parts.push(conn.read().await.map(Option::unwrap_or_default));
                parts.push(conn.read().await.map(Option::unwrap_or_default));
                parts
            });
            for piece in cut(text, at) {
                peer.send(piece);
            }
            peer.finish();
            let parts = block_on(parts).expect("it ends");
            let texts: Vec<_> = parts
                .iter()
                .map(|part| match part {
                    Ok(part) => String::from_utf8_lossy(part).into_owned(),
                    Err(error) => error.text().to_owned(),
                })
                .collect();
            let ended = "the stream ended too early";
            assert_eq!(texts, ["abc", "", "def", "ghij", ended, "k", ""], "{at:b}");
            testing::reset();
        }
    }

    #[test]
    fn what_is_too_long_or_cut_short_is_an_error() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            peer.send("abcd");
            let error = conn.read_until(b'\n', 3).await.expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::TooLong);
            peer.send("\nab");
            peer.finish();
            let line = conn.read_until(b'\n', 5).await.expect("a line");
            assert_eq!(line.as_deref(), Some(&b"abcd\n"[..]));
            let error = conn.read_line().await.expect_err("cut short");
            assert_eq!(error.kind(), ErrorKind::UnexpectedEnd);
            assert_eq!(
                conn.read_to_end(1).await.map_err(|e| e.kind()),
                Err(ErrorKind::TooLong)
            );
            assert_eq!(conn.read_to_end(2).await.ok(), Some(b"ab".to_vec()));
            let (mut conn, mut peer) = pair();
            peer.send([b'a', 0xff, b'\n']);
            let error = conn.read_line().await.expect_err("not UTF-8");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
        });
    }

    #[test]
    fn giving_up_a_read_loses_nothing() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            peer.send("half");
            let line = timeout(SECOND, conn.read_line()).await;
            assert_eq!(
                line.err().map(|error| error.kind()),
                Some(ErrorKind::Timeout)
            );
            peer.send(" a line\n");
            let line = conn.read_line().await.expect("a line");
            assert_eq!(line.as_deref(), Some("half a line"));
        });
    }

    #[test]
    fn who_does_not_read_puts_backpressure_on_the_peer() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            for _ in 0..20 {
                peer.send([1; 8 << 10]);
            }
            assert!(peer.is_paused());
            let mut count = 0;
            while count < 160 << 10 {
                count += conn.read().await.expect("data").expect("no end").len();
            }
            assert!(!peer.is_paused());
            assert_eq!(count, 160 << 10);
        });
    }

    #[test]
    fn who_wants_more_than_the_mark_gets_it() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            let task = spawn(async move { conn.read_exact(300 << 10).await });
            for _ in 0..40 {
                peer.send([1; 8 << 10]);
            }
            let data = task.await.expect("it ends").expect("data");
            assert_eq!(data.len(), 300 << 10);
        });
    }

    #[test]
    fn a_peer_that_does_not_read_holds_up_who_writes() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            let written = Rc::new(Cell::new(0));
            let task = spawn({
                let written = written.clone();
                async move {
                    for _ in 0..100 {
                        conn.write_all(vec![1; 10 << 10]).await?;
                        written.set(written.get() + 1);
                    }
                    conn.close().await
                }
            });
            run();
            // 64 KiB, and the piece that reached the mark.
            assert_eq!(written.get(), 7);
            peer.expect([1; 55 << 10]);
            // There is room below the low mark.
            assert_eq!(written.get(), 12);
            peer.expect(vec![1; 945 << 10]);
            peer.expect_end();
            assert!(matches!(task.await, Some(Ok(()))));
        });
    }

    #[test]
    fn much_is_written_in_pieces() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            let task = spawn(async move { conn.write_all(vec![1; 1 << 20]).await });
            run();
            assert_eq!(peer.available(), WRITE_PIECE);
            peer.expect(vec![1; 1 << 20]);
            assert!(matches!(task.await, Some(Ok(()))));
        });
    }

    #[test]
    fn a_peer_that_does_not_read_can_be_given_up() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            conn.write_all([1; 64 << 10]).await.expect("there is room");
            let late = timeout(SECOND, conn.write_all("x")).await;
            assert_eq!(
                late.err().map(|error| error.kind()),
                Some(ErrorKind::Timeout)
            );
            conn.abort();
            peer.expect_reset();
        });
    }

    #[test]
    fn a_failure_reaches_reader_and_writer_after_the_data() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            peer.send("data");
            peer.reset();
            let data = conn.read().await.expect("data");
            assert_eq!(data.as_deref(), Some(&b"data"[..]));
            for _ in 0..2 {
                let error = conn.read().await.expect_err("it was reset");
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                assert_eq!(
                    error.to_string(),
                    "receiving failed: connection reset by peer"
                );
            }
            let error = conn.write_all("x").await.expect_err("it was reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        });
    }

    #[test]
    fn halves_go_their_own_ways_and_the_last_one_closes() {
        block_on(async {
            let (conn, mut peer) = pair();
            let (mut reader, mut writer) = conn.split();
            let task = spawn(async move { reader.read().await });
            writer
                .write_all("from the writer")
                .await
                .expect("there is room");
            writer.finish().expect("it can be ended");
            drop(writer);
            peer.expect("from the writer");
            peer.expect_end();
            peer.send("to the reader");
            let data = task.await.expect("it ends").expect("data");
            assert_eq!(data.as_deref(), Some(&b"to the reader"[..]));
        });
    }

    #[test]
    fn both_directions_are_relayed_with_what_came_before() {
        block_on(async {
            let (client, mut at_client) = pair();
            let (server, mut at_server) = pair();
            at_client.send("early ");
            let task = spawn(client.relay(server));
            at_client.send("late");
            at_server.send("answer");
            at_server.expect("early late");
            at_client.expect("answer");
            at_client.finish();
            at_server.expect_end();
            assert!(!task.is_finished());
            at_server.send(" and more");
            at_server.finish();
            at_client.expect(" and more");
            at_client.expect_end();
            assert!(matches!(task.await, Some(Ok(()))));
        });
    }

    #[test]
    fn a_relay_that_is_dropped_closes_both() {
        block_on(async {
            let (client, mut at_client) = pair();
            let (server, mut at_server) = pair();
            let given_up = select(client.relay(server), sleep(SECOND)).await;
            assert!(matches!(given_up, Either::Right(())));
            at_client.expect_end();
            at_server.expect_end();
        });
    }

    #[test]
    fn an_echo_by_relay() {
        let mut peer = testing::serve(Connection::relay_back);
        peer.send("hello");
        peer.expect("hello");
        peer.finish();
        peer.expect_end();
    }

    #[test]
    fn plain_text_cannot_be_slipped_into_tls() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            peer.send("STARTTLS\nhandshake");
            let line = conn.read_line().await.expect("a line");
            assert_eq!(line.as_deref(), Some("STARTTLS"));
            let session = conn.start_tls_server().await.expect("it is opened");
            assert_eq!(session.version, "TLSv1.3");
            assert!(peer.in_tls());
            assert!(conn.info().tls.is_some());
            let error = conn.start_tls_server().await.expect_err("once is enough");
            assert_eq!(error.kind(), ErrorKind::InvalidState);
        });
    }

    #[test]
    fn a_client_offers_protocols() {
        block_on(async {
            let (mut conn, _peer) = pair();
            let session = conn.start_tls_client("example.org", &["h2", "http/1.1"]);
            let session = session.await.expect("it is opened");
            assert_eq!(session.server_name.as_deref(), Some("example.org"));
            assert_eq!(session.alpn.as_deref(), Some("h2"));
        });
    }

    #[test]
    fn a_handshake_that_fails_is_an_error() {
        block_on(async {
            let (mut conn, mut peer) = pair();
            let kind = ErrorKind::Tls;
            let failing = async {
                let text = "certificate has expired";
                peer.fail(Error::fixed(kind, crate::Operation::Handshake, text));
            };
            let (outcome, ()) = join(conn.start_tls_client("example.org", &[]), failing).await;
            // The host of tests is done before it can fail.
            drop(outcome);
            let error = conn.read().await.expect_err("it failed");
            assert_eq!(
                error.to_string(),
                "the TLS handshake failed: certificate has expired"
            );
        });
    }

    #[test]
    fn files_are_sent_in_order_with_what_is_written() {
        testing::add_file("/a", "0123456789");
        block_on(async {
            let (mut conn, mut peer) = pair();
            let file = File::open("/a").expect("it is there");
            assert_eq!(file.size().ok(), Some(10));
            conn.write_all("<").await.expect("there is room");
            assert_eq!(conn.write_file(&file, 2, Some(3)).await.ok(), Some(3));
            assert_eq!(conn.write_file(&file, 8, None).await.ok(), Some(2));
            conn.write_all(">").await.expect("there is room");
            let error = conn
                .write_file(&file, 8, Some(3))
                .await
                .expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            peer.expect("<23489>");
        });
    }

    #[test]
    fn a_handlers_error_goes_to_the_log_with_the_peer() {
        let mut peer = testing::serve(async |mut conn: Connection| -> Result<()> {
            conn.read_exact(10).await?;
            Ok(())
        });
        peer.send("short");
        peer.finish();
        peer.expect_end();
        let log = testing::take_log();
        let text = "192.0.2.1:50000: receiving failed: the stream ended too early";
        assert_eq!(log, [(crate::log::Level::Debug, text.to_owned())]);
    }
}
