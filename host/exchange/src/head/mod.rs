//! The head of an HTTP/1.1 request (RFC 9112, sections 2 to 6): its syntax, and
//! the parts that the host itself must understand.
//!
//! httparse splits the tokens. It also accepts lines that end in a bare LF, and
//! targets with a fragment. This module refuses those, and whatever two parsers
//! in a row might understand differently.
//!
//! A complete head is parsed in one go. If a head arrives in pieces, each line
//! is checked once, when it is complete. The cuts therefore change neither the
//! work nor the result.

pub mod authority;
mod limits;
mod meaning;
pub mod scan;
pub mod target;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};

use self::limits::{HEAD_TOO_LARGE, LINE_TOO_LONG};
use self::scan::{Scan, empty_lines};

pub use self::limits::{HeadLimits, Refusal, bad};

/// Largest head in bytes, whatever the configured limit. A [`Span`] has 32
/// bits, and the buffer may also hold copies of the target, percent-encoded.
const MOST_BYTES: usize = (u32::MAX / 8) as usize;

/// Number of header lines that fit on the stack.
const FIELDS_AT_ONCE: usize = 128;

/// Rule for the end of a request's body: RFC 9112, section 6.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// By length in bytes, which may be 0.
    Length(u64),
    /// By the last chunk.
    Chunked,
}

/// The head of one request. It and its buffers are reused for later requests,
/// so that parsing allocates nothing once the buffers have grown.
#[derive(Debug, Default)]
pub struct Head {
    /// The head as received, without the empty lines before it. The target
    /// follows, if it differs from what was received.
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
    /// Progress of the check of a partial head.
    scan: Scan,
}

/// Position in `Head::text`.
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
    /// Parses the request at the beginning of `input`. Returns `Some(n)` if its
    /// head is the first n bytes, and `None` if more bytes are needed: call
    /// again with these bytes and those that followed. A head over a limit is
    /// refused before the rest of it has arrived.
    ///
    /// # Errors
    /// Fails if this is not a request to an origin server, with the status for
    /// the client. Close the connection then: nobody knows where the next
    /// request would begin.
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

    /// Takes the head of an HTTP/2 request (RFC 9113, section 8.3) that was
    /// checked. All but the request line reads like a head of HTTP/1.1.
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
            // Clients split cookies so that they compress better (RFC 9113,
            // section 8.2.3). A `HeaderMap` yields the pieces consecutively.
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

    /// Clears the last request, even if it was partial, but keeps the buffers.
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

    /// Returns the size of the buffers in bytes.
    pub(crate) fn room(&self) -> usize {
        self.text.capacity() + self.fields.capacity() * size_of::<Field>()
    }

    /// Returns the method: any token, in the case in which it was sent.
    pub fn method(&self) -> &str {
        self.str(self.method)
    }

    /// Returns path and query, still percent-encoded: `/` if an absolute target
    /// has no path, `*` for `OPTIONS *`. It is as it was sent, except that
    /// bytes which are not UTF-8 are percent-encoded.
    pub fn target(&self) -> &str {
        self.str(self.target)
    }

    /// Returns the request line as it was sent, for the access log. It is known
    /// as soon as the line is complete and, cut at the limit, after a refusal.
    pub fn request_line(&self) -> &[u8] {
        self.bytes(self.request_line)
    }

    /// Returns host and port as the client sent them: those of an absolute
    /// target, else those of the `Host` header. `None` only if an HTTP/1.0
    /// client sent neither.
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|span| self.str(span))
    }

    /// Returns 0 for HTTP/1.0, and 1 for HTTP/1.1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// Returns how the end of the body is found: RFC 9112, section 6.3.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// True if the client wants to send another request: RFC 9112, section 9.3.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// True if the client waits for a `100 Continue` before it sends the body.
    /// False for HTTP/1.0, whatever the client says: RFC 9110, section 10.1.1.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// True if trailers may be sent: HTTP/1.1 with `TE: trailers`.
    pub fn accepts_trailers(&self) -> bool {
        self.accepts_trailers
    }

    /// Returns all header lines in order. Names and values contain no CR, LF or
    /// NUL, and values have no white space around them.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.str(field.name), self.bytes(field.value)))
    }

    /// Returns the first value of a header. Names match regardless of case.
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.is_named(field, name))
            .map(|field| self.bytes(field.value))
    }

    /// Returns all values of a header, one for each line.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| self.is_named(field, name))
            .map(|field| self.bytes(field.value))
    }

    /// Parses the usual case: a complete head with correct syntax. Returns
    /// `None` if the head must be checked line by line.
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

    /// Reads the head at the beginning of `input`. Returns `None` if it is
    /// partial or malformed.
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

    /// Like `take`, for a target that is not UTF-8.
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

    /// Keeps a head of this length that httparse has parsed. `parsed` is what
    /// httparse saw of `input`.
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

    /// Keeps only the request line, for the log.
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

    /// Returns a part that was checked to be UTF-8.
    fn str(&self, span: Span) -> &str {
        str::from_utf8(self.bytes(span)).unwrap_or_default()
    }
}

impl Span {
    /// Returns the position of `part` in `whole`, from which it was borrowed.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        Self {
            start: start as u32,
            end: (start + part.len()) as u32,
        }
    }
}

/// True if the line that ends at `at` ends in CRLF. httparse has accepted the
/// line.
fn follows_crlf(head: &[u8], at: usize) -> bool {
    head.get(at.wrapping_sub(2)) == Some(&b'\r')
}
