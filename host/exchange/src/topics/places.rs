//! Where the messages of each topic go: the threads with subscribers, and the ring
//! of a topic that is read as events.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use netwasm_base::config::EventLimits;

use crate::message::MessageKind;

use super::mailbox::Mailbox;
use super::published::{Published, SubscriberId, size};
use super::ring::{self, Event, Gap, Ring};

/// Maximum of rings of topics without subscribers.
const MOST_RESTING: usize = 1024;

/// Joins topics with those of other processes. No call waits.
pub trait Remote: Send + Sync {
    /// Sends a message to the other processes.
    fn publish(&self, topic: &Arc<str>, kind: MessageKind, data: &[u8]);

    /// Asks for the messages of a topic, or for them no more.
    fn want(&self, topic: &Arc<str>, wanted: bool);
}

/// The topics of a service.
#[derive(Default)]
pub struct Topics {
    places: Mutex<Places>,
    /// Way that joins them with those of other processes.
    remote: OnceLock<Box<dyn Remote>>,
    /// Number of the next subscriber.
    next: AtomicU64,
}

#[derive(Default)]
struct Places {
    mailboxes: Vec<Arc<Mailbox>>,
    /// Subscribers of each topic, by mailbox.
    subscribers: HashMap<Arc<str>, HashMap<usize, u64>>,
    /// Rings of the topics that are read as events.
    rings: HashMap<Arc<str>, KeptRing>,
    /// Topics whose rings have had no subscribers, until when these are kept.
    resting: VecDeque<(Instant, Arc<str>)>,
    /// Bytes in all rings.
    kept: Arc<AtomicUsize>,
}

struct KeptRing {
    ring: Arc<Ring>,
    /// Time at which it is dropped, as it has no subscribers.
    until: Option<Instant>,
}

impl Places {
    /// Returns the mailboxes of a topic's subscribers.
    fn mailboxes(&self, topic: &str) -> Vec<Subscribers> {
        let of_topic = self.subscribers.get(topic).into_iter().flatten();
        let found = of_topic.filter_map(|(number, count)| {
            let mailbox = self.mailboxes.get(*number)?;
            Some((Arc::clone(mailbox), *count))
        });
        found.collect()
    }

    /// Returns the mailboxes of a topic's subscribers, if its ring is still this one,
    /// whose numbers they know. If not, all of them have come later.
    fn mailboxes_by(&self, topic: &str, ring: &Arc<Ring>) -> Vec<Subscribers> {
        let is_same = |kept: &KeptRing| Arc::ptr_eq(&kept.ring, ring);
        match self.rings.get(topic).is_some_and(is_same) {
            true => self.mailboxes(topic),
            false => Vec::new(),
        }
    }

    /// Notes that a topic has no subscribers any more. Its ring is kept for a while.
    fn rest(&mut self, topic: &Arc<str>, remote: Option<&dyn Remote>) {
        let Some((name, kept)) = self.rings.get_key_value(topic) else {
            if let Some(remote) = remote {
                remote.want(topic, false);
            }
            return;
        };
        let until = Instant::now() + kept.ring.limits.kept_time;
        let name = Arc::clone(name);
        self.wake(topic);
        self.resting.push_back((until, name));
        if let Some(kept) = self.rings.get_mut(topic) {
            kept.until = Some(until);
        }
    }

    /// Notes that a topic's ring is no longer kept only for a while.
    fn wake(&mut self, topic: &str) {
        let rested = (self.rings.get_mut(topic)).and_then(|kept| kept.until.take());
        if rested.is_some() {
            // It takes no place of another one.
            self.resting.retain(|(_, name)| **name != *topic);
        }
    }

    /// Drops the rings that have been kept for long enough.
    fn sweep(&mut self, remote: Option<&dyn Remote>) {
        if self.resting.is_empty() {
            return;
        }
        let now = Instant::now();
        let many = |count| count > MOST_RESTING;
        while let Some((until, topic)) = self.resting.front()
            && (*until <= now || many(self.resting.len()))
        {
            let is_due = |kept: &KeptRing| kept.until == Some(*until);
            if self.rings.get(topic).is_some_and(is_due) && !self.subscribers.contains_key(topic) {
                self.rings.remove(topic);
                if let Some(remote) = remote {
                    remote.want(topic, false);
                }
            }
            self.resting.pop_front();
        }
    }
}

