//! Pools of outgoing connections.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::connect::{open, parse};
use crate::host::{ConnectOptions, PoolHandle, PoolOptions};
use crate::{Connection, Result};

/// A pool of connections to one endpoint, kept for reuse; made by
/// [`Connect::pool`](crate::Connect::pool). Needs `--allow-connect`.
///
/// The pool belongs to the host: all instances of a run that open a pool for the
/// same endpoint with the same options share it, its size and its queue.
///
/// ```
/// use netwasm_guest::{Connect, Pool, Result};
///
/// async fn ask(pool: &Pool, question: &str) -> Result<Option<String>> {
///     let mut conn = pool.get().await?;
///     conn.write_all(format!("{question}\n")).await?;
///     let answer = conn.read_line().await?;
///     conn.put(); // without this, it is closed
///     Ok(answer)
/// }
///
/// # netwasm_guest::testing::block_on(async {
/// # let mut server = netwasm_guest::testing::listen("example.org:7");
/// let pool = Connect::to("example.org:7").pool(4).open()?;
/// # let task = netwasm_guest::spawn({
/// #     let pool = pool.clone();
/// #     async move { (ask(&pool, "a").await, ask(&pool, "b").await) }
/// # });
/// # netwasm_guest::yield_now().await;
/// # let mut peer = server.accept();
/// # for text in ["a\n", "b\n"] {
/// #     peer.expect(text);
/// #     peer.send(text);
/// # }
/// # let (a, b) = task.await.unwrap();
/// # assert_eq!((a?.unwrap(), b?.unwrap()), ("a".to_owned(), "b".to_owned()));
/// # assert_eq!(pool.counts().opened, 1);
/// # Result::<()>::Ok(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Pool(PoolHandle);

/// Options of a pool; made by [`Connect::pool`](crate::Connect::pool).
#[derive(Clone, Debug)]
#[must_use = "a pool is opened by `open`"]
pub struct PoolBuilder {
    to: String,
    options: PoolOptions,
}

/// Counts of a pool's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Connections in use or being made.
    pub in_use: u32,
    /// Idle connections.
    pub idle: u32,
    /// Tasks waiting for a connection.
    pub waiting: u32,
    /// Connections made in total.
    pub opened: u64,
    /// Times that an idle connection was handed out again.
    pub reused: u64,
    /// Idle connections that were closed: by their peer, or by a limit.
    pub expired: u64,
}

impl PoolBuilder {
    pub(crate) const fn new(to: String, connect: ConnectOptions, size: u32) -> Self {
        Self {
            to,
            options: PoolOptions {
                size,
                connect,
                idle_timeout: None,
                max_age: None,
            },
        }
    }

    /// Sets how long a connection may be idle; a minute unless set.
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.options.idle_timeout = Some(limit);
        self
    }

    /// Sets how old a connection may be when it is handed out; an hour unless
    /// set.
    pub const fn max_age(mut self, limit: Duration) -> Self {
        self.options.max_age = Some(limit);
        self
    }

    /// Opens the pool, or finds it. No connection is made yet.
    ///
    /// # Errors
    /// - `AccessDenied`: no `--allow-connect` allows it.
    /// - `InvalidArgument`: the endpoint is not one, or the size is 0.
    /// - `LimitExceeded`: there are too many pools.
    pub fn open(self) -> Result<Pool> {
        PoolHandle::open(parse(&self.to)?, self.options).map(Pool)
    }
}

impl Pool {
    /// Waits for a connection: the one that became idle last, or a new one. If
    /// all are in use, it waits its turn. Put a [`timeout`](crate::timeout)
    /// around it for a limit; dropping the future gives up the turn.
    ///
    /// A server may close an idle connection just when it is handed out, so
    /// a request that may be sent twice should be tried again.
    ///
    /// # Errors
    /// - `ConnectionAborted`: the pool was closed.
    /// - those of [`connect`](crate::connect()).
    pub async fn get(&self) -> Result<Pooled> {
        let request = |token| self.0.get(token, None);
        let (connection, token) = open(request).await?;
        Ok(Pooled { connection, token })
    }

    /// Closes the pool for all who share it: idle connections at once, the
    /// others when they are put back.
    pub fn close(&self) {
        self.0.close();
    }

    /// Returns the counts of the pool.
    pub fn counts(&self) -> PoolCounts {
        self.0.counts()
    }
}

/// A connection of a [`Pool`]. Dropping it closes it, since what was begun may
/// not be done; [`put`](Self::put) keeps it for the next task.
pub struct Pooled {
    connection: Connection,
    token: usize,
}

