//! Messages to a peer: their frames, and what becomes of them if the peer is slow.
//! The peer of a listener is a client. That of a connection that the guest has
//! opened is a server, for which all frames are masked.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use netwasm_base::config::SlowClient;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_exchange::topics::Published;
use netwasm_exchange::websocket::{MessageKind, WebSocketSender, may_be_sent};
use netwasm_net::env::Env;
use netwasm_net::thread::{Thread, Tick};

use crate::websocket::codec::deflate::{Deflater, LEAST, Packing};
use crate::websocket::codec::frame::{MOST_HEAD, Opcode, OwnHead};
use crate::websocket::codec::mask::{self, MaskKeys};
use crate::websocket::codec::{Agreed, Side, ThreadBuffers};

/// Maximum capacity that the buffer of a thread keeps, in bytes.
const KEEP: usize = 256 << 10;

/// Room on a connection that ignores messages.
const UNLIMITED: u64 = u64::MAX;

/// The way to a client. Nothing here waits.
pub(super) trait Outlet: fmt::Debug {
    /// Sends parts of frames or queues them.
    fn write(&self, parts: &[&[u8]]);

    /// Returns the bytes that are queued.
    fn queued(&self) -> u64;

    /// Returns the tick at which the client last took some of what is queued for it,
    /// or nothing was queued.
    fn progressed(&self) -> Tick;

    /// True if so many more may be queued beside what others have queued for the
    /// client.
    fn has_room(&self, _more: usize) -> bool {
        true
    }

    /// Wakes the task that drives the connection, unless it is running.
    fn wake(&self);

    /// Notes that nothing is received for a while, or that it is again.
    fn pause(&self, paused: bool);

    /// Ends the connection at once.
    fn fail(&self, reason: ConnectionError);

    /// True if the connection has failed, or ends.
    fn is_closing(&self) -> bool;
}

/// Sends the messages of a guest, and the frames of the host.
pub(super) struct FrameSender {
    outlet: Rc<dyn Outlet>,
    thread: Rc<Thread>,
    /// Limits and counters of the service.
    net: Arc<Env>,
    deflater: Option<Box<RefCell<Deflater>>>,
    /// Keys of masks, if the peer is a server.
    keys: Option<Box<RefCell<MaskKeys>>>,
    /// True if compressed messages may be those of other connections.
    packs_alone: bool,
    buffers: Rc<ThreadBuffers>,
    /// True if the guest is to be told once there is room.
    owes: Cell<bool>,
    /// True if a close frame was sent.
    closed: Cell<bool>,
    /// True if the guest wants no messages for now.
    paused: Cell<bool>,
}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSender").finish_non_exhaustive()
    }
}

impl FrameSender {
    pub(super) fn new(
        outlet: Rc<dyn Outlet>,
        thread: &Rc<Thread>,
        net: &Arc<Env>,
        agreed: Option<Agreed>,
        buffers: &Rc<ThreadBuffers>,
        to: Side,
    ) -> Rc<Self> {
        Rc::new(Self {
            outlet,
            thread: Rc::clone(thread),
            net: Arc::clone(net),
            packs_alone: agreed.is_some_and(Agreed::packs_alone),
            deflater: agreed
                .filter(|agreed| agreed.packs())
                .map(|agreed| Box::new(RefCell::new(Deflater::new(agreed)))),
            buffers: Rc::clone(buffers),
            keys: (to == Side::Server).then(Box::default),
            owes: Cell::new(false),
            closed: Cell::new(false),
            paused: Cell::new(false),
        })
    }

    /// Returns the limits and counters of the service.
    pub(super) fn net(&self) -> &Arc<Env> {
        &self.net
    }

    /// Returns the buffers of the thread.
    pub(super) fn buffers(&self) -> &Rc<ThreadBuffers> {
        &self.buffers
    }

    /// Returns the bytes at which the client's next message waits.
    fn high(&self) -> u64 {
        self.net.limits.write_high as u64
    }

    /// True if the client's next message waits: so much is queued for it, or the
    /// guest wants none.
    pub(super) fn holds(&self) -> bool {
        !self.closed.get() && (self.paused.get() || self.outlet.queued() >= self.high())
    }

