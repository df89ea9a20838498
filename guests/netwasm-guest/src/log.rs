//! The host's log.
//!
//! The macros [`trace!`](crate::trace), [`debug!`](crate::debug),
//! [`info!`](crate::info), [`warn!`](crate::warn) and
//! [`error!`](crate::error!) take what `format!` takes:
//!
//! ```
//! use netwasm_guest::log;
//!
//! log::info!("{} lines", 3);
//! netwasm_guest::warn!("no line in {:?}", std::time::Duration::from_secs(30));
//! # let entries = netwasm_guest::testing::take_log();
//! # assert_eq!(entries[0], (log::Level::Info, "3 lines".to_owned()));
//! ```

use std::fmt;

#[doc(no_inline)]
pub use crate::{debug, error, info, trace, warn};

use crate::host;

/// The severity of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step; shown by `-vv`.
    Trace,
    /// Details for finding a fault; shown by `-v`.
    Debug,
    /// Normal events.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// Writes an entry, cut off at 4 KiB. Entries beyond some hundred a second are
/// counted instead of written.
pub fn write(level: Level, message: &str) {
    host::log(level, message);
}

#[doc(hidden)]
pub fn write_args(level: Level, arguments: fmt::Arguments<'_>) {
    match arguments.as_str() {
        Some(message) => write(level, message),
        None => write(level, &arguments.to_string()),
    }
}

/// Writes to the log at the level `trace`, shown by `-vv`.
#[macro_export]
macro_rules! trace {
    ($($argument:tt)+) => {
        $crate::log::write_args($crate::log::Level::Trace, ::std::format_args!($($argument)+))
    };
}

/// Writes to the log at the level `debug`, shown by `-v`.
#[macro_export]
macro_rules! debug {
    ($($argument:tt)+) => {
        $crate::log::write_args($crate::log::Level::Debug, ::std::format_args!($($argument)+))
    };
}

/// Writes to the log at the level `info`.
#[macro_export]
macro_rules! info {
    ($($argument:tt)+) => {
        $crate::log::write_args($crate::log::Level::Info, ::std::format_args!($($argument)+))
    };
}

/// Writes to the log at the level `warn`.
#[macro_export]
macro_rules! warn {
    ($($argument:tt)+) => {
        $crate::log::write_args($crate::log::Level::Warn, ::std::format_args!($($argument)+))
    };
}

/// Writes to the log at the level `error`.
#[macro_export]
macro_rules! error {
    ($($argument:tt)+) => {
        $crate::log::write_args($crate::log::Level::Error, ::std::format_args!($($argument)+))
    };
}
