//! The chunked transfer coding of a request's body (RFC 9112, section 7.1).

use http::HeaderMap;
use httparse::EMPTY_HEADER;
use memchr::memchr;

use super::head::{HeadLimits, Refusal, bad};

/// Most digits of a chunk's size, leading zeros included: as many as 64 bits
/// need.
const DIGITS: u8 = 16;

/// Trailer fields that are dropped: those that frame or route a message,
/// identify its sender, set a condition on it, or tell how to read its body
/// (RFC 9110, section 6.5.1). A recipient needs them before the body.
const NOT_IN_TRAILERS: [&str; 36] = [
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

/// Decodes a chunked body that is fed in arbitrary pieces.
///
/// The framing is limited too, over the whole body: the extensions of all
/// chunks together, and the trailers, by the limits of a request's head.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    /// Bytes by which the body may still grow.
    room: u64,
    /// Bytes left for extensions.
    extensions: usize,
    /// Bytes and lines left for trailers.
    trailer_bytes: usize,
    trailer_fields: usize,
    /// Trailer line that is still partial.
    line: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
}

/// Outcome of feeding a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Number of bytes of body and framing: all of the piece, unless done.
    pub consumed: usize,
    /// True if the body has ended.
    pub done: bool,
}

/// Next element to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Digits of a chunk's size, or what follows them.
    Size {
        size: u64,
        digits: u8,
    },
    /// White space between size and extension.
    Space {
        size: u64,
    },
    /// The rest of an extension.
    Extension {
        size: u64,
    },
    /// The line feed after size and extension.
    SizeEnd {
        size: u64,
    },
    /// Data; `left` bytes are missing.
    Data {
        left: u64,
    },
    /// The line end after the data.
    DataReturn,
    DataEnd,
    /// A line of the trailers, or the empty line at their end.
    Trailers,
    Done,
}

impl Chunked {
    /// Makes a decoder for a body of at most `max_body` bytes.
    pub fn new(max_body: u64, limits: &HeadLimits) -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            room: max_body,
            extensions: limits.bytes,
            trailer_bytes: limits.bytes,
            trailer_fields: limits.fields,
            line: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// Takes the next piece of the message, and appends its share of the body
    /// to `body`.
    ///
    /// # Errors
    /// - 413: the announced chunk makes the body too large.
    /// - 431: the trailers are too large or too many.
    /// - 400: the input is malformed, or the extensions are too large.
    ///
    /// Close the connection then, and feed no more.
    pub fn feed(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<Fed, Refusal> {
        let mut rest = input;
        while self.state != State::Done {
            rest = match self.state {
                State::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let Some((data, after)) = rest.split_at_checked(length) else {
                        break;
                    };
                    body.extend_from_slice(data);
                    let left = left - length as u64;
                    self.state = match left {
                        0 => State::DataReturn,
                        _ => State::Data { left },
                    };
                    after
                }
                State::Trailers => self.trailer(rest)?,
                _ => {
                    let Some((&byte, after)) = rest.split_first() else {
                        break;
                    };
                    self.state = self.next(byte)?;
                    after
                }
            };
            if rest.is_empty() {
                break;
            }
        }
        Ok(Fed {
            consumed: input.len() - rest.len(),
            done: self.state == State::Done,
        })
    }

    /// Returns the trailer fields in order, without those that a recipient must
    /// not merge into the header.
    pub fn trailers(&self) -> &[(String, Vec<u8>)] {
        &self.trailers
    }

    /// Returns the state after a byte of the framing.
    fn next(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match (self.state, byte) {
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == DIGITS {
                    return Err(bad("chunk size of too many digits"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(bad("chunk without a size")),
            (State::Size { size, .. } | State::Extension { size }, b'\r') => {
                State::SizeEnd { size }
            }
            (State::Size { size, .. } | State::Space { size }, b';') => {
                self.count_extension()?;
                State::Extension { size }
            }
            (State::Size { size, .. } | State::Space { size }, b' ' | b'\t') => {
                self.count_extension()?;
                State::Space { size }
            }
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                State::Extension { size }
            }
            (State::SizeEnd { size }, b'\n') => self.begin(size)?,
            (State::DataReturn, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size { size: 0, digits: 0 },
            (State::DataReturn | State::DataEnd, _) => {
                return Err(bad("chunk that does not end where its size says"));
            }
            _ => return Err(bad("malformed chunk size")),
        })
    }

    fn begin(&mut self, size: u64) -> Result<State, Refusal> {
        if size == 0 {
            return Ok(State::Trailers);
        }
        self.room = self.room.checked_sub(size).ok_or(BODY_TOO_LARGE)?;
        Ok(State::Data { left: size })
    }

    fn count_extension(&mut self) -> Result<(), Refusal> {
        self.extensions = self.extensions.checked_sub(1).ok_or(EXTENSIONS_TOO_LARGE)?;
        Ok(())
    }

    /// Takes the next line, or the part of it that is there. Returns what
    /// follows.
    fn trailer<'input>(&mut self, input: &'input [u8]) -> Result<&'input [u8], Refusal> {
        let end = memchr(b'\n', input).map(|at| at + 1);
        let (part, rest) = input
            .split_at_checked(end.unwrap_or(input.len()))
            .unwrap_or((input, b""));
        self.trailer_bytes = self
            .trailer_bytes
            .checked_sub(part.len())
            .ok_or(TRAILERS_TOO_LARGE)?;
        if end.is_none() {
            self.line.extend_from_slice(part);
        } else if self.line.is_empty() {
            self.trailer_line(part)?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.trailer_line(&line)?;
        }
        Ok(rest)
    }

    fn trailer_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if !line.ends_with(b"\r\n") {
            return Err(bad("line feed without a carriage return in the trailers"));
        }
        if line.len() == 2 {
            self.state = State::Done;
            return Ok(());
        }
        self.trailer_fields = self
            .trailer_fields
            .checked_sub(1)
            .ok_or(TOO_MANY_TRAILERS)?;
        let mut headers = [EMPTY_HEADER];
        if httparse::parse_headers(line, &mut headers).is_err() {
            return Err(bad("malformed trailer"));
        }
        let [header] = headers;
        if !is_dropped(header.name) {
            self.trailers
                .push((header.name.to_owned(), header.value.to_owned()));
        }
        Ok(())
    }
}

const BODY_TOO_LARGE: Refusal = Refusal::over("--max-body", 413, "request body too large");
const EXTENSIONS_TOO_LARGE: Refusal = bad("chunk extensions too large");
const TRAILERS_TOO_LARGE: Refusal = Refusal::over("--max-head", 431, "trailers too large");
const TOO_MANY_TRAILERS: Refusal = Refusal::over("--max-headers", 431, "too many trailers");

/// True if a field is not allowed in trailers: RFC 9110, section 6.5.1.
pub fn is_dropped(name: &str) -> bool {
    NOT_IN_TRAILERS
        .iter()
        .any(|dropped| name.eq_ignore_ascii_case(dropped))
}

/// Removes the fields that are not allowed in trailers.
pub fn without_dropped(mut trailers: HeaderMap) -> HeaderMap {
    for name in trailers.keys().cloned().collect::<Vec<_>>() {
        if is_dropped(name.as_str()) {
            trailers.remove(name);
        }
    }
    trailers
}

#[cfg(test)]
mod tests;
