use wasmtime::component::Resource;

use crate::wasm::bindings::netwasm::net::files;
use crate::wasm::bindings::netwasm::net::types::ErrorCode;
use crate::wasm::state::{FileHandle, State};

impl files::Host for State {}

impl files::HostFile for State {
    fn open(&mut self, path: String) -> wasmtime::Result<Result<Resource<FileHandle>, ErrorCode>> {
        let opened = self.worker.shared.roots.open_file(&path);
        if self.worker.shared.guest.dirs.is_empty() {
            self.worker.shared.counters.denied.add();
            tracing::warn!(
                path,
                "opening a file is not allowed; --dir HOST::GUEST would allow it"
            );
        }
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
