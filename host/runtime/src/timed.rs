//! The time in guests, for metrics.

use std::time::Instant;

use netwasm_base::meter::Measure;
use netwasm_net::thread::Thread;

/// A turn of a guest that is timed, unless nobody asks for metrics: two readings
/// of the clock are some 1 % of a small event.
#[derive(Clone, Copy, Debug)]
#[must_use = "a turn is counted by `end`"]
pub(crate) struct Timed(Option<Instant>);

impl Timed {
    /// Begins a turn.
    #[inline]
    pub(crate) fn begin(thread: &Thread) -> Self {
        Self(thread.env.times_guests.then(Instant::now))
    }

    /// Counts the turn, which has ended.
    #[inline]
    pub(crate) fn end(self, thread: &Thread) {
        if let Self(Some(begun)) = self {
            let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            thread.meter.add(Measure::GuestTurns, 1);
            thread.meter.add(Measure::GuestNanoseconds, took);
        }
    }
}
