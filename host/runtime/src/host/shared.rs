use crate::bindings::netwasm::net::shared::{Bucket, Host, Value};
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::sharing::Sharing;
use crate::state::State;

impl State {
    fn sharing(&self) -> Sharing<'_> {
        Sharing(&self.local.env)
    }
}

impl Host for State {
    fn take(
        &mut self,
        key: Vec<u8>,
        rate: f64,
        burst: u32,
        count: u32,
    ) -> wasmtime::Result<Result<Bucket, WitError>> {
        self.sharing().take(key, rate, burst, count)
    }

    fn get(&mut self, key: Vec<u8>) -> wasmtime::Result<Option<Value>> {
        self.sharing().get(key)
    }

    fn set(
        &mut self,
        key: Vec<u8>,
        data: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<u64, WitError>> {
        self.sharing().set(key, data, ttl)
    }

    fn compare_and_swap(
        &mut self,
        key: Vec<u8>,
        version: Option<u64>,
        data: Vec<u8>,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<Option<u64>, WitError>> {
        self.sharing().compare_and_swap(key, version, data, ttl)
    }

    fn add(
        &mut self,
        key: Vec<u8>,
        more: i64,
        ttl: Option<u64>,
    ) -> wasmtime::Result<Result<i64, WitError>> {
        self.sharing().add(key, more, ttl)
    }

    fn touch(&mut self, key: Vec<u8>, ttl: Option<u64>) -> wasmtime::Result<bool> {
        self.sharing().touch(key, ttl)
    }

    fn remove(&mut self, key: Vec<u8>, version: Option<u64>) -> wasmtime::Result<bool> {
        self.sharing().remove(key, version)
    }
}
