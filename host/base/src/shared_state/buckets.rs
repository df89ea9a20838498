//! Token buckets.

use std::time::Duration;

use super::table::{Entry, Table, Use};
use crate::error::ConnectionError;

/// Rounding of a number of tokens, so that who waits for as long as was told gets
/// them.
const ROUNDING: f64 = 1e-6;

/// Rate and size of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens that it gains a second; more than 0.
    rate: f64,
    /// Tokens that it holds; more than 0.
    burst: f64,
}

impl Rate {
    /// Returns a rate of so many tokens a second, for a bucket that holds
    /// `burst`.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if one of them is not above 0, or the rate
    /// is infinite.
    pub fn new(rate: f64, burst: u32) -> Result<Self, ConnectionError> {
        match rate > 0.0 && rate.is_finite() && burst > 0 {
            true => Ok(Self {
                rate,
                burst: burst.into(),
            }),
            false => Err(ConnectionError::InvalidArgument),
        }
    }

    /// Returns the time for so many tokens, in nanoseconds, rounded up.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is too much is the largest number, and no time is negative"
    )]
    fn time_for(&self, tokens: f64) -> u64 {
        (tokens / self.rate * 1e9).ceil() as u64
    }
}

/// A bucket after tokens were taken, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// True if the tokens were there.
    pub is_taken: bool,
    /// Whole tokens that are left.
    pub left: u32,
    /// Nanoseconds until as many are there as were asked for; 0 if they are.
    pub wait: u64,
    /// True if a bucket that was not full had to be dropped for this one.
    pub displaces: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    /// Time at which it had so many.
    at: u64,
    /// Time at which it will be full: it ends then, being as good as none.
    full_at: u64,
}

impl Entry for Bucket {
    fn end(&self) -> u64 {
        self.full_at
    }
}

impl Bucket {
    fn full(rate: &Rate, now: u64) -> Self {
        Self {
            tokens: rate.burst,
            at: now,
            full_at: now,
        }
    }

    fn take(&mut self, rate: &Rate, count: u32, now: u64) -> Taken {
        if self.full_at <= now {
            *self = Self::full(rate, now);
        }
        // The clock is read before the lock is taken.
        let since = Duration::from_nanos(now.saturating_sub(self.at));
        let tokens = since.as_secs_f64().mul_add(rate.rate, self.tokens);
        let tokens = tokens.min(rate.burst);
        let count = f64::from(count);
        let is_taken = tokens + ROUNDING >= count;
        self.tokens = match is_taken {
            true => (tokens - count).max(0.0),
            false => tokens,
        };
        self.at = self.at.max(now);
        self.full_at = match self.tokens < rate.burst {
            true => self
                .at
                .saturating_add(rate.time_for(rate.burst - self.tokens)),
            false => self.at,
        };
        let missing = count - self.tokens;
        Taken {
            is_taken,
            left: whole(self.tokens),
            wait: match missing > ROUNDING {
                true => rate.time_for(missing - ROUNDING / 2.0),
                false => 0,
            },
            displaces: false,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is no more than the burst, which is whole, and not negative"
)]
fn whole(tokens: f64) -> u32 {
    (tokens + ROUNDING) as u32
}

/// The token buckets of a service.
#[derive(Debug, Default)]
pub(super) struct Buckets(Table<Bucket>);

impl Buckets {
    /// Takes tokens from a bucket, or none if there are too few.
    ///
    /// # Errors
    /// Fails with `InvalidArgument` if `count` is more than the burst.
    pub(super) fn take(
        &self,
        key: &[u8],
        rate: Rate,
        count: u32,
        now: u64,
        most: usize,
    ) -> Result<Taken, ConnectionError> {
        if f64::from(count) > rate.burst {
            return Err(ConnectionError::InvalidArgument);
        }
        let mut shard = self.0.lock(key);
        if let Some(bucket) = shard.get_mut(key) {
            return Ok(bucket.take(&rate, count, now));
        }
        let mut bucket = Bucket::full(&rate, now);
        let taken = bucket.take(&rate, count, now);
        if count == 0 {
            return Ok(taken);
        }
        // It is in any case: whoever is not kept has no limit.
        shard.put(key, bucket, now, usize::MAX);
        drop(shard);
        Ok(Taken {
            displaces: self.0.make_room(key, now, most) > 0,
            ..taken
        })
    }