/// Where the messages of a topic go.
struct Route {
    topic: Arc<str>,
    mailboxes: Vec<Subscribers>,
    ring: Option<Arc<Ring>>,
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

    /// Returns where the messages of a topic go; `None` if nobody wants them. No
    /// message is copied under the lock.
    fn route(&self, topic: &str) -> Option<Route> {
        let mut places = self.places();
        places.sweep(self.remote());
        let ring = places.rings.get_key_value(topic);
        let subscribed = places.subscribers.get_key_value(topic);
        let name = subscribed.map(|(name, _)| name);
        let name = name.or_else(|| ring.map(|(name, _)| name))?;
        Some(Route {
            topic: Arc::clone(name),
            mailboxes: places.mailboxes(name),
            ring: ring.map(|(_, kept)| Arc::clone(&kept.ring)),
        })
    }

    /// Returns the ring of a topic, which is made for its first reader of events.
    pub(super) fn ring(&self, topic: &str, limits: &EventLimits) -> Arc<Ring> {
        let mut places = self.places();
        places.sweep(self.remote());
        places.wake(topic);
        if let Some(kept) = places.rings.get(topic) {
            return Arc::clone(&kept.ring);
        }
        let ring = Arc::new(Ring::new(limits, &places.kept));
        let kept = KeptRing {
            ring: Arc::clone(&ring),
            until: None,
        };
        let name = Arc::from(topic);
        if let Some(remote) = self.remote() {
            remote.want(&name, true);
        }
        places.rings.insert(name, kept);
        ring
    }

    /// Joins these topics with those of other processes. Done once, before there are
    /// subscribers.
    pub fn join_with(&self, remote: Box<dyn Remote>) {
        // A second one would be a mistake of the caller, and is dropped.
        let _ = self.remote.set(remote);
    }

    fn remote(&self) -> Option<&dyn Remote> {
        self.remote.get().map(|it| &**it)
    }

    /// Sends a message to all subscribers of a topic but one, of which no more than
    /// `most` bytes wait in a mailbox, and to other processes.
    pub(super) fn publish(
        &self,
        topic: &str,
        kind: MessageKind,
        data: &[u8],
        except: Option<SubscriberId>,
        most: usize,
    ) -> Delivery {
        if let Some(remote) = self.remote()
            && is_name(topic)
        {
            remote.publish(&Arc::from(topic), kind, data);
        }
        self.send(topic, kind, data, except, most)
    }

    /// Sends a message of another process to all subscribers of a topic, of which no
    /// more than `most` bytes wait for a thread. Returns the number of those for
    /// which there is no room.
    pub fn receive(&self, topic: &str, kind: MessageKind, data: &[u8], most: usize) -> u64 {
        self.send(topic, kind, data, None, most).lost
    }

    /// Tells all readers of events that messages of other processes may be missing.
    pub fn miss(&self) {
        let rings: Vec<_> = {
            let places = self.places();
            let each = places.rings.iter();
            each.map(|(topic, kept)| (Arc::clone(topic), Arc::clone(&kept.ring)))
                .collect()
        };
        for (topic, ring) in rings {
            self.tell(&topic, &ring, Gap::Unknown);
        }
    }

    /// Tells the readers of a topic of messages that they do not get.
    fn tell(&self, topic: &Arc<str>, ring: &Arc<Ring>, gap: Gap) {
        ring.add_gap(gap, |event| {
            let mailboxes = self.places().mailboxes_by(topic, ring);
            let notice = Arc::new(Published::notice(Arc::clone(topic), event));
            for (mailbox, _) in mailboxes {
                // Without room, readers come again, and get it from the ring.
                mailbox.push(&notice);
            }
        });
    }

