//! A message of a topic, and the number of a subscriber.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::message::MessageKind;

use super::ring::Event;

/// Bytes that a message takes besides its content: it is counted, in bytes, as
/// what it and its frames keep.
pub(super) const OVERHEAD: usize = 512;

/// A message of a topic.
#[derive(Debug)]
pub struct Published {
    pub(super) topic: Arc<str>,
    kind: MessageKind,
    data: Bytes,
    /// Subscriber that does not get it.
    pub(super) except: Option<SubscriberId>,
    /// It as a frame, and as a frame that is compressed by itself.
    plain: OnceLock<Bytes>,
    packed: OnceLock<Bytes>,
    /// It as an event, if the topic is read as events.
    pub(super) event: Option<Event>,
    /// True if it is for readers of events alone, which it tells of a gap.
    pub(super) is_notice: bool,
}

impl Published {
    /// Returns a message, and as an event if the topic is read as events.
    pub(super) fn new(
        topic: Arc<str>,
        kind: MessageKind,
        data: Bytes,
        except: Option<SubscriberId>,
        event: Option<Event>,
    ) -> Self {
        Self {
            topic,
            kind,
            data,
            except,
            plain: OnceLock::new(),
            packed: OnceLock::new(),
            event,
            is_notice: false,
        }
    }

    /// Returns a message for readers of events alone.
    pub(super) fn notice(topic: Arc<str>, event: Event) -> Self {
        Self {
            is_notice: true,
            ..Self::new(topic, MessageKind::Text, Bytes::new(), None, Some(event))
        }
    }

    /// Returns its kind.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Returns the bytes that it counts for in a mailbox.
    pub(super) fn size(&self) -> usize {
        let event = self.event.as_ref();
        size(self.data.len() + event.map_or(0, |it| it.text.len()))
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
pub(super) fn size(length: usize) -> usize {
    length.saturating_add(OVERHEAD)
}

/// A subscriber of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriberId(pub(super) u64);
