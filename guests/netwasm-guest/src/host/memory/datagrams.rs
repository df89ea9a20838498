//! Datagram sockets of a test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use super::HOST;
use crate::udp::{self, SharedSocket};
use crate::{Error, ErrorKind, Operation, Result, SocketOption};

/// A datagram socket of a test.
#[derive(Default)]
pub(crate) struct Socket {
    pub(crate) sent: RefCell<VecDeque<(Vec<u8>, SocketAddr)>>,
    pub(crate) closed: Cell<bool>,
    /// `None` for the address of a listener.
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

/// The guest's end of a socket.
pub(crate) struct DatagramTransport(pub(crate) Rc<Socket>);

impl DatagramTransport {
    pub(crate) fn send_to(&self, data: &[u8], to: SocketAddr) -> Result<()> {
        if self.0.closed.get() || self.0.peer.is_some_and(|peer| peer != to) {
            return Err(ErrorKind::InvalidState.into());
        }
        if data.len() > 65_507 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        self.0.sent.borrow_mut().push_back((data.to_vec(), to));
        Ok(())
    }

    pub(crate) fn send(&self, data: &[u8]) -> Result<()> {
        self.send_to(data, self.0.peer.ok_or(ErrorKind::InvalidState)?)
    }

    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        let listener = || ([192, 0, 2, 2], 53).into();
        (!self.0.closed.get()).then(|| self.0.local.unwrap_or_else(listener))
    }

    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.0.peer.filter(|_| !self.0.closed.get())
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        match option {
            _ if self.0.closed.get() => Err(ErrorKind::InvalidState.into()),
            SocketOption::HopLimit(0) => Err(ErrorKind::InvalidArgument.into()),
            SocketOption::NoDelay(_) | SocketOption::KeepAlive(_) => {
                Err(ErrorKind::NotSupported.into())
            }
            _ if self.0.local.is_none() => Err(ErrorKind::NotSupported.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn close(&self) {
        self.0.closed.set(true);
    }
}

/// An attempt to open a connected socket.
pub(super) struct Attempt {
    token: u64,
    host: String,
    port: u16,
}

fn socket(local: SocketAddr, peer: Option<SocketAddr>) -> DatagramTransport {
    let mut local = local;
    if local.port() == 0 {
        local.set_port(50_000);
    }
    DatagramTransport(Rc::new(Socket {
        local: Some(local),
        peer,
        ..Socket::default()
    }))
}

/// Opens a socket. The token is of no use here: tests find it by itself.
#[expect(clippy::unnecessary_wraps, reason = "the host of a component may fail")]
pub(crate) fn bind_datagrams(_token: u64, local: SocketAddr) -> Result<DatagramTransport> {
    Ok(socket(local, None))
}

#[expect(clippy::unnecessary_wraps, reason = "the host of a component may fail")]
pub(crate) fn connect_datagrams(token: u64, host: &str, port: u16) -> Result<()> {
    let host = host.to_owned();
    HOST.with(|all| {
        let mut attempts = all.datagram_attempts.borrow_mut();
        attempts.push(Attempt { token, host, port });
    });
    Ok(())
}

pub(crate) fn cancel_datagrams(token: u64) {
    HOST.with(|host| {
        let mut attempts = host.datagram_attempts.borrow_mut();
        attempts.retain(|attempt| attempt.token != token);
    });
}

/// Notes a socket that the guest opened.
pub(crate) fn opened(shared: &Rc<SharedSocket>) {
    HOST.with(|host| host.sockets.borrow_mut().push_back(shared.clone()));
}

/// Takes the first socket that the guest opened.
pub(crate) fn next_opened() -> Option<Rc<SharedSocket>> {
    HOST.with(|host| host.sockets.borrow_mut().pop_front())
}

/// Delivers the outcome of an attempt, if there is one.
pub(super) fn deliver() -> bool {
    let Some(attempt) = HOST.with(|host| host.datagram_attempts.borrow_mut().pop()) else {
        return false;
    };
    let literal = attempt.host.parse().ok();
    let named = || HOST.with(|host| host.names.borrow().get(&attempt.host)?.first().copied());
    let outcome = match literal.or_else(named) {
        Some(ip) => Ok(socket(
            ([192, 0, 2, 2], 0).into(),
            Some(SocketAddr::new(ip, attempt.port)),
        )),
        None => {
            let kind = ErrorKind::NameUnresolvable;
            Err(Error::fixed(kind, Operation::Resolve, kind.text()))
        }
    };
    udp::connected(attempt.token, outcome);
    true
}
