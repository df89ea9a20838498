//! Bodies of requests that an event instance reads as events, as far as the
//! guest has given credit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use http_body::Body as _;
use tokio::task::AbortHandle;

use netwasm_base::error::ConnectionError;
use netwasm_exchange::answer::Fields;
use netwasm_exchange::content::RequestBody;
use netwasm_exchange::failure::Failure;
use netwasm_net::guest::Gone;
use netwasm_net::turns::Turn;

/// A guest that reads bodies. Each call may fail with [`Gone`].
pub(crate) trait Reads {
    /// Delivers bytes of a body; never empty.
    fn body_received(&self, token: u64, data: &[u8]) -> Result<(), Gone>;

    /// Announces that a body is complete, after which its token is free.
    fn body_ended(&self, token: u64, trailers: &Fields) -> Result<(), Gone>;

    /// Announces that the rest of a body will not come, after which its token is
    /// free.
    fn body_failed(&self, token: u64, reason: &ConnectionError) -> Result<(), Gone>;
}

/// Bodies that an instance reads, by the guest's tokens. Dropping one stops the
/// reading.
#[derive(Debug, Default)]
pub(crate) struct Inlets(HashMap<u64, Inlet>);

#[derive(Debug)]
struct Inlet {
    credit: Rc<Credit>,
    /// The task that reads the body.
    task: AbortHandle,
}

impl Inlets {
    /// Returns the number of bodies.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// True if a token is in use.
    pub(crate) fn has(&self, token: u64) -> bool {
        self.0.contains_key(&token)
    }

    /// Adds a body under a token that is not in use.
    pub(crate) fn add(&mut self, token: u64, credit: Rc<Credit>, task: AbortHandle) {
        self.0.insert(token, Inlet { credit, task });
    }

    /// Gives more credit.
    pub(crate) fn give(&self, token: u64, more: u64) {
        if let Some(inlet) = self.0.get(&token) {
            inlet.credit.give(more);
        }
    }

    /// Stops the reading of a body.
    pub(crate) fn stop(&mut self, token: u64) {
        self.0.remove(&token);
    }

    /// Frees the token of a body that has ended. Its task ends by itself.
    pub(crate) fn ended(&mut self, token: u64) {
        if let Some(inlet) = self.0.get(&token) {
            inlet.credit.over.set(true);
        }
        self.0.remove(&token);
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // The task may be calling the guest just now, and then ends after that.
        if !self.credit.over.replace(true) {
            self.task.abort();
        }
    }
}

/// Bytes of a body that may come.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    bytes: Cell<u64>,
    /// True if no more events are to come.
    over: Cell<bool>,
    /// Waker of the task that reads the body.
    waker: RefCell<Option<Waker>>,
}

impl Credit {
    pub(crate) fn new(bytes: u64) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(bytes),
            ..Self::default()
        })
    }

    fn give(&self, more: u64) {
        if more == 0 {
            return;
        }
        self.bytes.set(self.bytes.get().saturating_add(more));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes up to `wanted` bytes of credit, as soon as there is some.
    ///
    /// # Errors
    /// Fails if the body is lost while there is none.
    async fn take(&self, wanted: usize, body: &RequestBody) -> Result<usize, Failure> {
        poll_fn(|cx| match self.bytes.get() {
            0 => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                body.poll_lost(cx).map(Err)
            }
            left => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(wanted);
                self.bytes.set(left - taken as u64);
                Poll::Ready(Ok(taken))
            }
        })
        .await
    }
}

/// Reads a body and delivers it to its guest. Reads nothing before there is
/// credit for the first byte. After that, one piece is read ahead of the credit,
/// so that the end shows without any.
pub(crate) async fn deliver<G: Reads>(
    instance: Weak<G>,
    token: u64,
    credit: Rc<Credit>,
    mut body: RequestBody,
    turn: Rc<Turn>,
) {
    if let Err(failure) = credit.take(0, &body).await {
        return failed(&instance, token, &failure);
    }
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let mut data = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                        (name.as_str().to_owned(), value.as_bytes().to_vec())
                    };
                    let trailers = trailers.iter().map(field).collect();
                    return ended(&instance, token, &trailers);
                }
            },
            None => return ended(&instance, token, &Vec::new()),
            Some(Err(failure)) => return failed(&instance, token, &failure),
        };
        let size = data.len();
        while !data.is_empty() {
            let count = match credit.take(data.len(), &body).await {
                Ok(count) => count,
                Err(failure) => return failed(&instance, token, &failure),
            };
            let piece = data.split_to(count);
            let Some(instance) = instance.upgrade() else {
                return;
            };
            if instance.body_received(token, &piece).is_err() || credit.over.get() {
                return;
            }
        }
        if body.is_end_stream() {
            return ended(&instance, token, &Vec::new());
        }
        turn.pause(size).await;
    }
}

fn ended<G: Reads>(instance: &Weak<G>, token: u64, trailers: &Fields) {
    if let Some(instance) = instance.upgrade() {
        // A trap is already logged.
        let _ = instance.body_ended(token, trailers);
    }
}

fn failed<G: Reads>(instance: &Weak<G>, token: u64, failure: &Failure) {
    if let Some(instance) = instance.upgrade() {
        // A trap is already logged.
        let _ = instance.body_failed(token, &reason(failure));
    }
}

/// Returns why a body does not arrive whole.
fn reason(failure: &Failure) -> ConnectionError {
    match failure {
        Failure::HttpRequestBodySize(_) => {
            ConnectionError::LimitExceeded("the body is too large (--max-body)")
        }
        Failure::ConnectionReadTimeout => {
            ConnectionError::Timeout("the body took too long (--body-timeout)")
        }
        Failure::HttpProtocolError => {
            ConnectionError::Other("the body or its trailers are malformed".into())
        }
        _ => ConnectionError::Reset,
    }
}
