//! Invariants of netwasm's HTTP/1.1 parser for any input. Each function panics
//! if one is broken. `run` calls the functions by libFuzzer.

mod compare;

use netwasm_exchange::chunked::Chunked;
use netwasm_exchange::head::{Framing, Head, HeadLimits, Refusal};

/// Small limits, so that inputs often reach them.
const LIMITS: HeadLimits = HeadLimits {
    bytes: 512,
    fields: 8,
    line: 64,
};
const MAX_BODY: u64 = 256;

/// Checks that a head is parsed or refused alike however it is cut, and that an
/// accepted head keeps what its getters promise.
pub fn head(input: &[u8]) {
    let mut whole = Head::default();
    let result = whole.parse(input, &LIMITS);
    if let Ok(Some(length)) = result {
        check_head(&whole, input, length);
    }
    for cut in cuts(input) {
        let mut head = Head::default();
        let mut parts = vec![cut / 2, cut, input.len()];
        parts.dedup();
        for end in parts {
            match head.parse(&input[..end], &LIMITS) {
                Ok(None) if end < input.len() => {}
                early => {
                    assert_eq!(early, result, "with {end} bytes");
                    break;
                }
            }
        }
        if result.is_err() {
            // The part of it that is known depends on when it was refused.
            assert!(whole.request_line().starts_with(head.request_line()));
        } else {
            assert_eq!(summary(&head), summary(&whole), "cut at {cut}");
        }
    }
}

fn check_head(head: &Head, input: &[u8], length: usize) {
    assert!(length <= input.len() && length <= LIMITS.bytes);
    assert!(input[..length].ends_with(b"\r\n\r\n"));
    assert!(head.request_line().len() <= LIMITS.line);
    assert!(head.fields().count() <= LIMITS.fields);
    assert!(!head.method().is_empty());
    assert!(head.target().starts_with('/') || head.target() == "*");
    let refused = |byte: u8| byte <= b' ' || byte == 0x7f || byte == b'#';
    assert!(!head.target().bytes().any(refused));
    for (name, value) in head.fields() {
        assert!(!name.is_empty());
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':')
        );
        assert!(
            value
                .iter()
                .all(|&byte| byte >= b' ' && byte != 0x7f || byte == b'\t')
        );
        assert_eq!(value.trim_ascii(), value);
        assert!(head.all(name).any(|other| other == value));
    }
    let lengths: Vec<&[u8]> = head.all("content-length").collect();
    let codings: Vec<&[u8]> = head.all("transfer-encoding").collect();
    match head.framing() {
        Framing::None => assert!(lengths.is_empty() && codings.is_empty()),
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            let digits = String::from_utf8_lossy(lengths[0]);
            assert_eq!(digits.parse(), Ok(length));
            assert!(!digits.starts_with('+'));
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
            assert_eq!(head.minor_version(), 1);
        }
    }
    assert!(head.all("host").count() <= 1);
    assert!(head.authority().is_some() || head.minor_version() == 0);
    if let Some(authority) = head.authority() {
        assert!(!authority.is_empty());
        assert!(!authority.contains(['@', '/', '?', '#', ' ']));
    }
}

/// Returns everything that a head tells.
fn summary(head: &Head) -> impl PartialEq + std::fmt::Debug {
    let fields: Vec<(String, Vec<u8>)> = head
        .fields()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    (
        head.method().to_owned(),
        head.target().to_owned(),
        head.request_line().to_owned(),
        head.authority().map(str::to_owned),
        head.minor_version(),
        head.framing(),
        (
            head.keep_alive(),
            head.expects_continue(),
            head.accepts_trailers(),
        ),
        fields,
    )
}

/// Checks that a chunked body is decoded or refused alike however it is cut,
/// and is never larger than allowed.
pub fn chunked(input: &[u8]) {
    let whole = decode(&[input]);
    assert!(whole.body.len() as u64 <= MAX_BODY);
    assert!(whole.trailers.len() <= LIMITS.fields);
    for cut in cuts(input) {
        let (first, rest) = input.split_at(cut);
        let (second, third) = rest.split_at(rest.len() / 2);
        assert_eq!(decode(&[first, second, third]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(decode(&bytes), whole, "byte by byte");
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    consumed: usize,
    done: bool,
    refusal: Option<Refusal>,
}

fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut chunked = Chunked::new(MAX_BODY, &LIMITS);
    let mut decoded = Decoded::default();
    for piece in pieces {
        match chunked.feed(piece, &mut decoded.body) {
            Ok(fed) => {
                assert!(fed.done || fed.consumed == piece.len());
                assert!(!decoded.done || fed.consumed == 0);
                decoded.consumed += fed.consumed;
                decoded.done = fed.done;
            }
            Err(refusal) => {
                decoded.refusal = Some(refusal);
                decoded.consumed = 0;
                break;
            }
        }
    }
    decoded.trailers = chunked.trailers().to_vec();
    decoded
}

/// Checks that our parser and hyper see the same requests in the same bytes,
/// except for the differences that are explained.
pub fn against_hyper(input: &[u8]) {
    if let Err(difference) = compare::compare(input) {
        panic!("{difference}");
    }
}

/// Returns the places to cut: everywhere in a short input, else a few places
/// that the input itself decides.
fn cuts(input: &[u8]) -> Vec<usize> {
    if input.len() <= 64 {
        return (0..input.len()).collect();
    }
    let mut state = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |state, &byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % input.len()
    };
    (0..8).map(|_| next()).collect()
}
