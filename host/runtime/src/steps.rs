//! Epoch steps, by which calls that take too long are interrupted.
//!
//! A call may compute for `--event-timeout`, by the clock of its thread: what a
//! busy machine does for others is not the guest's fault. That clock is looked at
//! once a step, so that a call within one step costs nothing.

use std::time::Duration;

use netwasm_base::config::Limits;
use rustix::time::{ClockId, clock_gettime};

/// Longest epoch step: how long a guest may keep its worker from looking at
/// sockets.
const STEP: Duration = Duration::from_millis(10);

/// Fewest epoch steps in an event's timeout, which is exact to one step.
const STEPS: u32 = 8;

/// How often its limit a call may take by the wall clock, on a machine that is
/// busy with others.
const PATIENCE: u32 = 10;

/// Returns the length of an epoch step.
pub(crate) fn step(limits: &Limits) -> Duration {
    (limits.event_timeout / STEPS).clamp(Duration::from_millis(1), STEP)
}

/// Returns the time that this thread has computed: clock_gettime(2).
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Time that a call has computed for, or kept its thread otherwise. What it
/// computes counts from the first epoch step within the call.
#[derive(Debug, Default)]
pub(crate) struct Computed {
    /// Time of the thread's clock at the last step.
    last: Option<Duration>,
    used: Duration,
    steps: u32,
}

impl Computed {
    /// Notes an epoch step within the call, by the thread's clock. Of the time
    /// since the last one, `most` counts. Returns false if the call has taken too
    /// long.
    pub(crate) fn step(&mut self, now: Duration, most: Duration, limits: &Limits) -> bool {
        let step = step(limits);
        if let Some(last) = self.last.replace(now) {
            self.used += now.saturating_sub(last).min(most);
        }
        self.steps = self.steps.saturating_add(1);
        // Half of a step is left to the inexact ticks.
        let is_late = self.used + step / 2 >= limits.event_timeout;
        let longest = limits.event_timeout.saturating_mul(PATIENCE);
        !is_late && step.saturating_mul(self.steps) <= longest
    }

    /// Notes time for which the call has kept its thread waiting. For a part of it,
    /// `busy`, the thread has computed, which the next step does not count again.
    pub(crate) fn waited(&mut self, time: Duration, busy: Duration) {
        self.used += time;
        if let Some(last) = &mut self.last {
            *last += busy;
        }
    }

    /// Returns the time that is left of the limit.
    pub(crate) fn left(&self, limits: &Limits) -> Duration {
        limits.event_timeout.saturating_sub(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the number of steps after which a call is ended that computes for
    /// this part of each step.
    fn ended_after(part: f64) -> Option<u32> {
        let limits = Limits {
            event_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let mut computed = Computed::default();
        let each = step(&limits).mul_f64(part);
        let begun = Duration::from_secs(7);
        (0..10_000).find(|steps| !computed.step(begun + each * *steps, Duration::MAX, &limits))
    }

    #[test]
    fn a_call_is_ended_by_what_it_computes_and_later_by_the_clock() {
        assert_eq!(ended_after(1.0), Some(10));
        assert_eq!(ended_after(0.999), Some(10));
        // On a busy machine, it goes on.
        assert_eq!(ended_after(0.5), Some(19));
        assert_eq!(ended_after(0.2), Some(48));
        // But not for ever.
        assert_eq!(ended_after(0.01), Some(100));
        assert_eq!(ended_after(0.0), Some(100));
    }

    #[test]
    fn what_a_thread_computes_for_others_counts_as_a_step() {
        let limits = Limits::default();
        let most = step(&limits);
        let mut computed = Computed::default();
        let goes_on = |computed: &mut Computed, steps: u32| {
            computed.step(Duration::from_secs(steps.into()), most, &limits)
        };
        assert!((0..10).all(|steps| goes_on(&mut computed, steps)));
        assert!(!goes_on(&mut computed, 10));
    }

    #[test]
    fn what_a_call_waits_for_counts_with_what_it_computes() {
        let limits = Limits {
            event_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let mut computed = Computed::default();
        let wait = Duration::from_millis(60);
        computed.waited(wait, Duration::ZERO);
        assert!(computed.step(Duration::ZERO, Duration::MAX, &limits));
        assert_eq!(computed.left(&limits), limits.event_timeout - wait);
        computed.waited(wait, Duration::ZERO);
        assert_eq!(computed.left(&limits), Duration::ZERO);
        assert!(!computed.step(Duration::ZERO, Duration::MAX, &limits));
    }

    #[test]
    fn what_a_thread_computes_while_a_call_waits_counts_once() {
        let limits = Limits {
            event_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let ms = Duration::from_millis;
        let mut computed = Computed::default();
        assert!(computed.step(ms(0), Duration::MAX, &limits));
        // It computes for 5 ms, waits for 40, 30 of them busy, and computes for 5.
        computed.waited(ms(40), ms(30));
        assert!(computed.step(ms(40), Duration::MAX, &limits));
        assert_eq!(computed.left(&limits), ms(50));
    }
}
