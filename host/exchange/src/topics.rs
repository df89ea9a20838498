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

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use netwasm_base::error::ConnectionError;
use netwasm_base::meter::Measure;
use netwasm_net::thread::Thread;

use crate::message::MessageKind;

/// Maximum length of a topic's name, in bytes.
const MOST_NAME: usize = 256;

/// Maximum of messages, and about that of bytes, that a subscriber gets at once.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

/// Bytes that a message takes besides its content: it is counted, in bytes, as
/// what it and its frames keep.
const OVERHEAD: usize = 512;

/// Bytes that a delivery to a subscriber counts for in the turns of the thread.
const DELIVERY: usize = 16 << 10;

/// A message of a topic.
#[derive(Debug)]
pub struct Published {
    topic: Arc<str>,
    kind: MessageKind,
    data: Bytes,
    /// Subscriber that does not get it.
    except: Option<SubscriberId>,
    /// It as a frame, and as a frame that is compressed by itself.
    plain: OnceLock<Bytes>,
    packed: OnceLock<Bytes>,
}

impl Published {
    /// Returns its kind.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns the bytes that it counts for in a mailbox.
    fn size(&self) -> usize {
        size(self.data.len())
    }

    /// Returns its content.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// Returns it as a frame, made once.
    pub fn plain(&self, make: impl FnOnce() -> Bytes) -> &Bytes {
        self.plain.get_or_init(make)
    }

    /// Returns it as a frame that is compressed by itself, made once.
    pub fn packed(&self, make: impl FnOnce() -> Bytes) -> &Bytes {
        self.packed.get_or_init(make)
    }
}

/// Returns the bytes that a message of such a length counts for.
fn size(length: usize) -> usize {
    length.saturating_add(OVERHEAD)
}

/// A subscriber of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(u64);

/// Gets what is published.
pub trait Subscriber {
    /// Delivers messages in their order.
    fn deliver(&self, messages: &[&Arc<Published>]);
}

/// The topics of a service.
#[derive(Default)]
pub struct Topics {
    places: Mutex<Places>,
    /// Number of the next subscriber.
    next: AtomicU64,
}

#[derive(Default)]
struct Places {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Subscribers of each topic, by mailbox.
    subscribers: HashMap<Arc<str>, HashMap<usize, u64>>,
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

impl Topics {
    fn places(&self) -> MutexGuard<'_, Places> {
        // No code panics while it holds the lock.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of subscribers of a topic.
    pub fn subscribers(&self, topic: &str) -> u64 {
        let places = self.places();
        let found = places.subscribers.get(topic);
        found.map_or(0, |it| it.values().sum())
    }

    /// Returns the name of a topic, and its subscribers. No message is copied under
    /// the lock.
    fn mailboxes(&self, topic: &str) -> Option<(Arc<str>, Vec<Subscribers>)> {
        let places = self.places();
        let (name, of_topic) = places.subscribers.get_key_value(topic)?;
        let found = of_topic.iter().filter_map(|(number, count)| {
            let mailbox = places.mailboxes.get(*number)?;
            Some((Arc::clone(mailbox), *count))
        });
        Some((Arc::clone(name), found.collect()))
    }

    /// Adds a mailbox. Returns its number.
    fn join(&self, mailbox: &Arc<Mailbox>) -> usize {
        let mut places = self.places();
        places.mailboxes.push(Arc::clone(mailbox));
        places.mailboxes.len() - 1
    }

    /// Counts a subscriber. Returns the topic's name, which all share.
    fn add(&self, topic: &str, mailbox: usize) -> Arc<str> {
        let mut places = self.places();
        let known = places.subscribers.get_key_value(topic);
        let name = known.map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        let of_topic = places.subscribers.entry(Arc::clone(&name)).or_default();
        *of_topic.entry(mailbox).or_default() += 1;
        name
    }

