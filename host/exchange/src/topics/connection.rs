//! Connections of byte streams that are subscribed to topics.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::config::SlowClient;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_net::transport::Transport;

use super::{Published, Subscriber, SubscriberId, TopicsOfThread};

/// The topics of a connection. Dropping it ends its subscriptions.
pub struct ConnectionTopics {
    transport: Rc<Transport>,
    topics: Rc<TopicsOfThread>,
    id: SubscriberId,
    subscribed: RefCell<HashSet<Arc<str>>>,
}

impl fmt::Debug for ConnectionTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTopics").finish_non_exhaustive()
    }
}

impl ConnectionTopics {
    /// Returns the topics of a connection, none yet.
    pub fn new(transport: &Rc<Transport>, topics: &Rc<TopicsOfThread>) -> Rc<Self> {
        Rc::new(Self {
            transport: Rc::clone(transport),
            topics: Rc::clone(topics),
            id: topics.new_id(),
            subscribed: RefCell::default(),
        })
    }

    /// Returns its identity as a subscriber.
    pub fn id(&self) -> SubscriberId {
        self.id
    }

    /// Subscribes to a topic. Does nothing if it is subscribed already.
    ///
    /// # Errors
    /// - `InvalidArgument`: the name is empty or too long.
    /// - `InvalidState`: the connection is closing or over.
    /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
    pub fn subscribe(self: &Rc<Self>, topic: &str) -> Result<(), ConnectionError> {
        if self.transport.is_closing() {
            return Err(ConnectionError::InvalidState);
        }
        let mut subscribed = self.subscribed.borrow_mut();
        if subscribed.contains(topic) {
            return Ok(());
        }
        let limits = &self.topics.thread().env.limits;
        if subscribed.len() >= limits.http.websocket.max_topics {
            return Err(ConnectionError::LimitExceeded(
                "the connection has too many topics (--max-websocket-topics)",
            ));
        }
        let this: Rc<dyn Subscriber> = Rc::<Self>::clone(self);
        let name = self
            .topics
            .subscribe(topic, self.id, Rc::downgrade(&this))?;
        subscribed.insert(name);
        Ok(())
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, topic: &str) {
        if self.subscribed.borrow_mut().remove(topic) {
            self.topics.unsubscribe(topic, self.id);
        }
    }
}

impl Subscriber for ConnectionTopics {
    fn deliver(&self, messages: &[&Arc<Published>]) {
        if self.transport.is_closing() {
            return;
        }
        let thread = self.topics.thread();
        let limits = &thread.env.limits.http.websocket;
        let is_slow = self.transport.queued() > limits.max_queue as u64;
        if is_slow && limits.slow != SlowClient::Wait {
            let count = messages.len() as u64;
            thread.meter.add(Measure::MessagesDropped, count);
            if limits.slow == SlowClient::Close {
                self.transport.fail(ConnectionError::LimitExceeded(
                    "the peer takes its messages too slowly (--max-websocket-queue)",
                ));
            }
            return;
        }
        let pieces: Vec<&[u8]> = messages.iter().map(|it| &**it.data()).collect();
        self.transport.write_vectored(&pieces);
        let count = messages.len() as u64;
        thread.meter.add(Measure::MessagesSent, count);
    }
}

impl Drop for ConnectionTopics {
    fn drop(&mut self) {
        for topic in self.subscribed.take() {
            self.topics.unsubscribe(&topic, self.id);
        }
    }
}
