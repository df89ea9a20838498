//! Bodies that report progress to the instance that reads or makes them.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;
use tokio::task::unconstrained;

use netwasm_exchange::content::FileContent;
use netwasm_net::health::Health;

use crate::hand_back::HandBack;

/// A body that begins a new turn of the instance with each piece. If data is
/// always ready, a whole body passes in one poll of the instance's loop, which
/// must not count as endless computing.
pub(crate) struct Moving<B: Body> {
    body: B,
    /// A frame that was polled already.
    first: Option<Polled<B>>,
    health: SendWrapper<Rc<Health>>,
}

/// A frame; `None` at the end.
type Polled<B> = Option<Result<Frame<<B as Body>::Data>, <B as Body>::Error>>;

impl<B: Body + Unpin> Moving<B> {
    pub(crate) fn new(body: B, health: &Rc<Health>) -> Self {
        Self {
            body,
            first: None,
            health: SendWrapper::new(Rc::clone(health)),
        }
    }

    /// True if the body fails at once. To be called before it is polled.
    pub(crate) fn fails(&mut self) -> bool {
        // The next poll registers a waker.
        let mut cx = Context::from_waker(Waker::noop());
        if self.first.is_none()
            && let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(&mut cx)
        {
            self.first = Some(frame);
        }
        matches!(self.first, Some(Some(Err(_))))
    }

    /// Returns the file of a file body, otherwise `None`. To be called before
    /// the body is polled.
    pub(crate) fn take_file(&mut self, hand_back: &HandBack) -> Option<FileContent> {
        if hand_back.is_unused() || self.first.is_some() {
            return None;
        }
        let body = Pin::new(&mut self.body);
        // The next poll registers a waker.
        let mut cx = Context::from_waker(Waker::noop());
        let (polled, given) = hand_back.ask(|| body.poll_frame(&mut cx));
        if given.is_none()
            && let Poll::Ready(frame) = polled
        {
            self.first = Some(frame);
        }
        given
    }
}

impl<B: Body + Unpin> Body for Moving<B>
where
    B::Data: Unpin,
    B::Error: Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(first) = self.first.take() {
            self.health.moved();
            return Poll::Ready(first);
        }
        // Tokio's channels pretend to be empty once a task has used them often
        // enough. Here that would look like a guest that has made no more.
        // Turns are taken by the callers.
        let body = &mut self.body;
        let mut frame = unconstrained(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        let polled = Pin::new(&mut frame).poll(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            self.health.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        if let Some(Some(Ok(frame))) = &self.first
            && let Some(data) = frame.data_ref()
        {
            let first = data.remaining() as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(first));
            }
            hint.set_lower(hint.lower().saturating_add(first));
        }
        hint
    }
}
