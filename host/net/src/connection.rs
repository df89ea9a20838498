//! The task of a connection: the TLS handshake, then events between the socket
//! and the guest until either ends it.
//!
//! The task is a hand-written future, since it waits for several things at once
//! (bytes, room, the guest's requests) and is the hot path: a poll that finds
//! nothing to do costs a few loads.

mod ending;
mod relaying;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use netwasm_base::error::ConnectionError;

use crate::guest::{EventGuest, Gone, Guests, StreamGuests};
use crate::protocol::Lost;
use crate::relay;
use crate::service::Service;
use crate::stream::Stream;
use crate::transport::{HandshakeFailed, Linger, Transport};
use crate::worker::Worker;

/// Hands the connections of a listener to guests.
pub struct ToGuests<G>(Taker<G>);

/// Kind of guest that receives accepted connections.
enum Taker<G> {
    /// Event-driven guests.
    Events(Rc<dyn Guests<G>>),
    /// Guests that take connections as streams.
    Streams(Rc<dyn StreamGuests>),
}

impl<G> ToGuests<G> {
    /// Hands connections to event-driven guests.
    pub fn events(guests: Rc<dyn Guests<G>>) -> Self {
        Self(Taker::Events(guests))
    }

    /// Hands connections to guests that take them as streams.
    pub fn streams(guests: Rc<dyn StreamGuests>) -> Self {
        Self(Taker::Streams(guests))
    }
}

impl<G: EventGuest> Service for ToGuests<G> {
    fn accept(&self, worker: &Rc<Worker>, transport: Rc<Transport>) {
        let taker = self.0.clone();
        worker.drive(&transport, Driver::accepted(Rc::clone(&transport), taker));
    }
}

impl<G> Clone for Taker<G> {
    fn clone(&self) -> Self {
        match self {
            Self::Events(guests) => Self::Events(Rc::clone(guests)),
            Self::Streams(guests) => Self::Streams(Rc::clone(guests)),
        }
    }
}

impl<G> fmt::Debug for Taker<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taker").finish_non_exhaustive()
    }
}

/// Bytes that a guest is taken to write when it is told of room.
const PIECE: usize = 64 << 10;

/// Drives one connection to its end.
#[derive(Debug)]
pub struct Driver<G: EventGuest> {
    transport: Rc<Transport>,
    stage: Stage<G>,
}

#[derive(Debug)]
enum Stage<G: EventGuest> {
    /// The TLS handshake of an accepted connection.
    Handshake(Taker<G>),
    /// Accepted; the guest has not been told yet.
    Accepted(Taker<G>),
    /// The guest has the connection.
    Open {
        guest: Rc<G>,
        connection: G::Connection,
    },
    /// The guest has the connection as streams, which read and write by
    /// themselves.
    Streaming(Rc<Stream>),
    /// The guest has exited; what it wrote is yet to be sent.
    Exited,
    /// The guest no longer has the connection.
    Lingering(Linger),
    Over,
}

/// Next action of a connection's task.
#[derive(Debug)]
enum Next {
    Receive,
    /// Something changed: check again.
    Again,
    /// The guest had `writable`, and probably wrote: check again, after others
    /// had their turn.
    Wrote,
    Sleep,
    End(Lost),
}

impl<G: EventGuest> Driver<G> {
    /// Drives a connection that was just accepted.
    fn accepted(transport: Rc<Transport>, taker: Taker<G>) -> Self {
        let stage = if transport.begin_handshake() {
            Stage::Handshake(taker)
        } else {
            Stage::Accepted(taker)
        };
        Self { transport, stage }
    }

    /// Drives an outgoing connection that the guest has taken.
    pub fn connected(transport: Rc<Transport>, guest: Rc<G>, connection: G::Connection) -> Self {
        Self {
            transport,
            stage: Stage::Open { guest, connection },
        }
    }

