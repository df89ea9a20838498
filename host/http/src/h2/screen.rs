//! Inspection of header blocks before `h2` parses them, for what `h2` would not
//! let through.
//!
//! `h2` parses a target into a URI before anybody else sees it. It resets the
//! stream if the target has a `<` or a space, ends the connection if it is not
//! UTF-8, and cuts off a fragment. HTTP/1.1 accepts such a target, or answers
//! 400 and logs why. To match that, the screen hides a target that is not plain
//! behind a replacement. This has the same length, so that the HPACK tables
//! stay in step, and begins with `?`, as no valid target does. The driver asks
//! for the hidden target by the stream's number. Any error here leaves a target
//! that is refused.
//!
//! `h2` also overlooks pseudo-fields among trailers (RFC 9113, section 8.1).
//! The screen clears END_STREAM of such a block, for which `h2` refuses it.
//!
//! In two cases the dynamic table of `h2` would differ from the client's, and
//! from the screen's: it does not decode the block of a stream that depends on
//! itself, and it decodes a client's PUSH_PROMISE before refusing it, perhaps
//! without ending the connection. The former gets a field that `h2` refuses
//! after decoding. The latter is replaced by a frame that ends the connection
//! (RFC 9113, section 8.4).

mod hpack;
mod huffman;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::h2::meter::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS};
use crate::h2::screen::hpack::{Decoder, Found};
use crate::h2::stream::PREFACE;

/// Size of a frame's header in bytes.
const HEAD: usize = 9;

/// Maximum payload of a frame that `h2` accepts, in bytes.
const MOST_PAYLOAD: usize = 16 << 10;

/// Frames of a header block that `h2` accepts, however small the limit of heads.
const LEAST_FRAMES: usize = 7;

/// Maximum of hidden targets kept, in bytes. The driver asks for them soon, or
/// they are forgotten if `h2` has refused their streams.
const MOST_HIDDEN: usize = 1 << 20;

/// Overhead of a kept target in bytes.
const ENTRY: usize = 64;

/// The frame that promises a response which nobody has asked for.
const PUSH_PROMISE: u8 = 5;

/// One of no stream, for which `h2` ends the connection.
const PROMISED: [u8; HEAD] = [0, 0, 0, PUSH_PROMISE, END_HEADERS, 0, 0, 0, 0];

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// First byte of a replacement.
const MARK: u8 = b'?';

/// `connection:`, which no message may have in HTTP/2 (RFC 9113, section
/// 8.2.2).
const REFUSED: &[u8] = b"\x00\x0aconnection\x00";

/// True if this target is a replacement.
pub(super) fn is_hidden(target: &str) -> bool {
    target.as_bytes().first() == Some(&MARK)
}

/// Inspector of header blocks. See the module.
#[derive(Debug)]
pub(super) struct Screen {
    /// Bytes of the preface or of a frame that are yet to arrive and are not
    /// inspected.
    passing: usize,
    /// Start of an incomplete header block.
    held: Vec<u8>,
    /// Size that `held` needs before the inspection continues, in bytes.
    wanted: usize,
    /// Number of frames of the block in `held` found complete, and their bytes.
    whole: (usize, usize),
    /// Maximum of frames in an inspected header block. For more, `h2` ends the
    /// connection.
    most_frames: usize,
    /// True if inspection has ended: the client broke a rule for which `h2`
    /// ends the connection.
    blind: bool,
    decoder: Decoder,
    /// Highest stream that the client has opened.
    latest: u32,
    /// Hidden targets with their streams, in ascending order.
    hidden: VecDeque<(u32, Arc<[u8]>)>,
    /// Size of `hidden` in bytes.
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

/// Result of inspecting a header block.
enum Block {
    /// This many bytes are needed.
    Needs(usize),
    /// The block's length, and its replacement if it changes.
    Whole(usize, Option<Vec<u8>>),
    /// The block is malformed.
    Broken,
}

/// Header of a frame.
#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// Reads the header at the start of `input`, if it is whole.
    fn of(input: &[u8]) -> Option<Self> {
        let &[high, middle, low, kind, flags, a, b, c, d] = input.first_chunk::<HEAD>()?;
        Some(Self {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1),
        })
    }

    /// Returns the header block's fragment in a payload, without padding and
    /// priority. `None` if these are malformed.
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
    /// Makes a screen for heads of up to `max_head` bytes, as `h2` counts them.
    pub(super) fn new(max_head: usize) -> Self {
        // As many as `h2` accepts: its `calc_max_continuation_frames` does not
        // count the first and the last.
        let full = (max_head / MOST_PAYLOAD).max(1);
        Self {
            most_frames: (full + full / 4 + 2).max(LEAST_FRAMES),
            ..Self::default()
        }
    }

    /// Forgets all targets: `h2` has read everything, and the driver has taken
    /// the requests that `h2` accepted.
    pub(super) fn forget(&mut self) {
        self.hidden.clear();
        self.kept = 0;
    }

    /// Inspects what has arrived, and returns what `h2` may read for now.
    pub(super) fn screen<'a>(&mut self, input: &'a [u8]) -> Cow<'a, [u8]> {
        if self.blind {
            return Cow::Borrowed(input);
        }
        if self.held.is_empty() {
            // Inspect in place, without a copy.
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

    /// Returns the hidden target of a stream, and forgets those of earlier
    /// streams.
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

    /// Inspects `input`. Returns how much of it is done, and the replacement of
    /// that if it changes.
    fn look(&mut self, input: &[u8]) -> (usize, Option<Vec<u8>>) {
        let mut out: Option<Vec<u8>> = None;
        // Bytes of `input` that are copied to `out`, and that are inspected.
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

    /// Ends the inspection.
    fn end(&mut self) {
        self.blind = true;
        self.decoder = Decoder::default();
    }

    /// Inspects the header block at the start of `input`.
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

    /// Inspects the fields of a header block. If `refused`, `h2` is to refuse it.
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

/// Returns the header block in complete frames; `None` if padding or priority
/// are malformed.
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

/// True if HEADERS make a stream depend on itself, for which `h2` resets it.
fn depends_on_itself(frame: &Frame, payload: &[u8]) -> bool {
    let at = usize::from(frame.flags & PADDED != 0);
    let on = payload.get(at..).and_then(<[u8]>::first_chunk);
    let on = on.map(|&on| u32::from_be_bytes(on) & (u32::MAX >> 1));
    frame.flags & PRIORITY != 0 && on == Some(frame.stream)
}

/// Replaces the targets to be hidden.
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

/// Writes a header block as frames, the first with these flags.
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
