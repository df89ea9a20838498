//! The host's shutdown.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::task::Poll;
use std::time::Duration;

use crate::wait::Waiters;
use crate::{Instant, executor};

struct State {
    begun: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    waiters: Waiters,
}

thread_local! {
    static STATE: ManuallyDrop<State> = const {
        ManuallyDrop::new(State {
            begun: Cell::new(false),
            deadline: Cell::new(None),
            waiters: Waiters::new(),
        })
    };
}

/// Waits until the host shuts down (SIGTERM), and returns when it will end the
/// connections that are still open; `None` if it waits for ever.
///
/// A protocol may say goodbye then. Connections that are idle should be closed.
/// Resolves at once if the shutdown has begun.
///
/// ```
/// # use netwasm_guest::{Connection, Either, Result, select, shutdown};
/// async fn serve(mut conn: Connection) -> Result<()> {
///     loop {
///         match select(shutdown(), conn.read()).await {
///             Either::Left(_) => return conn.write_all("421 going down\r\n").await,
///             Either::Right(read) => match read? {
///                 Some(data) => conn.write_all(data).await?,
///                 None => return Ok(()),
///             },
///         }
///     }
/// }
/// # netwasm_guest::testing::block_on(async {
/// # let mut peer = netwasm_guest::testing::serve(serve);
/// # peer.send("x");
/// # peer.expect("x");
/// # netwasm_guest::testing::shut_down(None);
/// # peer.expect("421 going down\r\n");
/// # peer.expect_end();
/// # });
/// ```
pub async fn shutdown() -> Option<Instant> {
    // The list of those who wait is not lent to the future: it lives in a
    // thread-local, and the future may not.
    struct Waiting(Option<usize>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            if let Some(key) = self.0 {
                STATE.with(|state| state.waiters.leave(key));
            }
        }
    }
    let mut waiting = Waiting(None);
    std::future::poll_fn(|cx| {
        STATE.with(|state| {
            if state.begun.get() {
                return Poll::Ready(state.deadline.get());
            }
            waiting.0 = Some(state.waiters.enter(waiting.0, cx));
            Poll::Pending
        })
    })
    .await
}

/// Returns true if the host is shutting down.
pub fn is_shutting_down() -> bool {
    STATE.with(|state| state.begun.get())
}

/// Handles the event.
pub(crate) fn begin(deadline: Option<Duration>) {
    STATE.with(|state| {
        state.begun.set(true);
        state
            .deadline
            .set(deadline.map(|after| Instant::now() + after));
        state.waiters.wake_all();
    });
    executor::run();
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn reset() {
    STATE.with(|state| state.begun.set(false));
}
