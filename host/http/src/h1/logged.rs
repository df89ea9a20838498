//! Access log lines, written as soon as a response was sent.

use std::time::Instant;

use netwasm_exchange::head::Head;

use crate::access_log::Entry;
use crate::h1::Driver;

impl Driver {
    /// Returns the entry of a request for the access log, if there is a log.
    pub(super) fn entry(&self, head: &Head) -> Option<Entry> {
        let http = &self.local;
        http.lines()?;
        Some(Entry {
            peer: self.transport.peer().clone(),
            line: head.request_line().to_vec(),
            host: head.authority().map(str::to_owned),
            referer: head.first("referer").map(<[u8]>::to_vec),
            user_agent: head.first("user-agent").map(<[u8]>::to_vec),
            status: 0,
            length: 0,
            time: http.now(),
            begun: Instant::now(),
        })
    }

    /// Logs a request once all that was written so far is sent.
    pub(super) fn log_later(&mut self, entry: Option<Entry>, status: u16, length: u64, out: &[u8]) {
        if let Some(entry) = entry {
            let entry = Entry {
                status,
                length,
                ..entry
            };
            let end = self.exchange.written + out.len() as u64;
            self.exchange.unlogged.push_back((entry, end));
        }
    }

    /// Logs the requests whose responses have been sent.
    pub(super) fn log_sent(&mut self) {
        if self.exchange.unlogged.is_empty() {
            return;
        }
        let sent = self.sent();
        let done = |(_, end): &(Entry, u64)| *end <= sent;
        let count = self.exchange.unlogged.iter().take_while(|each| done(each));
        let count = count.count();
        if let Some(lines) = self.local.lines() {
            let mut lines = lines.borrow_mut();
            for (entry, _) in self.exchange.unlogged.drain(..count) {
                lines.add(&entry, entry.length);
            }
        }
    }

    /// Logs also the requests whose responses are never sent whole.
    pub(super) fn log_unsent(&mut self) {
        self.log_sent();
        let sent = self.sent();
        if let Some(lines) = self.local.lines() {
            let mut lines = lines.borrow_mut();
            for (entry, end) in self.exchange.unlogged.drain(..) {
                // The body comes last, so it is what is missing.
                let missing = end.saturating_sub(sent);
                lines.add(&entry, entry.length.saturating_sub(missing));
            }
        }
    }

    /// Returns how many of the written bytes the socket has taken. Under TLS
    /// this may be slightly less, as records are longer than their content.
    pub(super) fn sent(&self) -> u64 {
        self.exchange
            .written
            .saturating_sub(self.transport.queued())
    }
}
