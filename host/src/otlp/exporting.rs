//! The thread that gathers telemetry, and sends it.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use netwasm_base::supervised::supervise;
use netwasm_http::client::Client;
use netwasm_net::env::Env;
use netwasm_net::worker::Worker;

use super::sending::{Intakes, Sending, Target};
use super::{Counts, Headers, Waiting};

/// Spans and reports that are sent together.
const BATCH: usize = 512;

/// Time for which spans are gathered.
const GATHER: Duration = Duration::from_secs(1);

/// End of the run.
pub(super) struct End {
    signal: oneshot::Receiver<()>,
    pub(super) has_come: bool,
}

impl End {
    /// Waits for it.
    pub(super) async fn comes(&mut self) {
        if !self.has_come {
            // A sender that is dropped ends the run, too.
            let _ = (&mut self.signal).await;
            self.has_come = true;
        }
    }
}

/// Work of the thread, which goes on with it after a panic.
pub(super) struct Exporting {
    sending: Sending,
    waiting: mpsc::Receiver<Waiting>,
    end: End,
    /// Telemetry that is gathered or sent at present.
    batch: Vec<Waiting>,
    /// Number of what was sent, or was not taken, before this batch.
    done: u64,
}

impl Exporting {
    pub(super) fn new(
        target: Target,
        headers: &Headers,
        counts: &Arc<Counts>,
        waiting: mpsc::Receiver<Waiting>,
        ending: oneshot::Receiver<()>,
    ) -> Self {
        let sending = Sending {
            target,
            headers: headers.clone(),
            counts: Arc::clone(counts),
            intakes: Intakes::default(),
        };
        Self {
            sending,
            waiting,
            end: End {
                signal: ending,
                has_come: false,
            },
            batch: Vec::new(),
            done: 0,
        }
    }

    /// Exports, again after a panic. The rest of the batch that was sent then counts as
    /// failed: it may be what nobody can send.
    pub(super) fn supervised(&mut self, mut export: impl FnMut(&mut Self)) {
        supervise(|| {
            let counts = &self.sending.counts;
            let batch = std::mem::take(&mut self.batch).len() as u64;
            let lost = batch.saturating_sub(counts.done() - self.done);
            counts.failed.fetch_add(lost, Ordering::Relaxed);
            self.done = counts.done();
            export(self);
        });
    }

    /// Sends telemetry until the run ends.
    pub(super) fn run(&mut self, env: &Arc<Env>) {
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
            turns.run(self.export(&client)).await;
        });
        runtime.shutdown_background();
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
            self.done = self.sending.counts.done();
            if self.waiting.is_empty() {
                let counts = &self.sending.counts;
                counts.is_behind.store(false, Ordering::Relaxed);
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
        let (sink, queue, counts) = filled();
        for _ in 0..3 {
            assert!(sink(report(1)));
        }
        let target = Target::of("http://a").expect("a target");
        let headers = Headers(Arc::default());
        let (_end, ending) = oneshot::channel();
        let mut exporting = Exporting::new(target, &headers, &counts, queue, ending);
        let mut calls = 0;
        exporting.supervised(|exporting| {
            calls += 1;
            let next = exporting.waiting.try_recv();
            exporting.batch.push(next.expect("telemetry"));
            if calls == 2 {
                // The third waits.
                return;
            }
            let next = exporting.waiting.try_recv();
            exporting.batch.push(next.expect("telemetry"));
            counts.sent.fetch_add(1, Ordering::Relaxed);
            panic!("for a test");
        });
        assert_eq!(calls, 2);
        assert_eq!(counts.all(), [("sent", 1), ("dropped", 0), ("failed", 1)]);
        assert_eq!(exporting.batch.len(), 1);
    }
}
