//! As much of HTTP/2 (RFC 9113) and its header compression (RFC 7541) as a check
//! needs: one request, and the status of its response.

/// Begins every connection: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's header in bytes.
const FRAME_HEADER: usize = 9;

/// Largest frame of a server that was told nothing else: section 4.2.
const MOST_FRAME: usize = 16 << 10;

// Types of frames, and flags.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

// Indices of the static table: RFC 7541, appendix A.
const AUTHORITY: u64 = 1;
const METHOD_GET: u64 = 2;
const PATH: u64 = 4;
const SCHEME_HTTP: u64 = 6;
const SCHEME_HTTPS: u64 = 7;
const STATUS: u64 = 8;
const ACCEPT: u64 = 19;
const USER_AGENT: u64 = 58;

/// Statuses in the static table, from the index of [`STATUS`] on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Part of a response that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Not enough.
    Part,
    Status(u16),
    /// The server answers no more.
    Ended,
    /// It speaks something else, or more than a check understands.
    Malformed,
}

/// Returns the bytes of a GET request, from the beginning of its connection.
pub(super) fn request(path: &str, host: &str, secure: bool) -> Vec<u8> {
    let mut fields = Vec::new();
    indexed(METHOD_GET, &mut fields);
    indexed(if secure { SCHEME_HTTPS } else { SCHEME_HTTP }, &mut fields);
    for (name, value) in [
        (PATH, path),
        (AUTHORITY, host),
        (USER_AGENT, "netwasm-check"),
        (ACCEPT, "*/*"),
    ] {
        // A literal that is not indexed: section 6.2.2.
        integer(0, 4, name, &mut fields);
        integer(0, 7, value.len() as u64, &mut fields);
        fields.extend_from_slice(value.as_bytes());
    }
    let mut out = PREFACE.to_vec();
    // No table for the response's fields, and no push.
    frame(
        SETTINGS,
        0,
        0,
        &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        &mut out,
    );
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields, &mut out);
    out
}

/// Reads what a server has sent so far.
pub(super) fn response(mut input: &[u8]) -> Came {
    loop {
        let Some((&[a, b, c, kind, flags, d, e, f, g], rest)) =
            input.split_first_chunk::<FRAME_HEADER>()
        else {
            return Came::Part;
        };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([d & 0x7f, e, f, g]);
        if length > MOST_FRAME {
            return Came::Malformed;
        }
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return Came::Part;
        };
        match (kind, stream) {
            (HEADERS, 1) => match status(fields(flags, payload)) {
                // It is not the final one.
                Some(100..200) => {}
                Some(status) => return Came::Status(status),
                None => return Came::Malformed,
            },
            (RST_STREAM, 1) => return Came::Ended,
            (GOAWAY, 0) if !still_answers(payload) => return Came::Ended,
            _ => {}
        }
        input = rest;
    }
}

/// True if a server that leaves, by this GOAWAY, answers the request before: RFC
/// 9113, section 6.8.
fn still_answers(goaway: &[u8]) -> bool {
    match goaway {
        [a, b, c, d, 0, 0, 0, 0, ..] => u32::from_be_bytes([*a & 0x7f, *b, *c, *d]) >= 1,
        _ => false,
    }
}

/// Returns the block of fields, or its beginning, of a HEADERS frame.
fn fields(flags: u8, payload: &[u8]) -> &[u8] {
    let padding = usize::from(flags & PADDED != 0);
    let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
    payload.get(padding + priority..).unwrap_or_default()
}

/// Reads the first field, which is the status.
fn status(mut block: &[u8]) -> Option<u16> {
    // Changes of the table's size: RFC 7541, section 6.3.
    while let Some(first) = block.first()
        && first & 0xe0 == 0x20
    {
        (_, block) = read_integer(5, block)?;
    }
    let first = *block.first()?;
    if first & 0x80 != 0 {
        let (index, _) = read_integer(7, block)?;
        let place = usize::try_from(index.checked_sub(STATUS)?).ok()?;
        return STATUSES.get(place).copied();
    }
    let (index, rest) = read_integer(if first & 0x40 != 0 { 6 } else { 4 }, block)?;
    // All with a status have its name.
    let end = STATUS + STATUSES.len() as u64;
    if !(STATUS..end).contains(&index) {
        return None;
    }
    let is_huffman = rest.first()? & 0x80 != 0;
    let (length, rest) = read_integer(7, rest)?;
    let value = rest.get(..usize::try_from(length).ok()?)?;
    let digits = match is_huffman {
        true => huffman_digits(value)?,
        false => <[u8; 3]>::try_from(value).ok()?,
    };
    let status = str::from_utf8(&digits).ok()?;
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let status = status.parse().ok().filter(|_| is_number);
    status.filter(|status| (100..600).contains(status))
}

/// Decodes three digits: RFC 7541, appendix B. `0` to `2` have five bits, the
/// others six.
fn huffman_digits(bytes: &[u8]) -> Option<[u8; 3]> {
    if !(2..=3).contains(&bytes.len()) {
        return None;
    }
    let mut bits = [0; 8];
    bits.get_mut(..bytes.len())?.copy_from_slice(bytes);
    let mut bits = u64::from_be_bytes(bits);
    let mut digits = [0; 3];
    for digit in &mut digits {
        let (code, length) = match bits >> 59 {
            short @ 0..=2 => (short, 5),
            _ => match bits >> 58 {
                long @ 0x19..=0x1f => (long - 0x19 + 3, 6),
                _ => return None,
            },
        };
        *digit = b'0' + u8::try_from(code).ok()?;
        bits <<= length;
    }
    Some(digits)
}

