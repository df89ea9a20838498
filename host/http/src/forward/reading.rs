//! The head of a server's response (RFC 9112, sections 4 to 6), from bytes that
//! are not trusted: whatever two parsers might understand differently is
//! refused.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};

use netwasm_exchange::hop;

use crate::response::is_framing;

/// Maximum of a head in bytes.
const MOST_BYTES: usize = 256 << 10;

/// Lines that frame the message, and do not count against
/// `--max-response-headers`.
const FRAMING_LINES: usize = 6;

/// Size in bytes up to which a partial head is read from its start whenever more has come.
const READ_AGAIN: usize = 16 << 10;

/// Number of lines that fit on the stack.
const LINES_AT_ONCE: usize = 64;

/// Reason why a response cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("malformed head")]
    Head,
    #[error("its head is too large, or has more headers than --max-response-headers")]
    TooLarge,
    #[error("malformed or differing Content-Length")]
    Length,
    #[error("its Transfer-Encoding is not chunked alone, or stands beside Content-Length")]
    Coding,
    #[error("its status is none of a response")]
    Status,
    #[error("it breaks a rule of HTTP/2")]
    Stream,
    #[error("it switches protocols, which nobody asked for")]
    Upgrade,
}

/// Rule for the end of a response's body: RFC 9112, section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReceivedFraming {
    Length(u64),
    Chunked,
    /// The end of the connection.
    Closed,
}

/// A response's head.
#[derive(Debug)]
pub(crate) struct Received {
    /// Size in bytes.
    pub(crate) size: usize,
    pub(crate) status: StatusCode,
    /// Fields, without those of the connection.
    pub(crate) headers: HeaderMap,
    pub(super) framing: ReceivedFraming,
    /// True if the server takes another request on the connection.
    pub(super) keeps: bool,
    /// The protocol to which the server changes, with status 101.
    pub(crate) upgrade: Option<HeaderValue>,
    /// True if the field `Connection` says that it changes.
    pub(crate) says_upgrade: bool,
}

/// True unless `input`, of which the last `received` bytes are new, is so large
/// that only a whole head is worth reading, and has none.
pub(crate) fn may_be_whole(input: &[u8], received: usize) -> bool {
    if input.len() <= READ_AGAIN || input.len() > MOST_BYTES {
        return true;
    }
    let from = input.len().saturating_sub(received.saturating_add(3));
    let new = input.get(from..).unwrap_or_default();
    let has = |end: &[u8]| new.windows(end.len()).any(|it| it == end);
    has(b"\n\r\n") || has(b"\n\n")
}

/// Reads the head at the beginning of `input`; `None` if it is partial. `is_head`
/// is true if the request's method is `HEAD`, and `drops` for the names of fields
/// that do not go on.
///
/// # Errors
/// Fails if the response must not be passed on.
pub(crate) fn read(
    input: &[u8],
    is_head: bool,
    most_fields: usize,
    drops: &dyn Fn(&str) -> bool,
) -> Result<Option<Received>, Malformed> {
    read_values(input, is_head, most_fields, drops, false)
}

/// Like [`read`]. If `shares`, the values share one copy of the head, which lasts
/// as long as any of them, in place of a copy each.
///
/// # Errors
/// Fails as [`read`] does.
pub(super) fn read_values(
    input: &[u8],
    is_head: bool,
    most_fields: usize,
    drops: &dyn Fn(&str) -> bool,
    shares: bool,
) -> Result<Option<Received>, Malformed> {
    let mut few = [const { MaybeUninit::uninit() }; LINES_AT_ONCE];
    let most = most_fields.saturating_add(FRAMING_LINES);
    let some = few.get_mut(..most.min(LINES_AT_ONCE)).unwrap_or_default();
    match parse(input, some, is_head, drops, shares) {
        Err(Malformed::TooLarge) if most > LINES_AT_ONCE => {
            let mut many = Vec::new();
            many.resize_with(most, MaybeUninit::uninit);
            parse(input, &mut many, is_head, drops, shares)
        }
        parsed => parsed,
    }
}

fn parse<'a>(
    input: &'a [u8],
    headers: &mut [MaybeUninit<Header<'a>>],
    is_head: bool,
    drops: &dyn Fn(&str) -> bool,
    shares: bool,
) -> Result<Option<Received>, Malformed> {
    let mut response = Response::new(&mut []);
    let config = ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, input, headers);
    match parsed {
        Ok(Status::Complete(size)) => {
            let shared = shares.then(|| SharedHead::new(input.get(..size).unwrap_or_default()));
            receive(&response, size, is_head, drops, shared.as_ref()).map(Some)
        }
        Ok(Status::Partial) if input.len() < MOST_BYTES => Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooLarge),
        Err(_) => Err(Malformed::Head),
    }
}

/// A head, and a copy of it that the values share.
struct SharedHead<'a> {
    parsed: &'a [u8],
    copy: Bytes,
}

impl<'a> SharedHead<'a> {
    fn new(parsed: &'a [u8]) -> Self {
        Self {
            parsed,
            copy: Bytes::copy_from_slice(parsed),
        }
    }

