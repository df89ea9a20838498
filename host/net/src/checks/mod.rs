//! Checks of the servers of upstream groups: one worker of a service's generation
//! makes them for all workers, until the generation drains.
//!
//! ```text
//!   watch --check-interval--> probe --> Server::was_checked
//!        \--each second-----> dns ----> Server::resolved
//! ```

mod h2;
mod probe;

use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use netwasm_base::config::Check;

use crate::endpoint::Endpoint;
use crate::upstream::Server;
use crate::worker::Worker;

/// Time between two looks at a name. Its server is asked only if the answer's
/// TTL has passed.
const LOOK: Duration = Duration::from_secs(1);

/// Time between the beginnings of the first checks of two servers, so that not
/// all are checked at once.
const SPREAD: Duration = Duration::from_millis(2);

/// Watches the servers of all groups, if no other worker does, until the worker
/// drains. Dropping the future ends what is under way.
///
/// # Errors
/// Fails if a check panics, which is logged.
pub(crate) async fn watch(worker: Rc<Worker>) -> io::Result<()> {
    let upstreams = worker.env().upstreams();
    if !upstreams.are_unwatched() {
        return Ok(());
    }
    let mut tasks: JoinSet<Infallible> = JoinSet::new();
    let mut pause = Duration::ZERO;
    for group in upstreams.all() {
        for server in group.servers() {
            if let Some(check) = group.check() {
                let (worker, server) = (Rc::clone(&worker), Arc::clone(server));
                tasks.spawn_local(check_always(worker, server, check.clone(), pause));
                pause += SPREAD;
            }
            if let Endpoint::Name { host, .. } = server.endpoint() {
                let (worker, server) = (Rc::clone(&worker), Arc::clone(server));
                tasks.spawn_local(look_always(worker, server, host.clone()));
            }
        }
    }
    if tasks.is_empty() {
        return Ok(());
    }
    tokio::select! {
        () = Rc::clone(&worker.thread).drained() => Ok(()),
        _ = tasks.join_next() => Err(io::Error::other("the checks of upstreams have ended")),
    }
}

/// Checks a server from time to time, first after a pause.
async fn check_always(
    worker: Rc<Worker>,
    server: Arc<Server>,
    check: Check,
    pause: Duration,
) -> Infallible {
    sleep(pause).await;
    let mut due = interval(check.interval);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match probe::probe(&worker, &server, &check).await {
            Ok(()) => server.was_checked(Ok::<(), probe::Failed>(())),
            Err(failed) if failed.is_ours() => {
                tracing::warn!(%server, "a check could not be made: {failed}");
            }
            Err(failed) => server.was_checked(Err(failed)),
        }
    }
}

/// Looks from time to time where a server's name leads to. If that cannot be
/// found out, it leads where it did.
async fn look_always(worker: Rc<Worker>, server: Arc<Server>, host: String) -> Infallible {
    let mut due = interval(LOOK);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match worker.resolver.look(&host).await {
            Ok(addresses) => server.resolved(&addresses),
            Err(error) => tracing::debug!(%server, %error, "its name cannot be resolved"),
        }
    }
}
