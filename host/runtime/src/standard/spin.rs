//! Interfaces of Spin 2 that are like standard ones: `fermyon:spin/variables` is
//! `wasi:config`, `fermyon:spin/key-value` is `wasi:keyvalue`. Components that were
//! made with its SDK then run as they are.

use netwasm_base::policy::Denied;
use netwasm_keyvalue::{Bucket, Error, Value};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use super::{Guest, Reply, drop_handle, reply};

/// `error` of `variables`.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the type has to have the cases of the interface")]
pub(crate) enum VariableFailure {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

/// `error` of `key-value`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
pub(crate) enum SpinFailure {
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Error> for SpinFailure {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

pub(crate) type Handle = Resource<Bucket>;
type Replied<T, A> = wasmtime::Result<Reply<T, (Result<A, SpinFailure>,)>>;

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.instance("fermyon:spin/variables@2.0.0")?.func_wrap(
        "get",
        |store: StoreContextMut<'_, T>, (name,): (String,)| Ok((variable(store.data(), &name),)),
    )?;
    let mut stores = linker.instance("fermyon:spin/key-value@2.0.0")?;
    stores.resource(
        "store",
        ResourceType::host::<Bucket>(),
        drop_handle::<T, Bucket>,
    )?;
    T::define(&mut stores, "[static]store.open", open)?;
    T::define(&mut stores, "[method]store.get", get)?;
    T::define(&mut stores, "[method]store.set", set)?;
    T::define(&mut stores, "[method]store.delete", delete)?;
    T::define(&mut stores, "[method]store.exists", exists)?;
    T::define(&mut stores, "[method]store.get-keys", get_keys)
}

/// Returns what the interface says of an outcome.
fn told<T, A>(_: &mut T, outcome: Result<A, Error>) -> wasmtime::Result<(Result<A, SpinFailure>,)> {
    Ok((outcome.map_err(Into::into),))
}

/// Returns the value of a variable.
pub(crate) fn variable<T: Guest>(state: &T, name: &str) -> Result<String, VariableFailure> {
    let value = state.env().config.get(name).cloned();
    value.ok_or_else(|| {
        let text = format!("there is no variable '{name}' (--config-var)");
        VariableFailure::Undefined(text)
    })
}

fn bucket<T: Guest>(state: &mut T, handle: &Handle) -> wasmtime::Result<Bucket> {
    Ok(state.table().get(handle)?.clone())
}

fn open<T: Guest>(state: &mut T, (name,): (String,)) -> Replied<T, Handle> {
    Ok(Reply::Now((opened(state, &name)?,)))
}

/// Opens a bucket, if that is allowed.
///
/// # Errors
/// Fails if the instance holds too many handles.
pub(crate) fn opened<T: Guest>(
    state: &mut T,
    name: &str,
) -> wasmtime::Result<Result<Handle, SpinFailure>> {
    let Some(bucket) = state.buckets().bucket(name).cloned() else {
        state.env().net.deny(&Denied::bucket(name));
        return Ok(Err(SpinFailure::AccessDenied));
    };
    if bucket.is_remote() && !T::WAITS {
        let text = "a handler of events cannot wait for a server".to_owned();
        return Ok(Err(SpinFailure::Other(text)));
    }
    Ok(Ok(state.table().push(bucket)?))
}

fn get<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, Option<Value>> {
    let answer = bucket(state, &handle)?.get(key);
    reply(state, answer, told)
}

fn set<T: Guest>(state: &mut T, (handle, key, value): (Handle, String, Vec<u8>)) -> Replied<T, ()> {
    let answer = bucket(state, &handle)?.set(key, value);
    reply(state, answer, told)
}

fn delete<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, ()> {
    let answer = bucket(state, &handle)?.delete(key);
    reply(state, answer, told)
}

fn exists<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, bool> {
    let answer = bucket(state, &handle)?.exists(key);
    reply(state, answer, told)
}

fn get_keys<T: Guest>(state: &mut T, (handle,): (Handle,)) -> Replied<T, Vec<String>> {
    let answer = bucket(state, &handle)?.keys();
    reply(state, answer, told)
}
