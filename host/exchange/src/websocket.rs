//! WebSocket connections (RFC 6455), between a guest and the driver that speaks
//! the protocol: messages in, messages out.
//!
//! ```text
//!   request --> offer --> guest --> Accepted { socket, guest }
//!   guest --> ClientRequest --> server --> Opened { begin(socket, guest) }
//!   driver --WebSocketGuest--> guest --> Socket --WebSocketSender--> driver
//! ```

mod client;
mod offer;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::error::ConnectionError;
use netwasm_net::guest::Gone;
use netwasm_net::thread::Thread;
use netwasm_net::transport::Transport;

use crate::answer::Fields;
use crate::topics::subscriptions::Subscriptions;
use crate::topics::{Published, Subscriber, SubscriberId, TopicsOfThread};

pub use crate::message::MessageKind;

pub use self::client::{Begin, ClientRequest, NotOpened, Opened, OpeningByClient};
pub use self::offer::{Unfit, asks, check, offers, without};

/// Maximum of the reason of a close frame, in bytes: RFC 6455, section 5.5.
pub const MOST_REASON: usize = 123;

/// Code of a connection that ended without a close frame: RFC 6455, section 7.4.1.
pub const ABNORMAL: u16 = 1006;

/// Code of a connection that the host cannot go on with: RFC 6455, section 7.4.1.
const INTERNAL: u16 = 1011;

/// Bytes that a message takes besides its content, before the connection is open.
const OVERHEAD: usize = 64;

/// Room on a connection that ignores messages.
const UNLIMITED: u64 = u64::MAX;

/// A guest's decision to open a connection.
pub struct Accepted {
    /// The protocol that it has chosen, of those that the client offers.
    pub protocol: Option<String>,
    /// Fields of the response.
    pub headers: Fields,
    /// Its end of the connection.
    pub socket: Rc<Socket>,
    /// The receiver of the connection's events.
    pub guest: Box<dyn WebSocketGuest>,
}

impl fmt::Debug for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").finish_non_exhaustive()
    }
}

impl Accepted {
    /// Tells the guest that the connection was not opened.
    pub fn fail(self) {
        self.socket.end();
        // A trap is already logged.
        let _ = self.guest.closed(ABNORMAL, "");
    }
}

/// Receives the events of a connection. Each call may fail with [`Gone`]. No call
/// follows it.
pub trait WebSocketGuest: fmt::Debug {
    /// Delivers a text.
    fn text(&self, text: &str) -> Result<(), Gone>;

    /// Delivers bytes.
    fn binary(&self, data: &[u8]) -> Result<(), Gone>;

    /// Announces that there is room for more, as promised by [`Socket::send`].
    fn drained(&self) -> Result<(), Gone>;

    /// Announces the end of the connection, by the code and the reason of RFC 6455,
    /// section 7.1.5.
    fn closed(&self, code: u16, reason: &str) -> Result<(), Gone>;
}

/// Sends messages of a guest.
pub trait WebSocketSender: fmt::Debug {
    /// Sends a message or queues it. Returns the room that is left, in bytes. After
    /// a return of 0, the guest is told when there is room.
    fn send(&self, kind: MessageKind, data: &[u8]) -> u64;

    /// Sends messages of topics, or queues them.
    fn deliver(&self, messages: &[Arc<Published>]);

    /// Sends a close frame. Nothing is sent after it.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if no close frame may have that code.
    fn close(&self, code: u16, reason: &str) -> Result<(), ConnectionError>;

    /// Stops the delivery of messages, or lets it go on.
    fn pause(&self, paused: bool);

    /// Returns the room that is left, in bytes, with the promise of `send`.
    fn room(&self) -> u64;

    /// Promises the guest to tell it once there is room.
    fn owe(&self);

    /// Returns the bytes that are queued.
    fn queued(&self) -> u64;

    /// True if a close frame was sent, or the connection has failed.
    fn is_closing(&self) -> bool;
}

/// A guest's end of a connection.
pub struct Socket {
    state: RefCell<SocketState>,
    transport: Rc<Transport>,
    subscriptions: Subscriptions,
}

enum SocketState {
    /// The guest is asked whether it takes the connection.
    Opening(Box<Opening>),
    Open(Rc<dyn WebSocketSender>),
    /// The connection is refused or over.
    Over,
}

