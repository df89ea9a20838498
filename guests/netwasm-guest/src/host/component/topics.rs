//! Topics of byte-stream connections, by the bindings.

use super::Transport;
use crate::Result;
use crate::bindings::netwasm::net::connection_topics;

impl Transport {
    pub(crate) fn subscribe(&self, topic: &str) -> Result<()> {
        Ok(connection_topics::subscribe(self.0, topic)?)
    }

    pub(crate) fn unsubscribe(&self, topic: &str) {
        connection_topics::unsubscribe(self.0, topic);
    }

    /// Sends bytes to all subscribers of a topic but this one.
    pub(crate) fn publish(&self, topic: &str, data: &[u8]) -> u64 {
        connection_topics::publish(topic, data, Some(self.0))
    }
}
