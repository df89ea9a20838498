//! The client of the admin interface, for `netwasm reload` and `netwasm ready`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use netwasm_base::config::ListenAddress;
use netwasm_base::unix;

use crate::deadline::within;

/// Largest answer in bytes.
const MOST: u64 = 1 << 20;

/// Time for a run to say if it is ready, connecting included.
const READY: Duration = Duration::from_secs(8);

/// Asks the run behind a Unix socket to reload, waits until it has, and returns
/// lines that say what has changed.
///
/// # Errors
/// Fails if nobody answers there, or with the run's reason, which is one line.
pub fn reload(socket: &Path) -> Result<String, String> {
    let address = ListenAddress::Unix(socket.to_owned());
    let answer = connect_unix(socket).and_then(|stream| ask(stream, "POST /reload"));
    judged(&address, answer)
}

/// Asks the run behind an admin interface if it takes new connections, and
/// returns a line that says so.
///
/// # Errors
/// Fails if nobody answers there within some seconds, or with the run's reason,
/// which is one line.
pub fn ready(address: &ListenAddress) -> Result<String, String> {
    if let ListenAddress::Passed(_) = address {
        return Err(format!(
            "{address} is not an address to connect to: write that of the service manager's socket"
        ));
    }
    let asked = address.clone();
    let answer = within(READY, move || ask_ready(&asked));
    let late = || Err(io::Error::new(ErrorKind::TimedOut, "it does not answer"));
    judged(address, answer.unwrap_or_else(late))
}

/// Asks for `/readyz`, however long that takes.
fn ask_ready(address: &ListenAddress) -> io::Result<Vec<u8>> {
    const REQUEST: &str = "GET /readyz";
    match address {
        ListenAddress::Unix(path) => ask(connect_unix(path)?, REQUEST),
        ListenAddress::Socket(socket) => ask(TcpStream::connect(socket)?, REQUEST),
        ListenAddress::Localhost(port) => {
            ask(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?, REQUEST)
        }
        ListenAddress::Passed(_) => Err(ErrorKind::AddrNotAvailable.into()),
    }
}

fn connect_unix(socket: &Path) -> io::Result<UnixStream> {
    UnixStream::connect_addr(&unix::address(socket)?)
}

/// Sends a request without a body, and returns all of the answer.
fn ask(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Returns the body of a 200, and what is wrong otherwise.
fn judged(address: &ListenAddress, answer: io::Result<Vec<u8>>) -> Result<String, String> {
    let answer = answer.map_err(|error| {
        format!(
            "cannot reach the run at {address}: {error} (is it the socket of its --admin, and \
             yours?)"
        )
    })?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(_) if !body.is_empty() => Err(body.trim_end().to_owned()),
        _ => Err(format!("{address} does not answer as a run does")),
    }
}
