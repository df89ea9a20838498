//! `wasi:io` and `wasi:clocks/monotonic-clock`: streams that are always ready,
//! and timers that are due or not.

use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host as _;
use wasmtime_wasi::p2::bindings::sync::io::streams::StreamError as WitStreamError;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, IoError, StreamError, StreamResult};

use super::{MAX_TRANSFER, WasiHost, at_once, clocks, drop_handle, table};

/// A WASI pollable: a stream, always ready, or a timer.
#[derive(Clone, Copy)]
enum Pollable {
    Stream,
    Timer {
        /// `None` if later than the clock can express.
        due: Option<Instant>,
    },
}

impl Pollable {
    fn after(nanoseconds: u64) -> Self {
        Self::Timer {
            due: Instant::now().checked_add(Duration::from_nanos(nanoseconds)),
        }
    }

    fn is_ready(self) -> bool {
        match self {
            Self::Stream => true,
            Self::Timer { due } => due.is_some_and(|due| due <= Instant::now()),
        }
    }
}

pub(super) fn may_not_wait(function: &str) -> wasmtime::Error {
    wasmtime::format_err!(
        "a handler may not wait: wasi:io/poll.{function} on timers that are not due \
         (std::thread::sleep does that; netwasm:net/timers calls back instead)"
    )
}

pub(super) fn add_monotonic_clock<T: WasiHost>(
    l: &mut LinkerInstance<'_, T>,
) -> wasmtime::Result<()> {
    l.func_wrap("now", |mut store: StoreContextMut<'_, T>, (): ()| {
        Ok((clocks(store.data_mut()).now()?,))
    })?;
    l.func_wrap("resolution", |mut store: StoreContextMut<'_, T>, (): ()| {
        Ok((clocks(store.data_mut()).resolution()?,))
    })?;
    l.func_wrap(
        "subscribe-instant",
        |mut store: StoreContextMut<'_, T>, (when,): (u64,)| {
            let now = clocks(store.data_mut()).now()?;
            let timer = Pollable::after(when.saturating_sub(now));
            Ok((table(store.data_mut()).push(timer)?,))
        },
    )?;
    l.func_wrap(
        "subscribe-duration",
        |mut store: StoreContextMut<'_, T>, (duration,): (u64,)| {
            Ok((table(store.data_mut()).push(Pollable::after(duration))?,))
        },
    )
}

pub(super) fn add_poll<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Handle = Resource<Pollable>;

    l.resource(
        "pollable",
        ResourceType::host::<Pollable>(),
        drop_handle::<T, Pollable>,
    )?;
    l.func_wrap(
        "[method]pollable.ready",
        |mut store: StoreContextMut<'_, T>, (pollable,): (Handle,)| {
            Ok((table(store.data_mut()).get(&pollable)?.is_ready(),))
        },
    )?;
    l.func_wrap(
        "[method]pollable.block",
        |mut store: StoreContextMut<'_, T>, (pollable,): (Handle,)| {
            if table(store.data_mut()).get(&pollable)?.is_ready() {
                Ok(())
            } else {
                Err(may_not_wait("block"))
            }
        },
    )?;
    l.func_wrap(
        "poll",
        |mut store: StoreContextMut<'_, T>, (pollables,): (Vec<Handle>,)| {
            let table = table(store.data_mut());
            let mut ready = Vec::new();
            for (index, pollable) in (0..).zip(&pollables) {
                if table.get(pollable)?.is_ready() {
                    ready.push(index);
                }
            }
            if pollables.is_empty() {
                wasmtime::bail!("wasi:io/poll.poll of nothing");
            }
            if ready.is_empty() {
                return Err(may_not_wait("poll"));
            }
            let ready: (Vec<u32>,) = (ready,);
            Ok(ready)
        },
    )
}

pub(super) fn add_error<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    l.resource(
        "error",
        ResourceType::host::<IoError>(),
        drop_handle::<T, IoError>,
    )?;
    l.func_wrap(
        "[method]error.to-debug-string",
        |mut store: StoreContextMut<'_, T>, (error,): (Resource<IoError>,)| {
            Ok((format!("{:#}", table(store.data_mut()).get(&error)?),))
        },
    )
}

/// Converts a result to `result<_, stream-error>` for the guest.
fn stream_result<R>(
    table: &mut ResourceTable,
    result: StreamResult<R>,
) -> wasmtime::Result<(Result<R, WitStreamError>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(StreamError::Closed) => Err(WitStreamError::Closed),
        Err(StreamError::LastOperationFailed(error)) => {
            Err(WitStreamError::LastOperationFailed(table.push(error)?))
        }
        Err(StreamError::Trap(trap)) => return Err(trap),
    },))
}

/// Reads at once. For a file, that takes `blocking_read`: `read` would start a
/// thread to read while the guest waits.
pub(super) fn read(
    table: &mut ResourceTable,
    stream: &Resource<DynInputStream>,
    len: u64,
) -> StreamResult<Vec<u8>> {
    let stream = table.get_mut(stream)?;
    let len = usize::try_from(len).map_or(MAX_TRANSFER, |len| len.min(MAX_TRANSFER));
    let bytes = if len == 0 {
        // `blocking_read` takes a read of nothing for the end of the file.
        stream.read(0)?
    } else {
        at_once(stream.blocking_read(len)).map_err(StreamError::Trap)??
    };
    Ok(bytes.into())
}

