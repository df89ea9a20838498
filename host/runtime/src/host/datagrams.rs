use std::rc::Rc;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmList};

use netwasm_base::error::ConnectionError;
use netwasm_net::udp::Datagrams;

use crate::bindings::netwasm::net::datagrams::Host;
use crate::bindings::netwasm::net::types::{
    Error as WitError, IpSocketAddress, SocketId, SocketOption,
};
use crate::convert::called;
use crate::state::State;

/// Replaces the generated function that carries many bytes, as for connections.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/datagrams@0.2.0")?;
    interface.func_wrap(
        "send",
        |store: StoreContextMut<'_, State>, (this, data): (SocketId, WasmList<u8>)| {
            let sent = store.data().send(this, data.as_le_slice(&store));
            Ok((sent.map_err(called),))
        },
    )?;
    interface.func_wrap(
        "send-to",
        |store: StoreContextMut<'_, State>,
         (this, data, to): (SocketId, WasmList<u8>, IpSocketAddress)| {
            let sent = store.data().send_to(this, data.as_le_slice(&store), to);
            Ok((sent.map_err(called),))
        },
    )
}

impl State {
    /// Returns the socket of a number; `None` if it is closed, or was never
    /// given.
    fn socket(&self, this: SocketId) -> Option<&Rc<Datagrams>> {
        self.datagrams.get(this.number)
    }

    /// Sends to the peer of a connected socket. The policy was asked when it was
    /// connected.
    fn send(&self, this: SocketId, data: &[u8]) -> Result<(), ConnectionError> {
        let socket = self.socket(this).ok_or(ConnectionError::InvalidState)?;
        let peer = socket.peer().ok_or(ConnectionError::InvalidState)?;
        socket.send_to(data, peer)
    }

    /// Sends to a peer that has sent something, or to an address that the
    /// command line allows.
    fn send_to(
        &self,
        this: SocketId,
        data: &[u8],
        to: IpSocketAddress,
    ) -> Result<(), ConnectionError> {
        let socket = self.socket(this).ok_or(ConnectionError::InvalidState)?;
        let to = to.into();
        let (env, resolver) = (&self.local.env, &self.local.worker.resolver);
        if socket.peer() != Some(to) && !socket.knows(to) {
            let decided = env.net.policy.send_to(to, &resolver.names());
            env.net.decide(decided)?;
        }
        socket.send_to(data, to)
    }
}

impl Host for State {
    fn send_to(
        &mut self,
        this: SocketId,
        data: Vec<u8>,
        to: IpSocketAddress,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(Self::send_to(self, this, &data, to).map_err(called))
    }

    fn send(&mut self, this: SocketId, data: Vec<u8>) -> wasmtime::Result<Result<(), WitError>> {
        Ok(Self::send(self, this, &data).map_err(called))
    }

    fn remote_address(&mut self, this: SocketId) -> wasmtime::Result<Option<IpSocketAddress>> {
        let peer = self.socket(this).and_then(|socket| socket.peer());
        Ok(peer.map(Into::into))
    }

    fn set_option(
        &mut self,
        this: SocketId,
        option: SocketOption,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let socket = self.socket(this).ok_or(ConnectionError::InvalidState);
        let set = socket.and_then(|socket| socket.set_option(option.into()));
        Ok(set.map_err(called))
    }

    fn local_address(&mut self, this: SocketId) -> wasmtime::Result<Option<IpSocketAddress>> {
        Ok(self.socket(this).map(|socket| socket.local().into()))
    }

    fn close(&mut self, this: SocketId) -> wasmtime::Result<()> {
        if let Some(socket) = self.socket(this) {
            socket.close();
        }
        Ok(())
    }

    fn abort(&mut self, this: SocketId) -> wasmtime::Result<()> {
        if let Some(socket) = self.socket(this) {
            socket.abort();
        }
        Ok(())
    }

    fn is_closing(&mut self, this: SocketId) -> wasmtime::Result<bool> {
        Ok(self.socket(this).is_none_or(|socket| socket.is_closing()))
    }
}
