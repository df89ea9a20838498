//! One check of a server: a connection, with TLS if the server has it, and
//! perhaps a request by the version of HTTP that requests have. Of its response,
//! only the status is read.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};

use netwasm_base::config::{Check, CheckKind, HttpVersion, Statuses};
use netwasm_base::error::ConnectionError;

use crate::checks::h2::{self, Came};
use crate::connect;
use crate::endpoint::Endpoint;
use crate::tls::ClientTls;
use crate::transport::Transport;
use crate::upstream::Server;
use crate::worker::Worker;

/// Maximum of bytes before a response's status.
const MOST: usize = 32 << 10;

/// Reason why a check failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("no connection: {0}")]
    Connect(ConnectionError),
    #[error("the connection was lost: {0}")]
    Lost(ConnectionError),
    #[error("the server has closed the connection before a response")]
    Ended,
    #[error("no answer in time (check-timeout)")]
    Silent,
    #[error("its answer is none of HTTP")]
    Malformed,
    #[error("it answers with status {0}, and {1} are healthy (check-status)")]
    Status(u16, Statuses),
}

impl Failed {
    /// True if the server is not to blame.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Connect(ConnectionError::LimitExceeded(_)))
    }
}

/// A connection that is closed in the end.
struct ClosedAtEnd(Rc<Transport>);

impl Drop for ClosedAtEnd {
    fn drop(&mut self) {
        self.0.say_close_notify();
        self.0.release();
    }
}

