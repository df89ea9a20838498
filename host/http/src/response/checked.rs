//! Check of a handler's answer, before a byte is sent.

use netwasm_exchange::answer::{Answer, Body, Fields, StreamedBody};
use netwasm_exchange::head::scan::is_token;

use crate::local::Date;
use crate::response::{bodiless, is_framing, write_field, write_status};

/// Fault of a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseFault {
    #[error("the status {0} is none of 200 to 599")]
    Status(u16),
    #[error("{0:?} is not a header name")]
    Name(String),
    #[error("the value of the header {0} has a control character")]
    Value(String),
    #[error("the header {0} is the host's to send")]
    Framing(String),
    #[error("Content-Length is not the length of the body, {0} bytes")]
    Length(u64),
    #[error("the header Content-Length is there twice")]
    Twice,
    #[error("a response with status {0} has no body")]
    Body(u16),
    #[error("a body of {0} bytes is more than --max-write-buffer allows")]
    TooLarge(usize),
    #[error("{0} headers or trailers are more than {MOST_FIELDS}")]
    TooMany(usize),
}

/// Maximum of headers, and of trailers, of a response.
const MOST_FIELDS: usize = 1000;

/// Headers that the guest has set, of those that the host would add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) date: bool,
    pub(crate) server: bool,
}

/// A response that may be sent.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) answer: &'a Answer,
    given: Given,
    /// True if the guest asked to close the connection.
    pub(crate) closes: bool,
    /// Content-Length that the guest has set. To HEAD, it may stand for a body
    /// that was not made.
    length: Option<u64>,
    /// True if the request is HEAD, and the guest may not have made the body.
    may_lack_body: bool,
}

impl<'a> Checked<'a> {
    /// Checks a response. `head` is true if the request is HEAD. `most` is the
    /// maximum of a body in bytes.
    ///
    /// # Errors
    /// Fails with the first fault.
    pub(crate) fn new(answer: &'a Answer, head: bool, most: usize) -> Result<Self, ResponseFault> {
        let status = answer.status;
        if !(200..600).contains(&status) {
            return Err(ResponseFault::Status(status));
        }
        let length = match &answer.body {
            Body::Bytes(bytes) if bytes.len() > most => {
                return Err(ResponseFault::TooLarge(bytes.len()));
            }
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Empty => Some(0),
            Body::File(_) | Body::Unopened(_) | Body::Told(_) => None,
            Body::Stream(StreamedBody { length, .. }) => *length,
        };
        if bodiless(status) && length != Some(0) {
            return Err(ResponseFault::Body(status));
        }
        check_count(&answer.headers)?;
        check_count(&answer.trailers)?;
        let mut checked = Self::ours(answer);
        checked.may_lack_body = head && length == Some(0);
        for (name, value) in &answer.headers {
            check_field(name, value)?;
            checked.note(name, value, length)?;
        }
        for (name, value) in &answer.trailers {
            check_field(name, value)?;
            if is_framing(name) || name.eq_ignore_ascii_case("content-length") {
                return Err(ResponseFault::Framing(name.clone()));
            }
        }
        Ok(checked)
    }

    /// Returns a response of the host's own, unchecked.
    pub(crate) fn ours(answer: &'a Answer) -> Self {
        Self {
            answer,
            given: Given::default(),
            closes: false,
            length: None,
            may_lack_body: false,
        }
    }

    /// Checks a header that means something to the host.
    fn note(&mut self, name: &str, value: &[u8], length: Option<u64>) -> Result<(), ResponseFault> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is("date") => self.given.date = true,
            6 if is("server") => self.given.server = true,
            10 if is("connection") => {
                if !value.eq_ignore_ascii_case(b"close") {
                    return Err(ResponseFault::Framing(name.into()));
                }
                self.closes = true;
            }
            14 if is("content-length") => {
                if self.length.is_some() {
                    return Err(ResponseFault::Twice);
                }
                let told = std::str::from_utf8(value)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                    .and_then(|text| text.parse().ok());
                // To HEAD, a guest need not make the body just to have it
                // measured.
                match (told, length) {
                    (Some(told), Some(length)) if told == length || self.may_lack_body => {
                        self.length = Some(told);
                    }
                    // The length of a stream that tells none itself.
                    (Some(told), None) if matches!(self.answer.body, Body::Stream(_)) => {
                        self.length = Some(told);
                    }
                    (_, length) => return Err(ResponseFault::Length(length.unwrap_or_default())),
                }
            }
            _ if is_framing(name) => return Err(ResponseFault::Framing(name.into())),
            _ => {}
        }
        Ok(())
    }

    /// Returns the Content-Length that the guest has set.
    pub(crate) fn given_length(&self) -> Option<u64> {
        self.length
    }

    /// Returns the first value of a header that the guest has set.
    pub(crate) fn first(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.answer.headers.iter();
        let found = headers.find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_slice())
    }

    /// Writes the head up to the framing of the body, without the headers named
    /// in `omitted`, in lower case.
    pub(crate) fn start(&self, status: u16, date: &Date, omitted: &[&str], out: &mut Vec<u8>) {
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
            // These two are written at the end, according to the real body.
            let ours = matches!(name.len(), 10 | 14)
                && (name.eq_ignore_ascii_case("connection")
                    || name.eq_ignore_ascii_case("content-length"));
            let omits = || omitted.iter().any(|other| name.eq_ignore_ascii_case(other));
            if !ours && !omits() {
                write_field(name, value, out);
            }
        }
    }

    /// True if the host must add `Server`.
    pub(crate) fn lacks_server(&self) -> bool {
        !self.given.server
    }

    /// True if the host must add `Date`.
    pub(crate) fn lacks_date(&self) -> bool {
        !self.given.date
    }

    /// Returns the Content-Length for a body of `length` bytes; `None` if the
    /// status has none, or if it may not be the one of the response to GET.
    pub(crate) fn told_length(&self, status: u16, length: u64) -> Option<u64> {
        match status {
            // RFC 9110, section 8.6.
            204 | 304 => None,
            _ if self.may_lack_body && status != 205 => self.length,
            _ => Some(self.length.unwrap_or(length)),
        }
    }
}

/// Checks the headers of an interim response.
///
/// # Errors
/// Fails with the first fault.
pub(crate) fn check_interim(headers: &Fields) -> Result<(), ResponseFault> {
    check_count(headers)?;
    for (name, value) in headers {
        check_field(name, value)?;
        if is_framing(name) || name.eq_ignore_ascii_case("content-length") {
            return Err(ResponseFault::Framing(name.clone()));
        }
    }
    Ok(())
}

fn check_count(fields: &Fields) -> Result<(), ResponseFault> {
    match fields.len() {
        0..=MOST_FIELDS => Ok(()),
        count => Err(ResponseFault::TooMany(count)),
    }
}

/// Checks a field of a header or of trailers.
///
/// # Errors
/// Fails with its fault.
pub(crate) fn check_field(name: &str, value: &[u8]) -> Result<(), ResponseFault> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(ResponseFault::Name(name.into()));
    }
    // Visible characters, spaces, tabs and bytes beyond ASCII (RFC 9110,
    // section 5.5).
    let allowed = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !value.iter().all(allowed) {
        return Err(ResponseFault::Value(name.into()));
    }
    Ok(())
}
