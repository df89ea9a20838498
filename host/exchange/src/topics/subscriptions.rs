//! The topics that a connection is subscribed to.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use netwasm_base::error::ConnectionError;
use netwasm_net::thread::Thread;

use super::{Subscriber, SubscriberId, TopicsOfThread};

/// The topics that a connection is subscribed to. Dropping them ends the
/// subscriptions.
pub(crate) struct Subscriptions {
    topics: Rc<TopicsOfThread>,
    id: SubscriberId,
    /// Their names, sorted. Few connections have many, and most have none.
    subscribed: RefCell<Vec<Arc<str>>>,
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").finish_non_exhaustive()
    }
}

impl Subscriptions {
    /// Returns the subscriptions of a new subscriber, none yet.
    pub(crate) fn new(topics: &Rc<TopicsOfThread>) -> Self {
        Self {
            topics: Rc::clone(topics),
            id: topics.new_id(),
            subscribed: RefCell::default(),
        }
    }

    /// Returns the identity of the subscriber.
    pub(crate) fn id(&self) -> SubscriberId {
        self.id
    }

    /// Returns the thread of the service.
    pub(crate) fn thread(&self) -> &Rc<Thread> {
        self.topics.thread()
    }

    /// Subscribes `subscriber`, the owner of these subscriptions, to a topic. Does
    /// nothing if it is subscribed already. `is_over` is true if its connection can
    /// get no more messages.
    ///
    /// # Errors
    /// - `InvalidArgument`: the name is empty or too long.
    /// - `InvalidState`: the connection is over.
    /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
    pub(crate) fn subscribe(
        &self,
        topic: &str,
        subscriber: Weak<dyn Subscriber>,
        is_over: bool,
    ) -> Result<(), ConnectionError> {
        if is_over {
            return Err(ConnectionError::InvalidState);
        }
        let mut subscribed = self.subscribed.borrow_mut();
        let Err(place) = subscribed.binary_search_by(|it| (**it).cmp(topic)) else {
            return Ok(());
        };
        let limits = &self.thread().env.limits;
        if subscribed.len() >= limits.http.websocket.max_topics {
            return Err(ConnectionError::LimitExceeded(
                "the connection has too many topics (--max-websocket-topics)",
            ));
        }
        let name = self.topics.subscribe(topic, self.id, subscriber)?;
        subscribed.insert(place, name);
        Ok(())
    }

    /// Ends a subscription, if there is one.
    pub(crate) fn unsubscribe(&self, topic: &str) {
        let mut subscribed = self.subscribed.borrow_mut();
        if let Ok(place) = subscribed.binary_search_by(|it| (**it).cmp(topic)) {
            subscribed.remove(place);
            self.topics.unsubscribe(topic, self.id);
        }
    }

    /// Ends all subscriptions.
    pub(crate) fn clear(&self) {
        for topic in self.subscribed.take() {
            self.topics.unsubscribe(&topic, self.id);
        }
    }

    /// True if there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribed.borrow().is_empty()
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use netwasm_base::config::{HttpLimits, Limits, WebSocketLimits};
    use netwasm_net::testing::in_worker;

    use super::*;
    use crate::topics::Published;

    struct Deaf;

    impl Subscriber for Deaf {
        fn deliver(&self, _: &[Arc<Published>]) {}
    }

    #[test]
    fn a_subscriber_has_each_topic_once_up_to_the_limit_and_none_when_it_is_gone() {
        let limits = Limits {
            http: HttpLimits {
                websocket: WebSocketLimits {
                    max_topics: 3,
                    ..WebSocketLimits::default()
                },
                ..HttpLimits::default()
            },
            ..Limits::default()
        };
        in_worker(limits, async |worker| {
            let topics = TopicsOfThread::new(&Arc::default(), &worker.thread);
            let subscriptions = Subscriptions::new(&topics);
            let subscriber: Rc<dyn Subscriber> = Rc::new(Deaf);
            let subscribe = |topic: &str, is_over| {
                subscriptions.subscribe(topic, Rc::downgrade(&subscriber), is_over)
            };
            let over = subscribe("a", true);
            assert!(matches!(over, Err(ConnectionError::InvalidState)));
            assert!(subscriptions.is_empty());
            for topic in ["c", "a", "b", "a", "c"] {
                subscribe(topic, false).expect(topic);
            }
            let fourth = subscribe("d", false);
            assert!(matches!(fourth, Err(ConnectionError::LimitExceeded(_))));
            subscriptions.unsubscribe("b");
            subscriptions.unsubscribe("b");
            let nameless = subscribe("", false);
            assert!(matches!(nameless, Err(ConnectionError::InvalidArgument)));
            let counts = || ["a", "b", "c"].map(|topic| topics.count(topic));
            assert_eq!(counts(), [1, 0, 1]);
            // Another one of the thread is not touched.
            let other = Subscriptions::new(&topics);
            let its = Rc::downgrade(&subscriber);
            other.subscribe("a", its, false).expect("a topic");
            drop(subscriptions);
            assert_eq!(counts(), [1, 0, 0]);
            other.clear();
            assert!(other.is_empty());
            assert_eq!(counts(), [0, 0, 0]);
        });
    }
}
