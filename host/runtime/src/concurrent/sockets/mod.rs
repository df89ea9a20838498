//! `netwasm:net/sockets`: sockets in the form of POSIX, for programs that bring
//! their own event loop.
//!
//! ```text
//!   guest --number--> host (the interface) --> descriptors --> held: a socket
//!                          |                        |          and what it knows
//!                          v                        +--> look_up, signals,
//!                      permissions --> policy       |    a watch list
//!                                                   v
//!                                              net::posix
//! ```
//!
//! Functions are synchronous, and none but `wait` waits. Each is one system
//! call, after the policy was asked.

mod convert;
mod descriptors;
mod failure;
mod held;
mod host;
mod look_up;
mod signals;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::address::Address;
use netwasm_net::health::Health;
use netwasm_net::posix::{
    Direction, PosixOption, PosixSocket, Readiness, Receive, SocketFamily, SocketKind, WatchList,
};
use netwasm_net::turns::Turn;

use crate::concurrent::bindings::netwasm::net::sockets::{Errno, Failure};
use crate::concurrent::permissions::{self, Permissions};
use crate::local::Local;

use self::descriptors::{Descriptors, Open};
use self::held::{Held, Own};
use self::look_up::LookUp;
use self::signals::Signals;

pub(crate) use self::host::add_to_linker;

/// Datagrams of strangers that one call drops. More are left for the next call,
/// so that no flood keeps the worker.
const MOST_DROPPED: usize = 64;

/// Bytes from which a transfer counts for the turns of the worker.
const LARGE: usize = 16 << 10;

type Outcome<T> = Result<T, Failure>;

/// A received datagram.
struct Received {
    data: Vec<u8>,
    from: Address,
    truncated: bool,
}

/// The sockets of one instance. Dropping it closes them.
pub(crate) struct Sockets {
    local: Rc<Local>,
    permissions: Arc<Permissions>,
    health: Rc<Health>,
    /// Turn of the instance, for a loop that never waits.
    turn: Rc<Turn>,
    open: Descriptors,
    /// Most numbers at once.
    most: usize,
    own: Rc<RefCell<Own>>,
    /// Receive buffer.
    buffer: Vec<u8>,
}

impl Sockets {
    pub(super) fn new(
        local: &Rc<Local>,
        permissions: &Arc<Permissions>,
        health: &Rc<Health>,
        most: usize,
    ) -> Self {
        Self {
            local: Rc::clone(local),
            permissions: Arc::clone(permissions),
            health: Rc::clone(health),
            turn: local.worker.thread.turns.turn(),
            open: Descriptors::default(),
            most,
            own: Rc::default(),
            buffer: Vec::new(),
        }
    }

    // Numbers.

    /// Checks that this many numbers are left.
    fn has_room(&self, count: usize) -> Outcome<()> {
        match self.open.len() + count <= self.most {
            true => Ok(()),
            false => Err(Failure::new(
                Errno::TooManyFiles,
                "--max-handles is reached",
            )),
        }
    }

    fn get(&self, number: u32) -> Outcome<&Open> {
        self.open.get(number).ok_or_else(Failure::bad_descriptor)
    }

    fn socket(&self, number: u32) -> Outcome<&Rc<Held>> {
        match self.get(number)? {
            Open::Socket(socket, _) => Ok(socket),
            _ => Err(Failure::bad_descriptor()),
        }
    }

    fn list(&self, number: u32) -> Outcome<&Rc<WatchList>> {
        match self.get(number)? {
            Open::WatchList(list) => Ok(list),
            _ => Err(Failure::bad_descriptor()),
        }
    }

    fn keep(&mut self, socket: PosixSocket) -> u32 {
        self.open
            .insert(Open::Socket(Rc::new(Held::new(socket)), None))
    }

    fn open(&mut self, family: SocketFamily, kind: SocketKind) -> Outcome<u32> {
        self.has_room(1)?;
        let socket = PosixSocket::open(family, kind)?;
        Ok(self.keep(socket))
    }

    fn pair(&mut self) -> Outcome<(u32, u32)> {
        self.has_room(2)?;
        let (one, other) = PosixSocket::pair()?;
        Ok((self.keep(one), self.keep(other)))
    }

