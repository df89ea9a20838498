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
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 1000,
        fields: 10,
        line: 100,
    };
    const MAX: u64 = 100;

    /// Returns the body and the length of the message. Checks that no cut
    /// changes them.
    fn decoded(message: &[u8]) -> (Vec<u8>, usize, Chunked) {
        let mut chunked = Chunked::new(MAX, &LIMITS);
        let mut body = Vec::new();
        let fed = chunked.feed(message, &mut body).expect("a body");
        assert!(fed.done, "not done");
        for cut in 0..message.len() {
            let (first, second) = message.split_at(cut);
            assert_eq!(
                in_pieces(&[first, second]),
                Ok((body.clone(), fed.consumed))
            );
        }
        let bytes: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(in_pieces(&bytes), Ok((body.clone(), fed.consumed)));
        (body, fed.consumed, chunked)
    }

    fn in_pieces(pieces: &[&[u8]]) -> Result<(Vec<u8>, usize), Refusal> {
        let mut chunked = Chunked::new(MAX, &LIMITS);
        let mut body = Vec::new();
        let mut consumed = 0;
        for piece in pieces {
            let fed = chunked.feed(piece, &mut body)?;
            consumed += fed.consumed;
            assert!(fed.done || fed.consumed == piece.len());
        }
        Ok((body, consumed))
    }

    /// Returns the status of the refusal, which no cut changes.
    fn refused(message: &[u8]) -> u16 {
        let refusal = in_pieces(&[message]).expect_err("a refusal");
        let bytes: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(in_pieces(&bytes), Err(refusal));
        refusal.status
    }

    #[test]
    fn chunks_make_a_body_and_what_follows_it_is_left() {
        let message = b"5\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\n\r\nGET /";
        let (body, consumed, _) = decoded(message);
        assert_eq!(body, b"hello 0123456789");
        assert_eq!(consumed, message.len() - 5);
        let (body, consumed, _) = decoded(b"0\r\n\r\n");
        assert_eq!((body.as_slice(), consumed), (&b""[..], 5));
    }

    #[test]
    fn a_body_is_appended_and_nothing_is_taken_after_its_end() {
        let mut chunked = Chunked::new(MAX, &LIMITS);
        let mut body = b"before ".to_vec();
        let message = b"1\r\na\r\n0\r\n\r\n";
        chunked.feed(message, &mut body).expect("a body");
        let fed = chunked.feed(message, &mut body).expect("nothing");
        assert_eq!((fed.consumed, fed.done), (0, true));
        assert_eq!(body, b"before a");
    }

    #[test]
    fn line_ends_in_the_data_are_data() {
        let (body, _, _) = decoded(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n");
        assert_eq!(body, b"\r\n0\r\n\r\n");
    }

    #[test]
    fn a_chunk_size_is_hexadecimal_digits_and_not_too_many() {
        for size in [
            "0x5",
            "+5",
            "-5",
            "0_2e",
            "",
            " 5",
            "5 ",
            "5\t",
            "g",
            "5g",
            "5,5",
            "\u{0665}",
            ";a",
            "00000000000000005",
            "10000000000000000",
            "FFFFFFFFFFFFFFFFF",
            "5\0",
        ] {
            let message = format!("{size}\r\nhello\r\n0\r\n\r\n");
            assert_eq!(refused(message.as_bytes()), 400, "{size:?}");
        }
        let (body, _, _) = decoded(b"0000000000000005\r\nhello\r\n0\r\n\r\n");
        assert_eq!(body, b"hello");
        decoded(b"0000000000000000\r\n\r\n");
        assert_eq!(refused(b"00000000000000000\r\n\r\n"), 400);
    }

    #[test]
    fn a_chunk_ends_where_its_size_says() {
        for message in [
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\nhell\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\r\r\n0\r\n\r\n",
        ] {
            assert_eq!(refused(message.as_bytes()), 400, "{message:?}");
        }
    }

    #[test]
    fn bare_line_feeds_and_carriage_returns_are_refused_wherever_they_are() {
        let message = "5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n";
        for (at, _) in message.match_indices("\r\n") {
            let (before, after) = message.split_at(at);
            let bare_feed = [before, after.get(1..).expect("a line feed")].concat();
            assert_eq!(refused(bare_feed.as_bytes()), 400, "{bare_feed:?}");
            let bare_return = [before, "\r", after.get(2..).expect("the rest")].concat();
            let result = in_pieces(&[bare_return.as_bytes(), b"X\n"]);
            assert!(result.is_err(), "{bare_return:?}");
        }
    }

    #[test]
    fn extensions_are_ignored() {
        let message = b"5;a\r\nhello\r\n1 ; b = \"c;\xe9\" \t;d\r\n!\r\n0;e\r\n\r\n";
        assert_eq!(decoded(message).0, b"hello!");
        assert_eq!(refused(b"5;a\0\r\nhello\r\n0\r\n\r\n"), 400);
        assert_eq!(refused(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400);
        assert_eq!(refused(b"5 a\r\nhello\r\n0\r\n\r\n"), 400);
    }

    #[test]
    fn a_flood_of_extensions_is_refused_in_one_chunk_and_in_many() {
        assert_eq!(refused(&[b"5;".as_slice(), &[b'a'; 1000]].concat()), 400);
        assert_eq!(refused(&[b"5".as_slice(), &[b' '; 1001]].concat()), 400);
        let tiny = b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nb\r\n".repeat(40);
        assert_eq!(refused(&tiny), 400);
    }

    #[test]
    fn a_body_over_the_limit_is_refused_when_its_chunk_is_announced() {
        let whole = [b"64\r\n".as_slice(), &[b'a'; 100], b"\r\n0\r\n\r\n"].concat();
        assert_eq!(decoded(&whole).0.len(), 100);
        assert_eq!(refused(b"65\r\n"), 413);
        assert_eq!(refused(b"FFFFFFFFFFFFFFFF\r\n"), 413);
        let two = [b"64\r\n".as_slice(), &[b'a'; 100], b"\r\n1\r\n"].concat();
        assert_eq!(refused(&two), 413);
    }

    #[test]
    fn trailers_are_kept_but_for_those_that_come_too_late() {
        let message = b"1\r\na\r\n0\r\nX-Sum: 1 \r\nContent-Length: 5\r\nhost: b\r\n\
            TRANSFER-ENCODING: chunked\r\nAuthorization: c\r\nx-sum:\xe9\r\n\r\n";
        let (_, consumed, chunked) = decoded(message);
        assert_eq!(consumed, message.len());
        let expected = [
            ("X-Sum".to_owned(), b"1".to_vec()),
            ("x-sum".to_owned(), b"\xe9".to_vec()),
        ];
        assert_eq!(chunked.trailers(), expected);
    }

    #[test]
    fn trailers_are_checked_as_headers_are() {
        for trailer in [
            "X : 1",
            ": 1",
            "X",
            " X: 1",
            "X: 1\r\n 2",
            "X: \0",
            "\u{e9}: 1",
            "X: a\rb",
            "X: a\nY: b",
            "Content-Length : 5",
        ] {
            let message = format!("0\r\n{trailer}\r\n\r\n");
            assert_eq!(refused(message.as_bytes()), 400, "{trailer:?}");
        }
    }

    #[test]
    fn a_flood_of_trailers_is_refused_by_bytes_and_by_lines() {
        assert_eq!(
            refused(&[b"0\r\nX: ".as_slice(), &[b'a'; 1000]].concat()),
            431
        );
        let lines = format!("0\r\n{}\r\n", "X: 1\r\n".repeat(10));
        assert_eq!(decoded(lines.as_bytes()).2.trailers().len(), 10);
        let lines = format!("0\r\n{}", "Host: 1\r\n".repeat(11));
        assert_eq!(refused(lines.as_bytes()), 431);
    }
}
