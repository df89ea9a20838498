//! Signals, and what each asks for.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals to end that come within this time are one: timeout(1) sends one to
/// the process and one to its group, and so do some service managers.
const ONE: Duration = Duration::from_secs(1);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To end: drain, and the second time abort. With the signal's name.
    End(&'static str),
    /// To read certificates anew and open the access log anew: SIGHUP.
    Reload,
    /// To open the access log anew: SIGUSR1, as nginx has it.
    Reopen,
}

/// The signals that a run obeys, caught as long as this lives.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
    /// When one to end came first.
    ends: Option<Instant>,
}

impl Signals {
    /// Catches them from now on; within a runtime.
    ///
    /// # Errors
    /// The system does not let them be caught.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            ends: None,
        })
    }

    /// Waits for the next that asks for something.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hangup.recv() => return Asked::Reload,
                _ = self.user.recv() => return Asked::Reopen,
            };
            if self.ends.is_none_or(|first| first.elapsed() >= ONE) {
                self.ends.get_or_insert_with(Instant::now);
                return Asked::End(name);
            }
            tracing::info!(
                signal = name,
                "within a second of the first: not a second one"
            );
        }
    }
}
