//! Interfaces of Spin 4, whose functions are async: `spin:variables` and
//! `spin:key-value`, over the same values and buckets as those of Spin 2.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use netwasm_keyvalue::{Answer, Bucket};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, Destination, FutureReader, Linker, ResourceType, StreamProducer, StreamReader,
    StreamResult, VecBuffer,
};

use crate::concurrent::bucket_calls::{BucketCalls, Kept, size_of_keys};
use crate::concurrent::state::{AsyncState, drop_handle};
use crate::standard::spin::{Handle, SpinFailure, opened, variable};

type Outcome<T> = Result<T, SpinFailure>;
type Listed = (StreamReader<String>, FutureReader<Outcome<()>>);

/// Most keys that a reader of the host gets at once.
const PIECE: usize = 1000;

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
        drop_handle::<Bucket>,
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
            let size = key.len().saturating_add(value.len());
            let answer = ask(accessor, &handle, |bucket| bucket.set(key, value));
            // The value is the host's already, so the call may not wait to be counted.
            let answer = answer.map(|asked| asked.keeping(size));
            Box::pin(async move {
                let (answer, _kept) = match answer? {
                    Ok(kept) => kept,
                    Err(refused) => return Ok((Err(refused),)),
                };
                Ok((settled(answer).await,))
            })
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
                let asked = answer?;
                let calls = Arc::clone(&asked.calls);
                let keys = settled(asked).await.and_then(|keys| Keys::of(keys, &calls));
                Ok((accessor.with(|store| told(store, keys))?,))
            })
        },
    )
}

/// A question to a bucket, under way.
struct Asked<T> {
    answer: Answer<T>,
    calls: Arc<BucketCalls>,
}

impl<T> Asked<T> {
    /// Counts bytes that it keeps until it is answered.
    ///
    /// # Errors
    /// Fails if calls of the instance keep too many.
    fn keeping(self, bytes: usize) -> Outcome<(Self, Option<Kept>)> {
        let kept = match &self.answer {
            Answer::Now(_) => None,
            Answer::Later(_) => Some(self.calls.keep(bytes).map_err(SpinFailure::Other)?),
        };
        Ok((self, kept))
    }
}

/// Asks the bucket of a handle.
fn ask<T>(
    accessor: &Accessor<AsyncState>,
    handle: &Handle,
    call: impl FnOnce(&Bucket) -> Answer<T>,
) -> wasmtime::Result<Asked<T>> {
    accessor.with(|mut store| {
        let state = store.data_mut();
        let calls = Arc::clone(state.bucket_calls());
        let answer = call(state.table.get(handle)?);
        Ok(Asked { answer, calls })
    })
}

/// Waits for an answer. The store's work begins once there is a place for it.
async fn settled<T>(asked: Asked<T>) -> Outcome<T> {
    let Asked { answer, calls } = asked;
    let outcome = match answer {
        Answer::Now(outcome) => outcome,
        Answer::Later(later) => {
            let _place = calls.place().await;
            later.await
        }
    };
    outcome.map_err(Into::into)
}

/// Keys that the guest has yet to read. They count as kept until then.
#[derive(Default)]
struct Keys {
    left: vec::IntoIter<String>,
    kept: Option<Kept>,
}

impl Keys {
    /// # Errors
    /// Fails if calls of the instance keep too many.
    fn of(keys: Vec<String>, calls: &BucketCalls) -> Outcome<Self> {
        let kept = calls.keep(size_of_keys(&keys));
        Ok(Self {
            kept: Some(kept.map_err(SpinFailure::Other)?),
            left: keys.into_iter(),
        })
    }
}

impl<D> StreamProducer<D> for Keys {
    type Item = String;
    type Buffer = VecBuffer<String>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, String, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Self { left, kept } = self.get_mut();
        // No more than are read now: what wasmtime keeps is not counted.
        let room = destination.remaining(store).unwrap_or(PIECE);
        let piece: Vec<String> = left.by_ref().take(room).collect();
        destination.set_buffer(piece.into());
        Poll::Ready(Ok(match left.len() {
            0 => {
                // The guest may keep its end.
                *kept = None;
                StreamResult::Dropped
            }
            _ => StreamResult::Completed,
        }))
    }
}

/// Returns keys as the interface does. With an error there are none.
fn told(
    mut store: impl wasmtime::AsContextMut<Data = AsyncState>,
    keys: Outcome<Keys>,
) -> wasmtime::Result<Listed> {
    let (keys, ended) = match keys {
        Ok(keys) => (keys, Ok(())),
        Err(error) => (Keys::default(), Err(error)),
    };
    let keys = StreamReader::new(&mut store, keys)?;
    let ended = FutureReader::new(&mut store, async move {
        Ok::<Outcome<()>, wasmtime::Error>(ended)
    })?;
    Ok((keys, ended))
}
