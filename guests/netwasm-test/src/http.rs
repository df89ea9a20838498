//! An HTTP/1.1 client (RFC 9112).

use std::net::SocketAddr;
use std::time::Duration;

use httparse::Status;
use serde_json::Value;

use crate::client::Client;
use crate::deadline::Deadline;
use crate::log::Log;

/// Largest number of header lines in a response.
const HEADERS: usize = 256;

/// A client of the HTTP or HTTPS listener.
///
/// It keeps one connection open for all its requests. If the server closes the
/// connection after a response, the next request opens another one. Every
/// request has the server's time limit ([`crate::Component::time_limit`], 10
/// seconds by default) for each step: to be sent, for the head, for the body.
#[derive(Debug)]
pub struct HttpClient {
    server: SocketAddr,
    secure: bool,
    connection: Option<Client>,
    limit: Duration,
    log: Log,
}

impl HttpClient {
    /// Sends a GET request for `target`, such as `/search?q=tea`.
    ///
    /// # Panics
    /// Panics as [`Request::send`] does.
    #[track_caller]
    #[must_use]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target).send()
    }

    /// Sends a POST request with a body.
    ///
    /// # Panics
    /// Panics as [`Request::send`] does.
    #[track_caller]
    #[must_use]
    pub fn post(&mut self, target: &str, body: impl Into<Vec<u8>>) -> Response {
        self.request("POST", target).body(body).send()
    }

    /// Begins a request of any method, for headers of its own.
    pub fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        Request {
            client: self,
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn new(server: SocketAddr, secure: bool, limit: Duration, log: &Log) -> Self {
        Self {
            server,
            secure,
            connection: None,
            limit,
            log: log.clone(),
        }
    }

    fn connect(&self) -> Result<Client, String> {
        if self.secure {
            Client::tls(self.server, &["http/1.1"], self.limit, &self.log)
        } else {
            Client::tcp(self.server, self.limit, &self.log)
        }
    }
}

/// A request under construction.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    client: &'a mut HttpClient,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request<'_> {
    /// Adds a header line. Name and value are sent as they are.
    ///
    /// A `Host`, `Content-Length` or `Transfer-Encoding` of the test replaces
    /// the client's own.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body, whose length is sent as `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends the request, and receives the final response to its end.
    /// Informational responses (1xx) are skipped.
    ///
    /// # Panics
    /// Panics if the server cannot be reached, if the response is malformed or
    /// cut short, or if it does not come within the time limit.
    #[track_caller]
    #[must_use]
    pub fn send(mut self) -> Response {
        match self.exchange() {
            Ok(response) => response,
            Err(fault) => {
                let log = &self.client.log;
                panic!("{} {}: {fault}\n{}", self.method, self.target, log.report())
            }
        }
    }

    fn exchange(&mut self) -> Result<Response, String> {
        let mut connection = match self.client.connection.take() {
            Some(connection) => connection,
            None => self.client.connect()?,
        };
        // A server may answer, and close, before it has taken the whole body.
        let sent = connection.try_send(&self.message());
        let (response, persistent) = receive(&mut connection, &self.method, self.client.limit)
            .map_err(|fault| match &sent {
                Err(unsent) => format!("{unsent}, and without a response: {fault}"),
                Ok(()) => fault,
            })?;
        if persistent && sent.is_ok() {
            self.client.connection = Some(connection);
        }
        Ok(response)
    }

    /// Returns the bytes of the request.
    fn message(&self) -> Vec<u8> {
        let has = |name: &str| {
            let mut names = self.headers.iter().map(|(other, _)| other);
            names.any(|other| other.eq_ignore_ascii_case(name))
        };
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("Host") {
            head += &format!("Host: localhost:{}\r\n", self.client.server.port());
        }
        if let Some(body) = &self.body
            && !has("Content-Length")
            && !has("Transfer-Encoding")
        {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut message = head.into_bytes();
        message.extend_from_slice(self.body.as_deref().unwrap_or_default());
        message
    }
}

