//! Guest output in the host's log.
//!
//! A guest writes through `netwasm:net/log`, standard output and standard
//! error. A Rust panic arrives on standard error. All of it becomes `tracing`
//! events with the target `guest` and the guest's name.
//!
//! A guest is not trusted with the log either. An entry is one line whatever it
//! holds, no longer than [`MAX_LINE`], and a flood is counted instead of
//! written. Nothing here waits, because handlers run on the worker's thread.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use netwasm_base::limiter::{Limiter, Verdict};
use netwasm_base::line::is_harmless;
use netwasm_base::spool::GUEST as TARGET;

/// Length of the longest entry in bytes, before escaping.
const MAX_LINE: usize = 4096;

/// Length of the longest part of a panic in a trap's entry, in bytes.
const MAX_EXCERPT: usize = 256;

/// Marks the end of a piece of a longer line.
const MARK: &str = "…";

/// Sustained rate, in lines per second.
const LINES_A_SECOND: u32 = 200;

/// Largest burst, in lines.
const BURST: u32 = 1000;

/// Largest `write` to a stream in bytes.
const PERMIT: usize = 64 * 1024;

/// A guest's access to the log. Clones share one rate limit, so a guest has one
/// limit for all its instances.
#[derive(Clone, Debug)]
pub(crate) struct GuestLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    guest: String,
    limiter: Mutex<Limiter>,
}

impl GuestLog {
    /// Returns the log of the guest of this name.
    pub(crate) fn new(guest: impl Into<String>) -> Self {
        Self(Arc::new(Shared {
            guest: guest.into(),
            limiter: Mutex::new(Limiter::new(Instant::now(), LINES_A_SECOND, BURST)),
        }))
    }

    /// Writes an entry, cut off at 4 KiB.
    pub(crate) fn write(&self, level: Level, message: &str) {
        let cut = message.floor_char_boundary(MAX_LINE);
        self.entry(level, None, None, &message[..cut], cut < message.len());
    }

    /// Writes an entry of `wasi:logging`, whose context is cut off at 256 bytes.
    pub(crate) fn write_of(&self, level: Level, context: &str, message: &str) {
        let cut = message.floor_char_boundary(MAX_LINE);
        let context = (!context.is_empty()).then_some(context);
        self.entry(level, None, context, &message[..cut], cut < message.len());
    }

    /// Returns a standard output for one instance. Each line is an entry at
    /// `info`.
    pub(crate) fn stdout(&self) -> LogStream {
        LogStream::new(self.clone(), "stdout", Level::INFO)
    }

    /// Returns a standard error for one instance. Each line is an entry at
    /// `warn`.
    pub(crate) fn stderr(&self) -> LogStream {
        LogStream::new(self.clone(), "stderr", Level::WARN)
    }

    fn entry(
        &self,
        level: Level,
        stream: Option<&'static str>,
        context: Option<&str>,
        text: &str,
        cut: bool,
    ) {
        let guest = self.0.guest.as_str();
        // `tracing` needs an event's level at compile time.
        macro_rules! emit {
            ($($level:ident)*) => {
                match level {
                    $(Level::$level => {
                        // An entry that nobody reads does not count.
                        if tracing::enabled!(target: TARGET, Level::$level) && self.admit() {
                            let text = Line { text, cut };
                            let context = context.map(shown);
                            let context = context.as_deref();
                            tracing::event!(
                                target: TARGET, Level::$level, guest, stream, context, "{text}"
                            );
                        }
                    })*
                }
            };
        }
        emit!(TRACE DEBUG INFO WARN ERROR);
    }

    /// Returns true if a line may be written. Logs that lines are suppressed.
    fn admit(&self) -> bool {
        let guest = self.0.guest.as_str();
        let now = Instant::now();
        let mut limiter = lock(&self.0.limiter);
        let verdict = limiter.admit(now);
        let withheld = match verdict {
            Verdict::Write => limiter.due(now),
            Verdict::Suppress { .. } => None,
        };
        drop(limiter);
        if let Some(suppressed) = withheld {
            tracing::warn!(target: TARGET, guest, suppressed, "lines were suppressed");
        }
        if verdict == (Verdict::Suppress { first: true }) {
            tracing::warn!(
                target: TARGET,
                guest,
                "more than {LINES_A_SECOND} lines a second: what exceeds that is only counted"
            );
        }
        verdict == Verdict::Write
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let limiter = self
            .limiter
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = limiter.suppressed() {
            let guest = self.guest.as_str();
            tracing::warn!(target: TARGET, guest, suppressed, "lines were suppressed");
        }
    }
}

