//! Health of a server: what requests and checks have told of it. Plain state;
//! all workers share it, and none waits.
//!
//! - Requests that fail, `max-fails` within `fail-timeout`, leave the server out
//!   for as long again.
//! - Checks put it down after `fall` failures in a row, and up after `rise`
//!   successes, as HAProxy counts them. At first it is up, and the first check
//!   that fails puts it down.
//! - Its own `Retry-After` has it avoided for that time.
//! - Whichever of these has ended, its share then grows for `slow-start`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use netwasm_base::config::GroupSettings;

use crate::upstream::clock::{Clock, milliseconds};

/// A whole share.
pub(super) const WHOLE: u32 = 1000;

/// Smallest share, so that a server that begins slowly begins.
const SMALLEST: u32 = WHOLE / 100;

/// State of a server. Times are those of a [`Clock`]; 0 is none.
#[derive(Debug)]
pub(super) struct ServerHealth {
    most_fails: u32,
    /// `fail-timeout` in milliseconds.
    pub(super) window: u64,
    fails: AtomicU32,
    /// Time of the first of these failures.
    since: AtomicU64,
    /// Time up to which the server is left out.
    left_out: AtomicU64,
    /// `rise` and `fall`, if there are checks.
    thresholds: Option<(u32, u32)>,
    /// HAProxy's count: up from `rise` on, at most `rise + fall - 1`. Written
    /// by the one task that checks.
    count: AtomicU32,
    /// Longest time for which the server is avoided, in milliseconds.
    most_avoided: u64,
    /// Time up to which the server is avoided, by its own word.
    avoided: AtomicU64,
    /// `slow-start` in milliseconds.
    slow_start: u64,
    /// Time at which the server came back.
    back: AtomicU64,
}

/// Standing of a server; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Well,
    /// It has asked for a pause.
    Avoided,
    /// It has failed of late.
    LeftOut,
    /// Its checks fail.
    Down,
}

/// A change of a server's standing by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Up,
    Down,
}

impl ServerHealth {
    pub(super) fn new(settings: &GroupSettings) -> Self {
        let of = |time: Option<Duration>| time.map_or(0, milliseconds);
        let check = settings.check.as_ref();
        let thresholds = check.map(|check| (check.rise.get(), check.fall.get()));
        Self {
            most_fails: settings.max_fails,
            window: milliseconds(settings.fail_timeout),
            fails: AtomicU32::new(0),
            since: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            thresholds,
            count: AtomicU32::new(thresholds.map_or(0, |(rise, _)| rise)),
            most_avoided: of(settings.retry_after),
            avoided: AtomicU64::new(0),
            slow_start: of(settings.slow_start),
            back: AtomicU64::new(0),
        }
    }

    /// Returns the health of a server that is never judged.
    pub(super) fn unjudged() -> Self {
        Self::new(&GroupSettings {
            max_fails: 0,
            ..GroupSettings::default()
        })
    }

    pub(super) fn standing(&self, clock: &Clock) -> Standing {
        let lasts = |until: &AtomicU64| match until.load(Ordering::Relaxed) {
            0 => false,
            until => clock.now() < until,
        };
        if self.is_down() {
            Standing::Down
        } else if lasts(&self.left_out) {
            Standing::LeftOut
        } else if lasts(&self.avoided) {
            Standing::Avoided
        } else {
            Standing::Well
        }
    }

    /// True if its checks fail.
    pub(super) fn is_down(&self) -> bool {
        let rise = self.thresholds.map(|(rise, _)| rise);
        rise.is_some_and(|rise| self.count.load(Ordering::Relaxed) < rise)
    }

    /// Returns the part of its weight that a server has: [`WHOLE`], or less for
    /// a time after it has come back.
    pub(super) fn share(&self, clock: &Clock) -> u32 {
        if self.slow_start == 0 {
            return WHOLE;
        }
        let all = [&self.left_out, &self.avoided, &self.back];
        let times = all.map(|time| time.load(Ordering::Relaxed));
        if times == [0; 3] {
            return WHOLE;
        }
        let now = clock.now();
        let back = times.into_iter().filter(|time| *time <= now).max();
        let elapsed = now - back.unwrap_or(0);
        if back.is_none_or(|back| back == 0) || elapsed >= self.slow_start {
            return WHOLE;
        }
        let share = u64::from(WHOLE) * elapsed / self.slow_start;
        u32::try_from(share).unwrap_or(WHOLE).max(SMALLEST)
    }

