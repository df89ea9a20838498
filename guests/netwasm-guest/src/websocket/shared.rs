//! State that the events of a connection share with the task that handles it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Closed, Message};
use crate::host::WebSocketHandle;
use crate::wait::Waiter;
use crate::{Error, Result};

/// Bytes that were not received at which the host is asked to stop.
const READ_HIGH: usize = 64 << 10;

/// Bytes at which it is asked to go on.
const READ_LOW: usize = 16 << 10;

/// The terms that a connection was opened by.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) protocol: Option<String>,
    /// Headers of the answer of a server.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

/// State that the events of a connection share with the task that handles it.
pub(crate) struct SharedWebSocket {
    pub(super) handle: WebSocketHandle,
    pub(super) opened: Opened,
    /// Messages that were not received, and their bytes.
    unread: RefCell<(VecDeque<Message>, usize)>,
    /// True while the host was asked not to receive.
    paused: Cell<bool>,
    /// True while `drained` is awaited.
    full: Cell<bool>,
    /// True once the guest has closed the connection.
    closing: Cell<bool>,
    /// How it ended.
    closed: RefCell<Option<Closed>>,
    /// Task waiting for a message, or for the end.
    reader: Waiter,
    /// Task waiting for room.
    writer: Waiter,
}

impl SharedWebSocket {
    pub(crate) fn new(handle: WebSocketHandle, opened: Opened) -> Rc<Self> {
        Rc::new(Self {
            handle,
            opened,
            unread: RefCell::default(),
            paused: Cell::new(false),
            full: Cell::new(false),
            closing: Cell::new(false),
            closed: RefCell::new(None),
            reader: Waiter::default(),
            writer: Waiter::default(),
        })
    }

    // Events.

    pub(crate) fn received(&self, message: Message) {
        let (messages, bytes) = &mut *self.unread.borrow_mut();
        *bytes += message.len();
        messages.push_back(message);
        // Empty ones take room, too.
        if *bytes + messages.len() > READ_HIGH && !self.paused.replace(true) {
            self.handle.pause(true);
        }
        self.reader.wake();
    }

    pub(crate) fn drained(&self) {
        self.full.set(false);
        self.writer.wake();
    }

    pub(crate) fn ended(&self, code: u16, reason: String) {
        *self.closed.borrow_mut() = Some(Closed { code, reason });
        self.reader.wake();
        self.writer.wake();
    }

    // The task's side.

    pub(super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Option<Message>> {
        let (messages, bytes) = &mut *self.unread.borrow_mut();
        if let Some(message) = messages.pop_front() {
            *bytes -= message.len();
            if *bytes + messages.len() <= READ_LOW && self.paused.replace(false) {
                self.handle.pause(false);
            }
            return Poll::Ready(Some(message));
        }
        if self.closed.borrow().is_some() {
            return Poll::Ready(None);
        }
        self.reader.register(cx);
        Poll::Pending
    }

    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<()>> {
        if self.is_closing() {
            return Poll::Ready(Err(Error::closed()));
        }
        if self.full.get() {
            self.writer.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a message. Returns true if there is room for more.
    pub(super) fn send(&self, message: &Message) -> bool {
        let room = self.handle.send(message);
        self.full.set(room == 0);
        room > 0
    }

    pub(super) fn close(&self, code: u16, reason: &str) -> Result<()> {
        self.handle.close(code, reason)?;
        self.closing.set(true);
        self.writer.wake();
        Ok(())
    }

    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<Closed> {
        match self.closed() {
            Some(closed) => Poll::Ready(closed),
            None => {
                self.reader.register(cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        self.closed.borrow().clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get() || self.closed.borrow().is_some()
    }
}
