//! The last messages of a topic, for readers of events that come again.
//!
//! Each message gets a number, in the order in which all mailboxes get it, and
//! each ring has a random name: an ID from another process, or from before the
//! ring was dropped, is known as foreign.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use netwasm_base::config::EventLimits;

/// Maximum of bytes in all rings of a service.
const MOST: usize = 64 << 20;

/// Bytes that an event takes besides its text.
const OVERHEAD: usize = 64;

/// Maximum length of the line with an event's ID, and of the empty one behind it.
const ID_LINE: usize = 48;

/// A message as an event.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Number of the message in its topic.
    pub(super) number: u64,
    /// The event with its ID. Its type is not there.
    pub(super) text: Bytes,
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
}

/// Where a reader begins.
#[derive(Debug)]
pub(super) struct RingBegin {
    /// ID of the message before the first that it gets.
    pub(super) id: String,
    /// Messages that it has missed.
    pub(super) missed: Vec<Bytes>,
    /// Number of the last message so far.
    pub(super) last: u64,
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
    pub(super) fn add(&self, mut lines: String, send: impl FnOnce(Event)) {
        let mut state = self.state();
        state.last += 1;
        // Writing to memory cannot fail.
        let _ = write!(lines, "id: {:x}-{}\n\n", self.epoch, state.last);
        let event = Event {
            number: state.last,
            text: lines.into(),
        };
        self.keep(&mut state, event.clone());
        send(event);
    }

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
                return;
            };
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
        let from = match seen {
            None => state.last,
            Some(id) => match self.number(id) {
                Some(number) if (oldest - 1..=state.last).contains(&number) => number,
                _ => oldest - 1,
            },
        };
        let missed = state.events.iter().filter(|it| it.number > from);
        RingBegin {
            id: format!("{:x}-{from}", self.epoch),
            missed: missed.map(|it| it.text.clone()).collect(),
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
            (begin.id, missed)
        };
        assert_eq!(missed(None), (id(&ring, 5), vec![]));
        assert_eq!(missed(Some(&id(&ring, 5))), (id(&ring, 5), vec![]));
        assert_eq!(missed(Some(&id(&ring, 4))), (id(&ring, 4), vec![5]));
        let all = (id(&ring, 2), vec![3, 4, 5]);
        for seen in [
            &*id(&ring, 2),
            &id(&ring, 1),
            &id(&ring, 6),
            "1-4",
            "4",
            "x",
        ] {
            assert_eq!(missed(Some(seen)), all, "{seen}");
        }
        let last = ring.begin(Some(id(&ring, 4).as_bytes()));
        let text = format!("data: 5\nid: {}\n\n", id(&ring, 5));
        assert_eq!(last.missed, [text]);
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
        ring.add(lines(&"x".repeat(1000)), drop);
        assert!(ring.begin(Some(b"foreign")).missed.is_empty());
        let total = Arc::clone(&ring.total);
        ring.add(lines("small"), drop);
        drop(ring);
        assert_eq!(total.load(Ordering::Relaxed), 0);
    }
}
