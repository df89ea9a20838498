//! Connections that each send one message to and fro.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Load, Poll, connect, ended, pattern};

/// Connections that each send one message to and fro. An operation is a round
/// trip.
pub(crate) struct PingPong {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    /// Blocking: it is read only when there is data, and a message fits the
    /// socket's buffer.
    stream: TcpStream,
    /// Bytes of the answer that are yet to come.
    missing: usize,
}

impl PingPong {
    /// Connects, and sends the first message over every connection.
    pub(crate) fn new(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            message: pattern(size),
            buffer: vec![0; 65_536.max(size)],
        };
        for number in 0..connections {
            let stream = connect(server)?;
            load.poll.add(&stream, number)?;
            load.connections.push(Connection {
                stream,
                missing: size,
            });
        }
        for connection in &mut load.connections {
            connection.stream.write_all(&load.message)?;
        }
        Ok(load)
    }
}

impl Load for PingPong {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                let length = connection.stream.read(&mut self.buffer)?;
                if length == 0 {
                    return Err(ended());
                }
                connection.missing = connection.missing.saturating_sub(length);
                if connection.missing == 0 {
                    operations += 1;
                    connection.missing = self.message.len();
                    connection.stream.write_all(&self.message)?;
                }
            }
        }
        Ok(operations)
    }
}
