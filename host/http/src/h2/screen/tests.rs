//! Tests of frames in and frames out.

use super::*;

const DATA: u8 = 0;
const WHOLE: u8 = END_STREAM | END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Returns a `:path` field that enters the table (`kept`), or does not.
fn path(kept: bool, path: &[u8]) -> Vec<u8> {
    let mut field = vec![if kept { 0x44 } else { 0x04 }];
    hpack::write_string(path.iter().copied(), &mut field);
    field
}

/// Returns what `h2` reads of these frames, and the hidden targets. Checks that
/// the size of the pieces makes no difference.
fn seen(frames: &[Vec<u8>], streams: &[u32]) -> (Vec<u8>, Vec<Option<Vec<u8>>>) {
    let input = [PREFACE, &frames.concat()].concat();
    let cut = |size| {
        let mut screen = Screen::default();
        let mut out = Vec::new();
        for piece in input.chunks(size) {
            out.extend_from_slice(&screen.screen(piece));
        }
        let hidden = streams.iter().map(|&stream| screen.take(stream));
        let hidden = hidden.map(|it| it.map(|target| target.to_vec())).collect();
        (out.split_off(PREFACE.len()), hidden)
    };
    let whole = cut(input.len());
    for size in [1, 2, 8, 9, 10, 100] {
        assert_eq!(cut(size), whole, "pieces of {size}");
    }
    whole
}

#[test]
fn what_is_plain_is_let_through() {
    let get = b"\x82\x86\x84\x01\x09localhost";
    let frames = [
        frame(4, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, get),
        frame(DATA, 0, 1, &[HEADERS; 300]),
        frame(HEADERS, WHOLE, 1, b"\x00\x01x\x01y"),
        frame(HEADERS, END_STREAM, 3, get),
        frame(CONTINUATION, END_HEADERS, 3, &path(true, b"/a|b")),
        frame(
            HEADERS,
            WHOLE | PADDED | PRIORITY,
            5,
            b"\x02\0\0\0\0\0\x82\0\0",
        ),
    ];
    assert_eq!(seen(&frames, &[1, 3, 5]), (frames.concat(), vec![None; 3]));
}

#[test]
fn a_target_that_is_not_plain_is_hidden_and_known_by_its_stream() {
    let odd = [&b"\x82"[..], &path(true, b"/a<b"), b"\x86"].concat();
    let fragment = [&b"\x82\x86"[..], &path(false, b"/\xff#")].concat();
    let (one, two) = fragment.split_at(4);
    let padded = [b"\x03", one, b"\0\0\0"].concat();
    let (out, hidden) = seen(
        &[
            frame(HEADERS, WHOLE, 1, &odd),
            frame(DATA, 0, 1, b"data"),
            frame(HEADERS, END_STREAM | PADDED, 3, &padded),
            frame(CONTINUATION, END_HEADERS, 3, two),
            // The target from the table.
            frame(HEADERS, WHOLE, 5, b"\x82\x86\xbe"),
        ],
        &[1, 3, 4, 5],
    );
    let odd = [&b"\x82"[..], &path(true, b"?xxx"), b"\x86"].concat();
    let fragment = [&b"\x82\x86"[..], &path(false, b"?xx")].concat();
    let expected = [
        frame(HEADERS, WHOLE, 1, &odd),
        frame(DATA, 0, 1, b"data"),
        frame(HEADERS, WHOLE, 3, &fragment),
        frame(HEADERS, WHOLE, 5, b"\x82\x86\xbe"),
    ];
    assert_eq!(out, expected.concat());
    let one = Some(b"/a<b".to_vec());
    let two = Some(b"/\xff#".to_vec());
    assert_eq!(hidden, [one.clone(), two, None, one]);
}

#[test]
fn a_long_target_is_hidden_in_several_frames() {
    let long = [&b"/\""[..], &[b'a'; 20_000]].concat();
    let field = path(false, &long);
    let (one, two) = field.split_at(10_000);
    let (out, hidden) = seen(
        &[
            frame(HEADERS, 0, 1, one),
            frame(CONTINUATION, END_HEADERS, 1, two),
        ],
        &[1],
    );
    let mut filler = vec![b'x'; long.len()];
    filler[0] = MARK;
    let field = path(false, &filler);
    let (one, two) = field.split_at(MOST_PAYLOAD);
    let expected = [
        frame(HEADERS, 0, 1, one),
        frame(CONTINUATION, END_HEADERS, 1, two),
    ];
    assert_eq!(out, expected.concat());
    assert_eq!(hidden, [Some(long)]);
}

