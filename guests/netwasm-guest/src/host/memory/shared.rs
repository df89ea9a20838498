//! Shared state of a test, with the rules of the real host.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::now;
use crate::shared::{Taken, Value};
use crate::time::nanoseconds;
use crate::{ErrorKind, Result};

/// Rounding of a number of tokens.
const ROUNDING: f64 = 1e-6;

/// Longest key and longest value, in bytes.
const LONGEST: (usize, usize) = (256, 64 << 10);

#[derive(Default)]
struct State {
    /// Tokens of each bucket, and when it had so many.
    buckets: HashMap<Vec<u8>, (f64, u64)>,
    /// Values, and when they expire.
    values: HashMap<Vec<u8>, (Value, Option<u64>)>,
    versions: u64,
    is_full: bool,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Forgets everything.
pub(super) fn reset() {
    STATE.take();
}

/// Refuses new and longer values from now on, or takes them again.
pub(crate) fn set_full(is_full: bool) {
    STATE.with_borrow_mut(|state| state.is_full = is_full);
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no more than the burst, which is whole, and not negative"
)]
pub(crate) fn take(key: &[u8], rate: f64, burst: u32, count: u32) -> Result<Taken> {
    let is_rate = rate > 0.0 && rate.is_finite() && burst > 0;
    if key.len() > LONGEST.0 || !is_rate || count > burst {
        return Err(ErrorKind::InvalidArgument.into());
    }
    let (most, count, now) = (f64::from(burst), f64::from(count), now());
    STATE.with_borrow_mut(|state| {
        let (tokens, at) = state.buckets.get(key).copied().unwrap_or((most, now));
        let since = Duration::from_nanos(now - at).as_secs_f64();
        let tokens = (tokens + since * rate).min(most);
        let is_taken = tokens + ROUNDING >= count;
        let left = match is_taken {
            true => (tokens - count).max(0.0),
            false => tokens,
        };
        state.buckets.insert(key.to_vec(), (left, now));
        let missing = count - left;
        let wait = match missing > ROUNDING {
            true => Duration::try_from_secs_f64((missing - ROUNDING / 2.0) / rate),
            false => Ok(Duration::ZERO),
        };
        Ok(Taken {
            is_taken,
            left: (left + ROUNDING) as u32,
            wait: wait.unwrap_or(Duration::MAX),
        })
    })
}

impl State {
    fn get(&self, key: &[u8]) -> Option<&Value> {
        let (value, end) = self.values.get(key)?;
        end.is_none_or(|end| end > now()).then_some(value)
    }

    fn set(&mut self, key: &[u8], data: &[u8], ttl: Option<Duration>) -> Result<u64> {
        if key.len() > LONGEST.0 || data.len() > LONGEST.1 {
            return Err(ErrorKind::InvalidArgument.into());
        }
        let fits = self.get(key).is_some_and(|it| it.data.len() >= data.len());
        if self.is_full && !fits {
            return Err(ErrorKind::LimitExceeded.into());
        }
        self.versions += 1;
        let value = Value {
            data: data.to_vec(),
            version: self.versions,
        };
        self.values.insert(key.to_vec(), (value, end(ttl)));
        Ok(self.versions)
    }
}

fn end(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| now().saturating_add(nanoseconds(ttl)))
}

pub(crate) fn get(key: &[u8]) -> Option<Value> {
    STATE.with_borrow(|state| state.get(key).cloned())
}

pub(crate) fn set(key: &[u8], data: &[u8], ttl: Option<Duration>) -> Result<u64> {
    STATE.with_borrow_mut(|state| state.set(key, data, ttl))
}

pub(crate) fn compare_and_swap(
    key: &[u8],
    version: Option<u64>,
    data: &[u8],
    ttl: Option<Duration>,
) -> Result<Option<u64>> {
    STATE.with_borrow_mut(|state| match state.get(key).map(|it| it.version) {
        found if found == version => state.set(key, data, ttl).map(Some),
        _ => Ok(None),
    })
}

pub(crate) fn add(key: &[u8], more: i64, ttl: Option<Duration>) -> Result<i64> {
    STATE.with_borrow_mut(|state| {
        let Some(value) = state.get(key) else {
            return state.set(key, &more.to_le_bytes(), ttl).map(|_| more);
        };
        let sum = value.number().ok_or(ErrorKind::InvalidState)?;
        let sum = sum.saturating_add(more);
        state.versions += 1;
        let version = state.versions;
        if let Some((value, _)) = state.values.get_mut(key) {
            value.data = sum.to_le_bytes().to_vec();
            value.version = version;
        }
        Ok(sum)
    })
}

pub(crate) fn touch(key: &[u8], ttl: Option<Duration>) -> bool {
    STATE.with_borrow_mut(|state| {
        let is_there = state.get(key).is_some();
        if let Some((_, its_end)) = state.values.get_mut(key).filter(|_| is_there) {
            *its_end = end(ttl);
        }
        is_there
    })
}

pub(crate) fn remove(key: &[u8], version: Option<u64>) -> bool {
    STATE.with_borrow_mut(|state| {
        let found = state.get(key).map(|it| it.version);
        let is_meant = found.is_some() && (version.is_none() || version == found);
        is_meant && state.values.remove(key).is_some()
    })
}
