//! WASI 0.2 for event guests.
//!
//! A handler is a synchronous call on a thread that serves many connections,
//! inside a tokio runtime. There it must not wait, and it could not:
//! `wasmtime_wasi::p2::add_to_linker_sync` turns whatever is asynchronous
//! underneath into `Handle::block_on`, which panics inside a runtime. It also
//! asks for store data that is `Send`, and a worker's is not.
//!
//! So the interfaces that never wait are wasmtime-wasi's, and the three that
//! may, `wasi:io`, `wasi:filesystem/types` and `wasi:clocks/monotonic-clock`,
//! are linked here, under these rules:
//!
//! - Every stream is ready at all times. Standard input is at its end,
//!   standard output and error go to the log, and files are read and written
//!   on the spot, as `read` and `write` on a regular file are.
//! - A timer is ready or it is not. To wait for one that is not, as
//!   `std::thread::sleep` does, is a trap that says what to do instead.
//! - Files that may keep `open` waiting (pipes, devices) are not opened.
//! - `wasi:cli/exit` is a trap and ends the instance; see [`reason`].
//! - There is no `wasi:sockets`: the host owns all sockets.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wasmtime::StoreContextMut;
use wasmtime::component::{
    Linker, LinkerInstance, Resource, ResourceTable, ResourceTableError, ResourceType,
};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::filesystem::{
    Descriptor, WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView,
};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self as fs, Host as _, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::bindings::sync::io::streams::StreamError as WitStreamError;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsResult, IoError, StreamError, StreamResult,
};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView};

use crate::config::GuestConfig;
use crate::error::Error;
use crate::wasm::concurrent::Permissions;
use crate::wasm::guest_log::GuestLog;

/// The version that is linked; guests of any 0.2 find it.
const VERSION: &str = "0.2.12";

/// What one `write` may bring and one `read` yields at most, bytes.
const MAX_TRANSFER: usize = 64 * 1024;

/// What one call for random bytes yields at most, bytes: making them is the
/// host's time, which no deadline interrupts.
const MAX_RANDOM: u64 = 64 * 1024;

/// Store data through which a guest reaches WASI.
pub(crate) trait WasiHost: 'static {
    /// This instance's WASI.
    fn wasi(&mut self) -> &mut Wasi;
}

/// What all instances of a guest are given alike: made once, cheap to clone.
#[derive(Clone)]
pub(crate) struct WasiSetup(Arc<Setup>);

impl std::fmt::Debug for WasiSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasiSetup").finish_non_exhaustive()
    }
}

struct Setup {
    guest: GuestConfig,
    /// The directories, opened; instances share the descriptors.
    files: WasiFilesystemCtx,
    max_handles: usize,
    log: GuestLog,
}

impl WasiSetup {
    /// Opens the guest's directories. An instance may hold up to `max_handles`
    /// WASI resources at once: files, streams, pollables.
    ///
    /// # Errors
    /// [`Error::Directory`], naming it, where one cannot be opened.
    pub(crate) fn new(
        guest: &GuestConfig,
        max_handles: usize,
        log: GuestLog,
    ) -> Result<Self, Error> {
        let mut builder = WasiCtx::builder();
        builder.allow_blocking_current_thread(true);
        for dir in &guest.dirs {
            let permissions = if dir.writable {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            builder
                .preopened_dir(&dir.host, &dir.guest, permissions)
                .map_err(|e| {
                    let host = dir.host.display();
                    Error::Directory(format!("cannot open the directory {host} of --dir: {e}"))
                })?;
        }
        Ok(Self(Arc::new(Setup {
            guest: guest.clone(),
            files: builder.build().filesystem().clone(),
            max_handles,
            log,
        })))
    }

    /// A context of an instance's own for guests that await, where calls may
    /// wait. A command has the program's standard streams.
    pub(crate) fn concurrent_context(
        &self,
        command: bool,
        permissions: &Arc<Permissions>,
    ) -> WasiCtx {
        let Setup {
            guest, files, log, ..
        } = &*self.0;
        let mut builder = WasiCtx::builder();
        builder
            .arg(&guest.name)
            .args(&guest.args)
            .envs(&guest.env)
            .max_random_size(MAX_RANDOM)
            // What of them is allowed is asked for each address.
            .allow_tcp(true)
            .allow_udp(true);
        if command {
            builder.inherit_stdio();
        } else {
            builder.stdout(log.stdout()).stderr(log.stderr());
        }
        let permissions = Arc::clone(permissions);
        builder.socket_addr_check(move |address, used| {
            let allowed = permissions.allows(address, used);
            Box::pin(async move { allowed })
        });
        let mut context = builder.build();
        *context.filesystem() = files.clone();
        context
    }

    /// A context of an instance's own.
    fn context(&self) -> WasiCtx {
        let Setup {
            guest, files, log, ..
        } = &*self.0;
        let mut context = WasiCtx::builder()
            .arg(&guest.name)
            .args(&guest.args)
            .envs(&guest.env)
            .stdout(log.stdout())
            .stderr(log.stderr())
            .max_random_size(MAX_RANDOM)
            .build();
        *context.filesystem() = files.clone();
        context
    }
}

/// One instance's WASI. Costs next to nothing until the guest first uses it.
pub(crate) struct Wasi {
    setup: WasiSetup,
    context: Option<Box<WasiCtx>>,
    table: ResourceTable,
}

impl Wasi {
    /// WASI for a new instance.
    pub(crate) fn new(setup: WasiSetup) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(setup.0.max_handles);
        Self {
            setup,
            context: None,
            table,
        }
    }

