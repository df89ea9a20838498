//! Standard input of the program that is waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use tokio::task::AbortHandle;
use wasmtime_wasi::cli::StdinStream;
use wasmtime_wasi::p2::Pollable;

use netwasm_net::posix::Notice;

/// A wait for standard input, whose descriptor becomes readable once there is
/// something to read, or its end. The bytes are read by WASI's own functions.
/// Dropping it gives up.
#[derive(Debug)]
pub(super) struct Input {
    came: Rc<Notice>,
    task: AbortHandle,
}

impl Input {
    /// Begins to wait.
    ///
    /// # Errors
    /// Fails if no descriptor is left.
    pub(super) fn await_some() -> io::Result<Self> {
        let came = Rc::new(Notice::new()?);
        let coming = Rc::clone(&came);
        let task = tokio::task::spawn_local(async move {
            io::stdin().p2_stream().ready().await;
            coming.give();
        });
        Ok(Self {
            came,
            task: task.abort_handle(),
        })
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.came.as_fd()
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.task.abort();
    }
}
