//! Connections of byte streams that are subscribed to topics.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use netwasm_base::config::SlowClient;
use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_net::transport::Transport;

use super::subscriptions::Subscriptions;
use super::{Published, Subscriber, SubscriberId, TopicsOfThread};

/// The topics of a connection. Dropping it ends its subscriptions.
pub struct ConnectionTopics {
    transport: Rc<Transport>,
    subscriptions: Subscriptions,
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
    /// - `InvalidState`: the connection is closing or over, or another one is relayed
    ///   to it.
    /// - `LimitExceeded`: it has `--max-websocket-topics` topics.
    pub fn subscribe(self: &Rc<Self>, topic: &str) -> Result<(), ConnectionError> {
        let this: Rc<dyn Subscriber> = Rc::<Self>::clone(self);
        // A message would come anywhere in what is relayed.
        let is_fed = self.transport.is_fed();
        if is_fed {
            tracing::warn!(
                topic,
                "no topic is written to a connection to which another one is relayed"
            );
        }
        let is_over = is_fed || self.transport.is_closing();
        (self.subscriptions).subscribe(topic, Rc::downgrade(&this), is_over)
    }

    /// True if there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Ends a subscription, if there is one.
    pub fn unsubscribe(&self, topic: &str) {
        self.subscriptions.unsubscribe(topic);
    }
}

impl Subscriber for ConnectionTopics {
    fn deliver(&self, messages: &[Arc<Published>]) {
        if self.transport.is_closing() {
            return;
        }
        let thread = self.subscriptions.thread();
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

#[cfg(test)]
mod tests {
    use netwasm_base::config::Limits;
    use netwasm_net::testing::{connection, in_worker};

    use super::*;
    use crate::message::MessageKind;

    #[test]
    fn no_topic_is_written_to_what_another_connection_is_relayed_to() {
        in_worker(Limits::default(), async |worker| {
            let topics = TopicsOfThread::new(&Arc::default(), &worker.thread);
            let (from, _its_client) = connection(&worker);
            let (to, _client) = connection(&worker);
            let [source, target] = [&from, &to].map(|it| ConnectionTopics::new(it, &topics));
            from.relay(&to).expect("both are open");
            let refused = target.subscribe("news");
            assert!(matches!(refused, Err(ConnectionError::InvalidState)));
            assert!(target.is_empty());
            source.subscribe("news").expect("it has its own writer");
            let publish = || topics.publish("news", MessageKind::Binary, b"x", None);
            assert_eq!(publish(), 1);
            from.close();
            let closing = source.subscribe("other");
            assert!(matches!(closing, Err(ConnectionError::InvalidState)));
            drop(source);
            assert_eq!(publish(), 0);
        });
    }
}
