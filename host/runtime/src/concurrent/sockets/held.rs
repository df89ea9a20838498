//! A socket with what its instance knows of it, and the addresses at which the
//! instance listens.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use netwasm_base::address::Address;
use netwasm_net::files::File;
use netwasm_net::posix::{PosixOption, PosixSocket, SocketFamily, SocketKind};

use crate::concurrent::permissions::{Peers, Permissions};

/// A socket of an instance. Duplicates share it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) socket: PosixSocket,
    /// Peers that the socket may answer.
    heard: RefCell<Peers>,
    /// True if the socket takes datagrams from anybody; `None` until it is bound.
    open: Cell<Option<bool>>,
    /// The address at which others of the instance reach the socket.
    own: RefCell<Option<Listening>>,
    /// True if that is decided.
    noted: Cell<bool>,
    /// The file of which a part was sent.
    sending: RefCell<Option<Sending>>,
}

/// A file that is being sent by several calls, each from where the last one ended.
#[derive(Debug)]
struct Sending {
    path: Box<str>,
    file: Rc<File>,
    /// Offset of the next call.
    next: u64,
}

impl Held {
    pub(super) fn new(socket: PosixSocket) -> Self {
        Self {
            socket,
            heard: RefCell::default(),
            open: Cell::new(None),
            own: RefCell::default(),
            noted: Cell::new(false),
            sending: RefCell::default(),
        }
    }

    /// Returns the file that is being sent, if a call goes on with it: the path may
    /// be that of another file by now, and a part of each would be sent.
    pub(super) fn file_being_sent(&self, path: &str, offset: u64) -> Option<Rc<File>> {
        let sending = self.sending.borrow();
        let goes_on = |sending: &&Sending| *sending.path == *path && sending.next == offset;
        let sending = sending.as_ref().filter(goes_on)?;
        Some(Rc::clone(&sending.file))
    }

    /// Keeps a file open for the call that goes on at this offset, unless that is its
    /// end.
    pub(super) fn note_sending(&self, path: &str, file: Rc<File>, next: u64) {
        let sending = (next < file.metadata().length).then(|| Sending {
            path: path.into(),
            file,
            next,
        });
        self.sending.replace(sending);
    }

    /// Closes the file that was being sent.
    pub(super) fn end_sending(&self) {
        self.sending.take();
    }

    /// Returns the peers that the socket has heard.
    pub(super) fn heard(&self) -> &RefCell<Peers> {
        &self.heard
    }

    /// True if the socket takes datagrams from anybody: `--allow-listen` has its
    /// address.
    pub(super) fn is_open(&self, permissions: &Permissions) -> bool {
        if let Some(open) = self.open.get() {
            return open;
        }
        match self.socket.local() {
            Ok(Address::Ip(local)) if local.port() != 0 => {
                let open = permissions.is_open_at(local);
                self.open.set(Some(open));
                open
            }
            _ => false,
        }
    }

    /// Notes that the instance can be reached at the address of the socket, once
    /// it has one, and if no other program can be there. Returns that address.
    pub(super) fn note_own(&self, own: &Rc<RefCell<OwnPlaces>>) -> Option<Address> {
        if self.noted.get() {
            return None;
        }
        let local = self.socket.local().ok()?;
        let place = ReachedPlace::of(&self.socket, &local)?;
        self.noted.set(true);
        if self.shares() {
            return Some(local);
        }
        own.borrow_mut().0.entry(place.clone()).or_default().0 += 1;
        self.own.replace(Some(Listening {
            place,
            own: Rc::clone(own),
        }));
        Some(local)
    }

    /// Notes that something was changed after which another program may be where
    /// the socket was.
    pub(super) fn check_own(&self) {
        let is_stream = self.socket.kind() == SocketKind::Stream;
        if !self.noted.get() {
            return;
        }
        let gone = is_stream && self.socket.option(PosixOption::Listens) != Ok(1);
        if gone || self.shares() {
            self.own.replace(None);
        }
        if gone {
            self.noted.set(false);
        }
    }

    /// True if the socket lets others have its address, too (socket(7)). For
    /// listeners of TCP, `SO_REUSEADDR` does not.
    fn shares(&self) -> bool {
        let is = |option| self.socket.option(option) != Ok(0);
        let is_datagram = self.socket.kind() == SocketKind::Datagram;
        self.socket.family() != SocketFamily::Unix
            && (is(PosixOption::ReusePort) || (is_datagram && is(PosixOption::ReuseAddress)))
    }
}

/// ReachedPlace where a socket is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ReachedPlace {
    Ip(SocketKind, SocketAddr),
    /// All addresses of the machine, those of IPv4 among them.
    Everywhere(SocketKind, u16),
    /// A path, with the device and the inode of the file.
    Unix(PathBuf, (u64, u64)),
}

