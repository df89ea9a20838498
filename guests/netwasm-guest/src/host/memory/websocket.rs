//! WebSocket connections of a test.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};

use super::example_info;
use crate::host::WebSocketOptions;
use crate::websocket::{Message, NotOpened, Opened, Refusal, SharedWebSocket, connected};
use crate::{Error, ErrorKind, Info, Operation, Result};

/// Bytes that may wait for the client before there is no room.
const ROOM: usize = 64 << 10;

thread_local! {
    /// Topics, each with one that is subscribed.
    static SUBSCRIBERS: RefCell<Vec<(String, Weak<Wire>)>> = const { RefCell::new(Vec::new()) };

    /// Servers by their URLs.
    static SERVERS: RefCell<HashMap<String, Rc<WebSocketServer>>> = RefCell::default();

    /// Connections that are being opened.
    static OPENING: RefCell<Vec<Opening>> = const { RefCell::new(Vec::new()) };
}

/// A server that handlers connect to.
#[derive(Default)]
pub(crate) struct WebSocketServer {
    /// Protocol that it chooses.
    pub(crate) protocol: RefCell<Option<String>>,
    /// Status with which it refuses.
    pub(crate) refusal: Cell<Option<u16>>,
    /// Protocols that it was last offered.
    pub(crate) offered: RefCell<Vec<String>>,
    /// Connections that the test has not taken.
    pub(crate) opened: RefCell<VecDeque<(Rc<SharedWebSocket>, Rc<Wire>)>>,
}

struct Opening {
    token: u64,
    url: String,
    protocols: Vec<String>,
}

/// Lets handlers connect to a URL.
pub(crate) fn listen_websocket(url: &str) -> Rc<WebSocketServer> {
    let server = Rc::<WebSocketServer>::default();
    SERVERS.with_borrow_mut(|all| all.insert(url.to_owned(), server.clone()));
    server
}

pub(crate) fn connect_websocket(token: u64, url: &str, options: WebSocketOptions) -> Result<()> {
    let secure = url.starts_with("wss://");
    let unfit = (options.tls.as_ref()).is_some_and(|tls| !secure || !tls.alpn.is_empty());
    if unfit || !secure && !url.starts_with("ws://") {
        return Err(Error::new(ErrorKind::InvalidArgument, "invalid argument"));
    }
    let opening = Opening {
        token,
        url: url.to_owned(),
        protocols: options.protocols,
    };
    OPENING.with_borrow_mut(|all| all.push(opening));
    Ok(())
}

pub(crate) fn cancel_websocket(token: u64) {
    OPENING.with_borrow_mut(|all| all.retain(|opening| opening.token != token));
}

/// Opens a connection, if one is being opened. Returns false if none is.
pub(super) fn deliver() -> bool {
    let Some(opening) = OPENING.with_borrow_mut(Vec::pop) else {
        return false;
    };
    let server = SERVERS.with_borrow(|all| all.get(&opening.url).cloned());
    let outcome = match &server {
        None => {
            let kind = ErrorKind::ConnectionRefused;
            Err(Error::fixed(kind, Operation::Connect, kind.text()).into())
        }
        Some(server) => server.open(opening.protocols),
    };
    connected(opening.token, outcome);
    true
}

impl WebSocketServer {
    fn open(&self, protocols: Vec<String>) -> Result<Rc<SharedWebSocket>, NotOpened> {
        *self.offered.borrow_mut() = protocols;
        if let Some(status) = self.refusal.get() {
            let headers = Vec::new();
            return Err(NotOpened::Refused(Refusal { status, headers }));
        }
        let wire = Rc::<Wire>::default();
        let agreed = Opened {
            protocol: self.protocol.borrow().clone(),
            ..Opened::default()
        };
        let shared = SharedWebSocket::new(WebSocketHandle(wire.clone()), agreed);
        self.opened.borrow_mut().push_back((shared.clone(), wire));
        Ok(shared)
    }
}

