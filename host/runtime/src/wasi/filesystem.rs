//! `wasi:filesystem/types`: files are read and written at once; `sync` has a
//! timeout.

use std::fs;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Host as _, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::{FsResult, IoError};

use super::{WasiHost, at_once, drop_handle, files};

/// Converts a result to `result<_, error-code>` for the guest.
fn file_result<R>(result: FsResult<R>) -> wasmtime::Result<(Result<R, types::ErrorCode>,)> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Links methods of `descriptor`, each to the method of [`HostDescriptor`] that
/// implements it. Passes on the handle and these arguments.
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

pub(super) fn add_to_linker<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
    type Handle = Resource<Descriptor>;
    type Entries = types::DirectoryEntryStream;

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
        "advise" => advise(offset: u64, len: u64, advice: types::Advice);
        "get-flags" => get_flags();
        "get-type" => get_type();
        "set-size" => set_size(size: u64);
        "set-times" => set_times(accessed: types::NewTimestamp, modified: types::NewTimestamp);
        "read" => read(len: u64, offset: u64);
        "write" => write(bytes: Vec<u8>, offset: u64);
        "read-directory" => read_directory();
        "create-directory-at" => create_directory_at(path: String);
        "stat" => stat();
        "stat-at" => stat_at(flags: types::PathFlags, path: String);
        "set-times-at" => set_times_at(
            flags: types::PathFlags,
            path: String,
            accessed: types::NewTimestamp,
            modified: types::NewTimestamp
        );
        "link-at" => link_at(
            flags: types::PathFlags,
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
        "metadata-hash-at" => metadata_hash_at(flags: types::PathFlags, path: String);
    );
    l.func_wrap(
        "[method]descriptor.sync",
        |mut store: StoreContextMut<'_, T>, (file,): (Handle,)| {
            sync(store.data_mut(), &file, fs::File::sync_all)
        },
    )?;
    l.func_wrap(
        "[method]descriptor.sync-data",
        |mut store: StoreContextMut<'_, T>, (file,): (Handle,)| {
            sync(store.data_mut(), &file, fs::File::sync_data)
        },
    )?;
    l.func_wrap(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, T>,
         (directory, path_flags, path, open_flags, flags): (
            Handle,
            types::PathFlags,
            String,
            types::OpenFlags,
            types::DescriptorFlags,
        )| {
            let mut files = files(store.data_mut());
            if !may_open(&mut files, &directory, path_flags, &path)? {
                return Ok((Err(types::ErrorCode::Access),));
            }
            if is_leased(&files, &directory, path_flags, &path, flags)? {
                return Ok((Err(types::ErrorCode::WouldBlock),));
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

/// Returns false if the path leads to a pipe or a device. Opening a pipe waits
/// for its other end, and a device may do anything: neither suits a thread that
/// serves others. A path that leads nowhere is left to `open` to judge.
pub(super) fn may_open(
    files: &mut WasiFilesystemCtxView<'_>,
    directory: &Resource<Descriptor>,
    flags: types::PathFlags,
    path: &str,
) -> wasmtime::Result<bool> {
    let directory = Resource::new_borrow(directory.rep());
    let status = at_once(files.stat_at(directory, flags, path.to_owned()))?;
    Ok(status.map_or(true, |status| {
        matches!(
            status.type_,
            types::DescriptorType::RegularFile
                | types::DescriptorType::Directory
                | types::DescriptorType::SymbolicLink
        )
    }))
}

/// True if another program has a lease on the file (fcntl(2), `F_SETLEASE`).
/// Opening it would wait until that program lets go of it, for up to 45
/// seconds. The attempt made here tells that program to let go.
fn is_leased(
    files: &WasiFilesystemCtxView<'_>,
    directory: &Resource<Descriptor>,
    how: types::PathFlags,
    path: &str,
    flags: types::DescriptorFlags,
) -> wasmtime::Result<bool> {
    let Descriptor::Dir(directory) = files.table.get(directory)? else {
        return Ok(false);
    };
    let reads = flags.contains(types::DescriptorFlags::READ);
    let mut access = match flags.contains(types::DescriptorFlags::WRITE) {
        true if reads => OFlags::RDWR,
        true => OFlags::WRONLY,
        false => OFlags::RDONLY,
    };
    access.set(
        OFlags::NOFOLLOW,
        !how.contains(types::PathFlags::SYMLINK_FOLLOW),
    );
    let opened = rustix::fs::openat2(
        &*directory.dir,
        path,
        access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH,
    );
    Ok(opened.is_err_and(|errno| errno == Errno::AGAIN))
}

/// Waits for the disk on a separate thread. Once the event has taken as long as it
/// may, with all that it waited for, the guest traps and the worker goes on.
pub(super) fn sync<T: WasiHost>(
    state: &mut T,
    descriptor: &Resource<Descriptor>,
    wait: fn(&fs::File) -> io::Result<()>,
) -> wasmtime::Result<(Result<(), types::ErrorCode>,)> {
    let file = match state.wasi().table.get(descriptor)? {
        Descriptor::File(file) => Arc::clone(&file.file),
        Descriptor::Dir(directory) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match rustix::fs::openat(&*directory.dir, ".", flags, Mode::empty()) {
                Ok(opened) => Arc::new(opened.into()),
                Err(errno) => return Ok((Err(io::Error::from(errno).into()),)),
            }
        }
    };
    let (done, result) = mpsc::channel();
    let waiting = move || {
        // After the trap, nobody receives the result.
        let _ = done.send(wait(&file));
    };
    if let Err(error) = thread::Builder::new().name("sync".into()).spawn(waiting) {
        return Ok((Err(error.into()),));
    }
    let begun = Instant::now();
    let result = result.recv_timeout(state.time_left());
    state.waited(begun.elapsed());
    match result {
        Ok(result) => Ok((result.map_err(Into::into),)),
        Err(_) => wasmtime::bail!("the disk takes longer than an event may (--event-timeout)"),
    }
}
