//! Counter of frames that carry nothing, before `h2` parses them. A client that
//! sends them endlessly would keep a server busy for nothing.
//!
//! `h2` itself bounds what a client can make it keep: a reply to PING or
//! SETTINGS waits for the one before, CONTINUATION frames are counted, small
//! DATA frames have a budget, and streams are counted that a client resets
//! before they are accepted, or makes the server reset. Endless work is left:
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, and requests that are cancelled at
//! once (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2024-27316, CVE-2025-8671).
//!
//! The meter also knows which requests have not yet ended.

use std::collections::BTreeSet;

use h2::Reason;

use netwasm_net::thread::Tick;

use crate::coalescing::SMALL;
use crate::h2::stream::{MOST_STREAMS, PREFACE};

/// Maximum of such frames at once.
const BURST: u32 = 1000;

/// Rate of such frames in the long run, per second.
const RATE: u32 = 100;

/// Sent bytes that allow the client one more WINDOW_UPDATE. The shortest DATA frame
/// has 10, for which some clients enlarge the window of its stream and that of the
/// connection.
const UPDATE: usize = 5;

/// Small DATA frames after which streams have their turn before more is read, and
/// those of bodies that nobody reads are joined, as `h2` counts them: in bytes by
/// which they are shorter than [`SMALL`].
const SMALL_AT_ONCE: usize = 128 << 10;

/// Maximum of small DATA frames that wait one by one, which is about the memory that
/// they take. Beyond it, `h2` ends the connection. There must be room for those of a
/// turn and of a receive.
pub(super) const SMALL_FRAMES: usize = 8 * SMALL_AT_ONCE;

/// Maximum of unfinished requests remembered.
const MOST_UNFINISHED: usize = 2 * MOST_STREAMS as usize;

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// Counter of frames that carry nothing. See the module.
#[derive(Debug)]
pub(super) struct Meter {
    /// Bytes of the preface or of a frame's payload that are yet to arrive.
    ahead: usize,
    /// Start of a frame's header.
    head: [u8; 9],
    /// Bytes of `head` that are filled.
    has: usize,
    /// Time since which the head of a request has been arriving.
    since: Option<Tick>,
    /// True if the head ends with the present frame.
    ends: bool,
    allowance: u32,
    /// Bytes sent, less those used up by WINDOW_UPDATE frames.
    sent: usize,
    /// Payload bytes of DATA frames, with padding.
    payload: u64,
    /// Small DATA frames of this turn, as `h2` counts them.
    small: usize,
    /// Like `small`, since those that nobody reads were joined.
    single: usize,
    flood: Option<&'static str>,
    /// Streams whose requests have not arrived whole.
    unfinished: BTreeSet<u32>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            ahead: PREFACE.len(),
            head: [0; 9],
            has: 0,
            since: None,
            ends: false,
            allowance: BURST,
            sent: 0,
            payload: 0,
            small: 0,
            single: 0,
            flood: None,
            unfinished: BTreeSet::new(),
        }
    }
}

impl Meter {
    /// Counts the frames in what has arrived.
    pub(super) fn received(&mut self, mut input: &[u8], now: Tick) {
        loop {
            let skipped = self.ahead.min(input.len());
            self.ahead -= skipped;
            input = input.get(skipped..).unwrap_or_default();
            if self.ahead == 0 && std::mem::take(&mut self.ends) {
                self.since = None;
            }
            if input.is_empty() {
                return;
            }
            let wanted = self.head.len() - self.has;
            let (part, rest) = input.split_at(wanted.min(input.len()));
            for (to, from) in self.head.iter_mut().skip(self.has).zip(part) {
                *to = *from;
            }
            self.has += part.len();
            input = rest;
            if self.has == self.head.len() {
                self.has = 0;
                self.frame(now);
            }
        }
    }