/// A handler's side of a connection, as its client sees it.
#[derive(Default)]
pub(crate) struct Wire {
    /// Messages that the client has not taken.
    pub(crate) sent: RefCell<VecDeque<Message>>,
    pub(crate) closed: RefCell<Option<(u16, String)>>,
    pub(crate) paused: Cell<bool>,
    /// True if the handler waits for room.
    pub(crate) owes: Cell<bool>,
    /// True once the connection has ended.
    pub(crate) ended: Cell<bool>,
}

impl Wire {
    fn waiting(&self) -> usize {
        self.sent.borrow().iter().map(Message::len).sum()
    }

    /// Takes a message. Returns it, and true if there is room again for which the
    /// handler waits.
    pub(crate) fn take(&self) -> Option<(Message, bool)> {
        let message = self.sent.borrow_mut().pop_front()?;
        let drained = self.owes.get() && self.waiting() <= ROOM / 4;
        if drained {
            self.owes.set(false);
        }
        Some((message, drained))
    }
}

/// A WebSocket connection.
pub(crate) struct WebSocketHandle(pub(crate) Rc<Wire>);

impl WebSocketHandle {
    pub(crate) fn send(&self, message: &Message) -> u64 {
        self.0.sent.borrow_mut().push_back(message.clone());
        let room = ROOM.saturating_sub(self.0.waiting());
        self.0.owes.set(room == 0);
        room as u64
    }

    pub(crate) fn close(&self, code: u16, reason: &str) -> Result<()> {
        let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        if !may_be_sent || reason.len() > 123 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "no close frame may have this code or reason",
            ));
        }
        let close = || (code, reason.to_owned());
        self.0.closed.borrow_mut().get_or_insert_with(close);
        Ok(())
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.0.paused.set(paused);
    }

    pub(crate) fn subscribe(&self, topic: &str) -> Result<()> {
        if topic.is_empty() || topic.len() > 256 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        SUBSCRIBERS.with_borrow_mut(|all| {
            let wire = Rc::downgrade(&self.0);
            if !all
                .iter()
                .any(|(name, it)| name == topic && it.ptr_eq(&wire))
            {
                all.push((topic.to_owned(), wire));
            }
        });
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, topic: &str) {
        let wire = Rc::downgrade(&self.0);
        SUBSCRIBERS.with_borrow_mut(|all| {
            all.retain(|(name, it)| name != topic || !it.ptr_eq(&wire));
        });
    }

    pub(crate) fn buffered(&self) -> u64 {
        self.0.waiting() as u64
    }

    pub(crate) fn info(&self) -> Info {
        example_info()
    }

    pub(crate) fn peer_name(&self) -> String {
        crate::host::name_of(self.info().peer)
    }
}

fn subscribed(topic: &str) -> Vec<Rc<Wire>> {
    SUBSCRIBERS.with_borrow(|all| {
        let named = all.iter().filter(|(name, _)| name == topic);
        let wires = named.filter_map(|(_, wire)| wire.upgrade());
        wires.filter(|wire| !wire.ended.get()).collect()
    })
}

/// Sends a message to all subscribers of a topic but one.
pub(crate) fn publish(topic: &str, message: &Message, except: Option<&WebSocketHandle>) -> u64 {
    let data = match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(data) => data,
    };
    send(topic, message, except) + super::topics::send(topic, data, None)
}

/// Sends a message to all WebSocket connections that are subscribed to a topic but
/// one. Returns how many there are.
pub(super) fn send(topic: &str, message: &Message, except: Option<&WebSocketHandle>) -> u64 {
    let wires = subscribed(topic);
    for wire in &wires {
        if !except.is_some_and(|it| Rc::ptr_eq(&it.0, wire)) {
            wire.sent.borrow_mut().push_back(message.clone());
        }
    }
    wires.len() as u64
}

pub(crate) fn subscribers(topic: &str) -> u64 {
    subscribed(topic).len() as u64 + super::topics::count(topic)
}

/// Forgets all subscriptions.
pub(super) fn reset() {
    SUBSCRIBERS.take();
    SERVERS.take();
    OPENING.take();
    super::topics::reset();
}
