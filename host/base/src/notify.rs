//! Messages to the service manager: sd_notify(3), without its library.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time for which a change of state waits for room in the manager's queue, which may hold
/// no more than ten messages (unix(7), `max_dgram_qlen`).
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection to a service manager.
#[derive(Debug)]
pub struct Manager {
    /// For what is said again and again. It does not wait.
    often: UnixDatagram,
    /// For what is said once. It waits for [`PATIENCE`].
    once: UnixDatagram,
    address: SocketAddr,
    /// Time of the watchdog.
    interval: Option<Duration>,
    /// True if the watchdog looks at this process.
    is_watched: AtomicBool,
}

impl Manager {
    /// Returns the manager that `NOTIFY_SOCKET` names; `None` if there is none,
    /// or it cannot be used.
    #[must_use]
    pub fn of_environment() -> Option<Self> {
        let own = u64::from(process::id());
        let is_watched = number("WATCHDOG_PID").is_none_or(|watched| watched == own);
        let interval = number("WATCHDOG_USEC").map(Duration::from_micros);
        let interval = interval.filter(|time| !time.is_zero());
        Self::at(&env::var_os("NOTIFY_SOCKET")?, interval, is_watched)
    }

    fn at(name: &OsStr, interval: Option<Duration>, is_watched: bool) -> Option<Self> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest).ok()?,
            [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
            _ => return None,
        };
        let (often, once) = (UnixDatagram::unbound().ok()?, UnixDatagram::unbound().ok()?);
        // Nothing waits for long for a manager that does not read.
        often.set_nonblocking(true).ok()?;
        once.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Self {
            often,
            once,
            address,
            interval,
            is_watched: AtomicBool::new(is_watched),
        })
    }

    /// True if somebody listens there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        UnixDatagram::unbound().is_ok_and(|it| it.connect_addr(&self.address).is_ok())
    }

    /// Returns the time within which the manager wants to hear that the process
    /// is alive; `None` if it does not.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        self.interval.filter(|_| is_watched)
    }

    /// Tells that the process serves.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// Tells that this process is the service's main one, in the place of
    /// another. The manager's watchdog looks at it from then on, whichever
    /// process `WATCHDOG_PID` names.
    pub fn is_main(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
        self.send(&format!("MAINPID={}", process::id()));
    }

    /// Tells that another process is the service's main one, in the place of
    /// this one. The manager hears that from a service with `NotifyAccess=main`,
    /// too.
    pub fn main_is(&self, process: Option<i32>) {
        if let Some(process) = process {
            self.send(&format!("MAINPID={process}"));
        }
    }

    /// Tells that it reads its settings again. [`Self::ready`] follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        let microseconds = seconds * 1_000_000 + nanoseconds / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// Tells that it ends.
    pub fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", line(status)));
    }

    /// Tells that it is alive.
    pub fn alive(&self) {
        let _ = self.often.send_to_addr(b"WATCHDOG=1", &self.address);
    }

    fn send(&self, message: &str) {
        // A signal ends the wait, whatever its handler says (signal(7)). This one is
        // bounded all the same.
        for _ in 0..3 {
            match self.once.send_to_addr(message.as_bytes(), &self.address) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A manager that takes nothing is no reason to stop.
                _ => return,
            }
        }
    }
}

/// Returns a text as one line, as the protocol separates fields by lines.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns a number of the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Returns a manager, and the socket that it is told at.
    fn manager() -> (Manager, UnixDatagram) {
        let name = format!(
            "netwasm-notify-{}-{:?}",
            process::id(),
            std::thread::current().id()
        );
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        let manager = Manager::at(OsStr::new(&format!("@{name}")), None, true);
        (manager.expect("it can be reached"), socket)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn messages_have_the_form_that_managers_read() {
        let (manager, socket) = manager();
        manager.ready("serving\non 2 threads");
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving on 2 threads");
        manager.reloading();
        let text = received(&socket);
        let time = text
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect("its form");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{text}");
        manager.stopping("draining");
        assert_eq!(received(&socket), "STOPPING=1\nSTATUS=draining");
        manager.alive();
        assert_eq!(received(&socket), "WATCHDOG=1");
    }

    #[test]
    fn a_change_of_state_waits_for_room() {
        let (manager, socket) = manager();
        for _ in 0..10_000 {
            manager.alive();
        }
        // Nobody reads: it waits, and not for ever.
        let begun = Instant::now();
        manager.stopping("not heard");
        let took = begun.elapsed();
        assert!((PATIENCE / 2..30 * PATIENCE).contains(&took), "{took:?}");
        let limit = Some(Duration::from_secs(30));
        socket.set_read_timeout(limit).expect("a time-out");
        std::thread::scope(|scope| {
            scope.spawn(|| manager.stopping("draining"));
            while received(&socket) == "WATCHDOG=1" {}
        });
    }

    #[test]
    fn a_manager_that_is_gone_or_does_not_read_holds_nobody_up() {
        let (manager, socket) = manager();
        for _ in 0..10_000 {
            manager.alive();
        }
        drop(socket);
        manager.alive();
        assert!(Manager::at(OsStr::new("relative"), None, true).is_none());
        assert!(Manager::at(OsStr::new(""), None, true).is_none());
    }
}
