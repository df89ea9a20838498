//! Host functions of the package for async guests.

use std::rc::Rc;

use wasmtime::component::{Access, FutureReader, HasSelf, Linker, Resource, StreamReader};

use netwasm_base::address::Address;
use netwasm_net::stream::Stream;

use crate::bindings::netwasm::net::{log, types};
use crate::concurrent::bindings::netwasm::net::streams::{
    Host, HostConnection, HostConnectionWithStore,
};
use crate::concurrent::handles::ConnectionHandle;
use crate::concurrent::state::AsyncState;
use crate::concurrent::streams;

type Told = Result<(), types::Error>;

/// Adds the interfaces that event guests have too.
///
/// # Errors
/// Fails if one of them is already linked.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    types::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl types::Host for AsyncState {}
impl Host for AsyncState {}

impl log::Host for AsyncState {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.env().log.write(level.into(), &message);
        Ok(())
    }
}

impl HostConnectionWithStore<AsyncState> for HasSelf<AsyncState> {
    fn receive(
        mut store: Access<'_, AsyncState, Self>,
        connection: Resource<ConnectionHandle>,
    ) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Told>)> {
        let stream = connection_of(store.data_mut(), &connection)?;
        streams::begin_receive(&mut store, Some(stream))
    }

    fn send(
        mut store: Access<'_, AsyncState, Self>,
        connection: Resource<ConnectionHandle>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<FutureReader<Told>> {
        let stream = connection_of(store.data_mut(), &connection)?;
        streams::begin_send(&mut store, Some(stream), data)
    }
}

impl HostConnection for AsyncState {
    fn info(
        &mut self,
        connection: Resource<ConnectionHandle>,
    ) -> wasmtime::Result<types::ConnectionInfo> {
        let stream = connection_of(self, &connection)?;
        let transport = stream.transport();
        let local = transport.local().unwrap_or(Address::Unix(None));
        Ok(types::ConnectionInfo {
            peer: transport.peer().into(),
            local: (&local).into(),
            tls: transport.session_info().map(Into::into),
        })
    }

    fn drop(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn connection_of(
    state: &mut AsyncState,
    connection: &Resource<ConnectionHandle>,
) -> wasmtime::Result<Rc<Stream>> {
    let handle: &ConnectionHandle = state.table.get(connection)?;
    Ok(Rc::clone(&handle.0))
}