    /// Notes a failed request. Returns true if the server is left out from now
    /// on.
    pub(super) fn fails(&self, clock: &Clock) -> bool {
        if self.most_fails == 0 {
            return false;
        }
        let now = clock.now();
        let since = self.since.load(Ordering::Relaxed);
        if now.saturating_sub(since) > self.window {
            self.since.store(now, Ordering::Relaxed);
            self.fails.store(0, Ordering::Relaxed);
        }
        let fails = self.fails.fetch_add(1, Ordering::Relaxed) + 1;
        // After its time, one failure is enough, until a request succeeds.
        let was_left_out = self.left_out.load(Ordering::Relaxed) > 0;
        if fails < self.most_fails && !was_left_out {
            return false;
        }
        let until = now.saturating_add(self.window);
        let before = self.left_out.swap(until, Ordering::Relaxed);
        before <= now
    }

    /// Notes a response. Returns true if the server had been left out.
    pub(super) fn succeeds(&self) -> bool {
        // Stores are for the rare case, since all workers share these lines.
        if self.fails.load(Ordering::Relaxed) > 0 {
            self.fails.store(0, Ordering::Relaxed);
        }
        if self.left_out.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let until = self.left_out.swap(0, Ordering::Relaxed);
        self.back.fetch_max(until, Ordering::Relaxed);
        until > 0
    }

    /// Notes that the server asks for a pause. Returns the time for which it is
    /// avoided, if it is from now on.
    pub(super) fn asks_for_pause(&self, time: Duration, clock: &Clock) -> Option<Duration> {
        let time = milliseconds(time).min(self.most_avoided);
        if time == 0 {
            return None;
        }
        let now = clock.now();
        let until = now.saturating_add(time);
        let before = self.avoided.swap(until, Ordering::Relaxed);
        (before <= now).then(|| Duration::from_millis(time))
    }

    /// True if `Retry-After` is looked at.
    pub(super) fn heeds_pauses(&self) -> bool {
        self.most_avoided > 0
    }

