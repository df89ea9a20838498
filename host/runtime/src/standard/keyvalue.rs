//! `wasi:keyvalue`: the buckets of `--keyvalue`, in the two drafts that are in
//! use. They differ in the types of a cursor and of a counter, in the result of
//! `get-many`, and in compare-and-swap, which only the later one has.

use netwasm_base::policy::Denied;
use netwasm_keyvalue::{Bucket, Count, Error, Swap, Value};
use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, ComponentType, Linker, Lower, Resource, ResourceType};

use super::{Guest, Reply, drop_handle, reply};

/// Versions that are linked.
const DRAFT: &str = "0.2.0-draft";
const DRAFT2: &str = "0.2.0-draft2";

/// Largest value of a compare-and-swap in bytes: the host keeps it as long as the
/// guest has the handle.
const MAX_SWAPPED: usize = 64 << 10;

type Handle = Resource<Bucket>;

/// `error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum StoreFailure {
    #[component(name = "no-such-store")]
    #[expect(
        dead_code,
        reason = "a bucket that is not there is one that is not allowed"
    )]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<Error> for StoreFailure {
    fn from(error: Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// `key-response`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct KeyResponse<C> {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<C>,
}

/// `cas`.
struct Cas {
    bucket: Bucket,
    key: String,
    value: Option<Value>,
}

/// `cas-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CasFailure {
    #[component(name = "store-error")]
    Store(StoreFailure),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

type Told<T> = (Result<T, StoreFailure>,);
type Replied<T, A> = wasmtime::Result<Reply<T, Told<A>>>;

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for version in [DRAFT, DRAFT2] {
        let mut store = linker.instance(&format!("wasi:keyvalue/store@{version}"))?;
        store.resource(
            "bucket",
            ResourceType::host::<Bucket>(),
            drop_handle::<T, Bucket>,
        )?;
        T::define(&mut store, "open", open)?;
        T::define(&mut store, "[method]bucket.get", get)?;
        T::define(&mut store, "[method]bucket.set", set)?;
        T::define(&mut store, "[method]bucket.delete", delete)?;
        T::define(&mut store, "[method]bucket.exists", exists)?;
        let mut batch = linker.instance(&format!("wasi:keyvalue/batch@{version}"))?;
        T::define(&mut batch, "set-many", set_many)?;
        T::define(&mut batch, "delete-many", delete_many)?;
    }
    let name = |interface, version| format!("wasi:keyvalue/{interface}@{version}");
    let mut store = linker.instance(&name("store", DRAFT))?;
    T::define(&mut store, "[method]bucket.list-keys", list_by_number)?;
    let mut store = linker.instance(&name("store", DRAFT2))?;
    T::define(&mut store, "[method]bucket.list-keys", list_by_text)?;
    let mut batch = linker.instance(&name("batch", DRAFT))?;
    T::define(&mut batch, "get-many", get_pairs)?;
    let mut batch = linker.instance(&name("batch", DRAFT2))?;
    T::define(&mut batch, "get-many", get_options)?;
    let mut atomics = linker.instance(&name("atomics", DRAFT))?;
    T::define(&mut atomics, "increment", increment_unsigned)?;
    let mut atomics = linker.instance(&name("atomics", DRAFT2))?;
    T::define(&mut atomics, "increment", increment_signed)?;
    atomics.resource("cas", ResourceType::host::<Cas>(), drop_handle::<T, Cas>)?;
    T::define(&mut atomics, "[static]cas.new", new_cas)?;
    T::define(&mut atomics, "[method]cas.current", current)?;
    T::define(&mut atomics, "swap", swap)
}

/// Links `get-many` of the later draft as it was until August 2026, if that is
/// what the component imports: its result was that of the first draft, under the
/// same version.
pub(super) fn suit<T: Guest>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    let name = format!("wasi:keyvalue/batch@{DRAFT2}");
    if !imports_pairs(component, &name) {
        return Ok(());
    }
    linker.allow_shadowing(true);
    let linked = T::define(&mut linker.instance(&name)?, "get-many", get_pairs);
    linker.allow_shadowing(false);
    linked
}

/// True if the elements that `get-many` of an interface returns are options.
fn imports_pairs(component: &Component, name: &str) -> bool {
    let engine = component.engine();
    let ty = component.component_type();
    let mut imports = ty.imports(engine);
    let found = imports.find(|(import, _)| *import == name);
    let Some(ComponentItem::ComponentInstance(interface)) = found.map(|(_, item)| item.ty) else {
        return false;
    };
    let mut functions = interface.exports(engine);
    let found = functions.find(|(function, _)| *function == "get-many");
    let Some(ComponentItem::ComponentFunc(function)) = found.map(|(_, item)| item.ty) else {
        return false;
    };
    let Some(Type::Result(result)) = function.results().next() else {
        return false;
    };
    let Some(Type::List(list)) = result.ok() else {
        return false;
    };
    matches!(list.ty(), Type::Option(_))
}

