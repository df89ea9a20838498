//! `wasi:filesystem/types`: files, on the spot.

use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self as fs, Host as _, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::{FsResult, IoError};

use super::{WasiHost, at_once, drop_handle, files};

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

pub(super) fn add_to_linker<T: WasiHost>(l: &mut LinkerInstance<'_, T>) -> wasmtime::Result<()> {
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
pub(super) fn may_open(
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
