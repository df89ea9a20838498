use netwasm_base::config::MessageCompression;

use super::*;
use crate::websocket::codec::deflate::Deflater;
use crate::websocket::codec::testing::frame;

const KEY: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Frame that was read, in an owned form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Text(String),
    Binary(usize),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>, String),
    Fault(u16),
}

fn text(text: &str) -> Read {
    Read::Text(text.into())
}

fn limits() -> WebSocketLimits {
    WebSocketLimits {
        max_message: 1000,
        max_frame: 600,
        ..WebSocketLimits::default()
    }
}

fn agreed() -> Option<Agreed> {
    let offer = [&b"permessage-deflate"[..]];
    Agreed::on(offer.into_iter(), MessageCompression::Dedicated)
}

/// Reads pieces as they arrive.
fn read(pieces: &[&[u8]], agreed: Option<Agreed>) -> Vec<Read> {
    let mut reader = FrameReader::new(&limits(), agreed);
    let mut buffers = Buffers::default();
    let mut all = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        reader.resume(&mut buffers);
        loop {
            let read = match reader.read(&mut input, &mut buffers) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => Read::Text(text.into()),
                Ok(Some(Incoming::Binary(data))) => Read::Binary(data.len()),
                Ok(Some(Incoming::Ping(data))) => Read::Ping(data.to_vec()),
                Ok(Some(Incoming::Pong)) => Read::Pong,
                Ok(Some(Incoming::Close(code, reason))) => Read::Close(code, reason.into()),
                Err(fault) => {
                    all.push(Read::Fault(fault.code));
                    return all;
                }
            };
            all.push(read);
        }
        reader.rest(&mut buffers);
        assert!(input.is_empty());
    }
    all
}

