//! What a guest answers: checked before a byte is sent, then written.
//!
//! A guest's response cannot break the framing of the connection. What it must
//! not say is told here once, in [`Checked::new`]; what follows writes what was
//! checked.

use std::io::Write;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use netwasm_exchange::answer::{Answer, Body, Fields, canonical};
use netwasm_exchange::chunked::is_dropped;
use netwasm_exchange::failure::Failure;
use netwasm_exchange::head::scan::is_token;

use crate::local::Date;

/// What is wrong with a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the status {0} is none of 200 to 599")]
    Status(u16),
    #[error("{0:?} is no name of a header")]
    Name(String),
    #[error("the value of the header {0} has a control character")]
    Value(String),
    #[error("the header {0} is the host's to send")]
    Framing(String),
    #[error("Content-Length is not the length of the body, {0} bytes")]
    Length(u64),
    #[error("a response with status {0} has no body")]
    Body(u16),
    #[error("a body of {0} bytes is more than --max-write-buffer allows")]
    TooLarge(usize),
}

/// Names that a response has, of those that the host would add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) date: bool,
    pub(super) server: bool,
}

/// A response that may be sent.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub(super) answer: &'a Answer,
    given: Given,
    /// Whether the guest wants the connection to end.
    pub(super) closes: bool,
    /// What a guest says is the length that a response to HEAD stands for.
    length: Option<u64>,
}

impl<'a> Checked<'a> {
    /// Checks a response to a request, of a HEAD request where `head`.
    ///
    /// # Errors
    /// The first thing that must not be sent.
    pub(super) fn new(answer: &'a Answer, head: bool, most: usize) -> Result<Self, Fault> {
        let status = answer.status;
        if !(200..600).contains(&status) {
            return Err(Fault::Status(status));
        }
        let length = match &answer.body {
            Body::Bytes(bytes) if bytes.len() > most => return Err(Fault::TooLarge(bytes.len())),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Empty => Some(0),
            Body::File(_) | Body::Unopened(_) => None,
        };
        if bodiless(status) && length != Some(0) {
            return Err(Fault::Body(status));
        }
        let mut checked = Self::ours(answer);
        for (name, value) in &answer.headers {
            check_field(name, value)?;
            checked.note(name, value, head, length)?;
        }
        for (name, value) in &answer.trailers {
            check_field(name, value)?;
            if is_framing(name) || name.eq_ignore_ascii_case("content-length") {
                return Err(Fault::Framing(name.clone()));
            }
        }
        Ok(checked)
    }

    /// An answer of the host's own.
    pub(super) fn ours(answer: &'a Answer) -> Self {
        Self {
            answer,
            given: Given::default(),
            closes: false,
            length: None,
        }
    }

    /// Looks at a header that means something to the host.
    fn note(
        &mut self,
        name: &str,
        value: &[u8],
        head: bool,
        length: Option<u64>,
    ) -> Result<(), Fault> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is("date") => self.given.date = true,
            6 if is("server") => self.given.server = true,
            10 if is("connection") => {
                if !value.eq_ignore_ascii_case(b"close") {
                    return Err(Fault::Framing(name.into()));
                }
                self.closes = true;
            }
            14 if is("content-length") => {
                let told = std::str::from_utf8(value)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|text| text.parse().ok());
                // To HEAD, a guest need not make the body only to have it
                // measured.
                let free = head && length == Some(0);
                match (told, length) {
                    (Some(told), Some(length)) if told == length || free => {
                        self.length = Some(told);
                    }
                    (_, length) => return Err(Fault::Length(length.unwrap_or_default())),
                }
            }
            _ if is_framing(name) => return Err(Fault::Framing(name.into())),
            _ => {}
        }
        Ok(())
    }

    /// The first value of a header that the guest has set.
    pub(super) fn first(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.answer.headers.iter();
        let found = headers.find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }

    /// Writes the head up to what frames the body, without the headers named
    /// in `omitted`, in lower case.
    pub(super) fn start(&self, status: u16, date: &Date, omitted: &[&str], out: &mut Vec<u8>) {
        write_status(status, out);
        if !self.given.server {
            out.extend_from_slice(b"Server: netwasm\r\n");
        }
        if !self.given.date {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(date);
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in &self.answer.headers {
            // Those two are written at the end, by what really is.
            let ours = matches!(name.len(), 10 | 14)
                && (name.eq_ignore_ascii_case("connection")
                    || name.eq_ignore_ascii_case("content-length"));
            let omits = || omitted.iter().any(|other| name.eq_ignore_ascii_case(other));
            if !ours && !omits() {
                write_field(name, value, out);
            }
        }
    }

    /// Whether the host is to say who serves.
    pub(super) fn lacks_server(&self) -> bool {
        !self.given.server
    }

    /// Whether the host is to say when.
    pub(super) fn lacks_date(&self) -> bool {
        !self.given.date
    }

    /// The length that the head tells of a body with so many bytes; none where
    /// the status has no length.
    pub(super) fn told_length(&self, status: u16, length: u64) -> Option<u64> {
        match status {
            // RFC 9110, section 8.6.
            204 | 304 => None,
            _ => Some(self.length.unwrap_or(length)),
        }
    }
}

