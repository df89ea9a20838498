//! HTTP/2 (RFC 9113) by the `h2` crate. It is negotiated in TLS (ALPN), or begun
//! by a client with prior knowledge.
//!
//! ```text
//!   bytes --> io (meter, screen) --> h2 --> request --> upload --> guest --> link --> h2
//!                                        \--> answering <--> async guest
//! ```
//!
//! A connection is one task. Streams that wait for something are futures in it.
//! A request that has arrived whole, and whose response finds room, needs no
//! future. `h2` knows frames, HPACK and windows, and takes turns among streams.
//! Rules for responses, limits and deadlines are those of HTTP/1.1.

mod answering;
mod held;
mod incoming;
mod io;
mod line;
mod link;
mod meter;
mod nudge;
mod request;
mod screen;
mod sending;
mod stream;
mod unread;
mod upload;
mod websocket;
mod window;

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::server::{self, Handshake, SendResponse};
use h2::{Reason, RecvStream};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::handler::{Takes, Wanted};
use netwasm_net::protocol::Lost;
use netwasm_net::thread::{Thread, Tick};
use netwasm_net::transport::Transport;
use netwasm_net::turns::REQUEST;

use crate::h2::io::{Gate, Io};
use crate::h2::link::Link;
use crate::h2::nudge::Nudge;
use crate::h2::stream::{MOST_STREAMS, Outcome, ReadyRequest, Stream};
use crate::local::Local;

pub(crate) use self::stream::PREFACE;

/// Extra loops of the task after the worker's round is over, so that what it
/// has begun is sent.
const LITTLE: u32 = 3;

/// Time for a client to acknowledge a graceful shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Time after which a window is fitted again if the limit had too little for it.
const AGAIN: Duration = Duration::from_secs(1);

/// Driver of one connection, from the preface to the end.
pub(crate) struct Connection {
    stage: Setup,
    link: Rc<Link>,
    gate: Rc<Gate>,
    streams: FuturesUnordered<Stream>,
    /// Requests for an event guest that have arrived as far as it wants. They
    /// are boxed because the queue keeps its capacity.
    ready: VecDeque<Box<ReadyRequest>>,
    /// Time since which no stream is open; at first, the start of the
    /// connection.
    idle: Option<Tick>,
    leaving: Leaving,
    /// True if requests in `ready` have waited for more than a round. The
    /// client may have reset them since.
    waited: bool,
    /// True if a request was answered in this poll.
    answered: bool,
    nudge: Nudge,
}

/// State of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told at this time. The connection ends after the open
    /// streams.
    Told(Tick),
    /// The connection ends once the client is told why.
    Now,
}

enum Setup {
    Preface(Handshake<Io, Bytes>),
    Open(server::Connection<Io, Bytes>),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Returns a driver; `kept` is what has arrived already.
    pub(crate) fn new(
        local: &Rc<Local>,
        transport: &Rc<Transport>,
        secure: bool,
        kept: Vec<u8>,
    ) -> Self {
        let thread = transport.thread();
        let limits = &thread.env.limits.http;
        const WINDOW: u32 = window::WINDOW as u32;
        let most = u32::try_from(limits.max_head).unwrap_or(u32::MAX);
        let gate = Rc::new(Gate::new(limits.max_head));
        let mut builder = server::Builder::new();
        if local.tunnels() {
            builder.enable_connect_protocol();
        }
        let handshake = builder
            .max_concurrent_streams(MOST_STREAMS)
            // A client may give up all of its requests at once. The meter stops one
            // that does so again and again.
            .max_pending_accept_reset_streams(MOST_STREAMS as usize)
            .max_header_list_size(most)
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buffer_size(sending::PIECE)
            .data_frame_budget(meter::SMALL_FRAMES)
            .handshake(Io::new(transport, &gate, kept));
        Self {
            stage: Setup::Preface(handshake),
            link: Link::new(local, transport, secure),
            gate,
            streams: FuturesUnordered::new(),
            ready: VecDeque::new(),
            idle: Some(thread.now()),
            leaving: Leaving::No,
            waited: false,
            answered: false,
            nudge: Nudge::default(),
        }
    }

