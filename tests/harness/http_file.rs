//! Sites (directories that the `static` guest serves), and a client that
//! requests their files.

use std::collections::VecDeque;
use std::fs::{self, FileTimes};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustls::{ClientConnection, StreamOwned};

use super::{Client, Peer, Run, Server, write};

/// Modification time of the files of [`write_old`], as headers have it. A file
/// that was changed just now has only a weak entity tag.
pub(crate) const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A client that requests files over one keep-alive connection.
pub(crate) struct FileClient<S: Read + Write> {
    peer: Peer<S>,
}

/// A response, or its head alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Serves a directory as `/`, with one worker.
pub(crate) fn site(directory: &Path) -> Run {
    Run::guest("static")
        .args(["--workers", "1"])
        .args(["--dir", &format!("{}::/", directory.display())])
        .listen("--http", "127.0.0.1:0")
}

/// Writes a file like [`write`], with [`LONG_AGO`] as its modification time.
pub(crate) fn write_old(directory: &Path, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
    let path = write(directory, name, contents);
    make_old(&path);
    path
}

/// Sets a file's modification time to [`LONG_AGO`].
pub(crate) fn make_old(path: &Path) {
    let time = UNIX_EPOCH + Duration::from_secs(784_111_777);
    fs::File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(time)))
        .expect("a time");
}

impl Server {
    /// Connects a client to the HTTP listener.
    pub(crate) fn browse(&self) -> FileClient<TcpStream> {
        FileClient {
            peer: Peer::connect(self.address("http")),
        }
    }

    /// Connects a client to the HTTPS listener.
    pub(crate) fn browse_secure(&self) -> FileClient<StreamOwned<ClientConnection, TcpStream>> {
        FileClient {
            peer: Client::of("localhost").connect(self.address("https")),
        }
    }

    /// Requests a file over a new connection.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.browse().get(target, &[])
    }

    /// Requests `/`, then counts the descriptors at rest.
    pub(crate) fn descriptors_after_a_request(&self) -> usize {
        self.get("/");
        self.descriptors_at_rest()
    }
}

impl FileClient<UnixStream> {
    pub(crate) fn connect_unix(path: &Path) -> Self {
        Self {
            peer: Peer::connect_unix(path),
        }
    }
}

impl<S: Read + Write> FileClient<S> {
    pub(crate) fn new(peer: Peer<S>) -> Self {
        Self { peer }
    }

    /// Returns the connection below.
    pub(crate) fn peer(&mut self) -> &mut Peer<S> {
        &mut self.peer
    }

    pub(crate) fn into_peer(self) -> Peer<S> {
        self.peer
    }

    /// Sends a GET, and returns the whole response.
    pub(crate) fn get(&mut self, target: &str, headers: Headers<'_>) -> Reply {
        self.ask("GET", target, headers)
    }

    /// Sends a HEAD, and returns the head of the response.
    pub(crate) fn head(&mut self, target: &str, headers: Headers<'_>) -> Reply {
        self.ask("HEAD", target, headers)
    }

    /// Sends a request without a body, and returns the whole response.
    pub(crate) fn ask(&mut self, method: &str, target: &str, headers: Headers<'_>) -> Reply {
        self.send(method, target, headers);
        let mut reply = self.reply_head();
        if method != "HEAD" {
            reply.body = self.peer.take(reply.length());
        }
        reply
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, method: &str, target: &str, headers: Headers<'_>) {
        self.peer.send(request(method, target, headers).as_bytes());
    }

    /// Receives the head of a response.
    pub(crate) fn reply_head(&mut self) -> Reply {
        let line = self.peer.line();
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let mut reply = Reply {
            status: status.unwrap_or_else(|| panic!("no status line: {line}")),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.peer.line();
            if line.is_empty() {
                return reply;
            }
            let (name, value) = line.split_once(": ").expect("a name and a value");
            reply
                .headers
                .push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
}

/// Returns the head of a request.
pub(crate) fn request(method: &str, target: &str, headers: Headers<'_>) -> String {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        lines.collect::<String>()
    )
}

impl Reply {
    /// Returns the value of a header. Panics if it occurs twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|line| line.0 == name);
        let value = values.next().map(|line| line.1.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    /// Returns the length in bytes of the body that follows the head of a
    /// response to GET.
    pub(crate) fn length(&self) -> usize {
        match self.header("content-length") {
            Some(length) => length.parse().expect("a number"),
            None => {
                assert!(matches!(self.status, 204 | 304), "no length: {self:?}");
                0
            }
        }
    }

    /// Returns the body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Returns the parts of a `multipart/byteranges`, each with its headers and
    /// bytes. Panics if the body holds anything else.
    pub(crate) fn parts(&self) -> Vec<Self> {
        let boundary = self
            .header("content-type")
            .and_then(|value| value.strip_prefix("multipart/byteranges; boundary="))
            .unwrap_or_else(|| panic!("not in parts: {:?}", self.headers));
        let delimiter = format!("\r\n--{boundary}");
        let mut pieces: VecDeque<_> = split(&self.body, delimiter.as_bytes()).into();
        assert_eq!(pieces.pop_front(), Some(&b""[..]), "no preamble");
        assert_eq!(pieces.pop_back(), Some(&b"--\r\n"[..]), "no epilogue");
        let part = |piece: &[u8]| {
            let end = find(piece, b"\r\n\r\n").expect("the end of a part's head");
            let (head, body) = piece.split_at(end + 4);
            let head = std::str::from_utf8(head).expect("text");
            let lines = head.split("\r\n").filter(|line| !line.is_empty());
            Self {
                status: self.status,
                headers: lines
                    .map(|line| line.split_once(": ").expect("a name and a value"))
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                    .collect(),
                body: body.to_vec(),
            }
        };
        pieces.into_iter().map(part).collect()
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = find(bytes, separator) {
        let (piece, rest) = bytes.split_at(at);
        pieces.push(piece);
        bytes = rest.get(separator.len()..).unwrap_or_default();
    }
    pieces.push(bytes);
    pieces
}
