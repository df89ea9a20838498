//! A rate limit for each kind of line, because clients can cause many lines.
//! Lines from one place in the code are of one kind.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use netwasm_base::limiter::{Limiter, Verdict};
use netwasm_base::spool;

/// Seconds for which a kind may save up unused lines.
const SAVED: u32 = 10;

/// Length of the longest description of a kind, in bytes.
const MOST_TEXT: usize = 200;

/// Lets through so many lines per second of each kind. Clones share the counts.
#[derive(Clone, Debug)]
pub(super) struct Kinds(Arc<SharedKinds>);

#[derive(Debug)]
struct SharedKinds {
    /// Lines per second of one kind.
    rate: u32,
    kinds: Mutex<HashMap<Identifier, KindOfLine>>,
    /// True if lines of some kind were suppressed and not yet reported.
    owes: AtomicBool,
}

#[derive(Debug)]
struct KindOfLine {
    limiter: Limiter,
    /// Message of the first line that was suppressed.
    like: String,
}

impl Kinds {
    pub(super) fn new(rate: u32) -> Self {
        Self(Arc::new(SharedKinds {
            rate,
            kinds: Mutex::default(),
            owes: AtomicBool::new(false),
        }))
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<Identifier, KindOfLine>> {
        self.0.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, event: &Event<'_>) -> bool {
        let now = Instant::now();
        let rate = self.0.rate;
        let mut kinds = self.kinds();
        let kind = kinds
            .entry(event.metadata().callsite())
            .or_insert_with(|| KindOfLine {
                limiter: Limiter::new(now, rate, rate.saturating_mul(SAVED)),
                like: String::new(),
            });
        let verdict = kind.limiter.admit(now);
        if verdict == (Verdict::Suppress { first: true }) {
            kind.like.clear();
            event.record(&mut Message(&mut kind.like));
            self.0.owes.store(true, Ordering::Relaxed);
        }
        verdict == Verdict::Write
    }

    /// Reports suppressed lines. Reports each kind at most once a second,
    /// unless this is the `last` time.
    pub(super) fn tell(&self, last: bool) {
        if !self.0.owes.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut kinds = self.kinds();
        let told: Vec<_> = kinds
            .values_mut()
            .filter_map(|kind| {
                let suppressed = match last {
                    true => kind.limiter.suppressed(),
                    false => kind.limiter.due(now),
                };
                Some((suppressed?, kind.like.clone()))
            })
            .collect();
        let owes = kinds.values().any(|kind| kind.limiter.owes());
        self.0.owes.store(owes, Ordering::Relaxed);
        // Logging locks the kinds.
        drop(kinds);
        for (suppressed, like) in told {
            tracing::warn!(target: spool::TARGET, suppressed, like, "lines of a kind were suppressed (--log-rate)");
        }
    }
}

impl<S: Subscriber> Layer<S> for Kinds {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Levels below `info` were asked for, so all of their lines are shown.
        // Guests have their own limit.
        *metadata.level() > Level::INFO
            || matches!(metadata.target(), spool::GUEST | spool::TARGET)
            || self.admit(event)
    }
}

/// Collects the message of an event.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to memory cannot fail.
            let _ = write!(self.0, "{value:?}");
            self.0.truncate(self.0.floor_char_boundary(MOST_TEXT));
        }
    }
}