/// Messages of a guest before the connection is open.
#[derive(Default)]
struct Opening {
    messages: Vec<(MessageKind, Vec<u8>)>,
    bytes: usize,
    close: Option<(u16, String)>,
    paused: bool,
    /// True if the guest was promised to be told of room.
    owes: bool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    /// Returns a guest's end of a connection that is not open yet. `transport` has
    /// the client.
    pub fn new(transport: &Rc<Transport>, topics: &Rc<TopicsOfThread>) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(SocketState::Opening(Box::default())),
            transport: Rc::clone(transport),
            subscriptions: Subscriptions::new(topics),
        })
    }

    /// Returns its identity as a subscriber.
    pub fn id(&self) -> SubscriberId {
        self.subscriptions.id()
    }

    /// Subscribes to a topic. Does nothing if it is subscribed already.
    ///
    /// # Errors
    /// - `InvalidArgument`: the name is empty or too long.
    /// - `InvalidState`: the connection is over.
    /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
    pub fn subscribe(self: &Rc<Self>, topic: &str) -> Result<(), ConnectionError> {
        let this: Rc<dyn Subscriber> = Rc::<Self>::clone(self);
        let is_over = matches!(*self.state.borrow(), SocketState::Over);
        (self.subscriptions).subscribe(topic, Rc::downgrade(&this), is_over)
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, topic: &str) {
        self.subscriptions.unsubscribe(topic);
    }

    /// Returns the connection below, which may have others besides, as streams of
    /// HTTP/2.
    pub fn transport(&self) -> &Rc<Transport> {
        &self.transport
    }

    /// Returns the thread of the guest's service, which need not be that of the
    /// listener.
    pub fn service(&self) -> &Rc<Thread> {
        self.subscriptions.thread()
    }

    /// Opens the connection, and sends what the guest has sent already.
    pub fn open(&self, sender: &Rc<dyn WebSocketSender>) {
        let open = SocketState::Open(Rc::clone(sender));
        if let SocketState::Opening(opening) = self.state.replace(open) {
            if opening.paused {
                sender.pause(true);
            }
            for (kind, data) in opening.messages {
                sender.send(kind, &data);
            }
            if opening.owes {
                sender.owe();
            }
            if let Some((code, reason)) = opening.close {
                // It was checked.
                let _ = sender.close(code, &reason);
            }
        }
    }

    /// Notes that the connection is over.
    pub fn end(&self) {
        drop(self.state.replace(SocketState::Over));
        self.subscriptions.clear();
    }

    /// Sends a message, as [`WebSocketSender::send`] does.
    pub fn send(&self, kind: MessageKind, data: &[u8]) -> u64 {
        let limits = &self.service().env.limits;
        let sender = match &mut *self.state.borrow_mut() {
            SocketState::Opening(opening) if opening.close.is_none() => {
                let bytes = opening.bytes.saturating_add(data.len() + OVERHEAD);
                if bytes > limits.max_write_buffer {
                    let reason = "more is queued than --max-write-buffer allows";
                    opening.close = Some((INTERNAL, reason.to_owned()));
                    return UNLIMITED;
                }
                opening.bytes = bytes;
                opening.messages.push((kind, data.to_vec()));
                let room = limits.write_high.saturating_sub(bytes);
                opening.owes |= room == 0;
                return room as u64;
            }
            SocketState::Opening(_) | SocketState::Over => return UNLIMITED,
            SocketState::Open(sender) => Rc::clone(sender),
        };
        sender.send(kind, data)
    }

    /// Closes the connection, as [`WebSocketSender::close`] does.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if no close frame may have that code, or the
    /// reason is too long, and with `InvalidState` if the connection is over.
    pub fn close(&self, code: u16, reason: &str) -> Result<(), ConnectionError> {
        if !may_be_sent(code) || reason.len() > MOST_REASON {
            return Err(ConnectionError::InvalidArgument);
        }
        let sender = match &mut *self.state.borrow_mut() {
            SocketState::Opening(opening) => {
                let close = || (code, reason.to_owned());
                opening.close.get_or_insert_with(close);
                return Ok(());
            }
            SocketState::Over => return Err(ConnectionError::InvalidState),
            SocketState::Open(sender) => Rc::clone(sender),
        };
        sender.close(code, reason)
    }

    /// Stops the delivery of messages, or lets it go on.
    pub fn pause(&self, paused: bool) {
        if let SocketState::Opening(opening) = &mut *self.state.borrow_mut() {
            opening.paused = paused;
        }
        if let Some(sender) = self.sender() {
            sender.pause(paused);
        }
    }

    /// Returns the room that is left, in bytes.
    pub fn room(&self) -> u64 {
        match self.sender() {
            Some(sender) => sender.room(),
            None => UNLIMITED,
        }
    }

    /// Returns the bytes that are queued.
    pub fn queued(&self) -> u64 {
        self.sender().map_or(0, |sender| sender.queued())
    }

    /// True if the connection sends no more.
    pub fn is_closing(&self) -> bool {
        match &*self.state.borrow() {
            SocketState::Opening(opening) => opening.close.is_some(),
            SocketState::Open(sender) => sender.is_closing(),
            SocketState::Over => true,
        }
    }

    fn sender(&self) -> Option<Rc<dyn WebSocketSender>> {
        match &*self.state.borrow() {
            SocketState::Open(sender) => Some(Rc::clone(sender)),
            SocketState::Opening(_) | SocketState::Over => None,
        }
    }
}

impl Subscriber for Socket {
    fn deliver(&self, messages: &[Arc<Published>]) {
        if let Some(sender) = self.sender() {
            sender.deliver(messages);
        }
    }
}

/// True if an endpoint may send a code in a close frame: RFC 6455, sections 7.4.1
/// and 7.4.2, with the codes that IANA has registered since.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_stand_for_no_close_frame_are_not_sent() {
        for code in [1000, 1003, 1007, 1011, 1012, 3000, 4999] {
            assert!(may_be_sent(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
            assert!(!may_be_sent(code), "{code}");
        }
    }
}
