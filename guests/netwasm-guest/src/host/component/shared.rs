//! Shared state of a component.

use std::time::Duration;

use crate::Result;
use crate::bindings::netwasm::net::shared;
use crate::shared::{Taken, Value};
use crate::time::nanoseconds;

pub(crate) fn take(key: &[u8], rate: f64, burst: u32, count: u32) -> Result<Taken> {
    let bucket = shared::take(key, rate, burst, count)?;
    Ok(Taken {
        is_taken: bucket.taken,
        left: bucket.left,
        wait: Duration::from_nanos(bucket.wait),
    })
}

pub(crate) fn get(key: &[u8]) -> Option<Value> {
    let shared::Value { data, version } = shared::get(key)?;
    Some(Value { data, version })
}

pub(crate) fn set(key: &[u8], data: &[u8], ttl: Option<Duration>) -> Result<u64> {
    Ok(shared::set(key, data, ttl.map(nanoseconds))?)
}

pub(crate) fn compare_and_swap(
    key: &[u8],
    version: Option<u64>,
    data: &[u8],
    ttl: Option<Duration>,
) -> Result<Option<u64>> {
    let ttl = ttl.map(nanoseconds);
    Ok(shared::compare_and_swap(key, version, data, ttl)?)
}

pub(crate) fn add(key: &[u8], more: i64, ttl: Option<Duration>) -> Result<i64> {
    Ok(shared::add(key, more, ttl.map(nanoseconds))?)
}

pub(crate) fn touch(key: &[u8], ttl: Option<Duration>) -> bool {
    shared::touch(key, ttl.map(nanoseconds))
}

pub(crate) fn remove(key: &[u8], version: Option<u64>) -> bool {
    shared::remove(key, version)
}