    /// Drives a connection that a guest has as streams.
    pub fn streaming(transport: Rc<Transport>, stream: Rc<Stream>) -> Self {
        Self {
            transport,
            stage: Stage::Streaming(stream),
        }
    }

    /// Announces the connection (`connection-made`).
    fn begin(&self, taker: &Taker<G>) -> Stage<G> {
        let guests = match taker {
            Taker::Events(guests) => guests,
            Taker::Streams(guests) => return Stage::Streaming(guests.serve(&self.transport)),
        };
        let guest = match guests.guest() {
            Ok(guest) => guest,
            Err(error) => {
                let counters = &self.transport.thread().env.counters;
                counters.instances_failed.add();
                tracing::error!(peer = %self.transport.peer(), %error, "no instance for a connection");
                return self.cut();
            }
        };
        match guest.connection_made(&self.transport) {
            Ok(connection) => Stage::Open { guest, connection },
            Err(Gone) => self.lose_guest(&guest),
        }
    }

    fn poll_open(
        &self,
        cx: &mut Context<'_>,
        guest: &Rc<G>,
        connection: G::Connection,
    ) -> Poll<Result<Lost, Gone>> {
        let transport = &self.transport;
        let mut moved = None;
        loop {
            if guest.is_dead() {
                return Poll::Ready(Err(Gone));
            }
            // Mostly there is nothing to do but receive.
            if !transport.only_receives() {
                match self.attend(cx, guest, connection)? {
                    Next::Receive => {}
                    Next::Again => continue,
                    Next::Wrote => {
                        // A guest may ask for the next one each time.
                        if transport.turn.is_over(PIECE) {
                            transport.turn.give_way(cx);
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Next::Sleep => return Poll::Pending,
                    Next::End(lost) => return Poll::Ready(Ok(lost)),
                }
            }
            if let Some(bytes) = moved.take()
                && transport.pauses(cx, bytes)
            {
                return Poll::Pending;
            }
            let thread = transport.thread();
            let mut scratch = thread.scratch.borrow_mut();
            match transport.poll_receive(cx, &mut scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(reason)) => transport.fail(reason),
                Poll::Ready(Ok(received)) if received.is_end() => {
                    transport.core.borrow_mut().flow.peer_ended();
                    if !guest.eof_received(connection)? {
                        transport.close();
                    }
                }
                Poll::Ready(Ok(received)) => {
                    let data = scratch.get(received);
                    guest.data_received(connection, data)?;
                    moved = Some(data.len());
                }
            }
        }
    }

    /// Does everything that the guest's streams do not do by themselves, until
    /// the connection is over.
    fn poll_streaming(&self, cx: &mut Context<'_>, stream: &Stream) -> Poll<Lost> {
        let transport = &self.transport;
        loop {
            if let Some(lost) = transport.over() {
                return Poll::Ready(lost);
            }
            match transport.poll_flush(cx) {
                Poll::Ready(Err(reason)) => {
                    if !stream.ends_file(&reason) {
                        transport.fail(reason);
                    }
                    continue;
                }
                Poll::Pending if transport.turn.waits() => return Poll::Pending,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
            if transport.shut_if_due() {
                continue;
            }
            if transport.is_handshaking() {
                match self.attend_handshake(cx) {
                    Next::Sleep => return Poll::Pending,
                    _ => continue,
                }
            }
            if let Some(info) = transport.started_tls() {
                stream.started_tls(Ok(info));
            }
            if stream.settle() || transport.over().is_some() {
                continue;
            }
            if transport.core.borrow().wants_room {
                // Registers the waker. Readiness shows in `wants_room`.
                let _ = transport.poll_room(cx);
            }
            self.tell_feeder();
            let relays = transport.core.borrow().relay.is_some();
            if !relays {
                return Poll::Pending;
            }
            let relayed = relay::poll(transport, cx, &mut transport.thread().scratch.borrow_mut());
            match relayed {
                Poll::Ready(outcome) => stream.fed(outcome.map(|_| ())),
                Poll::Pending if self.goes_on(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Does everything besides receiving: sends the queue, tells of room and of
    /// TLS, shuts, relays.
    fn attend(
        &self,
        cx: &mut Context<'_>,
        guest: &Rc<G>,
        connection: G::Connection,
    ) -> Result<Next, Gone> {
        let transport = &self.transport;
        if let Some(lost) = transport.over() {
            return Ok(Next::End(lost));
        }
        match transport.poll_flush(cx) {
            Poll::Ready(Err(reason)) => {
                transport.fail(reason);
                return Ok(Next::Again);
            }
            Poll::Pending if transport.turn.waits() => return Ok(Next::Sleep),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        if transport.is_writable() {
            guest.writable(connection)?;
            return Ok(Next::Wrote);
        }
        if transport.shut_if_due() || transport.over().is_some() {
            return Ok(Next::Again);
        }
        if transport.is_handshaking() {
            return Ok(self.attend_handshake(cx));
        }
        if let Some(info) = transport.started_tls() {
            guest.tls_started(connection, info)?;
            return Ok(Next::Again);
        }
        if transport.core.borrow().wants_room {
            // Registers the waker. Readiness shows in `wants_room`.
            let _ = transport.poll_room(cx);
        }
        self.tell_feeder();
        let core = transport.core.borrow();
        let relays = core.relay.is_some() && !core.flow.is_closing();
        drop(core);
        if relays {
            return Ok(self.attend_relay(cx));
        }
        let receives = transport.core.borrow().flow.receives();
        Ok(if receives { Next::Receive } else { Next::Sleep })
    }

    /// Advances the handshake begun by `start-tls`, whether or not the guest
    /// receives or is closing.
    fn attend_handshake(&self, cx: &mut Context<'_>) -> Next {
        let transport = &self.transport;
        let mut scratch = transport.thread().scratch.borrow_mut();
        match transport.poll_handshake(cx, &mut scratch) {
            Poll::Pending => Next::Sleep,
            Poll::Ready(Ok(())) => Next::Again,
            Poll::Ready(Err(reason)) => {
                transport.fail(reason);
                Next::Again
            }
        }
    }
}

impl<G: EventGuest> Drop for Driver<G> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Stage::Streaming(stream) = &self.stage
        {
            stream.lost(&Some(ConnectionError::Aborted));
        }
    }
}

impl<G: EventGuest> Future for Driver<G> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let transport = Rc::clone(&this.transport);
        let _driven = transport.drive(cx);
        loop {
            if let Stage::Lingering(linger) = &mut this.stage {
                ready!(linger.poll(&transport, cx));
                this.stage = Stage::Over;
            }
            this.stage = match &this.stage {
                Stage::Handshake(taker) => match ready!(transport.poll_accept(cx)) {
                    Ok(()) => Stage::Accepted(taker.clone()),
                    Err(HandshakeFailed::Over) => Stage::Over,
                    Err(_) => Stage::Lingering(Linger::begin(&transport)),
                },
                Stage::Accepted(taker) => this.begin(taker),
                Stage::Open { guest, connection } => {
                    match ready!(this.poll_open(cx, guest, *connection)) {
                        Ok(lost) => this.lose(guest, *connection, &lost),
                        Err(Gone) => this.lose_guest(guest),
                    }
                }
                Stage::Exited => {
                    let lost = ready!(this.poll_exited(cx));
                    this.record(&lost);
                    this.end_relays(&lost);
                    this.leave(&lost)
                }
                Stage::Streaming(stream) => {
                    let lost = ready!(this.poll_streaming(cx, stream));
                    this.lose_streams(stream, &lost)
                }
                Stage::Lingering(_) | Stage::Over => {
                    transport.release();
                    return Poll::Ready(());
                }
            };
        }
    }
}

#[cfg(test)]
mod tests;
