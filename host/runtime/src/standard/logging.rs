//! `wasi:logging`: lines of the log.

use tracing::Level;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker};

use super::Guest;

/// The names of the interface: the draft, and that of before it had a version.
pub(super) const NAMES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// `level`.
#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "a guest's number becomes one of them")]
enum LogLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error | LogLevel::Critical => Self::ERROR,
        }
    }
}

pub(super) fn add_to_linker<T: Guest>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.instance(name)?.func_wrap(
            "log",
            |store: StoreContextMut<'_, T>,
             (level, context, message): (LogLevel, String, String)| {
                let log = &store.data().env().log;
                log.write_of(level.into(), &context, &message);
                Ok(())
            },
        )?;
    }
    Ok(())
}
