//! The load generator: one thread, epoll, and as few system calls as the work
//! allows, so that the server has most to do.
//!
//! Every kind of load first checks that the server answers as it should.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

mod beside;
mod bulk;
mod connections;
mod datagrams;
mod errands;
mod http;
mod http2;
mod idle;
mod latency;
mod ping_pong;
mod tls;
mod websocket;
mod words;

pub(crate) use beside::{Calls, Small, beside};
pub(crate) use bulk::Bulk;
pub(crate) use connections::Connections;
pub(crate) use datagrams::Datagrams;
pub(crate) use errands::Errands;
pub(crate) use http::Http;
pub(crate) use http2::Http2;
pub(crate) use idle::Idle;
pub(crate) use latency::Latency;
pub(crate) use ping_pong::PingPong;
pub(crate) use tls::TlsPingPong;
pub(crate) use websocket::{Echoes, Publish};
pub(crate) use words::Words;

/// Time without an answer after which a server has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps a server busy.
pub(crate) trait Load {
    /// Goes on until the deadline, and returns the number of operations that
    /// ended meanwhile. What is under way then stays so for the next call.
    ///
    /// # Errors
    /// Fails if the server ends a connection or does not answer.
    fn drive(&mut self, deadline: Instant) -> io::Result<u64>;
}

/// Waits for sockets, which have numbers here. Level-triggered: one read for
/// each ready socket suffices, and none is wasted to learn that no data is left.
struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    fn new(capacity: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(capacity),
        })
    }

    /// Watches a socket for data to read, until the socket is closed.
    fn add(&self, socket: impl AsFd, number: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(number as u64);
        Ok(epoll::add(
            &self.epoll,
            socket,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits until sockets can be read, and puts their numbers into `ready`,
    /// which stays empty if `timeout` passes.
    fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }

    /// Like [`Self::wait`], but fails if no answer comes.
    fn wait_for_answer(&mut self, ready: &mut Vec<usize>) -> io::Result<()> {
        self.wait(PATIENCE, ready)?;
        if ready.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the server does not answer",
            ));
        }
        Ok(())
    }
}

/// Connects, and checks that an echo comes back.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    check_echo(&stream)?;
    Ok(stream)
}

/// Checks one round trip of bytes that differ.
fn check_echo(mut stream: impl Read + Write) -> io::Result<()> {
    let message = pattern(64);
    let mut answer = vec![0; message.len()];
    stream.write_all(&message)?;
    stream.flush()?;
    stream.read_exact(&mut answer)?;
    if answer != message {
        return Err(io::Error::other(
            "the server sends back something else than it got",
        ));
    }
    Ok(())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

fn ended() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server ended the connection",
    )
}