/// Returns a context as it is written.
fn shown(context: &str) -> String {
    let length = context.floor_char_boundary(MAX_EXCERPT);
    let cut = length < context.len();
    let text = &context[..length];
    Line { text, cut }.to_string()
}

/// Text as it is written. Nothing in it can end the line, control a terminal or
/// reorder the text around it.
struct Line<'a> {
    text: &'a str,
    cut: bool,
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut plain = 0;
        for (at, c) in self.text.char_indices() {
            if is_harmless(c) {
                continue;
            }
            f.write_str(&self.text[plain..at])?;
            write!(f, "{}", c.escape_default())?;
            plain = at + c.len_utf8();
        }
        f.write_str(&self.text[plain..])?;
        if self.cut {
            f.write_str(MARK)?;
        }
        Ok(())
    }
}

/// Standard output or standard error of one instance.
///
/// Always ready, and never waits. Clones, and the streams that the guest asks
/// for, are one stream: a line may be written in pieces through several of
/// them. An unfinished line is written when the last one is dropped, that is,
/// with the instance.
#[derive(Clone, Debug)]
pub(crate) struct LogStream(Arc<Mutex<Lines>>);

/// The unfinished line of a stream.
#[derive(Debug)]
struct Lines {
    log: GuestLog,
    stream: &'static str,
    level: Level,
    /// Start of the line, at most [`MAX_LINE`] bytes.
    partial: Vec<u8>,
    panic: Option<Panic>,
}

/// A panic that a guest in Rust has told of: a line that ends in the place, and
/// one with the message.
#[derive(Debug)]
struct Panic {
    place: String,
    message: Option<String>,
}

impl Panic {
    /// Returns the place of a panic that a line begins to tell of.
    fn begun(line: &str) -> Option<Self> {
        let (thread, place) = line.split_once(" panicked at ")?;
        thread.starts_with("thread ").then(|| Self {
            place: excerpt(place.trim_end_matches(':')),
            message: None,
        })
    }
}

/// Returns as much of a text as a trap's line has room for.
fn excerpt(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_EXCERPT)].to_owned()
}

impl LogStream {
    /// Returns the message and the place of the panic that was told last.
    pub(crate) fn panic(&self) -> Option<String> {
        let lines = lock(&self.0);
        let Panic { place, message } = lines.panic.as_ref()?;
        Some(match message {
            Some(message) => format!("{message} ({place})"),
            None => place.clone(),
        })
    }

    fn new(log: GuestLog, stream: &'static str, level: Level) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            log,
            stream,
            level,
            partial: Vec::new(),
            panic: None,
        })))
    }
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.extend(line);
            self.flush();
            bytes = &rest[1..];
        }
        self.extend(bytes);
    }

    /// Adds to the line. Writes a full piece as soon as more follows.
    fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.partial.len() == MAX_LINE {
                let end = floor_char_boundary(&self.partial);
                self.emit(end, true);
                self.partial.drain(..end);
            }
            let room = MAX_LINE - self.partial.len();
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.partial.extend_from_slice(piece);
            bytes = rest;
        }
    }

    /// Writes what there is of the line. Empty lines are left out: they serve
    /// the eye on a terminal, as before a panic's message.
    fn flush(&mut self) {
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        if !line.is_empty() {
            self.emit(line.len(), false);
        }
        // An idle instance keeps no buffer.
        self.partial = Vec::new();
    }

    fn emit(&mut self, end: usize, cut: bool) {
        let text = String::from_utf8_lossy(&self.partial[..end]);
        self.log
            .entry(self.level, Some(self.stream), None, &text, cut);
        match &mut self.panic {
            Some(panic) if panic.message.is_none() => panic.message = Some(excerpt(&text)),
            panic => {
                if let Some(begun) = Panic::begun(&text) {
                    *panic = Some(begun);
                }
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Returns where to cut full `bytes` without splitting a character: before the
/// last one if that is incomplete. Bytes that are not UTF-8 may be cut
/// anywhere.
fn floor_char_boundary(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => bytes.len(),
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("more than check-write permitted"));
        }
        lock(&self.0).push(&bytes);
        Ok(())
    }

    /// Does nothing: an unfinished line stays unfinished.
    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Locks a mutex and ignores poison: a panic leaves nothing here half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
