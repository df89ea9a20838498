//! Receiving and sending.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use netwasm_base::address::Address;

use crate::env::Env;
use crate::files::File;
use crate::queue::{self, FilePart};
use crate::sendfile;

use super::socket::{PosixSocket, socket_address};

/// Maximum that one call receives, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Size from which one call sends no more of a file, in bytes. Each call costs an
/// interpreter a turn of its event loop, which is dearer than to send a MiB.
const MOST_OF_FILE: u64 = 16 << 20;

/// Maximum that one sendfile(2) of a call sends, in bytes: as much as Linux lets a
/// socket hold unless `net.ipv4.tcp_wmem` says more, so that mostly one suffices. A
/// program has its worker for itself, and waits for the call in any case.
const SLICE_OF_FILE: u64 = 4 << 20;

/// Time after which a call sends no more of a file. The kernel sends some 8 MiB
/// meanwhile; CPython's own asyncio lets one call send more.
const LONGEST: Duration = Duration::from_millis(2);

impl PosixSocket {
    /// Receives bytes of a stream into a buffer that grows as needed, and
    /// returns them; none is the end.
    ///
    /// # Errors
    /// - `AGAIN`: there is nothing yet.
    /// - Otherwise fails as recv(2) does.
    pub fn receive<'a>(
        &self,
        env: &Env,
        buffer: &'a mut Vec<u8>,
        receiving: Receive,
    ) -> Result<&'a [u8], Errno> {
        let room = receiving.room(buffer);
        let count = loop {
            match rustix::net::recv(self, &mut *room, receiving.flags()) {
                Err(Errno::INTR) => {}
                result => break result?.0,
            }
        };
        self.moved(env);
        Ok(room.get(..count).unwrap_or_default())
    }

    /// Receives a datagram into a buffer that grows as needed.
    ///
    /// # Errors
    /// - `AGAIN`: there is none.
    /// - Otherwise fails as recvfrom(2) does.
    pub fn receive_from<'a>(
        &self,
        buffer: &'a mut Vec<u8>,
        receiving: Receive,
    ) -> Result<PosixDatagram<'a>, Errno> {
        let room = receiving.room(buffer);
        // The length is then that of the datagram.
        let flags = receiving.flags() | RecvFlags::TRUNC;
        let (count, length, from) = loop {
            match rustix::net::recvfrom(self, &mut *room, flags) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        Ok(PosixDatagram {
            data: room.get(..count).unwrap_or_default(),
            from: from.map_or(Address::Unix(None), Address::from),
            truncated: length > count,
        })
    }

    /// Sends what there is room for, and returns how many bytes that was.
    ///
    /// # Errors
    /// - `AGAIN`: there is no room.
    /// - Otherwise fails as send(2) does.
    pub fn send(&self, env: &Env, data: &[u8]) -> Result<usize, Errno> {
        let count = queue::send(self, data, false)?;
        self.moved(env);
        Ok(count)
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// Fails as sendto(2) does.
    pub fn send_to(&self, data: &[u8], to: &Address) -> Result<usize, Errno> {
        let address = socket_address(to)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match rustix::net::sendto(self, data, flags, &address) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Sends a part of a file, as much as there is room for, and returns how many
    /// bytes that was; 0 at the end of the file.
    ///
    /// # Errors
    /// - `AGAIN`: there is no room.
    /// - Otherwise fails as sendfile(2) does.
    pub fn send_file(
        &self,
        env: &Env,
        file: &Rc<File>,
        offset: u64,
        most: u64,
    ) -> Result<u64, Errno> {
        if most == 0 {
            return Ok(0);
        }
        let mut part = FilePart {
            file: Rc::clone(file),
            offset,
            remaining: most,
        };
        let begun = Instant::now();
        let ended = loop {
            match sendfile::send(self.as_fd(), &mut part, SLICE_OF_FILE) {
                Ok(sent) if sent.short || part.remaining == 0 => break None,
                Ok(_) if part.offset - offset >= MOST_OF_FILE => break None,
                // It is not in the page cache, or the processor is slow.
                Ok(_) if begun.elapsed() > LONGEST => break None,
                Ok(_) => {}
                Err(error) => break Some(error),
            }
        };
        // Bytes that were sent count, and an error comes again.
        match (part.offset - offset, ended) {
            (0, Some(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            (0, Some(error)) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            (count, _) => {
                self.moved(env);
                Ok(count)
            }
        }
    }
}

/// Options of a receive.
#[derive(Clone, Copy, Debug)]
pub struct Receive {
    /// Maximum of bytes, of which [`MOST_BYTES`] are used.
    pub most: usize,
    /// True to leave them there.
    pub peek: bool,
}

impl Receive {
    fn flags(self) -> RecvFlags {
        let mut flags = RecvFlags::DONTWAIT;
        flags.set(RecvFlags::PEEK, self.peek);
        flags
    }

    fn room(self, buffer: &mut Vec<u8>) -> &mut [u8] {
        let most = self.most.min(MOST_BYTES);
        if buffer.len() < most {
            buffer.resize(most, 0);
        }
        buffer.get_mut(..most).unwrap_or_default()
    }
}

/// A datagram in a buffer.
#[derive(Debug)]
pub struct PosixDatagram<'a> {
    /// Its bytes, as far as there was room.
    pub data: &'a [u8],
    /// Its sender.
    pub from: Address,
    /// True if there was no room for all of it.
    pub truncated: bool,
}
