//! Requests over keep-alive connections.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use super::tls::{Buffers, Session, client_config};
use super::{Load, PATIENCE, Poll, ended};
use crate::site::Resource;

/// Keep-alive connections that each request the same resource again and again.
/// An operation is a response; for files so large that few come in a second, it
/// is a MiB.
///
/// Every connection's first response is checked closely. Of those that follow,
/// only the length is checked, so that this is cheaper than any server.
pub(crate) struct Http {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    request: Vec<u8>,
    /// Length of a response in bytes.
    response: usize,
    /// Length of an operation in bytes.
    operation: u64,
    /// Bytes that came but do not make an operation yet.
    rest: u64,
    discarded: Vec<u8>,
    buffers: Buffers,
}

struct Connection {
    wire: Wire,
    /// Bytes of the response that are yet to come.
    missing: usize,
}

pub(super) enum Wire {
    /// Blocking: it is read only when there is data.
    Plain(TcpStream),
    Tls(Box<Session>),
}

const MIB: usize = 1 << 20;
/// Size of a read in bytes, as wrk has it.
const READ: usize = 8 << 10;
const LONGEST_HEAD: usize = 8 << 10;

impl Http {
    /// Connects, and sends the first request over every connection.
    pub(crate) fn new(
        server: SocketAddr,
        secure: bool,
        connections: usize,
        resource: Resource,
    ) -> io::Result<Self> {
        let tls = secure.then(client_config).transpose()?.map(Arc::new);
        let wire = || match &tls {
            Some(config) => Session::connect(server, config).map(|it| Wire::Tls(Box::new(it))),
            None => plain(server).map(Wire::Plain),
        };
        let request = message(server, resource);
        let body = resource.body();
        let response = check(&mut wire()?, &request, &body)?;
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            request,
            response,
            operation: response.min(MIB) as u64,
            rest: 0,
            discarded: vec![0; READ],
            buffers: Buffers::new(),
        };
        for number in 0..connections {
            let mut wire = wire()?;
            if check(&mut wire, &load.request, &body)? != response {
                return Err(io::Error::other("responses differ in length"));
            }
            load.poll.add(&wire, number)?;
            load.connections.push(Connection {
                wire,
                missing: response,
            });
        }
        for connection in &mut load.connections {
            connection.wire.send(&load.request)?;
        }
        Ok(load)
    }
}

impl Load for Http {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut bytes = self.rest;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                let length = match &mut connection.wire {
                    Wire::Plain(stream) => discard(stream, &mut self.discarded)?,
                    Wire::Tls(session) => session.receive(&mut self.buffers)?,
                };
                let Some(missing) = connection.missing.checked_sub(length) else {
                    return Err(io::Error::other("a response is longer than the first"));
                };
                connection.missing = missing;
                bytes += length as u64;
                if missing == 0 {
                    connection.missing = self.response;
                    connection.wire.send(&self.request)?;
                }
            }
        }
        self.rest = bytes % self.operation;
        Ok(bytes / self.operation)
    }
}

impl Wire {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(message),
            Self::Tls(session) => session.send(message),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(session) => session.as_fd(),
        }
    }
}

pub(super) fn plain(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Returns the request that wrk sends.
pub(super) fn request(server: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n").into()
}

/// Returns the request of a resource.
pub(super) fn message(server: SocketAddr, resource: Resource) -> Vec<u8> {
    let path = resource.path();
    let Some(body) = resource.sent() else {
        return request(server, path);
    };
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), body].concat()
}

/// Reads like a client that uses what it gets. A `MSG_TRUNC` (tcp(7)) would
/// spare the copy. But a receiver on loopback that is faster than the sender
/// sleeps after every segment, and then waking it is what is measured.
fn discard(mut stream: &TcpStream, discarded: &mut [u8]) -> io::Result<usize> {
    match stream.read(discarded)? {
        0 => Err(ended()),
        length => Ok(length),
    }
}

/// Makes a request, checks the body of its response, and returns the length of
/// the response with its head.
pub(super) fn check(wire: &mut Wire, request: &[u8], body: &[u8]) -> io::Result<usize> {
    match wire {
        Wire::Plain(stream) => exchange(stream, request, body),
        Wire::Tls(session) => exchange(session.stream(), request, body),
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8], body: &[u8]) -> io::Result<usize> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut response = vec![0; LONGEST_HEAD + body.len()];
    let mut filled = 0;
    loop {
        let length = stream.read(&mut response[filled..])?;
        if length == 0 {
            return Err(ended());
        }
        filled += length;
        let Some(head) = Head::parse(&response[..filled])? else {
            continue;
        };
        if head.status != 200 || head.body != body.len() {
            return Err(io::Error::other(format!(
                "an unexpected response: {head:?}"
            )));
        }
        if filled == head.length + head.body {
            if response[head.length..filled] != *body {
                return Err(io::Error::other("the response has another body"));
            }
            return Ok(filled);
        }
    }
}

/// Head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Length of the head in bytes.
    pub(super) length: usize,
    /// `Content-Length`.
    pub(super) body: usize,
    /// True if the connection ends after the response.
    pub(super) closes: bool,
}

impl Head {
    /// Parses a head. `None` if more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(bytes).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let field = |name: &str| {
            let mut fields = response.headers.iter();
            let field = fields.find(|field| field.name.eq_ignore_ascii_case(name));
            field.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let body = field("content-length").and_then(|value| value.parse().ok());
        Ok(Some(Self {
            status: response.code.unwrap_or_default(),
            length,
            body: body.ok_or_else(|| io::Error::other("a response without Content-Length"))?,
            closes: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        }))
    }
}
