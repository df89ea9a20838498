//! `read-via-stream` of `wasi:filesystem@0.3`, in place of wasmtime-wasi's. A
//! file is sent by sendfile(2) if the guest passes its stream to a connection
//! unread.

use std::any::{Any, TypeId};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use send_wrapper::SendWrapper;
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureReader, Linker, Resource, StreamProducer, StreamReader, StreamResult,
};
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p3::bindings::filesystem::types::ErrorCode;

use netwasm_net::health::Health;

use crate::concurrent::state::AsyncState;
use crate::concurrent::streams::NoStream;

/// Buffer size for a host reader of such a stream, in bytes.
const HOST_BUFFER: usize = 64 << 10;

type Told = Result<(), ErrorCode>;

/// Replaces the function in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap(
        "[method]descriptor.read-via-stream",
        |store: StoreContextMut<'_, AsyncState>, (file, offset): (Resource<Descriptor>, u64)| {
            Ok((read_via_stream(store, &file, offset)?,))
        },
    )
}

fn read_via_stream(
    mut store: StoreContextMut<'_, AsyncState>,
    descriptor: &Resource<Descriptor>,
    offset: u64,
) -> wasmtime::Result<(StreamReader<u8>, FutureReader<Told>)> {
    let file = match store.data().table.get(descriptor)? {
        Descriptor::File(file) => file.clone(),
        Descriptor::Dir(_) => {
            let told: wasmtime::Result<Told> = Ok(Err(ErrorCode::IsDirectory));
            return Ok((
                StreamReader::new(&mut store, NoStream)?,
                FutureReader::new(&mut store, async { told })?,
            ));
        }
    };
    let (failure, failed) = oneshot::channel();
    let reading = FileReading {
        health: store.data().health.clone(),
        readable: file.open_mode.contains(OpenMode::READ),
        rest: Some(Rest {
            file: file.file,
            offset,
            failure,
        }),
    };
    Ok((
        StreamReader::new(&mut store, reading)?,
        FutureReader::new(&mut store, told(failed))?,
    ))
}

async fn told(failed: oneshot::Receiver<ErrorCode>) -> wasmtime::Result<Told> {
    // Without a failure, the sender is dropped when all was read.
    Ok(failed.await.map_or(Ok(()), Err))
}

/// The content of a file, as a stream.
struct FileReading {
    health: SendWrapper<Rc<Health>>,
    /// True if the file was opened for reading.
    readable: bool,
    /// `None` after the end of the file.
    rest: Option<Rest>,
}

/// The part of a file that is yet to be read.
pub(crate) struct Rest {
    file: Arc<fs::File>,
    offset: u64,
    failure: oneshot::Sender<ErrorCode>,
}

impl Rest {
    /// Returns the file, the offset, and an object to be dropped when the rest
    /// was read.
    pub(crate) fn into_parts(self) -> (Arc<fs::File>, u64, Box<dyn Any>) {
        (self.file, self.offset, Box::new(self.failure))
    }

    /// Reads without waiting, as a regular file is read. Returns 0 at the end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }

    /// Tells the guest that the file cannot be read.
    pub(crate) fn fail(self, error: io::Error) {
        // The guest may have dropped the future.
        let _ = self.failure.send(error.into());
    }
}

impl<D> StreamProducer<D> for FileReading {
    type Item = u8;
    type Buffer = Option<u8>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        destination: Destination<'a, u8, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(Ok(StreamResult::Dropped));
        };
        let mut destination = destination.as_direct(store, HOST_BUFFER);
        let buffer = destination.remaining();
        if buffer.is_empty() {
            // A file is always ready.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        match rest.read(buffer) {
            Ok(count @ 1..) => {
                destination.mark_written(count);
                self.health.moved();
                return Poll::Ready(Ok(StreamResult::Completed));
            }
            Ok(0) => self.rest = None,
            Err(error) => {
                if let Some(rest) = self.rest.take() {
                    rest.fail(error);
                }
            }
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }

    fn try_into(mut me: Pin<Box<Self>>, ty: TypeId) -> Result<Box<dyn Any>, Pin<Box<Self>>> {
        // sendfile(2) is for regular files.
        let can_send = |rest: &Rest| rest.file.metadata().is_ok_and(|it| it.is_file());
        if ty != TypeId::of::<Rest>() || !me.readable || !me.rest.as_ref().is_some_and(can_send) {
            return Err(me);
        }
        match me.rest.take() {
            Some(rest) => Ok(Box::new(rest)),
            None => Err(me),
        }
    }
}
