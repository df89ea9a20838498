//! A connection between a peer and a guest, without I/O: what the peer sends is
//! given to the guest, pings are answered, and both sides close. The peer is a
//! client, or the server of a connection that the guest has opened.
//!
//! ```text
//!   open --close frame of either side--> closing --the other's--> over
//!     \---- a fault of the client, or a guest that is gone ------/
//! ```

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_exchange::handler::Site;
use netwasm_exchange::websocket::{ABNORMAL, Accepted, Socket, WebSocketGuest, WebSocketSender};
use netwasm_net::env::Env;
use netwasm_net::guest::Gone;
use netwasm_net::thread::{Thread, Tick};
use netwasm_net::transport::Transport;
use netwasm_net::turns::REQUEST;

use crate::websocket::codec::fault::{Fault, GOING_AWAY, INTERNAL, NO_STATUS, POLICY, RESTART};
use crate::websocket::codec::frame::Opcode;
use crate::websocket::codec::reader::{FrameReader, Incoming};
use crate::websocket::codec::{Agreed, Side, ThreadBuffers};
use crate::websocket::sender::{FrameSender, Outlet};

/// Time for a peer to answer a close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Time for that when the run or its service ends, or to take something of what is
/// queued before that frame. Either side may close at any time (RFC 6455, section 7.1.1).
/// It is no shorter than the time between two looks at what the peer has acknowledged.
const CLOSE_WAIT_OF_DRAIN: Duration = Duration::from_secs(2);

/// Time in which messages are counted for `--max-websocket-rate`.
const RATE_TIME: Duration = Duration::from_secs(1);

/// The guest is gone. The reason was logged.
const GONE: Fault = Fault::new(INTERNAL, "");

/// The client began a message, and sends nothing of its rest.
const TOO_SLOW: Fault = Fault::new(POLICY, "the rest of the message takes too long");

/// The client sends too many messages.
const TOO_MANY: Fault = Fault::new(POLICY, "too many messages");

/// Ends that the connection waits for: of the listener's run, and of the
/// generation of a service that shares the listener of another.
#[derive(Default)]
struct Ends(Vec<Pin<Box<dyn Future<Output = ()>>>>);

