//! WebSocket connections of a test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::example_info;
use crate::websocket::Message;
use crate::{Error, ErrorKind, Info, Result};

/// Bytes that may wait for the client before there is no room.
const ROOM: usize = 64 << 10;

thread_local! {
    /// Topics, each with one that is subscribed.
    static SUBSCRIBERS: RefCell<Vec<(String, Weak<Wire>)>> = const { RefCell::new(Vec::new()) };
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
    let wires = subscribed(topic);
    for wire in &wires {
        if !except.is_some_and(|it| Rc::ptr_eq(&it.0, wire)) {
            wire.sent.borrow_mut().push_back(message.clone());
        }
    }
    wires.len() as u64
}

pub(crate) fn subscribers(topic: &str) -> u64 {
    subscribed(topic).len() as u64
}

/// Forgets all subscriptions.
pub(super) fn reset() {
    SUBSCRIBERS.take();
}
