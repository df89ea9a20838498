//! The head of an HTTP/1.1 request (RFC 9112, sections 2 to 6): its syntax,
//! and what the host itself must understand of it.
//!
//! httparse tells the tokens apart. It also takes lines that end in a bare LF,
//! and targets with a fragment or outside ASCII; here that is refused, as is
//! whatever two parsers in a row might understand differently.
//!
//! A head that has come whole is parsed in one go. Of one that comes in pieces
//! each line is checked once, when it is whole, so that the work is the same
//! however it is cut, and so is the answer.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use httparse::{EMPTY_HEADER, Header, Request, Status};
use memchr::memchr;

use crate::config::HttpLimits;

/// Empty lines that are ignored before a request (RFC 9112, section 2.2).
const EMPTY_LINES: usize = 4;

/// A head's bytes whatever the limit, so that 32 bits tell where a part is, also
/// of a target that is kept twice.
const MOST_BYTES: usize = (u32::MAX / 2) as usize;

/// Header lines for which there is room on the stack.
const FIELDS_AT_ONCE: usize = 128;

/// Limits of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Bytes of the whole head, with its line ends and the empty lines before it.
    pub(crate) bytes: usize,
    /// Header lines.
    pub(crate) fields: usize,
    /// Bytes of the request line, without its line end.
    pub(crate) line: usize,
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
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// For the log and the response's body.
    pub(crate) reason: &'static str,
}

/// How the end of a request's body is found (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
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
pub(crate) struct Head {
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

/// The check of a head that comes in pieces, line by line.
#[derive(Debug, Default)]
struct Scan {
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Up to where there is no line feed in it.
    searched: usize,
    empty_lines: usize,
    /// Where the request line begins; none before it is whole.
    start: Option<usize>,
    fields: usize,
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
    pub(crate) fn parse(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
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
    pub(crate) fn compose<'a>(
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
    pub(crate) fn method(&self) -> &str {
        self.str(self.method)
    }

    /// Path and query, percent signs and all: `/` where an absolute target has
    /// no path, `*` of `OPTIONS *`.
    pub(crate) fn target(&self) -> &str {
        self.str(self.target)
    }

    /// The request line as it was sent, for the access log. It is known as soon
    /// as the line is whole, and, cut at the limit, after a refusal.
    pub(crate) fn request_line(&self) -> &[u8] {
        self.bytes(self.request_line)
    }

    /// Host and port as they were asked for: of an absolute target, else of the
    /// `Host` header. None only where an HTTP/1.0 client sent neither.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.authority.map(|span| self.str(span))
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub(crate) fn minor_version(&self) -> u8 {
        self.minor_version
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants to send another request (RFC 9112, section 9.3).
    pub(crate) fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for a `100 Continue` before it sends the body.
    /// An HTTP/1.0 client does not, whatever it says (RFC 9110, section 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether trailers may be sent: HTTP/1.1 with `TE: trailers`.
    pub(crate) fn accepts_trailers(&self) -> bool {
        self.accepts_trailers
    }

    /// All header lines in their order. No name or value has a CR, LF or NUL in
    /// it, and values have no white space around them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|field| (self.str(field.name), self.bytes(field.value)))
    }

    /// The first value of a header; names are matched without regard to case.
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|field| self.is_named(field, name))
            .map(|field| self.bytes(field.value))
    }

    /// All values of a header, one for each line.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
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
        let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(input, headers) else {
            return Ok(None);
        };
        let (Some(head), Some(method), Some(target), Some(version)) = (
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
        self.text.extend_from_slice(head);
        self.interpret_target(method, target, raw_target)?;
        self.interpret_fields(request.headers, head)?;
        Ok(Some(length))
    }

    fn interpret_target(
        &mut self,
        method: &str,
        target: &str,
        raw_target: Span,
    ) -> Result<(), Refusal> {
        if method == "CONNECT" {
            return Err(Refusal {
                status: 501,
                reason: "this is no proxy",
            });
        }
        if !target.is_ascii() {
            return Err(bad("byte outside ASCII in the target"));
        }
        if memchr(b'#', target.as_bytes()).is_some() {
            return Err(bad("fragment in the target"));
        }
        self.authority = None;
        self.target = raw_target;
        if target.starts_with('/') {
            return Ok(());
        }
        if target == "*" {
            return match method {
                "OPTIONS" => Ok(()),
                _ => Err(bad("target * of another method than OPTIONS")),
            };
        }
        self.interpret_absolute_target(target, raw_target)
    }

