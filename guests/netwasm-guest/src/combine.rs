//! Several futures at once.

use std::pin::pin;
use std::task::Poll;

/// One of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

impl<T> Either<T, T> {
    /// Returns the value, whichever it is.
    pub fn into_inner(self) -> T {
        match self {
            Self::Left(value) | Self::Right(value) => value,
        }
    }
}

/// Waits for the first of two futures, and drops the other one. If both are
/// ready, it is the first.
///
/// ```
/// # use std::time::Duration;
/// # use netwasm_guest::{Either, select, sleep, testing};
/// # testing::block_on(async {
/// let slow = sleep(Duration::from_secs(1));
/// match select(slow, async { 7 }).await {
///     Either::Left(()) => unreachable!(),
///     Either::Right(number) => assert_eq!(number, 7),
/// }
/// # });
/// ```
pub async fn select<A, B>(
    left: impl Future<Output = A>,
    right: impl Future<Output = B>,
) -> Either<A, B> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Like [`select`], for futures that return the same type.
pub async fn race<T>(left: impl Future<Output = T>, right: impl Future<Output = T>) -> T {
    select(left, right).await.into_inner()
}

/// Waits for two futures, and returns both results; asyncio's `gather`.
pub async fn join<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> (A, B) {
    let (mut left, mut right) = (pin!(left), pin!(right));
    let (mut a, mut b) = (None, None);
    std::future::poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(value) = left.as_mut().poll(cx)
        {
            a = Some(value);
        }
        if b.is_none()
            && let Poll::Ready(value) = right.as_mut().poll(cx)
        {
            b = Some(value);
        }
        both(&mut a, &mut b)
    })
    .await
}

/// Takes both values once they are there.
fn both<A, B>(a: &mut Option<A>, b: &mut Option<B>) -> Poll<(A, B)> {
    match (a.take(), b.take()) {
        (Some(a), Some(b)) => Poll::Ready((a, b)),
        (left, right) => {
            (*a, *b) = (left, right);
            Poll::Pending
        }
    }
}

/// Like [`join`], but ends at the first error, and drops the other future.
///
/// # Errors
/// That of the future that failed first.
pub async fn try_join<A, B, E>(
    left: impl Future<Output = Result<A, E>>,
    right: impl Future<Output = Result<B, E>>,
) -> Result<(A, B), E> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    let (mut a, mut b) = (None, None);
    std::future::poll_fn(|cx| {
        if a.is_none()
            && let Poll::Ready(result) = left.as_mut().poll(cx)
        {
            match result {
                Ok(value) => a = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if b.is_none()
            && let Poll::Ready(result) = right.as_mut().poll(cx)
        {
            match result {
                Ok(value) => b = Some(value),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        both(&mut a, &mut b).map(Ok)
    })
    .await
}

/// Waits for all futures, and returns their results in order.
///
/// Whenever one of them is woken, all are polled that are not done. For more
/// than a few dozen, [`spawn`](crate::spawn) a task for each.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|cx| {
        let mut done = true;
        for (future, result) in &mut all {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => done = false,
                }
            }
        }
        if done {
            let results = all.iter_mut().filter_map(|(_, result)| result.take());
            return Poll::Ready(results.collect());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::testing::block_on;
    use crate::yield_now;

    async fn later<T>(value: T) -> T {
        yield_now().await;
        value
    }

    #[test]
    fn the_first_wins_and_the_left_one_if_both_are_ready() {
        block_on(async {
            assert_eq!(select(ready(1), ready('b')).await, Either::Left(1));
            assert_eq!(select(later(1), ready('b')).await, Either::Right('b'));
            assert_eq!(
                select(pending::<()>(), later('b')).await,
                Either::Right('b')
            );
            assert_eq!(race(later(1), ready(2)).await, 2);
        });
    }

    #[test]
    fn joining_waits_for_all_and_keeps_their_order() {
        block_on(async {
            assert_eq!(join(later(1), ready('b')).await, (1, 'b'));
            let slow = [3, 0, 2].map(|turns| async move {
                for _ in 0..turns {
                    yield_now().await;
                }
                turns
            });
            assert_eq!(join_all(slow).await, [3, 0, 2]);
            assert!(
                join_all(Vec::<std::future::Ready<()>>::new())
                    .await
                    .is_empty()
            );
        });
    }

    #[test]
    fn an_error_ends_what_is_tried_together() {
        block_on(async {
            let fails = async { Err::<(), _>("no") };
            assert_eq!(try_join(pending::<Result<(), _>>(), fails).await, Err("no"));
            let both = try_join(later(Ok::<_, ()>(1)), ready(Ok(2))).await;
            assert_eq!(both, Ok((1, 2)));
        });
    }
}