impl Ends {
    fn add(&mut self, thread: &Rc<Thread>) {
        self.0.push(Box::pin(Rc::clone(thread).drained()));
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

/// A connection between a client and a guest. There are many that are idle, so it
/// holds no pointer that another one leads to.
#[derive(Debug)]
pub(super) struct Session {
    /// Most connections wait for none.
    ends: Option<Box<Ends>>,
    /// The service, whose generation lives as long as the connection.
    _site: Site,
    reader: FrameReader,
    sender: Rc<FrameSender>,
    socket: Rc<Socket>,
    guest: Box<dyn WebSocketGuest>,
    stage: SessionStage,
    /// Input that waits until others had their turn.
    kept: Vec<u8>,
    silence: Silence,
    /// True if the alarm was set for nothing but the next ping.
    awaits_ping: bool,
    /// Progress of the message that has begun, and its tick.
    arriving: Option<(u64, Tick)>,
    /// Messages since a tick.
    rate: (usize, Tick),
}

/// Time in which the peer has sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// The tick at which it last sent something.
    Since(Tick),
    /// The tick of a ping that it has not answered.
    Asked(Tick),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionStage {
    Open,
    /// A close frame was sent, before this tick.
    Closing(Tick),
    /// Nothing more is read. The connection ends once all is sent.
    Over,
}

impl Session {
    /// Begins a connection that a guest has accepted, or that the peer has, which is
    /// a server then.
    pub(super) fn new(
        net: &Arc<Env>,
        buffers: &Rc<ThreadBuffers>,
        site: Site,
        accepted: Accepted,
        agreed: Option<Agreed>,
        outlet: Rc<dyn Outlet>,
        peer: Side,
    ) -> Self {
        let Accepted { socket, guest, .. } = accepted;
        let thread = Rc::clone(socket.transport().thread());
        net.counters.websockets_opened.add();
        let reader = FrameReader::new(&net.limits.http.websocket, agreed).of(peer);
        let sender = FrameSender::new(outlet, &thread, net, agreed, buffers, peer);
        let now = thread.now();
        let begun: Rc<dyn WebSocketSender> = Rc::<FrameSender>::clone(&sender);
        socket.open(&begun);
        let service = socket.service();
        let mut ends = None::<Box<Ends>>;
        if !Rc::ptr_eq(service, &thread) {
            ends.get_or_insert_default().add(service);
        }
        Self {
            ends,
            _site: site,
            reader,
            sender,
            socket,
            guest,
            stage: SessionStage::Open,
            kept: Vec::new(),
            silence: Silence::Since(now),
            awaits_ping: false,
            arriving: None,
            rate: (0, now),
        }
    }

    /// True if nothing more is read, and the connection ends once all is sent.
    pub(super) fn is_over(&self) -> bool {
        self.stage == SessionStage::Over
    }

    /// Awaits the end of the listener's run, too: for a connection that its
    /// transport does not wake then.
    pub(super) fn with_end_of_listener(mut self) -> Self {
        let ends = self.ends.get_or_insert_default();
        ends.add(self.socket.transport().thread());
        self
    }

    /// Returns the connection below.
    pub(super) fn transport(&self) -> &Rc<Transport> {
        self.socket.transport()
    }

    /// Wakes the task once an end comes that it is not woken for otherwise.
    pub(super) fn await_ends(&mut self, cx: &mut Context<'_>) {
        let Some(Ends(ends)) = self.ends.as_deref_mut() else {
            return;
        };
        let awaited = ends.len();
        ends.retain_mut(|end| end.as_mut().poll(cx).is_pending());
        if ends.len() < awaited {
            cx.waker().wake_by_ref();
        }
    }

    /// True if the client's next message waits.
    pub(super) fn holds(&self) -> bool {
        self.sender.holds()
    }

    /// True if input waits for the connection's turn.
    pub(super) fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Adds input that arrived before the connection was open.
    pub(super) fn keep(&mut self, early: Vec<u8>) {
        self.kept = early;
    }

    /// Uses input that has waited.
    pub(super) fn go_on(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        self.received(&kept);
    }

    /// Uses what the client has sent.
    pub(super) fn received(&mut self, input: &[u8]) {
        let thread = Rc::clone(self.transport().thread());
        self.silence = Silence::Since(thread.now());
        let peer = self.reader.peer();
        let shared = Rc::clone(self.sender.buffers());
        let mut buffers = shared.reading.borrow_mut();
        self.reader.resume(&mut buffers);
        let mut rest = input;
        let mut used = false;
        while !self.is_over() {
            // Input that was read before has its turn, too.
            if used && !rest.is_empty() && (self.holds() || self.transport().turn.is_over(REQUEST))
            {
                self.kept = rest.to_vec();
                break;
            }
            used = true;
            let ended = match self.reader.read(&mut rest, &mut buffers) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    let deliver = Delivery {
                        sender: &self.sender,
                        guest: &*self.guest,
                        thread: &thread,
                        rate: &mut self.rate,
                        max_rate: match peer {
                            Side::Client => self.sender.net().limits.http.websocket.max_rate,
                            Side::Server => None,
                        },
                    };
                    deliver.take(incoming)
                }
                Err(fault) => Some(SessionEnd::Fault(fault)),
            };
            if let Some(end) = ended {
                self.end(end);
            }
        }
        self.reader.rest(&mut buffers);
        let now = thread.now();
        let before = self.arriving;
        self.arriving = self.reader.progress().map(|progress| match before {
            Some((known, since)) if known == progress => (known, since),
            _ => (progress, now),
        });
    }

