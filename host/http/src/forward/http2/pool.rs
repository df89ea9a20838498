//! The connections of a worker to servers that speak HTTP/2.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use h2::client::Builder;

use netwasm_base::config::HttpVersion;
use netwasm_base::error::ConnectionError;
use netwasm_net::connect;
use netwasm_net::transport::Transport;
use netwasm_net::upstream::Server;
use netwasm_net::worker::Worker;

use super::driver::Multiplexer;
use super::io::WireIo;
use super::line::{MOST_STREAMS, Multiplexed};

/// Window of a stream in bytes: RFC 9113, section 5.2.
const WINDOW: u32 = 128 << 10;

/// Maximum of a response's header in bytes, as HPACK counts it.
const MOST_HEADER: u32 = 256 << 10;

/// Maximum handed to `h2` at once for a stream, in bytes.
pub(super) const PIECE: usize = 64 << 10;

/// Maximum of connections of a worker to a server.
const MOST_LINES: usize = 64;

/// Maximum of servers remembered to speak HTTP/1.1.
const MOST_KNOWN: usize = 4096;

/// The connections, by the server's number.
#[derive(Debug, Default)]
pub(in crate::forward) struct MultiplexedPool {
    lines: RefCell<HashMap<u64, Vec<Rc<Multiplexed>>>>,
    /// Servers that have the choice and speak HTTP/1.1.
    http1: RefCell<HashSet<u64>>,
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

    /// Returns a connection on which a stream can begin, now or once it is made.
    /// `limit` is for one that is made anew.
    ///
    /// # Errors
    /// Fails with `LimitExceeded` if there are too many.
    pub(in crate::forward) fn line(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        limit: Duration,
    ) -> Result<Rc<Multiplexed>, ConnectionError> {
        let mut lines = self.lines.borrow_mut();
        let lines = lines.entry(server.number()).or_default();
        let open = lines.iter().find(|it| it.has_room());
        if let Some(line) = open.or_else(|| lines.iter().find(|it| it.is_dialing())) {
            return Ok(Rc::clone(line));
        }
        if lines.len() >= MOST_LINES {
            return Err(ConnectionError::LimitExceeded(
                "64 connections to the server have no room for another stream",
            ));
        }
        let line = Multiplexed::dialing(&worker.thread);
        lines.push(Rc::clone(&line));
        let (pool, worker, server) = (Rc::clone(self), Rc::clone(worker), Arc::clone(server));
        let made = Rc::clone(&line);
        let thread = Rc::clone(&worker.thread);
        thread.spawn_local(async move {
            if let Err(reason) = pool.make(&worker, &server, &made, limit).await {
                pool.remove(server.number(), &made);
                made.end(reason);
            }
        });
        Ok(line)
    }

    async fn make(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Arc<Server>,
        line: &Rc<Multiplexed>,
        limit: Duration,
    ) -> Result<(), ConnectionError> {
        let made = match connect::make_to(worker, server, limit).await {
            // A connection that nobody uses gives way.
            Err(ConnectionError::LimitExceeded(_)) if worker.kept.close_oldest() => {
                connect::make_to(worker, server, limit).await
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
        self.begin(worker, server, line, transport, limit).await
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
    ) -> Rc<Multiplexed> {
        self.http1.borrow_mut().remove(&server.number());
        let line = Multiplexed::dialing(&worker.thread);
        let mut lines = self.lines.borrow_mut();
        lines
            .entry(server.number())
            .or_default()
            .push(Rc::clone(&line));
        drop(lines);
        let (pool, worker, server) = (Rc::clone(self), Rc::clone(worker), Arc::clone(server));
        let (begun, thread) = (Rc::clone(&line), Rc::clone(&worker.thread));
        thread.spawn_local(async move {
            let begins = pool.begin(&worker, &server, &begun, transport, limit);
            if let Err(reason) = begins.await {
                pool.remove(server.number(), &begun);
                begun.end(reason);
            }
        });
        line
    }

    /// Begins HTTP/2. The connection's task opens it to requests once the
    /// server's SETTINGS have come.
    async fn begin(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        server: &Server,
        line: &Rc<Multiplexed>,
        transport: Rc<Transport>,
        limit: Duration,
    ) -> Result<(), ConnectionError> {
        let most = u32::try_from(MOST_STREAMS).unwrap_or(u32::MAX);
        let io = WireIo::new(&transport, &line.wire);
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * most)
            .max_header_list_size(MOST_HEADER)
            .max_send_buffer_size(PIECE)
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
            limit,
        );
        worker.drive(&transport, driver);
        Ok(())
    }

    /// Forgets a connection.
    pub(super) fn remove(&self, server: u64, line: &Rc<Multiplexed>) {
        let mut lines = self.lines.borrow_mut();
        if let Some(of_server) = lines.get_mut(&server) {
            of_server.retain(|other| !Rc::ptr_eq(other, line));
            if of_server.is_empty() {
                lines.remove(&server);
            }
        }
    }
}