/// A response that was received to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// Names and values of the headers, as they were sent and in their order.
    /// Bytes of a value that are not UTF-8 are replaced by U+FFFD.
    pub headers: Vec<(String, String)>,
    /// The content, without the chunks of `Transfer-Encoding`.
    pub body: Vec<u8>,
    /// The trailers after a chunked body, like `headers`.
    pub trailers: Vec<(String, String)>,
}

impl Response {
    /// Returns the first value of a header. Case does not matter in its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Returns the body as text.
    ///
    /// # Panics
    /// Panics if the body is not UTF-8.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body is not UTF-8: {error}; {self:?}"),
        }
    }

    /// Returns the body as JSON. For a type of your own, give `body` to
    /// `serde_json::from_slice`.
    ///
    /// # Panics
    /// Panics if the body is not JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("the body is not JSON: {error}; {self:?}"),
        }
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut fields = fields.iter();
    let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Receives a final response. Also returns true if the connection persists
/// after it.
fn receive(
    connection: &mut Client,
    method: &str,
    limit: Duration,
) -> Result<(Response, bool), String> {
    let (mut response, minor_version) = loop {
        let (response, minor_version) = receive_head(connection, limit)?;
        if response.status >= 200 || response.status == 101 {
            break (response, minor_version);
        }
    };
    let tokens = response.header("Connection").unwrap_or_default();
    let closes = tokens
        .split(',')
        .any(|token| token.trim().eq_ignore_ascii_case("close"));
    let mut persistent = !closes && minor_version == 1 && response.status != 101;
    match framing(method, &response)? {
        Framing::None => {}
        Framing::Length(length) => {
            response.body = connection.try_read(length)?;
        }
        Framing::Chunked => receive_chunks(connection, limit, &mut response)?,
        Framing::Close => {
            response.body = connection.try_read_to_end()?;
            persistent = false;
        }
    }
    Ok((response, persistent))
}

/// Receives the head of a response. Also returns the minor version of HTTP/1.
fn receive_head(connection: &mut Client, limit: Duration) -> Result<(Response, u8), String> {
    let deadline = Deadline::after(limit);
    loop {
        if let Some((length, response, minor_version)) = parse_head(connection.buffered())? {
            connection.consume(length);
            return Ok((response, minor_version));
        }
        if let Err(fault) = connection.arrive(deadline) {
            let got = connection.buffered().escape_ascii();
            return Err(format!("{fault} before the head; received: \"{got}\""));
        }
    }
}

/// Parses the head of a response, if it is complete: its length in bytes, the
/// response without a body, and the minor version.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Response, u8)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head
        .parse(bytes)
        .map_err(|error| malformed("the head", &error, bytes))?;
    let (Status::Complete(length), Some(status), Some(version)) = (parsed, head.code, head.version)
    else {
        return Ok(None);
    };
    let response = Response {
        status,
        headers: owned(head.headers),
        body: Vec::new(),
        trailers: Vec::new(),
    };
    Ok(Some((length, response, version)))
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|field| {
            let value = String::from_utf8_lossy(field.value).into_owned();
            (field.name.to_owned(), value)
        })
        .collect()
}

/// How the end of a body is found (RFC 9112, section 6.3).
enum Framing {
    None,
    Length(usize),
    Chunked,
    Close,
}

fn framing(method: &str, response: &Response) -> Result<Framing, String> {
    if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
        return Ok(Framing::None);
    }
    match (
        response.header("Transfer-Encoding"),
        response.header("Content-Length"),
    ) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), _) => Err(format!("the body's framing is unknown: {response:?}")),
        (None, None) => Ok(Framing::Close),
        (None, Some(length)) => match length.parse() {
            Ok(length) => Ok(Framing::Length(length)),
            Err(_) => Err(format!("Content-Length is {length:?}")),
        },
    }
}

