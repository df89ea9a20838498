//! The body of a handler's response: a stream of bytes, or a file.

use std::any::Any;
use std::fmt;
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
use netwasm_net::transport::Transport;

use crate::failure::Failure;

/// Receives, after a body, its trailers, or the reason why it is incomplete.
pub type Ended = oneshot::Receiver<Result<Option<HeaderMap>, Failure>>;

/// A response's body. If its handler passed on a file unread, the kernel sends
/// the file.
pub trait Content: Body<Data = Bytes, Error = Failure> {
    /// Takes the file, if the body is one. To be called before the body is
    /// polled.
    fn take_file(&mut self) -> Option<FileContent>;

    /// True if some of the body can be moved to a plain connection natively.
    fn may_move(&self) -> bool {
        false
    }

    /// Moves some of the body to a connection natively, whose queue is empty.
    /// Ready with the number of bytes; with 0, the body is to be polled.
    ///
    /// # Errors
    /// Fails if the body cannot be completed.
    fn poll_move(&mut self, _cx: &mut Context<'_>, _to: &Transport) -> Poll<Result<u64, Failure>> {
        Poll::Ready(Ok(0))
    }

    /// Advances what goes on beside the body, such as the rest of a request that
    /// is forwarded. To be called while the client takes nothing of the body.
    fn poll_beside(&mut self, _cx: &mut Context<'_>) {}
}

/// Any body of a response.
pub type BoxContent = Box<dyn Content + Unpin>;

/// A file from an offset on.
#[derive(Debug)]
pub struct FileContent {
    /// The file, opened for reading.
    pub file: Arc<fs::File>,
    /// Offset of the body's first byte.
    pub offset: u64,
    /// Guard, to be dropped when the file is no longer read.
    pub reading: Box<dyn Any>,
    /// Receiver of what follows the body.
    pub ended: Ended,
}

/// A file that is ready to be sent.
#[derive(Debug)]
pub struct OpenContent {
    /// The file, opened for reading.
    pub file: Rc<File>,
    /// Offset of the body's first byte.
    pub offset: u64,
    /// Bytes from the offset to the end of the file, when it was opened.
    pub length: u64,
    /// Guard, to be dropped when the file is no longer read.
    pub reading: Box<dyn Any>,
    /// Receiver of what follows the body.
    pub ended: Ended,
}

impl FileContent {
    /// Reads the file's length.
    ///
    /// # Errors
    /// Fails if no file descriptor is left for it, or as fstat(2) does.
    pub fn open(self) -> Result<OpenContent, ConnectionError> {
        let Self {
            file,
            offset,
            reading,
            ended,
        } = self;
        let file = match Arc::try_unwrap(file) {
            Ok(file) => file,
            // The guest still has the file.
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

/// A request's body that arrives while it is read.
pub trait Arriving: Body<Data = Bytes, Error = Failure> {
    /// Waits until the rest of the body is lost. Reads nothing.
    fn poll_lost(&self, cx: &Context<'_>) -> Poll<Failure>;

    /// Moves some of the body to a connection natively, whose queue is empty.
    /// Ready with the number of bytes; with 0, the body is to be polled.
    ///
    /// # Errors
    /// Fails if the body cannot be completed.
    fn poll_move(&mut self, _cx: &mut Context<'_>, _to: &Transport) -> Poll<Result<u64, Failure>> {
        Poll::Ready(Ok(0))
    }
}

/// A request's body, for a handler that reads it as a stream.
pub enum RequestBody {
    /// No body.
    Empty,
    /// A body that arrives while it is read.
    Coming(SendWrapper<Box<dyn Arriving + Unpin>>),
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

impl RequestBody {
    /// Wraps a body that arrives while it is read.
    pub fn new(body: impl Arriving + Unpin + 'static) -> Self {
        Self::Coming(SendWrapper::new(Box::new(body)))
    }

    /// Waits until the rest of the body is lost. Reads nothing.
    pub fn poll_lost(&self, cx: &Context<'_>) -> Poll<Failure> {
        match self {
            Self::Empty => Poll::Pending,
            Self::Coming(body) => body.poll_lost(cx),
        }
    }

    /// Moves some of the body natively. See [`Arriving::poll_move`].
    ///
    /// # Errors
    /// Fails if the body cannot be completed.
    pub fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        to: &Transport,
    ) -> Poll<Result<u64, Failure>> {
        match self {
            Self::Empty => Poll::Ready(Ok(0)),
            Self::Coming(body) => body.poll_move(cx, to),
        }
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