    /// The instance's context and resources.
    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        let Self {
            setup,
            context,
            table,
        } = self;
        let ctx = context.get_or_insert_with(|| Box::new(setup.context()));
        WasiCtxView { ctx, table }
    }
}

/// Why a call ended, where an error of this module says it less well than this.
pub(crate) fn reason(error: &wasmtime::Error) -> Option<String> {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Some(format!("the guest exited with code {code}"));
    }
    match error.downcast_ref() {
        Some(ResourceTableError::Full) => {
            Some("the guest holds too many WASI handles (--max-handles)".to_owned())
        }
        _ => None,
    }
}

/// Links `wasi:cli`, `wasi:clocks`, `wasi:filesystem`, `wasi:io` and
/// `wasi:random`.
///
/// # Errors
/// One of them is linked already.
pub(crate) fn add_to_linker<T: WasiHost>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let l = linker;
    cli::environment::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::exit::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, cli)?;
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(l, random)?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, random)?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, random)?;
    filesystem::preopens::add_to_linker::<T, WasiFilesystem>(l, files)?;

    add_monotonic_clock(&mut instance(l, "wasi:clocks/monotonic-clock")?)?;
    add_error(&mut instance(l, "wasi:io/error")?)?;
    add_poll(&mut instance(l, "wasi:io/poll")?)?;
    add_input_stream(&mut instance(l, "wasi:io/streams")?)?;
    add_output_stream(&mut instance(l, "wasi:io/streams")?)?;
    add_filesystem(&mut instance(l, "wasi:filesystem/types")?)
}

fn cli<T: WasiHost>(state: &mut T) -> WasiCliCtxView<'_> {
    let WasiCtxView { ctx, table } = state.wasi().view();
    WasiCliCtxView {
        ctx: ctx.cli(),
        table,
    }
}

fn clocks<T: WasiHost>(state: &mut T) -> WasiClocksCtxView<'_> {
    let WasiCtxView { ctx, table } = state.wasi().view();
    WasiClocksCtxView {
        ctx: ctx.clocks(),
        table,
    }
}

fn files<T: WasiHost>(state: &mut T) -> WasiFilesystemCtxView<'_> {
    let WasiCtxView { ctx, table } = state.wasi().view();
    WasiFilesystemCtxView {
        ctx: ctx.filesystem(),
        table,
    }
}

fn random<T: WasiHost>(state: &mut T) -> &mut WasiRandomCtx {
    state.wasi().view().ctx.random()
}

fn table<T: WasiHost>(state: &mut T) -> &mut ResourceTable {
    &mut state.wasi().table
}

fn instance<'a, T>(
    linker: &'a mut Linker<T>,
    name: &str,
) -> wasmtime::Result<LinkerInstance<'a, T>> {
    linker.instance(&format!("{name}@{VERSION}"))
}

/// Ends a handle of a guest's.
fn drop_handle<T: WasiHost, R: Send + 'static>(
    mut store: StoreContextMut<'_, T>,
    handle: u32,
) -> wasmtime::Result<()> {
    table(store.data_mut()).delete(Resource::<R>::new_own(handle))?;
    Ok(())
}

