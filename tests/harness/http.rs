//! An HTTP/1.1 client that sends requests byte for byte and parses responses
//! strictly: a fault that a lenient client would overlook fails a test.

use std::io::{Read, Write};

use super::Peer;

/// A final response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names and values as sent, in their order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    /// Returns the value of a header. Panics if it occurs twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// True if the response closes the connection.
    pub(crate) fn closes(&self) -> bool {
        self.header("Connection") == Some("close")
    }

    /// Returns the body as text, without its last line end.
    pub(crate) fn text(&self) -> &str {
        let text = std::str::from_utf8(&self.body).expect("text");
        text.strip_suffix('\n').unwrap_or(text)
    }

    /// Checks status and body, and returns the response.
    #[track_caller]
    pub(crate) fn is(self, status: u16, text: &str) -> Self {
        assert_eq!((self.status, self.text()), (status, text), "{self:?}");
        self
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = fields
        .iter()
        .filter(|(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str());
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {fields:?}");
    value
}

/// Returns a request without a body, with these header lines.
pub(crate) fn message(method: &str, target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Returns a POST request with this body.
pub(crate) fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("Content-Length: {}", body.len());
    let mut bytes = message("POST", target, &[&length]).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl<S: Read + Write> Peer<S> {
    /// Sends a GET, and returns the response.
    #[track_caller]
    pub(crate) fn fetch(&mut self, target: &str) -> Response {
        self.send(message("GET", target, &[]).as_bytes());
        self.response()
    }

    /// Sends a request as it is, and returns the response.
    #[track_caller]
    pub(crate) fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        self.send(request.as_ref());
        self.response()
    }

    /// Receives a response to any method but HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        let (status, headers) = self.head();
        self.body_of(status, headers)
    }

    /// Receives a response to HEAD.
    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        let (status, headers) = self.head();
        Response {
            status,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// Receives `100 Continue`.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        assert_eq!(self.strict_line(), "HTTP/1.1 100 Continue");
        assert_eq!(self.strict_line(), "");
    }

    /// Receives a head, and returns status and headers.
    #[track_caller]
    fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let line = self.strict_line();
        let rest = line.strip_prefix("HTTP/1.1 ");
        let (status, _reason) = rest
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| panic!("not a status line: {line:?}"));
        assert_eq!(status.len(), 3, "{line:?}");
        let status: u16 = status.parse().expect("a status");
        assert!(status >= 200, "not a final response: {line:?}");
        let headers = self.fields();
        assert_eq!(
            value(&headers, "Date").map(str::len),
            Some(29),
            "{headers:?}"
        );
        assert!(value(&headers, "Server").is_some(), "{headers:?}");
        (status, headers)
    }

    #[track_caller]
    fn body_of(&mut self, status: u16, headers: Vec<(String, String)>) -> Response {
        let coding = value(&headers, "Transfer-Encoding");
        let length = value(&headers, "Content-Length");
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        match (coding, length) {
            (None, None) => assert!(matches!(status, 204 | 304), "no length in {headers:?}"),
            (None, Some(length)) => {
                assert!(!matches!(status, 204 | 304), "a length in {headers:?}");
                body = self.take(length.parse().expect("a length"));
            }
            (Some("chunked"), None) => {
                assert!(!matches!(status, 204 | 205 | 304), "chunks in {headers:?}");
                loop {
                    let line = self.strict_line();
                    let size = usize::from_str_radix(&line, 16).expect("a chunk's size");
                    if size == 0 {
                        break;
                    }
                    body.extend_from_slice(&self.take(size));
                    assert_eq!(self.take(2), b"\r\n", "the end of a chunk");
                }
                trailers = self.fields();
            }
            framing => panic!("framed by {framing:?}"),
        }
        Response {
            status,
            headers,
            body,
            trailers,
        }
    }

    /// Receives header or trailer lines up to the empty line.
    #[track_caller]
    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.strict_line();
            if line.is_empty() {
                return fields;
            }
            let (name, value) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("not a header line: {line:?}"));
            let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            assert!(name.bytes().all(token), "{line:?}");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Receives a line that ends in CRLF, and returns it without that.
    #[track_caller]
    fn strict_line(&mut self) -> String {
        let line = self.whole_line();
        let text = line.strip_suffix("\r\n");
        let text = text.unwrap_or_else(|| panic!("not a line: {line:?}"));
        assert!(!text.contains(['\r', '\n']), "{line:?}");
        text.to_owned()
    }

    /// Checks that the server closes the connection in order, without a further
    /// byte.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        let rest = self.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
