//! State that the events of a connection share with the task that handles it.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::unread::Unread;
use crate::cell::with;
use crate::host::{TlsRole, Transport};
use crate::wait::Waiter;
use crate::{Error, File, Result, TlsInfo};

/// Unread bytes at which the host is asked to stop receiving.
const READ_HIGH: usize = 64 << 10;

/// Unread bytes at which it is asked to go on.
const READ_LOW: usize = 16 << 10;

/// The most that is given to the host at once.
pub(super) const WRITE_PIECE: usize = 256 << 10;

/// The longest line that `read_line` takes, in bytes.
const MAX_LINE: usize = 8 << 10;

/// State that the events of a connection share with the task that handles it.
pub(crate) struct Shared {
    pub(super) transport: Transport,
    /// Received bytes that were not read.
    pub(super) unread: Cell<Unread>,
    /// True once the peer has ended its sending side.
    ended: Cell<bool>,
    /// True while the host was asked not to receive.
    paused: Cell<bool>,
    /// True while `writable` is awaited.
    pub(super) full: Cell<bool>,
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

    pub(super) fn pause(&self) {
        if !self.paused.replace(true) {
            self.transport.pause_reading();
        }
    }

    pub(super) fn resume(&self) {
        if self.paused.replace(false) {
            self.transport.resume_reading();
        }
    }

    /// Takes from what is unread, and lets the host receive again.
    pub(super) fn consume<T>(&self, take: impl FnOnce(&mut Unread) -> T) -> T {
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
    pub(super) fn poll_more(&self, cx: &Context<'_>, count: usize) -> Poll<Result<bool>> {
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

    pub(super) async fn more(&self, count: usize) -> Result<bool> {
        std::future::poll_fn(|cx| self.poll_more(cx, count)).await
    }

    pub(super) async fn read_exact(&self, count: usize) -> Result<Vec<u8>> {
        while with(&self.unread, |unread| unread.len()) < count {
            if !self.more(with(&self.unread, |unread| unread.len())).await? {
                return Err(Error::unexpected_end());
            }
        }
        Ok(self.consume(|unread| unread.take_first(count)))
    }

    pub(super) async fn read_until(&self, end: u8, max: usize) -> Result<Option<Vec<u8>>> {
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

    pub(super) async fn read_line(&self) -> Result<Option<String>> {
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
    pub(super) fn poll_write_all(
        &self,
        cx: &Context<'_>,
        data: &[u8],
        done: &mut usize,
    ) -> Poll<Result<()>> {
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

    pub(super) async fn ready(&self) -> Result<()> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    pub(super) async fn write_file(
        &self,
        file: &File,
        offset: u64,
        length: Option<u64>,
    ) -> Result<u64> {
        self.ready().await?;
        let length = self.transport.send_file(file.raw(), offset, length)?;
        self.full.set(self.transport.room() == 0);
        Ok(length)
    }

    // The connection as a whole.

    /// Returns why the connection was lost.
    pub(super) fn outcome(&self) -> Result<()> {
        let reason = self.reason.take();
        let outcome = match &reason {
            Some(error) => Err(Error::clone(error)),
            None => Ok(()),
        };
        self.reason.set(reason);
        outcome
    }

    /// Waits until the connection is lost.
    pub(super) async fn lost(&self) -> Result<()> {
        std::future::poll_fn(|cx| {
            if self.lost.get() {
                return Poll::Ready(self.outcome());
            }
            self.reader.register(cx);
            Poll::Pending
        })
        .await
    }

    pub(super) async fn start_tls(&self, role: TlsRole) -> Result<TlsInfo> {
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
    pub(super) fn relay_to(&self, other: &Self) -> Result<()> {
        let received = self.consume(Unread::take);
        if !received.is_empty() {
            other.write(&received);
        }
        self.transport.relay(&other.transport)?;
        self.resume();
        Ok(())
    }

    /// True if the connection could carry another exchange.
    pub(super) fn is_clean(&self) -> bool {
        let is_used = self.lost.get() || self.ended.get() || self.full.get();
        !is_used && self.owners.get() == 1 && with(&self.unread, |unread| unread.len()) == 0
    }

    /// Notes that the connection is another's.
    pub(super) fn forget(&self) {
        self.lost.set(true);
    }

    pub(super) fn own(self: &Rc<Self>) -> Rc<Self> {
        self.owners.set(self.owners.get() + 1);
        self.clone()
    }

    /// Ends the connection when the last owner is dropped.
    pub(super) fn disown(&self) {
        let owners = self.owners.get() - 1;
        self.owners.set(owners);
        if owners == 0 && !self.lost.get() {
            self.transport.close();
        }
    }
}
