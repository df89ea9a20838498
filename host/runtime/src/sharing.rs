//! The host functions of the state that a service's instances share, for both
//! kinds of guests.

use std::sync::Arc;

use netwasm_base::error::ConnectionError;
use netwasm_base::shared_state::{Rate, SharedState};
use wasmtime::component::HasData;

use crate::bindings::netwasm::net::shared::{Bucket, Host, Value};
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::convert::called;
use crate::local::Env;

/// The shared state, as an instance of the service sees it.
pub(crate) struct Sharing<'a>(pub(crate) &'a Arc<Env>);

impl HasData for Sharing<'static> {
    type Data<'a> = Sharing<'a>;
}

impl<'a> Sharing<'a> {
    fn state(&self) -> &'a SharedState {
        &self.0.net.counters.shared
    }

    /// Returns the room, in bytes.
    fn most(&self) -> usize {
        self.0.net.limits.max_shared
    }

    /// Converts a failure. The log is told once that there is no room.
    fn failed(&self, error: ConnectionError) -> WitError {
        if matches!(error, ConnectionError::LimitExceeded(_)) && self.state().is_news_of_values() {
            tracing::warn!(
                guest = %self.0.net.guest,
                "values that instances share fill their half of {} bytes: more are refused until \
                 some expire or are removed (--max-shared)",
                self.most()
            );
        }
        called(error)
    }

    fn take_from(
        &self,
        key: &[u8],
        rate: f64,
        burst: u32,
        count: u32,
    ) -> Result<Bucket, ConnectionError> {
        let rate = Rate::new(rate, burst)?;
        let taken = self.state().take(key, rate, count, self.most())?;
        if taken.displaces && self.state().is_news_of_buckets() {
            tracing::warn!(
                guest = %self.0.net.guest,
                "token buckets fill their half of {} bytes: those that are nearly full again are \
                 forgotten (--max-shared)",
                self.most()
            );
        }
        Ok(Bucket {
            taken: taken.is_taken,
            left: taken.left,
            wait: taken.wait,
        })
    }
}

impl Host for Sharing<'_> {
    fn take(
        &mut self,
        key: Vec<u8>,
        rate: f64,
        burst: u32,
        count: u32,
    ) -> wasmtime::Result<Result<Bucket, WitError>> {
        Ok(self.take_from(&key, rate, burst, count).map_err(called))
    }

    fn get(&mut self, key: Vec<u8>) -> wasmtime::Result<Option<Value>> {
        let found = self.state().get(&key);
        Ok(found.map(|it| Value {
            data: it.data,
            version: it.version,
        }))
    }

    fn set(
        &mut self,
        key: Vec<u8>,
        data: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<u64, WitError>> {
        let set = self.state().set(&key, &data, ttl, self.most());
        Ok(set.map_err(|error| self.failed(error)))
    }

    fn compare_and_swap(
        &mut self,
        key: Vec<u8>,
        version: Option<u64>,
        data: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<Option<u64>, WitError>> {
        let state = self.state();
        let swapped = state.compare_and_swap(&key, version, &data, ttl, self.most());
        Ok(swapped.map_err(|error| self.failed(error)))
    }

    fn add(
        &mut self,
        key: Vec<u8>,
        more: i64,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<i64, WitError>> {
        let sum = self.state().add(&key, more, ttl, self.most());
        Ok(sum.map_err(|error| self.failed(error)))
    }

    fn touch(&mut self, key: Vec<u8>, ttl: Option<u64>) -> wasmtime::Result<bool> {
        Ok(self.state().touch(&key, ttl))
    }

    fn remove(&mut self, key: Vec<u8>, version: Option<u64>) -> wasmtime::Result<bool> {
        Ok(self.state().remove(&key, version))
    }
}
