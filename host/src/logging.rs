//! The log: lines on standard error, as text or as JSON.
//!
//! Standard output carries only what a program that started us waits for, the
//! `listening` lines.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// The form of a line.
    pub format: LogFormat,
    /// How much is shown.
    pub verbosity: Verbosity,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// What happens, and what is wrong.
    #[default]
    Info,
    /// Also what helps to find a fault.
    Debug,
    /// Every step.
    Trace,
}

impl From<u8> for Verbosity {
    /// From the number of `-v`.
    fn from(count: u8) -> Self {
        match count {
            0 => Self::Info,
            1 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// Begins to write the log. `RUST_LOG`, where it is set, decides what is shown
/// in place of the verbosity.
///
/// # Errors
/// `RUST_LOG` is not a filter, or a log was begun before.
pub fn start(options: LogOptions) -> io::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|error| io::Error::other(format!("RUST_LOG is '{directives}': {error}")))?,
        _ => EnvFilter::new(directives(options.verbosity)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(io::stderr)
        // It would print to standard error what standard error does not take.
        .log_internal_errors(false)
        // One that guests' text passes through is no place for escapes.
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match options.format {
        LogFormat::Text => log.compact().with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(io::Error::other)
}

/// Ours and the guest's, and of the libraries only what is wrong.
fn directives(verbosity: Verbosity) -> &'static str {
    match verbosity {
        Verbosity::Info => "warn,netwasm=info,guest=info",
        Verbosity::Debug => "warn,netwasm=debug,guest=debug",
        Verbosity::Trace => "warn,netwasm=trace,guest=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v_shows_more_of_ours_and_no_more_of_the_libraries() {
        for (count, shown) in [(0, "info"), (1, "debug"), (2, "trace"), (9, "trace")] {
            let filter = EnvFilter::try_new(directives(count.into()))
                .expect("a filter")
                .to_string();
            for directive in [
                format!("netwasm={shown}"),
                format!("guest={shown}"),
                "warn".into(),
            ] {
                assert!(
                    filter.split(',').any(|it| it == directive),
                    "{count}: {filter}"
                );
            }
        }
    }
}