    fn duplicate(&mut self, number: u32) -> Outcome<u32> {
        let socket = Rc::clone(self.socket(number)?);
        self.has_room(1)?;
        let duplicate = socket.socket.as_fd().try_clone_to_owned()?;
        let open = Open::Socket(socket, Some(Rc::new(duplicate)));
        Ok(self.open.insert(open))
    }

    fn close(&mut self, number: u32) -> Outcome<()> {
        match self.open.remove(number) {
            Some(_) => Ok(()),
            None => Err(Failure::bad_descriptor()),
        }
    }

    // Connections.

    fn bind(&self, number: u32, local: &Address) -> Outcome<()> {
        let held = self.socket(number)?;
        match local {
            Address::Ip(local) => self.permissions.binds(*local)?,
            Address::Unix(Some(path)) => self.permissions.binds_unix(path)?,
            Address::Unix(None) => {}
        }
        held.socket.bind(local)?;
        if held.socket.kind() == SocketKind::Datagram {
            let bound = held.note_own(&self.own);
            if let Some(Address::Ip(bound)) = bound
                && held.is_open(&self.permissions)
            {
                self.note_listener(&format_args!("udp://{bound}"));
            }
        }
        Ok(())
    }

    fn listen(&self, number: u32, backlog: u32) -> Outcome<()> {
        let held = self.socket(number)?;
        if held.socket.kind() == SocketKind::Datagram {
            return Err(Errno::NotSupported.into());
        }
        match held.socket.local()? {
            Address::Ip(local) => self.permissions.listens(local)?,
            Address::Unix(Some(path)) => self.permissions.binds_unix(&path)?,
            // Nobody could reach it.
            Address::Unix(None) => return Err(Errno::Invalid.into()),
        }
        held.socket.listen(&self.local.env.net, backlog)?;
        match held.note_own(&self.own) {
            Some(Address::Ip(bound)) => self.note_listener(&format_args!("tcp://{bound}")),
            Some(bound @ Address::Unix(_)) => self.note_listener(&bound),
            // A second call changes the backlog.
            None => {}
        }
        Ok(())
    }

    fn note_listener(&self, url: &dyn std::fmt::Display) {
        permissions::note_listener(&self.local.env.net.guest, url);
    }

    fn accept(&mut self, number: u32) -> Outcome<(u32, Address)> {
        let held = self.socket(number)?;
        self.has_room(1)?;
        let (socket, peer) = held.socket.accept(&self.local.env.net)?;
        Ok((self.keep(socket), peer))
    }

    fn connect(&self, number: u32, to: Address) -> Outcome<()> {
        let held = self.socket(number)?;
        let env = &self.local.env.net;
        let to = reachable(to);
        let kind = held.socket.kind();
        match &to {
            Address::Ip(to) if self.own.borrow().has(kind, *to) => {}
            Address::Ip(to) => match kind {
                SocketKind::Stream => self.permissions.connects(*to)?,
                SocketKind::Datagram => self.permissions.sends(&held.heard().borrow(), *to)?,
            },
            Address::Unix(Some(path)) => {
                let own = self.own.borrow().file(path);
                if let Some(identity) = own {
                    return Ok(held.socket.connect_file(env, path, identity)?);
                }
                self.permissions.connects_unix(path)?;
            }
            Address::Unix(None) => {}
        }
        held.socket.connect(env, &to)?;
        if kind == SocketKind::Datagram {
            held.note_own(&self.own);
        }
        Ok(())
    }

    fn take_error(&self, number: u32) -> Outcome<Option<Failure>> {
        let kept = self.socket(number)?.socket.take_error(&self.local.env.net);
        Ok(kept?.map(Failure::from))
    }

    // Bytes.

    fn receive(&mut self, number: u32, most: u32, peek: bool) -> Outcome<Vec<u8>> {
        let held = Rc::clone(self.socket(number)?);
        let receiving = Receive {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            peek,
        };
        if held.socket.kind() == SocketKind::Datagram {
            return Ok(self.datagram(&held, receiving)?.data);
        }
        let env = &self.local.env.net;
        let data = held
            .socket
            .receive(env, &mut self.buffer, receiving)?
            .to_vec();
        self.note(data.len());
        Ok(data)
    }