#[test]
fn trailers_with_a_pseudo_field_are_made_to_be_refused() {
    for pseudo in [&b"\x84"[..], b"\x00\x05:path\x01/", b"\x00\x02:x\x01/"] {
        let (out, _) = seen(
            &[
                frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84"),
                frame(HEADERS, WHOLE, 1, pseudo),
            ],
            &[],
        );
        let expected = [
            frame(HEADERS, END_HEADERS, 1, b"\x83\x86\x84"),
            frame(HEADERS, END_HEADERS, 1, pseudo),
        ];
        assert_eq!(out, expected.concat());
    }
}

#[test]
fn a_stream_that_depends_on_itself_is_refused_after_its_fields_were_read() {
    let field = path(true, b"/a");
    let on_itself = [&b"\x80\0\0\x01\0"[..], &field].concat();
    let padded = [&b"\x02"[..], &on_itself, b"\0\0"].concat();
    for (flags, payload) in [(PRIORITY, &on_itself), (PRIORITY | PADDED, &padded)] {
        let (out, _) = seen(&[frame(HEADERS, WHOLE | flags, 1, payload)], &[]);
        let expected = [&field, REFUSED].concat();
        assert_eq!(out, frame(HEADERS, WHOLE, 1, &expected));
        let other = frame(HEADERS, WHOLE | flags, 3, payload);
        assert_eq!(seen(std::slice::from_ref(&other), &[]).0, other);
    }
}

#[test]
fn a_promise_ends_the_connection() {
    let odd = frame(HEADERS, WHOLE, 1, &path(false, b"/<"));
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, b"");
    let (out, hidden) = seen(&[odd, promise], &[1]);
    let filler = frame(HEADERS, WHOLE, 1, &path(false, b"?x"));
    assert!(out.starts_with(&[&filler[..], &PROMISED].concat()));
    assert_eq!(hidden, [Some(b"/<".to_vec())]);
}

#[test]
fn a_head_has_as_many_frames_as_h2_takes() {
    let input = |count: usize| {
        let field = path(false, b"/<");
        let mut frames = vec![frame(HEADERS, 0, 1, &field)];
        frames.resize(count - 1, frame(CONTINUATION, 0, 1, b""));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, b""));
        [PREFACE, &frames.concat()].concat()
    };
    for (most_head, most) in [(1, 7), (32 << 10, 7), (1 << 20, 82), (16 << 20, 1282)] {
        let mut screen = Screen::new(most_head);
        screen.screen(&input(most));
        assert!(screen.take(1).is_some(), "{most_head}");
        let mut screen = Screen::new(most_head);
        screen.screen(&input(most + 1));
        assert!(screen.blind, "{most_head}");
    }
}

#[test]
fn what_breaks_a_rule_is_left_to_h2() {
    let broken = [
        // An unknown index, padding longer than the frame, a frame within a
        // block, a CONTINUATION of another stream, a frame that is too large,
        // and too many frames.
        vec![frame(HEADERS, WHOLE, 1, b"\xff\x20")],
        vec![frame(HEADERS, WHOLE | PADDED, 1, b"\x05\x82")],
        vec![frame(HEADERS, 0, 1, b"\x82"), frame(DATA, 0, 1, b"")],
        vec![
            frame(HEADERS, 0, 1, b"\x82"),
            frame(CONTINUATION, END_HEADERS, 3, b""),
        ],
        vec![frame(HEADERS, WHOLE, 1, &[0x82; MOST_PAYLOAD + 1])],
        vec![
            frame(HEADERS, 0, 1, b"\x82"),
            frame(CONTINUATION, 0, 1, b"").repeat(LEAST_FRAMES),
        ],
    ];
    for mut frames in broken {
        frames.push(frame(HEADERS, WHOLE, 5, &path(false, b"/<")));
        let (out, hidden) = seen(&frames, &[5]);
        assert_eq!(out, frames.concat());
        assert_eq!(hidden, [None]);
    }
}

#[test]
fn targets_that_nobody_asks_for_are_not_kept_for_ever() {
    let mut screen = Screen::default();
    screen.screen(PREFACE);
    let mut stream = 1;
    let target = [&b"/<"[..], &[b'a'; 8000]].concat();
    for _ in 0..3 * MOST_HIDDEN / target.len() {
        screen.screen(&frame(HEADERS, WHOLE, stream, &path(false, &target)));
        assert!(screen.kept <= MOST_HIDDEN);
        stream += 2;
    }
    assert!(screen.hidden.len() > 100);
    assert_eq!(screen.take(stream), None);
    assert!(screen.hidden.is_empty() && screen.kept == 0);
    screen.screen(&frame(HEADERS, WHOLE, stream, &path(false, &target)));
    assert!(screen.kept > 8000);
    screen.forget();
    assert!(screen.hidden.is_empty() && screen.kept == 0);
}
