//! Errands that a server runs as a client of others, when it is told to.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Load, PATIENCE, ended};

/// Number of runs per line, so that the line costs nothing.
const TIMES: u64 = 100;

/// Tells a server to run an errand, again and again.
pub(crate) struct Errands {
    server: BufReader<TcpStream>,
    line: String,
    reply: &'static str,
}

impl Errands {
    /// Connects. `errand` is a command of the guest `stream-probe`, and its
    /// reply contains `reply`.
    pub(crate) fn new(server: SocketAddr, errand: &str, reply: &'static str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream).write_all(b"client\n")?;
        Ok(Self {
            server: BufReader::new(stream),
            line: format!("times {TIMES} {errand}\n"),
            reply,
        })
    }
}

impl Load for Errands {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let mut operations = 0;
        while Instant::now() < deadline {
            self.server.get_mut().write_all(self.line.as_bytes())?;
            let mut reply = String::new();
            if self.server.read_line(&mut reply)? == 0 {
                return Err(ended());
            }
            if !reply.contains(self.reply) {
                let told = self.line.trim_end();
                return Err(io::Error::other(format!(
                    "{told:?} is answered by {reply:?}"
                )));
            }
            operations += TIMES;
        }
        Ok(operations)
    }
}
