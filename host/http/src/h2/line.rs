//! A stream's record, in the access log and for metrics.

use std::rc::Rc;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::request::Parts;

use netwasm_base::trace::Trace;
use netwasm_exchange::handler::Site;

use crate::access_log::Entry;
use crate::exchange::CLIENT_LEFT;
use crate::h2::link::Link;
use crate::h2::request;
use crate::h2::sending::Stopped;

/// Line of the access log, written when the stream is done.
pub(super) struct LogLine {
    pub(super) link: Rc<Link>,
    /// The service that the request is for.
    site: Site,
    entry: Option<Box<Entry>>,
    pub(super) status: u16,
    pub(super) sent: u64,
}

impl Link {
    pub(super) fn line(self: &Rc<Self>, head: &Parts) -> LogLine {
        LogLine {
            link: Rc::clone(self),
            site: request::site(head).clone(),
            entry: request::entry(head, self.transport.peer(), self.secure, &self.local),
            status: CLIENT_LEFT,
            sent: 0,
        }
    }
}

impl LogLine {
    /// Returns the span of the request, if requests are traced.
    pub(super) fn trace(&self) -> Option<Rc<Trace>> {
        self.entry.as_ref()?.trace.clone()
    }

    /// Drops the line. The request comes again, with another.
    pub(super) fn forget(mut self) {
        self.entry = None;
    }

    /// Logs why a response stops before its end, and resets the stream, so that
    /// it does not look whole.
    pub(super) fn stopped(&self, stopped: &Stopped, stream: &mut SendStream<Bytes>) {
        let peer = self.link.transport.peer();
        match stopped {
            Stopped::Left => {
                tracing::debug!(%peer, "the client wants no more of a response");
                stream.send_reset(Reason::CANCEL);
            }
            Stopped::Slow => {
                tracing::info!(%peer, "the client takes nothing of a response (--write-timeout)");
                stream.send_reset(Reason::CANCEL);
            }
            Stopped::File(error) => {
                let entry = self.entry.as_ref();
                let text = entry.and_then(|it| it.text.as_ref());
                let path = text.map(|it| it.line.as_slice());
                let path = String::from_utf8_lossy(path.unwrap_or_default()).into_owned();
                self.link.file_failed(&self.site, &path, error);
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            entry.status = self.status;
            entry.length = self.sent;
            self.link.local.record(&entry, self.sent);
        }
    }
}