impl Pooled {
    /// Puts the connection back for reuse: call this after the whole of an
    /// answer was read. It is closed instead if it cannot be reused: if
    /// something is unread or not yet sent, or if a side was ended.
    pub fn put(self) {
        self.connection.put_back(self.token);
    }
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, block_on};
    use crate::{Connect, ErrorKind, spawn, timeout, yield_now};

    const TO: &str = "example.org:7";
    const SECOND: Duration = Duration::from_secs(1);

    fn pool(size: u32) -> Pool {
        let pool = Connect::to(TO).pool(size).open();
        pool.expect("the pool opens")
    }

    #[test]
    fn a_connection_that_is_put_back_is_used_again() {
        let mut server = testing::listen(TO);
        block_on(async {
            let pool = pool(2);
            pool.get().await.expect("a connection").put();
            let mut again = pool.get().await.expect("a connection");
            again.write_all("x").await.expect("it is written");
            assert_eq!((pool.counts().opened, pool.counts().reused), (1, 1));
            assert_eq!(pool.counts().in_use, 1);
            again.put();
            assert_eq!((pool.counts().in_use, pool.counts().idle), (0, 1));
        });
        let mut peer = server.accept();
        peer.expect("x");
        assert!(server.try_accept().is_none());
    }

    #[test]
    fn what_is_not_put_back_is_closed_and_gives_its_place_away() {
        let mut server = testing::listen(TO);
        block_on(async {
            let pool = pool(1);
            drop(pool.get().await.expect("a connection"));
            let next = pool.get().await.expect("a connection");
            assert_eq!((pool.counts().opened, pool.counts().reused), (2, 0));
            drop(next);
        });
        server.accept().expect_end();
        server.accept().expect_end();
    }

    #[test]
    fn a_connection_with_something_unread_is_closed() {
        let mut server = testing::listen(TO);
        block_on(async {
            let pool = pool(1);
            let mut conn = pool.get().await.expect("a connection");
            server.accept().send("one\ntwo\n");
            let line = conn.read_line().await.expect("it is read");
            assert_eq!(line.as_deref(), Some("one"));
            conn.put();
            let _next = pool.get().await.expect("a connection");
            assert_eq!((pool.counts().opened, pool.counts().reused), (2, 0));
        });
    }

    #[test]
    fn a_connection_that_its_server_closed_is_not_handed_out() {
        let mut server = testing::listen(TO);
        block_on(async {
            let pool = pool(1);
            pool.get().await.expect("a connection").put();
            server.accept().finish();
            let _next = pool.get().await.expect("a connection");
            let counts = pool.counts();
            assert_eq!((counts.opened, counts.expired), (2, 1));
        });
    }

    #[test]
    fn tasks_wait_their_turn_and_may_give_it_up() {
        let _server = testing::listen(TO);
        block_on(async {
            let pool = pool(1);
            let first = pool.get().await.expect("a connection");
            let late = timeout(SECOND, pool.get()).await.err();
            assert_eq!(late.map(|error| error.kind()), Some(ErrorKind::Timeout));
            assert_eq!(pool.counts().waiting, 0);
            let next = spawn({
                let pool = pool.clone();
                async move { pool.get().await.map(Pooled::put).is_ok() }
            });
            yield_now().await;
            assert_eq!(pool.counts().waiting, 1);
            first.put();
            assert_eq!(next.await, Some(true));
            assert_eq!(pool.counts().opened, 1);
        });
    }

    #[test]
    fn one_pool_stands_for_one_endpoint_and_its_options() {
        let _server = testing::listen(TO);
        block_on(async {
            pool(2).get().await.expect("a connection").put();
            assert_eq!(pool(2).counts().idle, 1);
            assert_eq!(pool(3).counts().idle, 0);
            pool(2).close();
            assert_eq!(pool(2).counts().idle, 0);
            let error = Connect::to(TO).pool(0).open().err();
            let kind = error.map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::InvalidArgument));
        });
    }

    #[test]
    fn who_waits_for_a_closed_pool_is_told() {
        let _server = testing::listen(TO);
        block_on(async {
            let pool = pool(1);
            let _first = pool.get().await.expect("a connection");
            let next = spawn({
                let pool = pool.clone();
                async move { pool.get().await.err().map(|error| error.kind()) }
            });
            yield_now().await;
            pool.close();
            assert_eq!(next.await, Some(Some(ErrorKind::ConnectionAborted)));
        });
    }
}