/// Receives a chunked body (RFC 9112, section 7.1), and its trailers.
fn receive_chunks(
    connection: &mut Client,
    limit: Duration,
    response: &mut Response,
) -> Result<(), String> {
    loop {
        let size = receive_chunk_size(connection, limit)?;
        if size == 0 {
            break;
        }
        response.body.extend(connection.try_read(size)?);
        let end = connection.try_read(2)?;
        if end != b"\r\n" {
            return Err(format!("a chunk ends in \"{}\"", end.escape_ascii()));
        }
    }
    loop {
        let line = connection.try_read_line()?;
        if line.is_empty() {
            return Ok(());
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(format!("not a trailer: {line:?}"));
        };
        let field = (name.to_owned(), value.trim().to_owned());
        response.trailers.push(field);
    }
}

fn receive_chunk_size(connection: &mut Client, limit: Duration) -> Result<usize, String> {
    let deadline = Deadline::after(limit);
    loop {
        let bytes = connection.buffered();
        let parsed = httparse::parse_chunk_size(bytes)
            .map_err(|error| malformed("a chunk's size", &error, bytes))?;
        if let Status::Complete((length, size)) = parsed {
            connection.consume(length);
            return usize::try_from(size).map_err(|error| format!("a chunk of {size}: {error}"));
        }
        if let Err(fault) = connection.arrive(deadline) {
            return Err(format!("{fault} inside the body"));
        }
    }
}

fn malformed(what: &str, error: &impl std::fmt::Display, bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(200)];
    format!(
        "{what} is malformed ({error}): \"{}\"",
        shown.escape_ascii()
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// Returns a client of a server that gives these answers, each to one
    /// request on the one connection. The server returns what it received.
    fn client(answers: &'static [&'static str]) -> (HttpClient, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut requests = Vec::new();
            for answer in answers {
                let mut buffer = [0; 4096];
                let length = stream.read(&mut buffer).expect("a request");
                requests.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
            requests
        });
        let limit = Duration::from_secs(10);
        (
            HttpClient::new(address, false, limit, &Log::new(limit)),
            server,
        )
    }

    #[test]
    fn requests_share_a_connection_until_the_server_closes_it() {
        let (mut client, server) = client(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 204 No Content\r\nConnection: x, Close\r\n\r\n",
        ]);
        assert_eq!(client.get("/a").text(), "hi");
        assert!(client.connection.is_some());
        let response = client.post("/b", "body");
        assert_eq!((response.status, response.body.len()), (204, 0));
        assert!(client.connection.is_none());
        let requests = server.join().expect("no panic");
        let port = client.server.port();
        assert_eq!(
            requests[0],
            format!("GET /a HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")
        );
        assert!(
            requests[1].ends_with("Content-Length: 4\r\n\r\nbody"),
            "{requests:?}"
        );
    }

    #[test]
    fn chunks_are_joined_and_have_trailers() {
        let (mut client, _server) = client(&["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
             HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nSum: 7\r\n\r\n"]);
        let response = client.get("/");
        assert_eq!(response.text(), "abc0123456789");
        assert_eq!(response.trailers, [("Sum".to_owned(), "7".to_owned())]);
        assert!(client.connection.is_some());
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let (mut client, _server) = client(&["HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"n\": 7}"]);
        let response = client.get("/");
        assert_eq!(response.json()["n"], 7);
        assert_eq!(response.header("a"), Some("b"));
        assert!(client.connection.is_none());
    }

    #[test]
    fn a_header_of_the_test_replaces_the_clients_own() {
        let (mut client, server) = client(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]);
        let request = client
            .request("HEAD", "/")
            .header("host", "example.org")
            .header("transfer-encoding", "chunked")
            .body("0\r\n\r\n");
        assert_eq!(request.send().body, b"");
        assert_eq!(
            server.join().expect("no panic"),
            ["HEAD / HTTP/1.1\r\nhost: example.org\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]
        );
    }

    #[test]
    fn a_response_that_is_cut_short_is_no_response() {
        let (mut client, _server) = client(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]);
        let fault = client.request("GET", "/").exchange();
        let fault = fault.expect_err("a body that is too short");
        assert!(fault.contains("ended the connection"), "{fault}");
        assert!(fault.contains("\"abc\""), "{fault}");
    }
}
