//! Bodies whose moving is told to the instance that reads or makes them.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use send_wrapper::SendWrapper;

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
        let polled = Pin::new(&mut self.body).poll_frame(cx);
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