/// Writes at once; see [`read`].
pub(super) fn write(
    table: &mut ResourceTable,
    stream: &Resource<DynOutputStream>,
    bytes: Vec<u8>,
) -> StreamResult<()> {
    let stream = table.get_mut(stream)?;
    if bytes.len() > stream.check_write()? {
        return Err(StreamError::trap("a write of more than was permitted"));
    }
    at_once(stream.blocking_write_and_flush(bytes.into())).map_err(StreamError::Trap)?
}

pub(super) fn write_zeroes(
    table: &mut ResourceTable,
    stream: &Resource<DynOutputStream>,
    len: u64,
) -> StreamResult<()> {
    match usize::try_from(len) {
        Ok(len) if len <= MAX_TRANSFER => write(table, stream, vec![0; len]),
        _ => Err(StreamError::trap("a write of more than was permitted")),
    }
}

pub(super) fn splice(
    table: &mut ResourceTable,
    to: &Resource<DynOutputStream>,
    from: &Resource<DynInputStream>,
    len: u64,
) -> StreamResult<u64> {
    let permit = table.get_mut(to)?.check_write()? as u64;
    let bytes = read(table, from, len.min(permit))?;
    let spliced = bytes.len() as u64;
    write(table, to, bytes)?;
    Ok(spliced)
}

/// Links `input-stream`. Every stream is always ready, so a function that
/// blocks and its counterpart are one, linked under both names.
pub(super) fn add_input_stream<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Handle = Resource<DynInputStream>;

    l.resource(
        "input-stream",
        ResourceType::host::<DynInputStream>(),
        drop_handle::<T, DynInputStream>,
    )?;
    for name in ["read", "blocking-read"] {
        l.func_wrap(
            &format!("[method]input-stream.{name}"),
            |mut store: StoreContextMut<'_, T>, (stream, len): (Handle, u64)| {
                let table = table(store.data_mut());
                let bytes = read(table, &stream, len);
                stream_result(table, bytes)
            },
        )?;
    }
    for name in ["skip", "blocking-skip"] {
        l.func_wrap(
            &format!("[method]input-stream.{name}"),
            |mut store: StoreContextMut<'_, T>, (stream, len): (Handle, u64)| {
                let table = table(store.data_mut());
                let skipped = read(table, &stream, len).map(|bytes| bytes.len() as u64);
                stream_result(table, skipped)
            },
        )?;
    }
    l.func_wrap(
        "[method]input-stream.subscribe",
        |mut store: StoreContextMut<'_, T>, (_,): (Handle,)| {
            Ok((table(store.data_mut()).push(Pollable::Stream)?,))
        },
    )
}

/// Links `output-stream`; see [`add_input_stream`].
pub(super) fn add_output_stream<T: WasiHost>(
    l: &mut LinkerInstance<'_, T>,
) -> wasmtime::Result<()> {
    type Handle = Resource<DynOutputStream>;

    l.resource(
        "output-stream",
        ResourceType::host::<DynOutputStream>(),
        drop_handle::<T, DynOutputStream>,
    )?;
    l.func_wrap(
        "[method]output-stream.check-write",
        |mut store: StoreContextMut<'_, T>, (stream,): (Handle,)| {
            let table = table(store.data_mut());
            let permit = table.get_mut(&stream)?.check_write().map(|n| n as u64);
            stream_result(table, permit)
        },
    )?;
    for name in ["write", "blocking-write-and-flush"] {
        l.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: StoreContextMut<'_, T>, (stream, bytes): (Handle, Vec<u8>)| {
                let table = table(store.data_mut());
                let written = write(table, &stream, bytes);
                stream_result(table, written)
            },
        )?;
    }
    for name in ["write-zeroes", "blocking-write-zeroes-and-flush"] {
        l.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: StoreContextMut<'_, T>, (stream, len): (Handle, u64)| {
                let table = table(store.data_mut());
                let written = write_zeroes(table, &stream, len);
                stream_result(table, written)
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        l.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: StoreContextMut<'_, T>, (stream,): (Handle,)| {
                let table = table(store.data_mut());
                let flushed = table.get_mut(&stream)?.flush();
                stream_result(table, flushed)
            },
        )?;
    }
    for name in ["splice", "blocking-splice"] {
        l.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: StoreContextMut<'_, T>,
             (to, from, len): (Handle, Resource<DynInputStream>, u64)| {
                let table = table(store.data_mut());
                let spliced = splice(table, &to, &from, len);
                stream_result(table, spliced)
            },
        )?;
    }
    l.func_wrap(
        "[method]output-stream.subscribe",
        |mut store: StoreContextMut<'_, T>, (_,): (Handle,)| {
            Ok((table(store.data_mut()).push(Pollable::Stream)?,))
        },
    )
}
