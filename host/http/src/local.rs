//! State shared by the HTTP connections of a worker, so that no idle one needs
//! buffers of its own.

use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netwasm_base::address::Address;
use netwasm_base::trace::Trace;
use netwasm_exchange::handler::{Awaiting, Handlers, Nobody, Site, Takes, Wanted};
use netwasm_exchange::reply::Reply;
use netwasm_exchange::request::Request;
use netwasm_net::env as net;

use crate::access_log::{AccessLog, Entry, LogLines};
use crate::date::LAST_SECOND;
use crate::flow_limit::FlowLimit;
use crate::spans;
use crate::tally::{Tallies, Tally};
use crate::websocket::codec::ThreadBuffers;

/// Maximum capacity that the response buffer keeps, in bytes.
const KEEP: usize = 256 << 10;

/// Maximum number of requests that are kept for reuse.
const SPARE: usize = 64;

/// Maximum size of the buffers of a request that is kept beside another, in bytes.
const SMALL: usize = 4 << 10;

/// A date in a header: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section
/// 5.6.7).
pub(crate) type Date = [u8; 29];

/// State shared by the HTTP connections of a service.
#[derive(Debug)]
pub struct Env {
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// Limit of what HTTP/2 clients send ahead. Generations of a service share
    /// it.
    pub flow_limit: Arc<FlowLimit>,
    /// Numbers for metrics, if there are any.
    pub tallies: Option<Arc<Tallies>>,
}

/// Records of the requests for one service on a thread: counters, access log
/// and metrics.
pub struct Account {
    /// The service's counters and its name in the log.
    pub(super) net: Arc<net::Env>,
    /// The access log, if there is one.
    lines: Option<RefCell<LogLines>>,
    /// Numbers for metrics, if there are any.
    tally: Option<Arc<Tally>>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

impl Account {
    /// Returns the account of a service on this thread.
    pub fn new(net: &Arc<net::Env>, env: &Env) -> Self {
        Self {
            net: Arc::clone(net),
            lines: env.access_log.as_ref().map(|log| RefCell::new(log.lines())),
            tally: env.tallies.as_ref().map(|tallies| tallies.of_thread()),
        }
    }

    /// True if the service has groups of servers.
    fn forwards(&self) -> bool {
        !self.net.upstreams().is_empty()
    }

    /// True if a record of a request with this span needs its text.
    pub(super) fn needs_text(&self, trace: Option<&Rc<Trace>>) -> bool {
        self.lines.is_some() || trace.is_some_and(|trace| trace.context.sampled)
    }

    /// Returns what `value` returns for each header that the log's lines have
    /// besides the usual ones.
    pub(super) fn logged_headers(
        &self,
        value: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Vec<Option<Vec<u8>>> {
        let Some(lines) = &self.lines else {
            return Vec::new();
        };
        lines
            .borrow()
            .headers()
            .iter()
            .map(|name| value(name))
            .collect()
    }

    /// True if requests are logged, traced, or counted for metrics.
    pub(super) fn records(&self) -> bool {
        self.lines.is_some() || self.tally.is_some() || self.net.tracer.is_some()
    }

    /// Hands on the gathered lines of the log.
    fn flush(&self) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().flush();
        }
    }

    /// Logs and counts a request, of whose response's body so many bytes were
    /// sent.
    fn record(&self, entry: &Entry, sent: u64) {
        if let Some(tally) = &self.tally {
            tally.count(entry.spoken, entry.status, entry.begun.elapsed(), sent);
        }
        if let Some(tracer) = &self.net.tracer {
            spans::end(tracer, entry, sent);
        }
        if let Some(lines) = &self.lines {
            lines.borrow_mut().add(entry, sent);
        }
    }
}

/// State shared by the HTTP connections of a thread.
pub struct Local {
    pub(super) env: Arc<Env>,
    /// Account of the service whose listener it is.
    own: Account,
    /// Accounts of others that answer there, until their last request is done
    /// with.
    others: RefCell<Vec<Rc<Account>>>,
    /// The handlers of requests.
    pub(super) handlers: Rc<dyn Handlers>,
    /// Reply and instance of the requests that no async guest has: nothing is put
    /// into it, and nobody is told.
    nobody: (Rc<Reply>, Rc<dyn Awaiting>),
    /// Buffer for responses, empty between polls.
    out: RefCell<Vec<u8>>,
    /// Buffer for the headers of a file, empty between polls.
    fields: RefCell<Vec<u8>>,
    /// Requests for reuse. Those that are forwarded are many at once.
    #[allow(clippy::vec_box, reason = "they are passed on in their boxes")]
    spare: RefCell<Vec<Box<Request>>>,
    now: Cell<SystemTime>,
    date: Cell<Date>,
    /// True if a stream of HTTP/2 can change to another protocol.
    tunnels: Cell<bool>,
    /// Buffers for the messages of WebSocket clients.
    messages: Rc<ThreadBuffers>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// Returns the state of a thread, for a listener of a service with this
    /// state and account. `others` are the accounts of services that answer
    /// there, too.
    pub fn new(
        env: Arc<Env>,
        handlers: Rc<dyn Handlers>,
        own: Account,
        others: Vec<Rc<Account>>,
    ) -> Rc<Self> {
        let now = wall_clock();
        let tunnels = own.forwards() || others.iter().any(|it| it.forwards());
        Rc::new(Self {
            tunnels: Cell::new(tunnels),
            messages: Rc::default(),
            out: RefCell::default(),
            fields: RefCell::default(),
            spare: RefCell::default(),
            now: Cell::new(now),
            date: Cell::new(date(now)),
            env,
            own,
            others: RefCell::new(others),
            handlers,
            nobody: (Rc::default(), Rc::new(Nobody)),
        })
    }

