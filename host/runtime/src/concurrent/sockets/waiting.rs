//! A call that waits for a watch list.

use std::rc::Rc;
use std::time::Duration;

use netwasm_net::posix::{Readiness, WatchList};
use netwasm_net::turns::Turn;

use super::Outcome;

/// A call that waits for a watch list.
pub(super) struct Waiting {
    pub(super) list: Rc<WatchList>,
    pub(super) turn: Rc<Turn>,
    pub(super) most: usize,
    pub(super) timeout: Option<Duration>,
}

impl Waiting {
    pub(super) async fn run(self) -> Outcome<Vec<Readiness>> {
        let Self {
            list,
            turn,
            most,
            timeout,
        } = self;
        let ready = list.ready(most)?;
        if !ready.is_empty() || timeout == Some(Duration::ZERO) {
            // A guest that always has something to do lets others do theirs.
            turn.pause(0).await;
            return Ok(ready);
        }
        let waiting = std::future::poll_fn(|cx| list.poll_ready(cx, most));
        let waited = match timeout {
            None => waiting.await,
            Some(timeout) => match tokio::time::timeout(timeout, waiting).await {
                Ok(waited) => waited,
                Err(_) => Ok(Vec::new()),
            },
        };
        // The time of the wait was nobody's.
        turn.resume();
        Ok(waited?)
    }
}
