//! Requests for reloads, and those who wait for them.

use std::fmt;

use tokio::sync::oneshot;

/// Origin of a request for a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum By {
    Signal,
    /// The admin interface.
    Request,
    /// A file that has changed.
    Watch,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signal => "SIGHUP",
            Self::Request => "POST /reload",
            Self::Watch => "--watch",
        })
    }
}

/// State of reloads. One that waits, or is to follow, has who asked first.
#[derive(Debug, Default)]
pub(in crate::server) struct Reloading {
    /// Set while what a reload needs is prepared, or begins.
    pub(super) runs: Option<By>,
    /// Set if another one was asked for meanwhile.
    pub(super) again: Option<By>,
    /// Set if it waits for the end of a generation that was replaced.
    pub(super) waits: Option<By>,
    /// Set if it waits for the end of a take-over.
    pub(super) put_off: Option<By>,
    /// Those who wait for the present one.
    pub(super) waiting: Vec<oneshot::Sender<Result<String, String>>>,
    /// Those who wait for the next one.
    pub(in crate::server) next: Vec<oneshot::Sender<Result<String, String>>>,
}

impl Reloading {
    /// True while what a reload needs is prepared, or begins.
    pub(in crate::server) fn is_under_way(&self) -> bool {
        self.runs.is_some()
    }
}
