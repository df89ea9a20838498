//! From a request to its response, within one call of the host.

use std::cell::OnceCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::held::Held;
use super::{Handler, Request, Response, Router};

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
        let handler = Rc::new(self);
        Prepared::Handler(Box::new(move |request| H::call(handler.clone(), request)))
    }

    fn respond(self, request: Request<'_>) -> Answered {
        H::call(Own(self), request)
    }
}

/// A handler by value, which an `Rc` would have to be allocated for.
struct Own<T>(T);

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
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
    /// The host is to collect the body, and to ask again.
    Collect,
    Later(Later),
}

/// A handler that waits.
#[doc(hidden)]
pub struct Later {
    pub(crate) answer: Pin<Box<dyn Future<Output = Response>>>,
    /// Its request, to be kept if the call of the host ends first.
    pub(crate) request: Option<Rc<Held>>,
}

impl From<Response> for Answered {
    fn from(response: Response) -> Self {
        Self::Ready(response)
    }
}

/// Begins to run a handler's future.
pub(super) fn begin(
    mut answer: Pin<Box<dyn Future<Output = Response>>>,
    request: Option<Rc<Held>>,
) -> Answered {
    // Most answer at once, and so need no waker that wakes.
    let mut cx = Context::from_waker(Waker::noop());
    match answer.as_mut().poll(&mut cx) {
        Poll::Ready(response) => Answered::Ready(response),
        Poll::Pending => Answered::Later(Later { answer, request }),
    }
}
