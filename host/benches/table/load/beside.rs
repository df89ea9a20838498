//! Small requests beside a load that never pauses.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

use super::http::{Wire, check, plain, request};
use super::http2;
use super::tls::{Session, client_config};
use super::{Load, PATIENCE, connect, ended, pattern};
use crate::site::Resource;

/// Time between two small requests.
const PACE: Duration = Duration::from_millis(1);

/// Size of a small message in bytes.
const SIZE: usize = 16;

/// A connection that makes one small request after another.
pub(crate) struct Small(Kind);

enum Kind {
    Tcp(TcpStream),
    Tls(Box<Session>),
    Udp(UdpSocket),
    Http {
        wire: Wire,
        request: Vec<u8>,
        body: Vec<u8>,
    },
    Http2(http2::Connection),
}

/// Measurements while both went on.
pub(crate) struct Seen {
    /// Latency of each small request.
    pub(crate) latencies: Vec<Duration>,
    /// Operations of the other load.
    pub(crate) operations: u64,
    pub(crate) time: Duration,
}

impl Small {
    /// Connects for messages over TCP that come back.
    pub(crate) fn tcp(server: SocketAddr) -> io::Result<Self> {
        Ok(Self(Kind::Tcp(connect(server)?)))
    }

    /// Connects for messages over TLS that come back.
    pub(crate) fn tls(server: SocketAddr) -> io::Result<Self> {
        let session = Session::connect(server, &Arc::new(client_config()?))?;
        Ok(Self(Kind::Tls(Box::new(session))))
    }

    /// Makes a socket for datagrams that come back.
    pub(crate) fn udp(server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(Kind::Udp(socket)))
    }

    /// Connects for requests of HTTP/1.1.
    pub(crate) fn http(server: SocketAddr, secure: bool, resource: Resource) -> io::Result<Self> {
        let wire = if secure {
            let config = Arc::new(client_config()?);
            Wire::Tls(Box::new(Session::connect(server, &config)?))
        } else {
            Wire::Plain(plain(server)?)
        };
        Ok(Self(Kind::Http {
            wire,
            request: request(server, resource.path()),
            body: resource.body(),
        }))
    }

    /// Connects for requests of HTTP/2.
    pub(crate) fn http2(server: SocketAddr, resource: Resource) -> io::Result<Self> {
        Ok(Self(Kind::Http2(http2::Connection::new(server, resource)?)))
    }

    /// Makes a request, and waits for its answer.
    fn ask(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Tcp(stream) => round_trip(stream),
            Kind::Tls(session) => round_trip(session.stream()),
            Kind::Udp(socket) => {
                socket.send(&pattern(SIZE))?;
                let mut answer = [0; 2 * SIZE];
                match socket.recv(&mut answer)? {
                    SIZE => Ok(()),
                    length => Err(io::Error::other(format!("an answer of {length} bytes"))),
                }
            }
            Kind::Http {
                wire,
                request,
                body,
            } => check(wire, request, body).map(|_| ()),
            Kind::Http2(connection) => connection.check(),
        }
    }
}

fn round_trip(mut stream: impl Read + Write) -> io::Result<()> {
    stream.write_all(&pattern(SIZE))?;
    stream.flush()?;
    stream.read_exact(&mut [0; SIZE])
}

/// Drives a load, and makes small requests beside it.
pub(crate) fn beside(load: &mut dyn Load, small: &mut Small, time: Duration) -> io::Result<Seen> {
    let begun = Instant::now();
    let deadline = begun + time;
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // If this is allowed, the other load does not delay this thread.
            let _ = setpriority_process(Some(gettid()), -20);
            let mut latencies = Vec::new();
            while Instant::now() < deadline {
                let asked = Instant::now();
                small.ask()?;
                latencies.push(asked.elapsed());
                thread::sleep(PACE);
            }
            Ok::<_, io::Error>(latencies)
        });
        let operations = load.drive(deadline)?;
        let time = begun.elapsed();
        let latencies = asking.join().map_err(|_| ended())??;
        Ok(Seen {
            latencies,
            operations,
            time,
        })
    })
}

/// Requests that take a guest long, all sent ahead over one connection. An
/// operation is a response.
pub(crate) struct Calls {
    stream: TcpStream,
    request: Vec<u8>,
    discarded: Vec<u8>,
    /// Length of a response in bytes.
    response: usize,
    rest: usize,
}

impl Calls {
    /// Connects, makes one request to learn the length of a response, and sends
    /// `ahead` more.
    pub(crate) fn new(server: SocketAddr, path: &str, ahead: usize) -> io::Result<Self> {
        let mut stream = plain(server)?;
        let request = request(server, path);
        let mut discarded = vec![0; 64 << 10];
        stream.write_all(&request)?;
        let mut response = 0;
        while !discarded[..response].ends_with(b"done\n") {
            match stream.read(&mut discarded[response..])? {
                0 => return Err(ended()),
                length => response += length,
            }
        }
        stream.write_all(&request.repeat(ahead))?;
        Ok(Self {
            stream,
            request,
            discarded,
            response,
            rest: 0,
        })
    }
}

impl Load for Calls {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            match self.stream.read(&mut self.discarded)? {
                0 => return Err(ended()),
                length => self.rest += length,
            }
            while self.rest >= self.response {
                self.rest -= self.response;
                operations += 1;
                self.stream.write_all(&self.request)?;
            }
        }
        Ok(operations)
    }
}