    fn remove(&self, topic: &str, mailbox: usize) {
        let mut places = self.places();
        let Some(of_topic) = places.subscribers.get_mut(topic) else {
            return;
        };
        if let Some(count) = of_topic.get_mut(&mailbox) {
            *count -= 1;
            if *count == 0 {
                of_topic.remove(&mailbox);
            }
        }
        if of_topic.is_empty() {
            places.subscribers.remove(topic);
        }
    }
}

/// A thread's mailbox, and how many subscribers of a topic the thread has.
type Subscribers = (Arc<Mailbox>, u64);

/// Messages on their way to the subscribers of a thread.
#[derive(Debug)]
struct Mailbox {
    queue: Mutex<MailQueue>,
    /// Maximum of bytes.
    most: usize,
}

#[derive(Debug, Default)]
struct MailQueue {
    messages: VecDeque<Arc<Published>>,
    bytes: usize,
    waker: Option<Waker>,
    /// True once nobody takes anything.
    closed: bool,
}

impl Mailbox {
    fn queue(&self) -> MutexGuard<'_, MailQueue> {
        // No code panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. Returns false if there is no room for it.
    fn push(&self, message: &Arc<Published>) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return true;
        }
        let bytes = queue.bytes.saturating_add(message.size());
        if bytes > self.most {
            return false;
        }
        queue.bytes = bytes;
        queue.messages.push_back(Arc::clone(message));
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Takes the next messages of one topic; none once nobody takes them.
    fn poll_batch(&self, cx: &Context<'_>) -> Poll<Vec<Arc<Published>>> {
        let mut queue = self.queue();
        let Some(first) = queue.messages.pop_front() else {
            if queue.closed {
                return Poll::Ready(Vec::new());
            }
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let mut bytes = first.size();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some(next) = queue.messages.front()
            && batch.first().is_some_and(|it| it.topic == next.topic)
            && let Some(next) = queue.messages.pop_front()
        {
            bytes += next.size();
            batch.push(next);
        }
        queue.bytes -= bytes;
        Poll::Ready(batch)
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
        SubscriberId(self.topics.next.fetch_add(1, Ordering::Relaxed))
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
        if topic.is_empty() || topic.len() > MOST_NAME {
            return Err(ConnectionError::InvalidArgument);
        }
        let name = self.topics.add(topic, self.mailbox());
        let mut subscribers = self.subscribers.borrow_mut();
        let of_topic = subscribers.entry(Arc::clone(&name)).or_default();
        of_topic.insert(id, subscriber);
        Ok(name)
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
        let Some((topic, mailboxes)) = self.topics.mailboxes(topic) else {
            return 0;
        };
        let count = mailboxes.iter().map(|(_, count)| count).sum();
        let most = self.thread.env.limits.max_write_buffer;
        let mut lost = count;
        // A message that no mailbox has room for is not copied.
        if size(data.len()) <= most {
            let message = Arc::new(Published {
                topic,
                kind,
                data: Bytes::copy_from_slice(data),
                except,
                plain: OnceLock::new(),
                packed: OnceLock::new(),
            });
            let full = mailboxes.iter().filter(|(its, _)| !its.push(&message));
            lost = full.map(|(_, count)| count).sum();
        }
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
        let mailbox = Arc::new(Mailbox {
            queue: Mutex::default(),
            most: self.thread.env.limits.max_write_buffer,
        });
        let number = self.topics.join(&mailbox);
        *place = Some((number, Arc::clone(&mailbox)));
        let turn = self.thread.turns.turn();
        let (this, its) = (Rc::downgrade(self), Rc::clone(&turn));
        let deliver = async move {
            loop {
                let batch = poll_fn(|cx| mailbox.poll_batch(cx)).await;
                let Some(subscribers) = this.upgrade().map(|this| this.of(&batch)) else {
                    return;
                };
                for (id, subscriber) in subscribers {
                    let Some(subscriber) = subscriber.upgrade() else {
                        continue;
                    };
                    let wanted = batch.iter().filter(|it| it.except != Some(id));
                    let messages: Vec<_> = wanted.collect();
                    if !messages.is_empty() {
                        subscriber.deliver(&messages);
                    }
                    drop(subscriber);
                    its.pause(DELIVERY).await;
                }
            }
        };
        self.thread.spawn_aside(turn, deliver);
        number
    }

    /// Returns the subscribers of the topic of these messages.
    fn of(&self, batch: &[Arc<Published>]) -> Vec<(SubscriberId, Weak<dyn Subscriber>)> {
        let topic = batch.first().map(|it| &*it.topic);
        let subscribers = self.subscribers.borrow();
        let found = topic.and_then(|topic| subscribers.get(topic));
        let each = found.into_iter().flatten();
        each.map(|(id, subscriber)| (*id, Weak::clone(subscriber)))
            .collect()
    }
}

impl Drop for TopicsOfThread {
    fn drop(&mut self) {
        if let Some((number, mailbox)) = &*self.mailbox.borrow() {
            for topic in self.subscribers.borrow().keys() {
                let mut places = self.topics.places();
                if let Some(of_topic) = places.subscribers.get_mut(topic) {
                    of_topic.remove(number);
                    if of_topic.is_empty() {
                        places.subscribers.remove(topic);
                    }
                }
            }
            let closed = MailQueue {
                closed: true,
                ..MailQueue::default()
            };
            let left = std::mem::replace(&mut *mailbox.queue(), closed);
            if let Some(waker) = left.waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests;
