//! Traps: why a guest trapped, for the log and for counting.

use wasmtime::Trap;

use netwasm_base::config::{Isolation, Limits};
use netwasm_base::traps::Cause;

use crate::bindings::netwasm::net::http::Method;
use crate::local::Local;
use crate::memory::MemoryLimit;
use crate::wasi;

/// Counts a trap, counts a timeout against the client, and returns the reason.
pub(crate) fn note_trap(local: &Local, memory: &MemoryLimit, error: &wasmtime::Error) -> String {
    let net = &local.env.net;
    net.counters.traps.add(cause(error, memory));
    if let Some(Trap::Interrupt) = error.downcast_ref() {
        local.worker.thread.turns.note_time_out();
    }
    let mut reason = reason(error, &net.limits);
    if memory.denied {
        reason.push_str("; it was denied more memory (--max-memory)");
    }
    reason
}

/// Returns what else a trap of this instance ends, for the end of its log line.
pub(crate) fn also_lost(local: &Local) -> &'static str {
    match local.env.isolation {
        Isolation::Worker if !local.env.is_program => {
            "; the instance's state is lost, and the other connections or requests that it was \
             serving (--isolation worker)"
        }
        Isolation::Request | Isolation::Connection | Isolation::Worker => "",
    }
}

/// Returns the name of a request's method.
pub(super) fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name.as_str(),
    }
}

/// Returns the kind of a trap.
fn cause(error: &wasmtime::Error, memory: &MemoryLimit) -> Cause {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Cause::Timeout,
        // It mostly aborts then.
        _ if memory.denied => Cause::MemoryLimit,
        Some(Trap::UnreachableCodeReached) => Cause::Unreachable,
        Some(Trap::StackOverflow) => Cause::Stack,
        Some(
            Trap::MemoryOutOfBounds
            | Trap::HeapMisaligned
            | Trap::TableOutOfBounds
            | Trap::IndirectCallToNull
            | Trap::BadSignature,
        ) => Cause::OutOfBounds,
        Some(
            Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger,
        ) => Cause::Arithmetic,
        Some(_) => Cause::Other,
        None if wasi::reason(error).is_some() => Cause::Exit,
        None => Cause::Other,
    }
}

/// Returns why a guest trapped, or could not be made.
pub(crate) fn reason(error: &wasmtime::Error, limits: &Limits) -> String {
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => format!(
            "it took longer than {} (--event-timeout)",
            humantime::format_duration(limits.event_timeout)
        ),
        Some(trap @ Trap::WaitableSyncAndAsync) => format!(
            "{trap}: wit-bindgen 0.57 and 0.58 do that where the guest waits; rebuild it \
             with 0.59 or later"
        ),
        Some(trap) => trap.to_string(),
        None => wasi::reason(error).unwrap_or_else(|| one_line(error)),
    }
}

/// True if a guest was interrupted because it took too long.
pub(crate) fn is_interrupt(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(Trap::Interrupt))
}

/// Joins an error and its causes in one line, without a backtrace.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // `-v` shows the backtrace.
        let text = text.lines().next().unwrap_or_default().trim().to_owned();
        if !text.starts_with("error while executing") && parts.last() != Some(&text) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_that_comes_of_old_tools_names_them() {
        let told = |trap: Trap| reason(&trap.into(), &Limits::default());
        assert!(told(Trap::WaitableSyncAndAsync).contains("0.59"));
        assert_eq!(
            told(Trap::UnreachableCodeReached),
            Trap::UnreachableCodeReached.to_string()
        );
    }
}
