//! What the HTTP connections of one worker share, so that none of them needs
//! buffers of its own while it is idle.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netwasm_exchange::handler::Handlers;
use netwasm_exchange::request::Request;
use netwasm_net::files::Roots;

use crate::access_log::{AccessLog, Lines};
use crate::flow_limit::FlowLimit;

/// What the buffer for responses may keep, bytes.
const KEEP: usize = 256 << 10;

/// A date as headers have it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110,
/// section 5.6.7).
pub(crate) type Date = [u8; 29];

/// What the HTTP connections of a run share.
#[derive(Debug)]
pub struct Env {
    /// Where a line for each request goes.
    pub access_log: Option<AccessLog>,
    /// For files that another one stands beside, such as a compressed form.
    pub roots: Arc<Roots>,
    /// What clients of HTTP/2 may send before it is taken.
    pub flow_limit: FlowLimit,
}

/// See the module.
pub struct Local {
    pub(super) env: Arc<Env>,
    /// Who answers.
    pub(super) handlers: Rc<dyn Handlers>,
    /// For responses that are put together; empty between polls.
    out: RefCell<Vec<u8>>,
    /// For the headers of a file; empty between polls.
    fields: RefCell<Vec<u8>>,
    /// For the next request.
    spare: Cell<Option<Box<Request>>>,
    now: Cell<SystemTime>,
    date: Cell<Date>,
    /// The access log, where there is one.
    lines: Option<RefCell<Lines>>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// For a thread.
    pub fn new(env: Arc<Env>, handlers: Rc<dyn Handlers>) -> Rc<Self> {
        let now = wall_clock();
        Rc::new(Self {
            out: RefCell::default(),
            fields: RefCell::default(),
            spare: Cell::default(),
            now: Cell::new(now),
            date: Cell::new(date(now)),
            lines: env.access_log.as_ref().map(|log| RefCell::new(log.lines())),
            env,
            handlers,
        })
    }

    /// What happens a few times a second.
    pub(crate) fn tick(&self) {
        let now = wall_clock();
        self.now.set(now);
        self.date.set(date(now));
        self.flush_log();
    }

    /// Hands on what was logged.
    fn flush_log(&self) {
        if let Some(lines) = &self.lines {
            lines.borrow_mut().flush();
        }
    }

    /// The time, as of the last tick.
    pub(super) fn now(&self) -> SystemTime {
        self.now.get()
    }

    /// The same as a header has it.
    pub(super) fn date(&self) -> Date {
        self.date.get()
    }

    pub(super) fn lines(&self) -> Option<&RefCell<Lines>> {
        self.lines.as_ref()
    }

    pub(super) fn out(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        self.out.borrow_mut()
    }

    pub(super) fn fields(&self) -> std::cell::RefMut<'_, Vec<u8>> {
        self.fields.borrow_mut()
    }

    /// A request to fill in.
    pub(super) fn take_request(&self) -> Box<Request> {
        self.spare.take().unwrap_or_default()
    }

    /// Takes a request back that was answered.
    pub(super) fn put_request(&self, mut request: Box<Request>) {
        request.reset();
        self.spare.set(Some(request));
    }
}

/// Empties the buffer, and keeps of it what is worth keeping.
pub(super) fn clear(out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(KEEP);
}

/// The wall clock, which may be set to anything; what is not between 1970 and
/// 9999 has no form in a header or a log.
fn wall_clock() -> SystemTime {
    with_form(SystemTime::now())
}

fn with_form(time: SystemTime) -> SystemTime {
    /// The last second of 9999, since 1970.
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)
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
            // The access log's form.
            let logged = humantime::format_rfc3339_millis(time).to_string();
            assert!(logged.ends_with('Z'), "{logged}");
        }
    }
}