/// The value of a future that needs no waiting.
///
/// # Errors
/// It does need it. That traps, rather than block the worker.
fn at_once<F: Future>(future: F) -> wasmtime::Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => wasmtime::bail!("a handler may not wait: the file is not ready"),
    }
}

/// What a guest may ask the readiness of: a stream, always ready, or a timer.
#[derive(Clone, Copy)]
enum Pollable {
    Stream,
    Timer {
        /// `None` is later than the clock can tell.
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

fn may_not_wait(function: &str) -> wasmtime::Error {
    wasmtime::format_err!(
        "a handler may not wait: wasi:io/poll.{function} on timers that are not due \
         (std::thread::sleep does that; netwasm:net/timers calls back instead)"
    )
}

fn add_monotonic_clock<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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

fn add_poll<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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

fn add_error<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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

/// `result<_, stream-error>` as the guest gets it.
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

/// Reads at once, which for a file is its blocking way: the other one would
/// make a thread read while the guest waits.
fn read(
    table: &mut ResourceTable,
    stream: &Resource<DynInputStream>,
    len: u64,
) -> StreamResult<Vec<u8>> {
    let stream = table.get_mut(stream)?;
    let len = usize::try_from(len).map_or(MAX_TRANSFER, |len| len.min(MAX_TRANSFER));
    let bytes = if len == 0 {
        // The blocking way takes a read of nothing for the end of the file.
        stream.read(0)?
    } else {
        at_once(stream.blocking_read(len)).map_err(StreamError::Trap)??
    };
    Ok(bytes.into())
}

/// Writes at once; see [`read`].
fn write(
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

fn write_zeroes(
    table: &mut ResourceTable,
    stream: &Resource<DynOutputStream>,
    len: u64,
) -> StreamResult<()> {
    match usize::try_from(len) {
        Ok(len) if len <= MAX_TRANSFER => write(table, stream, vec![0; len]),
        _ => Err(StreamError::trap("a write of more than was permitted")),
    }
}

fn splice(
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

/// As every stream is ready, what blocks and what does not are the same here,
/// and each is linked under both names.
fn add_input_stream<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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

/// See [`add_input_stream`].
fn add_output_stream<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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

/// `result<_, error-code>` as the guest gets it.
fn file_result<R>(result: FsResult<R>) -> wasmtime::Result<(Result<R, fs::ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Links methods of `descriptor`, each to the method of [`HostDescriptor`]
/// that implements it, which is given the handle and these arguments.
macro_rules! link_descriptor_methods {
    ($linker:ident: $($name:literal => $method:ident($($argument:ident: $type:ty),*);)*) => {$(
        $linker.func_wrap(
            concat!("[method]descriptor.", $name),
            |mut store: StoreContextMut<'_, T>,
             (descriptor, $($argument,)*): (Resource<Descriptor>, $($type,)*)| {
                let mut files = files(store.data_mut());
                let call = HostDescriptor::$method(&mut files, descriptor, $($argument),*);
                file_result(at_once(call)?)
            },
        )?;
    )*};
}

fn add_filesystem<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Handle = Resource<Descriptor>;
    type Entries = fs::DirectoryEntryStream;

    l.resource(
        "descriptor",
        ResourceType::host::<Descriptor>(),
        drop_handle::<T, Descriptor>,
    )?;
    l.resource(
        "directory-entry-stream",
        ResourceType::host::<Entries>(),
        drop_handle::<T, Entries>,
    )?;
    link_descriptor_methods!(l:
        "advise" => advise(offset: u64, len: u64, advice: fs::Advice);
        "sync-data" => sync_data();
        "get-flags" => get_flags();
        "get-type" => get_type();
        "set-size" => set_size(size: u64);
        "set-times" => set_times(accessed: fs::NewTimestamp, modified: fs::NewTimestamp);
        "read" => read(len: u64, offset: u64);
        "write" => write(bytes: Vec<u8>, offset: u64);
        "read-directory" => read_directory();
        "sync" => sync();
        "create-directory-at" => create_directory_at(path: String);
        "stat" => stat();
        "stat-at" => stat_at(flags: fs::PathFlags, path: String);
        "set-times-at" => set_times_at(
            flags: fs::PathFlags,
            path: String,
            accessed: fs::NewTimestamp,
            modified: fs::NewTimestamp
        );
        "link-at" => link_at(
            flags: fs::PathFlags,
            old_path: String,
            new_directory: Handle,
            new_path: String
        );
        "readlink-at" => readlink_at(path: String);
        "remove-directory-at" => remove_directory_at(path: String);
        "rename-at" => rename_at(old_path: String, new_directory: Handle, new_path: String);
        "symlink-at" => symlink_at(old_path: String, new_path: String);
        "unlink-file-at" => unlink_file_at(path: String);
        "metadata-hash" => metadata_hash();
        "metadata-hash-at" => metadata_hash_at(flags: fs::PathFlags, path: String);
    );
    l.func_wrap(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, T>,
         (directory, path_flags, path, open_flags, flags): (
            Handle,
            fs::PathFlags,
            String,
            fs::OpenFlags,
            fs::DescriptorFlags,
        )| {
            let mut files = files(store.data_mut());
            if !may_open(&mut files, &directory, path_flags, &path)? {
                return Ok((Err(fs::ErrorCode::Access),));
            }
            let call = files.open_at(directory, path_flags, path, open_flags, flags);
            file_result(at_once(call)?)
        },
    )?;
    l.func_wrap(
        "[method]descriptor.read-via-stream",
        |mut store: StoreContextMut<'_, T>, (file, offset): (Handle, u64)| {
            file_result(files(store.data_mut()).read_via_stream(file, offset))
        },
    )?;
    l.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: StoreContextMut<'_, T>, (file, offset): (Handle, u64)| {
            file_result(files(store.data_mut()).write_via_stream(file, offset))
        },
    )?;
    l.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: StoreContextMut<'_, T>, (file,): (Handle,)| {
            file_result(files(store.data_mut()).append_via_stream(file))
        },
    )?;
    l.func_wrap(
        "[method]descriptor.is-same-object",
        |mut store: StoreContextMut<'_, T>, (one, other): (Handle, Handle)| {
            Ok((at_once(
                files(store.data_mut()).is_same_object(one, other),
            )??,))
        },
    )?;
    l.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, T>, (entries,): (Resource<Entries>,)| {
            let mut files = files(store.data_mut());
            file_result(at_once(files.read_directory_entry(entries))?)
        },
    )?;
    l.func_wrap(
        "filesystem-error-code",
        |mut store: StoreContextMut<'_, T>, (error,): (Resource<IoError>,)| {
            Ok((files(store.data_mut()).filesystem_error_code(error)?,))
        },
    )
}

