//! The last messages of a topic, for readers of events that come again.
//!
//! Each message gets a number, in the order in which all mailboxes get it, and
//! each ring has a random name: an ID from another process, or from before the
//! ring was dropped, is known as foreign.
//!
//! A message for which there is no room has its number and its place, too: an event
//! that tells readers of a gap.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use netwasm_base::config::EventLimits;

/// Maximum of bytes in all rings of a service.
const MOST: usize = 64 << 20;

/// Type of the events that tell of messages that a reader does not get.
const GAP: &str = "gap";

/// Bytes that an event takes besides its text.
const OVERHEAD: usize = 64;

/// Maximum length of the line with an event's ID, and of the empty one behind it.
const ID_LINE: usize = 48;

/// Messages that a reader does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// So many.
    Of(u64),
    /// Any number, perhaps none.
    Unknown,
}

impl Gap {
    /// Returns the lines of an event that tells of it.
    pub(super) fn lines(self) -> String {
        match self {
            Self::Of(count) => format!("event: {GAP}\ndata: {count}\n"),
            Self::Unknown => format!("event: {GAP}\ndata: unknown\n"),
        }
    }

    /// Returns both as one.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Of(count), Self::Of(more)) => Self::Of(count + more),
            _ => Self::Unknown,
        }
    }
}

/// A message as an event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Number of the message in its topic.
    pub(super) number: u64,
    /// The event with its ID. Its type is not there.
    pub(super) text: Bytes,
    /// Gap of which it tells; `None` if it is a message.
    pub(super) gap: Option<Gap>,
}

/// The last messages of a topic.
#[derive(Debug)]
pub(super) struct Ring {
    /// Name of the ring in IDs.
    epoch: u64,
    pub(super) limits: EventLimits,
    /// Bytes in all rings of the service.
    total: Arc<AtomicUsize>,
    state: Mutex<RingState>,
}

#[derive(Debug, Default)]
struct RingState {
    /// Number of the last message.
    last: u64,
    events: VecDeque<Event>,
    bytes: usize,
    /// Number of the last event that told of [`Gap::Unknown`] and is not kept; 0 if
    /// there is none.
    unknown: u64,
}

/// Where a reader begins.
#[derive(Debug)]
pub(super) struct RingBegin {
    /// ID of the message before the first that it gets.
    pub(super) id: String,
    /// Messages that it has missed and does not get, before those that it gets.
    pub(super) gap: Option<Gap>,
    /// Events that it has missed.
    pub(super) missed: Vec<Bytes>,
    /// Number of messages among these. The others tell of gaps.
    pub(super) messages: u64,
    /// Number of the last message so far.
    pub(super) last: u64,
}

impl RingState {
    /// Notes that an event is not kept.
    fn forget(&mut self, event: &Event) {
        if event.gap == Some(Gap::Unknown) {
            self.unknown = event.number;
        }
    }
}

