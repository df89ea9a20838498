//! Messages on their way to the subscribers of a thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::published::Published;

/// Maximum of messages, and about that of bytes, that a subscriber gets at once.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

/// Messages on their way to the subscribers of a thread.
#[derive(Debug)]
pub(super) struct Mailbox {
    queue: Mutex<MailQueue>,
    /// Maximum of bytes.
    most: usize,
}

#[derive(Debug, Default)]
struct MailQueue {
    messages: VecDeque<Arc<Published>>,
    bytes: usize,
    /// Number of the last event of each topic for which there was no room.
    lost: HashMap<Arc<str>, u64>,
    waker: Option<Waker>,
    /// True once nobody takes anything.
    closed: bool,
}

/// Next content of a mailbox.
#[derive(Debug)]
pub(super) enum Mail {
    /// Messages of one topic.
    Messages(Vec<Arc<Published>>),
    /// Number of an event of a topic for which there was no room. All that came
    /// before it has been taken.
    Lost(Arc<str>, u64),
    /// Nobody takes anything any more.
    Closed,
}

impl Mailbox {
    /// Returns a mailbox in which up to so many bytes wait.
    pub(super) fn new(most: usize) -> Self {
        Self {
            queue: Mutex::default(),
            most,
        }
    }

    /// Closes it: nobody takes anything.
    pub(super) fn close(&self) {
        let closed = MailQueue {
            closed: true,
            ..MailQueue::default()
        };
        let left = std::mem::replace(&mut *self.queue(), closed);
        if let Some(waker) = left.waker {
            waker.wake();
        }
    }

    fn queue(&self) -> MutexGuard<'_, MailQueue> {
        // No code panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message. Returns false if there is no room for it, of which readers of
    /// events are told.
    pub(super) fn push(&self, message: &Arc<Published>) -> bool {
        let mut queue = self.queue();
        if queue.closed {
            return true;
        }
        let bytes = queue.bytes.saturating_add(message.size());
        let fits = bytes <= self.most;
        if fits {
            queue.bytes = bytes;
            queue.messages.push_back(Arc::clone(message));
        } else if let Some(event) = &message.event {
            queue.lost.insert(Arc::clone(&message.topic), event.number);
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        fits
    }

    /// Takes what is next.
    pub(super) fn poll_mail(&self, cx: &Context<'_>) -> Poll<Mail> {
        let mut queue = self.queue();
        let Some(first) = queue.messages.pop_front() else {
            if queue.closed {
                return Poll::Ready(Mail::Closed);
            }
            let topic = queue.lost.keys().next().cloned();
            if let Some((topic, number)) = topic.and_then(|it| queue.lost.remove_entry(&it)) {
                return Poll::Ready(Mail::Lost(topic, number));
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
        Poll::Ready(Mail::Messages(batch))
    }
}
