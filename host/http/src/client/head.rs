//! Check of a response's head before a guest gets it. Some heads are refused,
//! some are simplified.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use netwasm_exchange::failure::Failure;
use netwasm_exchange::hop;

use crate::client::MOST_HEAD;

/// Fields of framing and of the connection, which do not count against
/// `--max-response-headers`.
const FRAMING: [HeaderName; 3] = [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING];

/// Returns the header lines that hyper may accept, so that a head with
/// `most_fields` counted lines and those of framing gets through.
pub(super) fn most_lines(most_fields: usize) -> usize {
    most_fields + 2 * FRAMING.len()
}

/// Checks a head, which may have `most_fields` lines besides those of framing.
/// Removes fields of the connection.
///
/// # Errors
/// Fails if nothing of the response may be used.
pub(super) fn receive(head: &mut Parts, most_fields: usize) -> Result<(), Failure> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::HttpUpgradeFailed);
    }
    let framing = FRAMING
        .iter()
        .map(|name| head.headers.get_all(name).iter().count());
    // As HTTP/2 counts it (RFC 9113, section 6.5.2), but for the overhead.
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    if head.headers.len() > most_fields + framing.sum::<usize>()
        || head.headers.iter().map(size).sum::<usize>() > MOST_HEAD as usize
    {
        return Err(Failure::HttpResponseHeaderSectionSize);
    }
    hop::remove_named(&mut head.headers);
    if head.headers.contains_key(TRANSFER_ENCODING) {
        // Content-Length has no meaning here (RFC 9112, section 6.3).
        head.headers.remove(CONTENT_LENGTH);
    }
    tell_once(&mut head.headers)
}

/// Merges several Content-Lengths, or a list of them (RFC 9110, section 8.6).
/// Hyper checks only those that delimit a body: not with 204 or 304, nor in
/// reply to HEAD.
fn tell_once(headers: &mut HeaderMap) -> Result<(), Failure> {
    let mut told = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for number in value.as_bytes().split(|&byte| byte == b',') {
            let number = number.trim_ascii();
            let digits = number.iter().all(u8::is_ascii_digit);
            let number = str::from_utf8(number).ok().filter(|_| digits);
            let length: u64 = number
                .and_then(|number| number.parse().ok())
                .ok_or(Failure::HttpProtocolError)?;
            if told.is_some_and(|other| other != length) {
                return Err(Failure::HttpProtocolError);
            }
            told = Some(length);
        }
    }
    if let Some(length) = told {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(status: u16, fields: &[(&'static str, &'static str)]) -> Result<Parts, Failure> {
        let response = http::Response::builder().status(status).body(());
        let (mut head, ()) = response.expect("a response").into_parts();
        for (name, value) in fields {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        receive(&mut head, 5).map(|()| head)
    }

    #[test]
    fn equal_lengths_are_one() {
        for lengths in [&["12"][..], &["12", "12"], &["12, 12"], &["012", "12,12"]] {
            let fields: Vec<_> = lengths.iter().map(|it| ("content-length", *it)).collect();
            let head = received(200, &fields).expect("a head");
            let told: Vec<_> = head.headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(told, ["12"], "{lengths:?}");
        }
    }

    #[test]
    fn other_lengths_are_a_protocol_error_whether_a_body_follows_or_not() {
        for status in [200, 204, 304] {
            for lengths in [
                &["1", "2"][..],
                &["1,2"],
                &["", "1"],
                &["1,"],
                &["+1"],
                &["x"],
                &["18446744073709551616"],
            ] {
                let fields: Vec<_> = lengths.iter().map(|it| ("content-length", *it)).collect();
                let refused = received(status, &fields).err();
                assert!(
                    matches!(refused, Some(Failure::HttpProtocolError)),
                    "{status} {lengths:?}"
                );
            }
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_not_looked_at() {
        let fields = [("content-length", "x"), ("transfer-encoding", "chunked")];
        let head = received(200, &fields).expect("a head");
        assert!(!head.headers.contains_key(CONTENT_LENGTH));
    }

    #[test]
    fn lines_are_counted() {
        assert!(received(200, &[("x", "y"); 5]).is_ok());
        let refused = received(200, &[("x", "y"); 6]).err();
        let expected = matches!(refused, Some(Failure::HttpResponseHeaderSectionSize));
        assert!(expected, "{refused:?}");
    }
}
