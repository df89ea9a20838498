//! WASI 0.2 for event guests.
//!
//! A handler is a synchronous call on a thread that serves many connections,
//! inside a tokio runtime. It must not wait there, and it could not:
//! `wasmtime_wasi::p2::add_to_linker_sync` turns async functions into
//! `Handle::block_on`, which panics inside a runtime. It also needs store data
//! that is `Send`, and a worker's is not.
//!
//! So wasmtime-wasi provides the interfaces that never wait. The three that
//! may, `wasi:io`, `wasi:filesystem/types` and `wasi:clocks/monotonic-clock`,
//! are linked here, under these rules:
//!
//! - Every stream is always ready. Standard input is at its end, standard
//!   output and error go to the log, and files are read and written at once, as
//!   `read` and `write` on a regular file are. For `sync`, a thread waits, and
//!   the handler waits for the thread, no longer than an event may take.
//! - A timer is due or it is not. Waiting for one that is not due, as
//!   `std::thread::sleep` does, traps with advice on what to do instead.
//! - Files that may block `open` (pipes, devices, files on which another
//!   program has a lease) are not opened.
//! - `wasi:cli/exit` ends the instance. With a failure, it traps. See
//!   [`has_exited`] and [`reason`].
//! - `wasi:sockets` denies every call: the host owns all sockets.

mod filesystem;
mod io;
pub(crate) mod random;
mod sockets;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{HostWallClock, WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::{cli, clocks, random as wasi_random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView};

use netwasm_base::config::{GuestConfig, Limits};
use netwasm_base::error::Error;

use crate::concurrent::permissions::{Permissions, note_listener};
use crate::guest_log::{GuestLog, LogStream};

/// Version that is linked. Guests of any 0.2 find it.
const VERSION: &str = "0.2.12";

/// Largest `write` and largest result of a `read`, in bytes.
const MAX_TRANSFER: usize = 64 * 1024;

/// Largest result of one call for random bytes of WASI 0.3, in bytes. There,
/// fewer bytes than requested are allowed. See [`random`] for 0.2.
const MAX_RANDOM: u64 = 64 * 1024;

/// Store data through which a guest reaches WASI.
pub(crate) trait WasiHost: 'static {
    /// Returns this instance's WASI.
    fn wasi(&mut self) -> &mut Wasi;

    /// Returns the memory limit of the instance in bytes.
    fn max_memory(&self) -> usize;

    /// Returns the time that is left of the event's limit.
    fn time_left(&self) -> Duration;

    /// Notes time for which the event has kept its thread waiting.
    fn waited(&mut self, time: Duration);
}

/// Setup that all instances of a guest share. Made once, cheap to clone.
#[derive(Clone)]
pub(crate) struct WasiSetup(Arc<Setup>);

impl std::fmt::Debug for WasiSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasiSetup").finish_non_exhaustive()
    }
}

struct Setup {
    guest: GuestConfig,
    /// Directories, opened. Instances share the descriptors.
    files: WasiFilesystemCtx,
    max_handles: usize,
    log: GuestLog,
}

impl WasiSetup {
    /// Opens the guest's directories. An instance may hold up to
    /// `limits.max_handles` WASI resources at once: files, streams, pollables.
    /// If the guest `awaits`, operations that may wait for a disk or for the
    /// other end of a pipe run on another thread; otherwise they run in place.
    ///
    /// # Errors
    /// Fails with [`Error::Directory`], naming the directory, if one cannot be
    /// opened.
    pub(crate) fn new(
        guest: &GuestConfig,
        limits: &Limits,
        awaits: bool,
        log: GuestLog,
    ) -> Result<Self, Error> {
        let mut builder = WasiCtx::builder();
        builder.allow_blocking_current_thread(!awaits);
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
            max_handles: limits.max_handles,
            log,
        })))
    }

    /// Makes the context of one async instance, whose calls may wait. A command
    /// has the process's standard streams.
    pub(crate) fn concurrent_context(
        &self,
        command: bool,
        permissions: &Arc<Permissions>,
    ) -> WasiContext {
        let Setup {
            guest, files, log, ..
        } = &*self.0;
        let stderr = log.stderr();
        let mut builder = WasiCtx::builder();
        builder
            .arg(&guest.program)
            .args(&guest.args)
            .envs(&guest.env)
            .max_random_size(MAX_RANDOM)
            .wall_clock(WallClock)
            // `socket_addr_check` decides which addresses are allowed.
            .allow_tcp(true)
            .allow_udp(true);
        if command {
            builder.inherit_stdio();
        } else {
            builder.stdout(log.stdout()).stderr(stderr.clone());
        }
        let permissions = Arc::clone(permissions);
        let name = guest.name.clone();
        builder.socket_addr_check(move |address, used| {
            let allowed = permissions.allows(address, used);
            if allowed && matches!(used, SocketAddrUse::TcpListen) {
                note_listener(&name, &format_args!("tcp://{address}"));
            }
            Box::pin(async move { allowed })
        });
        let mut context = builder.build();
        *context.filesystem() = files.clone();
        WasiContext { context, stderr }
    }

    /// Makes the context of one event instance.
    fn context(&self) -> WasiContext {
        let Setup {
            guest, files, log, ..
        } = &*self.0;
        let stderr = log.stderr();
        let mut context = WasiCtx::builder()
            .arg(&guest.program)
            .args(&guest.args)
            .envs(&guest.env)
            .stdout(log.stdout())
            .stderr(stderr.clone())
            .wall_clock(WallClock)
            .build();
        *context.filesystem() = files.clone();
        WasiContext { context, stderr }
    }
}

