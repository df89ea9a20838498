//! Looks at header blocks before `h2` does, for what `h2` would not let through.
//!
//! `h2` makes a URI of a target before anybody else sees it: it resets the stream
//! where the target has a `<` or a space, ends the connection where it is no
//! UTF-8, and cuts off a fragment. HTTP/1.1 takes such a target, or answers 400
//! and logs why. To do alike, a target that is not plain is hidden: one of the
//! same length takes its place that begins with `?`, as no other does, so that
//! the tables of HPACK stay alike. The driver asks for what was hidden by the
//! number of the stream. Whatever goes wrong here leaves a target that is
//! refused.
//!
//! `h2` also overlooks pseudo-fields among trailers (RFC 9113, section 8.1). It
//! gets them without the END_STREAM flag, and refuses them for that.
//!
//! `h2` leaves the table of HPACK as it is where a stream depends on itself, and
//! reads a PUSH_PROMISE of a client before it refuses that, perhaps without an
//! end of the connection. Both would leave it with another table than the client
//! has, or than is known here. The former gets a field that `h2` refuses once it
//! has read the fields. The latter is replaced by one that ends the connection
//! (RFC 9113, section 8.4).

mod hpack;
mod huffman;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::h2::meter::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS};
use crate::h2::screen::hpack::{Decoder, Found};
use crate::h2::stream::PREFACE;

/// Bytes of the head of a frame.
const HEAD: usize = 9;

/// Bytes of the payload of a frame that `h2` lets a client send.
const MOST_PAYLOAD: usize = 16 << 10;

/// Frames of a header block that `h2` takes, however small the limit on heads.
const LEAST_FRAMES: usize = 7;

/// How much is kept of targets, bytes. They are asked for soon, or forgotten
/// where `h2` has refused their streams.
const MOST_HIDDEN: usize = 1 << 20;

/// What is kept of a target beside it, bytes.
const ENTRY: usize = 64;

/// The frame that promises a response which nobody has asked for.
const PUSH_PROMISE: u8 = 5;

/// One of no stream, for which `h2` ends the connection.
const PROMISED: [u8; HEAD] = [0, 0, 0, PUSH_PROMISE, END_HEADERS, 0, 0, 0, 0];

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The first byte of what takes the place of a target.
const MARK: u8 = b'?';

/// `connection:`, which no message has in HTTP/2 (RFC 9113, section 8.2.2).
const REFUSED: &[u8] = b"\x00\x0aconnection\x00";

/// True if something else has taken the place of this target.
pub(super) fn is_hidden(target: &str) -> bool {
    target.as_bytes().first() == Some(&MARK)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Screen {
    /// Bytes of the preface or of a frame, yet to come, that are not looked at.
    passing: usize,
    /// What came of frames that are looked at once they are whole.
    held: Vec<u8>,
    /// How much of that there must be to go on.
    wanted: usize,
    /// Frames of a header block that were found whole in it, and their bytes.
    whole: (usize, usize),
    /// Frames of a header block that are looked at. `h2` ends the connection where
    /// there are more.
    most_frames: usize,
    /// True if nothing is looked at any more: the client has broken a rule for
    /// which `h2` ends the connection.
    blind: bool,
    decoder: Decoder,
    /// The last stream that the client has opened.
    latest: u32,
    /// Targets that are hidden, and their streams, which ascend.
    hidden: VecDeque<(u32, Arc<[u8]>)>,
    /// How much that is, bytes.
    kept: usize,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            passing: PREFACE.len(),
            held: Vec::new(),
            wanted: 0,
            whole: (0, 0),
            most_frames: LEAST_FRAMES,
            blind: false,
            decoder: Decoder::default(),
            latest: 0,
            hidden: VecDeque::new(),
            kept: 0,
        }
    }
}

/// Frames that are a header block.
enum Block {
    /// So many bytes are needed to tell more.
    Needs(usize),
    /// It has this length, and is replaced by this.
    Whole(usize, Option<Vec<u8>>),
    /// It is none.
    Broken,
}

/// The head of a frame.
#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The one at the beginning, if it is whole.
    fn of(input: &[u8]) -> Option<Self> {
        let &[high, middle, low, kind, flags, a, b, c, d] = input.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1),
        })
    }

    /// Where a header block is in a payload: without padding and priority. None
    /// where that is not right.
    fn fragment<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let flag = |flag| self.kind == HEADERS && self.flags & flag != 0;
        let (padding, payload) = match flag(PADDED) {
            true => payload.split_first()?,
            false => (&0, payload),
        };
        let payload = payload.get(if flag(PRIORITY) { 5 } else { 0 }..)?;
        payload.get(..payload.len().checked_sub(usize::from(*padding))?)
    }
}

