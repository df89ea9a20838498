use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList, WasmStr};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::message::MessageKind;

use crate::bindings::netwasm::net::topics::Host;
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::bindings::netwasm::net::websockets::WebsocketId;
use crate::convert::called;
use crate::state::State;

/// Replaces the generated functions that carry many bytes. These read the guest's
/// memory in place.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/topics@0.2.0")?;
    interface.func_wrap(
        "publish-text",
        |store: StoreContextMut<'_, State>,
         (topic, text, except): (WasmStr, WasmStr, Option<WebsocketId>)| {
            let (topic, text) = (topic.to_str(&store)?, text.to_str(&store)?);
            let state = store.data();
            Ok((state.publish(&topic, MessageKind::Text, text.as_bytes(), except),))
        },
    )?;
    interface.func_wrap(
        "publish-binary",
        |store: StoreContextMut<'_, State>,
         (topic, data, except): (WasmStr, WasmList<u8>, Option<WebsocketId>)| {
            let (topic, data) = (topic.to_str(&store)?, data.as_le_slice(&store));
            let state = store.data();
            Ok((state.publish(&topic, MessageKind::Binary, data, except),))
        },
    )
}

impl State {
    fn publish(
        &self,
        topic: &str,
        kind: MessageKind,
        data: &[u8],
        except: Option<WebsocketId>,
    ) -> u64 {
        let except = except.and_then(|it| self.websocket(it));
        let except = except.map(|socket| socket.id());
        self.local.topics.publish(topic, kind, data, except)
    }
}

impl Host for State {
    fn subscribe(
        &mut self,
        this: WebsocketId,
        topic: String,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let socket = self.websocket(this).ok_or(ConnectionError::InvalidState);
        let subscribed = socket.and_then(|socket| socket.subscribe(&topic));
        Ok(subscribed.map_err(called))
    }

    fn unsubscribe(&mut self, this: WebsocketId, topic: String) -> wasmtime::Result<()> {
        if let Some(socket) = self.websocket(this) {
            socket.unsubscribe(&topic);
        }
        Ok(())
    }

    fn publish_text(
        &mut self,
        topic: String,
        text: String,
        except: Option<WebsocketId>,
    ) -> wasmtime::Result<u64> {
        Ok(self.publish(&topic, MessageKind::Text, text.as_bytes(), except))
    }

    fn publish_binary(
        &mut self,
        topic: String,
        data: Vec<u8>,
        except: Option<WebsocketId>,
    ) -> wasmtime::Result<u64> {
        Ok(self.publish(&topic, MessageKind::Binary, &data, except))
    }

    fn subscribers(&mut self, topic: String) -> wasmtime::Result<u64> {
        Ok(self.local.topics.count(&topic))
    }
}
