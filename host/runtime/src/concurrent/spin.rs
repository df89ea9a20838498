//! Interfaces of Spin 4, whose functions are async: `spin:variables` and
//! `spin:key-value`, over the same values and buckets as those of Spin 2.

use netwasm_keyvalue::{Answer, Bucket};
use wasmtime::component::{Accessor, FutureReader, Linker, Resource, ResourceType, StreamReader};

use crate::concurrent::state::{AsyncState, Store};
use crate::standard::spin::{Handle, StoreFailure, opened, variable};

type Outcome<T> = Result<T, StoreFailure>;
type Keys = (StreamReader<String>, FutureReader<Outcome<()>>);

/// Links both.
///
/// # Errors
/// Fails if one is linked already.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    let mut variables = linker.instance("spin:variables/variables@3.0.0")?;
    variables.func_wrap_concurrent(
        "get",
        |accessor: &Accessor<AsyncState>, (name,): (String,)| {
            let value = accessor.with(|mut store| variable(store.data_mut(), &name));
            Box::pin(async move { Ok((value,)) })
        },
    )?;
    let mut stores = linker.instance("spin:key-value/key-value@3.0.0")?;
    stores.resource(
        "store",
        ResourceType::host::<Bucket>(),
        |mut store: Store<'_>, handle| {
            let handle = Resource::<Bucket>::new_own(handle);
            store.data_mut().table.delete(handle)?;
            Ok(())
        },
    )?;
    stores.func_wrap_concurrent(
        "[static]store.open",
        |accessor: &Accessor<AsyncState>, (name,): (String,)| {
            let opened = accessor.with(|mut store| opened(store.data_mut(), &name));
            Box::pin(async move { Ok((opened?,)) })
        },
    )?;
    stores.func_wrap_concurrent(
        "[method]store.get",
        |accessor: &Accessor<AsyncState>, (handle, key): (Handle, String)| {
            let answer = ask(accessor, &handle, |bucket| bucket.get(key));
            Box::pin(async move { Ok((settled(answer?).await,)) })
        },
    )?;
    stores.func_wrap_concurrent(
        "[method]store.set",
        |accessor: &Accessor<AsyncState>, (handle, key, value): (Handle, String, Vec<u8>)| {
            let answer = ask(accessor, &handle, |bucket| bucket.set(key, value));
            Box::pin(async move { Ok((settled(answer?).await,)) })
        },
    )?;
    stores.func_wrap_concurrent(
        "[method]store.delete",
        |accessor: &Accessor<AsyncState>, (handle, key): (Handle, String)| {
            let answer = ask(accessor, &handle, |bucket| bucket.delete(key));
            Box::pin(async move { Ok((settled(answer?).await,)) })
        },
    )?;
    stores.func_wrap_concurrent(
        "[method]store.exists",
        |accessor: &Accessor<AsyncState>, (handle, key): (Handle, String)| {
            let answer = ask(accessor, &handle, |bucket| bucket.exists(key));
            Box::pin(async move { Ok((settled(answer?).await,)) })
        },
    )?;
    stores.func_wrap_concurrent(
        "[method]store.get-keys",
        |accessor: &Accessor<AsyncState>, (handle,): (Handle,)| {
            let answer = ask(accessor, &handle, Bucket::keys);
            Box::pin(async move {
                let keys = settled(answer?).await;
                Ok((accessor.with(|store| told(store, keys))?,))
            })
        },
    )
}

/// Asks the bucket of a handle.
fn ask<T>(
    accessor: &Accessor<AsyncState>,
    handle: &Handle,
    call: impl FnOnce(&Bucket) -> Answer<T>,
) -> wasmtime::Result<Answer<T>> {
    accessor.with(|mut store| Ok(call(store.data_mut().table.get(handle)?)))
}

async fn settled<T>(answer: Answer<T>) -> Outcome<T> {
    let outcome = match answer {
        Answer::Now(outcome) => outcome,
        Answer::Later(later) => later.await,
    };
    outcome.map_err(Into::into)
}

/// Returns keys as the interface does. With an error there are none.
fn told(
    mut store: impl wasmtime::AsContextMut<Data = AsyncState>,
    keys: Outcome<Vec<String>>,
) -> wasmtime::Result<Keys> {
    let (keys, ended) = match keys {
        Ok(keys) => (keys, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let keys = StreamReader::new(&mut store, keys)?;
    let ended = FutureReader::new(&mut store, async move {
        Ok::<Outcome<()>, wasmtime::Error>(ended)
    })?;
    Ok((keys, ended))
}
