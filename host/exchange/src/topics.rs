//! Topics: messages that go to all their subscribers, on all threads of a service,
//! without a guest.
//!
//! ```text
//!   publish --> Published --> mailbox of each thread with subscribers
//!                                  |
//!                                  v  its task, in batches
//!                             subscribers of the topic there
//! ```
//!
//! Messages of a thread reach each subscriber in its order, since every
//! mailbox keeps it. A message is encoded once, by the first who needs it.
//!
//! A topic that is read as events ([`events`]) has a ring of its last messages.

pub mod connection;
pub mod events;
mod mailbox;
mod places;
mod published;
mod ring;
pub(crate) mod subscriptions;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_net::thread::Thread;

use crate::message::MessageKind;

use self::mailbox::{Mail, Mailbox};
use self::places::{Delivery, is_name};
use self::ring::Ring;

pub use self::places::{Remote, Topics};
pub use self::published::{Published, SubscriberId};

/// Bytes that a delivery to a subscriber counts for in the turns of the thread.
const DELIVERY: usize = 16 << 10;

/// Gets what is published.
pub trait Subscriber {
    /// Delivers messages in their order.
    fn deliver(&self, messages: &[Arc<Published>]);

    /// Tells that the event of this number has found no room on its way. What was
    /// published before it has been delivered. Only readers of events have a use for
    /// that, as they can get it by other means.
    fn missed(&self, _number: u64) {}

    /// True if it reads events, and so gets what tells of a gap.
    fn reads_events(&self) -> bool {
        false
    }
}

/// The topics of a service, as a thread sees them.
pub struct TopicsOfThread {
    topics: Arc<Topics>,
    thread: Rc<Thread>,
    /// Made for the first subscriber.
    mailbox: RefCell<Option<(usize, Arc<Mailbox>)>>,
    subscribers: RefCell<HashMap<Arc<str>, OfTopic>>,
    /// True if it was logged that a mailbox is full.
    was_full: Cell<bool>,
}

/// The subscribers of a topic. Many may leave at once, so none is searched for.
type OfTopic = BTreeMap<SubscriberId, Weak<dyn Subscriber>>;

impl fmt::Debug for TopicsOfThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicsOfThread").finish_non_exhaustive()
    }
}

impl TopicsOfThread {
    /// Returns the topics of a service, for a thread.
    pub fn new(topics: &Arc<Topics>, thread: &Rc<Thread>) -> Rc<Self> {
        Rc::new(Self {
            topics: Arc::clone(topics),
            thread: Rc::clone(thread),
            mailbox: RefCell::default(),
            subscribers: RefCell::default(),
            was_full: Cell::new(false),
        })
    }

    /// Returns the thread of the service.
    pub fn thread(&self) -> &Rc<Thread> {
        &self.thread
    }

    /// Returns an identity for a new subscriber.
    pub fn new_id(&self) -> SubscriberId {
        self.topics.new_id()
    }

    /// Returns the number of subscribers of a topic, on all threads.
    pub fn count(&self, topic: &str) -> u64 {
        self.topics.subscribers(topic)
    }

    /// Adds a subscriber, which must not have the topic yet.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if the topic's name is empty or too long.
    pub fn subscribe(
        self: &Rc<Self>,
        topic: &str,
        id: SubscriberId,
        subscriber: Weak<dyn Subscriber>,
    ) -> Result<Arc<str>, ConnectionError> {
        check_name(topic)?;
        let name = self.topics.add(topic, self.mailbox());
        let mut subscribers = self.subscribers.borrow_mut();
        let of_topic = subscribers.entry(Arc::clone(&name)).or_default();
        of_topic.insert(id, subscriber);
        Ok(name)
    }

    /// Adds a subscriber that reads the topic as events, as [`Self::subscribe`] does.
    /// Returns the topic's ring, too.
    fn read(
        self: &Rc<Self>,
        topic: &str,
        id: SubscriberId,
        subscriber: Weak<dyn Subscriber>,
    ) -> Result<(Arc<str>, Arc<Ring>), ConnectionError> {
        check_name(topic)?;
        // First, so that no message is without its number.
        let ring = self.topics.ring(topic, &self.thread.env.limits.http.events);
        Ok((self.subscribe(topic, id, subscriber)?, ring))
    }

