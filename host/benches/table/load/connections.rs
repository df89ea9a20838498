//! Connections that are opened, used once and closed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::{Load, Poll, connect, ended, pattern};

/// Connections that are opened, carry one message to and fro, and are closed.
/// An operation is one connection, from the connect to the server's close.
///
/// The end is orderly, and alike for every server: the client shuts its sending
/// side, the server sees the end of the stream and closes, the client sees
/// that. Because the client was first, the waiting time (TIME_WAIT) is on its
/// side and occupies one of its ports for a minute, or over loopback for a
/// second (`tcp_tw_reuse`). A port belongs to a pair of addresses, so the
/// clients come from many addresses of 127.0.0.0/8 in turn.
pub(crate) struct Connections {
    server: SocketAddr,
    poll: Poll,
    ready: Vec<usize>,
    /// Number of connections opened so far.
    opened: u32,
    connections: Vec<Connection>,
    message: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    /// Blocking: it is read only when there is data.
    stream: TcpStream,
    /// Bytes of the answer that are yet to come.
    missing: usize,
}

/// Number of addresses that the clients come from.
const SOURCES: u32 = 64;

impl Connections {
    /// Opens the first connections.
    pub(crate) fn new(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        connect(server)?;
        let mut load = Self {
            server,
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            opened: 0,
            connections: Vec::new(),
            message: pattern(size),
            buffer: vec![0; size],
        };
        for number in 0..connections {
            let connection = load.open(number)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn open(&mut self, number: usize) -> io::Result<Connection> {
        self.opened += 1;
        let [a, b, c, d] = (0x7f00_0002 + self.opened % SOURCES).to_be_bytes();
        let source = SocketAddr::from((IpAddr::V4(Ipv4Addr::new(a, b, c, d)), 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // connect(2) chooses the port, because it knows the whole pair.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&source.into())?;
        socket.connect(&self.server.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(&self.message)?;
        self.poll.add(&stream, number)?;
        Ok(Connection {
            stream,
            missing: self.message.len(),
        })
    }
}

impl Load for Connections {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        let mut ready = std::mem::take(&mut self.ready);
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut ready)?;
            for &number in &ready {
                let connection = &mut self.connections[number];
                let length = connection.stream.read(&mut self.buffer)?;
                match (connection.missing, length) {
                    (0, _) => {
                        operations += 1;
                        self.connections[number] = self.open(number)?;
                    }
                    (_, 0) => return Err(ended()),
                    (missing, _) if missing > length => connection.missing -= length,
                    _ => {
                        connection.missing = 0;
                        connection.stream.shutdown(Shutdown::Write)?;
                    }
                }
            }
        }
        self.ready = ready;
        Ok(operations)
    }
}
