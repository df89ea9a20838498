//! Words that a server does again and again, in its own loop: what one operation
//! of a host function costs a guest.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Load, PATIENCE, ended};

/// Number of operations per request, so that the request costs nothing.
const TIMES: u64 = 10_000;

/// Tells one of the guests `std-events` and `std-probe` what to do.
pub(crate) struct Words {
    server: BufReader<TcpStream>,
    is_http: bool,
    words: String,
}

impl Words {
    /// Connects, by HTTP or with lines, and sets a key of 100 bytes. `operation` is
    /// a word that the guest repeats: `gets` or `sets`.
    pub(crate) fn new(server: SocketAddr, is_http: bool, operation: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut load = Self {
            server: BufReader::new(stream),
            is_http,
            words: format!("draft a {operation} key {TIMES}"),
        };
        load.ask("draft a set-sized key 100", "set")?;
        Ok(load)
    }

    fn ask(&mut self, words: &str, expected: &str) -> io::Result<()> {
        let request = match self.is_http {
            true => {
                let path = words.replace(' ', "/");
                format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            }
            false => format!("{words}\n"),
        };
        self.server.get_mut().write_all(request.as_bytes())?;
        let answer = match self.is_http {
            true => self.body()?,
            false => self.line()?,
        };
        match answer == expected {
            true => Ok(()),
            false => {
                let told = format!("{words:?} is answered by {answer:?}");
                Err(io::Error::other(told))
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.server.read_line(&mut line)? {
            0 => Err(ended()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Reads a response, and returns its body.
    fn body(&mut self) -> io::Result<String> {
        let mut length = None;
        loop {
            let field = self.line()?.to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = Some(value.trim().parse().map_err(io::Error::other)?);
            }
        }
        let mut body = Vec::new();
        match length {
            Some(length) => self.append(length, &mut body)?,
            None => loop {
                let size = u64::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
                self.append(size, &mut body)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            },
        }
        String::from_utf8(body).map_err(io::Error::other)
    }

    fn append(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        let read = (&mut self.server).take(length).read_to_end(body)?;
        if (read as u64) < length {
            return Err(ended());
        }
        Ok(())
    }
}

impl Load for Words {
    fn drive(&mut self, deadline: Instant) -> io::Result<u64> {
        let words = self.words.clone();
        let mut operations = 0;
        while Instant::now() < deadline {
            self.ask(&words, "done")?;
            operations += TIMES;
        }
        Ok(operations)
    }
}
