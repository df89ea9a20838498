//! The head of an HTTP/1.1 request (RFC 9112, sections 2 to 6): its syntax,
//! and what the host itself must understand of it.
//!
//! httparse tells the tokens apart. It also takes lines that end in a bare LF,
//! and targets with a fragment; here that is refused, as is whatever two parsers
//! in a row might understand differently.
//!
//! A head that has come whole is parsed in one go. Of one that comes in pieces
//! each line is checked once, when it is whole, so that the work is the same
//! however it is cut, and so is the answer.

pub mod authority;
mod meaning;
pub mod scan;
pub mod target;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use netwasm_base::config::HttpLimits;

use self::scan::{Scan, empty_lines};

/// A head's bytes whatever the limit, so that 32 bits tell where a part is, also
/// of a target that is kept several times, and percent-encoded.
const MOST_BYTES: usize = (u32::MAX / 8) as usize;

/// Header lines for which there is room on the stack.
const FIELDS_AT_ONCE: usize = 128;

/// Limits of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, with its line ends and the empty lines before it.
    pub bytes: usize,
    /// Header lines.
    pub fields: usize,
    /// Bytes of the request line, without its line end.
    pub line: usize,
}

impl From<&HttpLimits> for HeadLimits {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            bytes: limits.max_head,
            fields: limits.max_headers,
            line: limits.max_request_line,
        }
    }
}

/// Why a request is refused: what the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is answered.
    pub status: u16,
    /// For the log and the response's body.
    pub reason: &'static str,
}

/// How the end of a request's body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// By its length in bytes, which may be 0.
    Length(u64),
    /// By the last chunk.
    Chunked,
}

/// The head of one request. It is reused from request to request with its
/// buffers, so that parsing allocates nothing once they have grown.
#[derive(Debug, Default)]
pub struct Head {
    /// The head as it came, but for the empty lines before it; then the target
    /// where that is not to be found in it.
    text: Vec<u8>,
    fields: Vec<Field>,
    request_line: Span,
    method: Span,
    target: Span,
    authority: Option<Span>,
    minor_version: u8,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    accepts_trailers: bool,
    /// How far a head was checked that is not whole yet.
    scan: Scan,
}

/// Where something lies in `Head::text`.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

impl Head {
    /// Parses the request at the beginning of `input`. Some(n): its head is in
    /// the first n bytes. None: more is needed; the next call is to have the
    /// same bytes and those that followed them. What is over a limit is refused
    /// without waiting for the rest.
    ///
    /// # Errors
    /// Whatever is not a request to an origin server, with what the client is
    /// to be told. The connection has to be closed, as nobody knows where the
    /// next request would begin.
    pub fn parse(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let most = limits.bytes.min(MOST_BYTES);
        let window = input.get(..most).unwrap_or(input);
        if self.scan.searched == 0 || self.scan.searched > window.len() {
            self.clear();
            if let Some(length) = self.parse_at_once(window, limits)? {
                return Ok(Some(length));
            }
        }
        let result = self.parse_in_pieces(window, limits, window.len() == most);
        match result {
            Ok(None) => {
                if let Some(start) = self.scan.start
                    && self.text.is_empty()
                {
                    self.keep_request_line(window, start, limits);
                }
            }
            Ok(Some(_)) => self.scan = Scan::default(),
            Err(_) => {
                if self.text.is_empty() {
                    let start = self.scan.start.unwrap_or_else(|| empty_lines(window));
                    self.keep_request_line(window, start, limits);
                }
                self.scan = Scan::default();
            }
        }
        result
    }

