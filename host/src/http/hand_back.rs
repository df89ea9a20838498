//! A file as the body of a guest's response, whose stream the guest passed on
//! unread: it comes back to the host, which has the kernel send it.
//!
//! Between an instance and its connection a body is frames of bytes, whatever it
//! is. So the connection asks before it takes the first frame, and a body that is
//! a file then gives itself. For one that does not ask it is read.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use tokio::sync::oneshot;
use wasmtime_wasi_http::Error;

use crate::error::ConnectionError;
use crate::files::File;

/// What follows the body: its trailers, or why it is not whole.
pub(crate) type Ended = oneshot::Receiver<Result<Option<HeaderMap>, Error>>;

/// Where bodies of one worker give themselves.
#[derive(Debug, Default)]
pub(crate) struct HandBack {
    /// Bodies that are files, and that nobody has begun to read.
    bodies: Cell<usize>,
    asked: Cell<bool>,
    given: RefCell<Option<FileContent>>,
}

/// A file from an offset on.
#[derive(Debug)]
pub(crate) struct FileContent {
    pub(crate) file: Arc<fs::File>,
    pub(crate) offset: u64,
    /// What is to be dropped when the file is no longer read.
    pub(crate) reading: Box<dyn Any>,
    pub(crate) ended: Ended,
}

/// One that is ready to be sent.
#[derive(Debug)]
pub(super) struct OpenContent {
    pub(super) file: Rc<File>,
    pub(super) offset: u64,
    /// Bytes, by now.
    pub(super) length: u64,
    pub(super) reading: Box<dyn Any>,
    pub(super) ended: Ended,
}

impl HandBack {
    /// There is one more body that is a file, or one less.
    pub(crate) fn count(&self, more: bool) {
        let count = self.bodies.get();
        self.bodies.set(match more {
            true => count + 1,
            false => count.saturating_sub(1),
        });
    }

    /// Whether no body would give itself.
    pub(super) fn is_unused(&self) -> bool {
        self.bodies.get() == 0
    }

    /// Asks whatever body is polled within.
    pub(super) fn ask<R>(&self, poll: impl FnOnce() -> R) -> (R, Option<FileContent>) {
        self.asked.set(true);
        let polled = poll();
        self.asked.set(false);
        (polled, self.given.take())
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.get()
    }

    pub(crate) fn give(&self, content: FileContent) {
        *self.given.borrow_mut() = Some(content);
    }
}

impl FileContent {
    /// Looks how long it is.
    ///
    /// # Errors
    /// No descriptor is left for it.
    pub(super) fn open(self) -> Result<OpenContent, ConnectionError> {
        let Self {
            file,
            offset,
            reading,
            ended,
        } = self;
        let file = match Arc::try_unwrap(file) {
            Ok(file) => file,
            // The guest still has it.
            Err(file) => file.try_clone()?,
        };
        let file = File::of(file)?;
        Ok(OpenContent {
            length: file.metadata().length.saturating_sub(offset),
            file: Rc::new(file),
            offset,
            reading,
            ended,
        })
    }
}
