//! Bodies whose moving is told to the instance that reads or makes them.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;
use tokio::task::unconstrained;

use crate::stream::Health;

/// A body of which each piece begins a new turn of the instance: where data is
/// always at hand, a whole body passes in one poll of its loop, and that is no
/// computing without end.
pub(crate) struct Moving<B> {
    body: B,
    health: SendWrapper<Rc<Health>>,
}

impl<B> Moving<B> {
    pub(crate) fn new(body: B, health: &Rc<Health>) -> Self {
        Self {
            body,
            health: SendWrapper::new(Rc::clone(health)),
        }
    }
}

impl<B: Body + Unpin> Body for Moving<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        // Tokio's channels feign to be empty when a task has used them often
        // enough. Here that would look like a guest that has made no more; turns
        // are taken by those who ask.
        let body = &mut self.body;
        let mut frame = unconstrained(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
        let polled = Pin::new(&mut frame).poll(cx);
        if let Poll::Ready(Some(Ok(_))) = &polled {
            self.health.moved();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
