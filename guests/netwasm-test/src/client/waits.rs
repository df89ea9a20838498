//! Operations of a client that wait, each for its time limit.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use super::stream::{SLICE, waits};
use super::{Client, End};
use crate::deadline::Deadline;
use crate::difference;

/// Time for further bytes to arrive after a difference, so that the message
/// shows them.
const MORE: Duration = Duration::from_millis(100);

/// Outcome of a read.
pub(super) enum Arrival {
    Bytes,
    Nothing,
    End(End),
}

impl Client {
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        let mut sent = 0;
        while sent < bytes.len() || !self.stream.is_flushed() {
            if deadline.left().is_none() {
                return Err(format!(
                    "the server took only {sent} of {} bytes within {:?}",
                    bytes.len(),
                    self.limit
                ));
            }
            let result = if sent < bytes.len() {
                self.stream.write(&bytes[sent..])
            } else {
                self.stream.flush().map(|()| 0)
            };
            match result {
                Ok(count) => sent += count,
                Err(error) if waits(&error) => {
                    self.receive(SLICE);
                }
                Err(error) => {
                    let count = bytes.len();
                    return Err(format!(
                        "the connection ended after {sent} of {count} bytes were sent ({error})"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn try_expect(&mut self, expected: &[u8]) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        loop {
            let equal = difference::position(expected, &self.received);
            if equal == expected.len() {
                self.received.drain(..equal);
                return Ok(());
            }
            if equal < self.received.len() {
                self.gather(expected.len());
                let shown = self.shown(expected);
                return Err(format!("byte {equal} differs\n{shown}"));
            }
            if let Err(fault) = self.arrive(deadline) {
                let count = expected.len();
                let shown = self.shown(expected);
                return Err(format!("{fault} after {equal} of {count} bytes\n{shown}"));
            }
        }
    }

    /// Shows what differs. Bytes for later expectations are left out.
    pub(super) fn shown(&self, expected: &[u8]) -> String {
        let until = self.received.len().min(expected.len());
        difference::show(expected, &self.received[..until])
    }

    pub(crate) fn try_read(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        while self.received.len() < count {
            if let Err(fault) = self.arrive(deadline) {
                let got = self.got();
                return Err(format!("{fault} instead of {count} bytes; received: {got}"));
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    pub(crate) fn try_read_line(&mut self) -> Result<String, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return String::from_utf8(line.to_vec())
                    .map_err(|_| format!("the line is not UTF-8: {}", quoted(line)));
            }
            if let Err(fault) = self.arrive(deadline) {
                let got = self.got();
                return Err(format!("{fault} instead of a line; received: {got}"));
            }
        }
    }

    pub(crate) fn try_read_to_end(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Orderly)) => return Ok(std::mem::take(&mut self.received)),
                Ok(Some(end)) => {
                    let got = self.got();
                    return Err(format!("{end} instead of an orderly end; received: {got}"));
                }
                Err(fault) => {
                    let got = self.got();
                    return Err(format!("{fault} instead of the end; received: {got}"));
                }
            }
        }
    }

    pub(super) fn try_expect_nothing(&mut self, wait: Duration) -> Result<(), String> {
        let deadline = Deadline::after(wait);
        loop {
            if !self.received.is_empty() {
                self.gather(usize::MAX);
                return Err(format!("bytes came: {}", self.got()));
            }
            let Some(left) = deadline.left() else {
                return Ok(());
            };
            if let Arrival::End(end) = self.receive(left) {
                return Err(end.to_string());
            }
        }
    }

    pub(super) fn try_finish(&mut self) -> Result<(), String> {
        match self.stream.finish() {
            Ok(()) => self.try_send(&[]),
            // The server may have reset it. The next operation notices.
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            Err(error) => Err(format!("the half-close failed: {error}")),
        }
    }

    pub(super) fn try_expect_end(&mut self) -> Result<(), String> {
        let deadline = Deadline::after(self.limit);
        loop {
            if !self.received.is_empty() {
                self.gather(usize::MAX);
                return Err(format!("bytes instead of the end: {}", self.got()));
            }
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Orderly)) => return Ok(()),
                Ok(Some(end)) => return Err(format!("{end} instead of an orderly end")),
                Err(fault) => return Err(format!("{fault} instead of the end")),
            }
        }
    }

    pub(super) fn try_expect_reset(&mut self) -> Result<Vec<u8>, String> {
        let deadline = Deadline::after(self.limit);
        loop {
            match self.arrive_or_end(deadline) {
                Ok(None) => {}
                Ok(Some(End::Reset)) => return Ok(std::mem::take(&mut self.received)),
                Ok(Some(end)) => {
                    let got = self.got();
                    return Err(format!("{end} instead of a reset; received: {got}"));
                }
                Err(fault) => {
                    let got = self.got();
                    return Err(format!("{fault} instead of a reset; received: {got}"));
                }
            }
        }
    }

    /// Returns the bytes that were received but not taken.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.received
    }

    /// Takes the first bytes of [`Self::buffered`].
    pub(crate) fn consume(&mut self, count: usize) {
        self.received.drain(..count);
    }

    /// Waits for bytes.
    ///
    /// # Errors
    /// Fails if the deadline passes, or if the connection ends. The fault is the
    /// beginning of a sentence: `the server ended the connection`.
    pub(crate) fn arrive(&mut self, deadline: Deadline) -> Result<(), String> {
        match self.arrive_or_end(deadline)? {
            None => Ok(()),
            Some(end) => Err(end.to_string()),
        }
    }

    /// Waits for bytes, or for the end, which it returns.
    fn arrive_or_end(&mut self, deadline: Deadline) -> Result<Option<End>, String> {
        loop {
            let Some(left) = deadline.left() else {
                return Err(format!("nothing came within {:?}", self.limit));
            };
            match self.receive(left) {
                Arrival::Bytes => return Ok(None),
                Arrival::Nothing => {}
                Arrival::End(end) => return Ok(Some(end)),
            }
        }
    }

    /// Receives for a little longer, until there are `enough` bytes.
    fn gather(&mut self, enough: usize) {
        let deadline = Deadline::after(MORE);
        while self.received.len() < enough {
            let Some(left) = deadline.left() else { return };
            if let Arrival::End(_) = self.receive(left) {
                return;
            }
        }
    }

    /// Reads once, and waits at most this long.
    fn receive(&mut self, wait: Duration) -> Arrival {
        if let Some(end) = &self.end {
            return Arrival::End(end.clone());
        }
        let mut buffer = [0; 1 << 14];
        let result = self
            .stream
            .set_read_timeout(wait)
            .and_then(|()| self.stream.read(&mut buffer));
        let end = match result {
            Ok(0) => End::Orderly,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                return Arrival::Bytes;
            }
            Err(error) if waits(&error) => return Arrival::Nothing,
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => End::Reset,
                ErrorKind::UnexpectedEof => End::Truncated,
                _ => End::Failed(error.to_string()),
            },
        };
        self.end = Some(end.clone());
        Arrival::End(end)
    }

    pub(super) fn got(&self) -> String {
        quoted(&self.received)
    }
}

/// Returns bytes for a message, the first ones if there are many.
pub(super) fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 200;
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let (shown, more) = bytes.split_at(bytes.len().min(MOST));
    let text = format!("\"{}\"", shown.escape_ascii());
    if more.is_empty() {
        text
    } else {
        format!("{text}... ({} bytes)", bytes.len())
    }
}
