//! `open-at` and `stat-at` of `wasi:filesystem@0.3`, ahead of wasmtime-wasi's.
//! A file is found and opened for reading on the worker's thread, as web
//! servers do it. Going to another thread and back takes many times longer than
//! that work.
//!
//! Whatever may wait longer still goes to another thread: creating, truncating
//! and writing, and everything that is not a regular file. So does whatever
//! fails, so that errors are wasmtime-wasi's.

use std::fs;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use wasmtime::component::{Accessor, Linker, Resource, ResourceTableError};
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};
use wasmtime_wasi::{FsPerms, OpenMode};

use crate::concurrent::state::AsyncState;

/// Replaces both functions in the linker.
///
/// # Errors
/// Fails if the linker does not allow shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<AsyncState>) -> wasmtime::Result<()> {
    type ToStat = (Resource<Descriptor>, PathFlags, String);
    type ToOpen = (
        Resource<Descriptor>,
        PathFlags,
        String,
        OpenFlags,
        DescriptorFlags,
    );
    let mut types = linker.instance("wasi:filesystem/types@0.3.0")?;
    types.func_wrap_concurrent(
        "[method]descriptor.stat-at",
        |accessor: &Accessor<AsyncState>, (directory, how, path): ToStat| {
            Box::pin(async move { Ok((told(stat(accessor, directory, how, path).await)?,)) })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |accessor: &Accessor<AsyncState>, (directory, how, path, open, flags): ToOpen| {
            Box::pin(async move {
                let opened = open_at(accessor, directory, how, path, open, flags).await;
                Ok((told(opened)?,))
            })
        },
    )
}

async fn stat(
    accessor: &Accessor<AsyncState>,
    directory: Resource<Descriptor>,
    how: PathFlags,
    path: String,
) -> FilesystemResult<DescriptorStat> {
    let found = accessor.with(|mut store| {
        let state = store.data_mut();
        let Some(directory) = directory_of(state, &directory) else {
            return Ok(None);
        };
        // Found with O_PATH, not opened: opening may wait.
        let found = beneath(&directory, follows(how), &path, OFlags::PATH).ok();
        keep(state, directory.perms, found, OpenMode::empty())
    })?;
    let accessor = &accessor.with_getter::<WasiFilesystem>(AsyncState::filesystem);
    let Some(found) = found else {
        return WasiFilesystem::stat_at(accessor, directory, how, path).await;
    };
    let file = Resource::new_borrow(found.rep());
    let stat = WasiFilesystem::stat(accessor, file).await;
    accessor.with(|mut store| store.get().table.delete(found))?;
    stat
}

async fn open_at(
    accessor: &Accessor<AsyncState>,
    directory: Resource<Descriptor>,
    how: PathFlags,
    path: String,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> FilesystemResult<Resource<Descriptor>> {
    if open == OpenFlags::empty() && flags == DescriptorFlags::READ {
        let opened = accessor.with(|mut store| {
            let state = store.data_mut();
            let Some(directory) = directory_of(state, &directory) else {
                return Ok(None);
            };
            let opened = open_file(&directory, follows(how), &path);
            keep(state, directory.perms, opened, OpenMode::READ)
        })?;
        if let Some(opened) = opened {
            return Ok(opened);
        }
    }
    let accessor = &accessor.with_getter::<WasiFilesystem>(AsyncState::filesystem);
    WasiFilesystem::open_at(accessor, directory, how, path, open, flags).await
}

/// Returns the directory of a handle; `None` if the handle is unknown or a
/// file's.
pub(super) fn directory_of(state: &AsyncState, handle: &Resource<Descriptor>) -> Option<Dir> {
    match state.table.get(handle) {
        Ok(Descriptor::Dir(directory)) => Some(directory.clone()),
        _ => None,
    }
}

/// Gives the guest a file. Reading it does not go to another thread.
pub(super) fn keep(
    state: &mut AsyncState,
    permissions: FsPerms,
    file: Option<fs::File>,
    mode: OpenMode,
) -> Result<Option<Resource<Descriptor>>, ResourceTableError> {
    let Some(file) = file else { return Ok(None) };
    let file = File::new(file, permissions, mode, true);
    Ok(Some(state.table.push(Descriptor::File(file))?))
}

/// Opens a regular file for reading; `None` if there is none.
pub(super) fn open_file(directory: &Dir, follow: bool, path: &str) -> Option<fs::File> {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = beneath(directory, follow, path, flags).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(file)
}

/// Calls openat2(2) as wasmtime-wasi does. A link at the end of the path is an error
/// unless it may `follow` it.
pub(super) fn beneath(
    directory: &Dir,
    follow: bool,
    path: &str,
    mut flags: OFlags,
) -> Result<fs::File, Errno> {
    if !follow {
        flags |= OFlags::NOFOLLOW;
    }
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&*directory.dir, path, flags, Mode::empty(), resolve).map(fs::File::from)
}

fn follows(how: PathFlags) -> bool {
    how.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Returns the error for the guest, or the trap.
fn told<T>(result: FilesystemResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match result.map_err(FilesystemError::downcast) {
        Ok(value) => Ok(Ok(value)),
        Err(Ok(code)) => Ok(Err(code)),
        Err(Err(trap)) => Err(trap),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_regular_file_beneath_the_directory_is_opened_and_nothing_else() {
        let outer = tempfile::tempdir().expect("a temporary directory");
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("sub")).expect("directories");
        fs::write(outer.path().join("secret"), "outside").expect("a file");
        fs::write(inner.join("page"), "inside").expect("a file");
        symlink("page", inner.join("link")).expect("a link");
        symlink("../secret", inner.join("out")).expect("a link");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            inner.join("fifo"),
            FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .expect("a FIFO");
        let opened = fs::File::open(&inner).expect("the directory");
        let directory = Dir::new(opened, FsPerms::ReadOnly, OpenMode::READ, false);
        let opens = |follow, path| open_file(&directory, follow, path).is_some();

        for path in ["page", "./page", "sub/../page", "link"] {
            assert!(opens(true, path), "{path}");
        }
        // The FIFO has no writer: opening it like a file would wait for one.
        for path in [
            "",
            ".",
            "sub",
            "fifo",
            "out",
            "../secret",
            "/etc/passwd",
            "page/",
            "none",
            "pa\0ge",
        ] {
            assert!(!opens(true, path), "{path:?}");
        }
        assert!(!opens(false, "link"));
        assert!(opens(false, "page"));
    }
}