    /// Returns the numbers of buckets.
    pub(super) fn in_use(&self) -> Use {
        self.0.in_use()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_state::table::OVERHEAD;

    const SECOND: u64 = 1_000_000_000;
    const ROOM: usize = 1 << 20;

    fn rate(rate: f64, burst: u32) -> Rate {
        Rate::new(rate, burst).expect("a rate")
    }

    /// Takes one token. Returns the tokens that are left, or the time to wait.
    fn take(buckets: &Buckets, key: &str, of: Rate, now: u64, most: usize) -> Result<u32, u64> {
        let taken = buckets.take(key.as_bytes(), of, 1, now, most);
        let taken = taken.expect("no error");
        match taken.is_taken {
            true => Ok(taken.left),
            false => Err(taken.wait),
        }
    }

    #[test]
    fn a_bucket_gains_its_rate_up_to_its_burst() {
        let buckets = Buckets::default();
        let of = rate(10.0, 3);
        for left in [2, 1, 0] {
            assert_eq!(take(&buckets, "a", of, 7, ROOM), Ok(left));
        }
        let wait = take(&buckets, "a", of, 7, ROOM).expect_err("it is empty");
        assert!((SECOND / 10 - 99..=SECOND / 10).contains(&wait), "{wait}");
        assert!(take(&buckets, "a", of, 7 + wait / 2, ROOM).is_err());
        assert_eq!(take(&buckets, "a", of, 7 + wait, ROOM), Ok(0));
        assert_eq!(take(&buckets, "b", of, 7, ROOM), Ok(2), "another key");
        let later = 7 + SECOND;
        assert_eq!(take(&buckets, "a", of, later, ROOM), Ok(2), "full");
        let whole = buckets.take(b"b", of, 3, SECOND, ROOM).expect("three");
        assert_eq!((whole.is_taken, whole.left), (true, 0));
        assert!(whole.wait > SECOND / 4, "{whole:?}");
        let two = buckets.take(b"b", of, 2, SECOND, ROOM).expect("no error");
        assert_eq!((two.is_taken, two.left), (false, 0));
    }

    #[test]
    fn all_that_was_promised_comes_whatever_the_rate() {
        for per_second in [1.0 / 3600.0, 0.3, 7.0, 1e3, 1e7, 3e8] {
            let buckets = Buckets::default();
            let of = rate(per_second, 1);
            let mut now = 1;
            let mut takes = 0;
            for _ in 0..100 {
                match take(&buckets, "a", of, now, ROOM) {
                    Ok(_) => takes += 1,
                    Err(wait) => now += wait,
                }
            }
            assert_eq!(takes, 50, "{per_second}");
            // A token takes no less than it has to.
            let least = 49.0 / per_second - 1e-6 / per_second;
            let took = Duration::from_nanos(now).as_secs_f64();
            assert!(took >= least, "{per_second}: {took} s");
        }
    }

    #[test]
    fn a_look_takes_nothing_and_makes_nothing() {
        let buckets = Buckets::default();
        let look = |now| buckets.take(b"a", rate(1.0, 5), 0, now, ROOM);
        assert_eq!(look(0).map(|it| (it.left, it.wait)), Ok((5, 0)));
        assert_eq!(buckets.in_use().entries, 0);
        assert_eq!(take(&buckets, "a", rate(1.0, 5), 0, ROOM), Ok(4));
        assert_eq!(look(0).map(|it| it.left), Ok(4));
    }

    #[test]
    fn another_rate_counts_from_now_on() {
        let buckets = Buckets::default();
        assert_eq!(take(&buckets, "a", rate(1.0, 10), 0, ROOM), Ok(9));
        assert_eq!(take(&buckets, "a", rate(1.0, 2), 0, ROOM), Ok(1));
        let soon = SECOND / 2;
        assert_eq!(take(&buckets, "a", rate(100.0, 200), soon, ROOM), Ok(50));
        // A full one is as good as none.
        assert_eq!(
            take(&buckets, "a", rate(1.0, 500), 9 * SECOND, ROOM),
            Ok(499)
        );
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        for (of, burst) in [
            (0.0, 1),
            (-1.0, 1),
            (f64::NAN, 1),
            (f64::INFINITY, 1),
            (1.0, 0),
        ] {
            assert!(Rate::new(of, burst).is_err(), "{of} {burst}");
        }
        let buckets = Buckets::default();
        let error = buckets.take(b"a", rate(1.0, 5), 6, 0, ROOM).err();
        assert_eq!(error, Some(ConnectionError::InvalidArgument));
        // As slow as it gets.
        let of = rate(f64::MIN_POSITIVE, 1);
        assert_eq!(take(&buckets, "a", of, 0, ROOM), Ok(0));
        assert_eq!(take(&buckets, "a", of, SECOND, ROOM), Err(u64::MAX));
    }

    #[test]
    fn many_new_clients_do_not_set_the_busy_ones_free() {
        let buckets = Buckets::default();
        let of = rate(1.0, 20);
        let most = 200 * (OVERHEAD + 8);
        for busy in 0..10 {
            let key = format!("busy {busy}");
            while take(&buckets, &key, of, 0, most).is_ok() {}
        }
        let mut displaced = 0;
        for new in 0..10_000 {
            let key = format!("{new:08}");
            let taken = buckets.take(key.as_bytes(), of, 1, 1, most);
            displaced += u32::from(taken.expect("no error").displaces);
            assert!(buckets.in_use().bytes <= most);
        }
        assert!(displaced > 9_000, "{displaced}");
        assert_eq!(buckets.in_use().lost, u64::from(displaced));
        let is_kept = |busy: &u8| {
            let key = format!("busy {busy}");
            take(&buckets, &key, of, 1, most).is_err()
        };
        assert_eq!((0..10).filter(is_kept).count(), 10);
    }

    #[test]
    fn full_buckets_are_dropped_at_no_loss() {
        let buckets = Buckets::default();
        let of = rate(1.0, 2);
        let mut now = 0;
        for new in 0..10_000 {
            now += SECOND / 10;
            let key = format!("{new:08}");
            assert_eq!(take(&buckets, &key, of, now, ROOM), Ok(1));
        }
        // Ten a second, each full after one.
        let in_use = buckets.in_use();
        assert!(in_use.entries < 1_000, "{in_use:?}");
        assert_eq!(in_use.lost, 0);
    }

    #[test]
    fn as_much_is_taken_by_many_threads_as_by_one() {
        let buckets = Buckets::default();
        let of = rate(1e-3, 1000);
        let taken = std::thread::scope(|scope| {
            let one = || {
                (0..1000)
                    .filter(|_| take(&buckets, "a", of, 0, ROOM).is_ok())
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            let counts = threads.into_iter().map(|it| it.join().expect("a count"));
            counts.sum::<usize>()
        });
        assert_eq!(taken, 1000);
    }
}
