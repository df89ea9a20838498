//! A limit of lines per second, and a count of the others.

use std::time::{Duration, Instant};

/// A token bucket that counts what it rejects.
#[derive(Debug)]
pub struct Limiter {
    /// Sustained rate, in lines per second.
    rate: u32,
    /// Maximum credit, in the unit of `credit`.
    full: u64,
    /// Lines that may be written now, times [`Self::SCALE`].
    credit: u64,
    /// Time at which `credit` was last updated.
    at: Instant,
    /// Lines withheld since the last report.
    suppressed: u64,
    /// Time of the last report of withheld lines, or of the first line withheld
    /// since.
    told: Instant,
}

/// The answer of a [`Limiter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write the line.
    Write,
    /// Withhold the line.
    Suppress {
        /// True for the first line withheld since the last report.
        first: bool,
    },
}

impl Limiter {
    /// Credit of one line. Credit grows by the rate every microsecond.
    const SCALE: u64 = 1_000_000;
    /// Minimum time between two reports of withheld lines.
    pub(crate) const TELL: Duration = Duration::from_secs(1);

    /// Allows `rate` lines per second in the long run, and `burst` at once.
    pub fn new(now: Instant, rate: u32, burst: u32) -> Self {
        let full = u64::from(burst) * Self::SCALE;
        Self {
            rate,
            full,
            credit: full,
            at: now,
            suppressed: 0,
            told: now,
        }
    }

    /// Decides on a line.
    pub fn admit(&mut self, now: Instant) -> Verdict {
        let elapsed = now.saturating_duration_since(self.at).as_micros();
        let earned = u64::try_from(elapsed)
            .unwrap_or(u64::MAX)
            .saturating_mul(u64::from(self.rate));
        self.credit = self.credit.saturating_add(earned).min(self.full);
        self.at = now;

        if self.credit < Self::SCALE {
            let first = self.suppressed == 0;
            if first {
                self.told = now;
            }
            self.suppressed += 1;
            return Verdict::Suppress { first };
        }
        self.credit -= Self::SCALE;
        Verdict::Write
    }

    /// Returns the number of withheld lines to report now, if the last report
    /// was long enough ago.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.told) < Self::TELL {
            return None;
        }
        self.told = now;
        self.suppressed()
    }

    /// True if withheld lines have not been reported.
    pub fn owes(&self) -> bool {
        self.suppressed > 0
    }

    /// Takes the number of withheld lines that have not been reported.
    pub fn suppressed(&mut self) -> Option<u64> {
        let suppressed = std::mem::take(&mut self.suppressed);
        (suppressed > 0).then_some(suppressed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_recovers_and_tells_how_much_was_lost() {
        const RATE: u32 = 200;
        const BURST: u32 = 1000;
        let start = Instant::now();
        let mut limiter = Limiter::new(start, RATE, BURST);
        for _ in 0..BURST {
            assert_eq!(limiter.admit(start), Verdict::Write);
        }
        assert_eq!(limiter.admit(start), Verdict::Suppress { first: true });
        assert_eq!(limiter.admit(start), Verdict::Suppress { first: false });
        // A two-hundredth of a second earns a line.
        let soon = start + Duration::from_millis(5);
        assert_eq!(limiter.admit(soon), Verdict::Write);
        assert_eq!(limiter.admit(soon), Verdict::Suppress { first: false });
        assert_eq!(limiter.due(soon), None);
        let later = start + Limiter::TELL;
        assert_eq!(limiter.admit(later), Verdict::Write);
        assert_eq!(limiter.due(later), Some(3));
        assert_eq!(limiter.due(later + Limiter::TELL), None);
        // However long the silence, it earns one burst and no more.
        let next_day = start + Duration::from_secs(86_400);
        for _ in 0..BURST {
            assert_eq!(limiter.admit(next_day), Verdict::Write);
        }
        assert_eq!(limiter.admit(next_day), Verdict::Suppress { first: true });
        assert_eq!(limiter.suppressed(), Some(1));
    }
}
