//! Host functions of the package for async guests.

use std::rc::Rc;
use std::time::Duration;

use wasmtime::component::{
    Access, Accessor, FutureReader, HasSelf, Linker, Resource, StreamReader,
};

use netwasm_base::address::Address;
use netwasm_base::error::ConnectionError;
use netwasm_net::env::Env;
use netwasm_net::stream::Stream;
use netwasm_net::tls::SessionInfo;
use tokio::sync::oneshot;

use crate::bindings::netwasm::net::{log, metrics, shared, types};
use crate::concurrent::bindings::netwasm::net::streams::{
    Host, HostConnection, HostConnectionWithStore,
};
use crate::concurrent::handles::ConnectionHandle;
use crate::concurrent::state::AsyncState;
use crate::concurrent::streams;
use crate::convert::{called, lost, session};
use crate::measures::Measures;
use crate::sharing::Sharing;

type Told = Result<(), types::Error>;

/// Adds the interfaces that event guests have too.
///
/// # Errors
/// Fails if one of them is already linked.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    metrics::add_to_linker::<_, HasSelf<Measures>>(linker, |state| &mut state.measures)?;
    shared::add_to_linker::<_, Sharing<'static>>(linker, |state| Sharing(state.env()))?;
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

    fn start_tls(
        accessor: &Accessor<AsyncState, Self>,
        connection: Resource<ConnectionHandle>,
        role: types::TlsRole,
        received: Vec<u8>,
    ) -> impl Future<Output = wasmtime::Result<Result<types::TlsInfo, types::Error>>> + Send {
        let begun = accessor.with(|mut store| -> wasmtime::Result<_> {
            let state = store.get();
            let stream = connection_of(state, &connection)?;
            Ok(begin_tls(&stream, role, &received, &state.env().net))
        });
        async move {
            let told = match begun? {
                Ok(outcome) => match outcome.await {
                    Ok(Ok(info)) => return Ok(Ok(info.into())),
                    Ok(Err(reason)) => lost(&reason),
                    // The connection is gone.
                    Err(_) => called(ConnectionError::Aborted),
                },
                Err(error) => called(error),
            };
            Ok(Err(told))
        }
    }
}

impl HostConnection for AsyncState {
    fn abort(&mut self, connection: Resource<ConnectionHandle>) -> wasmtime::Result<()> {
        connection_of(self, &connection)?.abort();
        Ok(())
    }

    fn set_idle_timeout(
        &mut self,
        connection: Resource<ConnectionHandle>,
        after: Option<u64>,
    ) -> wasmtime::Result<()> {
        let stream = connection_of(self, &connection)?;
        (stream.transport()).set_idle_timeout(after.map(Duration::from_nanos));
        Ok(())
    }

    fn set_option(
        &mut self,
        connection: Resource<ConnectionHandle>,
        option: types::SocketOption,
    ) -> wasmtime::Result<Told> {
        let stream = connection_of(self, &connection)?;
        let set = stream.transport().set_option(option.into());
        Ok(set.map_err(called))
    }

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

    fn proxied(
        &mut self,
        connection: Resource<ConnectionHandle>,
    ) -> wasmtime::Result<Option<types::ProxyInfo>> {
        let stream = connection_of(self, &connection)?;
        Ok(stream.transport().proxied().map(Into::into))
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

/// Begins TLS on a connection's streams.
fn begin_tls(
    stream: &Stream,
    role: types::TlsRole,
    received: &[u8],
    env: &Env,
) -> Result<oneshot::Receiver<Result<SessionInfo, ConnectionError>>, ConnectionError> {
    if !stream.transport().can_start_tls() {
        return Err(ConnectionError::InvalidState);
    }
    stream.start_tls(session(role, env)?, received)
}

fn connection_of(
    state: &mut AsyncState,
    connection: &Resource<ConnectionHandle>,
) -> wasmtime::Result<Rc<Stream>> {
    let handle: &ConnectionHandle = state.table.get(connection)?;
    Ok(Rc::clone(&handle.0))
}