/// How a response of a handler that awaits goes out, decided before a byte of it
/// is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) status: u16,
    /// Bytes of the body, where that is known before its end.
    pub(super) length: Option<u64>,
    /// The Content-Length that the head tells, if any.
    pub(super) told: Option<u64>,
    /// Whether the body follows the head.
    pub(super) has_body: bool,
}

/// Why a response of a handler that awaits cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsendable {
    #[error("{0} is no status of a response")]
    Status(u16),
    #[error("its content-length is no number")]
    Length,
    #[error("its content-length is {told}, and its file has {file} bytes")]
    File { told: u64, file: u64 },
}

impl Plan {
    /// For a response to a request, of a HEAD request where `head`. The body is a
    /// file of so many bytes, where `file` says so; or else it has ended already,
    /// where `ended`.
    ///
    /// # Errors
    /// Nothing may be sent of it.
    pub(super) fn new(
        parts: &Parts,
        head: bool,
        file: Option<u64>,
        ended: bool,
    ) -> Result<Self, Unsendable> {
        let status = parts.status.as_u16();
        let given = content_length(&parts.headers).map_err(|_| Unsendable::Length)?;
        if !(200..600).contains(&status) {
            return Err(Unsendable::Status(status));
        }
        if let (Some(told), Some(file)) = (given, file)
            && told != file
            && !head
        {
            return Err(Unsendable::File { told, file });
        }
        let bodiless = bodiless(status);
        let nothing = (bodiless || ended).then_some(0);
        let length = given.or(file).or(nothing);
        Ok(Self {
            status,
            length: if bodiless { Some(0) } else { length },
            told: match status {
                // RFC 9110, section 8.6.
                204 | 304 => None,
                205 => Some(0),
                // To HEAD, nobody knows what the length would be.
                _ if head && given.is_none() && file.is_none() => None,
                _ => length,
            },
            has_body: !head && !bodiless,
        })
    }
}

/// How the connection goes on after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// As every HTTP/1.1 connection does.
    Kept,
    /// Kept for an HTTP/1.0 client that asked for that.
    KeptOnRequest,
    Closed,
}

