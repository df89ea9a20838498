//! The streams of values. Each has at most one piece under way on a thread that
//! may block.

use std::io;
use std::mem;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::blobs::Range;

use super::values::Content;

/// Largest piece in bytes.
const PIECE: usize = 64 << 10;

/// Returns the outcome of a piece.
async fn outcome<A>(task: &mut JoinHandle<io::Result<A>>) -> io::Result<A> {
    task.await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A stream from an object.
pub(super) struct Reading {
    range: Range,
    /// Position of the next byte that the guest has not taken.
    position: u64,
    state: ReadOutcome,
}

enum ReadOutcome {
    Idle,
    Working(JoinHandle<io::Result<Bytes>>),
    Ready(Bytes),
    Failed(io::Error),
    Over,
}

impl Reading {
    pub(super) fn new(range: Range) -> Self {
        Self {
            range,
            position: 0,
            state: ReadOutcome::Idle,
        }
    }

    fn begin(&mut self) {
        if matches!(self.state, ReadOutcome::Idle) {
            let (range, position) = (self.range.clone(), self.position);
            let task = spawn_blocking(move || range.read_at(position, PIECE).map(Bytes::from));
            self.state = ReadOutcome::Working(task);
        }
    }
}

#[async_trait]
impl Pollable for Reading {
    async fn ready(&mut self) {
        self.begin();
        if let ReadOutcome::Working(task) = &mut self.state {
            self.state = match outcome(task).await {
                Ok(bytes) if bytes.is_empty() => ReadOutcome::Over,
                Ok(bytes) => ReadOutcome::Ready(bytes),
                Err(error) => ReadOutcome::Failed(error),
            };
        }
    }
}

#[async_trait]
impl InputStream for Reading {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match &mut self.state {
            ReadOutcome::Idle => {
                self.begin();
                Ok(Bytes::new())
            }
            ReadOutcome::Working(_) => Ok(Bytes::new()),
            ReadOutcome::Ready(bytes) => {
                let piece = bytes.split_to(size.min(bytes.len()));
                self.position += piece.len() as u64;
                if bytes.is_empty() {
                    self.state = ReadOutcome::Idle;
                }
                Ok(piece)
            }
            ReadOutcome::Failed(_) => match mem::replace(&mut self.state, ReadOutcome::Over) {
                ReadOutcome::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            ReadOutcome::Over => Err(StreamError::Closed),
        }
    }
}

/// A stream to a value.
pub(super) struct Writing {
    content: Content,
    state: Write,
}

enum Write {
    Ready,
    Working(JoinHandle<io::Result<()>>),
    Failed(io::Error),
    Over,
}

impl Writing {
    pub(super) fn new(content: &Content) -> Self {
        Self {
            content: content.clone(),
            state: Write::Ready,
        }
    }

    /// Waits for the piece under way.
    async fn settle(&mut self) {
        if let Write::Working(task) = &mut self.state {
            self.state = match outcome(task).await {
                Ok(()) => Write::Ready,
                Err(error) => Write::Failed(error),
            };
        }
    }

    /// Returns the failure of the last piece once, and ends the stream.
    fn check(&mut self) -> StreamResult<()> {
        match &self.state {
            Write::Ready | Write::Working(_) => Ok(()),
            Write::Failed(_) => match mem::replace(&mut self.state, Write::Over) {
                Write::Failed(error) => Err(StreamError::LastOperationFailed(error.into())),
                _ => Err(StreamError::Closed),
            },
            Write::Over => Err(StreamError::Closed),
        }
    }
}

#[async_trait]
impl Pollable for Writing {
    async fn ready(&mut self) {
        self.settle().await;
    }
}

#[async_trait]
impl OutputStream for Writing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if matches!(self.state, Write::Working(_)) {
            return Err(StreamError::trap(
                "more is written than check-write allowed",
            ));
        }
        if !self.content.keep(&bytes) {
            let content = self.content.clone();
            self.state = Write::Working(spawn_blocking(move || content.add(&bytes)));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        match self.state {
            Write::Working(_) => Ok(0),
            _ => Ok(PIECE),
        }
    }

    /// Called when the stream is dropped: what was written is then whole.
    async fn cancel(&mut self) {
        self.settle().await;
    }
}
