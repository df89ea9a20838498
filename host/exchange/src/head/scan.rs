//! The check of a head that arrives in pieces.

use httparse::{EMPTY_HEADER, Request};
use memchr::memchr;

use super::authority::characters;
use super::limits::{LINE_TOO_LONG, TOO_MANY_FIELDS};
use super::target::masked;
use super::{HeadLimits, Refusal, bad};

/// Number of empty lines that are ignored before a request: RFC 9112, section
/// 2.2.
const EMPTY_LINES: usize = 4;

/// State of the check, which goes line by line.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Start of the line that is still partial.
    pub(super) line: usize,
    /// End of the part of that line that is known to have no line feed.
    pub(super) searched: usize,
    empty_lines: usize,
    /// Start of the request line; `None` until that line is complete.
    pub(super) start: Option<usize>,
    pub(super) fields: usize,
}

impl Scan {
    /// Continues to the end of the head, or of the part that has arrived.
    pub(super) fn advance(
        &mut self,
        window: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Refusal> {
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

    /// Checks what can be checked before a line is complete.
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

    /// Checks a line with its end. Returns true if it is the line that ends the
    /// head.
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

/// Returns the length of the empty lines that are ignored before a request.
pub(super) fn empty_lines(window: &[u8]) -> usize {
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

fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    match Request::new(&mut []).parse(line) {
        Ok(_) => Ok(()),
        Err(httparse::Error::Version) if has_another_version(line) => {
            Err(Refusal::new(505, "HTTP version other than 1.0 and 1.1"))
        }
        Err(_) => match masked(line) {
            Some(masked) => check_request_line(&masked),
            None => Err(bad("malformed request line")),
        },
    }
}

/// True if a malformed request line ends in a well-formed version.
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

/// True if a token may contain this character: RFC 9110, section 5.6.2.
pub fn is_token(byte: u8) -> bool {
    TOKEN_CHARACTERS[usize::from(byte)]
}

const TOKEN_CHARACTERS: [bool; 256] = characters(b"!#$%&'*+-.^_`|~");

fn is_line_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}
