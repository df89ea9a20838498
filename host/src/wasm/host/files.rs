use wasmtime::component::Resource;

use crate::wasm::bindings::netwasm::net::files;
use crate::wasm::bindings::netwasm::net::types::ErrorCode;
use crate::wasm::state::{FileHandle, State};

impl files::Host for State {}

impl files::HostFile for State {
    fn open(&mut self, path: String) -> wasmtime::Result<Result<Resource<FileHandle>, ErrorCode>> {
        let shared = &self.worker.shared;
        if !shared.roots.hold(&path) {
            shared.counters.denied.add();
            tracing::warn!(
                guest = %shared.guest.name,
                path,
                "opening a file is not allowed; --dir HOST::GUEST would allow it"
            );
            return Ok(Err(ErrorCode::AccessDenied));
        }
        let opened = shared.roots.open_file(&path);
        Ok(opened
            .and_then(|file| self.add_file(file))
            .map_err(ErrorCode::from))
    }

    fn size(&mut self, this: Resource<FileHandle>) -> wasmtime::Result<Result<u64, ErrorCode>> {
        Ok(self.file(&this)?.size().map_err(ErrorCode::from))
    }

    fn drop(&mut self, this: Resource<FileHandle>) -> wasmtime::Result<()> {
        self.remove_file(&this)
    }
}
