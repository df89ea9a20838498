//! The signals of a run, and what each asks for.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time within which termination signals count as one. timeout(1) and some
/// service managers send one to the process and one to its process group.
const ONE: Duration = Duration::from_secs(1);

/// Request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Drain; the second time, abort.
    End(Ending),
    /// Read settings, components and certificates again, and reopen the access
    /// logs: SIGHUP.
    Reload,
    /// Reopen the access log: SIGUSR1, as in nginx.
    Reopen,
}

/// A signal that ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Terminate,
    Interrupt,
}

impl Ending {
    /// Returns the signal's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    /// Returns the signal's number: signal(7).
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Terminate => 15,
            Self::Interrupt => 2,
        }
    }
}

/// The signals of a run, caught as long as this exists.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
    /// Time of the last termination signal that counted.
    ends: Option<Instant>,
}

impl Signals {
    /// Catches the signals from now on. To be called within a runtime.
    ///
    /// # Errors
    /// Fails if the system does not let a signal be caught.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
            ends: None,
        })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let ending = tokio::select! {
                _ = self.terminate.recv() => Ending::Terminate,
                _ = self.interrupt.recv() => Ending::Interrupt,
                _ = self.hangup.recv() => return Asked::Reload,
                _ = self.user.recv() => return Asked::Reopen,
            };
            if self.ends.is_none_or(|last| last.elapsed() >= ONE) {
                self.ends = Some(Instant::now());
                return Asked::End(ending);
            }
            tracing::info!(
                signal = ending.name(),
                "within a second of the last one: not another"
            );
        }
    }
}
