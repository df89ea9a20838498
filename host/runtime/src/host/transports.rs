use std::rc::Rc;
use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, WasmList};

use netwasm_base::error::ConnectionError;
use netwasm_net::transport::Transport;

use crate::bindings::netwasm::net::transports::Host;
use crate::bindings::netwasm::net::types::{
    ConnectionId, ConnectionInfo, Error as WitError, ProxyInfo, SocketOption, TlsRole,
};
use crate::convert::{called, session};
use crate::handles::FileHandle;
use crate::state::State;

/// Result of a function. The outer error is a trap.
type Called<T> = wasmtime::Result<Result<T, WitError>>;

/// Room on a connection that ignores writes.
const UNLIMITED: u64 = u64::MAX;

/// Replaces the generated function that carries many bytes. This one reads the
/// guest's memory in place, so a write goes from there to the socket without a
/// copy.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("netwasm:net/transports@0.2.0")?;
    interface.func_wrap(
        "write",
        |store: StoreContextMut<'_, State>, (this, data): (ConnectionId, WasmList<u8>)| {
            let Some(transport) = store.data().transport(this) else {
                return Ok((UNLIMITED,));
            };
            transport.write(data.as_le_slice(&store));
            Ok((transport.room(),))
        },
    )
}

impl State {
    /// Returns the connection of a number; `None` if it is lost, or was never
    /// given.
    pub(super) fn transport(&self, this: ConnectionId) -> Option<&Rc<Transport>> {
        self.transports.get(this.number)
    }

    /// Does something, and nothing on a connection that is lost.
    fn unless_lost(
        &self,
        this: ConnectionId,
        operation: impl FnOnce(&Rc<Transport>),
    ) -> wasmtime::Result<()> {
        if let Some(transport) = self.transport(this) {
            operation(transport);
        }
        Ok(())
    }

    /// Does something that may fail, and fails on a connection that is lost.
    fn with_transport<T>(
        &self,
        this: ConnectionId,
        operation: impl FnOnce(&Rc<Transport>) -> Result<T, ConnectionError>,
    ) -> Called<T> {
        let transport = self.transport(this).ok_or(ConnectionError::InvalidState);
        Ok(transport.and_then(operation).map_err(called))
    }
}

impl Host for State {
    fn write(&mut self, this: ConnectionId, data: Vec<u8>) -> wasmtime::Result<u64> {
        Ok(self.transport(this).map_or(UNLIMITED, |transport| {
            transport.write(&data);
            transport.room()
        }))
    }

    fn writelines(&mut self, this: ConnectionId, data: Vec<Vec<u8>>) -> wasmtime::Result<u64> {
        Ok(self.transport(this).map_or(UNLIMITED, |transport| {
            let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            transport.write_vectored(&slices);
            transport.room()
        }))
    }

    fn room(&mut self, this: ConnectionId) -> wasmtime::Result<u64> {
        Ok(self
            .transport(this)
            .map_or(UNLIMITED, |transport| transport.room()))
    }

    fn want_write(&mut self, this: ConnectionId) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.want_write())
    }

    fn write_eof(&mut self, this: ConnectionId) -> Called<()> {
        self.with_transport(this, |transport| transport.write_eof())
    }

    fn can_write_eof(&mut self, this: ConnectionId) -> wasmtime::Result<bool> {
        Ok(self
            .transport(this)
            .is_some_and(|transport| transport.can_write_eof()))
    }

    fn send_file(
        &mut self,
        this: ConnectionId,
        file: Resource<FileHandle>,
        offset: u64,
        length: Option<u64>,
    ) -> Called<u64> {
        let file = self.file(&file)?;
        self.with_transport(this, |transport| transport.send_file(file, offset, length))
    }

    fn relay(&mut self, this: ConnectionId, to: ConnectionId) -> Called<()> {
        let its = self.subscribed.get(&to.number);
        if its.is_some_and(|its| !its.is_empty()) {
            tracing::warn!(
                "nothing is relayed to a connection that is subscribed to topics: unsubscribe first"
            );
            return Ok(Err(called(ConnectionError::InvalidState)));
        }
        let to = self.transport(to).ok_or(ConnectionError::InvalidState);
        self.with_transport(this, |transport| transport.relay(to?))
    }

    fn start_tls(&mut self, this: ConnectionId, role: TlsRole, received: Vec<u8>) -> Called<()> {
        self.with_transport(this, |transport| {
            if !transport.can_start_tls() {
                return Err(ConnectionError::InvalidState);
            }
            transport.start_tls(session(role, &self.local.env.net)?, &received)
        })
    }

    fn close(&mut self, this: ConnectionId) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.close())
    }

    fn abort(&mut self, this: ConnectionId) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.abort())
    }

    fn is_closing(&mut self, this: ConnectionId) -> wasmtime::Result<bool> {
        Ok(self
            .transport(this)
            .is_none_or(|transport| transport.is_closing()))
    }

    fn pause_reading(&mut self, this: ConnectionId) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.pause_receiving())
    }

    fn resume_reading(&mut self, this: ConnectionId) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.resume_receiving())
    }

    fn set_idle_timeout(&mut self, this: ConnectionId, after: Option<u64>) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| {
            transport.set_idle_timeout(after.map(Duration::from_nanos));
        })
    }

    fn set_option(&mut self, this: ConnectionId, option: SocketOption) -> Called<()> {
        self.with_transport(this, |transport| transport.set_option(option.into()))
    }

    fn set_write_buffer_limits(
        &mut self,
        this: ConnectionId,
        high: u64,
        low: u64,
    ) -> wasmtime::Result<()> {
        self.unless_lost(this, |transport| transport.set_watermarks(high, low))
    }

    fn get_write_buffer_limits(&mut self, this: ConnectionId) -> wasmtime::Result<(u64, u64)> {
        Ok(self
            .transport(this)
            .map_or((0, 0), |transport| transport.watermarks()))
    }

    fn get_write_buffer_size(&mut self, this: ConnectionId) -> wasmtime::Result<u64> {
        Ok(self
            .transport(this)
            .map_or(0, |transport| transport.queued()))
    }

    fn info(&mut self, this: ConnectionId) -> wasmtime::Result<ConnectionInfo> {
        Ok(self.transport(this).map(|it| &**it).into())
    }

    fn proxied(&mut self, this: ConnectionId) -> wasmtime::Result<Option<ProxyInfo>> {
        let told = self.transport(this).and_then(|it| it.proxied());
        Ok(told.map(Into::into))
    }
}