    /// Counts a frame by its header.
    fn frame(&mut self, now: Tick) {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        self.ahead = usize::try_from(length).unwrap_or(usize::MAX);
        if kind == DATA {
            self.payload += u64::from(length);
            let lacking = SMALL.saturating_sub(self.ahead);
            self.small += lacking;
            self.single += lacking;
        }
        match kind {
            HEADERS if flags & END_STREAM == 0 => {
                self.unfinished.insert(stream);
                if self.unfinished.len() > MOST_UNFINISHED {
                    self.unfinished.pop_first();
                }
            }
            DATA if flags & END_STREAM == 0 => {}
            DATA | HEADERS | RST_STREAM => {
                self.unfinished.remove(&stream);
            }
            _ => {}
        }
        match kind {
            HEADERS | CONTINUATION => {
                self.since.get_or_insert(now);
                self.ends = flags & END_HEADERS != 0;
            }
            DATA if length > 0 || flags & END_STREAM != 0 => {}
            WINDOW_UPDATE if self.sent >= UPDATE => self.sent -= UPDATE,
            _ => self.spend(kind),
        }
    }

    fn spend(&mut self, kind: u8) {
        match self.allowance.checked_sub(1) {
            Some(rest) => self.allowance = rest,
            None => {
                self.flood.get_or_insert(match kind {
                    DATA => "empty DATA frames",
                    2 => "PRIORITY frames",
                    RST_STREAM => "RST_STREAM frames",
                    4 => "SETTINGS frames",
                    6 => "PING frames",
                    GOAWAY => "GOAWAY frames",
                    WINDOW_UPDATE => "WINDOW_UPDATE frames",
                    _ => "unknown frames",
                });
            }
        }
    }

    /// Begins a turn of the connection.
    pub(super) fn begin_turn(&mut self) {
        self.small = 0;
    }

    /// True if streams are to take small DATA frames before more is read.
    pub(super) fn has_many_small(&self) -> bool {
        self.small > SMALL_AT_ONCE
    }

    /// True if small DATA frames that nobody reads are to be joined. Reported once.
    pub(super) fn take_many_single(&mut self) -> bool {
        let many = self.single > SMALL_AT_ONCE;
        if many {
            self.single = 0;
        }
        many
    }

