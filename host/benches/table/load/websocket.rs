//! WebSocket (RFC 6455) as a client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::http::plain;
use super::{Load, Poll, ended, pattern};

/// Mask of all frames.
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

// First bytes of whole messages: RFC 6455, section 5.2, and RFC 7692, section 6.
const TEXT: u8 = 0x81;
const PACKED_TEXT: u8 = 0xc1;
const BINARY: u8 = 0x82;

/// End of a compressed message, which is not sent: RFC 7692, section 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Size of the text that is sent compressed, in bytes.
const JSON: usize = 1 << 10;

/// Size of a message of a topic, in bytes.
const PUBLISHED: usize = 64;

/// Connections that each send one message to and fro. An operation is a round
/// trip.
pub(crate) struct Echoes {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    /// The frame of the message.
    message: Vec<u8>,
    /// Length of the frame that comes back.
    answer: usize,
    buffer: Vec<u8>,
}

struct Connection {
    /// Blocking: it is read only when there is data.
    stream: TcpStream,
    /// Bytes that are yet to come.
    missing: usize,
}

impl Echoes {
    /// Connects, and sends the first message of so many bytes over every connection.
    pub(crate) fn new(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let data = pattern(size);
        let message = frame(BINARY, &data);
        Self::of(server, connections, message, false, |frame| {
            frame.first == BINARY && frame.payload == data
        })
    }

    /// Like [`Self::new`], with a text of JSON that both sides compress, each message
    /// by itself.
    pub(crate) fn packed(server: SocketAddr, connections: usize) -> io::Result<Self> {
        let text = json();
        let message = frame(PACKED_TEXT, &compressed(&text)?);
        Self::of(server, connections, message, true, |frame| {
            frame.first == PACKED_TEXT
                && decompressed(&frame.payload).is_ok_and(|received| received == text)
        })
    }

    fn of(
        server: SocketAddr,
        connections: usize,
        message: Vec<u8>,
        packed: bool,
        is_right: impl Fn(&Frame) -> bool,
    ) -> io::Result<Self> {
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            message,
            answer: 0,
            buffer: vec![0; 65_536],
        };
        for number in 0..connections {
            let mut client = Client::open(server, packed)?;
            client.stream.write_all(&load.message)?;
            let frame = client.next()?;
            if !is_right(&frame) {
                return Err(differs());
            }
            load.answer = frame.length;
            load.poll.add(&client.stream, number)?;
            load.connections.push(Connection {
                stream: client.stream,
                missing: frame.length,
            });
        }
        for connection in &mut load.connections {
            connection.stream.write_all(&load.message)?;
        }
        Ok(load)
    }
}

impl Load for Echoes {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                if connection.receive(&mut self.buffer)? {
                    operations += 1;
                    connection.missing = self.answer;
                    connection.stream.write_all(&self.message)?;
                }
            }
        }
        Ok(operations)
    }
}

impl Connection {
    /// Receives what has come. Returns true if nothing is missing any more.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let length = self.stream.read(buffer)?;
        if length == 0 {
            return Err(ended());
        }
        let missing = self.missing.checked_sub(length);
        self.missing = missing.ok_or_else(|| io::Error::other("more came than the first time"))?;
        Ok(self.missing == 0)
    }
}

/// Subscribers of a topic, the first of which says lines that all get: a chat of one
/// room. Lines are said in bursts; the next one once all have the last. An operation is
/// a line that one of them has got.
pub(crate) struct Publish {
    poll: Poll,
    ready: Vec<usize>,
    subscribers: Vec<Connection>,
    /// The frames of a burst.
    burst: Vec<u8>,
    /// Lines of a burst.
    lines: usize,
    /// Length of a burst, as each subscriber gets it.
    delivered: usize,
    /// Subscribers that have not got all of the burst.
    waiting: usize,
    buffer: Vec<u8>,
}

impl Publish {
    /// Connects the subscribers, and says the first burst.
    pub(crate) fn new(server: SocketAddr, subscribers: usize, lines: usize) -> io::Result<Self> {
        let open = |_| Client::open(server, false);
        let clients = (0..subscribers).map(open).collect::<io::Result<Vec<_>>>();
        let mut clients = clients?;
        // Those who were there are told of each who came.
        const ALL: &str = "all are here";
        let all = frame(TEXT, ALL.as_bytes());
        let first = clients.first().map(|client| &client.stream);
        let mut first = first.ok_or_else(|| io::Error::other("a topic without subscribers"))?;
        first.write_all(&all)?;
        let mut prefix = 0;
        for client in &mut clients {
            prefix = loop {
                let frame = client.next()?;
                if frame.payload.ends_with(ALL.as_bytes()) {
                    break frame.payload.len() - ALL.len();
                }
            };
        }
        let line = "x".repeat(PUBLISHED - prefix);
        let line = frame(TEXT, line.as_bytes());
        let mut load = Self {
            poll: Poll::new(subscribers)?,
            ready: Vec::new(),
            subscribers: Vec::new(),
            burst: line.repeat(lines),
            lines,
            delivered: 0,
            waiting: 0,
            buffer: vec![0; 65_536],
        };
        if let Some(mut first) = clients.first().map(|client| &client.stream) {
            first.write_all(&line)?;
        }
        for (number, mut client) in clients.into_iter().enumerate() {
            let frame = client.next()?;
            if frame.first != TEXT || frame.payload.len() != PUBLISHED {
                return Err(differs());
            }
            load.delivered = lines * frame.length;
            load.poll.add(&client.stream, number)?;
            load.subscribers.push(Connection {
                stream: client.stream,
                missing: 0,
            });
        }
        load.say()?;
        Ok(load)
    }