    fn send(
        &self,
        topic: &str,
        kind: MessageKind,
        data: &[u8],
        except: Option<SubscriberId>,
        most: usize,
    ) -> Delivery {
        let Some(Route {
            topic,
            mailboxes,
            ring,
        }) = self.route(topic)
        else {
            return Delivery::default();
        };
        let ring = ring.filter(|_| kind == MessageKind::Text);
        let refuse = |mailboxes: &[Subscribers], ring: Option<&Arc<Ring>>| {
            if let Some(ring) = ring {
                self.tell(&topic, ring, Gap::Of(1));
            }
            let count = mailboxes.iter().map(|(_, count)| count).sum();
            Delivery { count, lost: count }
        };
        if size(data.len()) > most {
            // No mailbox has room for it, so it is not copied.
            return refuse(&mailboxes, ring.as_ref());
        }
        let text = || std::str::from_utf8(data).ok();
        let numbered = ring.and_then(|ring| Some((ring, ring::lines(text()?))));
        // Its line ends make the event longer than the text.
        let length = numbered.as_ref().map_or(0, |(_, lines)| lines.len());
        if size(data.len() + length) > most {
            return refuse(&mailboxes, numbered.as_ref().map(|(ring, _)| ring));
        }
        let copy = Bytes::copy_from_slice(data);
        let push = |numbered: Option<(&Arc<Ring>, Event)>| {
            let (mailboxes, event) = match numbered {
                // Those of now: a reader that came while this one waited for the
                // ring, and looks into that when the message is there, gets it.
                Some((ring, event)) => (self.places().mailboxes_by(&topic, ring), Some(event)),
                None => (mailboxes, None),
            };
            let message = Arc::new(Published::new(topic, kind, copy, except, event));
            let full = mailboxes.iter().filter(|(its, _)| !its.push(&message));
            Delivery {
                count: mailboxes.iter().map(|(_, count)| count).sum(),
                lost: full.map(|(_, count)| count).sum(),
            }
        };
        let mut delivery = Delivery::default();
        match numbered {
            // All mailboxes get it before the next one, so that the numbers are in
            // their order.
            Some((ring, lines)) => ring.add(lines, |event| delivery = push(Some((&ring, event)))),
            None => delivery = push(None),
        }
        delivery
    }

    /// Adds a mailbox. Returns its number.
    pub(super) fn join(&self, mailbox: &Arc<Mailbox>) -> usize {
        let mut places = self.places();
        places.mailboxes.push(Arc::clone(mailbox));
        places.mailboxes.len() - 1
    }

    /// Counts a subscriber. Returns the topic's name, which all share.
    pub(super) fn add(&self, topic: &str, mailbox: usize) -> Arc<str> {
        let mut places = self.places();
        let known = places.subscribers.get_key_value(topic);
        let name = known.map_or_else(|| Arc::from(topic), |(name, _)| Arc::clone(name));
        if known.is_none()
            && let Some(remote) = self.remote()
        {
            remote.want(&name, true);
        }
        let of_topic = places.subscribers.entry(Arc::clone(&name)).or_default();
        *of_topic.entry(mailbox).or_default() += 1;
        name
    }

    /// Notes that a subscriber is gone.
    pub(super) fn remove(&self, topic: &str, mailbox: usize) {
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
        if of_topic.is_empty()
            && let Some((name, _)) = places.subscribers.remove_entry(topic)
        {
            places.rest(&name, self.remote());
        }
        places.sweep(self.remote());
    }

    /// Notes that all subscribers of a mailbox are gone.
    pub(super) fn leave<'t>(&self, topics: impl Iterator<Item = &'t Arc<str>>, mailbox: usize) {
        let mut places = self.places();
        for topic in topics {
            if let Some(of_topic) = places.subscribers.get_mut(topic) {
                of_topic.remove(&mailbox);
                if of_topic.is_empty() {
                    places.subscribers.remove(topic);
                    places.rest(topic, self.remote());
                }
            }
        }
    }

    /// Returns a number for a new subscriber.
    pub(super) fn new_id(&self) -> SubscriberId {
        SubscriberId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Maximum length of a topic's name, in bytes.
const MOST_NAME: usize = 256;

/// True if a text can be the name of a topic.
pub(super) fn is_name(topic: &str) -> bool {
    (1..=MOST_NAME).contains(&topic.len())
}

/// Outcome of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Number of subscribers.
    pub(super) count: u64,
    /// Subscribers whose mailbox had no room.
    pub(super) lost: u64,
}

/// A thread's mailbox, and how many subscribers of a topic the thread has.
type Subscribers = (Arc<Mailbox>, u64);