    /// Removes a subscriber.
    pub fn unsubscribe(&self, topic: &str, id: SubscriberId) {
        let mut subscribers = self.subscribers.borrow_mut();
        let Some(of_topic) = subscribers.get_mut(topic) else {
            return;
        };
        if of_topic.remove(&id).is_none() {
            return;
        }
        if of_topic.is_empty() {
            subscribers.remove(topic);
        }
        if let Some((number, _)) = &*self.mailbox.borrow() {
            self.topics.remove(topic, *number);
        }
    }

    /// Sends a message to all subscribers of a topic but one. Returns how many
    /// there are. None is delivered within the call.
    pub fn publish(
        &self,
        topic: &str,
        kind: MessageKind,
        data: &[u8],
        except: Option<SubscriberId>,
    ) -> u64 {
        let most = self.thread.env.limits.max_write_buffer;
        let Delivery { count, lost } = self.topics.publish(topic, kind, data, except, most);
        if lost > 0 {
            self.thread.meter.add(Measure::MessagesDropped, lost);
            if !self.was_full.replace(true) {
                tracing::warn!(
                    guest = %self.thread.env.guest,
                    "a topic gets messages faster than its subscribers take them: more than \
                     --max-write-buffer wait, and others are dropped"
                );
            }
        }
        count
    }

    /// Returns the number of the thread's mailbox, and begins its delivery.
    fn mailbox(self: &Rc<Self>) -> usize {
        let mut place = self.mailbox.borrow_mut();
        if let Some((number, _)) = &*place {
            return *number;
        }
        let mailbox = Arc::new(Mailbox::new(self.thread.env.limits.max_write_buffer));
        let number = self.topics.join(&mailbox);
        *place = Some((number, Arc::clone(&mailbox)));
        let turn = self.thread.turns.turn();
        let (this, its) = (Rc::downgrade(self), Rc::clone(&turn));
        let deliver = async move {
            loop {
                let mail = poll_fn(|cx| mailbox.poll_mail(cx)).await;
                let Some(subscribers) = this.upgrade().map(|this| this.of(&mail)) else {
                    return;
                };
                for (id, subscriber) in subscribers {
                    let Some(subscriber) = subscriber.upgrade() else {
                        continue;
                    };
                    match &mail {
                        Mail::Messages(batch) => deliver_to(&*subscriber, id, batch),
                        Mail::Lost(_, number) => subscriber.missed(*number),
                        Mail::Closed => {}
                    }
                    drop(subscriber);
                    its.pause(DELIVERY).await;
                }
            }
        };
        self.thread.spawn_aside(turn, deliver);
        number
    }

    /// Returns the subscribers of the topic of a piece of mail.
    fn of(&self, mail: &Mail) -> Vec<(SubscriberId, Weak<dyn Subscriber>)> {
        let topic = match mail {
            Mail::Messages(batch) => batch.first().map(|it| &*it.topic),
            Mail::Lost(topic, _) => Some(&**topic),
            Mail::Closed => None,
        };
        let subscribers = self.subscribers.borrow();
        let found = topic.and_then(|topic| subscribers.get(topic));
        let each = found.into_iter().flatten();
        each.map(|(id, subscriber)| (*id, Weak::clone(subscriber)))
            .collect()
    }
}

/// Delivers messages to a subscriber, but those that it is not to get.
fn deliver_to(subscriber: &dyn Subscriber, id: SubscriberId, batch: &[Arc<Published>]) {
    let is_wanted = |message: &Arc<Published>| {
        message.except != Some(id) && (!message.is_notice || subscriber.reads_events())
    };
    if batch.iter().all(is_wanted) {
        return subscriber.deliver(batch);
    }
    let wanted = batch.iter().filter(|message| is_wanted(message));
    let wanted: Vec<_> = wanted.cloned().collect();
    if !wanted.is_empty() {
        subscriber.deliver(&wanted);
    }
}

/// Checks a topic's name.
fn check_name(topic: &str) -> Result<(), ConnectionError> {
    match is_name(topic) {
        true => Ok(()),
        false => Err(ConnectionError::InvalidArgument),
    }
}

impl Drop for TopicsOfThread {
    fn drop(&mut self) {
        if let Some((number, mailbox)) = &*self.mailbox.borrow() {
            self.topics.leave(self.subscribers.borrow().keys(), *number);
            mailbox.close();
        }
    }
}

#[cfg(test)]
mod tests;
