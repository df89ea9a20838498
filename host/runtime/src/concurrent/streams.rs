//! The host's ends of a guest's streams. They work on a transport directly,
//! without a task or a buffer between.
//!
//! A stream that the host made and the guest passes back unread is recovered
//! ([`StreamReader::try_into`]), and its data never reaches the guest.

use std::any::{Any, TypeId};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use send_wrapper::SendWrapper;
use tokio::sync::oneshot;
use wasmtime::component::{
    ComponentType, Destination, FutureReader, Lift, Lower, Source, StreamConsumer, StreamProducer,
    StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};

use wasmtime_wasi::p3::bindings::sockets::types as sockets;

use netwasm_base::error::ConnectionError;
use netwasm_net::stream::{Outcome, Stream};

use crate::bindings::netwasm::net::types;
use crate::concurrent::files::Rest;
use crate::convert::{lost, socket_error};

/// Buffer size for a host reader of such a stream, in bytes. Host code recovers
/// the stream instead of reading it.
const HOST_BUFFER: usize = 64 << 10;

/// How a direction ended, as the guest is told.
type Told<E> = Result<(), E>;

/// A connection's `receive`. Without a connection, or the second time, the
/// guest gets `invalid-state`.
///
/// # Errors
/// Fails if the instance holds too many handles.
pub(crate) fn begin_receive<E: FromConnection>(
    mut store: impl AsContextMut,
    stream: Option<Rc<Stream>>,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Told<E>>)> {
    let begun = stream.and_then(|stream| Some((stream.begin_receiving()?, stream)));
    Ok(match begun {
        Some((outcome, stream)) => (
            StreamReader::new(&mut store, Receiving(Some(SendWrapper::new(stream))))?,
            FutureReader::new(&mut store, told(outcome))?,
        ),
        None => (
            StreamReader::new(&mut store, NoStream)?,
            FutureReader::new(&mut store, async { invalid_state() })?,
        ),
    })
}

/// A connection's `send`, under the rules of [`begin_receive`].
///
/// # Errors
/// Fails if the instance holds too many handles.
pub(crate) fn begin_send<E: FromConnection>(
    mut store: impl AsContextMut,
    stream: Option<Rc<Stream>>,
    mut data: StreamReader<u8>,
) -> wasmtime::Result<FutureReader<Told<E>>> {
    let begun = stream.and_then(|stream| Some((stream.begin_sending()?, stream)));
    let Some((outcome, stream)) = begun else {
        data.close(&mut store)?;
        return FutureReader::new(&mut store, async { invalid_state() });
    };
    if stream.transport().has_failed() {
        data.close(&mut store)?;
        stream.fail_sending(&ConnectionError::Broken);
    } else {
        send(&mut store, stream, data)?;
    }
    FutureReader::new(&mut store, told(outcome))
}

/// An interface's error.
pub(crate) trait FromConnection:
    ComponentType + Lower + Lift + Send + Sync + 'static
{
    /// Converts the host's error.
    fn from_connection(error: ConnectionError) -> Self;
}

impl FromConnection for types::Error {
    fn from_connection(error: ConnectionError) -> Self {
        lost(&error)
    }
}

impl FromConnection for sockets::ErrorCode {
    fn from_connection(error: ConnectionError) -> Self {
        socket_error(error)
    }
}

fn invalid_state<E: FromConnection>() -> wasmtime::Result<Told<E>> {
    Ok(Err(E::from_connection(ConnectionError::InvalidState)))
}

async fn told<E: FromConnection>(outcome: oneshot::Receiver<Outcome>) -> wasmtime::Result<Told<E>> {
    // The outcome is always sent before the connection is dropped.
    let outcome = outcome.await.unwrap_or(Err(ConnectionError::Aborted));
    Ok(outcome.map_err(E::from_connection))
}

/// Sends the data of a stream.
fn send<S: AsContextMut>(
    mut store: S,
    to: Rc<Stream>,
    data: StreamReader<u8>,
) -> wasmtime::Result<()> {
    let data = match data.try_into::<Recovered>(&mut store) {
        Ok(Recovered(from)) => {
            from.feed(&to);
            return Ok(());
        }
        Err(data) => data,
    };
    let data = match data.try_into::<Rest>(&mut store) {
        Ok(rest) => {
            let (file, offset, reading) = rest.into_parts();
            to.send_file(&file, offset, reading);
            return Ok(());
        }
        Err(data) => data,
    };
    data.pipe(&mut store, DataSink(Some(SendWrapper::new(to))))
}

/// Data that arrives on a connection. `None` after its end.
struct Receiving(Option<SendWrapper<Rc<Stream>>>);

/// The connection of a [`Receiving`] that was passed back.
struct Recovered(Rc<Stream>);

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.drop_receiving();
        }
    }
}

impl<D> StreamProducer<D> for Receiving {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some(stream) = &self.0 else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let received = if destination.remaining(store.as_context_mut()) == Some(0) {
            // The guest only asks whether data is ready.
            stream.transport().poll_receivable(cx).map(|()| None)
        } else {
            let mut destination = destination.as_direct(store, HOST_BUFFER);
            let received = stream
                .transport()
                .poll_receive_into(cx, destination.remaining());
            if let Poll::Ready(Ok(count)) = received {
                destination.mark_written(count);
                stream.moved();
            }
            received.map(Some)
        };
        let outcome = match received {
            Poll::Pending if finish => {
                stream.transport().cancel_receive();
                return Poll::Ready(Ok(StreamResult::Cancelled));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None | Some(Ok(1..))) => {
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Poll::Ready(Some(outcome)) => outcome.map(|_| ()),
        };
        stream.end_receiving(outcome);
        self.0 = None;
        Poll::Ready(Ok(StreamResult::Dropped))
    }

    fn try_into(mut me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        if ty != TypeId::of::<Recovered>() {
            return Err(me);
        }
        match me.0.take() {
            Some(stream) => Ok(Box::new(Recovered(stream.take()))),
            None => Err(me),
        }
    }
}

/// Destination of data to be sent. `None` once sending is over.
struct DataSink(Option<SendWrapper<Rc<Stream>>>);

impl Drop for DataSink {
    fn drop(&mut self) {
        if let Some(stream) = self.0.take() {
            stream.finish_sending();
        }
    }
}

impl<D> StreamConsumer<D> for DataSink {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some(stream) = &self.0 else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let mut source = source.as_direct(store);
        match stream.transport().poll_send(cx, source.remaining()) {
            Poll::Pending if finish => {
                stream.transport().cancel_send();
                Poll::Ready(Ok(StreamResult::Cancelled))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(count)) => {
                source.mark_read(count);
                if count > 0 {
                    stream.moved();
                }
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Poll::Ready(Err(reason)) => {
                stream.fail_sending(&reason);
                self.0 = None;
                Poll::Ready(Ok(StreamResult::Dropped))
            }
        }
    }
}

/// A stream at its end.
pub(crate) struct NoStream;

impl<D> StreamProducer<D> for NoStream {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        _: Destination<'a, u8, Self::Buffer>,
        _: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}
