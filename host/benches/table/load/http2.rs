//! Requests over the streams of HTTP/2 connections.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::http::plain;
use super::{Load, Poll, ended};
use crate::site::Resource;

/// Connections that each keep a number of requests under way. An operation is a
/// response; for files so large that few come in a second, it is a MiB.
///
/// Every head is encoded as if it were the first, so that all are the same work
/// to the server. The first response of a connection is checked; of later ones,
/// only the end is noticed.
pub(crate) struct Http2 {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    /// True if an operation is a MiB.
    large: bool,
    /// Bytes that came but do not make an operation yet.
    rest: u64,
}

pub(super) struct Connection {
    stream: TcpStream,
    /// Body that a response must have.
    expected: Vec<u8>,
    /// Bytes of DATA received: in all, and (`taken`) since the last window
    /// update.
    received: u64,
    taken: u32,
    /// Head of the request, in HPACK.
    request: Vec<u8>,
    next: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    /// DATA received, if the body is to be checked.
    body: Option<Vec<u8>>,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const READ: usize = 64 << 10;
const MIB: u64 = 1 << 20;
/// Bytes that the server may send before a window update.
const WINDOW: u32 = 0x7000_0000;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Http2 {
    /// Connects, and sends the first requests over every connection.
    pub(crate) fn new(
        server: SocketAddr,
        connections: usize,
        streams: usize,
        resource: Resource,
    ) -> io::Result<Self> {
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            large: resource.body().len() as u64 > MIB,
            rest: 0,
        };
        for number in 0..connections {
            let mut connection = Connection::new(server, resource)?;
            load.poll.add(&connection.stream, number)?;
            connection.check()?;
            (0..streams).for_each(|_| connection.ask());
            connection.send()?;
            load.connections.push(connection);
        }
        Ok(load)
    }
}

impl Load for Http2 {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut responses = 0;
        let before: u64 = self.connections.iter().map(|it| it.received).sum();
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                let ended = connection.receive()?;
                (0..ended).for_each(|_| connection.ask());
                connection.send()?;
                responses += ended;
            }
        }
        if !self.large {
            return Ok(responses);
        }
        let received: u64 = self.connections.iter().map(|it| it.received).sum();
        let bytes = self.rest + received - before;
        self.rest = bytes % MIB;
        Ok(bytes / MIB)
    }
}

impl Connection {
    pub(super) fn new(server: SocketAddr, resource: Resource) -> io::Result<Self> {
        let mut request = vec![0x82, 0x86];
        // GET, http, this path and this authority.
        for (name, value) in [(0x04, resource.path()), (0x01, &server.to_string())] {
            request.extend([name, value.len() as u8]);
            request.extend_from_slice(value.as_bytes());
        }
        let mut connection = Self {
            stream: plain(server)?,
            expected: resource.body(),
            received: 0,
            taken: 0,
            request,
            next: 1,
            input: Vec::new(),
            output: PREFACE.to_vec(),
            body: None,
        };
        // SETTINGS_INITIAL_WINDOW_SIZE, which is that of a stream.
        let mut settings = vec![0, 4];
        settings.extend(WINDOW.to_be_bytes());
        connection.frame(SETTINGS, 0, 0, &settings);
        connection.frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Ok(connection)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.output.extend_from_slice(&length[1..]);
        self.output.extend_from_slice(&[kind, flags]);
        self.output.extend_from_slice(&stream.to_be_bytes());
        self.output.extend_from_slice(payload);
    }

    fn ask(&mut self) {
        let request = std::mem::take(&mut self.request);
        self.frame(HEADERS, END_HEADERS | END_STREAM, self.next, &request);
        self.request = request;
        self.next += 2;
    }

    fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    /// Makes a request, and checks that the response has the expected body.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.body = Some(Vec::new());
        self.ask();
        self.send()?;
        while self.receive()? == 0 {
            self.send()?;
        }
        match self.body.take() {
            Some(body) if body == self.expected => Ok(()),
            body => Err(io::Error::other(format!(
                "another body, of {} bytes",
                body.unwrap_or_default().len()
            ))),
        }
    }

    /// Reads once, and returns the number of responses that have ended.
    fn receive(&mut self) -> io::Result<u64> {
        let begin = self.input.len();
        self.input.resize(begin + READ, 0);
        let length = self.stream.read(&mut self.input[begin..])?;
        self.input.truncate(begin + length);
        if length == 0 {
            return Err(ended());
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        let mut responses = 0;
        while let Some((head, after)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some((payload, after)) = after.split_at_checked(length) else {
                break;
            };
            rest = after;
            let (kind, flags) = (head[3], head[4]);
            match kind {
                DATA | HEADERS => {
                    responses += u64::from(flags & END_STREAM);
                    if kind == DATA {
                        self.received += payload.len() as u64;
                        self.taken += payload.len() as u32;
                    }
                    if let Some(body) = self.body.as_mut().filter(|_| kind == DATA) {
                        body.extend_from_slice(payload);
                    }
                }
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, payload),
                RST_STREAM | GOAWAY => {
                    return Err(io::Error::other(format!("a frame {head:?} {payload:?}")));
                }
                _ => {}
            }
        }
        self.input.extend_from_slice(rest);
        if self.taken > WINDOW / 2 {
            let taken = std::mem::take(&mut self.taken);
            self.frame(WINDOW_UPDATE, 0, 0, &taken.to_be_bytes());
        }
        Ok(responses)
    }
}
