use std::rc::Rc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList, WasmStr};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::message::MessageKind;
use netwasm_exchange::topics::connection::ConnectionTopics;

use crate::bindings::netwasm::net::connection_topics::Host;
use crate::bindings::netwasm::net::types::{ConnectionId, Error as WitError};
use crate::convert::called;
use crate::state::State;

/// Replaces the generated function that carries many bytes. This one reads the
/// guest's memory in place.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/connection-topics@0.2.0")?;
    interface.func_wrap(
        "publish",
        |store: StoreContextMut<'_, State>,
         (topic, data, except): (WasmStr, WasmList<u8>, Option<ConnectionId>)| {
            let (topic, data) = (topic.to_str(&store)?, data.as_le_slice(&store));
            Ok((store.data().publish_but(&topic, data, except),))
        },
    )
}

impl State {
    /// Sends bytes to the subscribers of a topic but one.
    fn publish_but(&self, topic: &str, data: &[u8], except: Option<ConnectionId>) -> u64 {
        let except = except.and_then(|it| self.subscribed.get(&it.number));
        let except = except.map(|it| it.id());
        let topics = &self.local.topics;
        topics.publish(topic, MessageKind::Binary, data, except)
    }
}

impl Host for State {
    fn subscribe(
        &mut self,
        this: ConnectionId,
        topic: String,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let Some(transport) = self.transport(this).map(Rc::clone) else {
            return Ok(Err(called(ConnectionError::InvalidState)));
        };
        let topics = &self.local.topics;
        let its = self.subscribed.entry(this.number);
        let its = its.or_insert_with(|| ConnectionTopics::new(&transport, topics));
        Ok(its.subscribe(&topic).map_err(called))
    }

    fn unsubscribe(&mut self, this: ConnectionId, topic: String) -> wasmtime::Result<()> {
        if let Some(its) = self.subscribed.get(&this.number) {
            its.unsubscribe(&topic);
        }
        Ok(())
    }

    fn publish(
        &mut self,
        topic: String,
        data: Vec<u8>,
        except: Option<ConnectionId>,
    ) -> wasmtime::Result<u64> {
        Ok(self.publish_but(&topic, &data, except))
    }

    fn subscribers(&mut self, topic: String) -> wasmtime::Result<u64> {
        Ok(self.local.topics.count(&topic))
    }
}
