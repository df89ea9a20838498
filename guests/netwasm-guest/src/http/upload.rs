//! Bodies of requests that are read piece by piece.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::{FromRequest, Request, Response};
use crate::wait::Waiter;
use crate::{Error, Result};

/// Bytes of a body that may arrive before they are read.
#[cfg(target_family = "wasm")]
pub(crate) const CREDIT: u64 = 64 << 10;

/// The body of a request, as an argument of a handler that reads it piece by
/// piece; aiohttp's `request.content`. Memory holds 64 KiB of it, and the client
/// is slowed down to the handler's pace. `--max-body` limits it all the same.
///
/// The handler is called when the head has arrived, if the component exports
/// its app as `uploads`. Handlers without this argument still get requests
/// whole. If the app is exported as `http`, the body comes as one piece.
///
/// ```
/// use netwasm_guest::http::{Router, Upload};
/// use netwasm_guest::Result;
///
/// # #[cfg(not(doctest))]
/// netwasm_guest::export!(uploads: site);
///
/// fn site() -> Router {
///     Router::new().put("/count", count)
/// }
///
/// async fn count(mut upload: Upload) -> Result<String> {
///     let mut bytes = 0;
///     while let Some(piece) = upload.read().await? {
///         bytes += piece.len();
///     }
///     Ok(format!("{bytes} bytes\n"))
/// }
/// # let client = netwasm_guest::testing::Client::new(site);
/// # assert_eq!(client.request("PUT", "/count").body("hello").send().text(), "5 bytes\n");
/// ```
///
/// Dropping it before its end tells the host that the rest is not wanted.
pub struct Upload {
    pieces: Rc<Pieces>,
    /// Frees the token when it is dropped, unless the request had arrived whole.
    source: Option<Source>,
}

#[cfg(target_family = "wasm")]
use crate::inlet::Source;

/// Host that sends pieces. In memory, every request arrives whole.
#[cfg(not(target_family = "wasm"))]
enum Source {}

#[cfg(not(target_family = "wasm"))]
impl Source {
    fn read_more(&self, _: usize) {
        match *self {}
    }
}

type Trailers = Vec<(String, Vec<u8>)>;

/// Pieces of a body that have arrived.
#[derive(Default)]
pub(crate) struct Pieces {
    queue: RefCell<VecDeque<Vec<u8>>>,
    end: RefCell<Option<Result<Trailers>>>,
    reader: Waiter,
    /// True once the end was reported.
    pub(crate) over: Cell<bool>,
}

impl Pieces {
    pub(crate) fn push(&self, piece: Vec<u8>) {
        self.queue.borrow_mut().push_back(piece);
        self.reader.wake();
    }

    pub(crate) fn end(&self, end: Result<Trailers>) {
        self.over.set(true);
        *self.end.borrow_mut() = Some(end);
        self.reader.wake();
    }
}

impl Upload {
    /// Waits for the next piece and returns it; `None` at the end.
    ///
    /// # Errors
    /// - `ConnectionReset`: the client left.
    /// - `Timeout`: the client sent nothing for `--body-timeout`.
    /// - `LimitExceeded`: the body is larger than `--max-body`.
    /// - `Other`: the body or its trailers are malformed.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>> {
        let piece = poll_fn(|cx| {
            if let Some(piece) = self.pieces.queue.borrow_mut().pop_front() {
                return Poll::Ready(Ok(Some(piece)));
            }
            match &*self.pieces.end.borrow() {
                Some(Ok(_)) => Poll::Ready(Ok(None)),
                Some(Err(error)) => Poll::Ready(Err(Error::clone(error))),
                None => {
                    self.pieces.reader.register(cx);
                    Poll::Pending
                }
            }
        })
        .await?;
        if let (Some(piece), Some(source)) = (&piece, &self.source) {
            source.read_more(piece.len());
        }
        Ok(piece)
    }

    /// Returns the trailers, once [`read`](Self::read) has returned `None`.
    pub fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        match &*self.pieces.end.borrow() {
            Some(Ok(trailers)) => trailers.clone(),
            _ => Vec::new(),
        }
    }
}

impl FromRequest for Upload {
    const READS_PIECES: bool = true;

    fn from_request(request: &Request<'_>) -> Result<Self, Response> {
        let pieces = Rc::new(Pieces::default());
        if request.is_whole() {
            let body = request.body();
            if !body.is_empty() {
                pieces.push(body);
            }
            pieces.end(Ok(request.trailers()));
            let source = None;
            return Ok(Self { pieces, source });
        }
        let source = Some(request.read_body(&pieces)?);
        Ok(Self { pieces, source })
    }
}

impl Request<'_> {
    #[cfg(target_family = "wasm")]
    fn read_body(&self, pieces: &Rc<Pieces>) -> Result<Source> {
        Source::open(pieces, |token| self.begin_reading(token))
    }

    #[cfg(not(target_family = "wasm"))]
    fn read_body(&self, _: &Rc<Pieces>) -> Result<Source> {
        unreachable!("in memory, every request is whole")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Client, block_on};

    #[test]
    fn a_body_that_is_there_is_one_piece_and_an_empty_one_is_none() {
        async fn pieces(mut upload: Upload) -> Result<String> {
            let mut sizes = Vec::new();
            while let Some(piece) = upload.read().await? {
                sizes.push(piece.len());
            }
            Ok(format!("{sizes:?}"))
        }
        let client = Client::new(pieces);
        assert_eq!(client.post("/", "hello").send().text(), "[5]");
        assert_eq!(client.post("/", "").send().text(), "[]");
    }

    #[test]
    fn pieces_come_in_order_and_a_failure_stays() {
        let pieces = Rc::new(Pieces::default());
        pieces.push(b"a".to_vec());
        pieces.push(b"b".to_vec());
        pieces.end(Err(Error::other("the client left")));
        let source = None;
        let mut upload = Upload { pieces, source };
        block_on(async {
            assert_eq!(
                upload.read().await.expect("a piece").as_deref(),
                Some(&b"a"[..])
            );
            assert_eq!(
                upload.read().await.expect("a piece").as_deref(),
                Some(&b"b"[..])
            );
            assert!(upload.read().await.is_err());
            assert!(upload.read().await.is_err());
            assert!(upload.trailers().is_empty());
        });
    }
}