fn open<T: Guest>(state: &mut T, (name,): (String,)) -> Replied<T, Handle> {
    let Some(bucket) = state.buckets().bucket(&name).cloned() else {
        let net = &state.env().net;
        net.deny(&Denied::bucket(&name));
        return Ok(Reply::Now((Err(StoreFailure::AccessDenied),)));
    };
    if bucket.is_remote() && !T::WAITS {
        let text = "a handler of events cannot wait for a server: take a bucket in memory or in a \
                    file, or make it a handler of wasi:http or of streams";
        return Ok(Reply::Now((Err(StoreFailure::Other(text.to_owned())),)));
    }
    let handle = state.table().push(bucket)?;
    Ok(Reply::Now((Ok(handle),)))
}

fn bucket<T: Guest>(state: &mut T, handle: &Handle) -> wasmtime::Result<Bucket> {
    Ok(state.table().get(handle)?.clone())
}

/// Returns what the interface says of an outcome.
fn told<T, A, B>(
    convert: impl FnOnce(A) -> B + Send + 'static,
) -> impl FnOnce(&mut T, Result<A, Error>) -> wasmtime::Result<Told<B>> {
    |_, outcome| Ok((outcome.map(convert).map_err(Into::into),))
}

fn same<A>(value: A) -> A {
    value
}

fn get<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, Option<Value>> {
    let answer = bucket(state, &handle)?.get(key);
    reply(state, answer, told(same))
}

fn set<T: Guest>(state: &mut T, (handle, key, value): (Handle, String, Vec<u8>)) -> Replied<T, ()> {
    let answer = bucket(state, &handle)?.set(key, value);
    reply(state, answer, told(same))
}

fn delete<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, ()> {
    let answer = bucket(state, &handle)?.delete(key);
    reply(state, answer, told(same))
}

fn exists<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, bool> {
    let answer = bucket(state, &handle)?.exists(key);
    reply(state, answer, told(same))
}

fn list_by_number<T: Guest>(
    state: &mut T,
    (handle, cursor): (Handle, Option<u64>),
) -> Replied<T, KeyResponse<u64>> {
    let answer = bucket(state, &handle)?.list(cursor.unwrap_or(0));
    reply(
        state,
        answer,
        told(|page: netwasm_keyvalue::Page| KeyResponse {
            keys: page.keys,
            cursor: page.next,
        }),
    )
}

fn list_by_text<T: Guest>(
    state: &mut T,
    (handle, cursor): (Handle, Option<String>),
) -> Replied<T, KeyResponse<String>> {
    let bucket = bucket(state, &handle)?;
    let from = match cursor.map(|text| text.parse()) {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => {
            let text = "the cursor is not one that list-keys returned".to_owned();
            return Ok(Reply::Now((Err(StoreFailure::Other(text)),)));
        }
    };
    reply(
        state,
        bucket.list(from),
        told(|page: netwasm_keyvalue::Page| KeyResponse {
            keys: page.keys,
            cursor: page.next.map(|next| next.to_string()),
        }),
    )
}

fn get_pairs<T: Guest>(
    state: &mut T,
    (handle, keys): (Handle, Vec<String>),
) -> Replied<T, Vec<Option<(String, Value)>>> {
    let answer = bucket(state, &handle)?.get_many(keys.clone());
    let pair = |(key, value): (String, Option<Value>)| Some((key, value?));
    let pairs = move |values: Vec<_>| keys.into_iter().zip(values).map(pair).collect();
    reply(state, answer, told(pairs))
}

fn get_options<T: Guest>(
    state: &mut T,
    (handle, keys): (Handle, Vec<String>),
) -> Replied<T, Vec<(String, Option<Value>)>> {
    let answer = bucket(state, &handle)?.get_many(keys.clone());
    let pairs = move |values: Vec<_>| keys.into_iter().zip(values).collect();
    reply(state, answer, told(pairs))
}

fn set_many<T: Guest>(
    state: &mut T,
    (handle, pairs): (Handle, Vec<(String, Vec<u8>)>),
) -> Replied<T, ()> {
    let writes = pairs.into_iter().map(|(key, value)| (key, Some(value)));
    let answer = bucket(state, &handle)?.write(writes.collect());
    reply(state, answer, told(same))
}

fn delete_many<T: Guest>(state: &mut T, (handle, keys): (Handle, Vec<String>)) -> Replied<T, ()> {
    let writes = keys.into_iter().map(|key| (key, None));
    let answer = bucket(state, &handle)?.write(writes.collect());
    reply(state, answer, told(same))
}