    /// Does what is due besides reading: tells the guest of room, asks a client that
    /// is silent, and ends the connection in time.
    pub(super) fn attend(&mut self) {
        if self.is_over() {
            return;
        }
        let service = self.socket.service();
        if service.is_aborting() {
            return self.end(SessionEnd::Lost);
        }
        if self.sender.has_drained()
            && let Err(Gone) = self.guest.drained()
        {
            return self.end(SessionEnd::Fault(GONE));
        }
        let thread = self.socket.transport().thread();
        let now = thread.now();
        if self.sender.has_closed() && self.stage == SessionStage::Open {
            self.stage = SessionStage::Closing(now);
        }
        if let SessionStage::Closing(since) = self.stage {
            let (since, limit) = self.answer_awaited(since);
            if thread.passed(since, limit) {
                if self.is_draining() {
                    self.sender
                        .abort("the peer does not answer the close frame");
                }
                self.end(SessionEnd::Lost);
            }
            return;
        }
        if self.is_draining() {
            match self.reader.peer() {
                Side::Client => self.sender.say_close(Some(RESTART), "the service restarts"),
                Side::Server => self.sender.say_close(Some(GOING_AWAY), ""),
            }
            self.stage = SessionStage::Closing(now);
            return;
        }
        let limits = &self.sender.net().limits.http;
        if self.holds() {
            // Its answer is not read, nor is the rest of its message.
            self.silence = Silence::Since(now);
            self.arriving = self.arriving.map(|(progress, _)| (progress, now));
        }
        if let Some((_, since)) = self.arriving
            && thread.passed(since, limits.body_timeout)
        {
            return self.end(SessionEnd::Fault(TOO_SLOW));
        }
        let websocket = &limits.websocket;
        match (self.silence, websocket.ping) {
            (Silence::Asked(asked), _) if thread.passed(asked, websocket.ping_timeout) => {
                tracing::info!(
                    peer = %self.transport().peer(),
                    "the {} answers no ping (--websocket-ping-timeout)", name(self.reader.peer())
                );
                self.sender.say_close(Some(INTERNAL), "no answer to a ping");
                self.end(SessionEnd::Lost);
            }
            (Silence::Since(heard), Some(limit)) if thread.passed(heard, limit) => {
                self.sender.control(Opcode::Ping, &[]);
                self.silence = Silence::Asked(now);
            }
            _ => {}
        }
    }

    /// True if the run ends, or the service's generation.
    fn is_draining(&self) -> bool {
        self.transport().is_leaving() || self.socket.service().is_draining()
    }

    /// Returns since which tick, and for how long, the answer to a close frame is
    /// awaited that was sent at a tick.
    fn answer_awaited(&self, sent: Tick) -> (Tick, Duration) {
        if !self.is_draining() {
            return (sent, CLOSE_WAIT);
        }
        // A peer that takes what is queued gets to the frame.
        let progressed = self.sender.progressed().unwrap_or_default();
        (sent.max(progressed), CLOSE_WAIT_OF_DRAIN)
    }

    /// True if the alarm that is set does: nothing is due but a ping, which whatever the
    /// peer has sent meanwhile only puts off. `rang` is true if there is none any more.
    pub(super) fn keeps_alarm(&mut self, rang: bool) -> bool {
        let is_quiet = self.arriving.is_none() && matches!(self.silence, Silence::Since(_));
        let awaits_ping = is_quiet && self.stage == SessionStage::Open;
        std::mem::replace(&mut self.awaits_ping, awaits_ping) && awaits_ping && !rang
    }

    /// True if receiving is all there is to do, which is the usual case.
    pub(super) fn only_receives(&self) -> bool {
        let service = self.socket.service();
        self.stage == SessionStage::Open
            && self.awaits_ping
            && self.arriving.is_none()
            && !self.has_kept()
            && self.sender.is_at_rest()
            && !self.is_draining()
            && !service.is_aborting()
    }

    /// Returns the tick at which something is due.
    pub(super) fn due(&self) -> Option<Tick> {
        let after = |since: Tick, limit| {
            let thread = self.transport().thread();
            thread.tick_after(limit) - thread.now() + since
        };
        let limits = &self.sender.net().limits.http;
        let ping = match (self.stage, self.silence) {
            (SessionStage::Over, _) => return None,
            (SessionStage::Closing(since), _) => {
                let (since, limit) = self.answer_awaited(since);
                return Some(after(since, limit));
            }
            (SessionStage::Open, Silence::Asked(asked)) => {
                Some(after(asked, limits.websocket.ping_timeout))
            }
            (SessionStage::Open, Silence::Since(heard)) => {
                let ping = limits.websocket.ping;
                ping.map(|limit| after(heard, limit))
            }
        };
        let rest = self.arriving;
        let rest = rest.map(|(_, since)| after(since, limits.body_timeout));
        ping.into_iter().chain(rest).min()
    }

