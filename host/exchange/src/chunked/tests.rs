//! Tests of the chunked coding.

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
