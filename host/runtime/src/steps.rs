//! Epoch steps, by which calls that take too long are interrupted.

use std::time::Duration;

use netwasm_base::config::Limits;

/// Longest epoch step: how long a guest may keep its worker from looking at
/// sockets.
const STEP: Duration = Duration::from_millis(10);

/// Fewest epoch steps in an event's timeout, which is exact to one step.
const STEPS: u32 = 8;

/// Returns the length of an epoch step.
pub(crate) fn step(limits: &Limits) -> Duration {
    (limits.event_timeout / STEPS).clamp(Duration::from_millis(1), STEP)
}

/// Returns the number of epoch steps that an event may take.
pub(crate) fn event_steps(limits: &Limits) -> u32 {
    let steps = limits
        .event_timeout
        .as_nanos()
        .div_ceil(step(limits).as_nanos());
    u32::try_from(steps).unwrap_or(u32::MAX)
}
