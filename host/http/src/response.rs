//! Response of a guest, checked before a byte is sent, then written.
//!
//! A guest's response cannot break the framing of the connection. Only
//! [`Checked::new`] decides what it must not say; the rest writes what was
//! checked.

mod checked;
mod plan;

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use netwasm_exchange::answer::{Fields, canonical};
use netwasm_exchange::chunked::is_dropped;
use netwasm_exchange::failure::Failure;

use crate::local::Date;

pub(crate) use self::checked::{Checked, check_field, check_interim};
pub(crate) use self::plan::{Plan, UnsendableResponse};

/// Persistence of the connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// The default of HTTP/1.1.
    Kept,
    /// Kept for an HTTP/1.0 client that asked for it.
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

/// Writes the end of a head, the body as one chunk, and the trailers.
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

/// Writes the head of a response whose headers were checked, up to the framing
/// of the body.
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
        // The framing is written later, according to the real body.
        if *name != header::CONTENT_LENGTH && !is_framing(name.as_str()) {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
}

/// Writes the trailers of a chunked body, without forbidden ones.
pub(super) fn write_trailers(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    for (name, value) in trailers.into_iter().flatten() {
        if !is_dropped(name.as_str()) {
            write_field(name.as_str(), value.as_bytes(), out);
        }
    }
}

/// Writes the names of trailers that are to follow, if they are told.
pub(super) fn write_trailer(headers: &HeaderMap, out: &mut Vec<u8>) {
    for names in headers.get_all(header::TRAILER) {
        write_field("Trailer", names.as_bytes(), out);
    }
}

/// Writes `100 Continue` (RFC 9110, section 10.1.1).
pub(super) fn write_continue(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Writes an interim response.
pub(super) fn write_interim(status: u16, headers: &HeaderMap, out: &mut Vec<u8>) {
    write_status(status, out);
    for (name, value) in headers {
        write_field(name.as_str(), value.as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes `101 Switching Protocols` (RFC 9110, section 7.8).
pub(super) fn write_upgrade(headers: &HeaderMap, protocol: &HeaderValue, out: &mut Vec<u8>) {
    write_status(101, out);
    for (name, value) in headers {
        write_field(name.as_str(), value.as_bytes(), out);
    }
    write_field("Connection", b"Upgrade", out);
    write_field("Upgrade", protocol.as_bytes(), out);
    out.extend_from_slice(b"\r\n");
}

/// Returns the Content-Length of a guest's message.
///
/// # Errors
/// Fails if there are several, or if it is not a number.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Failure::HttpResponseBodySize(None));
    }
    let text = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = text.and_then(|text| text.parse().ok());
    length.map(Some).ok_or(Failure::HttpResponseBodySize(None))
}

/// Removes headers of the connection and of the framing.
pub(super) fn drop_framing(headers: &mut HeaderMap) {
    for name in FRAMING {
        headers.remove(name);
    }
}

/// Appends checked headers, except those named in `omitted`, in lower case, and
/// those that the host sets itself.
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

/// Converts checked trailers; `None` if there are none.
pub(super) fn trailers(trailers: &Fields) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        append(name.as_bytes(), Bytes::copy_from_slice(value), &mut map);
    }
    (!map.is_empty()).then_some(map)
}

/// Appends a checked header. Headers beyond the map's capacity are left out.
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

/// True if a response with this status ends with its head, or has an empty
/// body.
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

pub(super) fn write_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a number. Every head has one, and the formatter takes several times as
/// long.
fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        begin -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(begin..).unwrap_or_default());
}

