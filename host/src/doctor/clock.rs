//! The clocks: is the time right, and is it quickly read?

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Finding, word};

/// Years that a clock shows which was set, as times since 1970: from 2025 to 2100.
const PLAUSIBLE: (u64, u64) = (1_735_689_600, 4_102_444_800);

/// Number of readings that are timed.
const READINGS: u32 = 10_000;

/// Time of a reading that takes no system call, at most.
const QUICK: Duration = Duration::from_nanos(250);

/// Time over which the two clocks are compared, and by how much they may differ.
const COMPARED: Duration = Duration::from_millis(20);
const APART: Duration = Duration::from_millis(5);

/// State of the kernel's clock that is not synchronised: adjtimex(2), `TIME_ERROR`.
const UNSYNCHRONISED: i32 = 5;

pub(super) fn findings() -> Vec<Finding> {
    vec![time(), steadiness(), synchronisation(), readings()]
}

fn time() -> Finding {
    const NAME: &str = "time";
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    match (PLAUSIBLE.0..PLAUSIBLE.1).contains(&seconds) {
        true => {
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            Finding::ok(NAME, now.to_string())
        }
        false => Finding::wrong(
            NAME,
            "the clock is decades off: no certificate is valid",
            "timedatectl set-ntp true, or date --set='2026-01-01 12:00'",
        ),
    }
}

/// Compares the wall clock with the monotonic one.
fn steadiness() -> Finding {
    const NAME: &str = "steadiness";
    let differs = || {
        let (begin, day) = both();
        thread::sleep(COMPARED);
        let (end, later) = both();
        let passed = later.duration_since(day).unwrap_or_default();
        passed.abs_diff(end - begin) > APART
    };
    // Another process may have come between two readings, hardly twice.
    match differs() && differs() && differs() {
        true => Finding::slow(
            NAME,
            "the wall clock runs at another speed than the monotonic one, or is being set",
            "chronyc makestep, or wait until it is right",
        ),
        false => Finding::ok(NAME, "the wall clock runs as fast as the monotonic one"),
    }
}

/// Reads both clocks.
fn both() -> (Instant, SystemTime) {
    (Instant::now(), SystemTime::now())
}

fn synchronisation() -> Finding {
    const NAME: &str = "synchronisation";
    match kernel_state() {
        Some(UNSYNCHRONISED) => Finding::slow(
            NAME,
            "the kernel's clock is not synchronised (a container's is the host's)",
            "timedatectl set-ntp true, or apt-get install chrony",
        ),
        Some(_) => Finding::ok(NAME, "the kernel's clock is synchronised"),
        None => Finding::ok(NAME, "the kernel does not tell"),
    }
}

/// Returns the state of the kernel's clock: adjtimex(2); `None` if it may not be
/// asked.
#[expect(unsafe_code, reason = "no crate that is used has adjtimex(2)")]
fn kernel_state() -> Option<i32> {
    // SAFETY: the structure has numbers and padding only, for which zeros are
    // values. Zero `modes` only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole structure, which lives over the call.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(result)
}

/// Times a reading: each event has some.
fn readings() -> Finding {
    const NAME: &str = "clock readings";
    let begin = Instant::now();
    for _ in 0..READINGS {
        std::hint::black_box(Instant::now());
    }
    let each = begin.elapsed() / READINGS;
    let source = word("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    let source = source.unwrap_or_else(|| "unknown".into());
    let found = format!("one takes {} ns (clock source {source})", each.as_nanos());
    match each > QUICK {
        true => Finding::slow(
            NAME,
            format!("{found}, as it is a system call"),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if it is \
             among available_clocksource",
        ),
        false => Finding::ok(NAME, found),
    }
}
