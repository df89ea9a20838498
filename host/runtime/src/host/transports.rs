use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, WasmList};

use netwasm_base::error::ConnectionError;
use netwasm_net::tls::Tls;

use crate::bindings::netwasm::net::transports::{
    Host, HostDatagramTransport, HostTransport, TlsRole,
};
use crate::bindings::netwasm::net::types::{ConnectionInfo, Error as WitError, IpSocketAddress};
use crate::convert::{called, client_tls};
use crate::handles::{DatagramHandle, FileHandle, TransportHandle};
use crate::state::State;

/// Replaces the generated functions that carry many bytes. These read the
/// guest's memory in place, so a write goes from there to the socket without a
/// copy.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut interface = linker.instance("netwasm:net/transports@0.2.0")?;
    interface.func_wrap(
        "[method]transport.write",
        |store: StoreContextMut<'_, State>,
         (this, data): (Resource<TransportHandle>, WasmList<u8>)| {
            let transport = store.data().transport(&this)?;
            transport.write(data.as_le_slice(&store));
            Ok((transport.room(),))
        },
    )?;
    interface.func_wrap(
        "[method]datagram-transport.send-to",
        |store: StoreContextMut<'_, State>,
         (this, data, to): (Resource<DatagramHandle>, WasmList<u8>, IpSocketAddress)| {
            let sent = send_to(store.data(), &this, data.as_le_slice(&store), to)?;
            Ok((sent.map_err(called),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Sends to a peer that has sent something, or to an address that the command
/// line allows.
fn send_to(
    state: &State,
    this: &Resource<DatagramHandle>,
    data: &[u8],
    to: IpSocketAddress,
) -> wasmtime::Result<Result<(), ConnectionError>> {
    let datagrams = state.datagrams(this)?;
    let to = to.into();
    let (env, resolver) = (&state.local.env, &state.local.worker.resolver);
    if !datagrams.knows(to)
        && let Err(denied) = env.net.policy.send_to(to, &resolver.names())
    {
        env.net.deny(&denied);
        return Ok(Err(ConnectionError::AccessDenied));
    }
    Ok(datagrams.send_to(data, to))
}

impl Host for State {}

impl HostTransport for State {
    fn write(&mut self, this: Resource<TransportHandle>, data: Vec<u8>) -> wasmtime::Result<u64> {
        let transport = self.transport(&this)?;
        transport.write(&data);
        Ok(transport.room())
    }

    fn writelines(
        &mut self,
        this: Resource<TransportHandle>,
        data: Vec<Vec<u8>>,
    ) -> wasmtime::Result<u64> {
        let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let transport = self.transport(&this)?;
        transport.write_vectored(&slices);
        Ok(transport.room())
    }

    fn room(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<u64> {
        Ok(self.transport(&this)?.room())
    }

    fn want_write(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.transport(&this)?.want_write();
        Ok(())
    }

    fn write_eof(
        &mut self,
        this: Resource<TransportHandle>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(self.transport(&this)?.write_eof().map_err(called))
    }

    fn can_write_eof(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<bool> {
        Ok(self.transport(&this)?.can_write_eof())
    }

    fn send_file(
        &mut self,
        this: Resource<TransportHandle>,
        file: Resource<FileHandle>,
        offset: u64,
        length: Option<u64>,
    ) -> wasmtime::Result<Result<u64, WitError>> {
        let file = self.file(&file)?;
        let sent = self.transport(&this)?.send_file(file, offset, length);
        Ok(sent.map_err(called))
    }

    fn relay(
        &mut self,
        this: Resource<TransportHandle>,
        to: Resource<TransportHandle>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let relayed = self.transport(&this)?.relay(self.transport(&to)?);
        Ok(relayed.map_err(called))
    }

    fn start_tls(
        &mut self,
        this: Resource<TransportHandle>,
        role: TlsRole,
        received: Vec<u8>,
    ) -> wasmtime::Result<Result<(), WitError>> {
        let transport = self.transport(&this)?;
        if !transport.can_start_tls() {
            return Ok(Err(called(ConnectionError::InvalidState)));
        }
        let tls = &self.local.env.net.tls;
        let session = match role {
            TlsRole::Server => match tls.server() {
                Some(config) => Tls::accept(config),
                None => {
                    tracing::warn!("start-tls needs a certificate: --cert FILE --key FILE");
                    Err(ConnectionError::NotSupported)
                }
            },
            TlsRole::Client(client) => {
                client_tls(client, None).and_then(|client| tls.connect(&client))
            }
        };
        let started = session.and_then(|session| transport.start_tls(session, &received));
        Ok(started.map_err(called))
    }

    fn close(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.transport(&this)?.close();
        Ok(())
    }

    fn abort(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.transport(&this)?.abort();
        Ok(())
    }

    fn is_closing(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<bool> {
        Ok(self.transport(&this)?.is_closing())
    }

    fn pause_reading(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.transport(&this)?.pause_receiving();
        Ok(())
    }

    fn resume_reading(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.transport(&this)?.resume_receiving();
        Ok(())
    }

    fn set_idle_timeout(
        &mut self,
        this: Resource<TransportHandle>,
        after: Option<u64>,
    ) -> wasmtime::Result<()> {
        let transport = self.transport(&this)?;
        transport.set_idle_timeout(after.map(Duration::from_nanos));
        Ok(())
    }

    fn set_write_buffer_limits(
        &mut self,
        this: Resource<TransportHandle>,
        high: u64,
        low: u64,
    ) -> wasmtime::Result<()> {
        self.transport(&this)?.set_watermarks(high, low);
        Ok(())
    }

    fn get_write_buffer_limits(
        &mut self,
        this: Resource<TransportHandle>,
    ) -> wasmtime::Result<(u64, u64)> {
        Ok(self.transport(&this)?.watermarks())
    }

    fn get_write_buffer_size(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<u64> {
        Ok(self.transport(&this)?.queued())
    }

    fn info(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<ConnectionInfo> {
        Ok(ConnectionInfo::from(&**self.transport(&this)?))
    }

    fn drop(&mut self, this: Resource<TransportHandle>) -> wasmtime::Result<()> {
        self.remove_transport(&this)?.close();
        Ok(())
    }
}

impl HostDatagramTransport for State {
    fn send_to(
        &mut self,
        this: Resource<DatagramHandle>,
        data: Vec<u8>,
        to: IpSocketAddress,
    ) -> wasmtime::Result<Result<(), WitError>> {
        Ok(send_to(self, &this, &data, to)?.map_err(called))
    }

    fn local_address(
        &mut self,
        this: Resource<DatagramHandle>,
    ) -> wasmtime::Result<IpSocketAddress> {
        Ok(self.datagrams(&this)?.local().into())
    }

    fn close(&mut self, this: Resource<DatagramHandle>) -> wasmtime::Result<()> {
        self.datagrams(&this)?.close();
        Ok(())
    }

    fn abort(&mut self, this: Resource<DatagramHandle>) -> wasmtime::Result<()> {
        self.datagrams(&this)?.abort();
        Ok(())
    }

    fn is_closing(&mut self, this: Resource<DatagramHandle>) -> wasmtime::Result<bool> {
        Ok(self.datagrams(&this)?.is_closing())
    }

    fn drop(&mut self, this: Resource<DatagramHandle>) -> wasmtime::Result<()> {
        self.remove_datagrams(&this)?.close();
        Ok(())
    }
}
