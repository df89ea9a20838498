//! Topics of a service that are joined with those of other processes, over a server
//! (`--topics`).

use std::sync::{Arc, Weak};

use netwasm_base::config::{Config, TopicsServer};
use netwasm_base::counters::Counters;
use netwasm_base::error::Error;
use netwasm_exchange::message::MessageKind;
use netwasm_exchange::topics::{Remote, Topics};
use netwasm_keyvalue::channels::{Channels, User};
use netwasm_net::env::Env as NetEnv;

use crate::stores;

/// Kinds of messages on the server.
const TEXT: u8 = 0;
const BINARY: u8 = 1;

/// The way to the other processes.
struct Joined(Channels);

/// Taker of their messages.
struct Receiver {
    topics: Weak<Topics>,
    counters: Arc<Counters>,
    /// Maximum of bytes that wait for a thread.
    most: usize,
}

/// Returns the topics of a service, joined if the settings want that.
///
/// # Errors
/// Fails if the system gives no thread.
pub(crate) fn topics(config: &Config, net: &NetEnv) -> Result<Arc<Topics>, Error> {
    let topics = Arc::<Topics>::default();
    if let Some(TopicsServer(url)) = &config.topics {
        let most = config.limits.max_write_buffer;
        let receiver = Receiver {
            topics: Arc::downgrade(&topics),
            counters: Arc::clone(&net.counters),
            most,
        };
        let prefix = match &*url.prefix {
            "" => format!("netwasm:{}:", config.guest.name),
            prefix => prefix.to_owned(),
        };
        let dial = stores::dial(&net.tls);
        let channels = Channels::open(url, &dial, prefix, most, receiver);
        let channels = channels.map_err(Error::Thread)?;
        topics.join_with(Box::new(Joined(channels)));
    }
    Ok(topics)
}

impl Remote for Joined {
    fn publish(&self, topic: &Arc<str>, kind: MessageKind, data: &[u8]) {
        let kind = match kind {
            MessageKind::Text => TEXT,
            MessageKind::Binary => BINARY,
        };
        self.0.publish(topic, kind, data);
    }

    fn want(&self, topic: &Arc<str>, wanted: bool) {
        match wanted {
            true => self.0.subscribe(topic),
            false => self.0.unsubscribe(topic),
        }
    }
}

impl User for Receiver {
    fn received(&self, name: &str, kind: u8, data: &[u8]) {
        let kind = match kind {
            TEXT if std::str::from_utf8(data).is_ok() => MessageKind::Text,
            BINARY => MessageKind::Binary,
            // Of somebody else, or of a later version.
            _ => return,
        };
        self.counters.joined.received.add();
        if let Some(topics) = self.topics.upgrade() {
            let dropped = topics.receive(name, kind, data, self.most);
            self.counters.joined.dropped.add_many(dropped);
        }
    }

    fn sent(&self, count: u64) {
        self.counters.joined.sent.add_many(count);
    }

    fn lost(&self, count: u64) {
        self.counters.joined.lost.add_many(count);
    }

    fn joined_again(&self) {
        if let Some(topics) = self.topics.upgrade() {
            topics.miss();
        }
    }
}
