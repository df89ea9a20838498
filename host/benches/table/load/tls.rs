//! [`PingPong`](super::PingPong) in TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::{Load, PATIENCE, Poll, check_echo, ended, pattern};
use crate::peers::AUTHORITY;

/// Connections that each send one message to and fro in TLS 1.3. An operation
/// is a round trip.
pub(crate) struct TlsPingPong {
    poll: Poll,
    ready: Vec<usize>,
    connections: Vec<Connection>,
    message: Vec<u8>,
    buffers: Buffers,
}

struct Connection {
    session: Session,
    /// Decrypted bytes of the answer that are yet to come.
    missing: usize,
}

/// A TLS 1.3 client over a blocking socket.
pub(super) struct Session {
    stream: TcpStream,
    tls: ClientConnection,
}

/// Read buffers that sessions use in turn.
pub(super) struct Buffers {
    received: Vec<u8>,
    plain: Vec<u8>,
}

impl TlsPingPong {
    /// Connects, does the handshakes, and sends the first message over every
    /// connection.
    pub(crate) fn new(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let config = Arc::new(client_config()?);
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            connections: Vec::new(),
            message: pattern(size),
            buffers: Buffers::new(),
        };
        for number in 0..connections {
            let mut session = Session::connect(server, &config)?;
            check_echo(session.stream())?;
            load.poll.add(&session, number)?;
            load.connections.push(Connection {
                session,
                missing: size,
            });
        }
        for connection in &mut load.connections {
            connection.session.send(&load.message)?;
        }
        Ok(load)
    }
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            received: vec![0; 65_536],
            plain: vec![0; 65_536],
        }
    }
}

impl Session {
    /// Connects. The handshake happens with the first bytes.
    pub(super) fn connect(server: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(server.ip());
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        // Messages may be longer than the default limit of 64 KiB.
        tls.set_buffer_limit(None);
        Ok(Self { stream, tls })
    }

    /// Returns a blocking stream, for code in no hurry.
    pub(super) fn stream(&mut self) -> Stream<'_, ClientConnection, TcpStream> {
        Stream::new(&mut self.tls, &mut self.stream)
    }

    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(message)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Reads what is there with one system call, where rustls by itself would
    /// take 4 KiB at a time. Returns the number of decrypted bytes.
    pub(super) fn receive(&mut self, buffers: &mut Buffers) -> io::Result<usize> {
        let length = self.stream.read(&mut buffers.received)?;
        if length == 0 {
            return Err(ended());
        }
        let mut received = &buffers.received[..length];
        let mut total = 0;
        while !received.is_empty() {
            self.tls.read_tls(&mut received)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            total += decrypted(&mut self.tls, &mut buffers.plain)?;
        }
        Ok(total)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn decrypted(tls: &mut ClientConnection, plain: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    loop {
        match tls.reader().read(plain) {
            Ok(0) => return Err(ended()),
            Ok(length) => total += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}

impl Load for TlsPingPong {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            self.poll.wait_for_answer(&mut self.ready)?;
            for &number in &self.ready {
                let connection = &mut self.connections[number];
                let length = connection.session.receive(&mut self.buffers)?;
                connection.missing = connection.missing.saturating_sub(length);
                if connection.missing == 0 {
                    operations += 1;
                    connection.missing = self.message.len();
                    connection.session.send(&self.message)?;
                }
            }
        }
        Ok(operations)
    }
}

pub(super) fn client_config() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(AUTHORITY)
        .map_err(|error| io::Error::other(format!("{AUTHORITY}: {error}")))?;
    roots.add(authority).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    Ok(builder
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