    fn thread(&self) -> &Rc<Thread> {
        self.link.thread()
    }

    /// Ready at the end of the connection.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let waker = self.nudge.begin(cx);
        let mut inner = Context::from_waker(&waker);
        self.gate.begin_turn();
        let turn = Rc::clone(&self.link.transport.turn);
        self.answered = false;
        let mut rounds = 0;
        loop {
            if let Poll::Ready(lost) = self.poll_once(&mut inner) {
                return Poll::Ready(lost);
            }
            let again = self.nudge.again() || self.end_if_due();
            let behind = !self.ready.is_empty() && !self.link.is_full();
            if !again && !behind && !self.gate.turn_is_over() {
                if self.nudge.end() {
                    cx.waker().wake_by_ref();
                }
                break;
            }
            rounds += 1;
            if !again || turn.waits() || (rounds > LITTLE && turn.is_over(0)) {
                self.nudge.end();
                turn.give_way(cx);
                break;
            }
        }
        let transport = &self.link.transport;
        transport
            .idle
            .set(self.is_idle() && transport.queued() == 0);
        self.arm();
        Poll::Pending
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        let link = Rc::clone(&self.link);
        let transport = &link.transport;
        if let Some(lost) = transport.over() {
            return Poll::Ready(lost);
        }
        // `end_if_due` checks what the alarm was set for.
        transport.alarm_rang();
        if let Poll::Ready(Err(reason)) = transport.poll_flush(cx) {
            return Poll::Ready(Some(reason));
        }
        self.gate.take_blocked();
        self.fit_window();
        if let Poll::Ready(lost) = self.poll_frames(cx) {
            if lost.is_none() {
                // Remaining streams notice the end and report it.
                while let Poll::Ready(Some(_)) = self.streams.poll_next_unpin(cx) {}
            }
            return Poll::Ready(lost);
        }
        if self.gate.end_is_noticed() {
            self.client_ended();
        }
        self.poll_streams(cx);
        if self.gate.meter.borrow_mut().take_many_single() {
            self.link.window.join_unread();
        }
        match transport.poll_flush(cx) {
            Poll::Ready(Err(reason)) => return Poll::Ready(Some(reason)),
            Poll::Ready(Ok(())) if self.gate.take_blocked() => cx.waker().wake_by_ref(),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        Poll::Pending
    }

