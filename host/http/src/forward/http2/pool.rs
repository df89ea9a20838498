//! The connections of a worker to servers that speak HTTP/2.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use h2::client::Builder;

use netwasm_base::config::HttpVersion;
use netwasm_base::error::ConnectionError;
use netwasm_net::connect;
use netwasm_net::transport::Transport;
use netwasm_net::upstream::{NoPlace, Server};
use netwasm_net::worker::Worker;

use super::driver::Multiplexer;
use super::io::WireIo;
use super::line::{Joined, MOST_STREAMS, Multiplexed};
use super::queue::{Queued, StreamQueue};

/// Window of a stream in bytes: RFC 9113, section 5.2.
const WINDOW: u32 = 128 << 10;

/// Maximum of a response's header in bytes, as HPACK counts it.
const MOST_HEADER: u32 = 256 << 10;

/// Maximum of small DATA frames that wait on a connection, as `h2` counts them: in
/// bytes by which they are shorter than 256. Bodies that clients do not take are
/// joined (`crate::coalescing`), so only a server that floods exceeds it.
const SMALL_FRAMES: usize = 32 << 20;

/// Maximum handed to `h2` at once for a stream, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Maximum of connections of a worker to a server.
const MOST_LINES: usize = 64;

/// Maximum of servers remembered to speak HTTP/1.1, and of those that are looked
/// through for ones without connections.
const MOST_KNOWN: usize = 4096;

/// The connections, by the server's number.
#[derive(Debug, Default)]
pub(in crate::forward) struct MultiplexedPool {
    lines: RefCell<HashMap<u64, Lines>>,
    /// Servers that have the choice and speak HTTP/1.1.
    http1: RefCell<HashSet<u64>>,
    /// Number of the next request that waits for a connection, or for room on one.
    next_turn: Rc<Cell<u64>>,
}

/// The connections to a server.
#[derive(Debug)]
struct Lines {
    all: Vec<Rc<Multiplexed>>,
    queue: Rc<StreamQueue>,
}

/// Number of reset streams whose late frames are expected, for a second each.
const MOST_RESET: usize = 1000;

impl MultiplexedPool {
    /// True if HTTP/1.1 is spoken with a server, as far as that is known.
    pub(in crate::forward) fn speaks_http1(&self, server: &Server) -> bool {
        match server.http() {
            HttpVersion::Http1 => true,
            HttpVersion::Http2 => false,
            HttpVersion::Auto => {
                server.tls().is_none() || self.http1.borrow().contains(&server.number())
            }
        }
    }

    /// Looks for a connection on which a stream can begin, now or once it is
    /// made; `limit` is the request's. If the server's name has several addresses,
    /// it is one to the address whose turn it is. Returns `None` if the request is
    /// to wait in the queue.
    pub(in crate::forward) fn join(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        limit: Duration,
    ) -> Option<Joined> {
        let waits = !self.of(server).queue.is_empty();
        match waits {
            true => None,
            false => self.join_now(worker, server, limit),
        }
    }

    /// Lets a request wait until there is room. One that has waited for a connection
    /// has its turn from then.
    ///
    /// # Errors
    /// Fails if too many wait.
    pub(in crate::forward) fn queue(
        &self,
        server: &Server,
        turn: Option<u64>,
    ) -> Result<Queued, NoPlace> {
        let queue = Rc::clone(&self.of(server).queue);
        queue.enter(server.most_waiting(), server.queue_timeout(), turn)
    }

    /// Like [`Self::join`], for a request whose turn it is.
    pub(in crate::forward) fn join_now(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        limit: Duration,
    ) -> Option<Joined> {
        let wanted = server.next_address();
        let mut of_server = self.of(server);
        let Lines { all, queue } = &mut *of_server;
        for line in &*all {
            line.retire_elsewhere(server);
        }
        let fits = |line: &Rc<Multiplexed>| wanted.is_none_or(|ip| line.is_to(ip));
        let room = |line: &&Rc<Multiplexed>| line.has_room();
        let streams = queue.streams();
        let open = all.iter().filter(|it| fits(it)).find(room);
        let dialing = |it: &&Rc<Multiplexed>| it.is_dialing(streams.max(1));
        let fitting = open.or_else(|| all.iter().filter(|it| fits(it)).find(dialing));
        let none_taken = streams == 0 && !all.is_empty();
        let full = all.len() >= MOST_LINES || none_taken;
        let found = fitting.or_else(|| {
            // Another address is better than none.
            let any = || all.iter().find(room).or_else(|| all.iter().find(dialing));
            full.then(any).flatten()
        });
        if let Some(line) = found {
            return Some(line.join(limit));
        }
        if full {
            return None;
        }
        let line = Multiplexed::dialing(&worker.thread, queue, wanted);
        all.push(Rc::clone(&line));
        drop(of_server);
        let joined = line.join(limit);
        let (pool, worker, server) = (Rc::clone(self), Rc::clone(worker), Arc::clone(server));
        let thread = Rc::clone(&worker.thread);
        thread.spawn_local(async move {
            let mut making = pin!(pool.make(&worker, &server, &line));
            let made = poll_fn(|cx| match line.poll_unwanted(cx) {
                Poll::Ready(()) => Poll::Ready(Err(ConnectionError::Aborted)),
                Poll::Pending => making.as_mut().poll(cx),
            });
            if let Err(reason) = made.await {
                pool.remove(server.number(), &line);
                line.end(reason);
            }
        });
        Some(joined)
    }