impl Screen {
    /// One for heads of up to so many bytes, as `h2` knows them.
    pub(super) fn new(max_head: usize) -> Self {
        // As many as `h2` takes: see its `calc_max_continuation_frames`. It does
        // not count the first and the last.
        let full = (max_head / MOST_PAYLOAD).max(1);
        Self {
            most_frames: (full + full / 4 + 2).max(LEAST_FRAMES),
            ..Self::default()
        }
    }

    /// Forgets all targets: `h2` has read all that it was given, and the requests
    /// of which it knows were taken.
    pub(super) fn forget(&mut self) {
        self.hidden.clear();
        self.kept = 0;
    }

    /// Takes what has come, and returns what `h2` is to see of it for now.
    pub(super) fn screen<'a>(&mut self, input: &'a [u8]) -> Cow<'a, [u8]> {
        if self.blind {
            return Cow::Borrowed(input);
        }
        if self.held.is_empty() {
            // It is looked at where it lies.
            let (length, replaced) = self.look(input);
            let (seen, rest) = input.split_at(length.min(input.len()));
            self.held.extend_from_slice(rest);
            return replaced.map_or(Cow::Borrowed(seen), Cow::Owned);
        }
        self.held.extend_from_slice(input);
        if self.held.len() < self.wanted {
            return Cow::Borrowed(&[]);
        }
        let mut held = std::mem::take(&mut self.held);
        let (length, replaced) = self.look(&held);
        self.held = held.split_off(length.min(held.len()));
        Cow::Owned(replaced.unwrap_or(held))
    }

    /// The target in whose place the one of a stream is. What streams before it
    /// had is forgotten.
    pub(super) fn take(&mut self, stream: u32) -> Option<Arc<[u8]>> {
        while self.hidden.front().is_some_and(|(it, _)| *it <= stream)
            && let Some((other, target)) = self.forget_oldest()
        {
            if other == stream {
                return Some(target);
            }
        }
        None
    }

    fn forget_oldest(&mut self) -> Option<(u32, Arc<[u8]>)> {
        let (stream, target) = self.hidden.pop_front()?;
        self.kept -= ENTRY + target.len();
        Some((stream, target))
    }

    fn keep(&mut self, stream: u32, target: Arc<[u8]>) {
        self.kept += ENTRY + target.len();
        self.hidden.push_back((stream, target));
        while self.kept > MOST_HIDDEN {
            self.forget_oldest();
        }
    }

    /// Looks at what has come: how much of it is done with, and what takes the
    /// place of that, if it is anything else.
    fn look(&mut self, input: &[u8]) -> (usize, Option<Vec<u8>>) {
        let mut out: Option<Vec<u8>> = None;
        // Up to where `out` has it, and up to where it was looked at.
        let (mut copied, mut at) = (0, 0);
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            if self.passing > 0 {
                let length = self.passing.min(rest.len());
                self.passing -= length;
                at += length;
                continue;
            }
            let Some(frame) = Frame::of(rest) else {
                self.wanted = HEAD;
                break;
            };
            if frame.kind == PUSH_PROMISE {
                let out = out.get_or_insert_default();
                out.extend_from_slice(input.get(copied..at).unwrap_or_default());
                out.extend(PROMISED);
                at = input.len();
                copied = at;
                self.end();
                break;
            }
            if frame.kind != HEADERS {
                self.passing = HEAD + frame.length;
                continue;
            }
            match self.block(rest) {
                Block::Needs(length) => {
                    self.wanted = length;
                    break;
                }
                Block::Whole(length, None) => at += length,
                Block::Whole(length, Some(replaced)) => {
                    let out = out.get_or_insert_default();
                    out.extend_from_slice(input.get(copied..at).unwrap_or_default());
                    out.extend_from_slice(&replaced);
                    at += length;
                    copied = at;
                }
                Block::Broken => {
                    at = input.len();
                    self.end();
                }
            }
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(input.get(copied..at).unwrap_or_default());
        }
        (at, out)
    }

    /// Looks at nothing any more.
    fn end(&mut self) {
        self.blind = true;
        self.decoder = Decoder::default();
    }

    /// Looks at the header block that begins here.
    fn block(&mut self, input: &[u8]) -> Block {
        let Some(first) = Frame::of(input) else {
            return Block::Needs(HEAD);
        };
        let (mut count, mut at) = self.whole;
        loop {
            let Some(frame) = input.get(at..).and_then(Frame::of) else {
                return Block::Needs(at + HEAD);
            };
            let follows = frame.kind == CONTINUATION && frame.stream == first.stream;
            if frame.length > MOST_PAYLOAD || (count > 0 && !follows) {
                return Block::Broken;
            }
            let end = at + HEAD + frame.length;
            if input.len() < end {
                return Block::Needs(end);
            }
            (count, at) = (count + 1, end);
            if frame.flags & END_HEADERS != 0 {
                break;
            }
            if count == self.most_frames {
                return Block::Broken;
            }
            // It is not looked at again when more has come.
            self.whole = (count, at);
        }
        self.whole = (0, 0);
        let Some(block) = input.get(..at).and_then(joined) else {
            return Block::Broken;
        };
        let own = depends_on_itself(&first, input.get(HEAD..).unwrap_or_default());
        self.fields(first, own, at, &block)
    }

    /// Looks at the fields of a header block, which is to be refused or not.
    fn fields(&mut self, frame: Frame, refused: bool, length: usize, block: &[u8]) -> Block {
        let Ok(found) = self.decoder.read(block) else {
            return Block::Broken;
        };
        let opens = frame.stream > self.latest;
        self.latest = self.latest.max(frame.stream);
        if opens && let Some(target) = found.target.clone() {
            self.keep(frame.stream, target);
        }
        let mut flags = frame.flags & END_STREAM;
        if found.pseudo && !opens {
            flags = 0;
        }
        let ends_alike = flags == frame.flags & END_STREAM;
        if ends_alike && !refused && found.written.is_empty() {
            return Block::Whole(length, None);
        }
        let mut block = hide(block, &found);
        if refused {
            block.extend_from_slice(REFUSED);
        }
        Block::Whole(length, Some(frames(frame.stream, flags, &block)))
    }
}

