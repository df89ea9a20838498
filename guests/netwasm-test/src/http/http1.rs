//! A client of HTTP/1.1 (RFC 9112).

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::framing::receive;
use super::{Message, Request, Response};
use crate::client::Client;
use crate::log::Log;
use crate::tls::Settings;

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
    simple_requests!();

    /// Begins a request of any method, for headers of its own.
    pub fn request(&mut self, method: &str, target: &str) -> Request<'_> {
        Request::new(self, method, target)
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
            {
                let settings = Settings {
                    alpn: &["http/1.1"],
                    certificate: None,
                };
                Client::tls(self.server, &settings, self.limit, &self.log)
            }
        } else {
            Client::tcp(self.server, self.limit, &self.log)
        }
    }

    fn exchange(&mut self, message: &Message) -> Result<Response, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        // A server may answer, and close, before it has taken the whole body.
        let sent = connection.try_send(&self.bytes(message));
        let (response, persistent) = receive(&mut connection, &message.method, self.limit)
            .map_err(|fault| match &sent {
                Err(unsent) => format!("{unsent}, and without a response: {fault}"),
                Ok(()) => fault,
            })?;
        if persistent && sent.is_ok() {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Returns the bytes of a request.
    fn bytes(&self, message: &Message) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", message.method, message.target);
        if !message.has("Host") {
            head += &format!("Host: localhost:{}\r\n", self.server.port());
        }
        if let Some(body) = &message.body
            && !message.has("Content-Length")
            && !message.has("Transfer-Encoding")
        {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in &message.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(message.body.as_deref().unwrap_or_default());
        bytes
    }
}

impl Request<'_> {
    /// Sends the request, and receives the final response to its end.
    /// Informational responses (1xx) are skipped.
    ///
    /// # Panics
    /// Panics if the server cannot be reached, if the response is malformed or
    /// cut short, or if it does not come within the time limit.
    #[track_caller]
    #[must_use]
    pub fn send(self) -> Response {
        match self.client.exchange(&self.message) {
            Ok(response) => {
                self.message.note(&response, &self.client.log);
                response
            }
            Err(fault) => self.message.fail(&fault, &self.client.log),
        }
    }
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
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nConnection: x, Close\r\n\r\n",
        ]);
        assert_eq!(client.get("/a").text(), "hi");
        assert_eq!(client.delete("/c").status, 404);
        assert!(client.connection.is_some());
        let response = client.put("/b", "body");
        assert_eq!((response.status, response.body.len()), (204, 0));
        assert!(client.connection.is_none());
        let requests = server.join().expect("no panic");
        let port = client.server.port();
        assert_eq!(
            requests[0],
            format!("GET /a HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")
        );
        assert_eq!(
            requests[1..],
            [
                format!("DELETE /c HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"),
                format!(
                    "PUT /b HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 4\r\n\r\nbody"
                )
            ]
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
    fn json_is_sent_with_its_type() {
        let (mut client, server) = client(&["HTTP/1.1 204 No Content\r\n\r\n"]);
        assert_eq!(client.post_json("/a", &["b"]).status, 204);
        let port = client.server.port();
        assert_eq!(
            server.join().expect("no panic"),
            [format!(
                "POST /a HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 5\r\n\
                 Content-Type: application/json\r\n\r\n[\"b\"]"
            )]
        );
    }

    #[test]
    fn a_response_that_is_cut_short_is_no_response() {
        let (mut client, _server) = client(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]);
        let request = client.request("GET", "/");
        let outcome = request.client.exchange(&request.message);
        let fault = outcome.expect_err("a body that is too short");
        assert!(fault.contains("ended the connection"), "{fault}");
        assert!(fault.contains("\"abc\""), "{fault}");
    }
}
