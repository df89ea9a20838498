//! A connection to a server, in use by one request.

use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use netwasm_base::counters::Counted;
use netwasm_base::error::ConnectionError;
use netwasm_net::transport::Transport;
use netwasm_net::tunnel::{self, TunnelDriver};
use netwasm_net::upstream::{Place, Server};
use netwasm_net::worker::{Registered, Worker};

/// A connection to a server. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Line {
    worker: Rc<Worker>,
    pub(super) transport: Rc<Transport>,
    /// Connection of the one client that it is for, as its PROXY header says.
    client: Option<Weak<Transport>>,
    /// `None` once the connection is kept for the next request.
    in_use: Option<InUse>,
    /// Bytes that have arrived and are not used yet.
    pub(super) input: BytesMut,
    /// True if an earlier request had the connection, whose server may be
    /// closing it just now.
    pub(super) is_kept: bool,
    /// True if something of the response has arrived.
    pub(super) has_received: bool,
}

#[derive(Debug)]
struct InUse {
    place: Place,
    counted: Counted,
    _registered: Registered,
}

impl Line {
    /// Returns a connection that was kept for requests of a client, if there is one.
    /// `surely` asks the kernel whether it is open.
    pub(super) fn kept(
        worker: &Rc<Worker>,
        place: Place,
        client: Option<&Rc<Transport>>,
        surely: bool,
    ) -> Result<Self, Place> {
        let of = only_for(place.server(), client);
        match worker.kept.take(place.server(), of.as_ref(), surely) {
            Some(transport) => {
                let mut line = Self::made(worker, place, client, transport);
                line.is_kept = true;
                Ok(line)
            }
            None => Err(place),
        }
    }

    /// Returns a connection that was made for a request of a client.
    pub(super) fn made(
        worker: &Rc<Worker>,
        place: Place,
        client: Option<&Rc<Transport>>,
        transport: Rc<Transport>,
    ) -> Self {
        let client = only_for(place.server(), client);
        let in_use = InUse {
            place,
            counted: Counted::new(&worker.env().counters),
            _registered: worker.register(&transport),
        };
        Self {
            worker: Rc::clone(worker),
            transport,
            client,
            in_use: Some(in_use),
            input: BytesMut::new(),
            is_kept: false,
            has_received: false,
        }
    }

    /// Returns the server, while the connection is in use.
    pub(super) fn server(&self) -> Option<&Server> {
        self.in_use.as_ref().map(|it| &**it.place.server())
    }

    /// Sets the limit of silence, which begins once the server has acknowledged
    /// what was sent.
    pub(super) fn limit_silence(&self, limit: Option<Duration>) {
        self.transport.set_alarm(limit);
    }

    /// Receives into `input`. Ready with the number of bytes; 0 is the end.
    ///
    /// # Errors
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, ConnectionError>> {
        let thread = Rc::clone(self.transport.thread());
        let mut scratch = thread.scratch.borrow_mut();
        let received = ready!(self.transport.poll_receive(cx, &mut scratch))?;
        let piece = scratch.get(received);
        self.has_received |= !piece.is_empty();
        self.input.extend_from_slice(piece);
        Poll::Ready(Ok(piece.len()))
    }

    /// Takes bytes that have arrived, or receives some; none is the end.
    ///
    /// # Errors
    /// Fails if the connection failed, or its TLS stream was cut short.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, ConnectionError>> {
        if !self.input.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.input).freeze()));
        }
        let thread = Rc::clone(self.transport.thread());
        let mut scratch = thread.scratch.borrow_mut();
        let received = ready!(self.transport.poll_receive(cx, &mut scratch))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(scratch.get(received))))
    }

    /// Joins the connection with the client's, as both change to another
    /// protocol. `early` is what has arrived from the client. Returns the driver
    /// of the client's connection.
    ///
    /// # Errors
    /// Fails if one of them is closing.
    pub(super) fn join(
        mut self,
        client: &Rc<Transport>,
        early: &[u8],
    ) -> Result<TunnelDriver, ConnectionError> {
        let Some(InUse { place, counted, .. }) = self.in_use.take() else {
            return Err(ConnectionError::InvalidState);
        };
        self.transport.write(early);
        client.write(&self.input);
        let driver = tunnel::join(&self.worker, client, &self.transport, Box::new(place))?;
        // Its driver counts its end.
        counted.resume();
        Ok(driver)
    }

    /// Keeps the connection for the next request. The response has ended.
    pub(super) fn keep(&mut self) {
        if let Some(InUse { place, counted, .. }) = self.in_use.take() {
            counted.resume();
            let transport = Rc::clone(&self.transport);
            let client = self.client.take();
            self.worker.kept.put(place.server(), client, transport);
        }
    }

    /// Closes the connection. `reset` tells the server that the request is
    /// given up.
    pub(super) fn close(&mut self, reset: bool) {
        if self.in_use.take().is_some() {
            match reset {
                true => self.transport.reset_on_close(),
                false => self.transport.say_close_notify(),
            }
            self.transport.release();
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close(true);
    }
}

/// Returns the client that a connection to a server is for, if it can be for no
/// other.
fn only_for(server: &Server, client: Option<&Rc<Transport>>) -> Option<Weak<Transport>> {
    server.proxy_protocol().and(client).map(Rc::downgrade)
}