    /// Notes a check's result.
    pub(super) fn checked(&self, succeeds: bool, clock: &Clock) -> Change {
        let Some((rise, fall)) = self.thresholds else {
            return Change::None;
        };
        let before = self.count.load(Ordering::Relaxed);
        let was_up = before >= rise;
        let count = match succeeds {
            true if before + 1 >= rise => rise + fall - 1,
            true => before + 1,
            false => Some(before.saturating_sub(1))
                .filter(|it| *it >= rise)
                .unwrap_or(0),
        };
        let is_up = count >= rise;
        if is_up && !was_up {
            // Earlier failures count no more.
            self.fails.store(0, Ordering::Relaxed);
            self.left_out.store(0, Ordering::Relaxed);
            self.back.store(clock.now(), Ordering::Relaxed);
        }
        self.count.store(count, Ordering::Relaxed);
        match (was_up, is_up) {
            (false, true) => Change::Up,
            (true, false) => Change::Down,
            _ => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use netwasm_base::config::UpstreamGroup;

    use super::*;

    fn health(settings: &str) -> ServerHealth {
        let group: UpstreamGroup = format!("g=a:1;{settings}").parse().expect(settings);
        ServerHealth::new(&group.settings)
    }

    fn standing(health: &ServerHealth, at: u64) -> Standing {
        health.standing(&Clock::at(at))
    }

    #[test]
    fn failures_leave_a_server_out_for_a_time() {
        let health = health("max-fails=2;fail-timeout=1s");
        assert!(!health.fails(&Clock::at(1000)));
        // The first is too old.
        assert!(!health.fails(&Clock::at(2001)));
        assert_eq!(standing(&health, 2001), Standing::Well);
        assert!(health.fails(&Clock::at(2500)));
        assert_eq!(standing(&health, 3499), Standing::LeftOut);
        assert_eq!(standing(&health, 3500), Standing::Well);
        // Until a request succeeds, each that fails leaves it out again.
        assert!(health.fails(&Clock::at(3501)));
        assert_eq!(standing(&health, 4500), Standing::LeftOut);
        assert!(health.succeeds());
        assert_eq!(standing(&health, 4500), Standing::Well);
        assert!(!health.succeeds());
        assert!(!health.fails(&Clock::at(4501)));
    }

    #[test]
    fn a_server_is_up_at_first_and_the_first_check_that_fails_puts_it_down() {
        let health = health("check=connect");
        assert_eq!(standing(&health, 1), Standing::Well);
        assert_eq!(health.checked(false, &Clock::at(2)), Change::Down);
        assert_eq!(standing(&health, 2), Standing::Down);
    }

    #[test]
    fn checks_count_in_a_row() {
        let health = health("check=connect;rise=2;fall=3");
        let checked = |results: &str| {
            let results = results.chars();
            let changes = results.map(|it| health.checked(it == '+', &Clock::at(1)));
            changes.collect::<Vec<_>>()
        };
        let none = Change::None;
        assert_eq!(checked("+"), [none]);
        assert_eq!(checked("--+--+"), [none; 6]);
        assert_eq!(checked("---"), [none, none, Change::Down]);
        assert_eq!(checked("-+-+-"), [none; 5]);
        assert!(health.is_down());
        assert_eq!(checked("++"), [none, Change::Up]);
        assert_eq!(checked("--+"), [none; 3]);
        assert_eq!(checked("---"), [none, none, Change::Down]);
    }

    #[test]
    fn a_check_that_succeeds_again_forgets_the_failures_of_requests() {
        let health = health("check=connect;rise=1;max-fails=1");
        health.fails(&Clock::at(5));
        health.checked(false, &Clock::at(6));
        assert_eq!(standing(&health, 7), Standing::Down);
        assert_eq!(health.checked(true, &Clock::at(8)), Change::Up);
        assert_eq!(standing(&health, 8), Standing::Well);
    }

    #[test]
    fn a_server_that_asks_for_a_pause_gets_one_within_bounds() {
        let health = health("retry-after=10s");
        let asks = |seconds, at| {
            let time = Duration::from_secs(seconds);
            health.asks_for_pause(time, &Clock::at(at))
        };
        assert_eq!(asks(0, 1), None);
        assert_eq!(asks(3, 1000), Some(Duration::from_secs(3)));
        // Those that were under way say so, too.
        assert_eq!(asks(3, 1001), None);
        assert_eq!(standing(&health, 4000), Standing::Avoided);
        assert_eq!(standing(&health, 4001), Standing::Well);
        assert_eq!(asks(86_400, 5000), Some(Duration::from_secs(10)));
        assert_eq!(standing(&health, 15_000), Standing::Well);
        let deaf = self::health("");
        let time = Duration::from_secs(5);
        assert_eq!(deaf.asks_for_pause(time, &Clock::at(1)), None);
    }

    #[test]
    fn the_share_of_a_server_that_came_back_grows() {
        let health = health("slow-start=10s;check=connect;rise=1;fall=1;max-fails=1");
        let share = |at| health.share(&Clock::at(at));
        assert_eq!(share(1), WHOLE, "at the start of the run it has its weight");
        health.checked(false, &Clock::at(1000));
        health.checked(true, &Clock::at(2000));
        assert_eq!([2000, 2001, 7000, 11_900].map(share), [10, 10, 500, 990]);
        assert_eq!(share(12_000), WHOLE);
        // It has been left out from 20 to 30.
        health.fails(&Clock::at(20_000));
        assert_eq!([30_000, 31_000].map(share), [10, 100]);
        health.succeeds();
        assert_eq!([31_000, 40_000].map(share), [100, WHOLE]);
        let sudden = self::health("check=connect;rise=1");
        sudden.checked(false, &Clock::at(1));
        sudden.checked(true, &Clock::at(2));
        assert_eq!(sudden.share(&Clock::at(3)), WHOLE);
    }
}