/// Writes the end of a head.
pub(super) fn finish(length: Option<u64>, persistence: Persistence, out: &mut Vec<u8>) {
    if let Some(length) = length {
        out.extend_from_slice(b"Content-Length: ");
        write_number(length, out);
        out.extend_from_slice(b"\r\n");
    }
    write_persistence(persistence, out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a head, a body in one chunk, and what follows it.
pub(super) fn finish_chunked(
    body: &[u8],
    trailers: &Fields,
    persistence: Persistence,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\nTrailer: ");
    for (number, (name, _)) in trailers.iter().enumerate() {
        if number > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    write_persistence(persistence, out);
    out.extend_from_slice(b"\r\n");
    if !body.is_empty() {
        // Writing to memory cannot fail.
        let _ = write!(out, "{:x}\r\n", body.len());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        write_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response whose headers were checked, up to what frames
/// the body.
pub(super) fn write_head(status: u16, headers: &HeaderMap, date: &Date, out: &mut Vec<u8>) {
    write_status(status, out);
    if !headers.contains_key(header::SERVER) {
        out.extend_from_slice(b"Server: netwasm\r\n");
    }
    if !headers.contains_key(header::DATE) {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in headers {
        // What frames the body is written by what really is.
        if *name != header::CONTENT_LENGTH && !is_framing(name.as_str()) {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
}

/// Writes the fields that follow a chunked body, without those that must not.
pub(super) fn write_trailers(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    for (name, value) in trailers.into_iter().flatten() {
        if !is_dropped(name.as_str()) {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
}

/// `100 Continue` (RFC 9110, section 10.1.1).
pub(super) fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// The length that a response tells.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = text.and_then(|text| text.parse().ok());
    length.map(Some).ok_or(Failure::HttpResponseBodySize(None))
}

/// Removes what is the connection's, or tells how the message is framed.
pub(super) fn drop_framing(headers: &mut HeaderMap) {
    for name in FRAMING {
        headers.remove(name);
    }
}

/// Appends headers that were checked, without those named in `omitted`, in lower
/// case, and those that tell of what really is.
pub(super) fn append_all(fields: Fields, omitted: &[&str], headers: &mut HeaderMap) {
    for (name, value) in fields {
        let is = |other: &&str| name.eq_ignore_ascii_case(other);
        if !["connection", "content-length"].iter().any(is) && !omitted.iter().any(is) {
            append(name.as_bytes(), value.into(), headers);
        }
    }
}

/// Appends header lines.
pub(super) fn append_lines(lines: &[u8], headers: &mut HeaderMap) {
    let mut rest = lines;
    while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
        let (line, after) = rest.split_at(end);
        rest = after.get(2..).unwrap_or_default();
        if let Some(colon) = memchr::memchr(b':', line) {
            let (name, value) = line.split_at(colon);
            let value = value.get(2..).unwrap_or_default();
            append(name, Bytes::copy_from_slice(value), headers);
        }
    }
}

/// Trailers that were checked; none where there are none.
pub(super) fn trailers(trailers: &Fields) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        append(name.as_bytes(), Bytes::copy_from_slice(value), &mut map);
    }
    (!map.is_empty()).then_some(map)
}

/// Appends a header that was checked. What a map cannot hold is left out.
fn append(name: &[u8], value: Bytes, headers: &mut HeaderMap) {
    let name = match name {
        // Nearly every response has it.
        b"content-type" => Ok(header::CONTENT_TYPE),
        _ => HeaderName::from_bytes(name),
    };
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value)) {
        let _ = headers.try_append(name, value);
    }
}

/// Whether a response with this status ends with its head, or has a body of no
/// bytes.
pub(super) fn bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

fn write_status(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    // Writing to memory cannot fail.
    let _ = write!(out, "HTTP/1.1 {status} {}\r\n", canonical(status));
}

fn write_persistence(persistence: Persistence, out: &mut Vec<u8>) {
    out.extend_from_slice(match persistence {
        Persistence::Kept => b"",
        Persistence::KeptOnRequest => b"Connection: keep-alive\r\n",
        Persistence::Closed => b"Connection: close\r\n",
    });
}

fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{number}");
}

fn check_field(name: &str, value: &[u8]) -> Result<(), Fault> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Fault::Name(name.into()));
    }
    // RFC 9110, section 5.5: visible characters, spaces and tabs, and what is
    // beyond ASCII.
    let allowed = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !value.iter().all(allowed) {
        return Err(Fault::Value(name.into()));
    }
    Ok(())
}

