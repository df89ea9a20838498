//! The body of a handler's response: bytes as they are made, or a file.

use std::any::Any;
use std::fs;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;
use tokio::sync::oneshot;

use netwasm_base::error::ConnectionError;
use netwasm_net::files::File;

use crate::failure::Failure;

/// What follows a body: its trailers, or why it is not whole.
pub type Ended = oneshot::Receiver<Result<Option<HeaderMap>, Failure>>;

/// A body, perhaps of a file that its handler passed on unread: then the kernel
/// sends it.
pub trait Content: Body<Data = Bytes, Error = Failure> {
    /// The file that it is; `None` where it is something else. To be asked
    /// before it is polled.
    fn take_file(&mut self) -> Option<FileContent>;
}

/// Any of them.
pub type BoxContent = Box<dyn Content + Unpin>;

/// A file from an offset on.
#[derive(Debug)]
pub struct FileContent {
    /// The file, opened for reading.
    pub file: Arc<fs::File>,
    /// Where the body begins, bytes.
    pub offset: u64,
    /// What is to be dropped when the file is no longer read.
    pub reading: Box<dyn Any>,
    /// What follows it.
    pub ended: Ended,
}

/// One that is ready to be sent.
#[derive(Debug)]
pub struct OpenContent {
    /// The file, opened for reading.
    pub file: Rc<File>,
    /// Where the body begins, bytes.
    pub offset: u64,
    /// Bytes, by now.
    pub length: u64,
    /// To be dropped when the file is no longer read.
    pub reading: Box<dyn Any>,
    /// What follows it.
    pub ended: Ended,
}

impl FileContent {
    /// Looks how long it is.
    ///
    /// # Errors
    /// No descriptor is left for it.
    pub fn open(self) -> Result<OpenContent, ConnectionError> {
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

/// The body of a request, for a handler that reads it as it comes.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// It comes while it is read.
    Coming(SendWrapper<Box<dyn Body<Data = Bytes, Error = Failure> + Unpin>>),
}

impl RequestBody {
    /// One that comes.
    pub fn new(body: impl Body<Data = Bytes, Error = Failure> + Unpin + 'static) -> Self {
        Self::Coming(SendWrapper::new(Box::new(body)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Coming(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Coming(body) => body.size_hint(),
        }
    }
}