/// Checks a server once.
///
/// # Errors
/// Fails if the server is not healthy, or if there is no descriptor for it.
pub(super) async fn probe(
    worker: &Rc<Worker>,
    server: &Server,
    check: &Check,
) -> Result<(), Failed> {
    let probing = async {
        let http = matches!(check.kind, CheckKind::Get { .. });
        let tls = server.tls().map(|tls| match http {
            true => tls.clone(),
            false => ClientTls::without_alpn(tls),
        });
        let made = connect::open_to(worker, server, tls.as_ref(), None, check.timeout).await;
        let connection = ClosedAtEnd(made.map_err(Failed::Connect)?);
        match &check.kind {
            CheckKind::Connect => Ok(()),
            CheckKind::Get {
                path,
                host,
                statuses,
            } => {
                let host = host.clone().unwrap_or_else(|| host_of(server));
                let secure = tls.is_some();
                let http2 = match secure {
                    true => connection.0.speaks(b"h2"),
                    false => server.http() == HttpVersion::Http2,
                };
                let asked = match http2 {
                    true => {
                        let request = h2::request(path, &host, secure);
                        ask(&connection.0, &request, h2::response).await
                    }
                    false => {
                        let request = format!(
                            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: netwasm-check\r\n\
                             Accept: */*\r\nConnection: close\r\n\r\n"
                        );
                        ask(&connection.0, request.as_bytes(), response).await
                    }
                };
                match asked? {
                    status if statuses.include(status) => Ok(()),
                    status => Err(Failed::Status(status, statuses.clone())),
                }
            }
        }
    };
    match tokio::time::timeout(check.timeout, probing).await {
        Ok(Err(Failed::Connect(ConnectionError::Timeout(_)))) | Err(_) => Err(Failed::Silent),
        Ok(result) => result,
    }
}

/// Returns the value of `Host` that a server has by itself.
fn host_of(server: &Server) -> String {
    let default = if server.tls().is_some() { 443 } else { 80 };
    match server.endpoint() {
        Endpoint::Address(address) if address.port() == default => match address.is_ipv6() {
            true => format!("[{}]", address.ip()),
            false => address.ip().to_string(),
        },
        Endpoint::Address(address) => address.to_string(),
        Endpoint::Name { host, port } if *port == default => host.clone(),
        Endpoint::Name { host, port } => format!("{host}:{port}"),
        Endpoint::Unix(_) => "localhost".to_owned(),
    }
}

/// Sends a request, and returns the status of its response, which `read` finds in
/// what has come.
async fn ask(
    connection: &Transport,
    request: &[u8],
    read: impl Fn(&[u8]) -> Came,
) -> Result<u16, Failed> {
    connection.write(request);
    let mut input = Vec::new();
    poll_fn(|cx| {
        let _driven = connection.drive(cx);
        loop {
            if let Poll::Ready(Err(error)) = connection.poll_flush(cx) {
                return Poll::Ready(Err(Failed::Lost(error)));
            }
            let mut scratch = connection.thread().scratch.borrow_mut();
            let received = match connection.poll_receive(cx, &mut scratch) {
                Poll::Pending if connection.failure().is_none() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(Failed::Ended)),
                received => ready!(received).map_err(Failed::Lost)?,
            };
            let piece = scratch.get(received);
            input.extend_from_slice(piece);
            return Poll::Ready(match read(&input) {
                Came::Status(status) => Ok(status),
                Came::Ended => Err(Failed::Ended),
                Came::Malformed => Err(Failed::Malformed),
                Came::Part if piece.is_empty() => Err(Failed::Ended),
                Came::Part if input.len() > MOST => Err(Failed::Malformed),
                Came::Part => continue,
            });
        }
    })
    .await
}

/// Reads what a server of HTTP/1 has sent so far. Interim responses are passed
/// over: RFC 9110, section 15.2.
fn response(mut input: &[u8]) -> Came {
    loop {
        let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
            return Came::Part;
        };
        match input.get(..end).and_then(status) {
            Some(100 | 102..200) => {}
            Some(status) => return Came::Status(status),
            None => return Came::Malformed,
        }
        let Some(rest) = after_head(input) else {
            return Came::Part;
        };
        input = rest;
    }
}

/// Returns what follows a head; `None` if that is not whole.
fn after_head(mut input: &[u8]) -> Option<&[u8]> {
    loop {
        let end = input.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = input.split_at(end + 1);
        if matches!(line, b"\n" | b"\r\n") {
            return Some(rest);
        }
        input = rest;
    }
}

/// Returns the status of a response's first line: RFC 9112, section 4.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let (status, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let ends = matches!(rest.first(), None | Some(b' ' | b'\r'));
    let digits = minor.is_ascii_digit() && status.iter().all(u8::is_ascii_digit);
    let status = str::from_utf8(status).ok()?.parse().ok();
    status.filter(|status| ends && digits && (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    use netwasm_base::config::{Limits, UpstreamGroup};

    use super::*;
    use crate::testing::{in_worker, refusing};
    use crate::upstream::Group;

    #[test]
    fn statuses_are_read_strictly() {
        for (line, expected) in [
            ("HTTP/1.1 200 OK\r", Some(200)),
            ("HTTP/1.0 404\r", Some(404)),
            ("HTTP/1.1 503 ", Some(503)),
            ("HTTP/2 200 OK\r", None),
            ("HTTP/1.1 20 OK\r", None),
            ("HTTP/1.1 2000\r", None),
            ("HTTP/1.1 +20\r", None),
            ("HTTP/1.1  200\r", None),
            ("HTTP/1.1 999\r", None),
            ("220 mail ESMTP\r", None),
        ] {
            assert_eq!(status(line.as_bytes()), expected, "{line}");
        }
    }

    /// Probes a server that answers with this, once a request has come, and
    /// returns that.
    fn probed(answer: &'static str, settings: &str) -> (Result<(), Failed>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                request.extend_from_slice(&byte);
            }
            // The client may have left.
            let _ = stream.write_all(answer.as_bytes());
            if request.starts_with(b"PRI") {
                // A close before the rest is read would be a reset.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            String::from_utf8(request).expect("text")
        });
        (checked(address, settings), server.join().expect("no panic"))
    }

    /// Checks a server with these settings once.
    fn checked(address: SocketAddr, settings: &str) -> Result<(), Failed> {
        let group: UpstreamGroup = format!("g={address};{settings}").parse().expect(settings);
        let mut result = None;
        in_worker(Limits::default(), async |worker: Rc<Worker>| {
            let group = Group::new(&group, &worker.env().counters).expect("a group");
            let check = group.check().expect("a check");
            let server = group.servers().first().expect("a server");
            result = Some(probe(&worker, server, check).await);
            assert_eq!(worker.env().counters.connections_made.get(), 0);
        });
        result.expect("it ran")
    }

    #[test]
    fn a_check_asks_and_reads_the_status() {
        let (result, request) = probed("HTTP/1.1 204 Fine\r\n", "check=/up;check-host=a.example");
        assert_eq!(result, Ok(()));
        assert!(
            request.starts_with("GET /up HTTP/1.1\r\nHost: a.example\r\n"),
            "{request}"
        );
        assert!(request.contains("Connection: close\r\n"), "{request}");
        let (result, request) = probed("HTTP/1.1 404 No\r\n\r\n", "check=/;check-status=200-299");
        assert!(matches!(result, Err(Failed::Status(404, _))), "{result:?}");
        assert!(request.contains("Host: 127.0.0.1:"), "{request}");
        let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let whole: &'static str = format!("{early}HTTP/1.1 200 OK\r\n\r\n").leak();
        assert_eq!(probed(whole, "check=/").0, Ok(()));
        assert_eq!(probed(early, "check=/").0, Err(Failed::Ended));
        assert_eq!(probed("SSH-2.0\r\n", "check=/").0, Err(Failed::Malformed));
        assert_eq!(probed("HTTP/1.1 2", "check=/").0, Err(Failed::Ended));
        assert_eq!(probed("", "check=connect"), (Ok(()), String::new()));
        let unwell = "\0\0\x05\x01\x04\0\0\0\x01\x48\x03503";
        let (result, request) = probed(unwell, "check=/;http=2");
        assert!(matches!(result, Err(Failed::Status(503, _))), "{result:?}");
        assert_eq!(request, "PRI * HTTP/2.0\r\n\r\n");
    }

    #[test]
    fn a_server_that_does_not_answer_fails_its_check() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let silent = checked(address, "check=/;check-timeout=20ms");
        assert_eq!(silent, Err(Failed::Silent));
        let (address, _bound) = refusing();
        let refused = Err(Failed::Connect(ConnectionError::Refused));
        assert_eq!(checked(address, "check=/"), refused);
    }
}
