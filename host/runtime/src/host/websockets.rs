use std::rc::Rc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList, WasmStr};

use netwasm_base::error::ConnectionError;
use netwasm_exchange::websocket::{MessageKind, Socket};

use crate::bindings::netwasm::net::types::{ConnectionInfo, Error as WitError};
use crate::bindings::netwasm::net::websockets::{Host, WebsocketId};
use crate::convert::called;
use crate::state::State;

/// Room on a connection that ignores messages.
const UNLIMITED: u64 = u64::MAX;

/// Replaces the generated functions that carry many bytes. These read the guest's
/// memory in place.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/websockets@0.2.0")?;
    interface.func_wrap(
        "send-text",
        |store: StoreContextMut<'_, State>, (this, text): (WebsocketId, WasmStr)| {
            let text = text.to_str(&store)?;
            Ok((store
                .data()
                .send_message(this, MessageKind::Text, text.as_bytes()),))
        },
    )?;
    interface.func_wrap(
        "send-binary",
        |store: StoreContextMut<'_, State>, (this, data): (WebsocketId, WasmList<u8>)| {
            let data = data.as_le_slice(&store);
            Ok((store.data().send_message(this, MessageKind::Binary, data),))
        },
    )
}

impl State {
    /// Returns the connection of a number; `None` if it is closed, or was never
    /// given.
    pub(super) fn websocket(&self, this: WebsocketId) -> Option<&Rc<Socket>> {
        self.websockets.get(this.number)
    }

    fn send_message(&self, this: WebsocketId, kind: MessageKind, data: &[u8]) -> u64 {
        self.websocket(this)
            .map_or(UNLIMITED, |socket| socket.send(kind, data))
    }
}

impl Host for State {
    fn send_text(&mut self, this: WebsocketId, text: String) -> wasmtime::Result<u64> {
        Ok(self.send_message(this, MessageKind::Text, text.as_bytes()))
    }

    fn send_binary(&mut self, this: WebsocketId, data: Vec<u8>) -> wasmtime::Result<u64> {
        Ok(self.send_message(this, MessageKind::Binary, &data))
    }

    fn room(&mut self, this: WebsocketId) -> wasmtime::Result<u64> {
        Ok(self
            .websocket(this)
            .map_or(UNLIMITED, |socket| socket.room()))
    }

    fn close(
        &mut self,
        this: WebsocketId,
        code: u16,
        reason: String,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let socket = self.websocket(this).ok_or(ConnectionError::InvalidState);
        let closed = socket.and_then(|socket| socket.close(code, &reason));
        Ok(closed.map_err(called))
    }

    fn pause_reading(&mut self, this: WebsocketId) -> wasmtime::Result<()> {
        if let Some(socket) = self.websocket(this) {
            socket.pause(true);
        }
        Ok(())
    }

    fn resume_reading(&mut self, this: WebsocketId) -> wasmtime::Result<()> {
        if let Some(socket) = self.websocket(this) {
            socket.pause(false);
        }
        Ok(())
    }

    fn buffered(&mut self, this: WebsocketId) -> wasmtime::Result<u64> {
        Ok(self.websocket(this).map_or(0, |socket| socket.queued()))
    }

    fn is_closing(&mut self, this: WebsocketId) -> wasmtime::Result<bool> {
        Ok(self
            .websocket(this)
            .is_none_or(|socket| socket.is_closing()))
    }

    fn info(&mut self, this: WebsocketId) -> wasmtime::Result<ConnectionInfo> {
        let socket = self.websocket(this);
        Ok(socket.map(|socket| &**socket.transport()).into())
    }
}
