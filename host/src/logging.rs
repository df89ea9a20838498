//! The log: lines on standard error, as text or as JSON.
//!
//! Standard output carries only what a program that started us waits for, the
//! `listening` lines.
//!
//! ```text
//!   tracing --> verbosity --> kinds --> a line --> spool --thread--> standard error
//!                             (so many a second)   (so many bytes)
//! ```
//!
//! Nobody who logs waits: a thread writes, and what it cannot keep up with is
//! dropped and counted.

mod kinds;

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use netwasm_base::error::Error;
use netwasm_base::spool::{Output, Spool};

use self::kinds::Kinds;

/// How much may wait to be written, bytes.
const WAITING: usize = 1 << 20;

/// How long the end of the program waits for the last lines.
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
    /// The form of a line.
    pub format: LogFormat,
    /// How much is shown.
    pub verbosity: Verbosity,
    /// Lines a second of one kind in the long run.
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
/// in place of the verbosity. Panics become lines of the log, too.
///
/// # Errors
/// `RUST_LOG` is not a filter, the system gives no thread, or a log was begun
/// before.
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
        // It would print to standard error what standard error does not take.
        .log_internal_errors(false)
        // One that guests' text passes through is no place for escapes.
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
    // Nobody else can have set it, since a log was not begun before.
    let _ = LOG.set(Log { spool, kinds });
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name(),
            place,
            "panic, which is a fault of netwasm: {message}"
        );
    }));
    Ok(())
}

/// Tells of lines that were withheld; to be called from time to time.
pub(crate) fn tell() {
    if let Some(log) = LOG.get() {
        log.kinds.tell(false);
    }
}

/// Writes what is left of the log, and a last line that is no part of it:
/// waits for that, but not long where nobody reads.
///
/// # Errors
/// Standard error does not take the line.
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

/// Takes lines for the spool: `tracing` writes each in one piece.
#[derive(Clone, Debug)]
struct Lines(Spool);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