    /// RFC 9112, section 3.2.2.
    fn interpret_absolute_target(&mut self, target: &str, raw_target: Span) -> Result<(), Refusal> {
        let Some((scheme, rest)) = target.split_once("://") else {
            return Err(bad("target that is neither a path nor a URL"));
        };
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(bad("target of another scheme than http and https"));
        }
        let length = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(length);
        if !is_authority(authority.as_bytes()) {
            return Err(bad("malformed authority in the target"));
        }
        let start = raw_target.end - rest.len() as u32;
        let end = start + authority.len() as u32;
        self.authority = Some(Span { start, end });
        self.target.start = end;
        if !path.starts_with('/') {
            let start = self.text.len() as u32;
            self.text.push(b'/');
            self.text.extend_from_slice(path.as_bytes());
            let end = self.text.len() as u32;
            self.target = Span { start, end };
        }
        Ok(())
    }

    fn interpret_fields(&mut self, headers: &[Header<'_>], head: &[u8]) -> Result<(), Refusal> {
        let mut host = None;
        let mut hosts = 0;
        let mut length = None;
        let mut codings = None;
        let mut close = false;
        let mut stay = false;
        let mut expects = false;
        let mut trailers = false;
        for header in headers {
            let (name, value) = (header.name, header.value);
            match name.len() {
                2 if name.eq_ignore_ascii_case("te") => {
                    trailers |=
                        members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"));
                }
                4 if name.eq_ignore_ascii_case("host") => {
                    hosts += 1;
                    host = Some(value);
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal {
                            status: 417,
                            reason: "unknown expectation",
                        });
                    }
                    expects = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    for option in members(value) {
                        close |= option.eq_ignore_ascii_case(b"close");
                        stay |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    let Some(value) = content_length(value) else {
                        return Err(bad("malformed Content-Length"));
                    };
                    if length.replace(value).is_some() {
                        return Err(bad("two Content-Length headers"));
                    }
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    codings.get_or_insert_with(Codings::default).add(value)?;
                }
                _ => {}
            }
        }
        let modern = self.minor_version == 1;
        match host {
            Some(_) if hosts > 1 => return Err(bad("two Host headers")),
            Some(host) if !is_authority(host) => return Err(bad("malformed Host")),
            Some(host) if self.authority.is_none() => {
                self.authority = Some(Span::of(host, head));
            }
            None if modern => return Err(bad("no Host header")),
            Some(_) | None => {}
        }
        self.framing = match (codings, length) {
            (None, None) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
            (Some(_), _) if !modern => return Err(bad("Transfer-Encoding with HTTP/1.0")),
            (Some(_), Some(_)) => return Err(bad("Transfer-Encoding with Content-Length")),
            (Some(codings), None) => codings.framing()?,
        };
        self.keep_alive = !close && (modern || stay);
        self.expects_continue = modern && expects;
        self.accepts_trailers = modern && trailers;
        Ok(())
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

    /// What is asked for with this was checked to be ASCII.
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

impl Scan {
    /// Goes on to the end of the head, or of what there is of it.
    fn advance(&mut self, window: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        loop {
            let unsearched = window.get(self.searched..).unwrap_or_default();
            let end = memchr(b'\n', unsearched).map(|at| self.searched + at + 1);
            self.searched = end.unwrap_or(window.len());
            let line = window.get(self.line..self.searched).unwrap_or_default();
            self.check_part(line, limits)?;
            let Some(end) = end else { return Ok(None) };
            if self.check_line(line)? {
                return Ok(Some(end));
            }
            self.line = end;
        }
    }

    /// Checks what can be checked before a line is whole.
    fn check_part(&self, line: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let Some(&first) = line.first() else {
            return Ok(());
        };
        if self.start.is_none() {
            if !is_token(first) && !is_line_end(first) {
                return Err(bad("not an HTTP request"));
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > limits.line {
                return Err(LINE_TOO_LONG);
            }
        } else if first == b' ' || first == b'\t' {
            return Err(bad("folded header line"));
        } else if self.fields == limits.fields && !is_line_end(first) {
            return Err(TOO_MANY_FIELDS);
        }
        Ok(())
    }

    /// Checks a line with its end. True where it is the one that ends the head.
    fn check_line(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        let Some(content) = line.strip_suffix(b"\r\n") else {
            return Err(bad("line feed without a carriage return"));
        };
        match (self.start, content) {
            (None, b"") => {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES {
                    return Err(bad("empty lines instead of a request"));
                }
            }
            (None, _) => {
                check_request_line(line)?;
                self.start = Some(self.line);
            }
            (Some(_), b"") => return Ok(true),
            (Some(_), _) => {
                check_field_line(line)?;
                self.fields += 1;
            }
        }
        Ok(false)
    }
}

/// The transfer codings of a request (RFC 9112, section 6.1).
#[derive(Default)]
struct Codings {
    unknown: bool,
    chunked: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for coding in members(value) {
            if self.chunked {
                return Err(bad("transfer coding after chunked"));
            }
            if coding.is_empty() {
                return Err(bad("empty transfer coding"));
            }
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.chunked = true;
            } else {
                self.unknown = true;
            }
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Refusal> {
        match (self.chunked, self.unknown) {
            (true, false) => Ok(Framing::Chunked),
            (true, true) => Err(Refusal {
                status: 501,
                reason: "unknown transfer coding",
            }),
            (false, _) => Err(bad("last transfer coding is not chunked")),
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

/// The length of the empty lines that are ignored before a request.
fn empty_lines(window: &[u8]) -> usize {
    let mut length = 0;
    while length < 2 * EMPTY_LINES
        && window
            .get(length..)
            .is_some_and(|rest| rest.starts_with(b"\r\n"))
    {
        length += 2;
    }
    length
}

/// Whether a line, known to be one of httparse, that ends at `at` ends in CRLF.
fn follows_crlf(head: &[u8], at: usize) -> bool {
    head.get(at.wrapping_sub(2)) == Some(&b'\r')
}

fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    match Request::new(&mut []).parse(line) {
        Ok(_) => Ok(()),
        Err(httparse::Error::Version) if has_another_version(line) => Err(Refusal {
            status: 505,
            reason: "HTTP version other than 1.0 and 1.1",
        }),
        Err(_) => Err(bad("malformed request line")),
    }
}

/// Whether a malformed request line ends in a version that is well-formed.
fn has_another_version(line: &[u8]) -> bool {
    matches!(
        line,
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n']
            if major.is_ascii_digit()
                && minor.is_ascii_digit()
                && memchr::memchr_iter(b' ', line).count() == 2
    )
}

fn check_field_line(line: &[u8]) -> Result<(), Refusal> {
    match httparse::parse_headers(line, &mut [EMPTY_HEADER]) {
        Ok(_) => Ok(()),
        Err(httparse::Error::HeaderName) => Err(bad("malformed header name")),
        Err(_) => Err(bad("malformed header value")),
    }
}

/// The members of a comma-separated list, empty ones among them.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else: no sign, no list.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return None;
        }
        length = length
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    Some(length)
}

/// Whether this is a host, perhaps with a port (RFC 3986, section 3.2), without
/// user information.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"[") {
        let Some((address, port)) = memchr(b']', rest).and_then(|at| rest.split_at_checked(at))
        else {
            return false;
        };
        let address = str::from_utf8(address).map(str::parse::<Ipv6Addr>);
        return matches!(address, Ok(Ok(_))) && is_port(port.get(1..).unwrap_or_default());
    }
    let (name, port) = split_registered_name(text);
    !name.is_empty() && is_port(port)
}