impl ReachedPlace {
    fn of(socket: &PosixSocket, local: &Address) -> Option<Self> {
        let kind = socket.kind();
        match local {
            Address::Ip(address) if address.port() == 0 => None,
            Address::Ip(address) => {
                // IPV6_V6ONLY leaves the port of IPv4 to others.
                let both = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && socket.option(PosixOption::OnlyIpv6) == Ok(0);
                Some(match both {
                    true => Self::Everywhere(kind, address.port()),
                    false => Self::ip(kind, *address),
                })
            }
            Address::Unix(path) => Some(Self::Unix(path.clone()?, socket.file_identity()?)),
        }
    }

    fn ip(kind: SocketKind, address: SocketAddr) -> Self {
        Self::Ip(
            kind,
            SocketAddr::new(address.ip().to_canonical(), address.port()),
        )
    }
}

/// The addresses at which an instance listens, with the number of sockets at
/// each. A program may reach itself there, if the address is on loopback.
#[derive(Debug, Default)]
pub(super) struct OwnPlaces(HashMap<ReachedPlace, Count>);

#[derive(Debug, Default)]
struct Count(usize);

impl OwnPlaces {
    /// True if the instance itself listens at an address of loopback.
    pub(super) fn has(&self, kind: SocketKind, address: SocketAddr) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if self.0.is_empty() || !ip.is_loopback() {
            return false;
        }
        let everywhere = match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let has = |ip: IpAddr| {
            self.0
                .contains_key(&ReachedPlace::ip(kind, (ip, port).into()))
        };
        has(ip) || has(everywhere) || self.0.contains_key(&ReachedPlace::Everywhere(kind, port))
    }

    /// Returns the device and the inode of the file if the instance itself
    /// listens at a path.
    pub(super) fn file(&self, path: &Path) -> Option<(u64, u64)> {
        self.0.keys().find_map(|place| match place {
            ReachedPlace::Unix(own, identity) if own == path => Some(*identity),
            _ => None,
        })
    }
}

/// Entry of a socket in [`OwnPlaces`], removed with it.
#[derive(Debug)]
struct Listening {
    place: ReachedPlace,
    own: Rc<RefCell<OwnPlaces>>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut own = self.own.borrow_mut();
        if let Some(count) = own.0.get_mut(&self.place) {
            count.0 -= 1;
            if count.0 == 0 {
                own.0.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(own: &Rc<RefCell<OwnPlaces>>, family: SocketFamily, text: &str) -> (Held, u16) {
        let socket = PosixSocket::open(family, SocketKind::Datagram).expect("a socket");
        let local = Address::Ip(text.parse().expect("an address"));
        socket.bind(&local).expect("bound");
        let held = Held::new(socket);
        match held.note_own(own) {
            Some(Address::Ip(local)) => (held, local.port()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_instance_knows_where_it_listens_itself_until_it_closes_the_socket() {
        let own = Rc::default();
        let (held, port) = bound(&own, SocketFamily::Inet, "127.0.0.1:0");
        let has = |kind, ip: &str| {
            let ip: IpAddr = ip.parse().expect("an address");
            own.borrow().has(kind, (ip, port).into())
        };
        assert!(has(SocketKind::Datagram, "127.0.0.1"));
        assert!(has(SocketKind::Datagram, "::ffff:127.0.0.1"));
        assert!(!has(SocketKind::Stream, "127.0.0.1"));
        assert!(!has(SocketKind::Datagram, "127.0.0.2"));
        assert!(!has(SocketKind::Datagram, "::1"));
        drop(held);
        assert!(!has(SocketKind::Datagram, "127.0.0.1"));
    }

    #[test]
    fn a_wildcard_of_ipv6_alone_is_not_where_ipv4_leads() {
        for (only, reached) in [(1, false), (0, true)] {
            let own = Rc::default();
            let socket =
                PosixSocket::open(SocketFamily::Inet6, SocketKind::Datagram).expect("a socket");
            socket.set_option(PosixOption::OnlyIpv6, only).expect("set");
            let any = Address::Ip("[::]:0".parse().expect("an address"));
            socket.bind(&any).expect("bound");
            let held = Held::new(socket);
            let Some(Address::Ip(local)) = held.note_own(&own) else {
                panic!("no address");
            };
            let has = |ip: &str| {
                let ip: IpAddr = ip.parse().expect("an address");
                own.borrow()
                    .has(SocketKind::Datagram, (ip, local.port()).into())
            };
            assert_eq!(has("127.0.0.1"), reached, "IPV6_V6ONLY {only}");
            assert!(has("::1"));
            // Another program may come there from now on.
            held.socket
                .set_option(PosixOption::ReusePort, 1)
                .expect("set");
            held.check_own();
            assert!(!has("::1"));
        }
    }

    #[test]
    fn a_socket_at_all_addresses_is_reached_on_loopback_alone() {
        let own = Rc::default();
        let (_held, port) = bound(&own, SocketFamily::Inet, "0.0.0.0:0");
        let has = |ip: &str| {
            let ip: IpAddr = ip.parse().expect("an address");
            own.borrow().has(SocketKind::Datagram, (ip, port).into())
        };
        assert!(has("127.0.0.1") && has("127.0.0.2"));
        assert!(!has("::1") && !has("192.0.2.1") && !has("0.0.0.0"));
    }
}
