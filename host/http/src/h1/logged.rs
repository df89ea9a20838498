//! Records of requests, in the access log and for metrics, made as soon as a
//! response was sent.

use std::rc::Rc;
use std::time::Instant;

use netwasm_exchange::request::Request;

use crate::access_log::{Entry, Text};
use crate::h1::{Driver, Owed};
use crate::spans;
use crate::tally::Spoken;

impl Driver {
    /// Returns the entry of a request for the records, if there are any. Begins
    /// its span.
    pub(super) fn entry(&self, request: &mut Request) -> Option<Entry> {
        let http = &self.local;
        let account = http.account(&request.site);
        if !account.records() {
            return None;
        }
        let head = &request.head;
        request.trace = spans::begin(&account.net, |name| head.first(name.as_str()));
        let (head, trace) = (&request.head, request.trace.as_ref());
        let text = || Text {
            peer: self.transport.peer().clone(),
            line: head.request_line().to_vec(),
            host: head.authority().map(str::to_owned),
            referer: head.first("referer").map(<[u8]>::to_vec),
            user_agent: head.first("user-agent").map(<[u8]>::to_vec),
            headers: account.logged_headers(|name| head.first(name).map(<[u8]>::to_vec)),
            secure: self.exchange.secure,
            time: http.now(),
        };
        Some(Entry {
            site: request.site.clone(),
            spoken: Spoken::Http1,
            status: 0,
            length: 0,
            begun: Instant::now(),
            trace: trace.map(Rc::clone),
            text: account.needs_text(trace).then(text),
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
            let owed = self.exchange.owed.get_or_insert_default();
            owed.unlogged.push_back((entry, end));
        }
    }

    /// Logs the requests whose responses have been sent.
    pub(super) fn log_sent(&mut self) {
        let sent = self.sent();
        let Some(owed) = &mut self.exchange.owed else {
            return;
        };
        while let Some((entry, _)) = owed.unlogged.pop_front_if(|(_, end)| *end <= sent) {
            self.local.record(&entry, entry.length);
        }
        self.forget_owed();
    }

    /// Logs also the requests whose responses are never sent whole.
    pub(super) fn log_unsent(&mut self) {
        self.log_sent();
        let sent = self.sent();
        let Some(owed) = &mut self.exchange.owed else {
            return;
        };
        for (entry, end) in owed.unlogged.drain(..) {
            // The body comes last, so it is what is missing.
            let missing = end.saturating_sub(sent);
            let length = entry.length.saturating_sub(missing);
            self.local.record(&entry, length);
        }
        self.forget_owed();
    }

    /// Frees the room of what is owed once that is nothing: an idle connection keeps
    /// none.
    pub(super) fn forget_owed(&mut self) {
        let owed = &mut self.exchange.owed;
        if let Some(Owed { unlogged, untold }) = owed.as_deref()
            && unlogged.is_empty()
            && untold.is_empty()
        {
            *owed = None;
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
