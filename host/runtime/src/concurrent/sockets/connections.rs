//! Making connections: addresses, listening, and options.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netwasm_base::address::Address;
use netwasm_net::posix::{Direction, PosixOption, SocketKind};

use crate::concurrent::bindings::netwasm::net::sockets::{Errno, Failure};
use crate::concurrent::permissions;

use super::{Outcome, Sockets};

impl Sockets {
    pub(super) fn bind(&self, number: u32, local: &Address) -> Outcome<()> {
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

    pub(super) fn listen(&self, number: u32, backlog: u32) -> Outcome<()> {
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

    pub(super) fn note_listener(&self, url: &dyn std::fmt::Display) {
        permissions::note_listener(&self.local.env.net.guest, url);
    }

    pub(super) fn accept(&mut self, number: u32) -> Outcome<(u32, Address)> {
        let held = self.socket(number)?;
        self.has_room(1)?;
        let env = &self.local.env.net;
        let accepted = held.socket.accept(env);
        if accepted.is_err() && env.clients.turn_away() && held.socket.has_come() {
            // Clients were turned away, and there are more, which no change
            // will report.
            self.open.repeat(number);
        }
        let (socket, peer) = accepted?;
        Ok((self.keep(socket), peer))
    }

    pub(super) fn connect(&self, number: u32, to: Address) -> Outcome<()> {
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

    pub(super) fn take_error(&self, number: u32) -> Outcome<Option<Failure>> {
        let kept = self.socket(number)?.socket.take_error(&self.local.env.net);
        Ok(kept?.map(Failure::from))
    }

    pub(super) fn shutdown(&self, number: u32, direction: Direction) -> Outcome<()> {
        let held = self.socket(number)?;
        held.socket.shutdown(direction)?;
        // A listener does not listen any more.
        held.check_own();
        Ok(())
    }

    pub(super) fn local_address(&self, number: u32) -> Outcome<Address> {
        Ok(self.socket(number)?.socket.local()?)
    }

    pub(super) fn peer_address(&self, number: u32) -> Outcome<Address> {
        Ok(self.socket(number)?.socket.peer()?)
    }

    pub(super) fn option(&self, number: u32, option: PosixOption) -> Outcome<i32> {
        Ok(self.socket(number)?.socket.option(option)?)
    }

    pub(super) fn set_option(&self, number: u32, option: PosixOption, value: i32) -> Outcome<()> {
        let held = self.socket(number)?;
        held.socket.set_option(option, value)?;
        held.check_own();
        Ok(())
    }
}

/// Returns the address that the system means by this one: loopback, for a
/// destination that names no address.
pub(super) fn reachable(to: Address) -> Address {
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
