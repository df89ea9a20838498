//! Data of a session: reading and writing.

use std::io::{self, BufRead, Write};

use super::{Engine, EngineFailure, Outcome, Side};

/// Maximum of plain bytes that one call reads.
const MOST_READ: usize = 1 << 20;

/// Outcome of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// Bytes of the peer.
    Data(Vec<u8>),
    /// It needs more of the network's bytes.
    WantRead,
    /// The peer sent `close_notify`.
    End,
}

impl Engine {
    /// Reads at most this many bytes of the peer's data.
    ///
    /// # Errors
    /// Fails as [`Self::handshake`] does, or with `Truncated` if the network
    /// has ended.
    pub fn read(&mut self, most: usize) -> Outcome<Plaintext> {
        let (data, next) = self.collect(most);
        match data.is_empty() {
            true => next,
            false => Ok(Plaintext::Data(data)),
        }
    }

    /// Takes bytes from the network, and reads at most this many bytes of the peer's
    /// data: [`Self::feed`] and [`Self::read`] in one. Returns the data, and true if
    /// [`Self::read`] or [`Self::take`] has more to tell.
    pub fn exchange(&mut self, data: &[u8], most: usize) -> (Vec<u8>, bool) {
        self.feed(data);
        let (data, next) = self.collect(most);
        let starves = matches!(next, Ok(Plaintext::WantRead));
        (data, !starves || self.has_output())
    }

    /// Encrypts data, and returns how many bytes of it were taken.
    ///
    /// # Errors
    /// Fails as the session has.
    pub fn write(&mut self, data: &[u8]) -> Outcome<usize> {
        self.check()?;
        match &mut self.side {
            Side::Connection(connection) => {
                let written = connection.writer().write(data);
                written.map_err(|error| EngineFailure::Protocol(error.to_string()))
            }
            _ => Ok(0),
        }
    }

    /// Encrypts data: [`Self::write`] and [`Self::take`] in one. Returns the bytes for
    /// the network, and how many bytes of the data were taken; if these are fewer,
    /// [`Self::write`] tells why.
    pub fn encrypt(&mut self, data: &[u8]) -> (Vec<u8>, usize) {
        let taken = self.write(data).unwrap_or(0);
        (self.take(), taken)
    }

    /// Reads at most this many bytes, and returns them with the outcome of a read after
    /// them: empty data if there may be more.
    fn collect(&mut self, most: usize) -> (Vec<u8>, Outcome<Plaintext>) {
        let most = most.min(MOST_READ);
        let mut data = Vec::new();
        loop {
            let Side::Connection(connection) = &mut self.side else {
                let next = self.check().and_then(|()| self.starve());
                return (data, next.map(|_| Plaintext::WantRead));
            };
            let mut reader = connection.reader();
            let taken = match reader.fill_buf() {
                Ok([]) => return (data, Ok(Plaintext::End)),
                Ok(chunk) => {
                    let taken = chunk.get(..most - data.len()).unwrap_or(chunk);
                    data.extend_from_slice(taken);
                    Some(taken.len())
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                Err(_) => return (data, Err(EngineFailure::Truncated)),
            };
            if let Some(taken) = taken {
                reader.consume(taken);
                if data.len() == most {
                    return (data, Ok(Plaintext::Data(Vec::new())));
                }
                continue;
            }
            // Data that came before a failure is given first.
            if let Some(failure) = &self.failed {
                return (data, Err(failure.clone()));
            }
            // There may be data before what was wrong.
            if let Ok(0) = self.advance() {
                let next = self.starve();
                return (data, next.map(|_| Plaintext::WantRead));
            }
        }
    }

    /// True if there are bytes for the network.
    fn has_output(&self) -> bool {
        !self.out.is_empty() || self.connection().is_some_and(|it| it.wants_write())
    }
}