/// Headers of the framing or of the connection.
const FRAMING: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn is_framing(name: &str) -> bool {
    FRAMING
        .iter()
        .any(|framing| framing.len() == name.len() && framing.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use netwasm_exchange::answer::{Answer, Body};

    use super::*;
    use crate::response::checked::ResponseFault;

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

    fn fault(answer: &Answer) -> Option<ResponseFault> {
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
    fn a_number_is_written_in_full() {
        for number in [0, 7, 10, 1024, u64::MAX] {
            let mut out = b"x".to_vec();
            write_number(number, &mut out);
            assert_eq!(out, format!("x{number}").as_bytes());
        }
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
            assert_eq!(
                fault(&wrong),
                Some(ResponseFault::Value("X-A".into())),
                "{value:?}"
            );
        }
        for name in ["", "X A", "X:", "X\r\nY", "X\n", "ä", "(x)"] {
            let wrong = answer(200, &[(name, "v")], "");
            assert_eq!(
                fault(&wrong),
                Some(ResponseFault::Name(name.into())),
                "{name:?}"
            );
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
            assert_eq!(fault(&wrong), Some(ResponseFault::Framing(name.into())));
        }
        let wrong = answer(200, &[("Connection", "keep-alive")], "");
        assert_eq!(
            fault(&wrong),
            Some(ResponseFault::Framing("Connection".into()))
        );
        let close = answer(200, &[("Connection", "Close")], "");
        assert!(Checked::new(&close, false, MOST).expect("allowed").closes);
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        for lie in ["3", "5", "", "4, 4", "+4", "-1", "99999999999999999999"] {
            let wrong = answer(200, &[("Content-Length", lie)], "four");
            assert_eq!(fault(&wrong), Some(ResponseFault::Length(4)), "{lie:?}");
        }
        assert_eq!(
            fault(&answer(200, &[("content-length", "4")], "four")),
            None
        );
    }

    #[test]
    fn a_length_that_is_there_twice_is_refused() {
        for other in ["4", "5"] {
            let fields = [("Content-Length", "4"), ("content-length", other)];
            assert_eq!(
                fault(&answer(200, &fields, "four")),
                Some(ResponseFault::Twice)
            );
            let to_head = answer(200, &fields, "");
            let checked = Checked::new(&to_head, true, MOST);
            assert_eq!(checked.err(), Some(ResponseFault::Twice));
            let mut headers = HeaderMap::new();
            for (_, value) in fields {
                let value = HeaderValue::from_static(value);
                headers.append(header::CONTENT_LENGTH, value);
            }
            assert!(content_length(&headers).is_err());
        }
    }

    #[test]
    fn to_head_a_length_may_stand_for_a_body_that_was_not_made() {
        let answer = answer(200, &[("Content-Length", "1234")], "");
        let checked = Checked::new(&answer, true, MOST).expect("nothing is wrong");
        assert_eq!(checked.told_length(200, 0), Some(1234));
        assert_eq!(fault(&answer), Some(ResponseFault::Length(0)));
        // Without one, GET may get a body of any length.
        let empty = self::answer(200, &[], "");
        let checked = Checked::new(&empty, true, MOST).expect("nothing is wrong");
        assert_eq!(checked.told_length(200, 0), None);
        assert_eq!(checked.told_length(205, 0), Some(0));
    }

    #[test]
    fn statuses_without_a_body_have_none() {
        for status in [204, 205, 304] {
            assert_eq!(
                fault(&answer(status, &[], "x")),
                Some(ResponseFault::Body(status))
            );
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
            assert_eq!(
                fault(&answer(status, &[], "")),
                Some(ResponseFault::Status(status))
            );
        }
    }

    #[test]
    fn a_body_is_bounded() {
        let large = answer(200, &[], &"x".repeat(MOST + 1));
        assert_eq!(fault(&large), Some(ResponseFault::TooLarge(MOST + 1)));
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
    fn an_interim_response_does_not_frame_either() {
        let field = |name: &str, value: &str| vec![(name.to_owned(), value.into())];
        assert_eq!(
            check_interim(&field("Link", "</a.css>; rel=preload")),
            Ok(())
        );
        for (name, value) in [
            ("Content-Length", "1"),
            ("Upgrade", "x"),
            ("X", "a\r\nY: b"),
        ] {
            assert!(check_interim(&field(name, value)).is_err(), "{name}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::from_static("</a.css>"));
        let mut out = Vec::new();
        write_interim(103, &headers, &mut out);
        let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_trailer_does_not_frame() {
        let mut wrong = answer(200, &[], "x");
        wrong.trailers = vec![("Content-Length".into(), b"1".to_vec())];
        assert_eq!(
            fault(&wrong),
            Some(ResponseFault::Framing("Content-Length".into()))
        );
    }
}
