//! Handlers of requests.

use std::ops::Deref;

use super::{Answered, FromRequest, Request, Response, answer};

/// A handler of requests: an async function whose arguments are made of the
/// request, and whose result can be turned into a [`Response`].
///
/// It takes up to six arguments that implement [`FromRequest`], and before them
/// the [`Request`] itself if it wants that.
pub trait Handler<Marker>: 'static {
    /// Answers a request. A handler that waits keeps itself until it is done.
    #[doc(hidden)]
    fn call(this: impl Deref<Target = Self> + 'static, request: Request<'_>) -> Answered;
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
            fn call(this: impl Deref<Target = Self> + 'static, request: Request<'_>) -> Answered {
                if !(false $(|| $argument::READS_PIECES)*) && !request.is_whole() {
                    return Answered::Collect;
                }
                $(let $argument = match $argument::from_request(&request) {
                    Ok(argument) => argument,
                    Err(response) => return response.into(),
                };)*
                let called = this($($argument),*);
                answer::begin(
                    Box::pin(async move { Into::<Response>::into(called.await) }),
                    None,
                )
            }
        }

        #[allow(non_snake_case, reason = "the arguments are named as their types")]
        impl<F, R, $($argument,)*> Handler<(Request<'static>, fn($($argument,)*) -> R)> for F
        where
            F: AsyncFn(Request<'_>, $($argument,)*) -> R + 'static,
            R: Into<Response>,
            $($argument: FromRequest + 'static,)*
        {
            fn call(this: impl Deref<Target = Self> + 'static, request: Request<'_>) -> Answered {
                if !(false $(|| $argument::READS_PIECES)*) && !request.is_whole() {
                    return Answered::Collect;
                }
                $(let $argument = match $argument::from_request(&request) {
                    Ok(argument) => argument,
                    Err(response) => return response.into(),
                };)*
                let (parts, held) = request.into_parts();
                let answer = async move {
                    parts.call(async |request: Request<'_>| this(request, $($argument),*).await).await.into()
                };
                answer::begin(Box::pin(answer), Some(held))
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