    /// True if a stream of HTTP/2 can change to another protocol: there are servers
    /// that may speak it, or handlers of WebSocket connections.
    pub(crate) fn tunnels(&self) -> bool {
        self.tunnels.get() || self.handlers.opens_websockets()
    }

    pub(super) fn messages(&self) -> &Rc<ThreadBuffers> {
        &self.messages
    }

    /// Lets streams of HTTP/2 change to another protocol.
    #[cfg(test)]
    pub(crate) fn let_tunnel(&self) {
        self.tunnels.set(true);
    }

    /// Adds accounts of services that answer on the listener, too.
    pub fn add(&self, accounts: Vec<Rc<Account>>) {
        if accounts.iter().any(|account| account.forwards()) {
            self.tunnels.set(true);
        }
        self.others.borrow_mut().extend(accounts);
    }

    /// Updates the time and flushes the log. Called a few times a second.
    pub(crate) fn tick(&self) {
        let now = wall_clock();
        self.now.set(now);
        self.date.set(date(now));
        self.handlers.tick();
        self.flush_log();
    }

    /// Hands on the gathered lines of the log.
    fn flush_log(&self) {
        self.own.flush();
        self.others.borrow_mut().retain(|account| {
            account.flush();
            // The service that answers has it, too.
            Rc::strong_count(account) > 1
        });
    }

    /// Returns the account of the service that a request is for. One for no
    /// service is on the account of the service whose listener it is.
    pub(super) fn account<'a>(&'a self, site: &'a Site) -> &'a Account {
        match site {
            Site::Other(other) => other.account.downcast_ref().unwrap_or(&self.own),
            Site::Own | Site::UnknownHost | Site::UnknownPath | Site::Limited => &self.own,
        }
    }

    /// Returns the service that a request is for, and when it goes to its
    /// handler.
    pub(super) fn route<'a>(
        &self,
        peer: &Address,
        wanted: &dyn Fn() -> Wanted<'a>,
    ) -> (Site, Takes) {
        match self.own.net.clients.may_request(peer) {
            true => self.handlers.takes(wanted),
            false => (Site::Limited, Takes::Heads),
        }
    }

    /// Logs and counts a request, of whose response's body so many bytes were
    /// sent.
    pub(super) fn record(&self, entry: &Entry, sent: u64) {
        self.account(&entry.site).record(entry, sent);
    }

    /// Returns the time of the last tick.
    pub(super) fn now(&self) -> SystemTime {
        self.now.get()
    }

    /// Returns the time of the last tick as a header's value.
    pub(super) fn date(&self) -> Date {
        self.date.get()
    }

    pub(super) fn out(&self) -> RefMut<'_, Vec<u8>> {
        self.out.borrow_mut()
    }

    pub(super) fn fields(&self) -> RefMut<'_, Vec<u8>> {
        self.fields.borrow_mut()
    }

    /// Returns the reply and the instance of a request that no async guest has.
    pub(super) fn nobody(&self) -> (Rc<Reply>, Rc<dyn Awaiting>) {
        (Rc::clone(&self.nobody.0), Rc::clone(&self.nobody.1))
    }

    /// Returns a request to fill in.
    pub(super) fn take_request(&self) -> Box<Request> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back an answered request for reuse.
    pub(super) fn put_request(&self, mut request: Box<Request>) {
        request.reset();
        let mut spare = self.spare.borrow_mut();
        if spare.is_empty() || (spare.len() < SPARE && request.room() <= SMALL) {
            spare.push(request);
        }
    }
}

/// Empties the buffer. Keeps capacity up to [`KEEP`].
pub(super) fn clear(out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(KEEP);
}

/// Returns the wall clock, which may be set to anything. It is clamped to the
/// years 1970 to 9999, because other times have no form in a header or a log.
fn wall_clock() -> SystemTime {
    with_form(SystemTime::now())
}

fn with_form(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(LAST_SECOND))
}

fn date(time: SystemTime) -> Date {
    let mut date = [b' '; 29];
    let text = httpdate::fmt_http_date(time);
    for (place, byte) in date.iter_mut().zip(text.bytes()) {
        *place = byte;
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_that_a_clock_may_be_set_to_has_a_form() {
        let year = Duration::from_secs(31_556_952);
        for (time, expected) in [
            (UNIX_EPOCH - year, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (UNIX_EPOCH + year * 8100, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let time = with_form(time);
            assert_eq!(date(time), expected.as_bytes());
            // The form in the access log.
            let logged = humantime::format_rfc3339_millis(time).to_string();
            assert!(logged.ends_with('Z'), "{logged}");
        }
    }
}
