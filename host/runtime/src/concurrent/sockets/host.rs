//! The interface `sockets`: look up the number, call, convert.

use std::rc::Rc;
use std::time::Duration;

use send_wrapper::SendWrapper;
use wasmtime::component::{HasSelf, Linker, Resource, WasmList};

use crate::bindings::netwasm::net::types::{IpAddress, SocketAddress};
use crate::concurrent::bindings::netwasm::net::sockets::{
    self, Datagram, Direction, Failure, Family, Host, Kind, OptionName,
};
use crate::concurrent::handles::TlsEngineHandle;
use crate::concurrent::state::{AsyncState, Store};

/// Result of a function. The outer error is a trap.
type Called<T> = wasmtime::Result<Result<T, Failure>>;

/// A TLS session of `tls-engine`.
type Session = Resource<TlsEngineHandle>;

/// Links the interface.
///
/// # Errors
/// Fails if it is linked already.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    sockets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    // Functions that carry many bytes read the guest's memory in place.
    linker.allow_shadowing(true);
    let mut interface = linker.instance("netwasm:net/sockets@0.2.0")?;
    interface.func_wrap(
        "send",
        |store: Store<'_>, (socket, data): (u32, WasmList<u8>)| {
            let sockets = store.data().opened_sockets();
            let sockets = sockets.ok_or_else(Failure::bad_descriptor);
            let sent = sockets.and_then(|it| it.send(socket, data.as_le_slice(&store)));
            Ok((sent.map(count),))
        },
    )?;
    interface.func_wrap(
        "send-to",
        |store: Store<'_>, (socket, data, to): (u32, WasmList<u8>, SocketAddress)| {
            let sockets = store.data().opened_sockets();
            let sockets = sockets.ok_or_else(Failure::bad_descriptor);
            let data = data.as_le_slice(&store);
            let sent = sockets.and_then(|it| it.send_to(socket, data, to.into()));
            Ok((sent.map(count),))
        },
    )?;
    interface.func_wrap(
        "send-tls",
        |store: Store<'_>, (socket, session, data): (u32, Session, WasmList<u8>)| {
            let engine = Rc::clone(&store.data().table.get(&session)?.0);
            let sockets = store.data().opened_sockets();
            let sockets = sockets.ok_or_else(Failure::bad_descriptor);
            let data = data.as_le_slice(&store);
            let sent = sockets.and_then(|it| it.send_tls(socket, &mut engine.borrow_mut(), data));
            Ok((sent.map(|(rest, taken)| (rest, count(taken))),))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Converts a number of bytes: a list has fewer than 4 GiB.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Host for AsyncState {
    fn open(&mut self, family: Family, kind: Kind) -> Called<u32> {
        Ok(self.sockets().open(family.into(), kind.into()))
    }

    fn pair(&mut self) -> Called<(u32, u32)> {
        Ok(self.sockets().pair())
    }

    fn duplicate(&mut self, of: u32) -> Called<u32> {
        Ok(self.sockets().duplicate(of))
    }

    fn close(&mut self, what: u32) -> Called<()> {
        Ok(self.sockets().close(what))
    }

    fn bind(&mut self, socket: u32, local: SocketAddress) -> Called<()> {
        Ok(self.sockets().bind(socket, &local.into()))
    }

    fn listen(&mut self, socket: u32, backlog: u32) -> Called<()> {
        Ok(self.sockets().listen(socket, backlog))
    }

    fn accept(&mut self, socket: u32) -> Called<(u32, SocketAddress)> {
        let accepted = self.sockets().accept(socket);
        Ok(accepted.map(|(number, peer)| (number, (&peer).into())))
    }

    fn connect(&mut self, socket: u32, to: SocketAddress) -> Called<()> {
        Ok(self.sockets().connect(socket, to.into()))
    }

    fn receive(&mut self, socket: u32, most: u32) -> Called<Vec<u8>> {
        Ok(self.sockets().receive(socket, most, false))
    }

    fn peek(&mut self, socket: u32, most: u32) -> Called<Vec<u8>> {
        Ok(self.sockets().receive(socket, most, true))
    }

    fn receive_from(&mut self, socket: u32, most: u32) -> Called<Datagram> {
        let received = self.sockets().receive_from(socket, most);
        Ok(received.map(|received| Datagram {
            data: received.data,
            from: (&received.from).into(),
            truncated: received.truncated,
        }))
    }

    fn send(&mut self, socket: u32, data: Vec<u8>) -> Called<u32> {
        Ok(self.sockets().send(socket, &data).map(count))
    }

    fn receive_tls(
        &mut self,
        socket: u32,
        session: Session,
        most: u32,
    ) -> Called<Option<(Vec<u8>, bool)>> {
        let engine = Rc::clone(&self.table.get(&session)?.0);
        let mut engine = engine.borrow_mut();
        Ok(self.sockets().receive_tls(socket, &mut engine, most))
    }

    fn send_tls(&mut self, socket: u32, session: Session, data: Vec<u8>) -> Called<(Vec<u8>, u32)> {
        let engine = Rc::clone(&self.table.get(&session)?.0);
        let mut engine = engine.borrow_mut();
        let sent = self.sockets().send_tls(socket, &mut engine, &data);
        Ok(sent.map(|(rest, taken)| (rest, count(taken))))
    }

    fn send_to(&mut self, socket: u32, data: Vec<u8>, to: SocketAddress) -> Called<u32> {
        Ok(self.sockets().send_to(socket, &data, to.into()).map(count))
    }

    fn send_file(&mut self, socket: u32, path: String, offset: u64, most: u64) -> Called<u64> {
        Ok(self.sockets().send_file(socket, &path, offset, most))
    }

    fn shutdown(&mut self, socket: u32, direction: Direction) -> Called<()> {
        Ok(self.sockets().shutdown(socket, direction.into()))
    }

    fn local_address(&mut self, socket: u32) -> Called<SocketAddress> {
        let local = self.sockets().local_address(socket);
        Ok(local.map(|local| (&local).into()))
    }

    fn peer_address(&mut self, socket: u32) -> Called<SocketAddress> {
        let peer = self.sockets().peer_address(socket);
        Ok(peer.map(|peer| (&peer).into()))
    }

    fn get_option(&mut self, socket: u32, name: OptionName) -> Called<i32> {
        Ok(self.sockets().option(socket, name.into()))
    }

    fn set_option(&mut self, socket: u32, name: OptionName, value: i32) -> Called<()> {
        Ok(self.sockets().set_option(socket, name.into(), value))
    }

    fn take_error(&mut self, socket: u32) -> Called<Option<Failure>> {
        Ok(self.sockets().take_error(socket))
    }

    fn look_up(&mut self, name: String) -> Called<u32> {
        Ok(self.sockets().look_up(name))
    }

    fn found(&mut self, look_up: u32) -> Called<Vec<IpAddress>> {
        let found = self.sockets().found(look_up);
        Ok(found.map(|found| found.into_iter().map(Into::into).collect()))
    }

    fn signals(&mut self) -> Called<u32> {
        Ok(self.sockets().signals())
    }

    fn take_signal(&mut self, signals: u32) -> Called<u32> {
        Ok(self.sockets().take_signal(signals))
    }

    fn await_input(&mut self) -> Called<u32> {
        Ok(self.sockets().await_input())
    }

    fn watch_list(&mut self) -> Called<u32> {
        Ok(self.sockets().watch_list())
    }

    fn watch(&mut self, watch_list: u32, what: u32, for_: u32) -> Called<()> {
        Ok(self.sockets().watch(watch_list, what, for_))
    }

    fn forget(&mut self, watch_list: u32, what: u32) -> Called<()> {
        Ok(self.sockets().forget(watch_list, what))
    }

    fn wait(
        &mut self,
        watch_list: u32,
        most: u32,
        timeout: Option<u64>,
    ) -> impl Future<Output = Called<Vec<(u32, u32)>>> + Send {
        let timeout = timeout.map(Duration::from_nanos);
        let waiting = self.sockets().waiting(watch_list, most, timeout);
        SendWrapper::new(async move {
            match waiting {
                Ok(waiting) => Ok(waiting.run().await),
                Err(failure) => Ok(Err(failure)),
            }
        })
    }
}
