//! Connections between the guest and a test.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{File, HOST, TlsRole, example_info, topics};
use crate::connection::Shared;
use crate::{Error, ErrorKind, Info, Operation, Result, SocketOption, TlsInfo};

/// A connection between the guest and a test.
pub(crate) struct Pipe {
    /// Receiver of the events.
    events: RefCell<Weak<Shared>>,
    /// Bytes that the guest wrote and the test has not taken.
    written: RefCell<VecDeque<u8>>,
    /// Bytes that the test sent and the guest has not got.
    sent: RefCell<VecDeque<Vec<u8>>>,
    limits: Cell<(u64, u64)>,
    /// True if `writable` is due once there is room.
    promised: Cell<bool>,
    paused: Cell<bool>,
    /// How the guest ended its side.
    end: Cell<Option<End>>,
    /// True once the test ended its side; and once the guest knows.
    finished: Cell<bool>,
    finish_told: Cell<bool>,
    /// Why the connection failed, before the guest knows.
    failure: RefCell<Option<Error>>,
    lost: Cell<bool>,
    relay: RefCell<Option<Rc<Self>>>,
    pub(super) tls: RefCell<Option<TlsInfo>>,
    tls_told: Cell<bool>,
    idle_timeout: Cell<Option<Duration>>,
    /// The pool that the connection has a place in.
    pub(super) pool: Cell<Option<usize>>,
}

/// How a guest ended its side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended its sending side.
    Finished,
    /// It closed the connection.
    Closed,
    /// It reset the connection.
    Aborted,
}

impl Pipe {
    pub(crate) fn new() -> Rc<Self> {
        let pipe = Rc::new(Self {
            events: RefCell::default(),
            written: RefCell::default(),
            sent: RefCell::default(),
            limits: Cell::new((64 << 10, 16 << 10)),
            promised: Cell::new(false),
            paused: Cell::new(false),
            end: Cell::new(None),
            finished: Cell::new(false),
            finish_told: Cell::new(false),
            failure: RefCell::default(),
            lost: Cell::new(false),
            relay: RefCell::default(),
            tls: RefCell::default(),
            tls_told: Cell::new(true),
            idle_timeout: Cell::new(None),
            pool: Cell::new(None),
        });
        HOST.with(|host| host.pipes.borrow_mut().push(Rc::downgrade(&pipe)));
        pipe
    }

    /// Makes the guest's state of the connection.
    pub(crate) fn open(self: &Rc<Self>) -> Rc<Shared> {
        let shared = Shared::new(Transport(self.clone()));
        self.attach(&shared);
        shared
    }

    pub(super) fn attach(&self, shared: &Rc<Shared>) {
        *self.events.borrow_mut() = Rc::downgrade(shared);
    }

    // Actions of the test.

    pub(crate) fn send(&self, data: &[u8]) {
        if !data.is_empty() {
            self.sent.borrow_mut().push_back(data.to_vec());
        }
    }

    pub(crate) fn finish(&self) {
        self.finished.set(true);
    }

    pub(crate) fn fail(&self, error: Error) {
        *self.failure.borrow_mut() = Some(error);
    }

    /// The bytes that wait to be taken.
    pub(crate) fn available(&self) -> usize {
        self.written.borrow().len()
    }

    pub(crate) fn take(&self, count: usize) -> Vec<u8> {
        let mut written = self.written.borrow_mut();
        let count = count.min(written.len());
        written.drain(..count).collect()
    }

    pub(crate) fn peek(&self) -> Vec<u8> {
        self.written.borrow().iter().copied().collect()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub(crate) fn in_tls(&self) -> bool {
        self.tls.borrow().is_some()
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.get()
    }

    // Actions of the host.

    fn lose(&self, events: &Shared, reason: Option<Error>) {
        self.lost.set(true);
        HOST.with(|host| super::pool::give_place(host, self.pool.take()));
        if reason.is_some() {
            self.end.set(Some(End::Aborted));
        }
        events.connection_lost(reason);
    }

    /// True if nothing more can be written.
    pub(super) fn is_over(&self) -> bool {
        self.lost.get() || self.end.get().is_some()
    }

    /// True if the connection may be handed out again.
    pub(super) fn is_fresh(&self) -> bool {
        let is_over = self.lost.get() || self.end.get().is_some() || self.finished.get();
        !is_over && self.failure.borrow().is_none() && self.sent.borrow().is_empty()
    }

    /// Lets nobody get the events of an idle connection.
    pub(super) fn detach(&self) {
        *self.events.borrow_mut() = Weak::new();
    }

    /// Closes an idle connection.
    pub(super) fn close_idle(&self) {
        self.end.set(Some(End::Closed));
        self.lost.set(true);
    }

    /// Delivers an event if one is due.
    pub(super) fn deliver(&self) -> bool {
        if self.lost.get() {
            return false;
        }
        let Some(events) = self.events.borrow().upgrade() else {
            return false;
        };
        let failure = self.failure.borrow_mut().take();
        if failure.is_some() {
            self.lose(&events, failure);
            return true;
        }
        match self.end.get() {
            Some(End::Closed) => {
                self.lose(&events, None);
                return true;
            }
            Some(End::Aborted) => {
                let aborted = ErrorKind::ConnectionAborted;
                let error = Error::fixed(aborted, Operation::Connection, aborted.text());
                self.lose(&events, Some(error));
                return true;
            }
            Some(End::Finished) | None => {}
        }
        if !self.tls_told.replace(true) {
            let session = self.tls.borrow().clone().unwrap_or_default();
            events.tls_started(session);
            return true;
        }
        let relay = self.relay.borrow().clone();
        if !self.paused.get() {
            let data = self.sent.borrow_mut().pop_front();
            if let Some(data) = data {
                match relay {
                    Some(to) => to.written.borrow_mut().extend(data),
                    None => events.data_received(data),
                }
                return true;
            }
            if self.finished.get() && !self.finish_told.replace(true) {
                match relay {
                    Some(to) => to.end.set(Some(End::Finished)),
                    None => events.eof_received(),
                }
                return true;
            }
        }
        if self.relay.borrow().is_some() && self.finish_told.get() && self.end.get().is_some() {
            self.end.set(Some(End::Closed));
            return true;
        }
        let (_, low) = self.limits.get();
        if self.promised.get() && self.available() as u64 <= low {
            self.promised.set(false);
            events.writable();
            return true;
        }
        false
    }
}

/// The guest's end of a pipe.
pub(crate) struct Transport(pub(super) Rc<Pipe>);

impl Transport {
    fn is_closing(&self) -> bool {
        let ended = matches!(self.0.end.get(), Some(End::Closed | End::Aborted));
        ended || self.0.lost.get()
    }

