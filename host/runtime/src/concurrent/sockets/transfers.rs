//! Receiving and sending.

use std::rc::Rc;

use netwasm_base::address::Address;
use netwasm_net::posix::{Receive, SocketKind};
use netwasm_net::tls::engine::Engine;

use crate::concurrent::bindings::netwasm::net::sockets::{Errno, Failure};

use super::connections::reachable;
use super::held::Held;
use super::{Outcome, Sockets};

/// Datagrams of strangers that one call drops. More are left for the next call,
/// so that no flood keeps the worker.
const MOST_DROPPED: usize = 64;

/// Bytes from which a transfer counts for the turns of the worker.
const LARGE: usize = 16 << 10;

/// A received datagram.
pub(super) struct Received {
    pub(super) data: Vec<u8>,
    pub(super) from: Address,
    pub(super) truncated: bool,
}

impl Sockets {
    pub(super) fn receive(&mut self, number: u32, most: u32, peek: bool) -> Outcome<Vec<u8>> {
        let held = Rc::clone(self.socket(number)?);
        let receiving = Receive {
            most: usize::try_from(most).unwrap_or(usize::MAX),
            peek,
        };
        if held.socket.kind() == SocketKind::Datagram {
            return Ok(self.datagram(number, &held, receiving)?.data);
        }
        self.receive_with(&held, receiving, <[u8]>::to_vec)
    }

    /// Receives bytes of a stream, and exchanges them for the data of a TLS session.
    /// Returns `None` at the end.
    pub(super) fn receive_tls(
        &mut self,
        number: u32,
        engine: &mut Engine,
        most: u32,
    ) -> Outcome<Option<(Vec<u8>, bool)>> {
        let held = Rc::clone(self.stream(number)?);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let receiving = Receive { most, peek: false };
        self.receive_with(&held, receiving, |data| {
            (!data.is_empty()).then(|| engine.exchange(data, most))
        })
    }

    /// Receives bytes of a stream, and passes them on.
    fn receive_with<R>(
        &mut self,
        held: &Held,
        receiving: Receive,
        take: impl FnOnce(&[u8]) -> R,
    ) -> Outcome<R> {
        let env = &self.local.env.net;
        let data = held.socket.receive(env, &mut self.buffer, receiving)?;
        let (count, taken) = (data.len(), take(data));
        self.note(count);
        Ok(taken)
    }

    pub(super) fn receive_from(&mut self, number: u32, most: u32) -> Outcome<Received> {
        let held = Rc::clone(self.socket(number)?);
        if held.socket.kind() == SocketKind::Stream {
            return Ok(Received {
                data: self.receive(number, most, false)?,
                from: Address::Unix(None),
                truncated: false,
            });
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.datagram(number, &held, Receive { most, peek: false })
    }

    /// Receives a datagram from somebody whom the socket may hear.
    pub(super) fn datagram(
        &mut self,
        number: u32,
        held: &Held,
        receiving: Receive,
    ) -> Outcome<Received> {
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
        // There may be more, which no change will report.
        self.open.repeat(number);
        Err(Errno::Again.into())
    }

    pub(super) fn send(&self, number: u32, data: &[u8]) -> Outcome<usize> {
        let held = self.socket(number)?;
        let count = held.socket.send(&self.local.env.net, data)?;
        self.note(count);
        Ok(count)
    }

    /// Encrypts data by a TLS session, and sends what there is room for. Returns the
    /// bytes that are to be sent still, and how many bytes of the data were taken.
    pub(super) fn send_tls(
        &self,
        number: u32,
        engine: &mut Engine,
        data: &[u8],
    ) -> Outcome<(Vec<u8>, usize)> {
        // Nothing is encrypted that could not be sent.
        let held = self.stream(number)?;
        let (mut encrypted, taken) = engine.encrypt(data);
        if encrypted.is_empty() {
            return Ok((encrypted, taken));
        }
        match held.socket.send(&self.local.env.net, &encrypted) {
            Ok(count) => {
                self.note(count);
                encrypted.drain(..count);
            }
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((encrypted, taken))
    }

    pub(super) fn send_to(&self, number: u32, data: &[u8], to: Address) -> Outcome<usize> {
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

    pub(super) fn send_file(
        &self,
        number: u32,
        path: &str,
        offset: u64,
        most: u64,
    ) -> Outcome<u64> {
        let held = self.stream(number)?;
        let file = match held.file_being_sent(path, offset) {
            Some(file) => file,
            None => {
                let roots = &self.local.env.roots;
                let file = roots.open_file(path);
                let failed = |error| Failure::of_file(&error, path, roots.hold(path));
                Rc::new(file.map_err(failed)?)
            }
        };
        let env = &self.local.env.net;
        let count = match held.socket.send_file(env, &file, offset, most) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN) => {
                held.note_sending(path, file, offset);
                return Err(Errno::Again.into());
            }
            Err(error) => {
                held.end_sending();
                return Err(error.into());
            }
        };
        match count {
            0 => held.end_sending(),
            _ => held.note_sending(path, file, offset.saturating_add(count)),
        }
        self.note(usize::try_from(count).unwrap_or(usize::MAX));
        Ok(count)
    }

    /// Returns a socket that is a stream.
    fn stream(&self, number: u32) -> Outcome<&Rc<Held>> {
        let held = self.socket(number)?;
        match held.socket.kind() {
            SocketKind::Stream => Ok(held),
            SocketKind::Datagram => Err(Errno::NotSupported.into()),
        }
    }

    /// Notes bytes that were moved, so that a guest that moves many gives way
    /// when it waits next.
    pub(super) fn note(&self, count: usize) {
        if count >= LARGE {
            self.turn.note(count);
        }
    }
}
