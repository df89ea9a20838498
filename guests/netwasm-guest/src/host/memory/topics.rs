//! Topics of the byte-stream connections of a test.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::pipe::{Pipe, Transport};
use crate::websocket::Message;
use crate::{ErrorKind, Result};

thread_local! {
    /// Topics, each with a connection that is subscribed.
    static SUBSCRIBERS: RefCell<Vec<(String, Weak<Pipe>)>> = const { RefCell::new(Vec::new()) };
}

impl Transport {
    pub(crate) fn subscribe(&self, topic: &str) -> Result<()> {
        if topic.is_empty() || topic.len() > 256 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        self.unsubscribe(topic);
        let pipe = Rc::downgrade(&self.0);
        SUBSCRIBERS.with_borrow_mut(|all| all.push((topic.to_owned(), pipe)));
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, topic: &str) {
        let pipe = Rc::downgrade(&self.0);
        SUBSCRIBERS.with_borrow_mut(|all| {
            all.retain(|(name, it)| name != topic || !it.ptr_eq(&pipe));
        });
    }

    /// Sends bytes to all subscribers of a topic but this one.
    pub(crate) fn publish(&self, topic: &str, data: &[u8]) -> u64 {
        let message = Message::Binary(data.to_vec());
        send(topic, data, Some(&self.0)) + super::websocket::send(topic, &message, None)
    }
}

fn subscribed(topic: &str) -> Vec<Rc<Pipe>> {
    SUBSCRIBERS.with_borrow(|all| {
        let named = all.iter().filter(|(name, _)| name == topic);
        let pipes = named.filter_map(|(_, pipe)| pipe.upgrade());
        pipes.filter(|pipe| !pipe.is_over()).collect()
    })
}

/// True if a connection is subscribed to a topic.
pub(super) fn has_any(pipe: &Rc<Pipe>) -> bool {
    SUBSCRIBERS.with_borrow(|all| {
        all.iter()
            .any(|(_, its)| std::ptr::eq(its.as_ptr(), Rc::as_ptr(pipe)))
    })
}

/// Writes a message to the connections that are subscribed to a topic but one.
/// Returns how many there are.
pub(super) fn send(topic: &str, data: &[u8], except: Option<&Rc<Pipe>>) -> u64 {
    let pipes = subscribed(topic);
    for pipe in &pipes {
        if !except.is_some_and(|it| Rc::ptr_eq(it, pipe)) {
            Transport(pipe.clone()).write(data);
        }
    }
    pipes.len() as u64
}

pub(super) fn count(topic: &str) -> u64 {
    subscribed(topic).len() as u64
}

/// Forgets all subscriptions.
pub(super) fn reset() {
    SUBSCRIBERS.take();
}