/// The context of one instance.
pub(crate) struct WasiContext {
    pub(crate) context: WasiCtx,
    /// Its standard error, if that goes to the log.
    stderr: LogStream,
}

impl WasiContext {
    /// Returns the message and the place of the panic that the guest told last.
    pub(crate) fn panic(&self) -> Option<String> {
        self.stderr.panic()
    }
}

/// The wall clock for guests. wasmtime-wasi's own panics before 1970.
struct WallClock;

impl HostWallClock for WallClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default()
    }
}

/// WASI of one instance. Costs next to nothing until the guest first uses it.
pub(crate) struct Wasi {
    setup: WasiSetup,
    context: Option<Box<WasiContext>>,
    table: ResourceTable,
}

impl Wasi {
    /// Makes WASI for a new instance.
    pub(crate) fn new(setup: WasiSetup) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(setup.0.max_handles);
        Self {
            setup,
            context: None,
            table,
        }
    }

    /// Returns the instance's context and resources.
    pub(crate) fn view(&mut self) -> WasiCtxView<'_> {
        let Self {
            setup,
            context,
            table,
        } = self;
        let context = context.get_or_insert_with(|| Box::new(setup.context()));
        WasiCtxView {
            ctx: &mut context.context,
            table,
        }
    }

    /// Returns the instance's resources alone.
    pub(crate) fn resources(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Returns the message and the place of the panic that the guest told last.
    pub(crate) fn panic(&self) -> Option<String> {
        self.context.as_ref()?.panic()
    }
}

/// True if a call ended because the guest exited with success, which is no
/// failure.
pub(crate) fn has_exited(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(I32Exit(0)))
}

/// Returns why a call ended, if that says more than the error's own text.
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

/// Links `wasi:cli`, `wasi:clocks`, `wasi:filesystem`, `wasi:io`,
/// `wasi:random` and `wasi:sockets`.
///
/// # Errors
/// Fails if one of them is already linked.
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
    wasi_random::random::add_to_linker::<T, WasiRandom>(l, randomness)?;
    wasi_random::insecure::add_to_linker::<T, WasiRandom>(l, randomness)?;
    wasi_random::insecure_seed::add_to_linker::<T, WasiRandom>(l, randomness)?;
    random::add_to_linker(l, T::max_memory)?;
    preopens::add_to_linker::<T, WasiFilesystem>(l, files)?;

    io::add_monotonic_clock(&mut instance(l, "wasi:clocks/monotonic-clock")?)?;
    io::add_error(&mut instance(l, "wasi:io/error")?)?;
    io::add_poll(&mut instance(l, "wasi:io/poll")?)?;
    io::add_input_stream(&mut instance(l, "wasi:io/streams")?)?;
    io::add_output_stream(&mut instance(l, "wasi:io/streams")?)?;
    filesystem::add_to_linker(&mut instance(l, "wasi:filesystem/types")?)?;
    sockets::add_to_linker(l)
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

fn randomness<T: WasiHost>(state: &mut T) -> &mut WasiRandomCtx {
    state.wasi().view().ctx.random()
}

fn table<T: WasiHost>(state: &mut T) -> &mut ResourceTable {
    &mut state.wasi().table
}

/// Returns an interface of WASI 0.2 in a linker.
pub(crate) fn instance<'a, T>(
    linker: &'a mut Linker<T>,
    name: &str,
) -> wasmtime::Result<LinkerInstance<'a, T>> {
    linker.instance(&format!("{name}@{VERSION}"))
}

/// Drops a guest's handle.
fn drop_handle<T: WasiHost, R: Send + 'static>(
    mut store: StoreContextMut<'_, T>,
    handle: u32,
) -> wasmtime::Result<()> {
    table(store.data_mut()).delete(Resource::<R>::new_own(handle))?;
    Ok(())
}

/// Returns the value of a future that needs no waiting.
///
/// # Errors
/// Fails if the future is not ready. That traps rather than blocks the worker.
fn at_once<F: Future>(future: F) -> wasmtime::Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => wasmtime::bail!("a handler may not wait: the file is not ready"),
    }
}

#[cfg(test)]
mod tests;