    /// Says the next burst.
    fn say(&mut self) -> io::Result<()> {
        self.waiting = self.subscribers.len();
        for subscriber in &mut self.subscribers {
            subscriber.missing = self.delivered;
        }
        self.subscribers[0].stream.write_all(&self.burst)
    }
}

impl Load for Publish {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                if self.subscribers[number].receive(&mut self.buffer)? {
                    self.waiting -= 1;
                    operations += self.lines as u64;
                }
            }
            if self.waiting == 0 {
                self.say()?;
            }
        }
        Ok(operations)
    }
}

/// Opens a connection, and checks that a message comes back.
pub(super) fn idle(server: SocketAddr) -> io::Result<TcpStream> {
    let mut client = Client::open(server, false)?;
    let data = pattern(64);
    client.stream.write_all(&frame(BINARY, &data))?;
    match client.next()?.payload == data {
        true => Ok(client.stream),
        false => Err(differs()),
    }
}

/// A connection before its load begins.
struct Client {
    stream: TcpStream,
    /// Bytes of frames that were not used.
    received: Vec<u8>,
}

/// Frame of the server.
struct Frame {
    first: u8,
    payload: Vec<u8>,
    /// Length with the head, in bytes.
    length: usize,
}

impl Client {
    /// Opens a connection, with compression of each message by itself if `packed`.
    fn open(server: SocketAddr, packed: bool) -> io::Result<Self> {
        let mut client = Self {
            stream: plain(server)?,
            received: Vec::new(),
        };
        let offer = match packed {
            true => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                 client_no_context_takeover\r\n"
            }
            false => "",
        };
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {offer}\r\n"
        );
        client.stream.write_all(request.as_bytes())?;
        let length = loop {
            let mut places = client.received.windows(4);
            if let Some(place) = places.position(|four| four == b"\r\n\r\n") {
                break place + 4;
            }
            client.receive()?;
        };
        let rest = client.received.split_off(length);
        let head = std::mem::replace(&mut client.received, rest);
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        match head.starts_with("http/1.1 101 ") && head.contains("permessage-deflate") == packed {
            true => Ok(client),
            false => Err(io::Error::other(format!(
                "no connection is opened: {head:?}"
            ))),
        }
    }

    /// Receives the next frame.
    fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = Frame::parse(&self.received) {
                self.received.drain(..frame.length);
                return Ok(frame);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(ended()),
            length => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

impl Frame {
    /// Returns the first frame, once it is whole.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[first, short], rest) = bytes.split_first_chunk()?;
        let (size, rest) = match short {
            126 => {
                let (size, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*size)), rest)
            }
            127 => {
                let (size, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*size) as usize, rest)
            }
            short => (usize::from(short), rest),
        };
        Some(Self {
            first,
            payload: rest.get(..size)?.to_vec(),
            length: bytes.len() - rest.len() + size,
        })
    }
}

/// Returns a frame of a client.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        size @ ..=125 => frame.push(0x80 | size as u8),
        size @ ..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        size => {
            frame.push(0x80 | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    let masked = payload.iter().zip(KEY.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns records as a service might send them.
fn json() -> Vec<u8> {
    let record = |number: u32| {
        let (price, count) = (number * 7919 % 10_007, number * 104_729 % 613);
        format!(
            "{{\"id\":{number},\"name\":\"item {number}\",\"price\":{price},\"in_stock\":{count}}}"
        )
    };
    let records: Vec<_> = (1000..1100).map(record).collect();
    let mut text = format!("[{}]", records.join(",")).into_bytes();
    text.truncate(JSON);
    text
}

fn compressed(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(2 * data.len());
    Compress::new(Compression::default(), false)
        .compress_vec(data, &mut packed, FlushCompress::Sync)
        .map_err(io::Error::other)?;
    match packed.strip_suffix(&TAIL) {
        Some(packed) => Ok(packed.to_vec()),
        None => Err(io::Error::other("the compressed data is not whole")),
    }
}

fn decompressed(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(2 * JSON);
    Decompress::new(false)
        .decompress_vec(&[packed, &TAIL].concat(), &mut data, FlushDecompress::Sync)
        .map_err(io::Error::other)?;
    Ok(data)
}

fn differs() -> io::Error {
    io::Error::other("the server sends something else than it should")
}