    /// Takes a head that came by HTTP/2 (RFC 9113, section 8.3), and was checked.
    /// It looks as if HTTP/1.1 had brought it, but for the request line.
    pub fn compose<'a>(
        &mut self,
        method: &str,
        target: &str,
        authority: &str,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) {
        self.clear();
        self.method = self.push(method.as_bytes());
        self.text.push(b' ');
        self.target = self.push(target.as_bytes());
        self.text.extend_from_slice(b" HTTP/2.0");
        self.request_line = Span {
            start: 0,
            end: self.text.len() as u32,
        };
        let name = self.push(b"host");
        let value = self.push(authority.as_bytes());
        self.authority = Some(value);
        self.fields.push(Field { name, value });
        let mut cookie = false;
        for (name, value) in fields.filter(|(name, _)| *name != "host") {
            // What a client has cut in pieces, so that they compress better
            // (RFC 9113, section 8.2.3), and which follow each other.
            if name == "cookie" && std::mem::replace(&mut cookie, true) {
                self.text.extend_from_slice(b"; ");
                let end = self.push(value).end;
                if let Some(field) = self.fields.last_mut() {
                    field.value.end = end;
                }
                continue;
            }
            let name = self.push(name.as_bytes());
            let value = self.push(value);
            self.fields.push(Field { name, value });
        }
        self.minor_version = 1;
        self.keep_alive = true;
        self.accepts_trailers = true;
    }

    fn push(&mut self, part: &[u8]) -> Span {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(part);
        Span {
            start,
            end: self.text.len() as u32,
        }
    }

    /// Forgets the last request, also where it was not whole, but keeps the
    /// buffers.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.request_line = Span::default();
        self.method = Span::default();
        self.target = Span::default();
        self.authority = None;
        self.minor_version = 0;
        self.framing = Framing::None;
        self.keep_alive = false;
        self.expects_continue = false;
        self.accepts_trailers = false;
        self.scan = Scan::default();
    }

    /// The method: any token, in the case in which it was sent.
    pub fn method(&self) -> &str {
        self.str(self.method)
    }

    /// Path and query, percent signs and all: `/` where an absolute target has
    /// no path, `*` of `OPTIONS *`. It is as it was sent, but for bytes that are
    /// no UTF-8: these are percent-encoded.
    pub fn target(&self) -> &str {
        self.str(self.target)
    }

    /// The request line as it was sent, for the access log. It is known as soon
    /// as the line is whole, and, cut at the limit, after a refusal.
    pub fn request_line(&self) -> &[u8] {
        self.bytes(self.request_line)
    }

    /// Host and port as they were asked for: of an absolute target, else of the
    /// `Host` header. None only where an HTTP/1.0 client sent neither.
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|span| self.str(span))
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// How the end of the body is found (RFC 9112, section 6.3).
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants to send another request (RFC 9112, section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for a `100 Continue` before it sends the body.
    /// An HTTP/1.0 client does not, whatever it says (RFC 9110, section 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether trailers may be sent: HTTP/1.1 with `TE: trailers`.
    pub fn accepts_trailers(&self) -> bool {
        self.accepts_trailers
    }

    /// All header lines in their order. No name or value has a CR, LF or NUL in
    /// it, and values have no white space around them.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.str(field.name), self.bytes(field.value)))
    }

    /// The first value of a header; names are matched without regard to case.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.is_named(field, name))
            .map(|field| self.bytes(field.value))
    }

    /// All values of a header, one for each line.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.is_named(field, name))
            .map(|field| self.bytes(field.value))
    }

    /// The usual case: the whole head is there, and there is nothing wrong with
    /// its syntax. None where it has to be looked at line by line.
    fn parse_at_once(
        &mut self,
        window: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        let mut headers = [const { MaybeUninit::uninit() }; FIELDS_AT_ONCE];
        let most = limits.fields.min(FIELDS_AT_ONCE);
        let start = empty_lines(window);
        let (Some(head), Some(headers)) = (window.get(start..), headers.get_mut(..most)) else {
            return Ok(None);
        };
        let length = self.take(head, headers, limits)?;
        Ok(length.map(|length| start + length))
    }

    fn parse_in_pieces(
        &mut self,
        window: &[u8],
        limits: &HeadLimits,
        full: bool,
    ) -> Result<Option<usize>, Refusal> {
        let Some(length) = self.scan.advance(window, limits)? else {
            return match (full, self.scan.start) {
                (false, _) => Ok(None),
                (true, None) => Err(LINE_TOO_LONG),
                (true, Some(_)) => Err(HEAD_TOO_LARGE),
            };
        };
        let start = self.scan.start.unwrap_or(length);
        let head = window.get(start..length).unwrap_or_default();
        let mut headers = Vec::new();
        headers.resize_with(self.scan.fields, MaybeUninit::uninit);
        match self.take(head, &mut headers, limits)? {
            Some(_) => Ok(Some(length)),
            None => Err(bad("malformed request head")),
        }
    }

    /// Reads the head at the beginning of `input`. None where it is not whole or
    /// not right.
    fn take<'input>(
        &mut self,
        input: &'input [u8],
        headers: &mut [MaybeUninit<Header<'input>>],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(input, headers) {
            Ok(Status::Complete(length)) => self.keep(&request, input, input, length, limits),
            Ok(Status::Partial) => Ok(None),
            Err(_) => self.take_masked(input, limits),
        }
    }

    /// Does the same where the target is not UTF-8.
    fn take_masked(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        let Some(masked) = target::masked(input) else {
            return Ok(None);
        };
        let mut headers = Vec::new();
        headers.resize_with(limits.fields, MaybeUninit::uninit);
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(&masked, &mut headers) {
            Ok(Status::Complete(length)) => self.keep(&request, &masked, input, length, limits),
            _ => Ok(None),
        }
    }

    /// Keeps a head of this length that httparse has understood; `parsed` is
    /// what it saw of `input`.
    fn keep(
        &mut self,
        request: &Request<'_, '_>,
        parsed: &[u8],
        input: &[u8],
        length: usize,
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
        let (Some(head), Some(sent), Some(method), Some(target), Some(version)) = (
            parsed.get(..length),
            input.get(..length),
            request.method,
            request.path,
            request.version,
        ) else {
            return Ok(None);
        };
        self.method = Span::of(method.as_bytes(), head);
        let raw_target = Span::of(target.as_bytes(), head);
        self.request_line = Span {
            start: 0,
            end: raw_target.end + " HTTP/1.1".len() as u32,
        };
        self.minor_version = version;
        self.fields.clear();
        let mut lines_end_rightly = true;
        for header in request.headers.iter() {
            let name = Span::of(header.name.as_bytes(), head);
            let value = Span::of(header.value, head);
            lines_end_rightly &= follows_crlf(head, name.start as usize);
            self.fields.push(Field { name, value });
        }
        let last = length.saturating_sub(2);
        lines_end_rightly &= follows_crlf(head, last) && head.get(last) == Some(&b'\r');
        if !lines_end_rightly
            || self.method.start != 0
            || self.request_line.end as usize > limits.line
        {
            return Ok(None);
        }
        self.text.clear();
        self.text.extend_from_slice(sent);
        let (start, end) = (raw_target.start as usize, raw_target.end as usize);
        let sent = sent.get(start..end).unwrap_or_default();
        match target::text(sent) {
            Cow::Borrowed(_) => self.interpret_target(method, target, raw_target)?,
            Cow::Owned(_) if !target::has_ascii_origin(sent) => {
                return Err(bad("malformed authority in the target"));
            }
            Cow::Owned(encoded) => {
                let target = self.push(encoded.as_bytes());
                self.interpret_target(method, &encoded, target)?;
            }
        }
        self.interpret_fields(request.headers, head)?;
        Ok(Some(length))
    }

    /// Keeps no more than the request line, for the log.
    fn keep_request_line(&mut self, window: &[u8], start: usize, limits: &HeadLimits) {
        let line = window.get(start..).unwrap_or_default();
        let line = line.get(..limits.line).unwrap_or(line);
        let length = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        self.text
            .extend_from_slice(line.get(..length).unwrap_or_default());
        self.request_line = Span {
            start: 0,
            end: self.text.len() as u32,
        };
        self.method = Span::default();
        self.fields.clear();
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        self.bytes(field.name).eq_ignore_ascii_case(name.as_bytes())
    }

    fn bytes(&self, span: Span) -> &[u8] {
        self.text
            .get(span.start as usize..span.end as usize)
            .unwrap_or_default()
    }

    /// What is asked for with this was checked to be UTF-8.
    fn str(&self, span: Span) -> &str {
        str::from_utf8(self.bytes(span)).unwrap_or_default()
    }
}

impl Span {
    /// Where `part` lies in `whole`, of which it was borrowed.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Self {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }
}

const LINE_TOO_LONG: Refusal = Refusal {
    status: 414,
    reason: "request line too long",
};
const HEAD_TOO_LARGE: Refusal = Refusal {
    status: 431,
    reason: "request head too large",
};
const TOO_MANY_FIELDS: Refusal = Refusal {
    status: 431,
    reason: "too many header lines",
};

const fn bad(reason: &'static str) -> Refusal {
    Refusal {
        status: 400,
        reason,
    }
}

/// Whether a line, known to be one of httparse, that ends at `at` ends in CRLF.
fn follows_crlf(head: &[u8], at: usize) -> bool {
    head.get(at.wrapping_sub(2)) == Some(&b'\r')
}