/// Headers that tell how a message is framed, or of the connection itself.
const FRAMING: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn is_framing(name: &str) -> bool {
    FRAMING
        .iter()
        .any(|framing| framing.len() == name.len() && framing.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100;
    const DATE: &Date = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let field = |&(name, value): &(&str, &str)| (name.to_owned(), value.as_bytes().to_vec());
        Answer {
            status,
            headers: headers.iter().map(field).collect(),
            body: match body {
                "" => Body::Empty,
                body => Body::Bytes(body.into()),
            },
            trailers: Vec::new(),
        }
    }

    fn fault(answer: &Answer) -> Option<Fault> {
        Checked::new(answer, false, MOST).err()
    }

    #[test]
    fn a_response_is_written_with_what_the_host_adds() {
        let answer = answer(404, &[("X-A", "b")], "none");
        let checked = Checked::new(&answer, false, MOST).expect("nothing is wrong");
        let mut out = Vec::new();
        checked.start(404, DATE, &[], &mut out);
        finish(checked.told_length(404, 4), Persistence::Closed, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 404 Not Found\r\nServer: netwasm\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             X-A: b\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_guest_may_date_and_sign_its_response() {
        let answer = answer(200, &[("DATE", "d"), ("server", "s")], "");
        let checked = Checked::new(&answer, false, MOST).expect("nothing is wrong");
        let mut out = Vec::new();
        checked.start(200, DATE, &[], &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 200 OK\r\nDATE: d\r\nserver: s\r\n"
        );
    }

    #[test]
    fn no_line_can_be_smuggled_into_a_head() {
        for value in ["a\r\nX: y", "a\n", "\r", "\0", "\x7f", "a\u{1}"] {
            let wrong = answer(200, &[("X-A", value)], "");
            assert_eq!(fault(&wrong), Some(Fault::Value("X-A".into())), "{value:?}");
        }
        for name in ["", "X A", "X:", "X\r\nY", "X\n", "ä", "(x)"] {
            let wrong = answer(200, &[(name, "v")], "");
            assert_eq!(fault(&wrong), Some(Fault::Name(name.into())), "{name:?}");
        }
        assert_eq!(fault(&answer(200, &[("X-A", "a\tb ü")], "")), None);
    }

    #[test]
    fn framing_is_not_the_guests() {
        for name in [
            "Transfer-Encoding",
            "TRAILER",
            "upgrade",
            "Keep-Alive",
            "TE",
        ] {
            let wrong = answer(200, &[(name, "x")], "");
            assert_eq!(fault(&wrong), Some(Fault::Framing(name.into())));
        }
        let wrong = answer(200, &[("Connection", "keep-alive")], "");
        assert_eq!(fault(&wrong), Some(Fault::Framing("Connection".into())));
        let close = answer(200, &[("Connection", "Close")], "");
        assert!(Checked::new(&close, false, MOST).expect("allowed").closes);
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        for lie in ["3", "5", "", "4, 4", "+4", "-1", "99999999999999999999"] {
            let wrong = answer(200, &[("Content-Length", lie)], "four");
            assert_eq!(fault(&wrong), Some(Fault::Length(4)), "{lie:?}");
        }
        assert_eq!(
            fault(&answer(200, &[("content-length", "4")], "four")),
            None
        );
    }

    #[test]
    fn to_head_a_length_may_stand_for_a_body_that_was_not_made() {
        let answer = answer(200, &[("Content-Length", "1234")], "");
        let checked = Checked::new(&answer, true, MOST).expect("nothing is wrong");
        assert_eq!(checked.told_length(200, 0), Some(1234));
        assert_eq!(fault(&answer), Some(Fault::Length(0)));
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        for status in [204, 205, 304] {
            assert_eq!(fault(&answer(status, &[], "x")), Some(Fault::Body(status)));
        }
        let empty = answer(204, &[], "");
        let checked = Checked::new(&empty, false, MOST).expect("nothing is wrong");
        assert_eq!(checked.told_length(204, 0), None);
        assert_eq!(checked.told_length(304, 0), None);
        assert_eq!(checked.told_length(205, 0), Some(0));
    }

    #[test]
    fn only_final_statuses_are_the_guests() {
        for status in [0, 99, 100, 101, 199, 600, 1000] {
            assert_eq!(fault(&answer(status, &[], "")), Some(Fault::Status(status)));
        }
    }

    #[test]
    fn a_body_is_bounded() {
        let large = answer(200, &[], &"x".repeat(MOST + 1));
        assert_eq!(fault(&large), Some(Fault::TooLarge(MOST + 1)));
    }

    #[test]
    fn trailers_follow_a_chunked_body() {
        let trailers = vec![("X-A".into(), b"1".to_vec()), ("X-B".into(), b"2".to_vec())];
        let mut out = Vec::new();
        finish_chunked(b"0123456789abcdef", &trailers, Persistence::Kept, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "Transfer-Encoding: chunked\r\nTrailer: X-A, X-B\r\n\r\n\
             10\r\n0123456789abcdef\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
        );
    }

    #[test]
    fn a_trailer_does_not_frame() {
        let mut wrong = answer(200, &[], "x");
        wrong.trailers = vec![("Content-Length".into(), b"1".to_vec())];
        assert_eq!(fault(&wrong), Some(Fault::Framing("Content-Length".into())));
    }
}