    /// Adds to the bytes sent to the client.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count);
    }

    /// Adds a second's credit.
    pub(super) fn second_passed(&mut self) {
        self.allowance = self.allowance.saturating_add(RATE).min(BURST);
    }

    /// Returns the payload bytes of DATA frames whose header has arrived, with
    /// padding. Flow control counts these.
    pub(super) fn payload(&self) -> u64 {
        self.payload
    }

    /// Returns the frames of which there were too many.
    pub(super) fn flood(&self) -> Option<&'static str> {
        self.flood
    }

    /// Returns the frames with which a half-closed client would have cancelled
    /// its unfinished requests, and begun no others. `None` if it stopped
    /// within a frame or a head.
    pub(super) fn last_words(&self) -> Option<Vec<u8>> {
        if self.ahead > 0 || self.has > 0 || self.since.is_some() {
            return None;
        }
        let mut words = Vec::new();
        for stream in &self.unfinished {
            words.extend([0, 0, 4, RST_STREAM, 0]);
            words.extend(stream.to_be_bytes());
            words.extend(u32::from(Reason::CANCEL).to_be_bytes());
        }
        // Last stream 0, as the server opens none; NO_ERROR.
        words.extend([0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]);
        words.extend([0; 8]);
        Some(words)
    }

    /// Returns the time since which an incomplete head has been arriving.
    pub(super) fn head_since(&self) -> Option<Tick> {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [_, high, middle, low] = (length as u32).to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + length, 0);
        frame
    }

    fn begun() -> Meter {
        let mut meter = Meter::default();
        meter.received(PREFACE, 0);
        meter
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = PREFACE.to_vec();
        for _ in 0..BURST {
            stream.extend(frame(PING, 0, 8));
            stream.extend(frame(DATA, 0, 3));
        }
        for size in [1, 2, 7, 9, 10, 1000, stream.len()] {
            let mut meter = Meter::default();
            for piece in stream.chunks(size) {
                meter.received(piece, 0);
            }
            assert_eq!(meter.allowance, 0, "pieces of {size}");
            assert_eq!(meter.flood(), None);
            meter.received(&frame(PING, 0, 8), 0);
            assert_eq!(meter.flood(), Some("PING frames"));
        }
    }

    #[test]
    fn small_frames_of_a_turn_are_counted_by_what_they_lack() {
        let mut meter = begun();
        let small = frame(DATA, 0, 6);
        for _ in 0..SMALL_AT_ONCE / (SMALL - 6) {
            meter.received(&small, 0);
        }
        meter.received(&frame(DATA, 0, SMALL), 0);
        assert!(!meter.has_many_small());
        meter.received(&small, 0);
        assert!(meter.has_many_small());
        meter.begin_turn();
        assert!(!meter.has_many_small());
        // A turn does not join them.
        assert_eq!([(); 2].map(|()| meter.take_many_single()), [true, false]);
    }

    #[test]
    fn time_gives_credit_but_never_more_than_at_the_beginning() {
        let mut meter = begun();
        meter.second_passed();
        assert_eq!(meter.allowance, BURST);
        for _ in 0..BURST {
            meter.received(&frame(PING, 0, 8), 0);
        }
        meter.second_passed();
        assert_eq!(meter.allowance, RATE);
    }

    #[test]
    fn a_client_that_takes_much_may_enlarge_its_windows_often() {
        let mut meter = begun();
        meter.sent(UPDATE * 5000);
        for _ in 0..5000 {
            meter.received(&frame(WINDOW_UPDATE, 0, 4), 0);
        }
        assert_eq!(meter.allowance, BURST);
        meter.received(&frame(WINDOW_UPDATE, 0, 4), 0);
        assert_eq!(meter.allowance, BURST - 1);
    }

    #[test]
    fn a_client_may_enlarge_both_windows_after_each_short_message() {
        let mut meter = begun();
        for _ in 0..5000 {
            meter.sent(frame(DATA, 0, 1).len());
            meter.received(&frame(WINDOW_UPDATE, 0, 4), 0);
            meter.received(&frame(WINDOW_UPDATE, 0, 4), 0);
        }
        assert_eq!(meter.allowance, BURST);
    }

    #[test]
    fn the_end_of_a_body_costs_nothing_and_other_empty_frames_do() {
        let mut meter = begun();
        meter.received(&frame(DATA, END_STREAM, 0), 0);
        assert_eq!(meter.allowance, BURST);
        meter.received(&frame(DATA, 0, 0), 0);
        assert_eq!(meter.allowance, BURST - 1);
    }

    #[test]
    fn a_client_that_sends_no_more_gives_up_what_it_has_not_finished() {
        let on = |stream: u8, mut frame: Vec<u8>| {
            if let Some(last) = frame.get_mut(8) {
                *last = stream;
            }
            frame
        };
        let mut meter = begun();
        meter.received(&on(1, frame(HEADERS, END_HEADERS, 4)), 0);
        meter.received(&on(3, frame(HEADERS, END_HEADERS, 4)), 0);
        meter.received(&on(5, frame(HEADERS, END_HEADERS, 4)), 0);
        meter.received(&on(7, frame(HEADERS, END_HEADERS | END_STREAM, 4)), 0);
        meter.received(&on(3, frame(DATA, END_STREAM, 4)), 0);
        meter.received(&on(5, frame(RST_STREAM, 0, 4)), 0);
        meter.received(&on(1, frame(DATA, 0, 4)), 0);
        let reset = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08";
        let goaway = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let words = [&reset[..], &goaway[..]].concat();
        assert_eq!(meter.last_words(), Some(words));
        meter.received(b"\0", 0);
        assert_eq!(meter.last_words(), None, "within a frame");
        let mut meter = begun();
        meter.received(&frame(HEADERS, END_STREAM, 4), 0);
        assert_eq!(meter.last_words(), None, "within a head");
        for number in 0..1000_u32 {
            let mut head = frame(HEADERS, END_HEADERS, 0);
            head.truncate(5);
            head.extend(number.to_be_bytes());
            meter.received(&head, 0);
        }
        assert_eq!(meter.unfinished.len(), MOST_UNFINISHED);
    }

    #[test]
    fn the_head_of_a_request_is_under_way_until_its_last_byte() {
        let mut meter = begun();
        let last = frame(CONTINUATION, END_HEADERS, 5);
        meter.received(&frame(HEADERS, 0, 10), 3);
        assert_eq!(meter.head_since(), Some(3));
        let (begin, end) = last.split_at(last.len() - 1);
        meter.received(begin, 4);
        assert_eq!(meter.head_since(), Some(3));
        meter.received(end, 5);
        assert_eq!(meter.head_since(), None);
        meter.received(&frame(HEADERS, END_HEADERS, 10), 6);
        assert_eq!(meter.head_since(), None);
    }
}