    pub(crate) fn write(&self, data: &[u8]) -> u64 {
        if self.is_closing() || self.0.end.get().is_some() {
            return u64::MAX;
        }
        self.0.written.borrow_mut().extend(data);
        self.room()
    }

    pub(crate) fn writelines(&self, data: &[Vec<u8>]) -> u64 {
        self.write(&data.concat())
    }

    pub(crate) fn room(&self) -> u64 {
        let (high, _) = self.0.limits.get();
        let room = high.saturating_sub(self.0.available() as u64);
        if room == 0 {
            self.0.promised.set(true);
        }
        room
    }

    pub(crate) fn want_write(&self) {
        self.0.promised.set(true);
    }

    pub(crate) fn write_eof(&self) -> Result<()> {
        if self.0.end.get().is_some() || self.0.lost.get() {
            return Err(ErrorKind::InvalidState.into());
        }
        self.0.end.set(Some(End::Finished));
        Ok(())
    }

    pub(crate) fn send_file(&self, file: &File, offset: u64, length: Option<u64>) -> Result<u64> {
        let part = usize::try_from(offset).ok().and_then(|offset| {
            let rest = file.0.get(offset..)?;
            match length {
                Some(length) => rest.get(..usize::try_from(length).ok()?),
                None => Some(rest),
            }
        });
        let part = part.ok_or(ErrorKind::InvalidArgument)?;
        self.0.written.borrow_mut().extend(part);
        Ok(part.len() as u64)
    }

    pub(crate) fn relay(&self, to: &Self) -> Result<()> {
        let relayed = self.0.relay.borrow().is_some();
        if self.is_closing() || to.is_closing() || relayed || topics::has_any(&to.0) {
            return Err(ErrorKind::InvalidState.into());
        }
        *self.0.relay.borrow_mut() = Some(to.0.clone());
        Ok(())
    }

    pub(crate) fn start_tls(&self, role: TlsRole, received: &[u8]) -> Result<()> {
        if self.is_closing() || self.0.in_tls() {
            return Err(ErrorKind::InvalidState.into());
        }
        let session = match role {
            TlsRole::Server => session(None, None),
            TlsRole::Client(options) => {
                let name = options.server_name.ok_or(ErrorKind::InvalidArgument)?;
                session(Some(name), options.alpn.into_iter().next())
            }
        };
        *self.0.tls.borrow_mut() = Some(session);
        self.0.tls_told.set(false);
        if !received.is_empty() {
            // There is no cipher here: what is sent is what arrives.
            self.0.sent.borrow_mut().push_front(received.to_vec());
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        if !self.is_closing() {
            self.0.end.set(Some(End::Closed));
        }
    }

    pub(crate) fn abort(&self) {
        if !self.is_closing() {
            self.0.written.borrow_mut().clear();
            self.0.end.set(Some(End::Aborted));
        }
    }

    pub(crate) fn pause_reading(&self) {
        self.0.paused.set(true);
    }

    pub(crate) fn resume_reading(&self) {
        self.0.paused.set(false);
    }

    pub(crate) fn set_idle_timeout(&self, after: Option<Duration>) {
        self.0.idle_timeout.set(after);
    }

    pub(crate) fn set_option(&self, option: SocketOption) -> Result<()> {
        if self.is_closing() {
            return Err(ErrorKind::InvalidState.into());
        }
        match option {
            SocketOption::HopLimit(0) => Err(ErrorKind::InvalidArgument.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_write_buffer_limits(&self, high: u64, low: u64) {
        let high = high.max(1);
        self.0.limits.set((high, low.min(high)));
    }

    pub(crate) fn number(&self) -> u64 {
        0
    }

    /// Returns nothing: there is no proxy here.
    pub(crate) fn proxied(&self) -> Option<crate::ProxyInfo> {
        None
    }

    pub(crate) fn info(&self) -> Info {
        Info {
            tls: self.0.tls.borrow().clone(),
            ..example_info()
        }
    }
}

pub(super) fn session(server_name: Option<String>, alpn: Option<String>) -> TlsInfo {
    TlsInfo {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS13_AES_128_GCM_SHA256".to_owned(),
        alpn,
        server_name,
        peer_certificates: Vec::new(),
    }
}
