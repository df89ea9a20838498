//! `netwasm:net/sockets`: sockets in the form of POSIX, for programs that bring
//! their own event loop.
//!
//! ```text
//!   guest --number--> host (the interface) --> numbers ------> held: a socket
//!                          |                        |          and what it knows
//!                          v                        +--> look_up, signals,
//!                     connections, transfers        |    a watch list (waiting)
//!                          |                        v
//!                          +--> permissions    net::posix
//! ```
//!
//! Functions are synchronous, and none but `wait` waits. Each is one system
//! call, after the policy was asked.

mod connections;
mod convert;
mod failure;
mod held;
mod host;
mod input;
mod look_up;
mod numbers;
mod signals;
mod transfers;
mod waiting;

use std::cell::RefCell;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::descriptors;
use netwasm_net::health::Health;
use netwasm_net::posix::{PosixSocket, SocketFamily, SocketKind, WatchList};
use netwasm_net::turns::Turn;

use crate::concurrent::bindings::netwasm::net::sockets::{Errno, Failure};
use crate::concurrent::permissions::Permissions;
use crate::local::Local;

use self::held::{Held, OwnPlaces};
use self::input::Input;
use self::look_up::LookUp;
use self::numbers::{Descriptors, Open};
use self::signals::Signals;
use self::waiting::Waiting;

pub(crate) use self::host::add_to_linker;

type Outcome<T> = Result<T, Failure>;

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
    /// Descriptors that the process can spare. Programs alone have sockets, and
    /// a run has one program, so that no other instance counts against it.
    possible: usize,
    own: Rc<RefCell<OwnPlaces>>,
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
            possible: descriptors::connections(false),
            own: Rc::default(),
            buffer: Vec::new(),
        }
    }

    // Numbers.

    /// Checks that this many numbers are left.
    fn has_room(&self, count: usize) -> Outcome<()> {
        let wanted = self.open.len() + count;
        let reached = match () {
            () if wanted > self.most => "--max-handles is reached",
            () if wanted > self.possible => "the limit of open files (ulimit -n) is reached",
            () => return Ok(()),
        };
        Err(Failure::new(Errno::TooManyFiles, reached))
    }

    fn get(&self, number: u32) -> Outcome<&Open> {
        self.open.get(number).ok_or_else(Failure::bad_descriptor)
    }

    fn socket(&self, number: u32) -> Outcome<&Rc<Held>> {
        match self.get(number)? {
            Open::Socket(socket, _) => Ok(socket),
            _ => Err(Failure::not_socket()),
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

    // Names, signals, and standard input.

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

    fn await_input(&mut self) -> Outcome<u32> {
        self.has_room(1)?;
        let input = Input::await_some()?;
        Ok(self.open.insert(Open::Input(Rc::new(input))))
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