    /// Receives and sends frames, and accepts requests.
    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            let connection = match &mut self.stage {
                Setup::Open(connection) => connection,
                Setup::Preface(handshake) => match Pin::new(handshake).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(connection)) => {
                        self.stage = Setup::Open(connection);
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(self.failed(&error)),
                },
            };
            match connection.poll_accept(cx) {
                Poll::Pending => {
                    self.gate.all_are_taken();
                    let flood = self.gate.meter.borrow().flood();
                    let Some(what) = flood.filter(|_| self.leaving != Leaving::Now) else {
                        return Poll::Pending;
                    };
                    // Nothing more is read.
                    self.leaving = Leaving::Now;
                    self.refused(&format!("too many {what}"));
                    self.ready.clear();
                    self.streams.clear();
                    if let Setup::Open(connection) = &mut self.stage {
                        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    }
                }
                Poll::Ready(Some(Ok((request, outgoing)))) => {
                    self.begin(request, outgoing);
                    self.fit_window();
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.failed(&error)),
                Poll::Ready(None) => return Poll::Ready(None),
            }
        }
    }

    /// Fits the connection's window to the arriving bodies.
    fn fit_window(&mut self) {
        let received = self.gate.meter.borrow().payload();
        if let Setup::Open(connection) = &mut self.stage
            && let Some(window) = self.link.window.fit(received)
        {
            connection.set_target_window_size(window);
        }
    }

    /// Handles a half-close by the client. Requests that arrived whole are
    /// still answered.
    fn client_ended(&mut self) {
        self.nudge.wake();
        let words = self.gate.meter.borrow().last_words();
        match (&mut self.stage, words) {
            (Setup::Open(connection), Some(words)) if connection.has_streams() => {
                // The GOAWAY is also a probe: a client that has closed its
                // socket altogether answers it with a TCP reset.
                connection.graceful_shutdown();
                if self.leaving == Leaving::No {
                    self.leaving = Leaving::Told(self.link.thread().now());
                }
                self.gate.say(words);
            }
            _ => self.gate.tell_end(),
        }
    }

    /// Begins a request whose head has arrived.
    fn begin(&mut self, request: http::Request<RecvStream>, outgoing: SendResponse<Bytes>) {
        self.idle = None;
        self.link.transport.idle.set(false);
        let (mut head, incoming) = request.into_parts();
        if screen::is_hidden(request::target(&head)) {
            let stream = incoming.stream_id().as_u32();
            let target = self.gate.screen.borrow_mut().take(stream);
            request::reveal(&mut head, target);
        }
        let thread = self.link.thread();
        let limits = &thread.env.limits.http;
        let wanted = || Wanted {
            authority: request::authority(&head),
            target: request::target(&head),
        };
        let (site, takes) = self.link.local.route(self.link.transport.peer(), &wanted);
        request::set_site(&mut head, site);
        let tunnels = takes != Takes::Streams && request::take_connect(&mut head);
        if let Err(refusal) = request::check(&mut head, limits) {
            let sending = self.link.refuse(&head, refusal, outgoing);
            self.push(unread::forget_after(sending, Some(incoming)));
            return;
        }
        let link = Rc::clone(&self.link);
        if takes == Takes::Streams {
            self.push(answering::answer(link, head, incoming, outgoing));
            return;
        }
        // Bytes in a tunnel are no body.
        let ready = takes == Takes::Heads || tunnels || incoming.is_end_stream();
        let exchange = Box::new(ReadyRequest {
            head,
            incoming,
            outgoing,
            body: None,
            trailers: Vec::new(),
        });
        if ready {
            self.ready.push_back(exchange);
        } else {
            self.push(link.receive_whole(exchange, limits.max_body));
        }
    }

    /// Polls the streams, and answers requests that are ready.
    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        // Polling an empty set would still leave a waker with it.
        while !self.streams.is_empty()
            && let Poll::Ready(Some(outcome)) = self.streams.poll_next_unpin(cx)
        {
            if let Outcome::Ready(exchange) = outcome {
                self.ready.push_back(exchange);
            }
        }
        let turn = Rc::clone(&self.link.transport.turn);
        let over = |answered| answered && turn.is_over(REQUEST);
        while !self.link.is_full()
            && !self.ready.is_empty()
            && !over(self.answered)
            && let Some(mut exchange) = self.ready.pop_front()
        {
            if self.waited && exchange.outgoing.poll_reset(cx).is_ready() {
                // The client has reset the stream.
                drop(self.link.line(&exchange.head));
                continue;
            }
            self.answered = true;
            if let Some(sending) = self.link.respond(exchange) {
                self.push(sending);
            }
        }
        self.waited = !self.ready.is_empty();
    }

    /// Adds a stream. It is exempt from tokio's budget, which the streams of
    /// the connection would share: turns are taken here.
    fn push(&mut self, stream: impl Future<Output = Outcome> + 'static) {
        self.streams
            .push(Box::pin(tokio::task::unconstrained(stream)));
        self.nudge.wake();
    }

    /// True if no stream is open.
    fn is_idle(&self) -> bool {
        self.streams.is_empty() && self.ready.is_empty()
    }

    /// Begins the shutdown or ends the connection, if that is due. Returns true
    /// if something was done.
    fn end_if_due(&mut self) -> bool {
        let thread = Rc::clone(self.thread());
        let limits = &thread.env.limits.http;
        let now = thread.now();
        let idle = self.is_idle();
        match (idle, self.idle) {
            (false, _) => self.idle = None,
            (true, None) => self.idle = Some(now),
            (true, Some(_)) => {}
        }
        // The connection is idle only once the client has taken all that was
        // sent.
        let since = self.idle.unwrap_or(now).max(self.link.transport.moved());
        let slow = self.gate.meter.borrow().head_since();
        let slow = slow.is_some_and(|since| thread.passed(since, limits.head_timeout));
        let connection = match &mut self.stage {
            Setup::Open(connection) => connection,
            Setup::Preface(_) => {
                if thread.closes_idle()
                    || self.link.transport.is_reclaimed()
                    || thread.passed(since, limits.head_timeout)
                {
                    self.link.transport.close();
                    return true;
                }
                return false;
            }
        };
        match self.leaving {
            Leaving::Now => false,
            _ if slow => {
                self.leaving = Leaving::Now;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.refused("the head took too long");
                true
            }
            _ if idle && self.link.transport.is_reclaimed() => {
                self.leaving = Leaving::Now;
                connection.abrupt_shutdown(Reason::NO_ERROR);
                true
            }
            Leaving::Told(since) if idle && thread.passed(since, GRACE) => {
                self.leaving = Leaving::Now;
                connection.abrupt_shutdown(Reason::NO_ERROR);
                true
            }
            Leaving::Told(_) => false,
            Leaving::No
                if self.link.transport.is_leaving()
                    || self.link.closes.get()
                    || (idle && thread.passed(since, limits.keep_alive_timeout)) =>
            {
                self.leaving = Leaving::Told(now);
                connection.graceful_shutdown();
                // Each is polled once more: a stream of events ends, and so does a WebSocket.
                self.streams = std::mem::take(&mut self.streams).into_iter().collect();
                true
            }
            Leaving::No => false,
        }
    }

    /// Sets the alarm for the next deadline.
    fn arm(&self) {
        let thread = self.thread();
        let limits = &thread.env.limits.http;
        let after = |since: Tick, limit| thread.tick_after(limit) - thread.now() + since;
        let head = self.gate.meter.borrow().head_since();
        let head = head.map(|since| after(since, limits.head_timeout));
        let moved = self.link.transport.moved();
        let idle = self.idle.map(|since| since.max(moved));
        let idle = match (&self.stage, self.leaving, idle) {
            (_, Leaving::Now, _) | (_, _, None) => None,
            (Setup::Preface(_), _, Some(since)) => Some(after(since, limits.head_timeout)),
            (_, Leaving::Told(since), Some(_)) => Some(after(since, GRACE)),
            (_, Leaving::No, Some(since)) => Some(after(since, limits.keep_alive_timeout)),
        };
        let window = self.link.window.is_short();
        let window = window.then(|| thread.tick_after(AGAIN));
        let first = [head, idle, window].into_iter().flatten().min();
        self.link.transport.set_alarm_at(first);
    }

    /// Returns how the connection ends after an error of `h2`: the client broke
    /// a rule, or left.
    fn failed(&self, error: &h2::Error) -> Lost {
        if let Some(reason) = self.link.transport.failure() {
            return Some(reason);
        }
        if error.is_go_away() && error.is_library() {
            self.refused(&error.to_string());
            return None;
        }
        tracing::info!(peer = %self.link.transport.peer(), "HTTP/2: {error}");
        error.is_io().then_some(ConnectionError::Broken)
    }

    /// Counts and logs a refused connection.
    fn refused(&self, reason: &str) {
        self.thread().env.counters.requests_refused.add();
        tracing::info!(peer = %self.link.transport.peer(), reason, "connection refused");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // They use the link, so they are dropped before its handler.
        self.ready.clear();
        self.streams.clear();
        self.link.own.borrow_mut().close();
    }
}

#[cfg(test)]
mod tests;
