//! How the sending of a request or response ended, as `wasi:http@0.3` tells it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{FutureConsumer, FutureReader, Resource, Source};
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

/// Trailers of a body.
pub(super) type Trailers = Result<Option<Resource<FieldMap>>, ErrorCode>;

/// The outcome.
pub(super) type Sent = Result<(), ErrorCode>;

/// Returns the future that tells a guest the outcome. If it is not told, that is a
/// success.
pub(super) fn future<T: 'static>(
    store: StoreContextMut<'_, T>,
    heard: oneshot::Receiver<Sent>,
) -> wasmtime::Result<FutureReader<Sent>> {
    let heard = async move { Ok::<Sent, wasmtime::Error>(heard.await.unwrap_or(Ok(()))) };
    FutureReader::new(store, heard)
}

/// Passes the outcome on.
pub(super) struct Passing<F>(Option<F>);

impl<F: FnOnce(Sent) + Send + Unpin + 'static> Passing<F> {
    pub(super) fn to(tell: F) -> Self {
        Self(Some(tell))
    }
}

impl<T: 'static, F: FnOnce(Sent) + Send + Unpin + 'static> FutureConsumer<T> for Passing<F> {
    type Item = Sent;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, T>,
        mut source: Source<'_, Sent>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut outcome = None;
        source.read(store, &mut outcome)?;
        if let (Some(tell), Some(outcome)) = (self.0.take(), outcome) {
            tell(outcome);
        }
        Poll::Ready(Ok(()))
    }
}