/// Checks that input is read alike however it is cut.
fn check(input: &[u8], expected: &[Read]) {
    assert_eq!(read(&[input], None), expected);
    for cut in 0..input.len().min(200) {
        let (first, second) = input.split_at(cut);
        assert_eq!(read(&[first, second], None), expected, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(read(&bytes, None), expected, "byte by byte");
}

#[test]
fn messages_are_read_alike_however_they_are_cut() {
    let input = [
        frame(0x81, b"Hello", KEY),
        frame(0x82, &[7; 300], KEY),
        frame(0x81, b"", KEY),
        frame(0x8a, b"unasked", KEY),
    ];
    let expected = [text("Hello"), Read::Binary(300), text(""), Read::Pong];
    check(&input.concat(), &expected);
}

#[test]
fn fragments_are_joined_and_control_frames_come_between() {
    let input = [
        frame(0x01, "a€".as_bytes().split_at(2).0, KEY),
        frame(0x89, b"ping", KEY),
        frame(0x00, b"", KEY),
        frame(0x80, "a€".as_bytes().split_at(2).1, KEY),
        frame(0x88, b"\x03\xe8done", KEY),
    ];
    let expected = [
        Read::Ping(b"ping".into()),
        text("a€"),
        Read::Close(Some(1000), "done".into()),
    ];
    check(&input.concat(), &expected);
}

#[test]
fn messages_out_of_order_are_refused() {
    let second = [frame(0x01, b"a", KEY), frame(0x81, b"b", KEY)];
    check(&second.concat(), &[Read::Fault(1002)]);
    check(&frame(0x80, b"a", KEY), &[Read::Fault(1002)]);
}

#[test]
fn an_invalid_text_is_refused_before_its_end() {
    let cut = [frame(0x01, b"a\xf4\x90", KEY), frame(0x89, b"", KEY)];
    check(&cut.concat(), &[Read::Fault(1007)]);
    check(&frame(0x81, b"a\xc3", KEY), &[Read::Fault(1007)]);
    // Within one frame that is still arriving.
    let arriving = frame(0x81, b"\xff is not the end", KEY);
    assert_eq!(read(&[&arriving[..8]], None), [Read::Fault(1007)]);
}

#[test]
fn limits_hold_for_a_frame_and_for_a_message() {
    let whole = frame(0x82, &[0; 601], KEY);
    // The head alone tells.
    assert_eq!(read(&[&whole[..8]], None), [Read::Fault(1009)]);
    let cut = [frame(0x02, &[0; 600], KEY), frame(0x80, &[0; 401], KEY)].concat();
    assert_eq!(read(&[&cut], None), [Read::Fault(1009)]);
    let most = [frame(0x02, &[0; 600], KEY), frame(0x80, &[0; 400], KEY)].concat();
    assert_eq!(read(&[&most], None), [Read::Binary(1000)]);
}

#[test]
fn a_close_frame_has_a_code_that_may_be_sent_and_a_reason() {
    check(&frame(0x88, b"", KEY), &[Read::Close(None, String::new())]);
    for (payload, code) in [
        (&b"\x03"[..], 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xe7", 1002),
        (b"\xff\xff", 1002),
        (b"\x03\xe8\xff", 1007),
    ] {
        check(&frame(0x88, payload, KEY), &[Read::Fault(code)]);
    }
}

#[test]
fn compressed_messages_are_whole_and_within_the_limit() {
    let (mut shared, agreed) = (SharedDeflate::default(), agreed());
    let mut deflater = Deflater::new(agreed.expect("agreed"));
    let mut packed = |data: &[u8]| {
        let mut out = Vec::new();
        deflater.compress(data, &mut shared, &mut out);
        out
    };
    let (first, second) = (packed(b"again and again"), packed(b"again and again"));
    let (head, tail) = first.split_at(3);
    let input = [
        frame(0x41, head, KEY),
        frame(0x89, b"", KEY),
        frame(0x80, tail, KEY),
        frame(0xc1, &second, KEY),
        frame(0x81, b"plain", KEY),
        frame(0xc2, &packed(&[0; 1000]), KEY),
        frame(0xc2, &packed(&[0; 1001]), KEY),
    ];
    let expected = [
        Read::Ping(Vec::new()),
        text("again and again"),
        text("again and again"),
        text("plain"),
        Read::Binary(1000),
        Read::Fault(1009),
    ];
    assert_eq!(read(&[&input.concat()], agreed), expected);
    assert_eq!(read(&[&input.concat()], None), [Read::Fault(1002)]);
    let no_text = frame(0xc1, &packed(b"\xff"), KEY);
    let mut reading = read(&[&no_text], agreed);
    // Its window lacks what came before, or the text is invalid.
    assert_eq!(reading.pop(), Some(Read::Fault(1007)));
}

#[test]
fn readers_of_a_thread_keep_their_own_parts() {
    let mut buffers = Buffers::default();
    let input = [
        frame(0x01, b"one", KEY),
        frame(0x89, b"ping", KEY),
        frame(0x80, b"two", KEY),
    ]
    .concat();
    let mut readers = [(); 3].map(|()| (FrameReader::new(&limits(), None), Vec::new()));
    // Byte by byte in turn, so that each is cut everywhere while others are read.
    for byte in &input {
        for (reader, all) in &mut readers {
            let mut piece = std::slice::from_ref(byte);
            reader.resume(&mut buffers);
            while let Some(incoming) = reader.read(&mut piece, &mut buffers).expect("no fault") {
                all.push(format!("{incoming:?}"));
            }
            reader.rest(&mut buffers);
        }
    }
    for (reader, all) in readers {
        assert_eq!(all.len(), 2, "{all:?}");
        assert_eq!(all[1], "Text(\"onetwo\")");
        assert_eq!(reader.progress(), None);
    }
}

#[test]
fn a_message_after_an_empty_last_frame_is_another() {
    let mut reader = FrameReader::new(&limits(), None);
    let mut buffers = Buffers::default();
    let mut after = |input: &[u8]| {
        let mut input = input;
        reader.resume(&mut buffers);
        while reader
            .read(&mut input, &mut buffers)
            .expect("no fault")
            .is_some()
        {}
        reader.rest(&mut buffers);
        reader.progress()
    };
    let first = after(&frame(0x01, b"one", KEY));
    let mut next = frame(0x80, b"", KEY);
    // The first byte of another message's head comes with the end of this one.
    next.push(0x81);
    let second = after(&next);
    assert!(first.is_some() && second > first, "{first:?} {second:?}");
}
