use wasmtime::component::Resource;

use netwasm_base::error::ConnectionError;
use netwasm_net::files::File;

use crate::bindings::netwasm::net::files;
use crate::bindings::netwasm::net::types::Error as WitError;
use crate::convert::called;
use crate::handles::FileHandle;
use crate::state::State;

impl files::Host for State {}

impl State {
    /// Opens a file for a guest, if a `--dir` holds it.
    ///
    /// # Errors
    /// Fails with `AccessDenied` if no `--dir` holds it, and as
    /// [`netwasm_net::files::Roots::open_file`] does.
    pub(crate) fn open_file(&self, path: &str) -> Result<File, ConnectionError> {
        let env = &self.local.env;
        if !env.roots.hold(path) {
            env.net.counters.denied.add();
            tracing::warn!(
                guest = %env.net.guest,
                path,
                "opening a file is not allowed; --dir HOST::GUEST would allow it"
            );
            return Err(ConnectionError::AccessDenied);
        }
        let opened = env.roots.open_file(path);
        if let Err(error) = &opened
            && *error != ConnectionError::NotFound
        {
            env.net.counters.files_failed.add();
            tracing::warn!(guest = %env.net.guest, path, "the file cannot be opened: {error}");
        }
        opened
    }
}

impl files::HostFile for State {
    fn open(&mut self, path: String) -> wasmtime::Result<Result<Resource<FileHandle>, WitError>> {
        let opened = self.open_file(&path).and_then(|file| self.add_file(file));
        Ok(opened.map_err(called))
    }

    fn size(&mut self, this: Resource<FileHandle>) -> wasmtime::Result<Result<u64, WitError>> {
        Ok(self.file(&this)?.size().map_err(called))
    }

    fn drop(&mut self, this: Resource<FileHandle>) -> wasmtime::Result<()> {
        self.remove_file(&this).map(drop)
    }
}