    fn receive_from(&mut self, number: u32, most: u32) -> Outcome<Received> {
        let held = Rc::clone(self.socket(number)?);
        if held.socket.kind() == SocketKind::Stream {
            return Ok(Received {
                data: self.receive(number, most, false)?,
                from: Address::Unix(None),
                truncated: false,
            });
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.datagram(&held, Receive { most, peek: false })
    }

    /// Receives a datagram from somebody whom the socket may hear.
    fn datagram(&mut self, held: &Held, receiving: Receive) -> Outcome<Received> {
        for _ in 0..MOST_DROPPED {
            let datagram = held.socket.receive_from(&mut self.buffer, receiving)?;
            let hears = match &datagram.from {
                Address::Ip(from) => {
                    let is_own = self.own.borrow().has(SocketKind::Datagram, *from);
                    let open = is_own || held.is_open(&self.permissions);
                    let heard = &mut held.heard().borrow_mut();
                    self.permissions.hears_from(heard, *from, open)
                }
                Address::Unix(_) => true,
            };
            if hears {
                self.local.env.net.counters.datagrams_received.add();
                return Ok(Received {
                    data: datagram.data.to_vec(),
                    from: datagram.from,
                    truncated: datagram.truncated,
                });
            }
            if receiving.peek {
                let dropped = Receive {
                    most: 0,
                    peek: false,
                };
                held.socket.receive_from(&mut self.buffer, dropped)?;
            }
        }
        Err(Errno::Again.into())
    }

    fn send(&self, number: u32, data: &[u8]) -> Outcome<usize> {
        let held = self.socket(number)?;
        let count = held.socket.send(&self.local.env.net, data)?;
        self.note(count);
        Ok(count)
    }

    fn send_to(&self, number: u32, data: &[u8], to: Address) -> Outcome<usize> {
        let held = self.socket(number)?;
        if held.socket.kind() == SocketKind::Stream {
            // As in Linux, a connection ignores the address.
            return self.send(number, data);
        }
        let to = reachable(to);
        if let Address::Ip(to) = to
            && !self.own.borrow().has(SocketKind::Datagram, to)
        {
            self.permissions.sends(&held.heard().borrow(), to)?;
        }
        let count = held.socket.send_to(data, &to)?;
        // The first one gives the socket its port.
        held.note_own(&self.own);
        Ok(count)
    }

    fn send_file(&self, number: u32, path: &str, offset: u64, most: u64) -> Outcome<u64> {
        let held = self.socket(number)?;
        if held.socket.kind() == SocketKind::Datagram {
            return Err(Errno::NotSupported.into());
        }
        let roots = &self.local.env.roots;
        let file = roots.open_file(path);
        let file = file.map_err(|error| Failure::of_file(&error, path, roots.hold(path)))?;
        let count = held
            .socket
            .send_file(&self.local.env.net, &Rc::new(file), offset, most)?;
        self.note(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(count)
    }

    /// Notes bytes that were moved, so that a guest that moves many gives way
    /// when it waits next.
    fn note(&self, count: usize) {
        if count >= LARGE {
            self.turn.note(count);
        }
    }

    fn shutdown(&self, number: u32, direction: Direction) -> Outcome<()> {
        let held = self.socket(number)?;
        held.socket.shutdown(direction)?;
        // A listener does not listen any more.
        held.check_own();
        Ok(())
    }

    // Addresses and options.

    fn local_address(&self, number: u32) -> Outcome<Address> {
        Ok(self.socket(number)?.socket.local()?)
    }

    fn peer_address(&self, number: u32) -> Outcome<Address> {
        Ok(self.socket(number)?.socket.peer()?)
    }

    fn option(&self, number: u32, option: PosixOption) -> Outcome<i32> {
        Ok(self.socket(number)?.socket.option(option)?)
    }

    fn set_option(&self, number: u32, option: PosixOption, value: i32) -> Outcome<()> {
        let held = self.socket(number)?;
        held.socket.set_option(option, value)?;
        held.check_own();
        Ok(())
    }

    // Names and signals.

    fn look_up(&mut self, name: String) -> Outcome<u32> {
        if name.is_empty() {
            return Err(Errno::NoName.into());
        }
        self.permissions.looks_up(&name)?;
        self.has_room(1)?;
        let look_up = LookUp::begin(&self.local, &self.permissions, name)?;
        Ok(self.open.insert(Open::LookUp(Rc::new(look_up))))
    }

    fn found(&self, number: u32) -> Outcome<Vec<IpAddr>> {
        let Open::LookUp(look_up) = self.get(number)? else {
            return Err(Failure::bad_descriptor());
        };
        match look_up.answer() {
            None => Err(Errno::Again.into()),
            Some(Ok(addresses)) if addresses.is_empty() => Err(Errno::NoData.into()),
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(Failure::of_name(&error)),
        }
    }

    fn signals(&mut self) -> Outcome<u32> {
        self.has_room(1)?;
        let signals = Signals::new(&self.local.worker.thread)?;
        Ok(self.open.insert(Open::Signals(Rc::new(signals))))
    }

    fn take_signal(&self, number: u32) -> Outcome<u32> {
        let Open::Signals(signals) = self.get(number)? else {
            return Err(Failure::bad_descriptor());
        };
        signals.take().ok_or_else(|| Errno::Again.into())
    }

    // Watch lists.

    fn watch_list(&mut self) -> Outcome<u32> {
        self.has_room(1)?;
        let list = WatchList::new()?;
        Ok(self.open.insert(Open::WatchList(Rc::new(list))))
    }

    fn watch(&self, list: u32, number: u32, bits: u32) -> Outcome<()> {
        let what = self.get(number)?;
        Ok(self.list(list)?.watch(number, what.as_fd(), bits)?)
    }

    fn forget(&self, list: u32, number: u32) -> Outcome<()> {
        let what = self.get(number)?;
        match self.list(list)?.forget(number, what.as_fd()) {
            true => Ok(()),
            false => Err(Errno::NoEntry.into()),
        }
    }

    /// Begins to wait.
    fn waiting(&self, list: u32, most: u32, timeout: Option<Duration>) -> Outcome<Waiting> {
        Ok(Waiting {
            list: Rc::clone(self.list(list)?),
            turn: Rc::clone(&self.turn),
            most: usize::try_from(most).unwrap_or(usize::MAX),
            timeout,
        })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if self.health.is_gone() {
            // Data of a guest that trapped must not look whole.
            for held in self.open.sockets() {
                held.socket.abort();
            }
        }
    }
}

/// A call that waits for a watch list.
struct Waiting {
    list: Rc<WatchList>,
    turn: Rc<Turn>,
    most: usize,
    timeout: Option<Duration>,
}

impl Waiting {
    async fn run(self) -> Outcome<Vec<Readiness>> {
        let Self {
            list,
            turn,
            most,
            timeout,
        } = self;
        let ready = list.ready(most)?;
        if !ready.is_empty() || timeout == Some(Duration::ZERO) {
            // A guest that always has something to do lets others do theirs.
            turn.pause(0).await;
            return Ok(ready);
        }
        let waiting = std::future::poll_fn(|cx| list.poll_ready(cx, most));
        let waited = match timeout {
            None => waiting.await,
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(waited) => waited,
                Err(_) => Ok(Vec::new()),
            },
        };
        // The time of the wait was nobody's.
        turn.resume();
        Ok(waited?)
    }
}

/// Returns the address that the system means by this one: loopback, for a
/// destination that names no address.
fn reachable(to: Address) -> Address {
    match to {
        Address::Ip(to) if to.ip().to_canonical().is_unspecified() => {
            let ip = match to {
                SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(_) if to.ip().to_canonical().is_ipv4() => {
                    Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()
                }
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            Address::Ip(SocketAddr::new(ip, to.port()))
        }
        to => to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_without_an_address_is_this_machine() {
        for (text, meant) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:0.0.0.0]:80", "[::ffff:127.0.0.1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            let to = Address::Ip(text.parse().expect("an address"));
            let meant = Address::Ip(meant.parse().expect("an address"));
            assert_eq!(reachable(to), meant, "{text}");
        }
    }
}
