//! Handlers of requests.

use super::{Answered, FromRequest, Request, Response, answer};

/// A handler of requests: an async function whose arguments are made of the
/// request, and whose result can be turned into a [`Response`].
///
/// It takes up to six arguments that implement [`FromRequest`], and before them
/// the [`Request`] itself if it wants that.
pub trait Handler<Marker>: 'static {
    /// Answers a request.
    #[doc(hidden)]
    fn call(&self, request: Request<'_>) -> Answered;
}

macro_rules! handler {
    ($($argument:ident)*) => {
        #[allow(non_snake_case, reason = "the arguments are named as their types")]
        #[allow(unused_variables, reason = "there may be no arguments")]
        impl<F, Fut, R, $($argument,)*> Handler<fn($($argument,)*) -> R> for F
        where
            F: Fn($($argument,)*) -> Fut + 'static,
            Fut: Future<Output = R> + 'static,
            R: Into<Response>,
            $($argument: FromRequest,)*
        {
            fn call(&self, request: Request<'_>) -> Answered {
                $(let $argument = match $argument::from_request(&request) {
                    Ok(argument) => argument,
                    Err(response) => return response.into(),
                };)*
                let called = self($($argument),*);
                answer::begin(Box::pin(async move { Into::<Response>::into(called.await) }))
            }
        }

        #[allow(non_snake_case, reason = "the arguments are named as their types")]
        impl<F, R, $($argument,)*> Handler<(Request<'static>, fn($($argument,)*) -> R)> for F
        where
            F: AsyncFn(Request<'_>, $($argument,)*) -> R + 'static,
            R: Into<Response>,
            $($argument: FromRequest,)*
        {
            fn call(&self, request: Request<'_>) -> Answered {
                $(let $argument = match $argument::from_request(&request) {
                    Ok(argument) => argument,
                    Err(response) => return response.into(),
                };)*
                let target = request.target();
                let called = self(request, $($argument),*);
                answer::complete(target, async move { called.await.into() }).into()
            }
        }
    };
}

handler!();
handler!(A);
handler!(A B);
handler!(A B C);
handler!(A B C D);
handler!(A B C D E);
handler!(A B C D E G);
