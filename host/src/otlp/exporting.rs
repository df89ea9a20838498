//! The thread that gathers telemetry, and sends it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use netwasm_base::supervised::supervise;
use netwasm_http::client::Client;
use netwasm_net::env::Env;
use netwasm_net::worker::Worker;

use super::sending::{Sending, Target};
use super::{Counts, Headers, Queued, Waiting};

/// Spans and reports that are sent together.
const BATCH: usize = 512;

/// Time for which spans are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// End of the run.
pub(super) struct End {
    signal: watch::Receiver<()>,
    pub(super) has_come: bool,
}

impl End {
    /// Waits for it.
    pub(super) async fn comes(&mut self) {
        if !self.has_come {
            // A sender that is dropped ends the run, too.
            let _ = self.signal.changed().await;
            self.has_come = true;
        }
    }
}

/// Export of a kind of telemetry, beside that of others. It goes on after a panic.
pub(super) struct Lane {
    sending: Sending,
    waiting: mpsc::Receiver<Waiting>,
    is_behind: Arc<AtomicBool>,
    end: End,
    /// Telemetry that is gathered or sent at present.
    batch: Vec<Waiting>,
}

/// Exports on this thread, again after a panic.
pub(super) fn supervised(lanes: &mut [Lane; 3], mut export: impl FnMut(&mut [Lane; 3])) {
    supervise(|| {
        lanes.iter_mut().for_each(Lane::give_up);
        export(lanes);
    });
}

/// Sends telemetry of all kinds until the run ends.
pub(super) fn run(lanes: &mut [Lane; 3], env: &Arc<Env>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "traces cannot be sent"),
    };
    runtime.block_on(async {
        let worker = Worker::new(Arc::clone(env));
        let client = Client::new(&worker);
        let turns = Rc::clone(&worker.thread.turns);
        let [traces, logs, metrics] = lanes;
        let main = async {
            tokio::join!(
                traces.export(&client),
                logs.export(&client),
                metrics.export(&client)
            );
        };
        turns.run(main).await;
    });
    runtime.shutdown_background();
}

impl Lane {
    pub(super) fn new(
        target: &Target,
        headers: &Headers,
        counts: &Arc<Counts>,
        queued: Queued,
        ending: &watch::Receiver<()>,
    ) -> Self {
        let Queued {
            kind,
            waiting,
            is_behind,
        } = queued;
        Self {
            sending: Sending::new(kind, target, headers, counts),
            waiting,
            is_behind,
            end: End {
                signal: ending.clone(),
                has_come: false,
            },
            batch: Vec::new(),
        }
    }

    /// Counts the rest of a batch that was being sent as failed: it may be what nobody
    /// can send.
    fn give_up(&mut self) {
        let batch = std::mem::take(&mut self.batch).len() as u64;
        self.sending.give_up(batch);
    }

    async fn export(&mut self, client: &Client) {
        loop {
            self.gather().await;
            if self.batch.is_empty() {
                match self.end.has_come {
                    true => return,
                    false => continue,
                }
            }
            let Self {
                sending,
                end,
                batch,
                ..
            } = self;
            sending.send(client, batch, end).await;
            self.batch.clear();
            if self.waiting.is_empty() {
                self.is_behind.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Fills a batch within a time, or at the end of the run with what waits.
    async fn gather(&mut self) {
        let Self {
            waiting,
            end,
            batch,
            ..
        } = self;
        if !end.has_come {
            tokio::select! {
                biased;
                () = end.comes() => {}
                some = waiting.recv_many(batch, BATCH) => end.has_come = some == 0,
            }
        }
        let until = Instant::now() + GATHER;
        while !end.has_come && batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                () = end.comes() => {}
                some = timeout_at(until, waiting.recv_many(batch, room)) => match some {
                    Ok(0) => end.has_come = true,
                    Ok(_) => {}
                    Err(_elapsed) => break,
                },
            }
        }
        while end.has_come && batch.len() < BATCH {
            match waiting.try_recv() {
                Ok(next) => batch.push(next),
                Err(_empty) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{filled, report};
    use super::*;

    #[test]
    fn a_panic_while_a_batch_is_sent_loses_the_rest_of_it_alone() {
        let (sink, queued, counts) = filled();
        for _ in 0..3 {
            assert!(sink(report(1)));
        }
        let target = Target::of("http://a").expect("a target");
        let headers = Headers(Arc::default());
        let (_end, ending) = watch::channel(());
        let mut lanes = queued.map(|it| Lane::new(&target, &headers, &counts, it, &ending));
        let mut calls = 0;
        supervised(&mut lanes, |lanes| {
            let [_traces, logs, _metrics] = lanes;
            calls += 1;
            let next = logs.waiting.try_recv();
            logs.batch.push(next.expect("telemetry"));
            if calls == 2 {
                // The third waits.
                return;
            }
            let next = logs.waiting.try_recv();
            logs.batch.push(next.expect("telemetry"));
            logs.sending.count(1, 0);
            panic!("for a test");
        });
        assert_eq!(calls, 2);
        assert_eq!(counts.all(), [("sent", 1), ("dropped", 0), ("failed", 1)]);
        let [_traces, logs, _metrics] = &lanes;
        assert_eq!(logs.batch.len(), 1);
    }
}
