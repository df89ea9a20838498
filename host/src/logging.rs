//! The log: lines on standard error, as text or as JSON.
//!
//! Standard output carries only the `listening` lines, for the program that
//! started this one.
//!
//! ```text
//!   tracing --> verbosity --> kinds --> a line --> spool --thread--> standard error
//!                             (so many a second)   (so many bytes)
//! ```
//!
//! Logging never waits. A thread writes, and drops and counts the lines that it
//! cannot keep up with.

mod kinds;

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use netwasm_base::error::Error;
use netwasm_base::guarded::is_expected;
use netwasm_base::spool::{Output, Spool};

use self::kinds::Kinds;

/// Largest size of the lines that wait to be written, in bytes.
const WAITING: usize = 1 << 20;

/// Longest wait for the last lines at the end of the program.
const LAST: Duration = Duration::from_secs(2);

static LOG: OnceLock<Log> = OnceLock::new();

/// The log of this process.
#[derive(Debug)]
struct Log {
    spool: Spool,
    kinds: Kinds,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Format of a line.
    pub format: LogFormat,
    /// Amount of detail.
    pub verbosity: Verbosity,
    /// Sustained rate of lines of one kind, per second.
    pub rate: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            verbosity: Verbosity::default(),
            rate: 20,
        }
    }
}

/// Format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, for people.
    #[default]
    Text,
    /// One JSON object per line, for programs.
    Json,
}

/// Amount of detail in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// Normal events, warnings and errors.
    #[default]
    Info,
    /// Also details that help to find a fault.
    Debug,
    /// Every step.
    Trace,
}

impl From<u8> for Verbosity {
    /// Converts the number of `-v`.
    fn from(count: u8) -> Self {
        match count {
            0 => Self::Info,
            1 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// Starts the log. If `RUST_LOG` is set, it decides what is shown, in place of
/// the verbosity. Panics are logged, too.
///
/// # Errors
/// Fails if `RUST_LOG` is no valid filter, if the system gives no thread, or if
/// a log was started before.
pub fn start(options: LogOptions) -> io::Result<()> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|error| io::Error::other(format!("RUST_LOG is '{directives}': {error}")))?,
        _ => EnvFilter::new(directives(options.verbosity)),
    };
    let spool = Spool::start("log", Output::Stderr(io::stderr()), WAITING)
        .map_err(|error| io::Error::other(Error::Thread(error)))?;
    let writer = Lines(spool.clone());
    let kinds = Kinds::new(options.rate);
    let lines = fmt::layer()
        .with_timer(SystemTime)
        .with_writer(move || writer.clone())
        // These would go to standard error, which has just failed.
        .log_internal_errors(false)
        // Escape codes only on a terminal: guests' text passes through this
        // log.
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let lines = match options.format {
        LogFormat::Text => lines.compact().with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry()
        .with(lines)
        .with(kinds.clone())
        .with(filter)
        .try_init()
        .map_err(io::Error::other)?;
    // Not set yet: `try_init` fails if a log was started before.
    let _ = LOG.set(Log { spool, kinds });
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        if is_expected() {
            tracing::debug!(place, "a library panicked on broken input: {message}");
            return;
        }
        tracing::error!(
            thread = thread.name(),
            place,
            "panic, which is a fault of netwasm: {message}"
        );
    }));
    Ok(())
}

/// Reports suppressed lines. To be called periodically.
pub(crate) fn tell() {
    if let Some(log) = LOG.get() {
        log.kinds.tell(false);
    }
}

/// Returns the number of lines that were dropped so far.
pub(crate) fn dropped() -> u64 {
    LOG.get().map_or(0, |log| log.spool.dropped())
}

/// Writes the rest of the log, then a last line that is not part of it. Waits
/// for that, but not long if nobody reads.
///
/// # Errors
/// Fails if no log was started and standard error does not take the line.
pub fn finish(last: Option<&str>) -> io::Result<()> {
    let line = last.map(|last| format!("{last}\n").into_bytes());
    let Some(log) = LOG.get() else {
        return io::Write::write_all(&mut io::stderr(), &line.unwrap_or_default());
    };
    log.kinds.tell(true);
    log.spool.finish(LAST);
    if let Some(line) = line {
        log.spool.put(line);
        log.spool.finish(LAST);
    }
    Ok(())
}

/// Passes lines to the spool. `tracing` writes each in one piece.
#[derive(Clone, Debug)]
struct Lines(Spool);

impl io::Write for Lines {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.put(in_a_line(record));
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a record of the log as one line. The text of an error may have several, as
/// of a library, or of a server that wrote it.
fn in_a_line(record: &[u8]) -> Vec<u8> {
    let text = record.strip_suffix(b"\n").unwrap_or(record);
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !text.iter().any(breaks) {
        return record.to_vec();
    }
    let parts = text.split(breaks).map(<[u8]>::trim_ascii);
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    let mut line = parts.join(&b' ');
    line.push(b'\n');
    line
}

/// Returns the filter. It shows lines of netwasm and the guest by verbosity,
/// and warnings of libraries.
fn directives(verbosity: Verbosity) -> &'static str {
    match verbosity {
        Verbosity::Quiet => "warn,netwasm=warn,guest=warn",
        Verbosity::Info => "warn,netwasm=info,guest=info",
        Verbosity::Debug => "warn,netwasm=debug,guest=debug",
        Verbosity::Trace => "warn,netwasm=trace,guest=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        for (record, line) in [
            ("all of it\n", "all of it\n"),
            (" as it  is \n", " as it  is \n"),
            ("one\n  two\r\n\nthree\n\n", "one two three\n"),
            ("\n", "\n"),
            ("", ""),
        ] {
            let told = in_a_line(record.as_bytes());
            assert_eq!(String::from_utf8_lossy(&told), line, "{record:?}");
        }
    }

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