fn indexed(index: u64, out: &mut Vec<u8>) {
    integer(0x80, 7, index, out);
}

/// Writes an integer whose prefix has so many bits: section 5.1.
fn integer(pattern: u8, bits: u32, value: u64, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    let Some(mut rest) = value.checked_sub(most) else {
        // It is below 128.
        out.push(pattern | u8::try_from(value).unwrap_or_default());
        return;
    };
    out.push(pattern | u8::try_from(most).unwrap_or_default());
    while rest >= 128 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

/// Reads an integer whose prefix has so many bits, of at most two more bytes.
fn read_integer(bits: u32, input: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, mut rest) = input.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = u64::from(first) & most;
    if value < most {
        return Some((value, rest));
    }
    for shift in [0, 7] {
        let (&byte, after) = rest.split_first()?;
        value += u64::from(byte & 0x7f) << shift;
        rest = after;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    // A path is not so long.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_preface_settings_and_fields() {
        let long = format!("/{}", "x".repeat(200));
        let request = request(&long, "a.example", true);
        let rest = request.strip_prefix(PREFACE).expect("a preface");
        let (settings, rest) = rest.split_at(FRAME_HEADER + 12);
        assert_eq!(
            settings[..FRAME_HEADER],
            [0, 0, 12, SETTINGS, 0, 0, 0, 0, 0]
        );
        let (header, fields) = rest.split_at(FRAME_HEADER);
        assert_eq!(
            header[1..3],
            u16::try_from(fields.len()).expect("few").to_be_bytes()
        );
        assert_eq!(header[3..], [HEADERS, 5, 0, 0, 0, 1]);
        // 201 is 127 + 74.
        let begin = [0x82, 0x87, 0x04, 0x7f, 74, b'/', b'x'];
        assert_eq!(fields[..7], begin);
        let authority = [&[0x01, 9][..], b"a.example", &[0x0f, 43, 13]].concat();
        assert!(fields.windows(authority.len()).any(|it| it == authority));
        assert!(fields.ends_with(&[0x0f, 4, 3, b'*', b'/', b'*']));
    }

    fn answer(flags: u8, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(SETTINGS, 0, 0, &[], &mut out);
        frame(HEADERS, flags, 1, block, &mut out);
        out
    }

    #[test]
    fn the_status_is_read_in_all_its_forms() {
        for (flags, block, expected) in [
            (4, &[0x88][..], 200),
            (5, &[0x8e, 0x99], 500),
            // After changes of the table's size.
            (4, &[0x20, 0x3f, 0xe1, 0x1f, 0x89], 204),
            // Literals: indexed, not, and never.
            (4, b"\x48\x03503", 503),
            (4, b"\x08\x03302", 302),
            (4, b"\x18\x03404", 404),
            // 302 and 503 by Huffman's code: RFC 7541, appendix C.6.1.
            (4, &[0x48, 0x82, 0x64, 0x02], 302),
            (4, &[0x48, 0x83, 0x6c, 0x0c, 0xff], 503),
            // Padding and priority.
            (PADDED | PRIORITY, &[1, 0, 0, 0, 0, 9, 0x88, 0], 200),
        ] {
            let whole = answer(flags, block);
            let came = response(&whole);
            assert_eq!(came, Came::Status(expected), "{block:02x?}");
            for end in 0..whole.len() {
                assert_eq!(response(&whole[..end]), Came::Part);
            }
        }
        let early = [answer(4, b"\x08\x03103"), answer(4, &[0x88])].concat();
        assert_eq!(response(&early), Came::Status(200));
    }

    #[test]
    fn what_is_no_response_is_noticed() {
        for block in [
            &[][..],
            &[0x82],
            &[0xbe],
            b"\x48\x032x0",
            b"\x48\x04 200",
            b"\x48\x03700",
            &[0x48, 0x82, 0xff, 0xff],
            &[0x48, 0x83, 0x64],
            &[0x48, 0x81, 0x64],
            &[0x3f, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(response(&answer(4, block)), Came::Malformed, "{block:02x?}");
        }
        assert_eq!(response(b"HTTP/1.1 400 Bad Request\r\n"), Came::Malformed);
        for (kind, stream, payload) in [
            (RST_STREAM, 1, &[0; 4][..]),
            (GOAWAY, 0, &[0; 8]),
            (GOAWAY, 0, &[0, 0, 0, 1, 0, 0, 0, 11]),
        ] {
            let mut out = Vec::new();
            frame(kind, 0, stream, payload, &mut out);
            assert_eq!(response(&out), Came::Ended);
        }
    }

    #[test]
    fn a_server_that_leaves_may_still_answer() {
        for last in [[0, 0, 0, 1], [0x7f, 0xff, 0xff, 0xff]] {
            let mut out = Vec::new();
            frame(GOAWAY, 0, 0, &[last, [0; 4]].concat(), &mut out);
            assert_eq!(response(&out), Came::Part);
            out.extend(answer(4, &[0x88]));
            assert_eq!(response(&out), Came::Status(200));
        }
    }
}
