//! Connections to servers that a worker keeps for its next requests. The
//! worker's runtime watches them, so that taking one costs no system call.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use netwasm_base::address::Address;
use netwasm_base::config::HttpVersion;
use netwasm_base::counters::{Counted, Counters};

use crate::endpoint::Endpoint;
use crate::parked::{IDLE_TIMEOUT, MAX_AGE};
use crate::thread::{Thread, Tick};
use crate::tls::ClientTls;
use crate::transport::Transport;
use crate::upstream::{Group, Server};

/// Maximum of connections that a worker keeps for a server.
const MOST: usize = 64;

/// Maximum of connections that a worker keeps. Each counts against
/// `--max-outgoing`.
const MOST_OF_ALL: usize = 512;

/// Maximum of servers known that no group has.
const MOST_ALONE: usize = 1024;

/// Time between two looks for connections that are kept for too long.
const LOOK: Duration = Duration::from_secs(1);

/// The connections that a worker keeps, and the servers that its guests name
/// themselves.
#[derive(Debug, Default)]
pub struct Kept {
    /// Connections by the server's number; the most recently used is last.
    idle: RefCell<HashMap<u64, VecDeque<Idle>>>,
    count: Cell<usize>,
    alone: RefCell<HashMap<Place, Arc<Group>>>,
    looked: Cell<Tick>,
    shared: OnceCell<Rc<dyn Any>>,
}

/// Destination, TLS settings and version of a server that a guest names itself.
type Place = (Endpoint, Option<ClientTls>, HttpVersion);

/// A connection at rest. Dropping it counts it as closed.
#[derive(Debug)]
struct Idle {
    transport: Rc<Transport>,
    /// Connection of the one client that it is for, as its PROXY header says.
    client: Option<Weak<Transport>>,
    since: Tick,
    counted: Counted,
}

impl Kept {
    /// Returns the group of a server that the guest names itself. The policy has
    /// allowed it.
    pub fn group_of(
        &self,
        endpoint: Endpoint,
        tls: Option<ClientTls>,
        http: HttpVersion,
        counters: &Arc<Counters>,
    ) -> Arc<Group> {
        let mut alone = self.alone.borrow_mut();
        if alone.len() >= MOST_ALONE {
            // Their connections expire.
            alone.clear();
        }
        let place = (endpoint, tls, http);
        let group = alone.entry(place).or_insert_with_key(|key| {
            let (endpoint, tls, http) = key.clone();
            Arc::new(Group::alone(endpoint, tls, http, counters))
        });
        Arc::clone(group)
    }

    /// Returns the connections that many requests use at once, as their protocol
    /// knows them. There is one such protocol.
    pub fn shared<T: Any + Default>(&self) -> Rc<T> {
        let shared = self.shared.get_or_init(|| Rc::<T>::default());
        Rc::clone(shared).downcast().unwrap_or_default()
    }

    /// Takes the most recently used connection to a server whose peer has
    /// neither closed it nor sent anything unasked. If the server's name has
    /// several addresses, it is one to the address whose turn it is. `surely`
    /// asks the kernel, for a request that cannot be sent twice. `client` is the
    /// connection for which it was kept.
    pub fn take(
        &self,
        server: &Server,
        client: Option<&Weak<Transport>>,
        surely: bool,
    ) -> Option<Rc<Transport>> {
        let wanted = server.next_address();
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&server.number())?;
        while let Some(Idle {
            transport, counted, ..
        }) = take_last(kept, wanted, client)
        {
            self.count.set(self.count.get() - 1);
            let stays = server.is_at(transport.peer()) && !is_old(&transport);
            if stays && transport.is_at_rest() && (!surely || is_open(&transport)) {
                counted.resume();
                return Some(transport);
            }
        }
        None
    }

    /// Keeps a connection for the next request, unless something is under way on
    /// it or it is too old. If it is for one client, `client` is whose connection.
    pub fn put(&self, server: &Server, client: Option<Weak<Transport>>, transport: Rc<Transport>) {
        let thread = Rc::clone(transport.thread());
        let counted = Counted::new(&thread.env.counters);
        // The server's name may lead elsewhere meanwhile.
        let stays = server.is_at(transport.peer()) && !is_old(&transport);
        if thread.is_draining() || !stays || !transport.rest() {
            transport.say_close_notify();
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(server.number()).or_default();
        if kept.len() >= MOST {
            kept.pop_front();
            self.count.set(self.count.get() - 1);
        }
        kept.push_back(Idle {
            transport,
            client,
            since: thread.now(),
            counted,
        });
        self.count.set(self.count.get() + 1);
        drop(idle);
        if self.count.get() > MOST_OF_ALL {
            self.close_oldest();
        }
    }

    /// Closes the connection that was unused for the longest. Returns false if
    /// there is none.
    pub fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let fronts = idle.values_mut().filter(|kept| !kept.is_empty());
        let oldest = fronts.min_by_key(|kept| kept.front().map(|it| it.since));
        let closed = oldest.and_then(VecDeque::pop_front).is_some();
        if closed {
            self.count.set(self.count.get() - 1);
        }
        closed
    }

    /// Closes connections that were unused for too long, or closed by their
    /// peers. To be called from time to time.
    pub(crate) fn expire(&self, thread: &Thread) {
        if self.count.get() == 0 || !thread.passed(self.looked.get(), LOOK) {
            return;
        }
        self.looked.set(thread.now());
        let mut idle = self.idle.borrow_mut();
        let mut count = 0;
        idle.retain(|_, kept| {
            kept.retain(|it| {
                !thread.is_draining()
                    && !thread.passed(it.since, IDLE_TIMEOUT)
                    && !is_old(&it.transport)
                    && it.transport.is_at_rest()
                    && it.client.as_ref().is_none_or(|it| it.strong_count() > 0)
            });
            count += kept.len();
            !kept.is_empty()
        });
        self.count.set(count);
    }
}

/// Takes the connection that was used last, of those to an address if one is
/// wanted, and of those for a client.
fn take_last(
    kept: &mut VecDeque<Idle>,
    wanted: Option<IpAddr>,
    client: Option<&Weak<Transport>>,
) -> Option<Idle> {
    let is_there = |it: &Idle| match (wanted, it.transport.peer()) {
        (None, _) => true,
        (Some(wanted), Address::Ip(peer)) => peer.ip() == wanted,
        (Some(_), Address::Unix(_)) => false,
    };
    let is_its = |it: &Idle| match (&it.client, client) {
        (None, None) => true,
        (Some(its), Some(client)) => its.ptr_eq(client),
        _ => false,
    };
    let place = kept.iter().rposition(|it| is_its(it) && is_there(it))?;
    kept.remove(place)
}

/// True if a connection has reached its maximum age.
fn is_old(transport: &Transport) -> bool {
    transport.thread().passed(transport.opened(), MAX_AGE)
}

/// True if the kernel knows of no end, nor of bytes that have arrived.
fn is_open(transport: &Transport) -> bool {
    // In TLS, tickets may have arrived, which are no reason against it.
    !transport.is_plain() || transport.is_quiet()
}