fn increment_unsigned<T: Guest>(
    state: &mut T,
    (handle, key, by): (Handle, String, u64),
) -> Replied<T, u64> {
    let answer = bucket(state, &handle)?.increment(key, by.into(), Count::Unsigned);
    // The sum is within the range that was asked for.
    reply(state, answer, told(|sum| u64::try_from(sum).unwrap_or(0)))
}

fn increment_signed<T: Guest>(
    state: &mut T,
    (handle, key, by): (Handle, String, i64),
) -> Replied<T, i64> {
    let answer = bucket(state, &handle)?.increment(key, by.into(), Count::Signed);
    reply(state, answer, told(|sum| i64::try_from(sum).unwrap_or(0)))
}

fn new_cas<T: Guest>(state: &mut T, (handle, key): (Handle, String)) -> Replied<T, Resource<Cas>> {
    let bucket = bucket(state, &handle)?;
    let answer = bucket.get(key.clone());
    reply(state, answer, move |state: &mut T, outcome| {
        let kept = outcome.map_err(StoreFailure::from).and_then(small);
        Ok((match kept {
            Ok(value) => Ok(state.table().push(Cas { bucket, key, value })?),
            Err(failure) => Err(failure),
        },))
    })
}

fn current<T: Guest>(state: &mut T, (handle,): (Resource<Cas>,)) -> Replied<T, Option<Value>> {
    let value = state.table().get(&handle)?.value.clone();
    Ok(Reply::Now((Ok(value),)))
}

fn swap<T: Guest>(
    state: &mut T,
    (handle, value): (Resource<Cas>, Vec<u8>),
) -> wasmtime::Result<Reply<T, (Result<(), CasFailure>,)>> {
    let cas = state.table().delete(handle)?;
    let Cas {
        bucket,
        key,
        value: expected,
    } = cas;
    let answer = bucket.swap(key.clone(), expected, value);
    reply(state, answer, move |state: &mut T, outcome| {
        let now = match outcome {
            Ok(Swap::Done) => return Ok((Ok(()),)),
            Ok(Swap::Differs(now)) => small(now),
            Err(error) => Err(error.into()),
        };
        Ok((Err(match now {
            Ok(value) => CasFailure::Failed(state.table().push(Cas { bucket, key, value })?),
            Err(failure) => CasFailure::Store(failure),
        }),))
    })
}

/// Checks that a value may be kept.
fn small(value: Option<Value>) -> Result<Option<Value>, StoreFailure> {
    match value.as_ref().is_some_and(|it| it.len() > MAX_SWAPPED) {
        true => Err(StoreFailure::Other(
            "compare-and-swap takes values of 64 KiB at most".to_owned(),
        )),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use netwasm_base::config::Limits;

    use super::*;
    use crate::concurrent::link;
    use crate::engine;
    use crate::kind::Kind;

    #[test]
    fn both_forms_of_the_later_draft_are_met() {
        let engine = engine::engine(Kind::Streams, &Limits::default(), None);
        let engine = engine.expect("it is set up");
        for (result, is_met) in [
            ("(tuple string (option (list u8)))", true),
            ("(option (tuple string (list u8)))", true),
            ("(tuple string (list u8))", false),
        ] {
            let text = format!(
                "(component
                    (import \"wasi:keyvalue/store@0.2.0-draft2\" (instance $store
                        (export \"bucket\" (type (sub resource)))
                        (type $e (variant (case \"no-such-store\") (case \"access-denied\")
                            (case \"other\" string)))
                        (export \"error\" (type (eq $e)))))
                    (alias export $store \"bucket\" (type $bucket))
                    (alias export $store \"error\" (type $error))
                    (import \"wasi:keyvalue/batch@0.2.0-draft2\" (instance
                        (alias outer 1 $bucket (type $b))
                        (export \"bucket\" (type $own (eq $b)))
                        (alias outer 1 $error (type $e))
                        (export \"error\" (type $fault (eq $e)))
                        (export \"get-many\" (func (param \"bucket\" (borrow $own))
                            (param \"keys\" (list string))
                            (result (result (list {result}) (error $fault))))))))"
            );
            let component = Component::new(&engine, &text);
            let component = component.unwrap_or_else(|error| panic!("{text}: {error:#}"));
            let mut linker = link::linker(&engine, Kind::Streams).expect("it is set up");
            suit(&mut linker, &component).expect("it is linked");
            let linked = linker.instantiate_pre(&component);
            assert_eq!(linked.is_ok(), is_met, "{result}: {:?}", linked.err());
        }
    }
}
