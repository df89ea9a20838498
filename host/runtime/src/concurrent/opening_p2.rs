//! `open-at`, `stat-at` and `metadata-hash-at` of `wasi:filesystem@0.2`, ahead of
//! wasmtime-wasi's: on the worker's thread where [`opening`] of 0.3 stays there,
//! too. What fails, and everything else, is wasmtime-wasi's.
//!
//! Python's `open()`, `os.stat()` and `os.fstat()` make nine of these calls for a
//! file that is sent, so that going to another thread for each cost a tenth of
//! sending 10 MiB.

use rustix::fs::OFlags;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::OpenMode;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, ErrorCode, HostDescriptor, MetadataHashValue, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};

use crate::concurrent::opening;
use crate::concurrent::state::{AsyncState, Store};
use crate::wasi;

type Handle = Resource<Descriptor>;

/// Replaces the functions in the linker.
///
/// # Errors
/// Fails if the interface is not linked yet, or if the linker does not allow
/// shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    type ToOpen = (Handle, PathFlags, String, OpenFlags, DescriptorFlags);
    type ToTell = (Handle, PathFlags, String);
    let mut types = wasi::instance(linker, "wasi:filesystem/types")?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>, (directory, how, path, open, flags): ToOpen| {
            Box::new(async move {
                let state = store.data_mut();
                let opened = open_at(state, directory, how, path, open, flags).await;
                Ok((told(opened)?,))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.stat-at",
        |mut store: Store<'_>, (directory, how, path): ToTell| {
            Box::new(async move {
                let stat = stat_at(store.data_mut(), directory, how, path).await;
                Ok((told(stat)?,))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.metadata-hash-at",
        |mut store: Store<'_>, (directory, how, path): ToTell| {
            Box::new(async move {
                let hash = metadata_hash_at(store.data_mut(), directory, how, path).await;
                Ok((told(hash)?,))
            })
        },
    )
}

async fn open_at(
    state: &mut AsyncState,
    directory: Handle,
    how: PathFlags,
    path: String,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Handle> {
    // The right to change a directory means nothing for a file.
    let reads = flags == DescriptorFlags::READ
        || flags == DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
    if open == OpenFlags::empty()
        && reads
        && let Some(held) = opening::directory_of(state, &directory)
    {
        let opened = opening::open_file(&held, follows(how), &path);
        if let Some(opened) = opening::keep(state, held.perms, opened, OpenMode::READ)? {
            return Ok(opened);
        }
    }
    let mut files = state.filesystem();
    files.open_at(directory, how, path, open, flags).await
}

async fn stat_at(
    state: &mut AsyncState,
    directory: Handle,
    how: PathFlags,
    path: String,
) -> FsResult<DescriptorStat> {
    let Some(found) = found(state, &directory, how, &path)? else {
        return state.filesystem().stat_at(directory, how, path).await;
    };
    let stat = state.filesystem().stat(borrowed(&found)).await;
    state.table.delete(found)?;
    stat
}

async fn metadata_hash_at(
    state: &mut AsyncState,
    directory: Handle,
    how: PathFlags,
    path: String,
) -> FsResult<MetadataHashValue> {
    let Some(found) = found(state, &directory, how, &path)? else {
        let mut files = state.filesystem();
        return files.metadata_hash_at(directory, how, path).await;
    };
    let hash = state.filesystem().metadata_hash(borrowed(&found)).await;
    state.table.delete(found)?;
    hash
}

/// Finds what a path leads to, for questions about it; `None` if nothing is there.
fn found(
    state: &mut AsyncState,
    directory: &Handle,
    how: PathFlags,
    path: &str,
) -> FsResult<Option<Handle>> {
    let Some(directory) = opening::directory_of(state, directory) else {
        return Ok(None);
    };
    // Found with O_PATH, not opened: opening may wait.
    let found = opening::beneath(&directory, follows(how), path, OFlags::PATH).ok();
    Ok(opening::keep(
        state,
        directory.perms,
        found,
        OpenMode::empty(),
    )?)
}

fn borrowed(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

fn follows(how: PathFlags) -> bool {
    how.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Returns the error for the guest, or the trap.
fn told<T>(result: FsResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match result.map_err(FsError::downcast) {
        Ok(value) => Ok(Ok(value)),
        Err(Ok(code)) => Ok(Err(code)),
        Err(Err(trap)) => Err(trap),
    }
}