/// Whether this is nothing, or a colon with a port, which may be empty.
fn is_port(text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(b":") else {
        return text.is_empty();
    };
    digits.is_empty() || content_length(digits).is_some_and(|port| port <= u64::from(u16::MAX))
}

/// A registered name (RFC 3986, section 3.2.2), addresses of IPv4 among them,
/// and what follows it.
fn split_registered_name(text: &[u8]) -> (&[u8], &[u8]) {
    let mut length = 0;
    while let Some(rest) = text.get(length..) {
        length += match rest {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            [first, ..] if NAME_CHARACTERS[usize::from(*first)] => 1,
            _ => break,
        };
    }
    text.split_at_checked(length).unwrap_or((text, b""))
}

/// Unreserved characters and sub-delimiters.
const NAME_CHARACTERS: [bool; 256] = characters(b"-._~!$&'()*+,;=");

/// Letters, digits and these.
const fn characters(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// Whether a token may have this character (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 32 << 10,
        fields: 100,
        line: 8 << 10,
    };

    /// The request's head, parsed whole, and with a cut anywhere: first there
    /// has to come more, then it is the same.
    fn accepted(request: &str) -> Head {
        let input = request.as_bytes();
        let mut head = Head::default();
        let length = head.parse(input, &LIMITS).expect("a request");
        let length = length.expect("a whole head");
        for cut in 0..length {
            let mut cut_head = Head::default();
            let part = input.get(..cut).expect("a part");
            assert_eq!(cut_head.parse(part, &LIMITS), Ok(None), "cut at {cut}");
            assert_eq!(cut_head.parse(input, &LIMITS), Ok(Some(length)));
            assert_same(&head, &cut_head);
        }
        let mut slow_head = Head::default();
        for end in 1..length {
            let part = input.get(..end).expect("a part");
            assert_eq!(slow_head.parse(part, &LIMITS), Ok(None));
        }
        assert_eq!(slow_head.parse(input, &LIMITS), Ok(Some(length)));
        assert_same(&head, &slow_head);
        head
    }

    fn assert_same(one: &Head, other: &Head) {
        assert_eq!(one.method(), other.method());
        assert_eq!(one.target(), other.target());
        assert_eq!(one.request_line(), other.request_line());
        assert_eq!(one.authority(), other.authority());
        assert_eq!(one.minor_version(), other.minor_version());
        assert_eq!(one.framing(), other.framing());
        assert_eq!(one.keep_alive(), other.keep_alive());
        assert_eq!(one.expects_continue(), other.expects_continue());
        assert_eq!(one.accepts_trailers(), other.accepts_trailers());
        assert!(one.fields().eq(other.fields()));
    }

    /// The status with which the request is refused, however it is cut.
    fn refused(request: &[u8]) -> u16 {
        refused_within(request, &LIMITS)
    }

    fn refused_within(request: &[u8], limits: &HeadLimits) -> u16 {
        let refusal = Head::default()
            .parse(request, limits)
            .expect_err("a refusal");
        let mut head = Head::default();
        for end in 1..=request.len() {
            match head.parse(request.get(..end).expect("a part"), limits) {
                Ok(None) => {}
                Ok(Some(length)) => panic!("accepted with {length} bytes"),
                Err(other) => {
                    assert_eq!(other, refusal, "at {end}");
                    return refusal.status;
                }
            }
        }
        panic!("not refused in pieces");
    }

    /// A GET with this header line after a Host.
    fn with(line: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")
    }

    fn refused_with(line: &str) -> u16 {
        refused(with(line).as_bytes())
    }

    fn accepted_with(line: &str) -> Head {
        accepted(&with(line))
    }

    fn refused_host(host: &str) -> u16 {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    fn refused_target(target: &str) -> u16 {
        refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
    }

    #[test]
    fn a_request_of_curl_is_understood() {
        let head = accepted(
            "GET /a%20b?q=1&r HTTP/1.1\r\nHost: example.com:8080\r\n\
             User-Agent: curl/8.14.1\r\nAccept: */*\r\nX: \r\nx:\t1 2 \t\r\n\r\n",
        );
        assert_eq!(head.method(), "GET");
        assert_eq!(head.target(), "/a%20b?q=1&r");
        assert_eq!(head.request_line(), b"GET /a%20b?q=1&r HTTP/1.1");
        assert_eq!(head.authority(), Some("example.com:8080"));
        assert_eq!(head.minor_version(), 1);
        assert_eq!(head.framing(), Framing::None);
        assert!(head.keep_alive());
        assert!(!head.expects_continue());
        assert!(!head.accepts_trailers());
        assert_eq!(head.first("user-agent"), Some(&b"curl/8.14.1"[..]));
        assert_eq!(head.first("cookie"), None);
        assert!(head.all("X").eq([&b""[..], b"1 2"]));
        let fields: Vec<(&str, &[u8])> = head.fields().collect();
        let expected: [(&str, &[u8]); 5] = [
            ("Host", b"example.com:8080"),
            ("User-Agent", b"curl/8.14.1"),
            ("Accept", b"*/*"),
            ("X", b""),
            ("x", b"1 2"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn pipelined_requests_are_told_apart_and_leave_nothing_behind() {
        let first = "POST http://b?q HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\
                     Expect: 100-continue\r\nTE: trailers\r\n\r\n";
        let second = "GET / HTTP/1.0\r\n\r\n";
        let input = [first, second].concat();
        let mut head = Head::default();
        let length = head.parse(input.as_bytes(), &LIMITS);
        assert_eq!(length, Ok(Some(first.len())));
        let rest = input.as_bytes().get(first.len()..).expect("the second");
        assert_eq!(head.parse(rest, &LIMITS), Ok(Some(second.len())));
        assert_same(&head, &accepted(second));
        assert_eq!(head.authority(), None);
        assert_eq!(head.fields().count(), 0);
    }

    #[test]
    fn any_token_is_a_method() {
        assert_eq!(
            accepted("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.0\r\n\r\n").method(),
            "M-SEARCH!#$%&'*+.^_`|~"
        );
        assert_eq!(accepted("get / HTTP/1.0\r\n\r\n").method(), "get");
        for request in [
            "G\u{e9}T / HTTP/1.0\r\n\r\n",
            "(GET) / HTTP/1.0\r\n\r\n",
            "G\0T / HTTP/1.0\r\n\r\n",
            " / HTTP/1.0\r\n\r\n",
            "/ HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(refused(request.as_bytes()), 400, "{request:?}");
        }
    }

    #[test]
    fn what_is_no_http_is_refused_at_once() {
        let refusal = Head::default().parse(b"\x16\x03\x01\x02\0\x01", &LIMITS);
        assert_eq!(refusal.map_err(|refusal| refusal.status), Err(400));
    }

    #[test]
    fn white_space_in_the_request_line_is_one_space_twice() {
        for request in [
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / a HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET\r\n\r\n",
            "GET / HTTP/1.1\rHost: a\r\n\r\n",
        ] {
            assert_eq!(refused(request.as_bytes()), 400, "{request:?}");
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_ignored_up_to_a_few() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = accepted(&["\r\n\r\n\r\n\r\n", request].concat());
        assert_eq!(head.request_line(), b"GET / HTTP/1.1");
        let flood = ["\r\n\r\n\r\n\r\n\r\n", request].concat();
        assert_eq!(refused(flood.as_bytes()), 400);
        assert_eq!(refused(["\n", request].concat().as_bytes()), 400);
        assert_eq!(refused(["\r\n\n", request].concat().as_bytes()), 400);
        assert_eq!(refused(["\r", request].concat().as_bytes()), 400);
    }

    #[test]
    fn another_version_is_not_supported_and_a_malformed_one_is_bad() {
        for version in ["HTTP/9.9", "HTTP/2.0", "HTTP/1.2", "HTTP/0.9"] {
            let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
            assert_eq!(refused(request.as_bytes()), 505, "{version}");
        }
        assert_eq!(refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        for version in [
            "http/1.1",
            "HTTP/1",
            "HTTP/1.",
            "HTTP/11",
            "HTTP/1.10",
            "HTTP/01.1",
            "HTTP/+1.1",
            "HTTP /1.1",
            "HTTPS/1.1",
            "1.1",
            "",
        ] {
            let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
            assert_eq!(refused(request.as_bytes()), 400, "{version}");
        }
    }

    #[test]
    fn a_line_that_ends_in_a_bare_line_feed_is_refused_wherever_it_is() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n";
        for (at, _) in request.match_indices("\r\n") {
            let (before, after) = request.split_at(at);
            let bare_feed = [before, after.get(1..).expect("a line feed")].concat();
            assert_eq!(refused(bare_feed.as_bytes()), 400, "{bare_feed:?}");
            let return_twice = [before, "\r", after].concat();
            assert_eq!(refused(return_twice.as_bytes()), 400, "{return_twice:?}");
        }
        assert_eq!(refused(b"GET / HTTP/1.1\n\n"), 400);
        assert_eq!(refused(b"GET / HTTP/1.0\r\n\n"), 400);
        assert_eq!(refused(b"GET / HTTP/1.0\n\r\n"), 400);
    }

    #[test]
    fn header_lines_are_not_folded() {
        assert_eq!(refused_with("X: 1\r\n 2"), 400);
        assert_eq!(refused_with("X: 1\r\n\t2"), 400);
        assert_eq!(refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400);
        assert_eq!(refused_with(" "), 400);
    }

    #[test]
    fn a_header_name_is_a_token_right_before_a_colon() {
        for line in [
            "X : 1",
            "X\t: 1",
            ": 1",
            "X",
            "X 1",
            "X(: 1",
            "\u{e9}: 1",
            "X\u{fe}: 1",
            "X\0: 1",
            "X\r: 1",
            "\0",
        ] {
            assert_eq!(refused_with(line), 400, "{line:?}");
        }
        accepted_with("!#$%&'*+-.^_`|~09Az: 1");
    }

    #[test]
    fn a_header_value_has_no_control_characters() {
        for line in [
            "X: a\0b",
            "X: a\rb",
            "X: a\nb",
            "X: \x7f",
            "X: \x1b[0m",
            "X:\0",
        ] {
            assert_eq!(refused_with(line), 400, "{line:?}");
        }
        let head = accepted_with("X: a\tb \u{e9} c");
        assert_eq!(head.first("x"), Some("a\tb \u{e9} c".as_bytes()));
        assert_eq!(accepted_with("X: :").first("x"), Some(&b":"[..]));
        assert_eq!(accepted_with("X: \t ").first("x"), Some(&b""[..]));
    }

    #[test]
    fn a_target_is_a_path_of_visible_ascii_without_a_fragment() {
        for target in [
            "/",
            "/a/../b",
            "//a",
            "/%00",
            "/a|{}\"<>\\^`",
            "/?",
            "/??/#",
        ] {
            let request = format!("GET {target} HTTP/1.0\r\n\r\n");
            if target.contains('#') {
                assert_eq!(refused(request.as_bytes()), 400);
            } else {
                assert_eq!(accepted(&request).target(), target);
            }
        }
        for target in [
            "a", "?a", "a/b", "/\u{e9}", "/a\0", "/a\x7f", "/a\x1f", "/#a", "#", "*a", "**", "a:80",
        ] {
            assert_eq!(refused_target(target), 400, "{target:?}");
        }
        assert_eq!(refused(b"GET /\xff HTTP/1.0\r\n\r\n"), 400);
    }

    #[test]
    fn the_asterisk_is_a_target_of_options_alone() {
        let head = accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(head.target(), "*");
        assert_eq!(refused_target("*"), 400);
    }

    #[test]
    fn an_absolute_target_goes_before_host() {
        for (target, authority, path) in [
            ("http://b/c?d", "b", "/c?d"),
            ("HTTPS://b:443", "b:443", "/"),
            ("http://b?c=/d", "b", "/?c=/d"),
            ("http://[::1]:80/", "[::1]:80", "/"),
            ("http://b//", "b", "//"),
        ] {
            let head = accepted(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"));
            assert_eq!(head.authority(), Some(authority));
            assert_eq!(head.target(), path);
            assert_eq!(head.first("host"), Some(&b"a"[..]));
            assert_eq!(
                head.request_line(),
                format!("GET {target} HTTP/1.1").as_bytes()
            );
            let head = accepted(&format!("GET {target} HTTP/1.0\r\n\r\n"));
            assert_eq!(head.authority(), Some(authority));
        }
        for target in [
            "ftp://b/",
            "://b/",
            "http:/b",
            "http:///c",
            "http://",
            "http://?c",
            "http://:80/",
            "http://user@b/",
            "http://user:password@b/",
            "http://b:x/",
            "http://b/#c",
            "http://[::1/",
            "http://b\\c/",
        ] {
            assert_eq!(refused_target(target), 400, "{target}");
        }
        assert_eq!(refused(b"GET http://b/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused(b"GET http://b/ HTTP/1.1\r\nHost: c@d\r\n\r\n"), 400);
    }

    #[test]
    fn this_is_no_proxy() {
        assert_eq!(refused(b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"), 501);
    }

    #[test]
    fn a_host_is_needed_once_and_valid() {
        assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(refused_with("Host: a"), 400);
        assert_eq!(refused_with("hOST: b"), 400);
        assert_eq!(
            refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
            400
        );
        assert_eq!(refused(b"GET / HTTP/1.0\r\nHost:\r\n\r\n"), 400);
        assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").authority(), None);
        for host in [
            "a",
            "example.com",
            "a_b.example:8080",
            "127.0.0.1:1",
            "a:",
            "a:00080",
            "[::1]",
            "[2001:db8::1]:443",
            "[::ffff:192.0.2.1]",
            "%41b",
            "a~!$&'()*+,;=b",
        ] {
            let head = accepted(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(head.authority(), Some(host));
        }
        for host in [
            "",
            " ",
            ":80",
            "a b",
            "a@b",
            "user:password@b",
            "a/b",
            "http://a",
            "a:x",
            "a:-1",
            "a:+80",
            "a:65536",
            "a:80:80",
            "a:99999999999999999999999",
            "::1",
            "[::1",
            "[]",
            "[::1]a",
            "[::1]80",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "%4",
            "%4g",
            "a%",
            "\u{e9}",
            "a\"",
            "a<b",
            "a\\b",
            "a?b",
            "a#b",
        ] {
            assert_eq!(refused_host(host), 400, "{host:?}");
        }
    }

    #[test]
    fn a_content_length_is_digits_and_given_once() {
        assert_eq!(
            accepted_with("Content-Length: 5").framing(),
            Framing::Length(5)
        );
        assert_eq!(
            accepted_with("content-length:0").framing(),
            Framing::Length(0)
        );
        assert_eq!(
            accepted_with("CONTENT-LENGTH: 0018446744073709551615").framing(),
            Framing::Length(u64::MAX)
        );
        for length in [
            "5,5",
            "5, 5",
            "+5",
            "-1",
            "0x5",
            "1_0",
            "",
            " ",
            "5 5",
            "5.",
            "five",
            "18446744073709551616",
            "99999999999999999999999",
            "\u{0665}",
        ] {
            assert_eq!(
                refused_with(&format!("Content-Length: {length}")),
                400,
                "{length:?}"
            );
        }
        assert_eq!(refused_with("Content-Length: 5\r\nContent-Length: 6"), 400);
        assert_eq!(refused_with("Content-Length: 5\r\nContent-Length: 5"), 400);
    }

    #[test]
    fn transfer_encoding_is_chunked_alone() {
        for line in ["Transfer-Encoding: chunked", "transfer-encoding:\tCHUNKED "] {
            assert_eq!(accepted_with(line).framing(), Framing::Chunked);
        }
        for coding in [
            "xchunked",
            "chunkedx",
            ",chunked",
            "chunked,",
            "chunked, gzip",
            "chunked, chunked",
            "chunked\r\nTransfer-Encoding: chunked",
            "chunked\r\nTransfer-Encoding: gzip",
            "chunked\r\nTransfer-Encoding:",
            "identity",
            "gzip",
            "",
            "\"chunked\"",
            "chunked;q=1",
            "chunked chunked",
            "\u{b}chunked",
        ] {
            let line = format!("Transfer-Encoding: {coding}");
            assert_eq!(refused_with(&line), 400, "{coding:?}");
        }
        assert_eq!(refused_with("Transfer-Encoding: gzip, chunked"), 501);
        assert_eq!(
            refused_with("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
            501
        );
    }

    #[test]
    fn transfer_encoding_does_not_go_with_a_length_or_with_http_1_0() {
        assert_eq!(
            refused_with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            400
        );
        assert_eq!(
            refused_with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            400
        );
        assert_eq!(
            refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
    }

    #[test]
    fn a_connection_is_kept_by_version_and_option() {
        assert!(!accepted_with("Connection: close").keep_alive());
        assert!(!accepted_with("Connection: keep-alive, , Close").keep_alive());
        assert!(!accepted_with("Connection: te\r\nConnection: close").keep_alive());
        assert!(accepted_with("Connection: closed").keep_alive());
        assert!(accepted_with("Connection: upgrade").keep_alive());
        let old = |line: &str| accepted(&format!("GET / HTTP/1.0\r\n{line}\r\n\r\n")).keep_alive();
        assert!(!old("X: 1"));
        assert!(old("Connection: Keep-Alive"));
        assert!(!old("Connection: keep-alive, close"));
    }

    #[test]
    fn an_expectation_is_100_continue_or_fails() {
        assert!(accepted_with("Expect: 100-Continue").expects_continue());
        let old = accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
        assert!(!old.expects_continue());
        for expectation in ["200-ok", "100-continue, other", ""] {
            assert_eq!(refused_with(&format!("Expect: {expectation}")), 417);
        }
    }

    #[test]
    fn trailers_are_accepted_where_te_says_so() {
        assert!(accepted_with("TE: gzip;q=0.5, Trailers").accepts_trailers());
        assert!(accepted_with("TE: gzip\r\nTE: trailers").accepts_trailers());
        assert!(!accepted_with("TE: trailersx").accepts_trailers());
        assert!(!accepted("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").accepts_trailers());
    }

    #[test]
    fn a_request_line_over_the_limit_is_414_before_it_ends() {
        let limits = HeadLimits { line: 20, ..LIMITS };
        let line = "GET /12345 HTTP/1.0";
        let exact = HeadLimits {
            line: line.len(),
            ..LIMITS
        };
        let request = format!("{line}\r\n\r\n");
        let parse = |limits| Head::default().parse(request.as_bytes(), limits);
        assert_eq!(parse(&exact), Ok(Some(request.len())));
        let request = b"GET /1234567890 HTTP/1.0\r\n\r\n";
        assert_eq!(refused_within(request, &limits), 414);
        assert_eq!(
            refused_within(b"GET /123456789012345", &HeadLimits { line: 19, ..LIMITS }),
            414
        );
        let endless = [b"GET /".as_slice(), &[b'a'; 8 << 10]].concat();
        assert_eq!(refused(&endless), 414);
        assert_eq!(
            refused_within(
                &endless,
                &HeadLimits {
                    bytes: 100,
                    ..LIMITS
                }
            ),
            414
        );
    }

    #[test]
    fn a_head_over_the_limit_is_431_before_it_ends() {
        let request = "GET / HTTP/1.0\r\nX: 1\r\n\r\n";
        let limits = HeadLimits {
            bytes: request.len(),
            ..LIMITS
        };
        let length = Head::default().parse(request.as_bytes(), &limits);
        assert_eq!(length, Ok(Some(request.len())));
        let limits = HeadLimits {
            bytes: request.len() - 1,
            ..LIMITS
        };
        assert_eq!(refused_within(request.as_bytes(), &limits), 431);
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 32 << 10]].concat();
        assert_eq!(refused(&endless), 431);
    }

    #[test]
    fn too_many_header_lines_are_431_before_they_end() {
        let lines = |count| format!("GET / HTTP/1.0\r\n{}", "X: 1\r\n".repeat(count));
        let head = accepted(&format!("{}\r\n", lines(100)));
        assert_eq!(head.fields().count(), 100);
        assert_eq!(refused(format!("{}\r\n", lines(101)).as_bytes()), 431);
        assert_eq!(refused(format!("{}X", lines(100)).as_bytes()), 431);
        let limits = HeadLimits {
            fields: 0,
            ..LIMITS
        };
        assert_eq!(refused_within(lines(1).as_bytes(), &limits), 431);
    }

    #[test]
    fn more_header_lines_than_fit_the_stack_are_taken_where_allowed() {
        let limits = HeadLimits {
            fields: 1000,
            ..LIMITS
        };
        let request = format!("GET / HTTP/1.0\r\n{}\r\n", "X: 1\r\n".repeat(1000));
        let mut head = Head::default();
        let length = head.parse(request.as_bytes(), &limits);
        assert_eq!(length, Ok(Some(request.len())));
        assert_eq!(head.fields().count(), 1000);
    }

    #[test]
    fn the_request_line_is_known_for_the_log() {
        let mut head = Head::default();
        let line = |head: &Head| String::from_utf8_lossy(head.request_line()).into_owned();
        assert!(head.parse(b"GET /a HTTP/1.1\r\n\r\n", &LIMITS).is_err());
        assert_eq!(line(&head), "GET /a HTTP/1.1");
        assert!(
            head.parse(b"\r\nGET /b HTTP/1.1\r\nX : 1\r\n", &LIMITS)
                .is_err()
        );
        assert_eq!(line(&head), "GET /b HTTP/1.1");
        assert_eq!(head.parse(b"GET /c", &LIMITS), Ok(None));
        assert_eq!(line(&head), "");
        assert_eq!(head.parse(b"GET /c HTTP/1.1\r\n", &LIMITS), Ok(None));
        assert_eq!(line(&head), "GET /c HTTP/1.1");
        assert_eq!(head.method(), "");
        head.clear();
        assert!(head.parse(b"GET /d\xff HTTP/3\r\n", &LIMITS).is_err());
        assert_eq!(line(&head), "GET /d\u{fffd} HTTP/3");
        let limits = HeadLimits { line: 6, ..LIMITS };
        assert!(head.parse(b"GET /long", &limits).is_err());
        assert_eq!(line(&head), "GET /l");
    }

    #[test]
    fn a_head_that_comes_byte_by_byte_is_searched_once() {
        let mut request = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        let mut head = Head::default();
        for _ in 0..1000 {
            request.push(b'x');
            assert_eq!(head.parse(&request, &LIMITS), Ok(None));
            assert_eq!(head.scan.searched, request.len());
            assert_eq!(head.scan.line, 25);
        }
    }

    #[test]
    fn nothing_is_allocated_for_a_second_request() {
        let request = with("X: 1");
        let mut head = Head::default();
        head.parse(request.as_bytes(), &LIMITS).expect("a request");
        let buffers = |head: &Head| (head.text.as_ptr(), head.fields.as_ptr());
        let before = buffers(&head);
        head.parse(request.as_bytes(), &LIMITS).expect("a request");
        assert_eq!(buffers(&head), before);
    }
}
