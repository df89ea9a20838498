//! How a run goes on and ends: signals, failures, deadlines, and the drain.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use netwasm_base::config::NEVER;
use netwasm_base::counters::Counters;
use netwasm_net::worker::Phase;

use crate::admin::Admin;
use crate::allocator;
use crate::signals::{Asked, Ending, Signals};

use super::reload::By;
use super::service::Serving;
use super::takeover::Successor;
use super::{Ends, Outcome, Server};

/// Longest wait, at the end of a run, for workers that have nothing left to do
/// or were told to end.
const STUCK: Duration = Duration::from_secs(10);

/// Time for idle connections to close at the end of a retired generation,
/// before what is left is aborted.
const LAST: Duration = Duration::from_secs(1);

/// Why a run stops serving.
enum Stop {
    Signal(Ending),
    WorkerFailed,
    /// All services have ended.
    Ended,
    /// Another process has taken the listeners.
    TakenOver(Successor),
}

impl Server {
    /// Serves until a signal or a failure ends the run, and drains.
    pub(super) async fn run(mut self, mut signals: Signals) -> Outcome {
        allocator::give_back_soon();
        let stop = self.until_stop(&mut signals).await;
        // From here on, the sockets are closed.
        let is_asked = self.ends_at.take().is_some();
        match stop {
            Stop::Ended => {}
            Stop::Signal(ending) => {
                self.tell_of_drain(ending);
                self.pass_on(ending);
                self.drain(&mut signals, true).await;
            }
            Stop::TakenOver(successor) => {
                tracing::info!("another process has taken over: draining");
                self.sockets.leave(&successor.unused);
                self.taken_over = true;
                self.interfaces.iter_mut().for_each(Admin::leave);
                if let Some(manager) = self.manager.take() {
                    // It hears of the end of this process from the system.
                    manager.main_is(successor.process);
                    self.watchdog = None;
                }
                self.give_up_reload("another process has taken over");
                for service in self.services.iter_mut().chain(&mut self.retired) {
                    if service.phase() == Phase::Serving {
                        // Idle connections wait for one more request.
                        service.retire();
                    }
                }
                // It may have ended.
                let _ = successor.reply.send(());
                self.until_ended(&mut signals, is_asked).await;
            }
            Stop::WorkerFailed => {
                tracing::error!("a worker has failed: draining the others, to end with a failure");
                self.drain(&mut signals, false).await;
            }
        }
        if self.handing {
            // A signal or a failure has ended this process meanwhile.
            self.sockets.leave(&[]);
            self.interfaces.iter_mut().for_each(Admin::leave);
        }
        self.answer_last().await;
        let Ends {
            aborted,
            failed,
            code,
        } = self.ends;
        Outcome {
            drained: aborted == 0 && failed == 0,
            code,
        }
    }

    /// Answers those who have asked before the interfaces accept no more.
    async fn answer_last(&mut self) {
        // Nothing else begins.
        self.sockets.close();
        for interface in std::mem::take(&mut self.interfaces) {
            let mut finish = std::pin::pin!(interface.finish());
            loop {
                tokio::select! {
                    () = &mut finish => break,
                    Some(event) = self.events.recv() => self.note(event),
                }
            }
        }
    }

