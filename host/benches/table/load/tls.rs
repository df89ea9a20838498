//! [`PingPong`](super::PingPong) in TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::{Load, PATIENCE, Poll, check_echo, ended, pattern};
use crate::peers::AUTHORITY;

/// Connections over which one message each goes to and fro in TLS 1.3. An
/// operation is a round trip.
pub(crate) struct TlsPingPong {
    poll: Poll,
    ready: Vec<usize>,
    sessions: Vec<Session>,
    message: Vec<u8>,
    received: Vec<u8>,
    plain: Vec<u8>,
}

struct Session {
    /// Blocking, as in `PingPong`.
    stream: TcpStream,
    tls: ClientConnection,
    /// How much of the answer has yet to come, decrypted.
    missing: usize,
}

impl TlsPingPong {
    /// Connects, shakes hands, and sends the first message over every
    /// connection.
    pub(crate) fn new(server: SocketAddr, connections: usize, size: usize) -> io::Result<Self> {
        let config = Arc::new(client_config()?);
        let name = ServerName::from(server.ip());
        let mut load = Self {
            poll: Poll::new(connections)?,
            ready: Vec::new(),
            sessions: Vec::new(),
            message: pattern(size),
            received: vec![0; 65_536],
            plain: vec![0; 65_536],
        };
        for number in 0..connections {
            let tls = ClientConnection::new(Arc::clone(&config), name.clone());
            let mut tls = tls.map_err(io::Error::other)?;
            let mut stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            check_echo(Stream::new(&mut tls, &mut stream))?;
            load.poll.add(&stream, number)?;
            load.sessions.push(Session {
                stream,
                tls,
                missing: size,
            });
        }
        for session in &mut load.sessions {
            session.send(&load.message)?;
        }
        Ok(load)
    }
}

impl Session {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.tls.writer().write_all(message)?;
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Reads what is there with one system call, where rustls by itself would
    /// take 4 KiB at a time, and returns how much it was when decrypted.
    fn receive(&mut self, received: &mut [u8], plain: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(received)?;
        if length == 0 {
            return Err(ended());
        }
        let mut received = &received[..length];
        let mut total = 0;
        while !received.is_empty() {
            self.tls.read_tls(&mut received)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
            total += decrypted(&mut self.tls, plain)?;
        }
        Ok(total)
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
                let session = &mut self.sessions[number];
                let length = session.receive(&mut self.received, &mut self.plain)?;
                session.missing = session.missing.saturating_sub(length);
                if session.missing == 0 {
                    operations += 1;
                    session.missing = self.message.len();
                    session.send(&self.message)?;
                }
            }
        }
        Ok(operations)
    }
}

fn client_config() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(AUTHORITY)
        .map_err(|error| io::Error::other(format!("{AUTHORITY}: {error}")))?;
    roots.add(authority).map_err(io::Error::other)?;
    Ok(ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth())
}
