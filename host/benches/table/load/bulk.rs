//! A few connections that carry as much as they can, both ways.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Load, Poll, connect, ended, pattern};

/// Connections that carry as much as they can, both ways. An operation is a
/// MiB that has come back.
pub(crate) struct Bulk {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    chunk: Vec<u8>,
    discarded: Vec<u8>,
    /// Bytes that came back but do not make a MiB yet.
    rest: u64,
}

struct Connection {
    /// Non-blocking.
    stream: TcpStream,
    /// Bytes that were sent and have not come back.
    under_way: usize,
}

const MIB: u64 = 1 << 20;
/// Size of a write in bytes.
const CHUNK: usize = 256 << 10;
/// Most bytes under way on a connection: enough that a server which reads 64
/// KiB at a time never waits, and few enough to stay in a cache.
const WINDOW: usize = 1 << 20;

impl Bulk {
    /// Connects, and fills the window of every connection.
    pub(crate) fn new(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            chunk: pattern(CHUNK),
            discarded: vec![0; WINDOW],
            rest: 0,
        };
        for number in 0..connections {
            let stream = connect(server)?;
            stream.set_nonblocking(true)?;
            load.poll.add(&stream, number)?;
            let mut connection = Connection {
                stream,
                under_way: 0,
            };
            connection.fill(&load.chunk)?;
            load.connections.push(connection);
        }
        Ok(load)
    }
}

impl Connection {
    /// Sends until the window or the socket is full. In both cases bytes will
    /// come back, and sending then goes on.
    fn fill(&mut self, chunk: &[u8]) -> io::Result<()> {
        while self.under_way + chunk.len() <= WINDOW {
            match self.stream.write(chunk) {
                Ok(length) => self.under_way += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Load for Bulk {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut bytes = self.rest;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                let length = (&connection.stream).read(&mut self.discarded)?;
                if length == 0 {
                    return Err(ended());
                }
                connection.under_way = connection.under_way.saturating_sub(length);
                bytes += length as u64;
                connection.fill(&self.chunk)?;
            }
        }
        self.rest = bytes % MIB;
        Ok(bytes / MIB)
    }
}