/// The header block in these frames, which are whole. None where padding or
/// priority are not right.
fn joined(mut frames: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut joined: Option<Cow<'_, [u8]>> = None;
    while !frames.is_empty() {
        let frame = Frame::of(frames)?;
        let (payload, rest) = frames.get(HEAD..)?.split_at_checked(frame.length)?;
        let fragment = frame.fragment(payload)?;
        match &mut joined {
            Some(joined) => joined.to_mut().extend_from_slice(fragment),
            None => joined = Some(Cow::Borrowed(fragment)),
        }
        frames = rest;
    }
    joined
}

/// True if HEADERS have a stream depend on itself, for which `h2` resets it.
fn depends_on_itself(frame: &Frame, payload: &[u8]) -> bool {
    let at = usize::from(frame.flags & PADDED != 0);
    let on = payload.get(at..).and_then(<[u8]>::first_chunk);
    let on = on.map(|&on| u32::from_be_bytes(on) & (u32::MAX >> 1));
    frame.flags & PRIORITY != 0 && on == Some(frame.stream)
}

/// Replaces the targets that are to be hidden.
fn hide(block: &[u8], found: &Found) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * block.len() + REFUSED.len());
    let mut copied = 0;
    for (place, length) in &found.written {
        out.extend_from_slice(block.get(copied..place.start).unwrap_or_default());
        let filler = |at| if at == 0 { MARK } else { b'x' };
        hpack::write_string((0..*length).map(filler), &mut out);
        copied = place.end;
    }
    out.extend_from_slice(block.get(copied..).unwrap_or_default());
    out
}

/// Writes a header block as the frames of a stream, the first with these flags.
fn frames(stream: u32, first: u8, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(block.len() + 2 * HEAD);
    let mut rest = block;
    let mut kind = HEADERS;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MOST_PAYLOAD));
        let [_, high, middle, low] = (piece.len() as u32).to_be_bytes();
        let mut flags = if after.is_empty() { END_HEADERS } else { 0 };
        if kind == HEADERS {
            flags |= first;
        }
        out.extend([high, middle, low, kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend_from_slice(piece);
        if after.is_empty() {
            return out;
        }
        (rest, kind) = (after, CONTINUATION);
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
