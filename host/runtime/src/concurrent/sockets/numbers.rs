//! The numbers of an instance, and what is behind them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use netwasm_net::posix::WatchList;

use super::held::Held;
use super::input::Input;
use super::look_up::LookUp;
use super::signals::Signals;

/// The lowest number. wasi-libc has its own below.
const FIRST: u32 = 1_000_000;

/// Object that a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// A socket, and its own descriptor if this is a duplicate: a watch list
    /// takes a descriptor but once.
    Socket(Rc<Held>, Option<Rc<OwnedFd>>),
    WatchList(Rc<WatchList>),
    LookUp(Rc<LookUp>),
    Signals(Rc<Signals>),
    Input(Rc<Input>),
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(_, Some(duplicate)) => duplicate.as_fd(),
            Self::Socket(held, None) => held.socket.as_fd(),
            Self::WatchList(list) => list.as_fd(),
            Self::LookUp(look_up) => look_up.as_fd(),
            Self::Signals(signals) => signals.as_fd(),
            Self::Input(input) => input.as_fd(),
        }
    }
}

/// Numbers in use, the lowest free one first.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    open: Vec<Option<Open>>,
    free: BTreeSet<usize>,
    /// Numbers of watch lists, which have to forget what is closed.
    lists: BTreeSet<u32>,
}

impl Descriptors {
    /// Returns how many numbers are in use.
    pub(super) fn len(&self) -> usize {
        self.open.len() - self.free.len()
    }

    /// Gives something the lowest free number.
    pub(super) fn insert(&mut self, what: Open) -> u32 {
        let is_list = matches!(what, Open::WatchList(_));
        let place = self.free.pop_first().unwrap_or(self.open.len());
        match self.open.get_mut(place) {
            Some(free) => *free = Some(what),
            None => self.open.push(Some(what)),
        }
        let number = number(place);
        if is_list {
            self.lists.insert(number);
        }
        number
    }

    /// Returns what a number stands for.
    pub(super) fn get(&self, number: u32) -> Option<&Open> {
        self.open.get(place(number)?)?.as_ref()
    }

    /// Takes something out, and makes the watch lists forget it.
    pub(super) fn remove(&mut self, number: u32) -> Option<Open> {
        let place = place(number)?;
        let removed = self.open.get_mut(place)?.take()?;
        self.free.insert(place);
        self.lists.remove(&number);
        for list in self.lists() {
            list.forget(number, removed.as_fd());
        }
        Some(removed)
    }

    /// Returns the watch lists.
    fn lists(&self) -> impl Iterator<Item = &Rc<WatchList>> {
        self.lists.iter().filter_map(|list| match self.get(*list) {
            Some(Open::WatchList(list)) => Some(list),
            _ => None,
        })
    }

    /// Makes the watch lists report a number once more that is still ready,
    /// though the guest was told otherwise.
    pub(super) fn repeat(&self, number: u32) {
        if let Some(open) = self.get(number) {
            self.lists()
                .for_each(|list| list.repeat(number, open.as_fd()));
        }
    }

    /// Returns the sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Rc<Held>> {
        self.open.iter().filter_map(|open| match open {
            Some(Open::Socket(socket, _)) => Some(socket),
            _ => None,
        })
    }
}

fn place(number: u32) -> Option<usize> {
    usize::try_from(number.checked_sub(FIRST)?).ok()
}

fn number(place: usize) -> u32 {
    // The limit on descriptors keeps the place far below.
    u32::try_from(place).map_or(u32::MAX, |place| FIRST.saturating_add(place))
}

#[cfg(test)]
mod tests {
    use netwasm_net::posix::{PosixSocket, SocketFamily, SocketKind};

    use super::*;

    fn socket() -> Open {
        let socket = PosixSocket::open(SocketFamily::Inet, SocketKind::Stream).expect("a socket");
        Open::Socket(Rc::new(Held::new(socket)), None)
    }

    #[test]
    fn the_lowest_free_number_is_given() {
        let mut descriptors = Descriptors::default();
        let numbers: Vec<_> = (0..4).map(|_| descriptors.insert(socket())).collect();
        assert_eq!(numbers, [1_000_000, 1_000_001, 1_000_002, 1_000_003]);
        for number in [1_000_002, 1_000_000] {
            assert!(descriptors.remove(number).is_some());
            assert!(descriptors.remove(number).is_none(), "{number}");
            assert!(descriptors.get(number).is_none(), "{number}");
        }
        assert_eq!(descriptors.len(), 2);
        assert_eq!(descriptors.insert(socket()), 1_000_000);
        assert_eq!(descriptors.insert(socket()), 1_000_002);
        assert_eq!(descriptors.insert(socket()), 1_000_004);
        for none in [0, 3, 999_999, 1_000_005, u32::MAX] {
            assert!(descriptors.get(none).is_none(), "{none}");
            assert!(descriptors.remove(none).is_none(), "{none}");
        }
    }
}