    /// Returns a part of the head, of its copy.
    fn part(&self, part: &[u8]) -> Bytes {
        let begin = part.as_ptr().addr();
        let begin = begin.wrapping_sub(self.parsed.as_ptr().addr());
        let end = begin.saturating_add(part.len());
        match end <= self.copy.len() {
            true => self.copy.slice(begin..end),
            // It lies elsewhere, such as an empty slice of the parser's own.
            false => Bytes::copy_from_slice(part),
        }
    }
}

/// Takes the fields of a head that go on. `drops` is true for the names of those
/// that the handler has removed.
fn receive(
    response: &Response<'_, '_>,
    size: usize,
    is_head: bool,
    drops: &dyn Fn(&str) -> bool,
    shared: Option<&SharedHead<'_>>,
) -> Result<Received, Malformed> {
    let status = response.code.filter(|code| (100..600).contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Status)?;
    let told = ToldFraming::of(response.headers)?;
    let modern = response.version == Some(1);
    if told.chunked && (told.length.is_some() || !modern) {
        // One of the two is a lie.
        return Err(Malformed::Coding);
    }
    let mut headers = HeaderMap::with_capacity(response.headers.len() + 2);
    // It tells of fields that follow.
    let trailer = |field| told.chunked && is(field, "trailer");
    for field in response.headers.iter() {
        let framing = is_framing(field.name) && !trailer(field);
        if framing || is(field, "content-length") || is(field, "proxy-authenticate") {
            continue;
        }
        let name = field.name.as_bytes();
        if told.named.iter().any(|it| it.eq_ignore_ascii_case(name)) || drops(field.name) {
            continue;
        }
        let name = HeaderName::from_bytes(name);
        let value = field.value.trim_ascii();
        let value = match shared {
            Some(head) => HeaderValue::from_maybe_shared(head.part(value)),
            None => HeaderValue::from_bytes(value),
        };
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Malformed::Head);
        };
        headers
            .try_append(name, value)
            .map_err(|_| Malformed::TooLarge)?;
    }
    // RFC 9110, section 8.6.
    if let Some(length) = told.length.filter(|_| !status.is_informational()) {
        let value = match (shared, told.digits) {
            (Some(head), Some(digits)) => HeaderValue::from_maybe_shared(head.part(digits)).ok(),
            _ => None,
        };
        headers.insert(CONTENT_LENGTH, value.unwrap_or_else(|| length.into()));
    }
    let bodiless = is_head || status.is_informational() || matches!(status.as_u16(), 204 | 304);
    let framing = match (told.length, told.chunked) {
        _ if bodiless => ReceivedFraming::Length(0),
        (_, true) => ReceivedFraming::Chunked,
        (Some(length), false) => ReceivedFraming::Length(length),
        (None, false) => ReceivedFraming::Closed,
    };
    let option = |name: &str| {
        let mut options = told.named.iter();
        options.any(|it| it.eq_ignore_ascii_case(name.as_bytes()))
    };
    let stays = !option("close") && (modern || option("keep-alive"));
    let upgrade = match status {
        StatusCode::SWITCHING_PROTOCOLS => told.upgrade,
        _ => None,
    };
    Ok(Received {
        size,
        status,
        headers,
        framing,
        keeps: stays && framing != ReceivedFraming::Closed,
        upgrade: upgrade.and_then(|it| HeaderValue::from_bytes(it).ok()),
        says_upgrade: option("upgrade"),
    })
}

fn is(field: &Header<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name)
}

/// Facts that a head tells of its message and of the connection.
#[derive(Default)]
struct ToldFraming<'a> {
    length: Option<u64>,
    /// The length as it stands there, if that is its shortest form.
    digits: Option<&'a [u8]>,
    chunked: bool,
    /// Fields and options that `Connection` names.
    named: Vec<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
}