    /// True if no close frame was sent, and the guest neither waits for room nor
    /// wants no messages.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.closed.get() && !self.owes.get() && !self.paused.get()
    }

    /// True if the guest is to be told of room. Reported once.
    pub(super) fn has_drained(&self) -> bool {
        let low = self.net.limits.write_low as u64;
        let due = self.owes.get() && !self.closed.get() && self.outlet.queued() <= low;
        if due {
            self.owes.set(false);
        }
        due
    }

    /// True if a close frame was sent.
    pub(super) fn has_closed(&self) -> bool {
        self.closed.get()
    }

    /// Returns the tick at which the peer last took something, if more is queued.
    pub(super) fn progressed(&self) -> Option<Tick> {
        (self.outlet.queued() > 0).then(|| self.outlet.progressed())
    }

    /// Ends the connection at once, for a time-out, and drops what is queued.
    pub(super) fn abort(&self, reason: &'static str) {
        self.outlet.fail(ConnectionError::Timeout(reason));
    }

    /// Sends a ping or a pong.
    pub(super) fn control(&self, opcode: Opcode, payload: &[u8]) {
        if !self.closed.get() {
            self.plain_frame(opcode, payload);
        }
    }

    /// Sends a close frame, unless one was sent. Nothing is sent after it.
    pub(super) fn say_close(&self, code: Option<u16>, reason: &str) {
        if self.closed.replace(true) {
            return;
        }
        let mut payload = Vec::with_capacity(2 + reason.len());
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        self.plain_frame(Opcode::Close, &payload);
        // The client's own is yet to come.
        self.outlet.pause(false);
        self.outlet.wake();
    }

    fn frame(&self, opcode: Opcode, data: &[u8]) {
        if let Some(deflater) = &self.deflater
            && data.len() >= LEAST
        {
            let mut packing = self.buffers.packing.borrow_mut();
            let Packing { deflate, packed } = &mut *packing;
            packed.clear();
            deflater.borrow_mut().compress(data, deflate, packed);
            self.write_packed(OwnHead::new(opcode, true, packed.len()), packed);
            return;
        }
        self.plain_frame(opcode, data);
    }

    /// Sends a frame that is not compressed.
    fn plain_frame(&self, opcode: Opcode, payload: &[u8]) {
        let head = OwnHead::new(opcode, false, payload.len());
        if self.keys.is_none() {
            return self.outlet.write(&[head.bytes(), payload]);
        }
        let packed = &mut self.buffers.packing.borrow_mut().packed;
        packed.clear();
        packed.extend_from_slice(payload);
        self.write_packed(head, packed);
    }

    /// Sends a frame whose payload lies in the thread's buffer, which is empty then.
    fn write_packed(&self, head: OwnHead, packed: &mut Vec<u8>) {
        match &self.keys {
            None => self.outlet.write(&[head.bytes(), packed]),
            Some(keys) => match keys.borrow_mut().next() {
                Some(key) => {
                    mask::apply(packed, key, 0);
                    self.outlet.write(&[head.masked(key).bytes(), packed]);
                }
                None => self.outlet.fail(ConnectionError::Other(
                    "the system has no random numbers".into(),
                )),
            },
        }
        packed.clear();
        packed.shrink_to(KEEP);
    }

    /// Returns a message of a topic as a frame, which others may have made.
    fn shared_frame<'a>(&self, message: &'a Published) -> &'a Bytes {
        let data = message.data();
        let join = |head: OwnHead, data: &[u8]| Bytes::from([head.bytes(), data].concat());
        match &self.deflater {
            Some(deflater) if data.len() >= LEAST => message.packed(|| {
                let mut packing = self.buffers.packing.borrow_mut();
                let Packing { deflate, packed } = &mut *packing;
                packed.clear();
                deflater.borrow_mut().compress(data, deflate, packed);
                let head = OwnHead::new(opcode(message.kind()), true, packed.len());
                join(head, packed)
            }),
            _ => message.plain(|| {
                let head = OwnHead::new(opcode(message.kind()), false, data.len());
                join(head, data)
            }),
        }
    }

    /// Counts messages by their lengths. Returns false if they are not to be sent,
    /// as the peer is slow.
    fn takes(&self, lengths: impl ExactSizeIterator<Item = usize>) -> bool {
        let meter = &self.thread.meter;
        let count = lengths.len();
        let limits = &self.net.limits.http.websocket;
        let is_slow = limits.slow != SlowClient::Wait
            && (self.outlet.queued() > limits.max_queue as u64
                || !self.outlet.has_room(lengths.map(|it| it + MOST_HEAD).sum()));
        if is_slow {
            meter.add(Measure::MessagesDropped, count as u64);
            if limits.slow == SlowClient::Close {
                let reason = match self.keys {
                    None => "the client takes its messages too slowly (--max-websocket-queue)",
                    Some(_) => "the server takes its messages too slowly (--max-websocket-queue)",
                };
                self.outlet.fail(ConnectionError::LimitExceeded(reason));
            }
            return false;
        }
        meter.add(Measure::MessagesSent, count as u64);
        true
    }

    /// Returns the room, and promises the guest to tell of more if there is none.
    fn room_left(&self) -> u64 {
        let room = self.high().saturating_sub(self.outlet.queued());
        if room == 0 {
            self.owes.set(true);
            self.outlet.wake();
        }
        room
    }
}

fn opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

impl WebSocketSender for FrameSender {
    fn send(&self, kind: MessageKind, data: &[u8]) -> u64 {
        if self.is_closing() {
            return UNLIMITED;
        }
        if self.takes(std::iter::once(data.len())) {
            self.frame(opcode(kind), data);
        }
        match self.outlet.is_closing() {
            true => UNLIMITED,
            false => self.room_left(),
        }
    }

    fn deliver(&self, messages: &[Arc<Published>]) {
        let lengths = messages.iter().map(|message| message.data().len());
        if self.is_closing() || !self.takes(lengths) {
            return;
        }
        if self.deflater.is_some() && !self.packs_alone || self.keys.is_some() {
            // Its window or its masks are its own.
            for message in messages {
                self.frame(opcode(message.kind()), message.data());
            }
            return;
        }
        if let [message] = messages {
            return self.outlet.write(&[&**self.shared_frame(message)]);
        }
        let frames: Vec<&[u8]> = messages
            .iter()
            .map(|message| &**self.shared_frame(message))
            .collect();
        self.outlet.write(&frames);
    }

    fn close(&self, code: u16, reason: &str) -> Result<(), ConnectionError> {
        if !may_be_sent(code) {
            return Err(ConnectionError::InvalidArgument);
        }
        if self.is_closing() {
            return Err(ConnectionError::InvalidState);
        }
        self.say_close(Some(code), reason);
        Ok(())
    }

    fn pause(&self, paused: bool) {
        if !self.is_closing() && self.paused.replace(paused) != paused {
            self.outlet.pause(paused);
            self.outlet.wake();
        }
    }

    fn room(&self) -> u64 {
        match self.is_closing() {
            true => UNLIMITED,
            false => self.room_left(),
        }
    }

    fn owe(&self) {
        self.owes.set(true);
        self.outlet.wake();
    }

    fn queued(&self) -> u64 {
        self.outlet.queued()
    }

    fn is_closing(&self) -> bool {
        self.closed.get() || self.outlet.is_closing()
    }
}