    /// Returns the connections to a server, and its queue.
    fn of(&self, server: &Server) -> RefMut<'_, Lines> {
        let mut lines = self.lines.borrow_mut();
        if lines.len() >= MOST_KNOWN {
            // Of some, the queue was left after the last connection had ended.
            lines.retain(|_, of_server| !of_server.all.is_empty() || !of_server.queue.is_empty());
        }
        RefMut::map(lines, |lines| {
            lines.entry(server.number()).or_insert_with(|| Lines {
                all: Vec::new(),
                queue: Rc::new(StreamQueue::new(&self.next_turn)),
            })
        })
    }

    /// Closes a connection of the worker that nobody uses, so that another can be
    /// made. Returns false if there is none.
    pub(in crate::forward) fn make_room(&self, worker: &Worker) -> bool {
        if worker.kept.close_oldest() {
            return true;
        }
        let lines = self.lines.borrow();
        let idle = lines.values().flat_map(|it| &it.all);
        let oldest = idle
            .filter(|line| line.is_idle())
            .min_by_key(|line| line.idle_since());
        let oldest = oldest.map(Rc::clone);
        drop(lines);
        if let Some(line) = &oldest {
            line.give_way();
        }
        oldest.is_some()
    }

    async fn make(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        line: &Rc<Multiplexed>,
    ) -> Result<(), ConnectionError> {
        // Each request that waits has its own limit.
        let (wanted, limit) = (line.wanted(), Duration::MAX);
        let made = match connect::make_to_address(worker, server, wanted, limit).await {
            // A connection that nobody uses gives way.
            Err(ConnectionError::LimitExceeded(_)) if self.make_room(worker) => {
                connect::make_to_address(worker, server, wanted, limit).await
            }
            made => made,
        };
        let transport = made?;
        if server.tls().is_some() && !transport.speaks(b"h2") {
            if server.http() == HttpVersion::Http2 {
                let why = "the server does not agree on HTTP/2 (ALPN h2); http=auto or http=1.1 \
                           would take that";
                return Err(ConnectionError::Tls(why.to_owned()));
            }
            self.note_http1(server);
            self.remove(server.number(), line);
            line.speaks_http1(transport);
            return Ok(());
        }
        self.begin(worker, server, line, transport).await
    }

    fn note_http1(&self, server: &Server) {
        let mut known = self.http1.borrow_mut();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(server.number());
    }

    /// Takes a connection on which the server speaks HTTP/2, against what was
    /// known of it.
    pub(in crate::forward) fn adopt(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        transport: Rc<Transport>,
        limit: Duration,
    ) -> Joined {
        self.http1.borrow_mut().remove(&server.number());
        let mut lines = self.of(server);
        let line = Multiplexed::dialing(&worker.thread, &lines.queue, None);
        lines.all.push(Rc::clone(&line));
        drop(lines);
        let joined = line.join(limit);
        let (pool, worker, server) = (Rc::clone(self), Rc::clone(worker), Arc::clone(server));
        let thread = Rc::clone(&worker.thread);
        thread.spawn_local(async move {
            let begins = pool.begin(&worker, &server, &line, transport);
            if let Err(reason) = begins.await {
                pool.remove(server.number(), &line);
                line.end(reason);
            }
        });
        joined
    }

    /// Begins HTTP/2. The connection's task opens it to requests once the
    /// server's SETTINGS have come.
    async fn begin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Server,
        line: &Rc<Multiplexed>,
        transport: Rc<Transport>,
    ) -> Result<(), ConnectionError> {
        let most = u32::try_from(MOST_STREAMS).unwrap_or(u32::MAX);
        let io = WireIo::new(&transport, &line.wire);
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * most)
            .max_header_list_size(MOST_HEADER)
            .max_send_buffer_size(PIECE)
            .data_frame_budget(SMALL_FRAMES)
            // Clients that leave reset streams for which the server still sends:
            // that is no fault of the server's, whose excess the frames show.
            .max_concurrent_reset_streams(MOST_RESET)
            .max_local_error_reset_streams(None)
            .handshake(io);
        let (sender, connection) = handshake.await.map_err(io::Error::other)?;
        line.wire.heard.set(worker.thread.now());
        let driver = Multiplexer::new(
            self,
            server.number(),
            line,
            &transport,
            (sender, connection),
        );
        worker.drive(&transport, driver);
        Ok(())
    }

    /// Forgets a connection, in whose place another may be made.
    pub(super) fn remove(&self, server: u64, line: &Rc<Multiplexed>) {
        let mut lines = self.lines.borrow_mut();
        let Some(Lines { all, queue }) = lines.get_mut(&server) else {
            return;
        };
        all.retain(|other| !Rc::ptr_eq(other, line));
        queue.wake_first();
        if all.is_empty() && queue.is_empty() {
            lines.remove(&server);
        }
    }
}