impl<'a> ToldFraming<'a> {
    fn of(fields: &[Header<'a>]) -> Result<Self, Malformed> {
        let mut told = Self::default();
        for field in fields {
            match field.name.len() {
                7 if is(field, "upgrade") => told.upgrade = Some(field.value),
                10 if is(field, "connection") => {
                    told.named.extend(hop::named(std::iter::once(field.value)));
                }
                14 if is(field, "content-length") => told.add_length(field.value)?,
                // Another coding cannot be passed on: it belongs to the
                // connection.
                17 if is(field, "transfer-encoding") => {
                    let chunked = field.value.eq_ignore_ascii_case(b"chunked");
                    if std::mem::replace(&mut told.chunked, true) || !chunked {
                        return Err(Malformed::Coding);
                    }
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// Adds a Content-Length. Equal ones are one (RFC 9110, section 8.6).
    fn add_length(&mut self, value: &'a [u8]) -> Result<(), Malformed> {
        for number in value.split(|&byte| byte == b',') {
            let number = number.trim_ascii();
            let is_shortest = number.len() == 1 || number.first() != Some(&b'0');
            self.digits = Some(number).filter(|_| is_shortest);
            let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(number).ok().filter(|_| digits);
            let length = number.and_then(|number| number.parse::<u64>().ok());
            let length = length.ok_or(Malformed::Length)?;
            if self.length.is_some_and(|other| other != length) {
                return Err(Malformed::Length);
            }
            self.length = Some(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str) -> Result<Received, Malformed> {
        read(text.as_bytes(), false, 100, &|_| false).map(|it| it.expect("a whole head"))
    }

    #[test]
    fn framing_follows_the_rfc() {
        use ReceivedFraming::{Chunked, Closed, Length};
        for (head, framing, keeps) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Length(5),
                true,
            ),
            (
                "HTTP/1.1 200\r\ncontent-length: 5, 5\r\n\r\n",
                Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Closed, false),
            (
                "HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n",
                Length(0),
                true,
            ),
            (
                "HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n",
                Length(0),
                true,
            ),
            ("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", Length(0), true),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\n",
                Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                Length(5),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n",
                Length(5),
                true,
            ),
        ] {
            let read = received(head).expect(head);
            assert_eq!((read.framing, read.keeps), (framing, keeps), "{head}");
            assert_eq!(read.size, head.len());
            assert!(!read.headers.contains_key("connection"), "{head}");
        }
        let head = read(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            true,
            9,
            &|_| false,
        );
        let head = head.expect("a head").expect("whole");
        assert_eq!(head.framing, Length(0));
        assert_eq!(head.headers[CONTENT_LENGTH], "5");
    }

    #[test]
    fn what_parsers_might_understand_differently_is_refused() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 5,\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Content-Length : 5\r\n",
            "X: a\r\n b\r\n",
            "X: a\u{0}b\r\n",
            ": x\r\n",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert!(
                read(head.as_bytes(), false, 100, &|_| false).is_err(),
                "{fields:?}"
            );
        }
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(received(old).err(), Some(Malformed::Coding));
        for line in [
            "HTTP/2 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "200 OK",
            "SSH-2.0-x",
        ] {
            let head = format!("{line}\r\n\r\n");
            assert!(
                read(head.as_bytes(), false, 100, &|_| false).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_connections_fields_and_what_it_names_stay() {
        let read = received(
            "HTTP/1.1 200 OK\r\nConnection: X-A, keep-alive\r\nX-A: 1\r\nKeep-Alive: x\r\n\
             Upgrade: h2c\r\nTE: x\r\nTrailer: y\r\nProxy-Authenticate: z\r\nX-B: 2\r\n\
             Content-Length: 0\r\n\r\n",
        );
        let read = read.expect("a head");
        let names: Vec<_> = read.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-b", "content-length"]);
    }

    #[test]
    fn trailers_are_told_of_where_they_can_follow() {
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(received(head).expect("a head").headers["trailer"], "X-Sum");
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 0\r\n\r\n";
        let headers = received(head).expect("a head").headers;
        assert!(!headers.contains_key("trailer"));
    }

    #[test]
    fn values_of_a_shared_head_are_the_same() {
        let fields = "Server:  a b \r\nX-A:\r\nX-B: c\r\n";
        for (length, shares) in ["7", "7, 7", "07", "0"]
            .map(|it| [(it, false), (it, true)])
            .as_flattened()
        {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\nbody");
            let read = read_values(head.as_bytes(), false, 100, &|_| false, *shares);
            let headers = read.expect("a response").expect("a whole head").headers;
            let values = ["server", "x-a", "x-b"].map(|name| headers[name].as_bytes());
            assert_eq!(values, [&b"a b"[..], b"", b"c"], "{shares}");
            let shortest = if *length == "0" { "0" } else { "7" };
            assert_eq!(headers[CONTENT_LENGTH], shortest, "{length}");
        }
    }

    #[test]
    fn the_number_of_fields_is_limited() {
        let head = |count: usize| {
            let fields = "X: y\r\n".repeat(count);
            format!("HTTP/1.1 200 OK\r\n{fields}\r\n")
        };
        assert!(read(head(100).as_bytes(), false, 100, &|_| false).is_ok());
        assert!(read(head(200).as_bytes(), false, 200, &|_| false).is_ok());
        let refused = read(head(107).as_bytes(), false, 100, &|_| false).map(|_| ());
        assert_eq!(refused, Err(Malformed::TooLarge));
    }

    #[test]
    fn a_large_head_is_read_once_its_end_has_come() {
        let field = b"X: y\r\n".repeat(READ_AGAIN / 6 + 1);
        assert!(!may_be_whole(&field, 1));
        let whole = [&field[..], b"\r\n"].concat();
        assert!(may_be_whole(&whole, 1));
        assert!(may_be_whole(&b"x".repeat(MOST_BYTES + 1), 1));
        assert!(may_be_whole(b"x", 1));
    }

    #[test]
    fn a_partial_head_waits_for_its_rest() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for end in 0..head.len() {
            let part = head.get(..end).expect("ASCII");
            let read = read(part.as_bytes(), false, 100, &|_| false).expect(part);
            assert!(read.is_none(), "{part}");
        }
    }
}