    /// Ends the connection, as its client has left or it has failed.
    pub(super) fn lost(&mut self, reason: Option<&ConnectionError>) {
        if !self.is_over() {
            let reason = reason.map(ToString::to_string);
            tracing::debug!(
                peer = %self.transport().peer(),
                reason,
                "a WebSocket connection ends without a close frame"
            );
            self.end(SessionEnd::Lost);
        }
    }

    /// Ends the connection, and tells the guest.
    fn end(&mut self, end: SessionEnd) {
        self.stage = SessionStage::Over;
        self.kept = Vec::new();
        let (code, reason) = match end {
            SessionEnd::Closed(code, reason) => {
                self.sender.say_close(code, "");
                (code.unwrap_or(NO_STATUS), reason)
            }
            SessionEnd::Fault(fault) => {
                if fault != GONE {
                    tracing::info!(
                        peer = %self.transport().peer(),
                        "the {}'s WebSocket connection is closed: {fault}",
                        name(self.reader.peer())
                    );
                }
                self.sender.say_close(Some(fault.code), fault.reason);
                (fault.code, fault.reason.to_owned())
            }
            SessionEnd::Lost => (ABNORMAL, String::new()),
        };
        self.socket.end();
        self.sender.net().counters.websockets_ended.add();
        // A trap is already logged.
        let _ = self.guest.closed(code, &reason);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its task ends before its time.
        self.lost(None);
    }
}

/// Returns a side's name in the log.
fn name(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
    }
}

/// How a connection ends.
enum SessionEnd {
    /// The peer has sent a close frame.
    Closed(Option<u16>, String),
    Fault(Fault),
    /// Without a close frame of the client.
    Lost,
}

/// Delivery of a message, or of a control frame.
struct Delivery<'a> {
    sender: &'a FrameSender,
    guest: &'a dyn WebSocketGuest,
    thread: &'a Thread,
    rate: &'a mut (usize, Tick),
    max_rate: Option<usize>,
}

impl Delivery<'_> {
    /// Returns how the connection ends, if it does.
    fn take(mut self, incoming: Incoming<'_>) -> Option<SessionEnd> {
        let gone = |result: Result<(), Gone>| result.err().map(|Gone| SessionEnd::Fault(GONE));
        match incoming {
            Incoming::Close(code, reason) => Some(SessionEnd::Closed(code, reason.to_owned())),
            Incoming::Ping(payload) => {
                if self.is_too_fast() {
                    return Some(SessionEnd::Fault(TOO_MANY));
                }
                self.sender.control(Opcode::Pong, payload);
                None
            }
            Incoming::Pong => None,
            // The client may not know yet that the guest has closed.
            Incoming::Text(_) | Incoming::Binary(_) if self.sender.has_closed() => None,
            Incoming::Text(_) | Incoming::Binary(_) if self.is_too_fast() => {
                Some(SessionEnd::Fault(TOO_MANY))
            }
            Incoming::Text(text) => {
                self.thread.meter.add(Measure::MessagesReceived, 1);
                gone(self.guest.text(text))
            }
            Incoming::Binary(data) => {
                self.thread.meter.add(Measure::MessagesReceived, 1);
                gone(self.guest.binary(data))
            }
        }
    }

    /// Counts a message. True if there are too many in a second.
    fn is_too_fast(&mut self) -> bool {
        let Some(most) = self.max_rate else {
            return false;
        };
        let (count, since) = &mut *self.rate;
        if self.thread.passed(*since, RATE_TIME) {
            (*count, *since) = (0, self.thread.now());
        }
        *count += 1;
        *count > most
    }
}