impl Ring {
    pub(super) fn new(limits: &EventLimits, total: &Arc<AtomicUsize>) -> Self {
        Self {
            // Its keys are random.
            epoch: RandomState::new().build_hasher().finish(),
            limits: limits.clone(),
            total: Arc::clone(total),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, RingState> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers and keeps a message, whose lines [`lines`] has made. `send` gets it
    /// before there is another one.
    pub(super) fn add(&self, lines: String, send: impl FnOnce(Event)) {
        let mut state = self.state();
        state.last += 1;
        let event = self.event(state.last, lines, None);
        if event.text.len() + OVERHEAD <= self.limits.kept_size {
            self.keep(&mut state, event.clone());
        } else {
            let gap = self.gap_event(state.last, Gap::Of(1));
            self.keep(&mut state, gap);
        }
        send(event);
    }

    /// Numbers and keeps an event that tells of a gap, as [`Self::add`] does a message.
    pub(super) fn add_gap(&self, gap: Gap, send: impl FnOnce(Event)) {
        let mut state = self.state();
        state.last += 1;
        let event = self.gap_event(state.last, gap);
        self.keep(&mut state, event.clone());
        send(event);
    }

    /// Returns the event of a number.
    fn event(&self, number: u64, mut lines: String, gap: Option<Gap>) -> Event {
        // Writing to memory cannot fail.
        let _ = write!(lines, "id: {:x}-{number}\n\n", self.epoch);
        Event {
            number,
            text: lines.into(),
            gap,
        }
    }

    /// Returns the event of a number, which tells of a gap.
    fn gap_event(&self, number: u64, gap: Gap) -> Event {
        self.event(number, gap.lines(), Some(gap))
    }

    /// Keeps an event. Those that are kept have numbers without a hole.
    fn keep(&self, state: &mut RingState, event: Event) {
        let size = event.text.len() + OVERHEAD;
        let fits = |state: &RingState| {
            state.events.len() < self.limits.kept
                && state.bytes + size <= self.limits.kept_size
                && self.total.load(Ordering::Relaxed) + size <= MOST
        };
        while !fits(state) {
            let Some(oldest) = state.events.pop_front() else {
                // It has no room at all.
                state.forget(&event);
                return;
            };
            state.forget(&oldest);
            let freed = oldest.text.len() + OVERHEAD;
            state.bytes -= freed;
            self.total.fetch_sub(freed, Ordering::Relaxed);
        }
        state.bytes += size;
        self.total.fetch_add(size, Ordering::Relaxed);
        state.events.push_back(event);
    }

    /// Returns where a reader begins that has got the message of this ID, the last
    /// one that it has seen. With an ID that is not known, it has missed all.
    pub(super) fn begin(&self, seen: Option<&[u8]>) -> RingBegin {
        let state = self.state();
        let oldest = state.events.front().map_or(state.last + 1, |it| it.number);
        let gap_after = |number: u64| match state.unknown > number {
            true => Gap::Unknown,
            false => Gap::Of(oldest - 1 - number),
        };
        let (from, gap) = match seen {
            None => (state.last, None),
            Some(id) => match self.number(id) {
                Some(number) if (oldest - 1..=state.last).contains(&number) => (number, None),
                Some(number) if number < oldest => (oldest - 1, Some(gap_after(number))),
                _ => (oldest - 1, Some(Gap::Unknown)),
            },
        };
        let missed = state.events.iter().filter(|it| it.number > from);
        let messages = missed.clone().filter(|it| it.gap.is_none()).count() as u64;
        RingBegin {
            id: format!("{:x}-{from}", self.epoch),
            gap,
            missed: missed.map(|it| it.text.clone()).collect(),
            messages,
            last: state.last,
        }
    }

    /// Returns the number in an ID of this ring.
    fn number(&self, id: &[u8]) -> Option<u64> {
        let (epoch, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
        let is_own = u64::from_str_radix(epoch, 16) == Ok(self.epoch);
        number.parse().ok().filter(|_| is_own)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let bytes = self.state().bytes;
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Returns a text as the data of an event: WHATWG HTML, section 9.2.6. Each of its
/// lines, which end by CR, LF or both, is one of the data.
pub(super) fn lines(text: &str) -> String {
    let ends = memchr::memchr2_iter(b'\r', b'\n', text.as_bytes()).count();
    let count = 1 + ends - memchr::memmem::find_iter(text.as_bytes(), b"\r\n").count();
    let mut lines = String::with_capacity(text.len() + count * 7 + ID_LINE);
    let mut rest = text;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', rest.as_bytes()) {
        let (line, after) = rest.split_at(end);
        line_of_data(line, &mut lines);
        rest = after
            .strip_prefix("\r\n")
            .or_else(|| after.get(1..))
            .unwrap_or_default();
    }
    line_of_data(rest, &mut lines);
    lines
}

fn line_of_data(line: &str, lines: &mut String) {
    lines.push_str("data: ");
    lines.push_str(line);
    lines.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(kept: usize, kept_size: usize) -> Ring {
        let limits = EventLimits {
            kept,
            kept_size,
            ..EventLimits::default()
        };
        Ring::new(&limits, &Arc::default())
    }

    fn id(ring: &Ring, number: u64) -> String {
        format!("{:x}-{number}", ring.epoch)
    }

    #[test]
    fn each_line_of_a_text_is_one_of_the_data() {
        for (text, expected) in [
            ("", "data: \n"),
            ("one", "data: one\n"),
            ("a\nb\r\nc\rd", "data: a\ndata: b\ndata: c\ndata: d\n"),
            ("a\n\r\n", "data: a\ndata: \ndata: \n"),
            ("ä\r\rid: 7", "data: ä\ndata: \ndata: id: 7\n"),
        ] {
            assert_eq!(lines(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_reader_gets_what_it_has_missed_and_all_if_its_place_is_not_known() {
        let ring = ring(3, 10_000);
        let begin = ring.begin(None);
        assert_eq!((&*begin.id, begin.last), (&*id(&ring, 0), 0));
        for number in 1..=5 {
            ring.add(lines(&number.to_string()), |event| {
                assert_eq!(event.number, number);
            });
        }
        let missed = |seen: Option<&str>| {
            let begin = ring.begin(seen.map(str::as_bytes));
            assert_eq!(begin.last, 5);
            let number = |text: &Bytes| text.get(6).map_or(0, |digit| digit - b'0');
            let missed: Vec<u8> = begin.missed.iter().map(number).collect();
            (begin.id, begin.gap, missed)
        };
        assert_eq!(missed(None), (id(&ring, 5), None, vec![]));
        assert_eq!(missed(Some(&id(&ring, 5))), (id(&ring, 5), None, vec![]));
        assert_eq!(missed(Some(&id(&ring, 4))), (id(&ring, 4), None, vec![5]));
        for (seen, gap) in [
            (&*id(&ring, 2), None),
            (&*id(&ring, 1), Some(Gap::Of(1))),
            (&*id(&ring, 0), Some(Gap::Of(2))),
            (&*id(&ring, 6), Some(Gap::Unknown)),
            ("1-4", Some(Gap::Unknown)),
            ("4", Some(Gap::Unknown)),
            ("x", Some(Gap::Unknown)),
        ] {
            let all = (id(&ring, 2), gap, vec![3, 4, 5]);
            assert_eq!(missed(Some(seen)), all, "{seen}");
        }
        let last = ring.begin(Some(id(&ring, 4).as_bytes()));
        let text = format!("data: 5\nid: {}\n\n", id(&ring, 5));
        assert_eq!(last.missed, [text]);
    }

    #[test]
    fn a_message_that_nobody_gets_has_its_place_among_those_that_are_kept() {
        let (kept, none) = (ring(2, 10_000), ring(0, 10_000));
        for ring in [&kept, &none] {
            ring.add(lines("one"), drop);
            ring.add_gap(Gap::Of(1), |event| assert_eq!(event.number, 2));
        }
        let begin = kept.begin(Some(id(&kept, 0).as_bytes()));
        let told = format!("event: gap\ndata: 1\nid: {}\n\n", id(&kept, 2));
        assert_eq!((begin.gap, begin.last, begin.messages), (None, 2, 1));
        assert_eq!(begin.missed.last(), Some(&told.into()));
        let begin = none.begin(Some(id(&none, 0).as_bytes()));
        assert_eq!((&*begin.id, begin.gap), (&*id(&none, 2), Some(Gap::Of(2))));
        assert!(begin.missed.is_empty());
    }

    #[test]
    fn a_gap_that_nobody_has_counted_is_not_counted_when_it_is_no_longer_kept() {
        let (ring, none) = (ring(2, 10_000), ring(0, 10_000));
        let gap = |number| ring.begin(Some(id(&ring, number).as_bytes())).gap;
        ring.add(lines("one"), drop);
        ring.add_gap(Gap::Unknown, drop);
        assert_eq!(gap(0), None);
        ring.add(lines("three"), drop);
        assert_eq!(gap(0), Some(Gap::Of(1)));
        ring.add(lines("four"), drop);
        let gaps = [0, 1, 2].map(gap);
        assert_eq!(gaps, [Some(Gap::Unknown), Some(Gap::Unknown), None]);
        // Another one, which is kept, does not hide it.
        ring.add_gap(Gap::Unknown, drop);
        let gaps = [0, 1, 2].map(gap);
        let three = Some(Gap::Of(1));
        assert_eq!(gaps, [Some(Gap::Unknown), Some(Gap::Unknown), three]);
        none.add_gap(Gap::Unknown, drop);
        let begin = none.begin(Some(id(&none, 0).as_bytes()));
        assert_eq!(begin.gap, Some(Gap::Unknown));
    }

    #[test]
    fn a_ring_is_bounded_in_bytes() {
        let ring = ring(100, 1000);
        for _ in 0..100 {
            ring.add(lines(&"x".repeat(100)), drop);
            assert!(ring.state().bytes <= 1000);
        }
        assert_eq!(ring.total.load(Ordering::Relaxed), ring.state().bytes);
        assert!(ring.state().events.len() >= 4);
        let last = ring.state().last;
        ring.add(lines(&"x".repeat(1000)), drop);
        assert!(ring.state().events.len() >= 4);
        let begin = ring.begin(Some(id(&ring, last).as_bytes()));
        let told = format!("event: gap\ndata: 1\nid: {}\n\n", id(&ring, last + 1));
        assert_eq!((begin.gap, begin.missed), (None, vec![told.into()]));
        let total = Arc::clone(&ring.total);
        ring.add(lines("small"), drop);
        drop(ring);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