/// Whether to open what the path leads to. Opening a pipe waits for its other
/// end, and a device may do anything: neither is for a thread that serves
/// others. A path that leads nowhere is for `open` to judge.
fn may_open(
    files: &mut WasiFilesystemCtxView<'_>,
    directory: &Resource<Descriptor>,
    flags: fs::PathFlags,
    path: &str,
) -> wasmtime::Result<bool> {
    let directory = Resource::new_borrow(directory.rep());
    let status = at_once(files.stat_at(directory, flags, path.to_owned()))?;
    Ok(status.map_or(true, |status| {
        matches!(
            status.type_,
            fs::DescriptorType::RegularFile
                | fs::DescriptorType::Directory
                | fs::DescriptorType::SymbolicLink
        )
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use wasmtime::component::{Component, ComponentNamedList, Lift, Lower};
    use wasmtime::{Config, Engine, Store};
    use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;

    use super::*;
    use crate::config::Directory;

    /// Waits for a timer: `sleep: func(nanoseconds: u64)`.
    const SLEEPER: &str = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
            (export "pollable" (type $p (eq $pollable)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $m
            (import "" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "" "block" (func $block (param i32)))
            (func (export "sleep") (param i64)
                (call $block (call $subscribe (local.get 0)))))
        (core instance $i (instantiate $m (with "" (instance
            (export "subscribe" (func $subscribe))
            (export "block" (func $block))))))
        (func (export "sleep") (param "nanoseconds" u64) (canon lift (core func $i "sleep"))))"#;

    /// Leaves the program: `leave: func()`.
    const LEAVER: &str = r#"(component
        (import "wasi:cli/exit@0.2.0" (instance $cli
            (export "exit" (func (param "status" (result))))))
        (core func $exit (canon lower (func $cli "exit")))
        (core module $m
            (import "" "exit" (func $exit (param i32)))
            (func (export "leave") (call $exit (i32.const 1))))
        (core instance $i (instantiate $m (with "" (instance (export "exit" (func $exit))))))
        (func (export "leave") (canon lift (core func $i "leave"))))"#;

    /// Takes handles to standard output and keeps them:
    /// `hoard: func(handles: u32)`.
    const HOARDER: &str = r#"(component
        (import "wasi:io/streams@0.2.0" (instance $io
            (export "output-stream" (type (sub resource)))))
        (alias export $io "output-stream" (type $output))
        (import "wasi:cli/stdout@0.2.0" (instance $cli
            (export "output-stream" (type $o (eq $output)))
            (export "get-stdout" (func (result (own $o))))))
        (core func $get (canon lower (func $cli "get-stdout")))
        (core module $m
            (import "" "get" (func $get (result i32)))
            (func (export "hoard") (param i32)
                (loop $again
                    (drop (call $get))
                    (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                    (br_if $again (local.get 0)))))
        (core instance $i (instantiate $m (with "" (instance (export "get" (func $get))))))
        (func (export "hoard") (param "handles" u32) (canon lift (core func $i "hoard"))))"#;

    struct State {
        wasi: Wasi,
        // As a worker's store data: not `Send`.
        _worker: Rc<()>,
    }

    impl WasiHost for State {
        fn wasi(&mut self) -> &mut Wasi {
            &mut self.wasi
        }
    }

    fn guest(dirs: Vec<Directory>) -> GuestConfig {
        GuestConfig {
            name: "test".to_owned(),
            dirs,
            ..GuestConfig::default()
        }
    }

    fn wasi(dirs: Vec<Directory>) -> Wasi {
        let setup = WasiSetup::new(&guest(dirs), 8, GuestLog::new("test"));
        Wasi::new(setup.map_err(|e| e.to_string()).expect("directories"))
    }

    fn directory(host: &Path, writable: bool) -> Directory {
        Directory {
            host: host.to_owned(),
            guest: "/".to_owned(),
            writable,
        }
    }

    /// Calls a component's function from a task of a current-thread runtime,
    /// as a worker does.
    fn call<P>(component: &str, function: &str, parameters: P) -> wasmtime::Result<()>
    where
        P: ComponentNamedList + Lower + Lift + 'static,
    {
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config)?;
        let mut linker = Linker::<State>::new(&engine);
        add_to_linker(&mut linker)?;
        let component = Component::new(&engine, component)?;
        let mut store = Store::new(
            &engine,
            State {
                wasi: wasi(Vec::new()),
                _worker: Rc::new(()),
            },
        );
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let instance = linker.instantiate(&mut store, &component)?;
            let function = instance.get_typed_func::<P, ()>(&mut store, function)?;
            function.call(&mut store, parameters)
        })
    }

    /// Opens a path below the guest's first directory.
    fn open(
        files: &mut WasiFilesystemCtxView<'_>,
        path: &str,
        flags: fs::DescriptorFlags,
    ) -> Result<Resource<Descriptor>, fs::ErrorCode> {
        let directories = files.get_directories().expect("directories");
        let (directory, _) = directories.into_iter().next().expect("a directory");
        let follow = fs::PathFlags::SYMLINK_FOLLOW;
        if !may_open(files, &directory, follow, path).expect("no trap") {
            return Err(fs::ErrorCode::Access);
        }
        let call = files.open_at(
            directory,
            follow,
            path.to_owned(),
            fs::OpenFlags::empty(),
            flags,
        );
        let opened = at_once(call).expect("at once");
        opened.map_err(|e| e.downcast().expect("no trap"))
    }

    fn files(wasi: &mut Wasi) -> WasiFilesystemCtxView<'_> {
        let WasiCtxView { ctx, table } = wasi.view();
        WasiFilesystemCtxView {
            ctx: ctx.filesystem(),
            table,
        }
    }

    #[test]
    fn waiting_for_a_timer_traps_with_advice() {
        let started = Instant::now();
        let error = call(SLEEPER, "sleep", (3_600_000_000_000_u64,)).expect_err("a trap");
        let cause = error.root_cause().to_string();
        assert!(cause.contains("a handler may not wait"), "{cause}");
        assert!(cause.contains("netwasm:net/timers"), "{cause}");
        assert!(started.elapsed() < Duration::from_secs(600));
        call(SLEEPER, "sleep", (u64::MAX,)).expect_err("a trap");
    }

    #[test]
    fn a_timer_that_is_due_is_no_wait() {
        call(SLEEPER, "sleep", (0_u64,)).expect("no trap");
    }

    #[test]
    fn exit_ends_the_call_and_not_the_process() {
        let error = call(LEAVER, "leave", ()).expect_err("a trap");
        assert_eq!(
            reason(&error).as_deref(),
            Some("the guest exited with code 1")
        );
    }

    #[test]
    fn handles_are_limited() {
        call(HOARDER, "hoard", (8_u32,)).expect("within the limit");
        let error = call(HOARDER, "hoard", (9_u32,)).expect_err("a trap");
        let reason = reason(&error).expect("a reason");
        assert!(reason.contains("--max-handles"), "{reason}");
    }

    #[test]
    fn a_directory_that_cannot_be_opened_is_named() {
        let missing = directory(Path::new("/nonexistent/public"), false);
        let log = GuestLog::new("test");
        let Err(error) = WasiSetup::new(&guest(vec![missing]), 8, log) else {
            panic!("a directory that does not exist was opened");
        };
        let error = error.to_string();
        assert!(error.contains("/nonexistent/public"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_file_is_read_to_its_end_without_waiting() {
        let temporary = tempfile::tempdir().expect("a directory");
        std::fs::write(temporary.path().join("file"), "content").expect("a file");
        let mut wasi = wasi(vec![directory(temporary.path(), false)]);
        let mut files = files(&mut wasi);
        let file = open(&mut files, "file", fs::DescriptorFlags::READ).expect("open");
        let stream = files.read_via_stream(file, 2).expect("a stream");
        assert!(read(files.table, &stream, 0).expect("nothing").is_empty());
        let bytes = read(files.table, &stream, 3).expect("bytes");
        assert_eq!(bytes, b"nte");
        let bytes = read(files.table, &stream, u64::MAX).expect("bytes");
        assert_eq!(bytes, b"nt");
        let end = read(files.table, &stream, 1);
        assert!(matches!(end, Err(StreamError::Closed)));
    }

    #[test]
    fn a_file_is_written_where_the_directory_allows_it() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("file");
        std::fs::write(&path, "....").expect("a file");
        let write_flag = fs::DescriptorFlags::WRITE;

        let mut reader = wasi(vec![directory(temporary.path(), false)]);
        let refused = open(&mut files(&mut reader), "file", write_flag);
        assert_eq!(refused.err(), Some(fs::ErrorCode::NotPermitted));

        let mut writer = wasi(vec![directory(temporary.path(), true)]);
        let mut files = files(&mut writer);
        let file = open(&mut files, "file", write_flag).expect("open");
        let stream = files.write_via_stream(file, 1).expect("a stream");
        write(files.table, &stream, b"ab".to_vec()).expect("written");
        write_zeroes(files.table, &stream, 2).expect("written");
        let too_much = vec![0; MAX_TRANSFER + 1];
        let refused = write(files.table, &stream, too_much);
        assert!(matches!(refused, Err(StreamError::Trap(_))));
        let refused = write_zeroes(files.table, &stream, u64::MAX);
        assert!(matches!(refused, Err(StreamError::Trap(_))));
        assert_eq!(std::fs::read(&path).expect("content"), b".ab\0\0");
    }

    #[test]
    fn nothing_outside_a_directory_is_opened() {
        let temporary = tempfile::tempdir().expect("a directory");
        let inside = temporary.path().join("inside");
        std::fs::create_dir(&inside).expect("a directory");
        std::fs::write(temporary.path().join("secret"), "").expect("a file");
        std::os::unix::fs::symlink("../secret", inside.join("link")).expect("a link");
        let mut wasi = wasi(vec![directory(&inside, false)]);
        for path in ["../secret", "link", "/etc/passwd"] {
            let opened = open(&mut files(&mut wasi), path, fs::DescriptorFlags::READ);
            assert_eq!(opened.err(), Some(fs::ErrorCode::NotPermitted), "{path}");
        }
    }

    #[test]
    fn a_pipe_is_refused_rather_than_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let temporary = tempfile::tempdir().expect("a directory");
        let pipe = temporary.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        std::os::unix::fs::symlink("pipe", temporary.path().join("link")).expect("a link");
        let mut wasi = wasi(vec![directory(temporary.path(), false)]);
        for path in ["pipe", "link"] {
            let opened = open(&mut files(&mut wasi), path, fs::DescriptorFlags::READ);
            assert_eq!(opened.err(), Some(fs::ErrorCode::Access), "{path}");
        }
    }
}
