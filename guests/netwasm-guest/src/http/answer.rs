//! From a request to its response, within one call of the host.

use std::cell::OnceCell;
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use super::{Handler, Request, Response, Router};
use crate::{executor, log};

/// An app, which answers requests: a handler, such as `async fn(Request) -> Response`, a
/// function that makes a [`Router`], or a router.
pub trait App<Marker>: Sized {
    /// Prepares to answer. Called once for an instance.
    #[doc(hidden)]
    fn prepare(self) -> Prepared;

    /// Answers a request; for the one app of a component.
    #[doc(hidden)]
    fn respond(self, request: Request<'_>) -> Answered {
        thread_local! {
            // Never dropped: an instance ends with its memory.
            static PREPARED: ManuallyDrop<OnceCell<Prepared>> =
                const { ManuallyDrop::new(OnceCell::new()) };
        }
        PREPARED.with(|prepared| match prepared.get_or_init(|| self.prepare()) {
            Prepared::Router(router) => router.respond(request),
            Prepared::Handler(handler) => handler(request),
        })
    }
}

/// An app that is ready to answer.
#[doc(hidden)]
pub enum Prepared {
    Router(Router),
    Handler(Box<dyn Fn(Request<'_>) -> Answered>),
}

/// Marks what is an app because it is a handler.
#[doc(hidden)]
pub struct ByHandler<Marker>(std::marker::PhantomData<Marker>);

impl<H: Handler<Marker>, Marker> App<ByHandler<Marker>> for H {
    fn prepare(self) -> Prepared {
        Prepared::Handler(Box::new(move |request| self.call(request)))
    }

    fn respond(self, request: Request<'_>) -> Answered {
        self.call(request)
    }
}

/// Marks what is an app because it makes a router.
#[doc(hidden)]
pub struct ByRouter;

impl<F: Fn() -> Router> App<ByRouter> for F {
    fn prepare(self) -> Prepared {
        Prepared::Router(self())
    }
}

impl App<()> for Router {
    fn prepare(self) -> Prepared {
        Prepared::Router(self)
    }
}

/// Outcome of a request within the call of the host.
#[doc(hidden)]
pub enum Answered {
    Ready(Response),
    /// The handler waits.
    Later(Pin<Box<dyn Future<Output = Response>>>),
}

impl From<Response> for Answered {
    fn from(response: Response) -> Self {
        Self::Ready(response)
    }
}

/// Begins to run a handler's future.
pub(super) fn begin(mut future: Pin<Box<dyn Future<Output = Response>>>) -> Answered {
    // Most answer at once, and so need no waker that wakes.
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(response) => Answered::Ready(response),
        Poll::Pending => Answered::Later(future),
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Runs the future of a handler that borrows its request to its end, as far as
/// that is possible within the call of the host.
pub(super) fn complete(target: &str, future: impl Future<Output = Response>) -> Response {
    let mut future = pin!(future);
    // Most answer at once, and so need no waker that wakes.
    if let Poll::Ready(response) = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        return response;
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    while flag.0.swap(false, Relaxed) {
        if let Poll::Ready(response) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return response;
        }
        executor::run_ready();
    }
    let mut message = String::from("the handler of ");
    message.push_str(target);
    message.push_str(
        " waits while it holds a Request, which ends with the call of the host: \
         let it take an OwnedRequest, or only what it needs",
    );
    log::write(log::Level::Error, &message);
    Response::error(500)
}
