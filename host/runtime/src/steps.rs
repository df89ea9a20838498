//! The steps of the epoch, by which calls that take too long are interrupted.

use std::time::Duration;

use netwasm_base::config::Limits;

/// The most that a step of the epoch may last: as long as a guest may keep its
/// worker from looking at sockets.
const STEP: Duration = Duration::from_millis(10);

/// Steps of the epoch that an event may take, at least: the timeout is exact to
/// one of them.
const STEPS: u32 = 8;

/// How long a step of the epoch lasts.
pub(crate) fn step(limits: &Limits) -> Duration {
    (limits.event_timeout / STEPS).clamp(Duration::from_millis(1), STEP)
}

/// How many steps of the epoch an event may take.
pub(crate) fn event_steps(limits: &Limits) -> u32 {
    let steps = limits
        .event_timeout
        .as_nanos()
        .div_ceil(step(limits).as_nanos());
    u32::try_from(steps).unwrap_or(u32::MAX)
}