    async fn until_stop(&mut self, signals: &mut Signals) -> Stop {
        loop {
            // By whatever they have ended.
            if self.ends.failed > 0 {
                return Stop::WorkerFailed;
            }
            if self.has_ended() {
                return Stop::Ended;
            }
            if let Some(successor) = self.successor.take() {
                return Stop::TakenOver(successor);
            }
            if let Some((ending, drains)) = self.ends_at
                && Instant::now() >= drains
            {
                return Stop::Signal(ending);
            }
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                asked = signals.next() => match asked {
                    Asked::End(ending) => match self.delays(ending) {
                        true => {}
                        false => return Stop::Signal(ending),
                    },
                    Asked::Reload if self.ends_at.is_some() => self.reload_too_late(),
                    Asked::Reload => self.reload(By::Signal),
                    Asked::Reopen => self.reopen("SIGUSR1"),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    /// Begins the time in which the run says that it is not ready, and serves
    /// nevertheless: who sends it clients is to notice first. Returns false if
    /// there is none, or if it has begun.
    fn delays(&mut self, ending: Ending) -> bool {
        let is_program = |service: &Serving| service.is_program();
        let (None, Some(delay)) = (self.ends_at, self.shutdown_delay) else {
            return false;
        };
        if self.services.iter().all(is_program) {
            // Nobody is to be sent elsewhere.
            return false;
        }
        let Some(drains) = Instant::now().checked_add(delay) else {
            return false;
        };
        self.ends_at = Some((ending, drains));
        self.give_up_reload("the run is ending");
        for service in self.services.iter().chain(&self.retired) {
            service.run.net.ending.store(true, Ordering::Relaxed);
        }
        tracing::info!(
            signal = ending.name(),
            delay = %humantime::format_duration(delay),
            "not ready, and serving until the drain (--shutdown-delay); another signal drains at \
             once"
        );
        if let Some(manager) = &self.manager {
            manager.stopping("not ready, and serving until the drain");
        }
        true
    }

    /// Logs that a signal drains the run: how much is left, and for how long it
    /// may stay.
    fn tell_of_drain(&self, ending: Ending) {
        // Generations of a service share its counters.
        let mut counters: Vec<&Arc<Counters>> = Vec::new();
        let all = self.services.iter().chain(&self.retired);
        for service in all.clone() {
            let own = &service.run.net.counters;
            if !counters.iter().any(|known| Arc::ptr_eq(known, own)) {
                counters.push(own);
            }
        }
        let left = counters.into_iter().map(|it| it.open());
        let limit = all.map(|it| it.config.limits.shutdown_timeout).max();
        let limit = limit.filter(|limit| *limit < NEVER);
        tracing::info!(
            signal = ending.name(),
            connections = left.sum::<u64>(),
            limit = limit.map(|it| tracing::field::display(humantime::format_duration(it))),
            "draining: no new connections; a second signal aborts what is left"
        );
    }

    /// Lets programs know of a signal.
    fn pass_on(&self, ending: Ending) {
        for service in self.services.iter().chain(&self.retired) {
            let signal = &service.run.net.signal;
            signal.store(ending.number(), Ordering::Relaxed);
        }
    }

    /// Lets connections come to their end until the deadline of each service.
    fn drain_all(&mut self) {
        for service in self.services.iter_mut().chain(&mut self.retired) {
            let limit = service.config.limits.shutdown_timeout;
            if matches!(service.phase(), Phase::Serving | Phase::Retiring) {
                service.enter(Phase::Draining, limit);
            }
        }
    }

    /// Ends all generations: lets connections come to their end until the
    /// deadline or another signal, and then aborts what is left. `asked` says
    /// that a signal has asked for the end.
    async fn drain(&mut self, signals: &mut Signals, asked: bool) {
        // The workers know before anybody sees a closed listener.
        self.give_up_reload("the run is ending");
        self.drain_all();
        self.sockets.close();
        if let Some(successor) = self.successor.take() {
            // It may have ended.
            let _ = successor.reply.send(());
        }
        if let Some(manager) = &self.manager {
            manager.stopping("draining: no new connections");
        }
        self.until_ended(signals, asked).await;
    }

    /// Waits until all generations have ended. The first signal drains them,
    /// unless that was asked for already; another one aborts what is left.
    async fn until_ended(&mut self, signals: &mut Signals, mut is_asked: bool) {
        while !self.has_ended() {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.note(event),
                asked = signals.next() => match asked {
                    Asked::End(ending) if !is_asked => {
                        is_asked = true;
                        self.tell_of_drain(ending);
                        self.pass_on(ending);
                        self.drain_all();
                    }
                    Asked::End(ending) => {
                        tracing::warn!(signal = ending.name(), "aborting what is left");
                        self.abort();
                    }
                    Asked::Reload => self.reload_too_late(),
                    Asked::Reopen => self.reopen("SIGUSR1"),
                },
                () = sleep_until(deadline.into()) => self.pass_deadlines(),
            }
        }
    }

    fn abort(&mut self) {
        for service in self.services.iter_mut().chain(&mut self.retired) {
            if service.phase() != Phase::Aborting {
                service.forced = true;
                service.enter(Phase::Aborting, STUCK);
            }
        }
    }

    /// Moves generations whose deadline has passed to their next phase.
    fn pass_deadlines(&mut self) {
        let now = Instant::now();
        self.feed_watchdog(now);
        let (several, is_ending) = (self.several, self.sockets.are_closed());
        let mut stuck = [0, 0];
        let services = self.services.iter_mut().map(|it| (it, 0));
        let retired = self.retired.iter_mut().map(|it| (it, 1));
        for (service, place) in services.chain(retired) {
            if service.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            match service.phase() {
                Phase::Serving => service.deadline = None,
                Phase::Retiring => {
                    service.overdue = !is_ending;
                    service.enter(Phase::Draining, LAST);
                }
                Phase::Draining => {
                    tracing::warn!(
                        service = several.then_some(&*service.config.guest.name),
                        "aborting what is left (--shutdown-timeout)"
                    );
                    service.forced = is_ending && !service.overdue;
                    service.enter(Phase::Aborting, STUCK);
                }
                Phase::Aborting => {
                    tracing::error!(
                        "a worker does not end: the system keeps it, perhaps for a slow disk"
                    );
                    let left = std::mem::take(&mut service.left).len();
                    if let Some(stuck) = stuck.get_mut(place) {
                        *stuck += left;
                    }
                }
            }
        }
        let [failed, retired_failed] = stuck;
        self.ends.failed += failed;
        self.retired_failed += retired_failed as u64;
        self.sweep();
    }

    /// Answers SIGHUP where it is too late for a reload.
    fn reload_too_late(&self) {
        tracing::info!("SIGHUP: the run is ending, so nothing is reloaded");
        self.reopen("SIGHUP");
    }

    /// Reopens the access logs after a rotation.
    fn reopen(&self, signal: &str) {
        match self.common.logs.reopen() {
            true => tracing::info!("{signal}: reopening the access log"),
            false => {
                tracing::info!("{signal}: there is no log file to reopen (--access-log FILE)");
            }
        }
    }
}
