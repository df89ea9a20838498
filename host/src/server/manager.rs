//! Messages of a run to the service manager.

use std::time::Instant;

use tokio::sync::mpsc;

use super::Server;

impl Server {
    /// Tells the manager that the run serves.
    pub(super) fn is_ready(&mut self) {
        if let Some(manager) = &self.manager {
            if manager.watchdog().is_some() && self.watchdog.is_none() {
                self.watchdog = Some(Instant::now());
            }
            let names = self.services.iter().map(|it| &*it.config.guest.name);
            let names = names.collect::<Vec<_>>().join(", ");
            manager.ready(&format!("serving {names}"));
        }
    }

    /// Tells the manager that the run is alive, once all threads have said so.
    pub(super) fn feed_watchdog(&mut self, now: Instant) {
        let Some(manager) = self.manager.clone() else {
            return;
        };
        let Some(interval) = manager.watchdog() else {
            return;
        };
        if self.watchdog.is_none_or(|due| due > now) {
            return;
        }
        self.watchdog = now.checked_add(interval / 3);
        let (reply, mut replies) = mpsc::unbounded_channel();
        self.threads.ping(&reply);
        drop(reply);
        let threads = self.threads.count();
        tokio::spawn(async move {
            for _ in 0..threads {
                if replies.recv().await.is_none() {
                    return;
                }
            }
            manager.alive();
        });
    }
}
