//! Latency of fast requests beside requests that never end by themselves.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::http::{Head, plain, request};
use super::{Poll, ended};

/// One request in this many never ends by itself.
const STUCK: usize = 10;

/// Connections that each make one request after another. For a tenth of all
/// requests, the guest loops until it is interrupted, and the client gets a
/// 500.
pub(crate) struct Latency {
    server: SocketAddr,
    poll: Poll,
    connections: Vec<Connection>,
    fast: Vec<u8>,
    stuck: Vec<u8>,
    /// Number of requests made.
    requests: usize,
    buffer: Vec<u8>,
}

struct Connection {
    /// Blocking: it is read only when there is data.
    stream: TcpStream,
    received: Vec<u8>,
    sent: Instant,
    is_fast: bool,
}

impl Latency {
    /// Connects, and makes the first requests, to the paths `fast` and `stuck`.
    pub(crate) fn new(
        server: SocketAddr,
        connections: usize,
        fast: &str,
        stuck: &str,
    ) -> io::Result<Self> {
        let mut load = Self {
            server,
            poll: Poll::new(connections)?,
            connections: Vec::new(),
            fast: request(server, fast),
            stuck: request(server, stuck),
            requests: 0,
            buffer: vec![0; 65_536],
        };
        for number in 0..connections {
            let connection = load.open(number)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    /// Goes on for this long, and returns the latency of each fast request that
    /// ended meanwhile.
    pub(crate) fn drive(&mut self, time: Duration) -> io::Result<Vec<Duration>> {
        let deadline = Instant::now() + time;
        let mut latencies = Vec::new();
        let mut ready = Vec::new();
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut ready)?;
            for &number in &ready {
                latencies.extend(self.answered(number)?);
            }
        }
        Ok(latencies)
    }

    /// Reads a part of a response, and makes the next request after its end.
    /// Returns the latency if the response is complete and was a fast one.
    fn answered(&mut self, number: usize) -> io::Result<Option<Duration>> {
        let connection = &mut self.connections[number];
        let length = connection.stream.read(&mut self.buffer)?;
        if length == 0 {
            return Err(ended());
        }
        connection
            .received
            .extend_from_slice(&self.buffer[..length]);
        let Some(head) = Head::parse(&connection.received)? else {
            return Ok(None);
        };
        if connection.received.len() < head.length + head.body {
            return Ok(None);
        }
        if head.status != if connection.is_fast { 200 } else { 500 } {
            return Err(io::Error::other(format!(
                "an unexpected response: {head:?}"
            )));
        }
        let latency = connection.is_fast.then(|| connection.sent.elapsed());
        if head.closes {
            self.connections[number] = self.open(number)?;
        } else {
            connection.received.clear();
            connection.is_fast = is_fast(self.requests);
            self.requests += 1;
            ask(connection, &self.fast, &self.stuck)?;
        }
        Ok(latency)
    }

    fn open(&mut self, number: usize) -> io::Result<Connection> {
        let mut connection = Connection {
            stream: plain(self.server)?,
            received: Vec::new(),
            sent: Instant::now(),
            is_fast: is_fast(self.requests),
        };
        self.requests += 1;
        self.poll.add(&connection.stream, number)?;
        ask(&mut connection, &self.fast, &self.stuck)?;
        Ok(connection)
    }
}

fn is_fast(request: usize) -> bool {
    !request.is_multiple_of(STUCK)
}

fn ask(connection: &mut Connection, fast: &[u8], stuck: &[u8]) -> io::Result<()> {
    connection.sent = Instant::now();
    let request = if connection.is_fast { fast } else { stuck };
    connection.stream.write_all(request)
}
